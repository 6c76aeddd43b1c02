//! What is done with given letters: putting their tasks back, or discarding them.

use serde_json::json;
use sluice_core::{
    ConnectionId, MasterId, Result, TaskId, message::DeadLetterRef, task::TaskState,
};
use sluice_store::{
    dead_letter::{DeadLetterFilter, DeadLetterState},
    replay::{self, ItemOutcome, Standing},
};
use sqlx::SqliteConnection;

use super::{log, select};
use crate::{
    master::status,
    sql::{
        EmbeddedSql,
        convert::{now, number, to_json, word},
        failed,
    },
};

/// An edit, and the version it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub(super) id: i64,
    pub(super) version: i32,
}

/// What would become of these letters now; also their tasks.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    letters: &[i64],
    edited_version: Option<i32>,
) -> Result<Vec<(i64, TaskId, ItemOutcome)>> {
    let letters = to_json(letters)?;
    sqlx::query!(
        r#"select d.id as "id!: i64", d.task_id as "task_id!: i64", d.state as "letter!: String",
            q.state as "task!: String", q.delivered_version as "delivered?: i64",
            m.current_version as "current!: i64"
        from json_each(?1) j cross join dead_letters d on d.id = j.value
        join sync_queue q on q.id = d.task_id
        join sync_master_data m on m.id = d.master_data_id"#,
        letters,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let standing = Standing {
            letter: word(DeadLetterState::parse(&row.letter))?,
            task: word(TaskState::parse(&row.task))?,
            delivered_version: row.delivered.map(number).transpose()?,
            current_version: number(row.current)?,
        };
        let outcome = replay::decide(&standing, edited_version);
        Ok((row.id, TaskId(row.task_id), outcome))
    })
    .collect()
}

/// Makes the tasks of those letters that allow it pending: the newest version, no attempts used,
/// behind everything else. Other data than was tried before is nothing that could be repeated under
/// the same key, so an attempt without outcome then counts as one of another version (0).
pub(super) async fn put_back(
    connection: &mut SqliteConnection,
    letters: &[i64],
    edit: Option<Edit>,
    actor: &str,
    note: Option<&str>,
) -> Result<Vec<(i64, ItemOutcome)>> {
    let looked = look(connection, letters, edit.map(|edit| edit.version)).await?;
    let (replayed, tasks): (Vec<i64>, Vec<TaskId>) = looked
        .iter()
        .filter(|(_, _, outcome)| *outcome == ItemOutcome::Replayed)
        .map(|(id, task, _)| (*id, *task))
        .unzip();
    let outcomes = looked
        .into_iter()
        .map(|(id, _, outcome)| (id, outcome))
        .collect();
    if replayed.is_empty() {
        return Ok(outcomes);
    }
    let (letters, tasks, now) = (to_json(&replayed)?, to_json(&tasks)?, now());
    let (edit, priority) = (edit.map(|edit| edit.id), replay::PRIORITY);
    let masters = sqlx::query!(
        r#"with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set state = 'pending', retry_count = 0, next_retry_time = null,
            limited_date = null,
            wanted_version = (select m.current_version from sync_master_data m
                where m.id = sync_queue.master_data_id),
            priority = ?3, edit_id = ?4,
            unsettled_version = case when edit_id is not ?4
                and (unsettled_version is not null or (intent_version is not null
                    and unsent_epoch is not lease_epoch)) then 0
                else unsettled_version end,
            intent_version = case when edit_id is not ?4 then null else intent_version end,
            error_class = null, error_code = null,
            error_message = null, change_sequence = (select top from base) + j.key + 1,
            modified_date = ?2
        from json_each(?1) j where sync_queue.id = j.value
        returning master_data_id as "id!: i64""#,
        tasks,
        now,
        priority,
        edit,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update dead_letters set state = 'replaying', actor = ?2, note = ?3
        where id in (select value from json_each(?1))",
        letters,
        actor,
        note,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let masters: Vec<_> = masters.into_iter().map(|row| MasterId(row.id)).collect();
    status::derive(connection, &masters).await?;
    Ok(outcomes)
}

/// See [`sluice_store::dead_letter::DeadLetterStore::replay_moved`]. The messages have left the
/// queue, so the letters owe one again should they stay open.
pub(super) async fn replay_moved(
    sql: &EmbeddedSql,
    connection: ConnectionId,
    moved: &[DeadLetterRef],
    actor: &str,
) -> Result<u64> {
    let moved: Vec<_> = moved
        .iter()
        .map(|one| json!([one.id, one.died_at.timestamp_micros()]))
        .collect();
    let moved = to_json(&moved)?;
    let mut tx = sql.begin().await?;
    let letters = sqlx::query!(
        r#"select distinct d.id as "id!: i64", d.organization_id as "organization_id!: i64"
        from json_each(?1) j cross join dead_letters d on d.id = j.value ->> 0
        where d.last_date = j.value ->> 1 and d.connection_id = ?2"#,
        moved,
        connection.0,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let ids: Vec<i64> = letters.iter().map(|row| row.id).collect();
    let outcomes = put_back(&mut tx, &ids, None, actor, None).await?;
    sqlx::query!(
        "update dead_letters set mirrored = 0
        where id in (select d.id from json_each(?1) j
            cross join dead_letters d on d.id = j.value ->> 0
            where d.connection_id = ?2 and (d.state <> 'open' or d.last_date = j.value ->> 1))",
        moved,
        connection.0,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let replayed = replayed(&outcomes);
    if let (Some(row), 1..) = (letters.first(), replayed) {
        let detail = format!("{replayed} moved to a work queue at the broker");
        log::write(
            &mut tx,
            row.organization_id,
            actor,
            "dead_letters.replayed",
            &detail,
        )
        .await?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(replayed)
}

pub(super) fn replayed(outcomes: &[(i64, ItemOutcome)]) -> u64 {
    let replayed = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == ItemOutcome::Replayed);
    replayed.count() as u64
}

pub(super) async fn discard(
    sql: &EmbeddedSql,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64> {
    let Some(filter) = filter.open() else {
        return Ok(0);
    };
    let mut tx = sql.begin().await?;
    let letters = select(&mut tx, &filter, filter.limit).await?;
    if letters.is_empty() {
        return Ok(0);
    }
    let (letters, now) = (to_json(&letters)?, now());
    let tasks = sqlx::query_scalar!(
        r#"select d.task_id as "id!: i64" from json_each(?1) j
        cross join dead_letters d on d.id = j.value"#,
        letters,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let tasks = to_json(&tasks)?;
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
    .map_err(failed)?
    .rows_affected();
    let masters: Vec<_> = masters.into_iter().map(|row| MasterId(row.id)).collect();
    status::derive(&mut tx, &masters).await?;
    log::write(
        &mut tx,
        filter.organization_id.0,
        actor,
        "dead_letters.discarded",
        &format!("{done}: {reason}"),
    )
    .await?;
    tx.commit().await.map_err(failed)?;
    Ok(done)
}
