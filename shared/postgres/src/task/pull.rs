//! Pulls: claiming, checkpoints, settling.

use std::collections::HashMap;

use serde_json::Value;
use sluice_core::{
    ConnectionId, OrganizationId, Result, RunId, TaskId,
    run::{RunCounts, RunKind, RunState},
    task::{AttemptOutcome, TaskState},
};
use sluice_store::{
    outcome::limited,
    task::{
        Checkpoint, Claim, Claimed, Lease, PullNext, PullSettlement, PullSpec, PullTask,
        StreamState,
    },
};
use sqlx::PgConnection;

use super::{
    attempts::{self, NewAttempt},
    claim::suspects,
};
use crate::{
    convert::{big, count, duration, from_json, seconds, to_json, word},
    error::{Failure, transaction},
    pool::Pool,
};

pub(crate) async fn claim(pool: &Pool, claim: &Claim) -> Result<Claimed<PullTask>> {
    transaction!(pool, connection => claim_once(connection, claim).await)
}

async fn claim_once(
    connection: &mut PgConnection,
    claim: &Claim,
) -> Result<Claimed<PullTask>, Failure> {
    let ids: Vec<i64> = claim.ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"with free as materialized (
            select q.id, r.kind, r.flow, (q.state = 'running')::int as crashes
            from sync_queue q join sync_orchestration r on r.id = q.run_id
            where q.id = any($1::bigint[]) and q.kind = 'pull' and r.state = 'running'
                and ((q.state in ('pending', 'staged') and (q.crash_count = 0 or $4))
                    or (q.state = 'running' and q.lease_until < clock_timestamp()
                        and q.crash_count = 0 and $4))
            order by q.id for no key update of q
        )
        update sync_queue q
        set state = 'running', lease_owner = $2, lease_epoch = lease_epoch + 1,
            lease_until = clock_timestamp() + make_interval(secs => $3::float8),
            crash_count = crash_count + f.crashes,
            staged_date = null, modified_date = clock_timestamp()
        from free f where q.id = f.id
        returning q.id, q.lease_epoch, q.organization_id, q.connection_id,
            q.run_id as "run_id!", f.kind as "run_kind!", f.flow as "flow!",
            q.spec as "spec!: Value", q.progress as "progress: Value", q.retry_count,
            q.max_retries, q.traceparent,
            extract(epoch from clock_timestamp() - q.limited_date)::float8 as limited_for"#,
        &ids,
        claim.owner,
        seconds(claim.lease),
        claim.suspects,
    )
    .fetch_all(&mut *connection)
    .await?;
    let suspects = if rows.len() < ids.len() && !claim.suspects {
        suspects(connection, &ids, "pull").await?
    } else {
        Vec::new()
    };
    let mut tasks = rows
        .into_iter()
        .map(|row| {
            let task = PullTask {
                lease: Lease {
                    task_id: TaskId(row.id),
                    epoch: row.lease_epoch,
                },
                organization_id: OrganizationId(row.organization_id),
                connection_id: ConnectionId(row.connection_id),
                run_id: RunId(row.run_id),
                run_kind: word(RunKind::parse(&row.run_kind))?,
                flow: row.flow,
                spec: from_json(row.spec)?,
                progress: row.progress,
                retry_count: count(row.retry_count)?,
                max_retries: count(row.max_retries)?,
                limited_for: duration(row.limited_for),
                traceparent: row.traceparent,
            };
            Ok((task.lease.task_id, task))
        })
        .collect::<Result<HashMap<_, _>>>()?;
    Ok(Claimed {
        tasks: claim.ids.iter().filter_map(|id| tasks.remove(id)).collect(),
        suspects,
    })
}

/// A task whose lease is held.
struct Held {
    run_id: i64,
    connection_id: i64,
    run_state: String,
    dry_run: bool,
}

impl Held {
    fn running(&self) -> bool {
        self.run_state == RunState::Running.as_str()
    }
}

