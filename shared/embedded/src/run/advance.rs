//! Advancing runs: steps follow one another by themselves.

use sluice_core::{
    Result,
    run::{Ending, RunState, ending},
};
use sluice_store::run::{Run, StepState};
use sqlx::SqliteConnection;

use super::{change::write_state, log, open_step, read};
use crate::sql::{
    EmbeddedSql,
    convert::{now, number},
    failed,
};

/// Looks first without the write lock, because mostly there is nothing to do.
pub(crate) async fn advance(sql: &EmbeddedSql) -> Result<Vec<Run>> {
    let mut reader = sql.read().acquire().await.map_err(failed)?;
    let idle = queued(&mut reader).await?.is_empty() && closed_steps(&mut reader).await?.is_empty();
    drop(reader);
    if idle {
        return Ok(Vec::new());
    }
    let mut tx = sql.begin().await?;
    let mut changed = Vec::new();
    for run in queued(&mut tx).await? {
        write_state(&mut tx, run, RunState::Running).await?;
        write_step(&mut tx, run, 1, StepState::Running).await?;
        log(&mut tx, run, "running", "started").await?;
        changed.push(run);
    }
    for step in closed_steps(&mut tx).await? {
        close(&mut tx, &step).await?;
        changed.push(step.run_id);
    }
    let runs = read::by_ids(&mut tx, &changed).await?;
    tx.commit().await.map_err(failed)?;
    Ok(runs)
}

async fn queued(connection: &mut SqliteConnection) -> Result<Vec<i64>> {
    let rows = sqlx::query!(
        r#"select id as "id!: i64" from sync_orchestration
        where state in ('queued', 'running', 'paused') and state = 'queued' order by id"#
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// A running step of a running run, of whose tasks none is open.
struct ClosedStep {
    run_id: i64,
    number: i64,
    stream: String,
    failed: i64,
}

async fn closed_steps(connection: &mut SqliteConnection) -> Result<Vec<ClosedStep>> {
    sqlx::query_as!(
        ClosedStep,
        r#"select s.run_id as "run_id!: i64", s.number as "number!: i64",
            s.stream as "stream!: String",
            (select count(*) from sync_queue q where q.run_id = s.run_id and q.step = s.number
                and q.state in ('dead', 'cancelled', 'unknown')) as "failed!: i64"
        from sync_orchestration r
        cross join sync_orchestration_steps s on s.run_id = r.id and s.state = 'running'
        where r.state in ('queued', 'running', 'paused') and r.state = 'running' and not exists (
            select 1 from sync_queue q where q.run_id = s.run_id and q.step = s.number
                and q.state in ('pending', 'staged', 'running', 'waiting'))
        order by s.run_id"#
    )
    .fetch_all(connection)
    .await
    .map_err(failed)
}

/// Closes a step and opens the next one, or ends the run. A failed step does not stop those after
/// it: what depends on it waits at the targets.
async fn close(connection: &mut SqliteConnection, step: &ClosedStep) -> Result<()> {
    let state = if step.failed == 0 {
        StepState::Done
    } else {
        StepState::Failed
    };
    write_step(connection, step.run_id, step.number, state).await?;
    let detail = format!(
        "step {} ({}) is {}",
        step.number,
        step.stream,
        state.as_str()
    );
    log(connection, step.run_id, "step_closed", &detail).await?;
    let next = step.number + 1;
    if write_step(connection, step.run_id, next, StepState::Running).await? {
        return open_step(connection, step.run_id, next).await;
    }
    end(connection, step.run_id).await
}

async fn end(connection: &mut SqliteConnection, run: i64) -> Result<()> {
    let failed_pulls = sqlx::query!(
        r#"select count(*) as "count!: i64" from sync_queue
        where run_id = ?1 and state in ('dead', 'cancelled', 'unknown')"#,
        run,
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?
    .count;
    let Some(now) = read::by_ids(connection, &[run]).await?.pop() else {
        return Ok(());
    };
    let Ending { state, error } = ending(now.kind, &now.counts, number(failed_pulls)?);
    write_state(connection, run, state).await?;
    sqlx::query!(
        "update sync_orchestration set error_message = coalesce(?2, (
            select q.error_message from sync_queue q
            where q.run_id = ?1 and q.state = 'dead' order by q.modified_date desc limit 1))
        where id = ?1",
        run,
        error,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    log(connection, run, state.as_str(), "all steps are closed").await
}

/// `false` when the run has no such step.
async fn write_step(
    connection: &mut SqliteConnection,
    run: i64,
    number: i64,
    to: StepState,
) -> Result<bool> {
    let (state, now) = (to.as_str(), now());
    let done = sqlx::query!(
        "update sync_orchestration_steps set state = ?3,
            started_date = coalesce(started_date, ?4),
            finished_date = iif(?3 = 'running', null, ?4)
        where run_id = ?1 and number = ?2",
        run,
        number,
        state,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected() > 0)
}
