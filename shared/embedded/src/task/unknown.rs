//! Pushes whose outcome a person settles.

use chrono::Utc;
use sluice_core::{OrganizationId, Result, TaskId};
use sluice_store::{
    task::Lease,
    unknown::{UnknownPush, UnknownQuery, Verdict, not_unknown},
};

use super::settle::settle_once;
use crate::{
    dead_letter::log,
    sql::{
        EmbeddedSql,
        convert::{number, time},
        failed,
    },
};

pub(super) async fn list(sql: &EmbeddedSql, query: &UnknownQuery) -> Result<Vec<UnknownPush>> {
    let connection = query.connection_id.map(|id| id.0);
    let (after, limit) = (
        query.after.map_or(0, |id| id.0),
        query.limit.clamp(1, 1_000),
    );
    sqlx::query!(
        r#"select q.id as "id!: i64", q.target_system as "target!: String",
            m.entity_type as "entity_type!: String", m.entity_id as "entity_id!: String",
            coalesce(q.unsettled_version, q.intent_version, q.wanted_version) as "version!: i64",
            q.wanted_version as "wanted!: i64", q.modified_date as "since!: i64",
            q.error_code as "code?: String", q.error_message as "message?: String"
        from sync_queue q join sync_master_data m on m.id = q.master_data_id
        where q.organization_id = ?1 and q.state = 'unknown'
            and (?2 is null or q.connection_id = ?2) and q.id > ?3
        order by q.id limit ?4"#,
        query.organization_id.0,
        connection,
        after,
        limit,
    )
    .fetch_all(sql.read())
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(UnknownPush {
            task_id: TaskId(row.id),
            target: row.target,
            entity_type: row.entity_type.into(),
            entity_id: row.entity_id,
            version: number(row.version)?,
            wanted_version: number(row.wanted)?,
            since: time(row.since)?,
            code: row.code,
            message: row.message,
        })
    })
    .collect()
}

/// Takes the task as a worker would, and settles it as one. The version in doubt stays on record
/// where the doubt does.
pub(super) async fn settle(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: TaskId,
    verdict: &Verdict,
    actor: &str,
    reason: &str,
) -> Result<()> {
    let mut tx = sql.begin().await?;
    let doubtful = sqlx::query!(
        r#"select coalesce(unsettled_version, intent_version, wanted_version) as "version!: i64"
        from sync_queue
        where id = ?1 and organization_id = ?2 and kind = 'push' and state = 'unknown'"#,
        id.0,
        organization.0,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?
    .ok_or_else(|| not_unknown(id))?
    .version;
    let kept = verdict.leaves_doubt().then_some(doubtful);
    let taken = sqlx::query!(
        r#"update sync_queue set state = 'running', lease_epoch = lease_epoch + 1,
            lease_owner = ?2, unsettled_version = ?3, intent_version = wanted_version
        where id = ?1 returning lease_epoch as "epoch!: i64""#,
        id.0,
        actor,
        kept,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    let lease = Lease {
        task_id: id,
        epoch: taken.epoch,
    };
    let settlement = verdict.settlement(lease, number(doubtful)?, actor, reason, Utc::now());
    settle_once(&mut tx, &[settlement]).await?;
    let detail = format!("task {id} as {}: {reason}", verdict.as_str());
    log::write(&mut tx, organization.0, actor, "unknown_settled", &detail).await?;
    tx.commit().await.map_err(failed)
}
