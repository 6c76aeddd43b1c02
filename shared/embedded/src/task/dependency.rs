//! Pushes that wait for another record.

use chrono::Utc;
use sluice_core::{
    ConnectionId, OrganizationId, Result, TaskId, record::RecordRef, task::TaskState,
};
use sluice_store::{
    dependency::{
        BlockReason, BlockedFound, BlockedLook, BlockedTotal, Blocker, BlockerQuery, LONGEST_CHAIN,
        MissingParent, cycle,
    },
    task::Lease,
};
use sqlx::SqliteConnection;

use super::settle::settle_once;
use crate::sql::{
    EmbeddedSql,
    convert::{micros, now, number, time, to_json, word},
    failed,
};

pub(super) async fn blockers(sql: &EmbeddedSql, query: &BlockerQuery) -> Result<Vec<Blocker>> {
    let connection = query.connection_id.map(|id| id.0);
    let limit = query.limit.clamp(1, 1_000);
    sqlx::query!(
        r#"with most as materialized (
            select q.connection_id, q.blocked_on, count(*) as waiting,
                min(q.modified_date) as since, min(q.id) as one
            from sync_queue q
            where q.blocked_on is not null and q.state = 'waiting' and q.organization_id = ?1
                and (?2 is null or q.connection_id = ?2)
            group by q.connection_id, q.blocked_on
            order by 3 desc, 5 limit ?3
        )
        select q.target_system as "target!: String", most.blocked_on as "record!: String",
            most.waiting as "waiting!: i64", most.since as "since!: i64",
            pm.id is not null as "seen!: bool", push.state as "state?: String",
            push.blocked_on is not null as "blocked!: bool", push.error_code as "error_code?: String"
        from most
        join sync_queue q on q.id = most.one
        join sync_master_data m on m.id = q.master_data_id
        join connections c on c.id = m.source_connection_id
        left join json_each(m.parents) p on most.blocked_on
            = c.name || '/' || (p.value ->> 'entity_type') || '/' || (p.value ->> 'source_id')
        left join sync_master_data pm on pm.source_connection_id = m.source_connection_id
            and pm.entity_type = p.value ->> 'entity_type'
            and pm.source_id = p.value ->> 'source_id'
        left join sync_queue push on push.kind = 'push' and push.master_data_id = pm.id
            and push.connection_id = q.connection_id
        group by most.one
        order by most.waiting desc, most.one"#,
        query.organization_id.0,
        connection,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let state = row.state.map(|state| word(TaskState::parse(&state)));
        Ok(Blocker {
            target: row.target,
            record: row.record,
            waiting: number(row.waiting)?,
            since: time(row.since)?,
            reason: BlockReason::of(row.seen, state.transpose()?, row.blocked),
            error_code: row.error_code,
        })
    })
    .collect()
}

pub(super) async fn totals(sql: &EmbeddedSql) -> Result<Vec<BlockedTotal>> {
    sqlx::query!(
        r#"select connection_id as "connection_id!: i64", count(*) as "count!: i64",
            min(modified_date) as "oldest!: i64"
        from sync_queue where blocked_on is not null and state = 'waiting'
        group by connection_id order by connection_id"#
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(BlockedTotal {
            connection_id: ConnectionId(row.connection_id),
            count: number(row.count)?,
            oldest: time(row.oldest)?,
        })
    })
    .collect()
}

/// Reads first, beside the writer, because mostly there is nothing to write.
pub(super) async fn look(sql: &EmbeddedSql, look: &BlockedLook) -> Result<BlockedFound> {
    let after = look.after.map_or(0, |id| id.0);
    let page: Vec<i64> = sqlx::query!(
        r#"select id as "id!: i64" from sync_queue
        where state = 'waiting' and blocked_on is not null and id > ?1 order by id limit ?2"#,
        after,
        look.limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| row.id)
    .collect();
    if page.is_empty() {
        return Ok(BlockedFound::default());
    }
    let full = page.len() as u64 >= u64::from(look.limit);
    let next = page.last().filter(|_| full).map(|id| TaskId(*id));
    let page = to_json(&page)?;
    let mut tx = sql.begin().await?;
    let cycles = cycles(&mut tx, &page).await?;
    let found = BlockedFound {
        cycles: bury(&mut tx, &cycles).await?,
        missing: missing(&mut tx, &page, look).await?,
        next,
    };
    tx.commit().await.map_err(failed)?;
    Ok(found)
}

