//! The timer that heals, and the one that forgets.

use std::time::Duration;

use sluice_core::Result;
use sluice_store::task::{RescueSettings, Rescued};
use sqlx::PgConnection;

use super::crash;
use crate::{
    convert::seconds,
    error::{Failure, failed, transaction},
    pool::Pool,
};

/// Tasks whose time has come. Rows in the hands of others are skipped: they are woken already.
/// `clock_timestamp()` moves within a statement, so no index could be searched with it.
pub(crate) async fn wake(pool: &Pool, limit: u32) -> Result<u64> {
    let due = sqlx::query!(
        "update sync_queue
        set state = 'pending', next_retry_time = null, modified_date = clock_timestamp()
        where id in (
            select id from sync_queue
            where state = 'waiting' and next_retry_time <= statement_timestamp()
            order by next_retry_time limit $1 for no key update skip locked
        )",
        i64::from(limit),
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    Ok(due.rows_affected())
}

/// Three looks, each limited, each on an index of its own, each a transaction. Rows in the
/// hands of others are skipped: they are being healed. An intent of a dead worker stays, so that
/// the next claim sees it.
pub(crate) async fn rescue(pool: &Pool, settings: &RescueSettings) -> Result<Rescued> {
    let limit = i64::from(settings.limit);
    let (leases, given_up) = crash::heal(pool, limit).await?;
    let messages = sqlx::query!(
        "update sync_queue
        set state = 'pending', staged_date = null, modified_date = clock_timestamp()
        where id in (
            select id from sync_queue
            where state = 'staged'
                and staged_date <= statement_timestamp() - make_interval(secs => $2::float8)
            order by staged_date limit $1 for no key update skip locked
        )",
        limit,
        seconds(settings.staged_for),
    )
    .execute(pool)
    .await
    .map_err(failed)?;
    let unblocked = transaction!(pool, connection => unblock(connection, limit).await)?;
    Ok(Rescued {
        leases,
        given_up,
        messages: messages.rows_affected(),
        unblocked,
    })
}

/// Children whose parents are there by now. By key, as in `dependency`.
pub(super) async fn unblock(connection: &mut PgConnection, limit: i64) -> Result<u64, Failure> {
    let unblocked = sqlx::query!(
        "update sync_queue
        set state = 'pending', blocked_on = null, modified_date = clock_timestamp()
        where id in (
            select q.id
            from sync_queue q
            cross join lateral blocking_parent(q.master_data_id, q.blocked_on) parent
            cross join lateral (
                select external_id from links l
                where l.master_data_id = parent.parent_id and l.connection_id = q.connection_id
                limit 1
            ) l
            where q.state = 'waiting' and q.blocked_on is not null and l.external_id is not null
            limit $1 for no key update of q skip locked
        )",
        limit,
    )
    .execute(connection)
    .await?;
    Ok(unblocked.rows_affected())
}

/// Pulls, steps, log entries and idempotency keys go with their run, letters' outcomes with their
/// replay. Attempts of a push stay while
/// a person may still have to judge them. A big clean-up is many small transactions.
pub(crate) async fn prune(pool: &Pool, keep: Duration) -> Result<u64> {
    const BATCH: i64 = 5_000;
    let keep = seconds(keep);
    let mut removed = 0;
    loop {
        // Deleting a run deletes what belongs to it, so fewer at a time.
        let runs = sqlx::query!(
            "delete from sync_orchestration where id in (
                select id from sync_orchestration
                where finished_date < clock_timestamp() - make_interval(secs => $1::float8)
                order by id limit $2 for update skip locked
            )",
            keep,
            BATCH / 50,
        )
        .execute(pool)
        .await
        .map_err(failed)?
        .rows_affected();
        let attempts = sqlx::query!(
            "delete from task_attempts a using (
                select task_id, number
                from task_attempts t join sync_queue q on q.id = t.task_id
                where t.started_date < clock_timestamp() - make_interval(secs => $1::float8)
                    and q.kind = 'push' and q.state in ('completed', 'cancelled')
                limit $2
            ) old
            where a.task_id = old.task_id and a.number = old.number",
            keep,
            BATCH,
        )
        .execute(pool)
        .await
        .map_err(failed)?
        .rows_affected();
        let log = sqlx::query!(
            "delete from sync_activity_log where id in (
                select id from sync_activity_log
                where run_id is null
                    and created_date < clock_timestamp() - make_interval(secs => $1::float8)
                order by id limit $2
            )",
            keep,
            BATCH,
        )
        .execute(pool)
        .await
        .map_err(failed)?
        .rows_affected();
        // The items of a replay go with it, and can be many.
        let replays = sqlx::query!(
            "delete from replays where id = (
                select min(id) from replays
                where finished_date < clock_timestamp() - make_interval(secs => $1::float8)
            )",
            keep,
        )
        .execute(pool)
        .await
        .map_err(failed)?
        .rows_affected();
        removed += runs + attempts + log + replays;
        if runs + attempts + log + replays == 0 {
            return Ok(removed);
        }
    }
}
