//! [`RequestStore`]: creates kept before they are sent.

use async_trait::async_trait;
use sluice_core::{Result, TaskId};
use sluice_store::{
    request::{KeptRequest, RequestStore},
    task::Lease,
};
use sqlx::PgConnection;

use crate::{
    PostgresSql,
    convert::{count, int},
    error::{self, Failure},
};

#[async_trait]
impl RequestStore for PostgresSql {
    async fn keep_requests(&self, requests: &[(Lease, KeptRequest)]) -> Result<Vec<bool>> {
        let (mut ids, mut epochs, mut versions) = (vec![], vec![], vec![]);
        let (mut refusals, mut keys, mut bodies) = (vec![], vec![], vec![]);
        for (lease, request) in requests {
            ids.push(lease.task_id.0);
            epochs.push(lease.epoch);
            versions.push(request.version);
            refusals.push(int(request.refusal_count));
            keys.push(request.idempotency_key.clone());
            bodies.push(request.body.to_string());
        }
        // `limit 1` keeps the state out of the search by key: the planner would look through all that
        // runs, for each.
        let kept = sqlx::query_scalar!(
            "insert into kept_requests as r
                (task_id, version, refusal_count, idempotency_key, body)
            select q.id, k.version, k.refusals, k.key, k.body
            from unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::text[], $6::text[])
                k (id, epoch, version, refusals, key, body)
            cross join lateral (select * from sync_queue q where q.id = k.id limit 1) q
            where q.lease_epoch = k.epoch and q.state = 'running'
            order by q.id
            on conflict (task_id) do update set version = excluded.version,
                refusal_count = excluded.refusal_count, body = excluded.body,
                idempotency_key = excluded.idempotency_key, kept_at = excluded.kept_at
            returning r.task_id",
            &ids,
            &epochs,
            &versions,
            &refusals,
            &keys,
            &bodies,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(error::failed)?;
        Ok(ids.iter().map(|id| kept.contains(id)).collect())
    }

    async fn kept_requests(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, KeptRequest)>> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            "select task_id, version, refusal_count, idempotency_key, body
            from kept_requests where task_id = any($1::bigint[])",
            &ids,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(error::failed)?;
        rows.into_iter()
            .map(|row| {
                let kept = KeptRequest {
                    version: row.version,
                    refusal_count: count(row.refusal_count)?,
                    idempotency_key: row.idempotency_key,
                    body: serde_json::from_str(&row.body)
                        .map_err(|_| crate::convert::unreadable("kept request"))?,
                };
                Ok((TaskId(row.task_id), kept))
            })
            .collect()
    }
}

/// Forgets the requests whose outcome is known by now.
pub(crate) async fn forget(connection: &mut PgConnection, known: &[i64]) -> Result<(), Failure> {
    if known.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "delete from kept_requests where task_id = any($1::bigint[])",
        known,
    )
    .execute(connection)
    .await?;
    Ok(())
}
