//! Starting a run.

use sluice_core::{Error, ErrorClass, Result, RunId};
use sluice_store::run::{NewRun, StartedRun};
use sqlx::SqliteConnection;

use super::{check_room, log, open_step};
use crate::sql::{
    EmbeddedSql,
    convert::{now, to_json},
    failed,
};

/// The write lock makes the idempotency key and the limit exact: whoever comes second sees the
/// first.
pub(crate) async fn start(sql: &EmbeddedSql, new: &NewRun) -> Result<StartedRun> {
    if new.streams.is_empty() {
        return Err(Error::validation(
            "run_without_streams",
            "a run needs at least one stream",
        ));
    }
    let mut tx = sql.begin().await?;
    if let Some(id) = known(&mut tx, new).await? {
        return Ok(StartedRun { id, existed: true });
    }
    check_connection(&mut tx, new).await?;
    if !new.background {
        check_room(&mut tx, new.organization_id.0).await?;
    }
    let id = insert(&mut tx, new).await?;
    open_step(&mut tx, id, 1).await?;
    log(
        &mut tx,
        id,
        "queued",
        &format!("requested by {}", new.requested_by),
    )
    .await?;
    tx.commit().await.map_err(failed)?;
    Ok(StartedRun {
        id: RunId(id),
        existed: false,
    })
}

async fn known(connection: &mut SqliteConnection, new: &NewRun) -> Result<Option<RunId>> {
    let Some(key) = &new.idempotency_key else {
        return Ok(None);
    };
    let row = sqlx::query!(
        r#"select run_id as "run_id!: i64" from sync_idempotency_log
        where organization_id = ?1 and idempotency_key = ?2"#,
        new.organization_id.0,
        key,
    )
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    Ok(row.map(|row| RunId(row.run_id)))
}

/// A run reads its own organization's connection only (promise C4).
async fn check_connection(connection: &mut SqliteConnection, new: &NewRun) -> Result<()> {
    let row = sqlx::query!(
        r#"select 1 as "found!: i64" from connections where id = ?1 and organization_id = ?2"#,
        new.connection_id.0,
        new.organization_id.0,
    )
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    row.map(|_| ()).ok_or_else(|| {
        Error::new(
            ErrorClass::NotFound,
            "connection_unknown",
            format!(
                "the organization has no connection with the id {}",
                new.connection_id
            ),
        )
    })
}

/// The run, its steps and its key.
async fn insert(connection: &mut SqliteConnection, new: &NewRun) -> Result<i64> {
    let now = now();
    let kind = new.kind.as_str();
    let since = new.since.map(|since| since.timestamp_micros());
    let id = sqlx::query!(
        r#"insert into sync_orchestration (organization_id, flow, connection_id, kind, state,
            dry_run, since, record, requested_by, max_retries, traceparent, created_date,
            background)
        values (?1, ?2, ?3, ?4, 'queued', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        returning id as "id!: i64""#,
        new.organization_id.0,
        new.flow,
        new.connection_id.0,
        kind,
        new.dry_run,
        since,
        new.record,
        new.requested_by,
        new.max_retries,
        new.traceparent,
        now,
        new.background,
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?
    .id;
    let streams = to_json(&new.streams)?;
    sqlx::query!(
        "insert into sync_orchestration_steps (run_id, number, stream, state)
        select ?1, j.key + 1, j.value, 'pending' from json_each(?2) j",
        id,
        streams,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    if let Some(key) = &new.idempotency_key {
        sqlx::query!(
            "insert into sync_idempotency_log (organization_id, idempotency_key, run_id,
                created_date)
            values (?1, ?2, ?3, ?4)",
            new.organization_id.0,
            key,
            id,
            now,
        )
        .execute(connection)
        .await
        .map_err(failed)?;
    }
    Ok(id)
}
