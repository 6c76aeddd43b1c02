//! Steps of a run's life that somebody asks for.

use sluice_core::{Error, ErrorClass, OrganizationId, Result, RunId, run::RunState};
use sluice_store::run::Run;
use sqlx::SqliteConnection;

use super::{check_room, log, read};
use crate::sql::{EmbeddedSql, convert::now, failed};

pub(crate) async fn change(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: RunId,
    to: RunState,
    note: &str,
) -> Result<Run> {
    let mut tx = sql.begin().await?;
    let unknown = || {
        Error::new(
            ErrorClass::NotFound,
            "run_unknown",
            format!("there is no run {id}"),
        )
    };
    let run = read::one(&mut tx, organization, id)
        .await?
        .ok_or_else(unknown)?;
    if run.state == to {
        return Ok(run);
    }
    run.state.step(to)?;
    if run.state == RunState::Paused && to == RunState::Running {
        check_room(&mut tx, organization.0).await?;
    }
    write_state(&mut tx, id.0, to).await?;
    if run.state == RunState::Paused {
        unstage(&mut tx, id.0).await?;
    }
    if to.is_final() {
        close_tasks(&mut tx, id.0).await?;
    }
    log(&mut tx, id.0, to.as_str(), note).await?;
    let run = read::one(&mut tx, organization, id)
        .await?
        .ok_or_else(unknown)?;
    tx.commit().await.map_err(failed)?;
    Ok(run)
}

/// The first start and the end are kept.
pub(super) async fn write_state(
    connection: &mut SqliteConnection,
    id: i64,
    to: RunState,
) -> Result<()> {
    let (state, ended, now) = (to.as_str(), to.is_final(), now());
    sqlx::query!(
        "update sync_orchestration set state = ?2,
            started_date = coalesce(started_date, iif(?2 = 'running', ?4, null)),
            finished_date = iif(?3, ?4, null)
        where id = ?1",
        id,
        state,
        ended,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Messages that came while the run was paused were used up in vain; a second one does no harm.
async fn unstage(connection: &mut SqliteConnection, id: i64) -> Result<()> {
    let now = now();
    sqlx::query!(
        "update sync_queue set state = 'pending', staged_date = null, modified_date = ?2
        where run_id = ?1 and state = 'staged'",
        id,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// What an ended run still owes is cancelled; a pull in flight loses its lease by it.
async fn close_tasks(connection: &mut SqliteConnection, id: i64) -> Result<()> {
    let now = now();
    sqlx::query!(
        "update sync_queue set state = 'cancelled', lease_owner = null, lease_until = null,
            next_retry_time = null, staged_date = null, modified_date = ?2
        where run_id = ?1 and state in ('pending', 'staged', 'running', 'waiting')",
        id,
        now,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update sync_orchestration_steps set state = 'cancelled', finished_date = ?2
        where run_id = ?1 and state in ('pending', 'running')",
        id,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
