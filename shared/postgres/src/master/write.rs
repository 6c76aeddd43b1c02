//! Master rows, versions, links and conflicts of a batch.

use std::collections::{BTreeMap, HashMap};

use sluice_core::{MasterId, change::Change, record::entity_id};
use sluice_store::{master::ApplyBatch, plan::Decided};
use sqlx::PgConnection;

use super::apply::creates;
use crate::{convert::to_json, error::Failure};

/// Inserts new records; returns their ids by position.
///
/// # Errors
/// [`Failure::Overtaken`] when another transaction created one of them first.
pub(super) async fn create(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<BTreeMap<usize, MasterId>, Failure> {
    let mut new: Vec<_> = decided.iter().filter(|one| creates(one)).collect();
    if new.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Two batches with the same new records insert them in one order, or they would deadlock.
    new.sort_by_key(|one| key(one));
    let (mut types, mut sources, mut entities) = (vec![], vec![], vec![]);
    let (mut hashes, mut parents, mut statuses) = (vec![], vec![], vec![]);
    for one in &new {
        let record = &one.input.record;
        let wanted = batch
            .routes
            .iter()
            .any(|route| route.entity_type == record.entity_type);
        types.push(record.entity_type.as_str().to_owned());
        sources.push(record.source_id.clone());
        entities.push(entity_id(&batch.connection, &record.source_id));
        hashes.push(one.input.hash.to_hex());
        parents.push(to_json(&record.parents)?);
        statuses.push(if wanted { "pending" } else { "synced" }.to_owned());
    }
    let rows = sqlx::query!(
        "insert into sync_master_data (organization_id, entity_type, entity_id,
            source_connection_id, source_system, source_id, data_hash, current_version, parents,
            sync_status)
        select $1, k.entity_type, k.entity_id, $2, $3, k.source_id, k.hash, 1, k.parents::json,
            k.status
        from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
            with ordinality k (entity_type, source_id, entity_id, hash, parents, status, place)
        order by k.place
        on conflict do nothing
        returning id, entity_type, source_id",
        batch.organization_id.0,
        batch.connection_id.0,
        batch.source_system,
        &types,
        &sources,
        &entities,
        &hashes,
        &parents,
        &statuses,
    )
    .fetch_all(connection)
    .await?;
    if rows.len() < new.len() {
        return Err(Failure::Overtaken);
    }
    let by_key: HashMap<(&str, &str), i64> = rows
        .iter()
        .map(|row| ((&*row.entity_type, &*row.source_id), row.id))
        .collect();
    Ok(new
        .iter()
        .filter_map(|one| Some((one.position, MasterId(*by_key.get(&key(one))?))))
        .collect())
}

fn key<'a>(one: &Decided<'a>) -> (&'a str, &'a str) {
    let record = &one.input.record;
    (record.entity_type.as_str(), &record.source_id)
}

