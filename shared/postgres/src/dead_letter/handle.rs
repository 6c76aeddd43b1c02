//! What people do with dead letters: replay or discard, by filter.

use std::collections::BTreeSet;

use sluice_core::Result;
use sluice_store::dead_letter::{DeadLetterFilter, DeadLetterState, ReplayReport};
use sqlx::{PgConnection, PgPool};

use super::{Found, PAGE, matching};
use crate::{
    error::{Failure, transaction},
    master::{lock, status},
};

/// The open dead letters that match, as they were a moment ago.
#[derive(Default)]
struct Chosen {
    replayable: Vec<i64>,
    others: Vec<i64>,
    masters: BTreeSet<i64>,
}

/// Reads ids in pages, so that a filter that matches everything stays small.
async fn choose(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    if filter
        .state
        .is_some_and(|state| state != DeadLetterState::Open)
    {
        return Ok(chosen);
    }
    let mut page = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..filter.clone()
    };
    let mut left = filter.limit;
    while left > 0 {
        let found = matching(connection, &page, left.min(PAGE)).await?;
        let Some(last) = found.last() else { break };
        page.after = Some(last.letter.id);
        left = left.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        for Found { letter, replayable } in found {
            chosen.masters.insert(letter.master_id.0);
            if replayable {
                chosen.replayable.push(letter.id);
            } else {
                chosen.others.push(letter.id);
            }
        }
    }
    Ok(chosen)
}

/// The newest version with attempts 0 goes the ordinary way, so a replay can neither overtake nor
/// repeat what the target holds.
pub(crate) async fn replay(
    pool: &PgPool,
    filter: &DeadLetterFilter,
    actor: &str,
    dry_run: bool,
) -> Result<ReplayReport> {
    transaction!(pool, connection => replay_once(connection, filter, actor, dry_run).await)
}

async fn replay_once(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
    actor: &str,
    dry_run: bool,
) -> Result<ReplayReport, Failure> {
    let chosen = choose(connection, filter).await?;
    let matched = (chosen.replayable.len() + chosen.others.len()) as u64;
    let report = |replayed: u64| ReplayReport {
        matched,
        replayed,
        skipped: matched - replayed,
    };
    if dry_run || chosen.replayable.is_empty() {
        return Ok(report(chosen.replayable.len() as u64));
    }
    let masters: Vec<i64> = chosen.masters.into_iter().collect();
    lock(connection, &masters).await?;
    // Only those that are still dead: somebody else may have replayed meanwhile.
    let tasks = sqlx::query_scalar!(
        "with dead as materialized (
            select q.id, m.current_version
            from dead_letters d
            join sync_queue q on q.id = d.task_id
            join sync_master_data m on m.id = d.master_data_id
            where d.id = any($1::bigint[]) and q.state = 'dead'
            order by q.master_data_id, q.connection_id for no key update of q
        ), numbered as (
            select *, row_number() over () as place from dead
        )
        update sync_queue q
        set state = 'pending', retry_count = 0, next_retry_time = null,
            wanted_version = n.current_version, error_class = null, error_code = null,
            error_message = null, change_sequence = next_change(n.place),
            modified_date = clock_timestamp()
        from numbered n where q.id = n.id
        returning q.id",
        &chosen.replayable,
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "update dead_letters set state = 'replaying', actor = $2
        where state = 'open' and task_id = any($1::bigint[])",
        &tasks,
        actor,
    )
    .execute(&mut *connection)
    .await?;
    status::derive(connection, &masters).await?;
    Ok(report(tasks.len() as u64))
}

pub(crate) async fn discard(
    pool: &PgPool,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64> {
    transaction!(pool, connection => discard_once(connection, filter, actor, reason).await)
}

async fn discard_once(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64, Failure> {
    let mut chosen = choose(connection, filter).await?;
    chosen.replayable.append(&mut chosen.others);
    let letters = chosen.replayable;
    let masters: Vec<i64> = chosen.masters.into_iter().collect();
    lock(connection, &masters).await?;
    sqlx::query!(
        "with dead as materialized (
            select q.id
            from dead_letters d join sync_queue q on q.id = d.task_id
            where d.id = any($1::bigint[]) and d.state = 'open' and q.state = 'dead'
            order by q.master_data_id, q.connection_id for no key update of q
        ), numbered as (
            select id, row_number() over () as place from dead
        )
        update sync_queue q
        set state = 'cancelled', error_class = null, error_code = null, error_message = null,
            change_sequence = next_change(n.place), modified_date = clock_timestamp()
        from numbered n where q.id = n.id",
        &letters,
    )
    .execute(&mut *connection)
    .await?;
    let done = sqlx::query!(
        "update dead_letters set state = 'discarded', actor = $2, note = $3
        where id = any($1::bigint[]) and state = 'open'",
        &letters,
        actor,
        reason,
    )
    .execute(&mut *connection)
    .await?;
    status::derive(connection, &masters).await?;
    Ok(done.rows_affected())
}
