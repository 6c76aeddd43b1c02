//! Applying a batch: read what is known, decide, write everything in one transaction.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_core::{
    MasterId, Result,
    change::{Change, Known},
    record::entity_id,
};
use sluice_store::{
    master::{Applied, ApplyBatch},
    plan::{self, Decided, Stored},
};
use sqlx::SqliteConnection;

use super::{status, wants};
use crate::sql::{
    EmbeddedSql,
    convert::{hash, hash_option, now, number, time_option, to_json},
    failed,
};

pub(super) async fn apply(sql: &EmbeddedSql, batch: &ApplyBatch) -> Result<Vec<Applied>> {
    plan::check(batch)?;
    if batch.dry_run {
        let mut connection = sql.read().acquire().await.map_err(failed)?;
        let stored = load(&mut connection, batch).await?;
        let decided = plan::plan(batch, &stored);
        let ids = known_ids(&decided);
        let wants = wants::plan(&mut connection, batch, &decided, &ids).await?;
        return Ok(report(&decided, &ids, &wants));
    }
    let mut tx = sql.begin().await?;
    let stored = load(&mut tx, batch).await?;
    let decided = plan::plan(batch, &stored);
    let ids = write_masters(&mut tx, batch, &decided).await?;
    write_versions(&mut tx, batch, &decided, &ids).await?;
    write_links(&mut tx, batch, &decided, &ids).await?;
    write_conflicts(&mut tx, batch, &decided).await?;
    let wants = wants::plan(&mut tx, batch, &decided, &ids).await?;
    wants::write(&mut tx, batch, &wants).await?;
    let mut touched: Vec<MasterId> = wants.iter().map(|want| want.master_id).collect();
    touched.extend(
        decided
            .iter()
            .filter(|one| one.change.makes_version())
            .filter_map(|one| ids.get(&one.position).copied()),
    );
    status::derive(&mut tx, &touched).await?;
    tx.commit().await.map_err(failed)?;
    Ok(report(&decided, &ids, &wants))
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
    decided
        .iter()
        .map(|one| Applied {
            change: one.change,
            master_id: ids.get(&one.position).copied(),
            version: one.version(),
            pushes: wants
                .iter()
                .filter(|want| want.position == one.position)
                .map(|_| 1)
                .sum(),
        })
        .collect()
}

/// What the store knows about the records of the batch, by position.
async fn load(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
) -> Result<BTreeMap<usize, Stored>> {
    let keys: Vec<_> = batch
        .records
        .iter()
        .map(|one| json!([one.record.entity_type, one.record.source_id]))
        .collect();
    let keys = to_json(&keys)?;
    let rows = sqlx::query!(
        r#"select j.key + 0 as "position!: i64", m.id as "id!: i64", m.data_hash as "data_hash!: String",
            m.deleted as "deleted!: bool", m.current_version as "version!: i64",
            l.last_seen_hash as "seen_hash?: String", l.last_seen_modified as "seen_modified?: i64",
            b.data_hash as "base_hash?: String"
        from json_each(?1) j
        cross join sync_master_data m on m.source_connection_id = ?2
            and m.entity_type = j.value ->> 0 and m.source_id = j.value ->> 1
        left join links l on l.master_data_id = m.id and l.connection_id = m.source_connection_id
        left join data_versions b on b.master_data_id = m.id and b.version_number = l.base_version"#,
        keys,
        batch.connection_id.0,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            let stored = Stored {
                master_id: MasterId(row.id),
                version: number(row.version)?,
                known: Known {
                    master_hash: hash(&row.data_hash)?,
                    master_deleted: row.deleted,
                    last_seen_hash: hash_option(row.seen_hash)?,
                    last_seen_modified_at: time_option(row.seen_modified)?,
                    base_hash: hash_option(row.base_hash)?,
                },
            };
            Ok((number(row.position)?, stored))
        })
        .collect()
}

