//! Raw records in the table `raw_record`. A batch travels as one JSON argument, so that its size
//! does not change the number of statements.

use std::collections::HashMap;

use serde_json::{Value, json};
use sluice_core::{Result, Timestamp};
use sluice_store::{
    raw::{OutboundMark, OutboundState, PutRecords, RawRecord, seen_order},
    raw_codec,
};
use sqlx::{SqliteConnection, SqlitePool};

use super::{failed, from_json, micros, to_json};

const EXPIRE_BATCH: i64 = 5_000;

pub(super) async fn put(pool: &SqlitePool, records: &[RawRecord]) -> Result<PutRecords> {
    let mut put = PutRecords::default();
    if records.is_empty() {
        return Ok(put);
    }
    let orders = seen_order(records);
    let outcomes: Vec<_> = records
        .iter()
        .map(|record| record.outcome().to_hex())
        .collect();
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let known = find(&mut transaction, records).await?;
    let (mut new, mut seen, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for (index, ((record, order), outcome)) in records.iter().zip(orders).zip(outcomes).enumerate()
    {
        match known.get(&index) {
            None => new.push(row(record, None, order, outcome)?),
            Some((id, stored)) if *stored == outcome => seen.push(json!({
                "id": id, "seen_order": order, "expires_at": record.expires_at.map(micros)
            })),
            Some((id, _)) => changed.push(row(record, Some(*id), order, outcome)?),
        }
    }
    put.new = insert(&mut transaction, new).await?;
    put.seen_again = see_again(&mut transaction, seen).await?;
    put.changed = change(&mut transaction, changed).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(put)
}

/// Id and outcome of the records of a batch that are known, by their place in the batch.
async fn find(
    connection: &mut SqliteConnection,
    records: &[RawRecord],
) -> Result<HashMap<usize, (i64, String)>> {
    let keys: Vec<_> = records
        .iter()
        .map(|record| {
            let owner = (record.organization_id, record.connection_id);
            json!([
                owner.0,
                owner.1,
                record.entity_type.as_str(),
                record.source_id,
                record.hash
            ])
        })
        .collect();
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT k.key, r.id, r.outcome FROM json_each(?1) AS k
         CROSS JOIN raw_record AS r ON r.organization_id = k.value ->> 0
            AND r.connection_id = k.value ->> 1 AND r.entity_type = k.value ->> 2
            AND r.source_id = k.value ->> 3 AND r.hash = k.value ->> 4",
    )
    .bind(to_json(&keys)?)
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let by_place = |(place, id, outcome)| Some((usize::try_from(place).ok()?, (id, outcome)));
    Ok(rows.into_iter().filter_map(by_place).collect())
}

fn row(record: &RawRecord, id: Option<i64>, order: i64, outcome: String) -> Result<Value> {
    let processed = record.processed.as_ref().map(raw_codec::to_text);
    Ok(json!({
        "id": id,
        "organization_id": record.organization_id,
        "connection_id": record.connection_id,
        "entity_type": record.entity_type.as_str(),
        "source_id": record.source_id,
        "hash": record.hash,
        "source_system": record.source_system,
        "stream": record.stream,
        // Texts inside the text: SQLite must not read (and round) what is kept exactly.
        "slice": raw_codec::to_text(&record.slice)?,
        "raw": raw_codec::to_text(&record.raw)?,
        "processed": processed.transpose()?,
        "payload_id": record.payload_id.0,
        "batch_number": record.batch_number,
        "sync_date": micros(record.sync_date),
        "version": record.version,
        "inbound": record.inbound.as_str(),
        "outbound": to_json(&record.outbound)?,
        "errors": to_json(&record.errors)?,
        "expires_at": record.expires_at.map(micros),
        "outcome": outcome,
        "seen_order": order,
    }))
}

async fn insert(connection: &mut SqliteConnection, rows: Vec<Value>) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let inserted = sqlx::query(
        "INSERT INTO raw_record (organization_id, connection_id, entity_type, source_id, hash,
            source_system, stream, slice, raw, processed, payload_id, batch_number, sync_date,
            version, inbound, outbound, errors, expires_at, outcome, seen_order)
         SELECT value ->> 'organization_id', value ->> 'connection_id', value ->> 'entity_type',
            value ->> 'source_id', value ->> 'hash', value ->> 'source_system',
            value ->> 'stream', value ->> 'slice', value ->> 'raw', value ->> 'processed',
            value ->> 'payload_id', value ->> 'batch_number', value ->> 'sync_date',
            value ->> 'version', value ->> 'inbound', value ->> 'outbound', value ->> 'errors',
            value ->> 'expires_at', value ->> 'outcome', value ->> 'seen_order'
         FROM json_each(?1) ORDER BY key",
    )
    .bind(to_json(&rows)?)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(inserted.rows_affected())
}

