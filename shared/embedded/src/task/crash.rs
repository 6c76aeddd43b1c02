//! Tasks whose worker is gone.

use chrono::Utc;
use serde_json::json;
use sluice_core::{Result, TaskId, retry::after_crash};
use sluice_store::{
    outcome::{fatal_attempt, worker_died},
    task::{Lease, PushNext, PushSettlement},
};
use sqlx::SqliteConnection;

use super::settle::settle_once;
use crate::sql::{
    convert::{micros, number, to_json},
    failed,
};

/// Frees tasks whose lease ran out, or gives them up; returns how many there were, and how many
/// of them were given up.
pub(super) async fn heal(
    connection: &mut SqliteConnection,
    now: i64,
    limit: u32,
) -> Result<(u64, u64)> {
    let rows = sqlx::query!(
        r#"select id as "id!: i64", kind as "kind!: String", lease_epoch as "epoch!: i64",
            lease_owner as "owner?: String", crash_count as "crashes!: i64"
        from sync_queue where state = 'running' and lease_until < ?1
        order by lease_until limit ?2"#,
        now,
        limit,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let (mut free, mut pulls, mut pushes) = (vec![], vec![], vec![]);
    let found = rows.len();
    for row in rows {
        let died = number::<u32>(row.crashes)?.saturating_add(1);
        match after_crash(died) {
            Some(rest) => {
                let due = (!rest.is_zero()).then(|| now.saturating_add(micros(rest)));
                free.push(json!([row.id, died, due]));
            }
            None if row.kind == "pull" => pulls.push((row.id, died)),
            None => pushes.push(PushSettlement {
                lease: Lease {
                    task_id: TaskId(row.id),
                    epoch: row.epoch,
                },
                attempt: fatal_attempt(died, row.owner, Utc::now()),
                next: PushNext::Dead,
                request: None,
            }),
        }
    }
    let free = to_json(&free)?;
    sqlx::query!(
        "update sync_queue set
            state = case when j.value ->> 2 is null then 'pending' else 'waiting' end,
            next_retry_time = j.value ->> 2, crash_count = j.value ->> 1,
            lease_owner = null, lease_until = null, modified_date = ?2
        from json_each(?1) j where sync_queue.id = j.value ->> 0",
        free,
        now,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    for (id, died) in &pulls {
        end_pull(connection, *id, *died, now).await?;
    }
    // Their leases have run out but were taken by nobody, so they still count.
    if !pushes.is_empty() {
        settle_once(connection, &pushes).await?;
    }
    Ok((found as u64, (pulls.len() + pushes.len()) as u64))
}

/// The run ends as partly done or failed.
async fn end_pull(
    connection: &mut SqliteConnection,
    id: i64,
    crashes: u32,
    now: i64,
) -> Result<()> {
    let error = worker_died(crashes);
    let class = error.class.as_str();
    sqlx::query!(
        "update sync_queue set state = 'dead', crash_count = 1, error_class = ?2,
            error_code = ?3, error_message = ?4, lease_owner = null, lease_until = null,
            modified_date = ?5
        where id = ?1",
        id,
        class,
        error.code,
        error.message,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