/// Master rows of new versions. Returns the ids of all records that exist now, by position. A
/// deletion keeps the parents that were known.
async fn write_masters(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<BTreeMap<usize, MasterId>> {
    let mut ids = known_ids(decided);
    let changed: Vec<_> = decided
        .iter()
        .filter(|one| one.change.makes_version())
        .collect();
    if changed.is_empty() {
        return Ok(ids);
    }
    let rows = changed
        .iter()
        .map(|one| {
            let record = &one.input.record;
            Ok(json!([
                record.entity_type,
                record.source_id,
                entity_id(&batch.connection, &record.source_id),
                one.input.hash,
                record.deleted,
                to_json(&record.parents)?,
            ]))
        })
        .collect::<Result<Vec<Value>>>()?;
    let (rows, now) = (to_json(&rows)?, now());
    let written = sqlx::query!(
        r#"insert into sync_master_data (organization_id, entity_type, entity_id,
            source_connection_id, source_system, source_id, data_hash, current_version, deleted,
            parents, created_date, modified_date)
        select ?2, j.value ->> 0, j.value ->> 2, ?3, ?4, j.value ->> 1, j.value ->> 3, 1,
            j.value ->> 4, j.value ->> 5, ?5, ?5
        from json_each(?1) j where true
        on conflict (source_connection_id, entity_type, source_id) do update set
            data_hash = excluded.data_hash, current_version = current_version + 1,
            deleted = excluded.deleted, source_system = excluded.source_system,
            parents = case when excluded.deleted then parents else excluded.parents end,
            modified_date = excluded.modified_date
        returning id as "id!: i64", entity_type as "entity_type!: String",
            source_id as "source_id!: String""#,
        rows,
        batch.organization_id.0,
        batch.connection_id.0,
        batch.source_system,
        now,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let by_key: BTreeMap<(&str, &str), i64> = written
        .iter()
        .map(|row| ((&*row.entity_type, &*row.source_id), row.id))
        .collect();
    for one in changed {
        let record = &one.input.record;
        let key = (record.entity_type.as_str(), &*record.source_id);
        if let Some(id) = by_key.get(&key) {
            ids.insert(one.position, MasterId(*id));
        }
    }
    Ok(ids)
}

/// A deletion's version repeats the content that was known last, because a source that says
/// "gone" says nothing else.
async fn write_versions(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
) -> Result<()> {
    let rows = decided
        .iter()
        .filter(|one| one.change.makes_version())
        .map(|one| {
            Ok(json!([
                ids.get(&one.position),
                one.version(),
                to_json(&one.input.record.data)?,
                one.input.hash,
                one.change.as_str(),
                one.input.record.modified_at.map(|at| at.timestamp_micros()),
            ]))
        })
        .collect::<Result<Vec<Value>>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, run, now) = (to_json(&rows)?, batch.run_id.map(|run| run.0), now());
    sqlx::query!(
        "insert into data_versions (master_data_id, version_number, data_snapshot, data_hash,
            change_type, run_id, created_date, source_modified)
        select j.value ->> 0, j.value ->> 1,
            case when j.value ->> 4 = 'delete' then (
                select v.data_snapshot from data_versions v
                where v.master_data_id = j.value ->> 0 and v.version_number = (j.value ->> 1) - 1
            ) else j.value ->> 2 end,
            j.value ->> 3, j.value ->> 4, ?2, ?3, j.value ->> 5
        from json_each(?1) j",
        rows,
        run,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// What the source connection showed last, and what both agree on. Its time never goes back.
async fn write_links(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
) -> Result<()> {
    let rows: Vec<_> = decided
        .iter()
        .filter(|one| one.moves_link())
        .map(|one| {
            let record = &one.input.record;
            json!([
                ids.get(&one.position),
                record.entity_type,
                record.source_id,
                one.input.hash,
                record.modified_at.map(|at| at.timestamp_micros()),
                one.agrees().then(|| one.version()),
            ])
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "insert into links (master_data_id, connection_id, organization_id, entity_type,
            external_id, last_seen_hash, last_seen_modified, last_seen_date, base_version)
        select j.value ->> 0, ?2, ?3, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4,
            ?4, j.value ->> 5
        from json_each(?1) j where true
        on conflict (master_data_id, connection_id) do update set
            last_seen_hash = excluded.last_seen_hash,
            last_seen_modified = coalesce(
                max(last_seen_modified, excluded.last_seen_modified),
                excluded.last_seen_modified, last_seen_modified),
            last_seen_date = excluded.last_seen_date,
            base_version = coalesce(excluded.base_version, base_version)",
        rows,
        batch.connection_id.0,
        batch.organization_id.0,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// One open conflict per record and connection, with the newest inbound content.
async fn write_conflicts(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<()> {
    let rows = decided
        .iter()
        .filter(|one| one.change == Change::Conflict)
        .map(|one| {
            Ok(json!([
                one.before.map(|stored| stored.master_id),
                one.version(),
                one.input.hash,
                to_json(&one.input.record)?,
                one.input.record.modified_at.map(|at| at.timestamp_micros()),
            ]))
        })
        .collect::<Result<Vec<Value>>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, run, now) = (to_json(&rows)?, batch.run_id.map(|run| run.0), now());
    sqlx::query!(
        "insert into sync_conflict (organization_id, master_data_id, connection_id, run_id,
            base_version, master_version, inbound_hash, inbound_snapshot, inbound_modified,
            created_date)
        select ?2, j.value ->> 0, ?3, ?4, l.base_version, j.value ->> 1, j.value ->> 2,
            j.value ->> 3, j.value ->> 4, ?5
        from json_each(?1) j
        left join links l on l.master_data_id = j.value ->> 0 and l.connection_id = ?3
        where true
        on conflict (master_data_id, connection_id) where state = 'open' do update set
            run_id = excluded.run_id, master_version = excluded.master_version,
            inbound_hash = excluded.inbound_hash, inbound_snapshot = excluded.inbound_snapshot,
            inbound_modified = excluded.inbound_modified",
        rows,
        batch.organization_id.0,
        batch.connection_id.0,
        run,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
