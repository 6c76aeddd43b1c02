//! [`RequestStore`] on SQLite.

use async_trait::async_trait;
use serde_json::json;
use sluice_core::{Result, TaskId};
use sluice_store::{
    request::{KeptRequest, RequestStore},
    task::Lease,
};
use sqlx::SqliteConnection;

use crate::{
    sql::{
        EmbeddedSql,
        convert::{from_json, now, number, to_json},
        failed,
    },
    task::settle::Settled,
};

#[async_trait]
impl RequestStore for EmbeddedSql {
    async fn keep_requests(&self, requests: &[(Lease, KeptRequest)]) -> Result<Vec<bool>> {
        let rows: Vec<_> = requests
            .iter()
            .map(|(lease, request)| {
                let KeptRequest {
                    version,
                    refusal_count,
                    idempotency_key,
                    body,
                } = request;
                let text = body.to_string();
                json!([
                    lease.task_id,
                    lease.epoch,
                    version,
                    refusal_count,
                    idempotency_key,
                    text
                ])
            })
            .collect();
        let rows = to_json(&rows)?;
        let now = now();
        let mut tx = self.begin().await?;
        let kept = sqlx::query_scalar!(
            r#"insert into kept_requests
                (task_id, version, refusal_count, idempotency_key, body, kept_at)
            select q.id, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, ?2
            from json_each(?1) j
            join sync_queue q on q.id = j.value ->> 0 and q.lease_epoch = j.value ->> 1
            where q.state = 'running'
            on conflict (task_id) do update set version = excluded.version,
                refusal_count = excluded.refusal_count, body = excluded.body,
                idempotency_key = excluded.idempotency_key, kept_at = excluded.kept_at
            returning task_id as "id!: i64""#,
            rows,
            now,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
        // From here on something may have been sent.
        let sent = to_json(&kept)?;
        sqlx::query!(
            "update sync_queue set unsent_epoch = null
            where id in (select value from json_each(?1))",
            sent,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        let leases = requests.iter().map(|(lease, _)| lease);
        Ok(leases
            .map(|lease| kept.contains(&lease.task_id.0))
            .collect())
    }

    async fn kept_requests(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, KeptRequest)>> {
        let ids = to_json(ids)?;
        let rows = sqlx::query!(
            r#"select task_id as "id!: i64", version as "version!: i64",
                refusal_count as "refusals!: i64", idempotency_key as "key!: String",
                body as "body!: String"
            from kept_requests where task_id in (select value from json_each(?1))"#,
            ids,
        )
        .fetch_all(self.read())
        .await
        .map_err(failed)?;
        rows.into_iter()
            .map(|row| {
                let kept = KeptRequest {
                    version: number(row.version)?,
                    refusal_count: number(row.refusals)?,
                    idempotency_key: row.key,
                    body: from_json(&row.body)?,
                };
                Ok((TaskId(row.id), kept))
            })
            .collect()
    }
}

/// Forgets the requests whose outcome is known by now.
pub(crate) async fn forget(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let known = settled.iter().filter(|one| one.outcome.forget_request);
    let ids: Vec<_> = known.map(|one| one.held.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids = to_json(&ids)?;
    sqlx::query!(
        "delete from kept_requests where task_id in (select value from json_each(?1))",
        ids,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
