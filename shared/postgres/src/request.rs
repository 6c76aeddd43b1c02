//! [`RequestStore`]: creates kept before they are sent.

#[cfg(test)]
mod takeover;

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
        // From here on something may have been sent: the task says so, and is locked, so that no claim
        // comes in between. The state is looked at last: by its index the planner would look through
        // all that runs.
        let kept = sqlx::query_scalar!(
            "with named as materialized (
                select k.* from unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::text[],
                    $6::text[]) k (id, epoch, version, refusals, key, body)
            ), held as (
                select q.id, q.state
                from named join sync_queue q on q.id = named.id
                where q.lease_epoch = named.epoch
                order by q.master_data_id, q.connection_id, q.id
                for no key update of q
            ), sent as (
                update sync_queue q set unsent_epoch = null
                from held where q.id = held.id and held.state = 'running'
                returning q.id
            )
            insert into kept_requests as r
                (task_id, version, refusal_count, idempotency_key, body)
            select named.id, named.version, named.refusals, named.key, named.body
            from named join sent on sent.id = named.id
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
