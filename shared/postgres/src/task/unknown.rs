//! Pushes whose outcome a person settles.

use chrono::Utc;
use sluice_core::{OrganizationId, Result, TaskId};
use sluice_store::{
    task::Lease,
    unknown::{UnknownPush, UnknownQuery, Verdict, not_unknown},
};
use sqlx::PgConnection;

use super::settle::settle_once;
use crate::{
    dead_letter::log,
    error::{Failure, failed, transaction},
    master::lock,
    pool::Pool,
};

pub(crate) async fn list(pool: &Pool, query: &UnknownQuery) -> Result<Vec<UnknownPush>> {
    let rows = sqlx::query!(
        r#"select q.id, q.target_system as "target!", m.entity_type, m.entity_id,
            coalesce(q.unsettled_version, q.intent_version, q.wanted_version) as "version!",
            q.wanted_version as "wanted!", q.modified_date, q.error_code, q.error_message
        from sync_queue q join sync_master_data m on m.id = q.master_data_id
        where q.organization_id = $1 and q.state = 'unknown'
            and ($2::bigint is null or q.connection_id = $2) and q.id > $3
        order by q.id limit $4"#,
        query.organization_id.0,
        query.connection_id.map(|id| id.0),
        query.after.map_or(0, |id| id.0),
        i64::from(query.limit.clamp(1, 1_000)),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    Ok(rows
        .into_iter()
        .map(|row| UnknownPush {
            task_id: TaskId(row.id),
            target: row.target,
            entity_type: row.entity_type.into(),
            entity_id: row.entity_id,
            version: row.version,
            wanted_version: row.wanted,
            since: row.modified_date,
            code: row.error_code,
            message: row.error_message,
        })
        .collect())
}

/// Takes the task as a worker would, and settles it as one.
pub(crate) async fn settle(
    pool: &Pool,
    organization: OrganizationId,
    id: TaskId,
    verdict: &Verdict,
    actor: &str,
    reason: &str,
) -> Result<()> {
    transaction!(pool, connection => {
        once(connection, organization, id, verdict, actor, reason).await
    })
}

async fn once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: TaskId,
    verdict: &Verdict,
    actor: &str,
    reason: &str,
) -> Result<(), Failure> {
    let master = sqlx::query_scalar!(
        r#"select master_data_id as "master!" from sync_queue
        where id = $1 and organization_id = $2 and kind = 'push' and state = 'unknown'"#,
        id.0,
        organization.0,
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| not_unknown(id))?;
    lock(connection, &[master]).await?;
    // The version in doubt stays on record where the doubt does.
    let taken = sqlx::query!(
        r#"with old as materialized (
            select id, coalesce(unsettled_version, intent_version, wanted_version) as doubtful
            from sync_queue where id = $1 and state = 'unknown' for no key update
        )
        update sync_queue q
        set state = 'running', lease_epoch = lease_epoch + 1, lease_owner = $2,
            unsettled_version = case when $3 then old.doubtful end,
            intent_version = wanted_version
        from old where q.id = old.id
        returning q.lease_epoch, old.doubtful as "doubtful!""#,
        id.0,
        actor,
        verdict.leaves_doubt(),
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| not_unknown(id))?;
    let lease = Lease {
        task_id: id,
        epoch: taken.lease_epoch,
    };
    let settlement = verdict.settlement(lease, taken.doubtful, actor, reason, Utc::now());
    settle_once(connection, &[settlement]).await?;
    let detail = format!("task {id} as {}: {reason}", verdict.as_str());
    log::write(
        connection,
        organization.0,
        actor,
        "unknown_settled",
        &detail,
    )
    .await?;
    Ok(())
}
