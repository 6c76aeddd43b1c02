//! Pulls: claiming, checkpoints, settling.

use serde_json::json;
use sluice_core::{
    ConnectionId, OrganizationId, Result, RunId, TaskId,
    run::{RunCounts, RunKind},
    task::{AttemptOutcome, TaskState},
};
use sluice_store::{
    outcome::limited,
    task::{
        Checkpoint, Claim, Claimed, Lease, PullNext, PullSettlement, PullSpec, PullTask,
        StreamState,
    },
};
use sqlx::SqliteConnection;

use super::{attempts, claim::suspects};
use crate::sql::{
    EmbeddedSql,
    convert::{from_json, micros, now, number, since, to_json, word},
    failed,
};

pub(super) async fn claim(sql: &EmbeddedSql, claim: &Claim) -> Result<Claimed<PullTask>> {
    let ids = to_json(&claim.ids)?;
    let now = now();
    let until = now.saturating_add(micros(claim.lease));
    let mut tx = sql.begin().await?;
    let leased = sqlx::query!(
        r#"update sync_queue set state = 'running', lease_owner = ?2,
            crash_count = crash_count + (state = 'running'),
            lease_epoch = lease_epoch + 1, lease_until = ?3, staged_date = null, modified_date = ?4
        where kind = 'pull' and id in (select value from json_each(?1))
            and ((state in ('pending', 'staged') and (crash_count = 0 or ?5))
                or (state = 'running' and lease_until < ?4 and crash_count = 0 and ?5))
            and exists (select 1 from sync_orchestration r
                where r.id = sync_queue.run_id and r.state = 'running')
        returning id as "id!: i64""#,
        ids,
        claim.owner,
        until,
        now,
        claim.suspects,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let suspects = if leased.len() < claim.ids.len() && !claim.suspects {
        suspects(&mut tx, &ids, "pull", now).await?
    } else {
        Vec::new()
    };
    let ids: Vec<i64> = leased.iter().map(|row| row.id).collect();
    let tasks = load(&mut tx, &ids).await?;
    tx.commit().await.map_err(failed)?;
    Ok(Claimed { tasks, suspects })
}

async fn load(connection: &mut SqliteConnection, ids: &[i64]) -> Result<Vec<PullTask>> {
    let ids = to_json(ids)?;
    sqlx::query!(
        r#"select q.id as "id!: i64", q.lease_epoch as "epoch!: i64",
            q.organization_id as "organization_id!: i64", q.connection_id as "connection_id!: i64",
            r.id as "run_id!: i64", r.kind as "run_kind!: String", r.flow as "flow!: String",
            q.spec as "spec!: String", q.progress as "progress?: String",
            q.retry_count as "retry_count!: i64", q.max_retries as "max_retries!: i64",
            q.limited_date as "limited?: i64", q.traceparent as "traceparent?: String"
        from sync_queue q join sync_orchestration r on r.id = q.run_id
        where q.id in (select value from json_each(?1)) order by q.priority, q.id"#,
        ids,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(PullTask {
            lease: Lease {
                task_id: TaskId(row.id),
                epoch: row.epoch,
            },
            organization_id: OrganizationId(row.organization_id),
            connection_id: ConnectionId(row.connection_id),
            run_id: RunId(row.run_id),
            run_kind: word(RunKind::parse(&row.run_kind))?,
            flow: row.flow,
            spec: from_json(&row.spec)?,
            progress: row.progress.as_deref().map(from_json).transpose()?,
            retry_count: number(row.retry_count)?,
            max_retries: number(row.max_retries)?,
            limited_for: since(row.limited),
            traceparent: row.traceparent,
        })
    })
    .collect()
}

/// A task whose lease is held.
struct Held {
    run_id: i64,
    connection_id: i64,
    /// The run is running, so going on is allowed.
    running: bool,
    dry_run: bool,
    retry_count: i64,
}

async fn held(connection: &mut SqliteConnection, lease: Lease) -> Result<Option<Held>> {
    sqlx::query_as!(
        Held,
        r#"select q.run_id as "run_id!: i64", q.connection_id as "connection_id!: i64",
            r.state = 'running' as "running!: bool", r.dry_run as "dry_run!: bool",
            q.retry_count as "retry_count!: i64"
        from sync_queue q join sync_orchestration r on r.id = q.run_id
        where q.id = ?1 and q.lease_epoch = ?2 and q.state = 'running'"#,
        lease.task_id.0,
        lease.epoch,
    )
    .fetch_optional(connection)
    .await
    .map_err(failed)
}

