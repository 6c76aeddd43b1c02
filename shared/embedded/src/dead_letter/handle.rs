//! What people do with dead letters: replay or discard, by filter.

use sluice_core::{MasterId, Result, TaskId};
use sluice_store::dead_letter::{DeadLetterFilter, DeadLetterState, ReplayReport};
use sqlx::SqliteConnection;

use super::{PAGE, matching};
use crate::{
    master::status,
    sql::{
        EmbeddedSql,
        convert::{now, to_json},
        failed,
    },
};

/// The open dead letters that match, as they are now: their ids and tasks.
#[derive(Default)]
struct Chosen {
    replayable: Vec<(i64, TaskId)>,
    others: Vec<(i64, TaskId)>,
}

/// The ids of dead letters and of their tasks as JSON parameters.
fn parameters(chosen: &[(i64, TaskId)]) -> Result<(String, String)> {
    let (letters, tasks): (Vec<i64>, Vec<TaskId>) = chosen.iter().copied().unzip();
    Ok((to_json(&letters)?, to_json(&tasks)?))
}

/// Reads ids in pages, so that a filter that matches everything stays small.
async fn choose(connection: &mut SqliteConnection, filter: &DeadLetterFilter) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    if filter
        .state
        .is_some_and(|state| state != DeadLetterState::Open)
    {
        return Ok(chosen);
    }
    let mut page = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..filter.clone()
    };
    let mut left = filter.limit;
    while left > 0 {
        let found = matching(connection, &page, left.min(PAGE)).await?;
        let Some(last) = found.last() else { break };
        page.after = Some(last.letter.id);
        left = left.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        for one in found {
            let ids = (one.letter.id, one.letter.task_id);
            if one.replayable {
                chosen.replayable.push(ids);
            } else {
                chosen.others.push(ids);
            }
        }
    }
    Ok(chosen)
}

/// The newest version with attempts 0 goes the ordinary way, so a replay can neither overtake nor
/// repeat what the target holds.
pub(crate) async fn replay(
    sql: &EmbeddedSql,
    filter: &DeadLetterFilter,
    actor: &str,
    dry_run: bool,
) -> Result<ReplayReport> {
    let mut tx = sql.begin().await?;
    let chosen = choose(&mut tx, filter).await?;
    let report = ReplayReport {
        matched: (chosen.replayable.len() + chosen.others.len()) as u64,
        replayed: chosen.replayable.len() as u64,
        skipped: chosen.others.len() as u64,
    };
    if dry_run || chosen.replayable.is_empty() {
        return Ok(report);
    }
    let ((letters, tasks), now) = (parameters(&chosen.replayable)?, now());
    let masters = sqlx::query!(
        r#"with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set state = 'pending', retry_count = 0, next_retry_time = null,
            wanted_version = (select m.current_version from sync_master_data m
                where m.id = sync_queue.master_data_id),
            error_class = null, error_code = null,
            error_message = null, change_sequence = (select top from base) + j.key + 1,
            modified_date = ?2
        from json_each(?1) j where sync_queue.id = j.value
        returning master_data_id as "id!: i64""#,
        tasks,
        now,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update dead_letters set state = 'replaying', actor = ?2
        where id in (select value from json_each(?1))",
        letters,
        actor,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let masters: Vec<_> = masters.into_iter().map(|row| MasterId(row.id)).collect();
    status::derive(&mut tx, &masters).await?;
    tx.commit().await.map_err(failed)?;
    Ok(report)
}

pub(crate) async fn discard(
    sql: &EmbeddedSql,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64> {
    let mut tx = sql.begin().await?;
    let mut chosen = choose(&mut tx, filter).await?;
    chosen.replayable.append(&mut chosen.others);
    if chosen.replayable.is_empty() {
        return Ok(0);
    }
    let ((letters, tasks), now) = (parameters(&chosen.replayable)?, now());
    let masters = sqlx::query!(
        r#"with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set state = 'cancelled', error_class = null, error_code = null,
            error_message = null, change_sequence = (select top from base) + j.key + 1,
            modified_date = ?2
        from json_each(?1) j where sync_queue.id = j.value and sync_queue.state = 'dead'
        returning master_data_id as "id!: i64""#,
        tasks,
        now,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let done = sqlx::query!(
        "update dead_letters set state = 'discarded', actor = ?2, note = ?3
        where id in (select value from json_each(?1))",
        letters,
        actor,
        reason,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let masters: Vec<_> = masters.into_iter().map(|row| MasterId(row.id)).collect();
    status::derive(&mut tx, &masters).await?;
    tx.commit().await.map_err(failed)?;
    Ok(done.rows_affected())
}
