//! Advancing runs: steps follow one another by themselves.

use std::collections::BTreeSet;

use sluice_core::{
    Result,
    run::{Ending, RunState, ending},
};
use sluice_store::run::{Run, StepState};
use sqlx::PgConnection;

use super::{change::write_state, log, open_step, read};
use crate::{
    convert::count,
    error::{Failure, failed, transaction},
    pool::Pool,
};

/// Looks first without locks, because mostly there is nothing to do.
pub(crate) async fn advance(pool: &Pool) -> Result<Vec<Run>> {
    let ready = ready(pool).await.map_err(failed)?;
    if ready.is_empty() {
        return Ok(Vec::new());
    }
    transaction!(pool, connection => advance_once(connection, &ready).await)
}

/// Runs that are queued, or have a running step without an open task.
async fn ready(pool: &Pool) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        "select r.id from sync_orchestration r
        where r.state = 'queued'
            or (r.state = 'running' and exists (
                select from sync_orchestration_steps s
                where s.run_id = r.id and s.state = 'running' and not exists (
                    select from sync_queue q where q.run_id = s.run_id and q.step = s.number
                        and q.state in ('pending', 'staged', 'running', 'waiting'))))
        order by r.id"
    )
    .fetch_all(pool)
    .await
}

/// Locks them, leaving out those that another orchestrator advances, and looks again.
async fn advance_once(connection: &mut PgConnection, ready: &[i64]) -> Result<Vec<Run>, Failure> {
    let locked = sqlx::query!(
        "select id, state from sync_orchestration
        where id = any($1::bigint[]) and state in ('queued', 'running')
        order by id for no key update skip locked",
        ready,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut changed = BTreeSet::new();
    for run in locked.iter().filter(|run| run.state == "queued") {
        write_state(connection, run.id, RunState::Running).await?;
        write_step(connection, run.id, 1, StepState::Running).await?;
        log(connection, run.id, "running", "started").await?;
        changed.insert(run.id);
    }
    let locked: Vec<i64> = locked.into_iter().map(|run| run.id).collect();
    for step in closed_steps(connection, &locked).await? {
        close(connection, &step).await?;
        changed.insert(step.run_id);
    }
    let changed: Vec<i64> = changed.into_iter().collect();
    read::by_ids(connection, &changed).await
}

/// A running step of a running run, of whose tasks none is open.
struct ClosedStep {
    run_id: i64,
    number: i32,
    stream: String,
    failed: i64,
}

async fn closed_steps(
    connection: &mut PgConnection,
    runs: &[i64],
) -> Result<Vec<ClosedStep>, Failure> {
    Ok(sqlx::query_as!(
        ClosedStep,
        r#"select s.run_id, s.number, s.stream,
            count(q.id) filter (where q.state in ('dead', 'cancelled', 'unknown')) as "failed!"
        from sync_orchestration r
        join sync_orchestration_steps s on s.run_id = r.id and s.state = 'running'
        left join sync_queue q on q.run_id = s.run_id and q.step = s.number
        where r.id = any($1::bigint[]) and r.state = 'running'
        group by s.run_id, s.number
        having count(q.id) filter (
            where q.state in ('pending', 'staged', 'running', 'waiting')) = 0
        order by s.run_id"#,
        runs,
    )
    .fetch_all(connection)
    .await?)
}

/// Closes a step and opens the next one, or ends the run. A failed step does not stop those after
/// it: what depends on it waits at the targets.
async fn close(connection: &mut PgConnection, step: &ClosedStep) -> Result<(), Failure> {
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

async fn end(connection: &mut PgConnection, run: i64) -> Result<(), Failure> {
    let failed_pulls = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sync_queue
        where run_id = $1 and state in ('dead', 'cancelled', 'unknown')"#,
        run,
    )
    .fetch_one(&mut *connection)
    .await?;
    let Some(now) = read::by_ids(connection, &[run]).await?.pop() else {
        return Ok(());
    };
    let Ending { state, error } = ending(now.kind, &now.counts, count(failed_pulls)?);
    write_state(connection, run, state).await?;
    sqlx::query!(
        "update sync_orchestration
        set error_message = coalesce($2, (
            select q.error_message from sync_queue q
            where q.run_id = $1 and q.state = 'dead' order by q.modified_date desc limit 1))
        where id = $1",
        run,
        error,
    )
    .execute(&mut *connection)
    .await?;
    log(connection, run, state.as_str(), "all steps are closed").await
}

/// `false` when the run has no such step.
async fn write_step(
    connection: &mut PgConnection,
    run: i64,
    number: i32,
    to: StepState,
) -> Result<bool, Failure> {
    let done = sqlx::query!(
        "update sync_orchestration_steps
        set state = $3, started_date = coalesce(started_date, clock_timestamp()),
            finished_date = case when $3 <> 'running' then clock_timestamp() end
        where run_id = $1 and number = $2",
        run,
        number,
        to.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