async fn see_again(connection: &mut SqliteConnection, rows: Vec<Value>) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let updated = sqlx::query(
        "UPDATE raw_record SET seen_order = max(seen_order, v.value ->> 'seen_order'),
            expires_at = coalesce(max(expires_at, v.value ->> 'expires_at'),
                                  v.value ->> 'expires_at', expires_at)
         FROM json_each(?1) AS v WHERE raw_record.id = v.value ->> 'id'",
    )
    .bind(to_json(&rows)?)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(updated.rows_affected())
}

async fn change(connection: &mut SqliteConnection, rows: Vec<Value>) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let updated = sqlx::query(
        "UPDATE raw_record SET processed = v.value ->> 'processed',
            slice = v.value ->> 'slice', payload_id = v.value ->> 'payload_id',
            batch_number = v.value ->> 'batch_number', sync_date = v.value ->> 'sync_date',
            version = v.value ->> 'version', inbound = v.value ->> 'inbound',
            outbound = v.value ->> 'outbound', errors = v.value ->> 'errors',
            expires_at = v.value ->> 'expires_at', outcome = v.value ->> 'outcome',
            seen_order = max(seen_order, v.value ->> 'seen_order')
         FROM json_each(?1) AS v WHERE raw_record.id = v.value ->> 'id'",
    )
    .bind(to_json(&rows)?)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(updated.rows_affected())
}

pub(super) async fn mark(pool: &SqlitePool, marks: &[OutboundMark]) -> Result<()> {
    if marks.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let keys: Vec<_> = marks
        .iter()
        .map(|mark| {
            let owner = (mark.organization_id, mark.connection_id);
            json!([owner.0, owner.1, mark.entity_type.as_str(), mark.source_id])
        })
        .collect();
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT k.key, r.id, r.outbound FROM json_each(?1) AS k
         CROSS JOIN raw_record AS r ON r.id = (
            SELECT n.id FROM raw_record AS n WHERE n.organization_id = k.value ->> 0
               AND n.connection_id = k.value ->> 1 AND n.entity_type = k.value ->> 2
               AND n.source_id = k.value ->> 3
            ORDER BY n.seen_order DESC, n.id DESC LIMIT 1)
         ORDER BY k.key",
    )
    .bind(to_json(&keys)?)
    .fetch_all(&mut *transaction)
    .await
    .map_err(failed)?;
    let mut outbound: HashMap<i64, Vec<(String, OutboundState)>> = HashMap::new();
    for (place, id, stored) in rows {
        let Some(mark) = usize::try_from(place)
            .ok()
            .and_then(|place| marks.get(place))
        else {
            continue;
        };
        let states = match outbound.entry(id) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(from_json(&stored, "outbound state")?)
            }
        };
        match states.iter_mut().find(|(target, _)| *target == mark.target) {
            Some((_, state)) => *state = mark.state,
            None => states.push((mark.target.clone(), mark.state)),
        }
    }
    let rows: Vec<(i64, String)> = outbound
        .into_iter()
        .map(|(id, states)| Ok((id, to_json(&states)?)))
        .collect::<Result<_>>()?;
    sqlx::query(
        "UPDATE raw_record SET outbound = v.value ->> 1
         FROM json_each(?1) AS v WHERE raw_record.id = v.value ->> 0",
    )
    .bind(to_json(&rows)?)
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

pub(super) async fn expire(pool: &SqlitePool, now: Timestamp) -> Result<u64> {
    let mut total = 0;
    loop {
        let removed = sqlx::query(
            "DELETE FROM raw_record WHERE id IN
                (SELECT id FROM raw_record WHERE expires_at <= ?1 LIMIT ?2)",
        )
        .bind(micros(now))
        .bind(EXPIRE_BATCH)
        .execute(pool)
        .await
        .map_err(failed)?
        .rows_affected();
        if removed == 0 {
            return Ok(total);
        }
        total += removed;
    }
}
