//! Steps of a run's life that somebody asks for.

use sluice_core::{Error, ErrorClass, OrganizationId, Result, RunId, run::RunState};
use sluice_store::run::Run;
use sqlx::PgConnection;

use super::{check_room, lock_organization, log, read};
use crate::{
    error::{Failure, transaction},
    pool::Pool,
};

pub(crate) async fn change(
    pool: &Pool,
    organization: OrganizationId,
    id: RunId,
    to: RunState,
    note: &str,
) -> Result<Run> {
    transaction!(pool, connection => change_once(connection, organization, id, to, note).await)
}

async fn change_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: RunId,
    to: RunState,
    note: &str,
) -> Result<Run, Failure> {
    let unknown = || {
        Error::new(
            ErrorClass::NotFound,
            "run_unknown",
            format!("there is no run {id}"),
        )
    };
    lock_organization(connection, organization.0).await?;
    sqlx::query!(
        "select id from sync_orchestration where id = $1 for no key update",
        id.0,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let run = read::one(connection, organization, id)
        .await?
        .ok_or_else(unknown)?;
    if run.state == to {
        return Ok(run);
    }
    run.state.step(to)?;
    if run.state == RunState::Paused && to == RunState::Running {
        check_room(connection, organization.0).await?;
    }
    write_state(connection, id.0, to).await?;
    if run.state == RunState::Paused {
        unstage(connection, id.0).await?;
    }
    if to.is_final() {
        close_tasks(connection, id.0).await?;
    }
    log(connection, id.0, to.as_str(), note).await?;
    Ok(read::one(connection, organization, id)
        .await?
        .ok_or_else(unknown)?)
}

/// The first start and the end are kept.
pub(super) async fn write_state(
    connection: &mut PgConnection,
    id: i64,
    to: RunState,
) -> Result<(), Failure> {
    sqlx::query!(
        "update sync_orchestration
        set state = $2,
            started_date = case when $2 = 'running' then coalesce(started_date, clock_timestamp())
                else started_date end,
            finished_date = case when $3 then clock_timestamp() end
        where id = $1",
        id,
        to.as_str(),
        to.is_final(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Messages that came while the run was paused were used up in vain; a second one does no harm.
async fn unstage(connection: &mut PgConnection, id: i64) -> Result<(), Failure> {
    sqlx::query!(
        "with staged as materialized (
            select id from sync_queue where run_id = $1 and state = 'staged'
            order by id for no key update
        )
        update sync_queue q
        set state = 'pending', staged_date = null, modified_date = clock_timestamp()
        from staged where q.id = staged.id",
        id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What an ended run still owes is cancelled; a pull in flight loses its lease by it.
async fn close_tasks(connection: &mut PgConnection, id: i64) -> Result<(), Failure> {
    sqlx::query!(
        "with open as materialized (
            select id from sync_queue
            where run_id = $1 and state in ('pending', 'staged', 'running', 'waiting')
            order by id for no key update
        )
        update sync_queue q
        set state = 'cancelled', lease_owner = null, lease_until = null, next_retry_time = null,
            staged_date = null, modified_date = clock_timestamp()
        from open where q.id = open.id",
        id,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update sync_orchestration_steps
        set state = 'cancelled', finished_date = clock_timestamp()
        where run_id = $1 and state in ('pending', 'running')",
        id,
    )
    .execute(connection)
    .await?;
    Ok(())
}
