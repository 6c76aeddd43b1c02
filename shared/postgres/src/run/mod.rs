//! Runs: `sync_orchestration`, its steps and its activity log. A run is locked before its tasks.

pub(crate) mod advance;
pub(crate) mod change;
pub(crate) mod read;
pub(crate) mod start;

use sluice_core::{Error, ErrorClass};
use sluice_store::task::PullSpec;
use sqlx::PgConnection;

use crate::{convert::to_json, error::Failure};

/// Queued and running runs of one organization at most (promise C1).
const MAX_ACTIVE: i64 = 5;

/// Makes changes of an organization's runs take turns. `no key`, so that rows which merely refer
/// to the organization can be inserted meanwhile.
async fn lock_organization(
    connection: &mut PgConnection,
    organization: i64,
) -> Result<(), Failure> {
    sqlx::query!(
        "select id from organizations where id = $1 for no key update",
        organization,
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Refuses one more active run than allowed. The organization must be locked.
async fn check_room(connection: &mut PgConnection, organization: i64) -> Result<(), Failure> {
    let active = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sync_orchestration
        where organization_id = $1 and state in ('queued', 'running') and not background"#,
        organization,
    )
    .fetch_one(connection)
    .await?;
    if active < MAX_ACTIVE {
        return Ok(());
    }
    Err(Error::new(
        ErrorClass::Conflict,
        "too_many_runs",
        format!("the organization has {MAX_ACTIVE} queued or running runs already"),
    )
    .hint("wait for one to end, or cancel one")
    .into())
}

/// Adds an entry to the activity log of a run.
async fn log(
    connection: &mut PgConnection,
    run: i64,
    event: &str,
    detail: &str,
) -> Result<(), Failure> {
    sqlx::query!(
        "insert into sync_activity_log (organization_id, run_id, event, detail, created_date)
        select organization_id, id, $2, $3, clock_timestamp() from sync_orchestration
        where id = $1",
        run,
        event,
        detail,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the pull task that begins a step: it finds the step's slices.
async fn open_step(connection: &mut PgConnection, run: i64, number: i32) -> Result<(), Failure> {
    let row = sqlx::query!(
        "select s.stream, r.since, r.record, r.dry_run
        from sync_orchestration r join sync_orchestration_steps s on s.run_id = r.id
        where r.id = $1 and s.number = $2",
        run,
        number,
    )
    .fetch_one(&mut *connection)
    .await?;
    let spec = to_json(&PullSpec {
        stream: row.stream,
        slice: None,
        since: row.since,
        record: row.record,
        dry_run: row.dry_run,
    })?;
    sqlx::query!(
        "insert into sync_queue (organization_id, kind, connection_id, run_id, step, spec, state,
            max_retries, traceparent)
        select organization_id, 'pull', connection_id, id, $2, $3::text::json, 'pending',
            max_retries, traceparent
        from sync_orchestration where id = $1",
        run,
        number,
        spec,
    )
    .execute(connection)
    .await?;
    Ok(())
}
