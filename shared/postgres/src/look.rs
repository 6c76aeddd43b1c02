//! Looking at tasks: cursors, changes, totals.

use serde_json::Value;
use sluice_core::{ConnectionId, OrganizationId, Result, task::TaskState};
use sluice_store::task::{OutboundChange, StreamState, TargetSummary};
use sqlx::PgConnection;

use crate::{
    convert::{count, word},
    error::{Failure, failed, transaction},
    pool::Pool,
};

pub(crate) async fn stream_states(
    pool: &Pool,
    connection: ConnectionId,
    stream: &str,
) -> Result<Vec<StreamState>> {
    let rows = sqlx::query!(
        r#"select stream, partition, state as "state: Value"
        from sync_state where connection_id = $1 and stream = $2 order by partition"#,
        connection.0,
        stream,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows
        .into_iter()
        .map(|row| StreamState {
            stream: row.stream,
            partition: row.partition,
            state: row.state,
        })
        .collect())
}

/// Reads below the oldest transaction that still runs, so that a change which commits late is not
/// stepped over (see `next_change` in the migrations). A database that was restored into a new
/// server begins with small transaction ids: a cursor from before lies in its future, and then
/// everything is read again, which readers must bear anyway. The limit stands before the join, so
/// that a page costs a page and not everything behind the cursor.
pub(crate) async fn outbound_changes(
    pool: &Pool,
    after: i64,
    limit: u32,
) -> Result<Vec<OutboundChange>> {
    let rows = sqlx::query!(
        r#"with horizon as materialized (
            select pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 20 as top
        )
        select q.change_sequence as "cursor!", q.organization_id,
            m.source_connection_id, m.entity_type, m.source_id,
            q.target_system as "target!", q.state
        from (
            select * from sync_queue
            where change_sequence < (select top from horizon)
                and change_sequence > (select case when $1 < top then $1 else 0 end from horizon)
            order by change_sequence limit $2
        ) q
        join sync_master_data m on m.id = q.master_data_id
        order by q.change_sequence"#,
        after,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(OutboundChange {
                cursor: row.cursor,
                organization_id: OrganizationId(row.organization_id),
                source_connection_id: ConnectionId(row.source_connection_id),
                entity_type: row.entity_type.into(),
                source_id: row.source_id,
                target: row.target,
                state: word(TaskState::parse(&row.state))?,
            })
        })
        .collect()
}

pub(crate) async fn reader_cursor(pool: &Pool, reader: &str) -> Result<i64> {
    let cursor = sqlx::query_scalar!(
        "select cursor from reader_cursors where reader = $1",
        reader
    )
    .fetch_optional(pool)
    .await
    .map_err(failed)?;
    Ok(cursor.unwrap_or_default())
}

pub(crate) async fn save_reader_cursor(pool: &Pool, reader: &str, cursor: i64) -> Result<()> {
    sqlx::query!(
        "insert into reader_cursors (reader, cursor) values ($1, $2)
        on conflict (reader) do update set cursor = excluded.cursor",
        reader,
        cursor,
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(crate) async fn target_summary(
    pool: &Pool,
    organization: OrganizationId,
) -> Result<Vec<TargetSummary>> {
    transaction!(pool, connection => target_summary_once(connection, organization).await)
}

async fn target_summary_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<TargetSummary>, Failure> {
    // Everything is counted, so this one is better off with whole tables.
    sqlx::query!("set local enable_seqscan = on")
        .execute(&mut *connection)
        .await?;
    sqlx::query!("set local enable_hashjoin = on")
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query!(
        r#"with tasks as (
            select connection_id, count(*) filter (where state = 'dead') as dead,
                count(*) filter (where state in ('pending', 'staged', 'running')
                    or (state = 'waiting' and blocked_on is null)) as open,
                count(*) filter (where state = 'waiting' and blocked_on is not null) as blocked,
                sum(wanted_count) as wanted
            from sync_queue where kind = 'push' and organization_id = $1 group by connection_id
        ), tries as (
            select q.connection_id, count(*) filter (where a.action = 'created') as created,
                count(*) filter (where a.action = 'updated') as updated,
                count(*) filter (where a.action = 'deleted') as deleted,
                count(*) filter (where a.action = 'linked') as linked,
                count(*) filter (where a.action = 'skipped') as skipped,
                sum(a.calls) as calls, count(*) filter (where a.outcome = 'retry_at') as retries
            from task_attempts a join sync_queue q on q.id = a.task_id
            where q.kind = 'push' and q.organization_id = $1 group by q.connection_id
        )
        select c.name as connection, coalesce(a.created, 0) as "created!",
            coalesce(a.updated, 0) as "updated!", coalesce(a.deleted, 0) as "deleted!",
            coalesce(a.linked, 0) as "linked!", coalesce(a.skipped, 0) as "skipped!",
            coalesce(a.calls, 0) as "calls!", coalesce(a.retries, 0) as "retries!",
            t.dead as "dead!", t.open as "open!",
            t.blocked as "blocked!", t.wanted as "wanted!"
        from tasks t join connections c on c.id = t.connection_id
        left join tries a on a.connection_id = t.connection_id
        order by c.name"#,
        organization.0,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TargetSummary {
                connection: row.connection,
                created: count(row.created)?,
                updated: count(row.updated)?,
                deleted: count(row.deleted)?,
                linked: count(row.linked)?,
                skipped: count(row.skipped)?,
                calls: count(row.calls)?,
                retries: count(row.retries)?,
                dead: count(row.dead)?,
                open: count(row.open)?,
                blocked: count(row.blocked)?,
                wanted: count(row.wanted)?,
            })
        })
        .collect()
}
