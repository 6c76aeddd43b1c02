//! Looking at tasks: backlog, cursors, changes, totals.

use sluice_core::{
    ConnectionId, OrganizationId, QueueClass, Result,
    task::{TaskKind, TaskState},
};
use sluice_store::task::{Backlog, OutboundChange, StreamState, TargetSummary};

use crate::sql::{
    EmbeddedSql,
    convert::{from_json, number, time_option, unreadable, word},
    failed,
};

/// One part per state, because each open state has an index of its own: closed tasks, by far the
/// most, are not looked at.
pub(super) async fn backlog(sql: &EmbeddedSql) -> Result<Vec<Backlog>> {
    sqlx::query!(
        r#"select organization_id as "organization_id!: i64",
            connection_id as "connection_id!: i64", kind as "kind!: String",
            case when priority <= 3 then 'high' when priority <= 7 then 'normal' else 'low' end
                as "class!: String",
            state as "state!: String", count(*) as "count!: i64",
            min(created_date) as "oldest?: i64"
        from (
            select * from sync_queue where state = 'pending'
            union all select * from sync_queue where state = 'staged'
            union all select * from sync_queue where state = 'running'
            union all select * from sync_queue where state = 'waiting'
            union all select * from sync_queue where state = 'unknown'
        )
        group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5"#
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Backlog {
            organization_id: OrganizationId(row.organization_id),
            connection_id: ConnectionId(row.connection_id),
            kind: word(TaskKind::parse(&row.kind))?,
            class: QueueClass::ALL
                .into_iter()
                .find(|class| class.as_str() == row.class)
                .ok_or_else(|| unreadable("queue class"))?,
            state: word(TaskState::parse(&row.state))?,
            count: number(row.count)?,
            oldest: time_option(row.oldest)?,
        })
    })
    .collect()
}

pub(super) async fn stream_states(
    sql: &EmbeddedSql,
    connection: ConnectionId,
    stream: &str,
) -> Result<Vec<StreamState>> {
    sqlx::query!(
        r#"select stream as "stream!: String", partition as "partition!: String",
            state as "state!: String"
        from sync_state where connection_id = ?1 and stream = ?2 order by partition"#,
        connection.0,
        stream,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(StreamState {
            stream: row.stream,
            partition: row.partition,
            state: from_json(&row.state)?,
        })
    })
    .collect()
}

/// Writers take turns, so sequence numbers become visible in their order and a reader that
/// continues after the last one it saw misses nothing.
pub(super) async fn outbound_changes(
    sql: &EmbeddedSql,
    after: i64,
    limit: u32,
) -> Result<Vec<OutboundChange>> {
    sqlx::query!(
        r#"select q.change_sequence as "cursor!: i64", q.organization_id as "organization_id!: i64",
            m.source_connection_id as "source_connection_id!: i64",
            m.entity_type as "entity_type!: String", m.source_id as "source_id!: String",
            q.target_system as "target!: String", q.state as "state!: String"
        from sync_queue q join sync_master_data m on m.id = q.master_data_id
        where q.change_sequence > ?1 order by q.change_sequence limit ?2"#,
        after,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
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

pub(super) async fn reader_cursor(sql: &EmbeddedSql, reader: &str) -> Result<i64> {
    let row = sqlx::query!(
        r#"select cursor as "cursor!: i64" from reader_cursors where reader = ?1"#,
        reader,
    )
    .fetch_optional(sql.read())
    .await
    .map_err(failed)?;
    Ok(row.map_or(0, |row| row.cursor))
}

pub(super) async fn save_reader_cursor(sql: &EmbeddedSql, reader: &str, cursor: i64) -> Result<()> {
    let mut tx = sql.begin().await?;
    sqlx::query!(
        "insert into reader_cursors (reader, cursor) values (?1, ?2)
        on conflict (reader) do update set cursor = excluded.cursor",
        reader,
        cursor,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)
}

pub(super) async fn target_summary(
    sql: &EmbeddedSql,
    organization: OrganizationId,
) -> Result<Vec<TargetSummary>> {
    sqlx::query!(
        r#"with tasks as (
            select connection_id, sum(state = 'dead') as dead,
                sum(state in ('pending', 'staged', 'running')
                    or (state = 'waiting' and blocked_on is null)) as open,
                sum(state = 'waiting' and blocked_on is not null) as blocked,
                sum(wanted_count) as wanted
            from sync_queue where kind = 'push' and organization_id = ?1 group by connection_id
        ), tries as (
            select q.connection_id, sum(a.action = 'created') as created,
                sum(a.action = 'updated') as updated, sum(a.action = 'deleted') as deleted,
                sum(a.action = 'linked') as linked, sum(a.action = 'skipped') as skipped,
                sum(a.calls) as calls, sum(a.outcome = 'retry_at') as retries
            from task_attempts a join sync_queue q on q.id = a.task_id
            where q.kind = 'push' and q.organization_id = ?1 group by q.connection_id
        )
        select c.name as "connection!: String", coalesce(a.created, 0) as "created!: i64",
            coalesce(a.updated, 0) as "updated!: i64", coalesce(a.deleted, 0) as "deleted!: i64",
            coalesce(a.linked, 0) as "linked!: i64", coalesce(a.skipped, 0) as "skipped!: i64",
            coalesce(a.calls, 0) as "calls!: i64", coalesce(a.retries, 0) as "retries!: i64",
            t.dead as "dead!: i64", t.open as "open!: i64",
            t.blocked as "blocked!: i64", t.wanted as "wanted!: i64"
        from tasks t join connections c on c.id = t.connection_id
        left join tries a on a.connection_id = t.connection_id
        order by c.name"#,
        organization.0,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(TargetSummary {
            connection: row.connection,
            created: number(row.created)?,
            updated: number(row.updated)?,
            deleted: number(row.deleted)?,
            linked: number(row.linked)?,
            skipped: number(row.skipped)?,
            calls: number(row.calls)?,
            retries: number(row.retries)?,
            dead: number(row.dead)?,
            open: number(row.open)?,
            blocked: number(row.blocked)?,
            wanted: number(row.wanted)?,
        })
    })
    .collect()
}
