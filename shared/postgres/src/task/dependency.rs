//! Pushes that wait for another record.

use std::collections::BTreeSet;

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
use sqlx::PgConnection;

use super::settle::settle_once;
use crate::{
    convert::{count, seconds, word},
    error::{Failure, failed, transaction},
    master::lock,
    pool::Pool,
};

pub(crate) async fn blockers(pool: &Pool, query: &BlockerQuery) -> Result<Vec<Blocker>> {
    let rows = sqlx::query!(
        r#"with most as materialized (
            select q.connection_id, q.blocked_on, count(*) as waiting,
                min(q.modified_date) as since, min(q.id) as one
            from sync_queue q
            where q.blocked_on is not null and q.state = 'waiting' and q.organization_id = $1
                and ($2::bigint is null or q.connection_id = $2)
            group by q.connection_id, q.blocked_on
            order by 3 desc, 5 limit $3
        )
        select q.target_system as "target!", most.blocked_on as "record!",
            most.waiting as "waiting!", most.since as "since!", parent.id is not null as "seen!",
            push.state as "state?", push.blocked_on is not null as "blocked!",
            push.error_code as "error_code?"
        from most
        join sync_queue q on q.id = most.one
        left join lateral (
            select parent_id as id from blocking_parent(q.master_data_id, q.blocked_on) limit 1
        ) parent on true
        left join sync_queue push on push.kind = 'push' and push.master_data_id = parent.id
            and push.connection_id = q.connection_id
        order by most.waiting desc, most.one"#,
        query.organization_id.0,
        query.connection_id.map(|id| id.0),
        i64::from(query.limit.clamp(1, 1_000)),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            let state = row.state.map(|state| word(TaskState::parse(&state)));
            Ok(Blocker {
                target: row.target,
                record: row.record,
                waiting: count(row.waiting)?,
                since: row.since,
                reason: BlockReason::of(row.seen, state.transpose()?, row.blocked),
                error_code: row.error_code,
            })
        })
        .collect()
}

pub(crate) async fn totals(pool: &Pool) -> Result<Vec<BlockedTotal>> {
    let rows = sqlx::query!(
        r#"select connection_id, count(*) as "count!", min(modified_date) as "oldest!"
        from sync_queue where blocked_on is not null and state = 'waiting'
        group by connection_id order by connection_id"#
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(BlockedTotal {
                connection_id: ConnectionId(row.connection_id),
                count: count(row.count)?,
                oldest: row.oldest,
            })
        })
        .collect()
}

pub(crate) async fn look(pool: &Pool, look: &BlockedLook) -> Result<BlockedFound> {
    transaction!(pool, connection => look_once(connection, look).await)
}

pub(super) async fn look_once(
    connection: &mut PgConnection,
    look: &BlockedLook,
) -> Result<BlockedFound, Failure> {
    let page = sqlx::query_scalar!(
        "select id from sync_queue
        where state = 'waiting' and blocked_on is not null and id > $1 order by id limit $2",
        look.after.map_or(0, |id| id.0),
        i64::from(look.limit),
    )
    .fetch_all(&mut *connection)
    .await?;
    if page.is_empty() {
        return Ok(BlockedFound::default());
    }
    let full = page.len() as u64 >= u64::from(look.limit);
    let next = page.last().filter(|_| full).map(|id| TaskId(*id));
    let cycles = cycles(connection, &page).await?;
    Ok(BlockedFound {
        cycles: bury(connection, &cycles).await?,
        missing: missing(connection, &page, look).await?,
        next,
    })
}

/// Those whose chain of parents leads back to them. Each step is found by key; `limit 1` keeps the
/// planner from joining the other way round, through all that waits, while its statistics are old.
async fn cycles(connection: &mut PgConnection, page: &[i64]) -> Result<Vec<i64>, Failure> {
    Ok(sqlx::query_scalar!(
        r#"with recursive chain (start, id, hops) as (
            select id, id, 0 from unnest($1::bigint[]) page (id)
            union all
            select chain.start, push.id, chain.hops + 1
            from chain
            cross join lateral (select * from sync_queue q where q.id = chain.id limit 1) q
            cross join lateral blocking_parent(q.master_data_id, q.blocked_on) parent
            cross join lateral (
                select * from sync_queue push
                where push.kind = 'push' and push.master_data_id = parent.parent_id
                    and push.connection_id = q.connection_id
                limit 1
            ) push
            where push.state = 'waiting' and push.blocked_on is not null
                and chain.hops < $2 and (chain.hops = 0 or chain.id <> chain.start)
        )
        select distinct start as "start!" from chain where hops > 0 and id = start order by 1"#,
        page,
        LONGEST_CHAIN,
    )
    .fetch_all(connection)
    .await?)
}