/// Those whose chain of parents leads back to them.
async fn cycles(connection: &mut SqliteConnection, page: &str) -> Result<Vec<i64>> {
    // `cross join` keeps the order: SQLite would look through all records of the source, and take
    // apart the parents after that.
    let rows = sqlx::query!(
        r#"with recursive chain (start, id, hops) as (
            select value, value, 0 from json_each(?1)
            union all
            select chain.start, push.id, chain.hops + 1
            from chain
            join sync_queue q on q.id = chain.id
            join sync_master_data m on m.id = q.master_data_id
            join connections c on c.id = m.source_connection_id
            cross join json_each(m.parents) p
            cross join sync_master_data pm on pm.source_connection_id = m.source_connection_id
                and pm.entity_type = p.value ->> 'entity_type'
                and pm.source_id = p.value ->> 'source_id'
            join sync_queue push on push.kind = 'push' and push.master_data_id = pm.id
                and push.connection_id = q.connection_id
            where q.blocked_on = c.name || '/' || pm.entity_type || '/' || pm.source_id
                and push.state = 'waiting' and push.blocked_on is not null
                and chain.hops < ?2 and (chain.hops = 0 or chain.id <> chain.start)
        )
        select distinct start as "start!: i64" from chain where hops > 0 and id = start order by 1"#,
        page,
        LONGEST_CHAIN,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(|row| row.start).collect())
}

/// Takes them as a worker would, and settles them as one.
async fn bury(connection: &mut SqliteConnection, tasks: &[i64]) -> Result<u64> {
    if tasks.is_empty() {
        return Ok(0);
    }
    let tasks = to_json(tasks)?;
    let taken = sqlx::query!(
        r#"update sync_queue set state = 'running', lease_epoch = lease_epoch + 1,
            intent_version = wanted_version
        where id in (select value from json_each(?1)) and state = 'waiting'
            and blocked_on is not null
        returning id as "id!: i64", lease_epoch as "epoch!: i64""#,
        tasks,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let now = Utc::now();
    let settlements: Vec<_> = taken
        .into_iter()
        .map(|row| {
            let lease = Lease {
                task_id: TaskId(row.id),
                epoch: row.epoch,
            };
            cycle(lease, now)
        })
        .collect();
    settle_once(connection, &settlements).await?;
    Ok(settlements.len() as u64)
}

/// Parents that nobody has read, of connections that fetch few at the moment; noted as asked for.
async fn missing(
    connection: &mut SqliteConnection,
    page: &str,
    look: &BlockedLook,
) -> Result<Vec<MissingParent>> {
    let now = now();
    let before = now.saturating_sub(micros(look.again_after));
    let found: Vec<MissingParent> = sqlx::query!(
        r#"with missing as materialized (
            select distinct m.organization_id, m.source_connection_id,
                p.value ->> 'entity_type' as entity_type, p.value ->> 'source_id' as source_id
            from sync_queue q
            join sync_master_data m on m.id = q.master_data_id
            join connections c on c.id = m.source_connection_id
            join json_each(m.parents) p
            left join sync_master_data pm on pm.source_connection_id = m.source_connection_id
                and pm.entity_type = p.value ->> 'entity_type'
                and pm.source_id = p.value ->> 'source_id'
            left join parent_requests r on r.source_connection_id = m.source_connection_id
                and r.entity_type = p.value ->> 'entity_type'
                and r.source_id = p.value ->> 'source_id'
            where q.id in (select value from json_each(?1)) and pm.id is null
                and q.blocked_on = c.name || '/' || (p.value ->> 'entity_type') || '/'
                    || (p.value ->> 'source_id')
                and (r.requested_date is null or r.requested_date < ?2)
        ), ranked as (
            select *, row_number() over (
                    partition by source_connection_id order by entity_type, source_id)
                + (select count(*) from sync_orchestration o
                    where o.connection_id = missing.source_connection_id and o.background
                        and o.state in ('queued', 'running', 'paused')) as place
            from missing
        )
        select organization_id as "organization!: i64", source_connection_id as "source!: i64",
            entity_type as "entity_type!: String", source_id as "source_id!: String"
        from ranked where place <= ?3 order by 2, 3, 4"#,
        page,
        before,
        look.fetches,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| MissingParent {
        organization_id: OrganizationId(row.organization),
        source_connection_id: ConnectionId(row.source),
        record: RecordRef {
            entity_type: row.entity_type.into(),
            source_id: row.source_id,
        },
    })
    .collect();
    for parent in &found {
        let entity_type = parent.record.entity_type.as_str();
        sqlx::query!(
            "insert into parent_requests (source_connection_id, entity_type, source_id,
                requested_date)
            values (?1, ?2, ?3, ?4)
            on conflict (source_connection_id, entity_type, source_id) do update
            set requested_date = excluded.requested_date",
            parent.source_connection_id.0,
            entity_type,
            parent.record.source_id,
            now,
        )
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    Ok(found)
}
