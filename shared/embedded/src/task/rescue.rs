//! The timer that heals, and the one that forgets.

use std::time::Duration;

use sluice_core::Result;
use sluice_store::task::{RescueSettings, Rescued};

use super::crash;
use crate::sql::{
    EmbeddedSql,
    convert::{micros, now},
    failed,
};

/// Tasks whose time has come.
pub(super) async fn wake(sql: &EmbeddedSql, limit: u32) -> Result<u64> {
    let now = now();
    let mut tx = sql.begin().await?;
    let due = sqlx::query!(
        "update sync_queue set state = 'pending', next_retry_time = null, modified_date = ?1
        where id in (select id from sync_queue where state = 'waiting' and next_retry_time <= ?1
            order by next_retry_time limit ?2)",
        now,
        limit,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(due.rows_affected())
}

/// Three looks, each limited, each on an index of its own. What is found goes back to
/// pending; an intent of a dead worker stays, so that the next claim sees it.
pub(super) async fn rescue(sql: &EmbeddedSql, settings: &RescueSettings) -> Result<Rescued> {
    let now = now();
    let lost_before = now.saturating_sub(micros(settings.staged_for));
    let limit = settings.limit;
    let mut tx = sql.begin().await?;
    let (leases, given_up) = crash::heal(&mut tx, now, limit).await?;
    let messages = sqlx::query!(
        "update sync_queue set state = 'pending', staged_date = null, modified_date = ?1
        where id in (select id from sync_queue where state = 'staged' and staged_date <= ?3
            order by staged_date limit ?2)",
        now,
        limit,
        lost_before,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    // `cross join` keeps the order: SQLite would look through all records of the source, and take
    // apart the parents after that.
    let unblocked = sqlx::query!(
        "update sync_queue set state = 'pending', blocked_on = null, modified_date = ?1
        where id in (
            select q.id from sync_queue q
            join sync_master_data m on m.id = q.master_data_id
            cross join json_each(m.parents) p
            cross join sync_master_data pm on pm.source_connection_id = m.source_connection_id
                and pm.entity_type = p.value ->> 'entity_type'
                and pm.source_id = p.value ->> 'source_id'
            join links l on l.master_data_id = pm.id and l.connection_id = q.connection_id
            join connections c on c.id = m.source_connection_id
            where q.blocked_on is not null and q.state = 'waiting' and l.external_id is not null
                and q.blocked_on = c.name || '/' || pm.entity_type || '/' || pm.source_id
            limit ?2
        )",
        now,
        limit,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Rescued {
        leases,
        given_up,
        messages: messages.rows_affected(),
        unblocked: unblocked.rows_affected(),
    })
}

/// Pulls, steps, log entries and idempotency keys go with their run, letters' outcomes with their
/// replay. Attempts of a push stay while
/// a person may still have to judge them.
pub(super) async fn prune(sql: &EmbeddedSql, keep: Duration) -> Result<u64> {
    let before = now().saturating_sub(micros(keep));
    let mut tx = sql.begin().await?;
    let pulls = sqlx::query!(
        "delete from sync_queue where kind = 'pull' and run_id in (
            select id from sync_orchestration where finished_date < ?1)",
        before,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let runs = sqlx::query!(
        "delete from sync_orchestration where finished_date < ?1",
        before,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let attempts = sqlx::query!(
        "delete from task_attempts where started_date < ?1 and task_id in (
            select id from sync_queue where kind = 'push' and state in ('completed', 'cancelled'))",
        before,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let log = sqlx::query!(
        "delete from sync_activity_log where created_date < ?1 and run_id is null",
        before,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let replays = sqlx::query!("delete from replays where finished_date < ?1", before)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok([pulls, runs, attempts, log, replays]
        .iter()
        .map(|done| done.rows_affected())
        .sum())
}
