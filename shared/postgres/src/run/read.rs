//! Reading runs.

use sluice_core::{
    ConnectionId, OrganizationId, Result, RunId, Timestamp,
    run::{RunCounts, RunKind, RunState},
};
use sluice_store::run::{Activity, Run, RunDetail, RunQuery, RunStep, StepState};
use sqlx::PgConnection;

use crate::{
    convert::{count, word},
    error::{Failure, failed, transaction},
    pool::Pool,
};

/// Entries of the log that a detail shows, the newest ones.
const ACTIVITY: i64 = 1_000;

struct Row {
    id: i64,
    organization_id: i64,
    flow: String,
    connection_id: i64,
    kind: String,
    state: String,
    dry_run: bool,
    read_count: i64,
    stored_count: i64,
    created_count: i64,
    updated_count: i64,
    deleted_count: i64,
    unchanged_count: i64,
    stale_count: i64,
    conflict_count: i64,
    rejected_count: i64,
    skipped_count: i64,
    byte_count: i64,
    call_count: i64,
    requested_by: String,
    created_date: Timestamp,
    started_date: Option<Timestamp>,
    finished_date: Option<Timestamp>,
    error_message: Option<String>,
}

impl Row {
    fn into_run(self) -> Result<Run> {
        Ok(Run {
            id: RunId(self.id),
            organization_id: OrganizationId(self.organization_id),
            flow: self.flow,
            connection_id: ConnectionId(self.connection_id),
            kind: word(RunKind::parse(&self.kind))?,
            state: word(RunState::parse(&self.state))?,
            dry_run: self.dry_run,
            counts: RunCounts {
                read: count(self.read_count)?,
                stored: count(self.stored_count)?,
                created: count(self.created_count)?,
                updated: count(self.updated_count)?,
                deleted: count(self.deleted_count)?,
                unchanged: count(self.unchanged_count)?,
                stale: count(self.stale_count)?,
                conflicts: count(self.conflict_count)?,
                rejected: count(self.rejected_count)?,
                skipped: count(self.skipped_count)?,
                bytes: count(self.byte_count)?,
                calls: count(self.call_count)?,
            },
            requested_by: self.requested_by,
            created_at: self.created_date,
            started_at: self.started_date,
            finished_at: self.finished_date,
            error: self.error_message,
        })
    }
}

/// Newest first. Every condition is optional.
#[derive(Default)]
struct Selection<'a> {
    organization: Option<OrganizationId>,
    ids: Option<&'a [i64]>,
    flow: Option<&'a str>,
    state: Option<RunState>,
    below: Option<RunId>,
    limit: Option<i64>,
}

async fn select(
    connection: &mut PgConnection,
    selection: Selection<'_>,
) -> Result<Vec<Run>, Failure> {
    let rows = sqlx::query_as!(
        Row,
        "select id, organization_id, flow, connection_id, kind, state, dry_run, read_count,
            stored_count, created_count, updated_count, deleted_count, unchanged_count,
            stale_count, conflict_count, rejected_count, skipped_count, byte_count, call_count,
            requested_by, created_date, started_date, finished_date, error_message
        from sync_orchestration
        where ($1::bigint is null or organization_id = $1)
            and ($2::bigint[] is null or id = any($2::bigint[]))
            and ($3::text is null or flow = $3) and ($4::text is null or state = $4)
            and ($5::bigint is null or id < $5)
        order by id desc limit $6",
        selection.organization.map(|id| id.0),
        selection.ids,
        selection.flow,
        selection.state.map(RunState::as_str),
        selection.below.map(|id| id.0),
        selection.limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Row::into_run).collect::<Result<_>>()?)
}

/// Runs by id, of any organization.
pub(super) async fn by_ids(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<Vec<Run>, Failure> {
    let selection = Selection {
        ids: Some(ids),
        ..Selection::default()
    };
    select(connection, selection).await
}

/// One run of an organization.
pub(super) async fn one(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: RunId,
) -> Result<Option<Run>, Failure> {
    let selection = Selection {
        organization: Some(organization),
        ids: Some(&[id.0]),
        ..Selection::default()
    };
    Ok(select(connection, selection).await?.pop())
}

pub(crate) async fn list(pool: &Pool, query: &RunQuery) -> Result<Vec<Run>> {
    transaction!(pool, connection => {
        let selection = Selection {
            organization: Some(query.organization_id),
            ids: None,
            flow: query.flow.as_deref(),
            state: query.state,
            below: query.after,
            limit: Some(query.limit.into()),
        };
        select(connection, selection).await
    })
}

pub(crate) async fn detail(
    pool: &Pool,
    organization: OrganizationId,
    id: RunId,
) -> Result<Option<RunDetail>> {
    transaction!(pool, connection => detail_once(connection, organization, id).await)
}

async fn detail_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: RunId,
) -> Result<Option<RunDetail>, Failure> {
    let Some(run) = one(&mut *connection, organization, id).await? else {
        return Ok(None);
    };
    Ok(Some(RunDetail {
        run,
        steps: steps(&mut *connection, id).await?,
        activity: activity(connection, id).await?,
    }))
}

async fn steps(connection: &mut PgConnection, id: RunId) -> Result<Vec<RunStep>> {
    let rows = sqlx::query!(
        r#"select s.number, s.stream, s.state, s.started_date, s.finished_date,
            count(q.id) as "tasks!",
            count(q.id) filter (
                where q.state in ('completed', 'dead', 'cancelled', 'unknown')) as "closed!",
            count(q.id) filter (where q.state = 'dead') as "dead!"
        from sync_orchestration_steps s
        left join sync_queue q on q.run_id = s.run_id and q.step = s.number
        where s.run_id = $1 group by s.run_id, s.number order by s.number"#,
        id.0,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(RunStep {
                number: row.number,
                stream: row.stream,
                state: word(StepState::parse(&row.state))?,
                tasks: count(row.tasks)?,
                tasks_closed: count(row.closed)?,
                tasks_dead: count(row.dead)?,
                started_at: row.started_date,
                finished_at: row.finished_date,
            })
        })
        .collect()
}

/// Oldest first.
async fn activity(connection: &mut PgConnection, id: RunId) -> Result<Vec<Activity>> {
    let mut entries: Vec<Activity> = sqlx::query!(
        "select created_date, event, detail from sync_activity_log
        where run_id = $1 order by id desc limit $2",
        id.0,
        ACTIVITY,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| Activity {
        at: row.created_date,
        event: row.event,
        detail: row.detail,
    })
    .collect();
    entries.reverse();
    Ok(entries)
}
