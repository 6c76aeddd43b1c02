//! Payloads in the table `raw_payload`.

use std::time::Duration;

use sluice_core::{ConnectionId, Hash, OrganizationId, Result, RunId, Timestamp};
use sluice_store::{
    raw::{
        ClaimPending, FailedPayload, FailedPayloadQuery, MAX_ERRORS, NewPayload, Payload,
        PayloadId, PutPayload, RawError,
    },
    raw_codec,
};
use sqlx::{QueryBuilder, Row, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{damaged, failed, from_json, from_word, micros, time, to_json};

/// Most expired payloads removed in one transaction, so that writers need not wait long.
const EXPIRE_BATCH: i64 = 500;

/// The part that both ways of storing a payload share; a macro because SQL texts are static.
macro_rules! insert_payload {
    () => {
        "INSERT INTO raw_payload (id, organization_id, connection_id, source_system, kind, stream,
            slice, content_type, delivery_id, run_id, traceparent, received_at, expires_at,
            lease_until, body_size, body_sha256, body, inbound, first_seen, last_seen, times_seen,
            errors)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
            'pending', ?12, ?12, 1, '[]')"
    };
}

pub(super) async fn put(
    pool: &SqlitePool,
    payload: NewPayload,
    lease: Duration,
) -> Result<PutPayload> {
    let id = payload.id();
    let body_hash = Hash::of_bytes(&payload.body);
    let body_size = i64::try_from(payload.body.len()).map_err(|_| damaged("size"))?;
    let slice = raw_codec::to_text(&payload.slice)?;
    let body = raw_codec::pack(payload.body).await?;
    let received_at = micros(payload.received_at);
    // A delivery id decides alone: what came under it before stays as it is.
    let sql = match payload.delivery_id {
        Some(_) => concat!(
            insert_payload!(),
            " ON CONFLICT (id) DO NOTHING RETURNING 1"
        ),
        None => concat!(
            insert_payload!(),
            " ON CONFLICT (id) DO UPDATE SET inbound = 'pending', lease_owner = NULL, claims = 0,
                lease_until = excluded.lease_until, times_seen = times_seen + 1,
                last_seen = max(last_seen, excluded.last_seen),
                received_at = excluded.received_at, run_id = excluded.run_id,
                traceparent = excluded.traceparent, expires_at = excluded.expires_at
              RETURNING times_seen"
        ),
    };
    let times_seen: Option<i64> = sqlx::query_scalar(sql)
        .bind(&id.0)
        .bind(payload.organization_id.0)
        .bind(payload.connection_id.0)
        .bind(payload.source_system)
        .bind(payload.kind.as_str())
        .bind(payload.stream)
        .bind(slice)
        .bind(payload.content_type)
        .bind(payload.delivery_id)
        .bind(payload.run_id.map(|run| run.0))
        .bind(payload.traceparent)
        .bind(received_at)
        .bind(payload.expires_at.map(micros))
        .bind(lease_end(lease))
        .bind(body_size)
        .bind(body_hash.to_hex())
        .bind(body)
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    Ok(match times_seen {
        None => PutPayload::Duplicate(id),
        Some(1) => PutPayload::Stored(id),
        Some(_) => PutPayload::SeenAgain(id),
    })
}