pub(super) async fn checkpoint(sql: &EmbeddedSql, checkpoint: &Checkpoint) -> Result<bool> {
    let mut tx = sql.begin().await?;
    let Some(held) = held(&mut tx, checkpoint.lease).await? else {
        return Ok(false);
    };
    let (progress, now) = (to_json(&checkpoint.progress)?, now());
    let until = now.saturating_add(micros(checkpoint.lease_for));
    sqlx::query!(
        "update sync_queue set progress = ?2, lease_until = ?3, crash_count = 0,
            limited_date = null, modified_date = ?4
        where id = ?1",
        checkpoint.lease.task_id.0,
        progress,
        until,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    add_counts(&mut tx, held.run_id, &checkpoint.counts).await?;
    save_state(&mut tx, &held, checkpoint.state.as_ref()).await?;
    tx.commit().await.map_err(failed)?;
    Ok(held.running)
}

pub(super) async fn settle(sql: &EmbeddedSql, settlement: &PullSettlement) -> Result<bool> {
    let PullSettlement {
        lease,
        attempt,
        next,
    } = settlement;
    let mut tx = sql.begin().await?;
    let Some(held) = held(&mut tx, *lease).await? else {
        return Ok(false);
    };
    let now = now();
    let (state, outcome, due, retries) = match next {
        PullNext::Done { .. } => (TaskState::Completed, AttemptOutcome::Completed, None, 0),
        PullNext::Retry { after } => (
            TaskState::Waiting,
            AttemptOutcome::RetryAt,
            Some(now.saturating_add(micros(*after))),
            1,
        ),
        PullNext::Snooze { after } => (
            TaskState::Waiting,
            AttemptOutcome::Snoozed,
            Some(now.saturating_add(micros(*after))),
            0,
        ),
        PullNext::Dead => (TaskState::Dead, AttemptOutcome::Dead, None, 0),
        PullNext::Cancelled => (TaskState::Cancelled, AttemptOutcome::Cancelled, None, 0),
    };
    let error = attempt.error.as_ref();
    let (state, retries) = (state.as_str(), held.retry_count + retries);
    let class = error.map(|error| error.class.as_str());
    let code = error.map(|error| &error.code);
    let message = error.map(|error| &error.message);
    let limited = limited(error);
    sqlx::query!(
        "update sync_queue set state = ?2, retry_count = ?3, next_retry_time = ?4,
            error_class = ?5, error_code = ?6, error_message = ?7,
            limited_date = case when ?9 is null then limited_date
                when ?9 then coalesce(limited_date, ?8) end, lease_owner = null,
            lease_until = null, modified_date = ?8
        where id = ?1",
        lease.task_id.0,
        state,
        retries,
        due,
        class,
        code,
        message,
        now,
        limited,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let row = attempts::row(lease.task_id, None, attempt, outcome, None);
    attempts::write(&mut tx, &[row]).await?;
    if let PullNext::Done {
        state,
        counts,
        spawn: specs,
    } = next
    {
        add_counts(&mut tx, held.run_id, counts).await?;
        save_state(&mut tx, &held, state.as_ref()).await?;
        spawn(&mut tx, lease.task_id, specs).await?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(true)
}

async fn add_counts(connection: &mut SqliteConnection, run: i64, counts: &RunCounts) -> Result<()> {
    if *counts == RunCounts::default() {
        return Ok(());
    }
    let counts = to_json(counts)?;
    sqlx::query!(
        "update sync_orchestration set
            read_count = read_count + (?2 ->> 'read'),
            stored_count = stored_count + (?2 ->> 'stored'),
            created_count = created_count + (?2 ->> 'created'),
            updated_count = updated_count + (?2 ->> 'updated'),
            deleted_count = deleted_count + (?2 ->> 'deleted'),
            unchanged_count = unchanged_count + (?2 ->> 'unchanged'),
            stale_count = stale_count + (?2 ->> 'stale'),
            conflict_count = conflict_count + (?2 ->> 'conflicts'),
            rejected_count = rejected_count + (?2 ->> 'rejected'),
            skipped_count = skipped_count + (?2 ->> 'skipped'),
            byte_count = byte_count + (?2 ->> 'bytes'),
            call_count = call_count + (?2 ->> 'calls')
        where id = ?1",
        run,
        counts,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// A dry run moves no cursor (promise C3).
async fn save_state(
    connection: &mut SqliteConnection,
    held: &Held,
    state: Option<&StreamState>,
) -> Result<()> {
    let Some(state) = state.filter(|_| !held.dry_run) else {
        return Ok(());
    };
    let (text, now) = (to_json(&state.state)?, now());
    sqlx::query!(
        "insert into sync_state (connection_id, stream, partition, state, modified_date)
        values (?1, ?2, ?3, ?4, ?5)
        on conflict (connection_id, stream, partition) do update set
            state = excluded.state, modified_date = excluded.modified_date",
        held.connection_id,
        state.stream,
        state.partition,
        text,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Further pulls beside the one that found them.
async fn spawn(
    connection: &mut SqliteConnection,
    parent: TaskId,
    specs: &[PullSpec],
) -> Result<()> {
    if specs.is_empty() {
        return Ok(());
    }
    let rows = specs.iter().map(to_json).collect::<Result<Vec<_>>>()?;
    let (rows, now) = (to_json(&json!(rows))?, now());
    sqlx::query!(
        "insert into sync_queue (organization_id, kind, connection_id, run_id, step, spec,
            priority, state, max_retries, traceparent, created_date, modified_date)
        select q.organization_id, 'pull', q.connection_id, q.run_id, q.step, j.value, q.priority,
            'pending', q.max_retries, q.traceparent, ?3, ?3
        from json_each(?2) j cross join sync_queue q on q.id = ?1
        order by j.key",
        parent.0,
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
