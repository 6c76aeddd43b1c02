//! Reading runs.

use sluice_core::{
    ConnectionId, OrganizationId, Result, RunId,
    run::{RunCounts, RunKind, RunState},
};
use sluice_store::run::{Activity, Run, RunDetail, RunQuery, RunStep, StepState};
use sqlx::SqliteConnection;

use crate::sql::{
    EmbeddedSql,
    convert::{number, time, time_option, to_json, word},
    failed,
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
    read: i64,
    stored: i64,
    created: i64,
    updated: i64,
    deleted: i64,
    unchanged: i64,
    stale: i64,
    conflicts: i64,
    rejected: i64,
    skipped: i64,
    bytes: i64,
    calls: i64,
    requested_by: String,
    created_date: i64,
    started_date: Option<i64>,
    finished_date: Option<i64>,
    error: Option<String>,
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
                read: number(self.read)?,
                stored: number(self.stored)?,
                created: number(self.created)?,
                updated: number(self.updated)?,
                deleted: number(self.deleted)?,
                unchanged: number(self.unchanged)?,
                stale: number(self.stale)?,
                conflicts: number(self.conflicts)?,
                rejected: number(self.rejected)?,
                skipped: number(self.skipped)?,
                bytes: number(self.bytes)?,
                calls: number(self.calls)?,
            },
            requested_by: self.requested_by,
            created_at: time(self.created_date)?,
            started_at: time_option(self.started_date)?,
            finished_at: time_option(self.finished_date)?,
            error: self.error,
        })
    }
}

/// Newest first. Every condition is optional; no ids means any.
struct Selection<'a> {
    organization: Option<i64>,
    ids: Option<&'a [i64]>,
    flow: Option<&'a str>,
    state: Option<&'a str>,
    below: Option<i64>,
    limit: i64,
}

async fn select(connection: &mut SqliteConnection, selection: Selection<'_>) -> Result<Vec<Run>> {
    let ids = selection.ids.map(to_json).transpose()?;
    sqlx::query_as!(
        Row,
        r#"select id as "id!: i64", organization_id as "organization_id!: i64",
            flow as "flow!: String", connection_id as "connection_id!: i64",
            kind as "kind!: String", state as "state!: String", dry_run as "dry_run!: bool",
            read_count as "read!: i64", stored_count as "stored!: i64",
            created_count as "created!: i64", updated_count as "updated!: i64",
            deleted_count as "deleted!: i64", unchanged_count as "unchanged!: i64",
            stale_count as "stale!: i64", conflict_count as "conflicts!: i64",
            rejected_count as "rejected!: i64", skipped_count as "skipped!: i64",
            byte_count as "bytes!: i64", call_count as "calls!: i64",
            requested_by as "requested_by!: String", created_date as "created_date!: i64",
            started_date as "started_date?: i64", finished_date as "finished_date?: i64",
            error_message as "error?: String"
        from sync_orchestration
        where (?1 is null or organization_id = ?1)
            and (?2 is null or id in (select value from json_each(?2)))
            and (?3 is null or flow = ?3) and (?4 is null or state = ?4)
            and (?5 is null or id < ?5)
        order by id desc limit ?6"#,
        selection.organization,
        ids,
        selection.flow,
        selection.state,
        selection.below,
        selection.limit,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(Row::into_run)
    .collect()
}

/// Runs by id, of any organization.
pub(super) async fn by_ids(connection: &mut SqliteConnection, ids: &[i64]) -> Result<Vec<Run>> {
    let selection = Selection {
        organization: None,
        ids: Some(ids),
        flow: None,
        state: None,
        below: None,
        limit: -1,
    };
    select(connection, selection).await
}

/// One run of an organization.
pub(super) async fn one(
    connection: &mut SqliteConnection,
    organization: OrganizationId,
    id: RunId,
) -> Result<Option<Run>> {
    let selection = Selection {
        organization: Some(organization.0),
        ids: Some(&[id.0]),
        flow: None,
        state: None,
        below: None,
        limit: 1,
    };
    Ok(select(connection, selection).await?.pop())
}

pub(crate) async fn list(sql: &EmbeddedSql, query: &RunQuery) -> Result<Vec<Run>> {
    let mut connection = sql.read().acquire().await.map_err(failed)?;
    let selection = Selection {
        organization: Some(query.organization_id.0),
        ids: None,
        flow: query.flow.as_deref(),
        state: query.state.map(RunState::as_str),
        below: query.after.map(|id| id.0),
        limit: query.limit.into(),
    };
    select(&mut connection, selection).await
}

pub(crate) async fn detail(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: RunId,
) -> Result<Option<RunDetail>> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let Some(run) = one(&mut tx, organization, id).await? else {
        return Ok(None);
    };
    Ok(Some(RunDetail {
        run,
        steps: steps(&mut tx, id).await?,
        activity: activity(&mut tx, id).await?,
    }))
}

async fn steps(connection: &mut SqliteConnection, id: RunId) -> Result<Vec<RunStep>> {
    sqlx::query!(
        r#"select s.number as "number!: i64", s.stream as "stream!: String",
            s.state as "state!: String", s.started_date as "started?: i64",
            s.finished_date as "finished?: i64", count(q.id) as "tasks!: i64",
            coalesce(sum(q.state in ('completed', 'dead', 'cancelled', 'unknown')), 0)
                as "closed!: i64",
            coalesce(sum(q.state = 'dead'), 0) as "dead!: i64"
        from sync_orchestration_steps s
        left join sync_queue q on q.run_id = s.run_id and q.step = s.number
        where s.run_id = ?1 group by s.number order by s.number"#,
        id.0,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(RunStep {
            number: number(row.number)?,
            stream: row.stream,
            state: word(StepState::parse(&row.state))?,
            tasks: number(row.tasks)?,
            tasks_closed: number(row.closed)?,
            tasks_dead: number(row.dead)?,
            started_at: time_option(row.started)?,
            finished_at: time_option(row.finished)?,
        })
    })
    .collect()
}

/// Oldest first.
async fn activity(connection: &mut SqliteConnection, id: RunId) -> Result<Vec<Activity>> {
    let mut entries = sqlx::query!(
        r#"select created_date as "at!: i64", event as "event!: String",
            detail as "detail!: String"
        from sync_activity_log where run_id = ?1 order by id desc limit ?2"#,
        id.0,
        ACTIVITY,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Activity {
            at: time(row.at)?,
            event: row.event,
            detail: row.detail,
        })
    })
    .collect::<Result<Vec<_>>>()?;
    entries.reverse();
    Ok(entries)
}
