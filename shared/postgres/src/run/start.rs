//! Starting a run.

use sluice_core::{Error, ErrorClass, Result, RunId};
use sluice_store::run::{NewRun, StartedRun};
use sqlx::PgConnection;

use super::{check_room, lock_organization, log, open_step};
use crate::{
    convert::int,
    error::{Failure, transaction},
    pool::Pool,
};

pub(crate) async fn start(pool: &Pool, new: &NewRun) -> Result<StartedRun> {
    if new.streams.is_empty() {
        return Err(Error::validation(
            "run_without_streams",
            "a run needs at least one stream",
        ));
    }
    transaction!(pool, connection => start_once(connection, new).await)
}

/// The organization's lock makes the idempotency key and the limit exact: whoever comes second
/// sees the first.
async fn start_once(connection: &mut PgConnection, new: &NewRun) -> Result<StartedRun, Failure> {
    lock_organization(connection, new.organization_id.0).await?;
    if let Some(id) = known(connection, new).await? {
        return Ok(StartedRun { id, existed: true });
    }
    check_connection(connection, new).await?;
    if !new.background {
        check_room(connection, new.organization_id.0).await?;
    }
    let id = insert(connection, new).await?;
    open_step(connection, id, 1).await?;
    let detail = format!("requested by {}", new.requested_by);
    log(connection, id, "queued", &detail).await?;
    Ok(StartedRun {
        id: RunId(id),
        existed: false,
    })
}

async fn known(connection: &mut PgConnection, new: &NewRun) -> Result<Option<RunId>, Failure> {
    let Some(key) = &new.idempotency_key else {
        return Ok(None);
    };
    let id = sqlx::query_scalar!(
        "select run_id from sync_idempotency_log
        where organization_id = $1 and idempotency_key = $2",
        new.organization_id.0,
        key,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(RunId))
}

/// A run reads its own organization's connection only (promise C4).
async fn check_connection(connection: &mut PgConnection, new: &NewRun) -> Result<(), Failure> {
    let found = sqlx::query_scalar!(
        "select id from connections where id = $1 and organization_id = $2",
        new.connection_id.0,
        new.organization_id.0,
    )
    .fetch_optional(connection)
    .await?;
    match found {
        Some(_) => Ok(()),
        None => Err(Error::new(
            ErrorClass::NotFound,
            "connection_unknown",
            format!(
                "the organization has no connection with the id {}",
                new.connection_id
            ),
        )
        .into()),
    }
}

/// The run, its steps and its key.
async fn insert(connection: &mut PgConnection, new: &NewRun) -> Result<i64, Failure> {
    let id = sqlx::query_scalar!(
        "insert into sync_orchestration (organization_id, flow, connection_id, kind, state,
            dry_run, since, record, requested_by, max_retries, traceparent, background)
        values ($1, $2, $3, $4, 'queued', $5, $6, $7, $8, $9, $10, $11)
        returning id",
        new.organization_id.0,
        new.flow,
        new.connection_id.0,
        new.kind.as_str(),
        new.dry_run,
        new.since,
        new.record,
        new.requested_by,
        int(new.max_retries),
        new.traceparent,
        new.background,
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into sync_orchestration_steps (run_id, number, stream, state)
        select $1, k.number, k.stream, 'pending'
        from unnest($2::text[]) with ordinality k (stream, number)",
        id,
        &new.streams,
    )
    .execute(&mut *connection)
    .await?;
    if let Some(key) = &new.idempotency_key {
        sqlx::query!(
            "insert into sync_idempotency_log (organization_id, idempotency_key, run_id)
            values ($1, $2, $3)",
            new.organization_id.0,
            key,
            id,
        )
        .execute(connection)
        .await?;
    }
    Ok(id)
}