/// Takes them as a worker would, and settles them as one.
async fn bury(connection: &mut PgConnection, tasks: &[i64]) -> Result<u64, Failure> {
    if tasks.is_empty() {
        return Ok(0);
    }
    let masters = sqlx::query_scalar!(
        r#"select master_data_id as "master!" from sync_queue where id = any($1::bigint[])"#,
        tasks,
    )
    .fetch_all(&mut *connection)
    .await?;
    let masters: Vec<i64> = BTreeSet::from_iter(masters).into_iter().collect();
    lock(connection, &masters).await?;
    let taken = sqlx::query!(
        "with waiting as materialized (
            select id from sync_queue
            where id = any($1::bigint[]) and state = 'waiting' and blocked_on is not null
            order by master_data_id, connection_id for no key update
        )
        update sync_queue q
        set state = 'running', lease_epoch = lease_epoch + 1, intent_version = wanted_version
        from waiting where q.id = waiting.id
        returning q.id, q.lease_epoch",
        tasks,
    )
    .fetch_all(&mut *connection)
    .await?;
    let now = Utc::now();
    let settlements: Vec<_> = taken
        .into_iter()
        .map(|row| {
            let lease = Lease {
                task_id: TaskId(row.id),
                epoch: row.lease_epoch,
            };
            cycle(lease, now)
        })
        .collect();
    settle_once(connection, &settlements).await?;
    Ok(settlements.len() as u64)
}

/// Parents that nobody has read, of connections that fetch few at the moment; noted as asked for.
async fn missing(
    connection: &mut PgConnection,
    page: &[i64],
    look: &BlockedLook,
) -> Result<Vec<MissingParent>, Failure> {
    let rows = sqlx::query!(
        r#"with missing as materialized (
            select distinct parent.organization_id, parent.source_connection_id,
                parent.entity_type, parent.source_id
            from sync_queue q
            cross join lateral blocking_parent(q.master_data_id, q.blocked_on) parent
            left join parent_requests r on r.source_connection_id = parent.source_connection_id
                and r.entity_type = parent.entity_type and r.source_id = parent.source_id
            where q.id = any($1::bigint[]) and parent.parent_id is null
                and (r.requested_date is null
                    or r.requested_date < clock_timestamp() - make_interval(secs => $2::float8))
        ), ranked as (
            select *, row_number() over (
                    partition by source_connection_id order by entity_type, source_id)
                + (select count(*) from sync_orchestration o
                    where o.connection_id = missing.source_connection_id and o.background
                        and o.state in ('queued', 'running', 'paused')) as place
            from missing
        ), noted as (
            insert into parent_requests (source_connection_id, entity_type, source_id,
                requested_date)
            select source_connection_id, entity_type, source_id, clock_timestamp()
            from ranked where place <= $3
            order by source_connection_id, entity_type, source_id
            on conflict (source_connection_id, entity_type, source_id) do update
            set requested_date = excluded.requested_date
            returning source_connection_id, entity_type, source_id
        )
        select r.organization_id as "organization!", r.source_connection_id as "source!",
            r.entity_type as "entity_type!", r.source_id as "source_id!"
        from noted n join ranked r on r.source_connection_id = n.source_connection_id
            and r.entity_type = n.entity_type and r.source_id = n.source_id
        order by 2, 3, 4"#,
        page,
        seconds(look.again_after),
        i64::from(look.fetches),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| MissingParent {
            organization_id: OrganizationId(row.organization),
            source_connection_id: ConnectionId(row.source),
            record: RecordRef {
                entity_type: row.entity_type.into(),
                source_id: row.source_id,
            },
        })
        .collect())
}
