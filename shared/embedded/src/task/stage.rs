//! Staging: choosing what is published next.

use sluice_core::{ConnectionId, OrganizationId, Result, TaskId, message::TaskRef, task::TaskKind};
use sluice_store::task::StageQuota;

use crate::sql::{
    EmbeddedSql,
    convert::{now, priority, to_json, word},
    failed,
};

/// Most urgent and oldest first within each quota; the answer is in that order too, over all
/// quotas (promise O8). One statement per quota, because only so does each stop at its limit
/// however long the backlog is.
pub(super) async fn stage(sql: &EmbeddedSql, quotas: &[StageQuota]) -> Result<Vec<TaskRef>> {
    let mut staged = Vec::new();
    let mut tx = sql.begin().await?;
    for quota in quotas.iter().filter(|quota| quota.limit > 0) {
        let (from, to) = quota.priorities;
        let (kind, now) = (quota.kind.as_str(), now());
        staged.extend(
            sqlx::query!(
                r#"update sync_queue set state = 'staged', staged_date = ?6, modified_date = ?6
                where id in (
                    select q.id from sync_queue q
                    where q.state = 'pending' and q.connection_id = ?1 and q.kind = ?2
                        and q.priority between ?3 and ?4
                        and (q.kind = 'push' or exists (
                            select 1 from sync_orchestration r
                            where r.id = q.run_id and r.state = 'running'))
                    order by q.priority, q.id limit ?5
                )
                returning id as "id!: i64", kind as "kind!: String",
                    organization_id as "organization_id!: i64",
                    connection_id as "connection_id!: i64", priority as "priority!: i64",
                    traceparent as "traceparent?: String""#,
                quota.connection_id.0,
                kind,
                from,
                to,
                quota.limit,
                now,
            )
            .fetch_all(&mut *tx)
            .await
            .map_err(failed)?,
        );
    }
    tx.commit().await.map_err(failed)?;
    staged.sort_by_key(|row| (row.priority, row.id));
    staged
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
        .collect()
}

pub(super) async fn unstage(sql: &EmbeddedSql, ids: &[TaskId]) -> Result<u64> {
    let (ids, now) = (to_json(ids)?, now());
    let mut tx = sql.begin().await?;
    let done = sqlx::query!(
        "update sync_queue set state = 'pending', staged_date = null, modified_date = ?2
        where state = 'staged' and id in (select value from json_each(?1))",
        ids,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(done.rows_affected())
}
