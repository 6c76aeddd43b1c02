//! Runs: `sync_orchestration`, its steps and its activity log.

pub(crate) mod advance;
pub(crate) mod change;
pub(crate) mod read;
pub(crate) mod start;

use sluice_core::{Error, ErrorClass, Result};
use sluice_store::task::PullSpec;
use sqlx::SqliteConnection;

use crate::sql::{
    convert::{now, time_option, to_json},
    failed,
};

/// Queued and running runs of one organization at most (promise C1).
const MAX_ACTIVE: i64 = 5;

/// Refuses one more active run than allowed.
async fn check_room(connection: &mut SqliteConnection, organization: i64) -> Result<()> {
    let active = sqlx::query!(
        r#"select count(*) as "count!: i64" from sync_orchestration
        where organization_id = ?1 and state in ('queued', 'running', 'paused')
            and state <> 'paused' and not background"#,
        organization,
    )
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    if active.count < MAX_ACTIVE {
        return Ok(());
    }
    Err(Error::new(
        ErrorClass::Conflict,
        "too_many_runs",
        format!("the organization has {MAX_ACTIVE} queued or running runs already"),
    )
    .hint("wait for one to end, or cancel one"))
}

/// Adds an entry to the activity log of a run.
async fn log(connection: &mut SqliteConnection, run: i64, event: &str, detail: &str) -> Result<()> {
    let now = now();
    sqlx::query!(
        "insert into sync_activity_log (organization_id, run_id, event, detail, created_date)
        select organization_id, id, ?2, ?3, ?4 from sync_orchestration where id = ?1",
        run,
        event,
        detail,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Adds the pull task that begins a step: it finds the step's slices.
async fn open_step(connection: &mut SqliteConnection, run: i64, number: i64) -> Result<()> {
    let row = sqlx::query!(
        r#"select s.stream as "stream!: String", r.since as "since?: i64",
            r.record as "record?: String", r.dry_run as "dry_run!: bool"
        from sync_orchestration r join sync_orchestration_steps s on s.run_id = r.id
        where r.id = ?1 and s.number = ?2"#,
        run,
        number,
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let spec = to_json(&PullSpec {
        stream: row.stream,
        slice: None,
        since: time_option(row.since)?,
        record: row.record,
        dry_run: row.dry_run,
    })?;
    let now = now();
    sqlx::query!(
        "insert into sync_queue (organization_id, kind, connection_id, run_id, step, spec, state,
            max_retries, traceparent, created_date, modified_date)
        select organization_id, 'pull', connection_id, id, ?2, ?3, 'pending', max_retries,
            traceparent, ?4, ?4
        from sync_orchestration where id = ?1",
        run,
        number,
        spec,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