/// Locks the run, then the task: the order in which runs are changed.
async fn hold(connection: &mut PgConnection, lease: Lease) -> Result<Option<Held>, Failure> {
    let run = sqlx::query!(
        "select id, state, dry_run from sync_orchestration
        where id = (select run_id from sync_queue where id = $1 and kind = 'pull')
        for no key update",
        lease.task_id.0,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(run) = run else { return Ok(None) };
    let task = sqlx::query!(
        "select connection_id from sync_queue
        where id = $1 and lease_epoch = $2 and state = 'running' for no key update",
        lease.task_id.0,
        lease.epoch,
    )
    .fetch_optional(connection)
    .await?;
    Ok(task.map(|task| Held {
        run_id: run.id,
        connection_id: task.connection_id,
        run_state: run.state,
        dry_run: run.dry_run,
    }))
}

pub(crate) async fn checkpoint(pool: &Pool, checkpoint: &Checkpoint) -> Result<bool> {
    transaction!(pool, connection => checkpoint_once(connection, checkpoint).await)
}

async fn checkpoint_once(
    connection: &mut PgConnection,
    checkpoint: &Checkpoint,
) -> Result<bool, Failure> {
    let Some(held) = hold(connection, checkpoint.lease).await? else {
        return Ok(false);
    };
    sqlx::query!(
        "update sync_queue
        set progress = $2::text::json, crash_count = 0, limited_date = null,
            modified_date = clock_timestamp(),
            lease_until = clock_timestamp() + make_interval(secs => $3::float8)
        where id = $1",
        checkpoint.lease.task_id.0,
        to_json(&checkpoint.progress)?,
        seconds(checkpoint.lease_for),
    )
    .execute(&mut *connection)
    .await?;
    add_counts(connection, held.run_id, &checkpoint.counts).await?;
    save_state(connection, &held, checkpoint.state.as_ref()).await?;
    Ok(held.running())
}

pub(crate) async fn settle(pool: &Pool, settlement: &PullSettlement) -> Result<bool> {
    transaction!(pool, connection => settle_once(connection, settlement).await)
}

async fn settle_once(
    connection: &mut PgConnection,
    settlement: &PullSettlement,
) -> Result<bool, Failure> {
    let PullSettlement {
        lease,
        attempt,
        next,
    } = settlement;
    let Some(held) = hold(connection, *lease).await? else {
        return Ok(false);
    };
    let (state, outcome, wait, used) = match next {
        PullNext::Done { .. } => (TaskState::Completed, AttemptOutcome::Completed, None, 0),
        PullNext::Retry { after } => (TaskState::Waiting, AttemptOutcome::RetryAt, Some(*after), 1),
        PullNext::Snooze { after } => {
            (TaskState::Waiting, AttemptOutcome::Snoozed, Some(*after), 0)
        }
        PullNext::Dead => (TaskState::Dead, AttemptOutcome::Dead, None, 0),
        PullNext::Cancelled => (TaskState::Cancelled, AttemptOutcome::Cancelled, None, 0),
    };
    let error = attempt.error.as_ref();
    sqlx::query!(
        "update sync_queue
        set state = $2, retry_count = retry_count + $3,
            next_retry_time = clock_timestamp() + make_interval(secs => $4::float8),
            error_class = $5, error_code = $6, error_message = $7,
            limited_date = case when $8::bool is null then limited_date
                when $8 then coalesce(limited_date, clock_timestamp()) end,
            lease_owner = null,
            lease_until = null, modified_date = clock_timestamp()
        where id = $1",
        lease.task_id.0,
        state.as_str(),
        used,
        wait.map(seconds),
        error.map(|error| error.class.as_str()),
        error.map(|error| error.code.as_str()),
        error.map(|error| error.message.as_str()),
        limited(error),
    )
    .execute(&mut *connection)
    .await?;
    let row = NewAttempt {
        task_id: lease.task_id,
        version: None,
        outcome,
        action: None,
        attempt,
    };
    attempts::write(connection, &[row]).await?;
    if let PullNext::Done {
        state,
        counts,
        spawn: specs,
    } = next
    {
        add_counts(connection, held.run_id, counts).await?;
        save_state(connection, &held, state.as_ref()).await?;
        spawn(connection, lease.task_id, specs).await?;
    }
    Ok(true)
}

async fn add_counts(
    connection: &mut PgConnection,
    run: i64,
    counts: &RunCounts,
) -> Result<(), Failure> {
    if *counts == RunCounts::default() {
        return Ok(());
    }
    sqlx::query!(
        "update sync_orchestration
        set read_count = read_count + $2, stored_count = stored_count + $3,
            created_count = created_count + $4, updated_count = updated_count + $5,
            deleted_count = deleted_count + $6, unchanged_count = unchanged_count + $7,
            stale_count = stale_count + $8, conflict_count = conflict_count + $9,
            rejected_count = rejected_count + $10, skipped_count = skipped_count + $11,
            byte_count = byte_count + $12, call_count = call_count + $13
        where id = $1",
        run,
        big(counts.read),
        big(counts.stored),
        big(counts.created),
        big(counts.updated),
        big(counts.deleted),
        big(counts.unchanged),
        big(counts.stale),
        big(counts.conflicts),
        big(counts.rejected),
        big(counts.skipped),
        big(counts.bytes),
        big(counts.calls),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A dry run moves no cursor (promise C3).
async fn save_state(
    connection: &mut PgConnection,
    held: &Held,
    state: Option<&StreamState>,
) -> Result<(), Failure> {
    let Some(state) = state.filter(|_| !held.dry_run) else {
        return Ok(());
    };
    sqlx::query!(
        "insert into sync_state (connection_id, stream, partition, state)
        values ($1, $2, $3, $4::text::json)
        on conflict (connection_id, stream, partition) do update
        set state = excluded.state, modified_date = clock_timestamp()",
        held.connection_id,
        state.stream,
        state.partition,
        to_json(&state.state)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Further pulls beside the one that found them.
async fn spawn(
    connection: &mut PgConnection,
    parent: TaskId,
    specs: &[PullSpec],
) -> Result<(), Failure> {
    if specs.is_empty() {
        return Ok(());
    }
    let specs = specs.iter().map(to_json).collect::<Result<Vec<_>>>()?;
    sqlx::query!(
        "insert into sync_queue (organization_id, kind, connection_id, run_id, step, spec,
            priority, state, max_retries, traceparent)
        select q.organization_id, 'pull', q.connection_id, q.run_id, q.step, k.spec::json,
            q.priority, 'pending', q.max_retries, q.traceparent
        from sync_queue q
        cross join unnest($2::text[]) with ordinality k (spec, place)
        where q.id = $1
        order by k.place",
        parent.0,
        &specs,
    )
    .execute(connection)
    .await?;
    Ok(())
}