/// New versions of known records. A deletion keeps the parents that were known.
pub(super) async fn update(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<(), Failure> {
    let (mut ids, mut versions, mut hashes, mut deleted, mut parents) =
        (vec![], vec![], vec![], vec![], vec![]);
    for one in decided.iter().filter(|one| one.change.makes_version()) {
        let Some(before) = one.before else { continue };
        ids.push(before.master_id.0);
        versions.push(one.version());
        hashes.push(one.input.hash.to_hex());
        deleted.push(one.input.record.deleted);
        parents.push(to_json(&one.input.record.parents)?);
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update sync_master_data m
        set data_hash = k.hash, current_version = k.version, deleted = k.deleted,
            source_system = $6, modified_date = clock_timestamp(),
            parents = case when k.deleted then m.parents else k.parents::json end
        from unnest($1::bigint[], $2::int[], $3::text[], $4::bool[], $5::text[])
            k (id, version, hash, deleted, parents)
        where m.id = k.id",
        &ids,
        &versions,
        &hashes,
        &deleted,
        &parents,
        batch.source_system,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A deletion's version repeats the content that was known last, because a source that says
/// "gone" says nothing else.
pub(super) async fn versions(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
) -> Result<(), Failure> {
    let (mut masters, mut numbers, mut data) = (vec![], vec![], vec![]);
    let (mut hashes, mut changes, mut times) = (vec![], vec![], vec![]);
    for one in decided.iter().filter(|one| one.change.makes_version()) {
        let Some(id) = ids.get(&one.position) else {
            continue;
        };
        masters.push(id.0);
        numbers.push(one.version());
        data.push(match one.change {
            Change::Delete => None,
            _ => Some(to_json(&one.input.record.data)?),
        });
        hashes.push(one.input.hash.to_hex());
        changes.push(one.change.as_str().to_owned());
        times.push(one.input.record.modified_at);
    }
    if masters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into data_versions (master_data_id, version_number, data_snapshot, data_hash,
            change_type, run_id, source_modified)
        select k.id, k.number,
            coalesce(k.data::json, (
                select v.data_snapshot from data_versions v
                where v.master_data_id = k.id and v.version_number = k.number - 1
            )),
            k.hash, k.change, $6, k.modified
        from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $7::timestamptz[])
            k (id, number, data, hash, change, modified)",
        &masters,
        &numbers,
        &data as &[Option<String>],
        &hashes,
        &changes,
        batch.run_id.map(|run| run.0),
        &times as &[Option<sluice_core::Timestamp>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What the source connection showed last, and what both agree on. Its time never goes back.
pub(super) async fn links(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
) -> Result<(), Failure> {
    let (mut masters, mut types, mut sources) = (vec![], vec![], vec![]);
    let (mut hashes, mut times, mut bases) = (vec![], vec![], vec![]);
    for one in decided.iter().filter(|one| one.moves_link()) {
        let Some(id) = ids.get(&one.position) else {
            continue;
        };
        let record = &one.input.record;
        masters.push(id.0);
        types.push(record.entity_type.as_str().to_owned());
        sources.push(record.source_id.clone());
        hashes.push(one.input.hash.to_hex());
        times.push(record.modified_at);
        bases.push(one.agrees().then(|| one.version()));
    }
    if masters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into links as l (master_data_id, connection_id, organization_id, entity_type,
            external_id, last_seen_hash, last_seen_modified, last_seen_date, base_version)
        select k.id, $1, $2, k.entity_type, k.source_id, k.hash, k.modified, clock_timestamp(),
            k.base
        from unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::int[])
            k (id, entity_type, source_id, hash, modified, base)
        on conflict (master_data_id, connection_id) do update
        set last_seen_hash = excluded.last_seen_hash,
            last_seen_modified = greatest(l.last_seen_modified, excluded.last_seen_modified),
            last_seen_date = excluded.last_seen_date,
            base_version = coalesce(excluded.base_version, l.base_version)",
        batch.connection_id.0,
        batch.organization_id.0,
        &masters,
        &types,
        &sources,
        &hashes,
        &times as &[Option<sluice_core::Timestamp>],
        &bases as &[Option<i32>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// One open conflict per record and connection, with the newest inbound content.
pub(super) async fn conflicts(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<(), Failure> {
    let (mut masters, mut versions, mut hashes) = (vec![], vec![], vec![]);
    let (mut snapshots, mut times) = (vec![], vec![]);
    for one in decided {
        if one.change != Change::Conflict {
            continue;
        }
        let Some(before) = one.before else { continue };
        masters.push(before.master_id.0);
        versions.push(one.version());
        hashes.push(one.input.hash.to_hex());
        snapshots.push(to_json(&one.input.record)?);
        times.push(one.input.record.modified_at);
    }
    if masters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into sync_conflict (organization_id, master_data_id, connection_id, run_id,
            base_version, master_version, inbound_hash, inbound_snapshot, inbound_modified)
        select $1, k.id, $2, $3, l.base_version, k.version, k.hash, k.snapshot::json, k.modified
        from unnest($4::bigint[], $5::int[], $6::text[], $7::text[], $8::timestamptz[])
            k (id, version, hash, snapshot, modified)
        left join links l on l.master_data_id = k.id and l.connection_id = $2
        on conflict (master_data_id, connection_id) where state = 'open' do update
        set run_id = excluded.run_id, master_version = excluded.master_version,
            inbound_hash = excluded.inbound_hash, inbound_snapshot = excluded.inbound_snapshot,
            inbound_modified = excluded.inbound_modified",
        batch.organization_id.0,
        batch.connection_id.0,
        batch.run_id.map(|run| run.0),
        &masters,
        &versions,
        &hashes,
        &snapshots,
        &times as &[Option<sluice_core::Timestamp>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
