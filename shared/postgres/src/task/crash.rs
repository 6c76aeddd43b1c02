//! Tasks whose worker is gone.

use chrono::Utc;
use sluice_core::{Result, TaskId, retry::after_crash};
use sluice_store::{
    outcome::{fatal_attempt, worker_died},
    task::{Lease, PushNext, PushSettlement},
};
use sqlx::PgConnection;

use super::settle::settle_once;
use crate::{
    convert::{count, int, seconds},
    error::{Failure, transaction},
    pool::Pool,
};

/// Frees tasks whose lease ran out, or gives them up; returns how many there were, and how many
/// of them were given up.
pub(crate) async fn heal(pool: &Pool, limit: i64) -> Result<(u64, u64)> {
    transaction!(pool, connection => heal_once(connection, limit).await)
}

async fn heal_once(connection: &mut PgConnection, limit: i64) -> Result<(u64, u64), Failure> {
    let rows = sqlx::query!(
        "select id, kind, lease_epoch, lease_owner, crash_count from sync_queue
        where state = 'running' and lease_until < clock_timestamp()
        order by lease_until limit $1 for no key update skip locked",
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut ids, mut crashes, mut rests) = (vec![], vec![], vec![]);
    let (mut pulls, mut pushes) = (vec![], vec![]);
    for row in &rows {
        let died: u32 = count::<u32>(row.crash_count)?.saturating_add(1);
        match after_crash(died) {
            Some(rest) => {
                ids.push(row.id);
                crashes.push(int(died));
                rests.push(seconds(rest));
            }
            None if row.kind == "pull" => pulls.push((row.id, died)),
            None => pushes.push(PushSettlement {
                lease: Lease {
                    task_id: TaskId(row.id),
                    epoch: row.lease_epoch,
                },
                attempt: fatal_attempt(died, row.lease_owner.clone(), Utc::now()),
                next: PushNext::Dead,
                request: None,
            }),
        }
    }
    free(connection, &ids, &crashes, &rests).await?;
    for (id, died) in &pulls {
        end_pull(connection, *id, *died).await?;
    }
    // Their leases have run out but were taken by nobody, so they still count.
    if !pushes.is_empty() {
        settle_once(connection, &pushes).await?;
    }
    Ok((rows.len() as u64, (pulls.len() + pushes.len()) as u64))
}

async fn free(
    connection: &mut PgConnection,
    ids: &[i64],
    crashes: &[i32],
    rests: &[f64],
) -> Result<(), Failure> {
    sqlx::query!(
        "update sync_queue q
        set state = case when k.rest > 0 then 'waiting' else 'pending' end,
            next_retry_time = case when k.rest > 0
                then clock_timestamp() + make_interval(secs => k.rest) end,
            crash_count = k.crashes, lease_owner = null, lease_until = null,
            modified_date = clock_timestamp()
        from unnest($1::bigint[], $2::int[], $3::float8[]) k (id, crashes, rest)
        where q.id = k.id",
        ids,
        crashes,
        rests,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The run ends as partly done or failed.
async fn end_pull(connection: &mut PgConnection, id: i64, crashes: u32) -> Result<(), Failure> {
    let error = worker_died(crashes);
    sqlx::query!(
        "update sync_queue
        set state = 'dead', crash_count = 1, error_class = $2, error_code = $3,
            error_message = $4, lease_owner = null, lease_until = null,
            modified_date = clock_timestamp()
        where id = $1",
        id,
        error.class.as_str(),
        error.code,
        error.message,
    )
    .execute(connection)
    .await?;
    Ok(())
}
