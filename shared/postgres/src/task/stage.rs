//! Staging: which pending tasks go to the broker next.

use sluice_core::{
    ConnectionId, OrganizationId, QueueClass, Result, TaskId,
    message::TaskRef,
    task::{TaskKind, TaskState},
};
use sluice_store::task::{Backlog, StageQuota};

use crate::{
    convert::{count, priority, unreadable, word},
    error::failed,
    pool::Pool,
};

/// Rows that another orchestrator is staging are skipped, not waited for.
pub(crate) async fn stage(pool: &Pool, quotas: &[StageQuota]) -> Result<Vec<TaskRef>> {
    let (mut connections, mut kinds, mut from, mut to, mut limits) =
        (vec![], vec![], vec![], vec![], vec![]);
    for quota in quotas.iter().filter(|quota| quota.limit > 0) {
        let (first, last) = quota.priorities;
        connections.push(quota.connection_id.0);
        kinds.push(quota.kind.as_str().to_owned());
        from.push(i16::from(first));
        to.push(i16::from(last));
        limits.push(i64::from(quota.limit));
    }
    if connections.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"with next as materialized (
            select q.id
            from unnest($1::bigint[], $2::text[], $3::smallint[], $4::smallint[], $5::bigint[])
                k (connection_id, kind, first, last, quota)
            cross join lateral (
                select t.id from sync_queue t
                where t.state = 'pending' and t.connection_id = k.connection_id
                    and t.kind = k.kind and t.priority between k.first and k.last
                    and (t.kind = 'push' or exists (
                        select from sync_orchestration r
                        where r.id = t.run_id and r.state = 'running'))
                order by t.priority, t.id
                limit k.quota
                for update skip locked
            ) q
        )
        update sync_queue t
        set state = 'staged', staged_date = clock_timestamp(), modified_date = clock_timestamp()
        from next where t.id = next.id
        returning t.id, t.kind, t.organization_id, t.connection_id, t.priority, t.traceparent"#,
        &connections,
        &kinds,
        &from,
        &to,
        &limits,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let mut staged = rows
        .into_iter()
        .map(|row| {
            Ok(TaskRef {
                task_id: TaskId(row.id),
                kind: word(TaskKind::parse(&row.kind))?,
                organization_id: OrganizationId(row.organization_id),
                connection_id: ConnectionId(row.connection_id),
                priority: priority(row.priority)?,
                traceparent: row.traceparent,
                dead_letter: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    // An update returns its rows in no order.
    staged.sort_by_key(|task| (task.priority, task.task_id));
    Ok(staged)
}

pub(crate) async fn unstage(pool: &Pool, ids: &[TaskId]) -> Result<u64> {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    let done = sqlx::query!(
        "with t as (
            select id, state from sync_queue where id = any($1::bigint[])
            order by master_data_id, connection_id, id for no key update
        )
        update sync_queue q
        set state = 'pending', staged_date = null, modified_date = clock_timestamp()
        from t where q.id = t.id and t.state = 'staged'",
        &ids,
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(done.rows_affected())
}

/// One part per state, because each open state has an index of its own: closed tasks, by far the
/// most, are not looked at.
pub(crate) async fn backlog(pool: &Pool) -> Result<Vec<Backlog>> {
    let rows = sqlx::query!(
        r#"select organization_id as "organization_id!", connection_id as "connection_id!",
            kind as "kind!", state as "state!",
            case when priority <= 3 then 'high' when priority <= 7 then 'normal' else 'low' end
                as "class!",
            count(*) as "count!", min(created_date) as oldest
        from (
            select organization_id, connection_id, kind, state, priority, created_date
            from sync_queue where state = 'pending'
            union all select organization_id, connection_id, kind, state, priority, created_date
            from sync_queue where state = 'staged'
            union all select organization_id, connection_id, kind, state, priority, created_date
            from sync_queue where state = 'running'
            union all select organization_id, connection_id, kind, state, priority, created_date
            from sync_queue where state = 'waiting'
            union all select organization_id, connection_id, kind, state, priority, created_date
            from sync_queue where state = 'unknown'
        ) open
        group by 1, 2, 3, 4, 5 order by 1, 2, 3, 5, 4"#
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            Ok(Backlog {
                organization_id: OrganizationId(row.organization_id),
                connection_id: ConnectionId(row.connection_id),
                kind: word(TaskKind::parse(&row.kind))?,
                class: QueueClass::ALL
                    .into_iter()
                    .find(|class| class.as_str() == row.class)
                    .ok_or_else(|| unreadable("class"))?,
                state: word(TaskState::parse(&row.state))?,
                count: count(row.count)?,
                oldest: row.oldest,
            })
        })
        .collect()
}
