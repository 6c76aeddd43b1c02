//! Applying a batch: read what is known, decide, write everything in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::{MasterId, Result, change::Change};
use sluice_store::{
    master::{Applied, ApplyBatch},
    plan::{self, Decided},
};
use sqlx::PgConnection;

use super::{read, status, wants, write};
use crate::{
    error::{Failure, transaction},
    pool::Pool,
};

pub(crate) async fn apply(pool: &Pool, batch: &ApplyBatch) -> Result<Vec<Applied>> {
    plan::check(batch)?;
    transaction!(pool, connection => apply_once(connection, batch).await)
}

/// Reads without locks first, so that what repeats itself costs no write: locking a row writes to
/// it. What is to change is locked, read again and decided again.
async fn apply_once(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
) -> Result<Vec<Applied>, Failure> {
    let mut stored = read::load(connection, batch, 0..batch.records.len()).await?;
    let decided = plan::plan(batch, &stored);
    let mut missing = wants::missing(connection, batch, &decided).await?;
    if batch.dry_run {
        let ids = known_ids(&decided);
        let wants = wants::plan(batch, &decided, &ids, &missing);
        return Ok(report(&decided, &ids, &wants));
    }
    let touched: BTreeSet<usize> = decided
        .iter()
        .filter(|one| one.before.is_some())
        .filter(|one| one.moves_link() || one.change.makes_version())
        .map(|one| one.position)
        .chain(missing.iter().map(|(position, _)| *position))
        .collect();
    if !touched.is_empty() {
        let ids: Vec<i64> = touched
            .iter()
            .filter_map(|position| stored.get(position))
            .map(|stored| stored.master_id.0)
            .collect();
        read::lock(connection, &ids).await?;
        stored.extend(read::load(connection, batch, touched.iter().copied()).await?);
    }
    let mut decided = plan::plan(batch, &stored);
    // Only what is locked may be written; the rest was found unchanged, a moment ago.
    decided.retain(|one| one.before.is_none() || touched.contains(&one.position));
    if !missing.is_empty() {
        missing = wants::missing(connection, batch, &decided).await?;
    }
    let ids = write_all(connection, batch, &decided, &missing).await?;
    let all = plan::plan(batch, &stored);
    let wants = wants::plan(batch, &decided, &ids, &missing);
    let mut known = known_ids(&all);
    known.extend(ids);
    Ok(report(&all, &known, &wants))
}

/// Returns the ids of all records of `decided` that exist now, by position.
async fn write_all(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    missing: &[(usize, usize)],
) -> Result<BTreeMap<usize, MasterId>, Failure> {
    let mut ids = known_ids(decided);
    ids.extend(write::create(connection, batch, decided).await?);
    let wants = wants::plan(batch, decided, &ids, missing);
    write::update(connection, batch, decided).await?;
    write::versions(connection, batch, decided, &ids).await?;
    write::links(connection, batch, decided, &ids).await?;
    write::conflicts(connection, batch, decided).await?;
    wants::write(connection, batch, &wants).await?;
    // Created records were written with their status.
    let existing: Vec<i64> = decided
        .iter()
        .filter(|one| {
            one.change.makes_version() || wants.iter().any(|want| want.position == one.position)
        })
        .filter_map(|one| Some(one.before?.master_id.0))
        .collect();
    wants::revive(connection, &existing).await?;
    status::derive(connection, &existing).await?;
    Ok(ids)
}

fn known_ids(decided: &[Decided<'_>]) -> BTreeMap<usize, MasterId> {
    decided
        .iter()
        .filter_map(|one| Some((one.position, one.before?.master_id)))
        .collect()
}

fn report(
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
    wants: &[wants::Want],
) -> Vec<Applied> {
    let mut pushes: BTreeMap<usize, u32> = BTreeMap::new();
    for want in wants {
        *pushes.entry(want.position).or_default() += 1;
    }
    decided
        .iter()
        .map(|one| Applied {
            change: one.change,
            master_id: ids.get(&one.position).copied(),
            version: one.version(),
            pushes: pushes.get(&one.position).copied().unwrap_or_default(),
        })
        .collect()
}

/// Whether the decision creates the record.
pub(super) fn creates(one: &Decided<'_>) -> bool {
    one.change == Change::Create
}
