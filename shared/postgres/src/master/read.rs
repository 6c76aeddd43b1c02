//! What the database knows about the records of a batch.

use std::collections::BTreeMap;

use sluice_core::{MasterId, change::Known};
use sluice_store::{master::ApplyBatch, plan::Stored};
use sqlx::PgConnection;

use crate::{
    convert::{hash, hash_option},
    error::Failure,
};

/// The records of the batch that exist, by position; only those at `positions`.
pub(super) async fn load(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    positions: impl Iterator<Item = usize>,
) -> Result<BTreeMap<usize, Stored>, Failure> {
    let (mut indexes, mut types, mut sources) = (vec![], vec![], vec![]);
    for position in positions {
        if let Some(one) = batch.records.get(position) {
            indexes.push(position as i64);
            types.push(one.record.entity_type.as_str().to_owned());
            sources.push(one.record.source_id.clone());
        }
    }
    // The key is unique; `limit 1` keeps the planner from reading all records of the source, which
    // it takes for few while a first load goes on.
    let rows = sqlx::query!(
        r#"select k.position as "position!", m.id as "id!", m.data_hash as "data_hash!",
            m.deleted as "deleted!", m.current_version as "version!",
            l.last_seen_hash as "seen_hash?", l.last_seen_modified as "seen_modified?",
            b.data_hash as "base_hash?"
        from unnest($1::bigint[], $2::text[], $3::text[]) k (position, entity_type, source_id)
        cross join lateral (
            select * from sync_master_data m
            where m.source_connection_id = $4 and m.entity_type = k.entity_type
                and m.source_id = k.source_id
            limit 1
        ) m
        left join links l on l.master_data_id = m.id and l.connection_id = $4
        left join data_versions b
            on b.master_data_id = m.id and b.version_number = l.base_version"#,
        &indexes,
        &types,
        &sources,
        batch.connection_id.0,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let stored = Stored {
                master_id: MasterId(row.id),
                version: row.version,
                known: Known {
                    master_hash: hash(&row.data_hash)?,
                    master_deleted: row.deleted,
                    last_seen_hash: hash_option(row.seen_hash)?,
                    last_seen_modified_at: row.seen_modified,
                    base_hash: hash_option(row.base_hash)?,
                },
            };
            Ok((row.position as usize, stored))
        })
        .collect()
}

/// Locks records until the end of the transaction, in the order that everybody uses.
pub(crate) async fn lock(connection: &mut PgConnection, ids: &[i64]) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "select id from sync_master_data where id = any($1::bigint[]) order by id for no key update",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}