pub(super) async fn get(
    pool: &SqlitePool,
    organization: OrganizationId,
    id: &PayloadId,
) -> Result<Option<Payload>> {
    let row = sqlx::query("SELECT * FROM raw_payload WHERE id = ?1 AND organization_id = ?2")
        .bind(&id.0)
        .bind(organization.0)
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    match row {
        Some(row) => read(row).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn claim(pool: &SqlitePool, claim: &ClaimPending) -> Result<Vec<Payload>> {
    let rows = sqlx::query(
        "UPDATE raw_payload SET lease_owner = ?1, lease_until = ?2, claims = claims + 1
         WHERE id IN (SELECT id FROM raw_payload WHERE inbound = 'pending' AND lease_until <= ?3
                      ORDER BY last_seen, id LIMIT ?4)
         RETURNING *",
    )
    .bind(&claim.owner)
    .bind(lease_end(claim.lease))
    .bind(micros(chrono::Utc::now()))
    .bind(i64::try_from(claim.limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let mut payloads = Vec::with_capacity(rows.len());
    for row in rows {
        payloads.push(read(row).await?);
    }
    // RETURNING promises no order.
    payloads.sort_by(|a, b| (a.last_seen, &a.id).cmp(&(b.last_seen, &b.id)));
    Ok(payloads)
}

pub(super) async fn finish(
    pool: &SqlitePool,
    id: &PayloadId,
    error: Option<RawError>,
) -> Result<()> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let errors: Option<String> = sqlx::query_scalar("SELECT errors FROM raw_payload WHERE id = ?1")
        .bind(&id.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
    let Some(errors) = errors else { return Ok(()) };
    let mut errors: Vec<RawError> = from_json(&errors, "error log")?;
    let inbound = match error {
        Some(error) => {
            if !errors.contains(&error) {
                errors.push(error);
            }
            errors.drain(..errors.len().saturating_sub(MAX_ERRORS));
            "failed"
        }
        None => "completed",
    };
    sqlx::query(
        "UPDATE raw_payload SET inbound = ?2, errors = ?3, lease_owner = NULL WHERE id = ?1",
    )
    .bind(&id.0)
    .bind(inbound)
    .bind(to_json(&errors)?)
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

pub(super) async fn failed_ones(
    pool: &SqlitePool,
    query: &FailedPayloadQuery,
) -> Result<Vec<FailedPayload>> {
    // Filters that are not set are left out of the text, as in `query.rs`.
    let mut sql = QueryBuilder::<Sqlite>::new(
        "SELECT id, connection_id, kind, stream, content_type, body_size, received_at, errors
         FROM raw_payload WHERE inbound = 'failed' AND organization_id = ",
    );
    sql.push_bind(query.organization_id.0);
    if let Some(connection) = query.connection_id {
        sql.push(" AND connection_id = ").push_bind(connection.0);
    }
    if let Some(stream) = &query.stream {
        sql.push(" AND stream = ").push_bind(stream.clone());
    }
    if let Some(after) = &query.after {
        sql.push(" AND id > ").push_bind(after.0.clone());
    }
    let limit = i64::try_from(query.limit.clamp(1, 1000)).unwrap_or(i64::MAX);
    sql.push(" ORDER BY id LIMIT ").push_bind(limit);
    let rows = sql.build().fetch_all(pool).await.map_err(failed)?;
    rows.iter().map(read_failed).collect()
}

fn read_failed(row: &SqliteRow) -> Result<FailedPayload> {
    let text = |name: &str| row.try_get::<String, _>(name).map_err(failed);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    Ok(FailedPayload {
        id: PayloadId(text("id")?),
        connection_id: ConnectionId(number("connection_id")?),
        kind: from_word(&text("kind")?, "payload kind")?,
        stream: text("stream")?,
        content_type: row.try_get("content_type").map_err(failed)?,
        bytes: u64::try_from(number("body_size")?).map_err(|_| damaged("size"))?,
        received_at: time(number("received_at")?)?,
        errors: from_json(&text("errors")?, "error log")?,
    })
}

pub(super) async fn expire(pool: &SqlitePool, now: Timestamp) -> Result<u64> {
    let mut total = 0;
    loop {
        let removed = sqlx::query(
            "DELETE FROM raw_payload WHERE id IN (SELECT id FROM raw_payload
             WHERE expires_at <= ?1 AND inbound <> 'pending' LIMIT ?2)",
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

/// Leases are this process's affair, so its clock decides.
fn lease_end(lease: Duration) -> i64 {
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    micros(chrono::Utc::now()).saturating_add(lease)
}

async fn read(row: SqliteRow) -> Result<Payload> {
    let text = |name: &str| row.try_get::<String, _>(name).map_err(failed);
    let optional = |name: &str| row.try_get::<Option<String>, _>(name).map_err(failed);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    let optional_number = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(failed);
    let size = usize::try_from(number("body_size")?).map_err(|_| damaged("size"))?;
    let body = raw_codec::unpack(row.try_get("body").map_err(failed)?, size).await?;
    Ok(Payload {
        id: PayloadId(text("id")?),
        new: NewPayload {
            organization_id: OrganizationId(number("organization_id")?),
            connection_id: ConnectionId(number("connection_id")?),
            source_system: text("source_system")?,
            kind: from_word(&text("kind")?, "payload kind")?,
            stream: text("stream")?,
            slice: raw_codec::from_text(&text("slice")?)?,
            content_type: optional("content_type")?,
            body,
            delivery_id: optional("delivery_id")?,
            run_id: optional_number("run_id")?.map(RunId),
            traceparent: optional("traceparent")?,
            received_at: time(number("received_at")?)?,
            expires_at: optional_number("expires_at")?.map(time).transpose()?,
        },
        inbound: from_word(&text("inbound")?, "state")?,
        first_seen: time(number("first_seen")?)?,
        last_seen: time(number("last_seen")?)?,
        claims: u32::try_from(number("claims")?).map_err(|_| damaged("claims"))?,
        errors: from_json(&text("errors")?, "error log")?,
    })
}
