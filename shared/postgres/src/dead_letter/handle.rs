//! What is done with given letters: putting their tasks back, or discarding them.

use sluice_core::{ConnectionId, Result, message::DeadLetterRef, task::TaskState};
use sluice_store::{
    dead_letter::{DeadLetterFilter, DeadLetterState},
    replay::{self, ItemOutcome, Standing},
};
use sqlx::PgConnection;

use super::{log, select};
use crate::{
    convert::word,
    error::{Failure, transaction},
    master::{lock, status},
    pool::Pool,
};

/// An edit, and the version it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub(super) id: i64,
    pub(super) version: i32,
}

/// A letter with its task, and what would become of it now.
pub(super) struct Looked {
    pub(super) id: i64,
    task_id: i64,
    pub(super) outcome: ItemOutcome,
}

/// Looks at these letters, in the order in which tasks are locked.
pub(super) async fn look(
    connection: &mut PgConnection,
    letters: &[i64],
    edited_version: Option<i32>,
) -> Result<Vec<Looked>, Failure> {
    let rows = sqlx::query!(
        "select d.id, d.task_id, d.state as letter, q.state as task, q.delivered_version,
            m.current_version
        from dead_letters d join sync_queue q on q.id = d.task_id
        join sync_master_data m on m.id = d.master_data_id
        where d.id = any($1::bigint[]) order by q.master_data_id, q.connection_id",
        letters,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let standing = Standing {
                letter: word(DeadLetterState::parse(&row.letter))?,
                task: word(TaskState::parse(&row.task))?,
                delivered_version: row.delivered_version,
                current_version: row.current_version,
            };
            Ok(Looked {
                id: row.id,
                task_id: row.task_id,
                outcome: replay::decide(&standing, edited_version),
            })
        })
        .collect()
}

/// Locks the records of these letters, then their tasks. Returns the records.
async fn hold(connection: &mut PgConnection, letters: &[i64]) -> Result<Vec<i64>, Failure> {
    let masters = sqlx::query_scalar!(
        "select distinct master_data_id from dead_letters where id = any($1::bigint[])",
        letters,
    )
    .fetch_all(&mut *connection)
    .await?;
    lock(connection, &masters).await?;
    sqlx::query!(
        "select q.id from sync_queue q
        where q.id in (select d.task_id from dead_letters d where d.id = any($1::bigint[]))
        order by q.master_data_id, q.connection_id for no key update",
        letters,
    )
    .fetch_all(connection)
    .await?;
    Ok(masters)
}

/// Makes the tasks of those letters that allow it pending: the newest version, no attempts used,
/// behind everything else. Other data than was tried before is nothing that could be repeated under
/// the same key, so an attempt without outcome then counts as one of another version (0).
pub(super) async fn put_back(
    connection: &mut PgConnection,
    letters: &[i64],
    edit: Option<Edit>,
    actor: &str,
    note: Option<&str>,
) -> Result<Vec<(i64, ItemOutcome)>, Failure> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let masters = hold(connection, letters).await?;
    let looked = look(connection, letters, edit.map(|edit| edit.version)).await?;
    let (replayed, tasks): (Vec<i64>, Vec<i64>) = looked
        .iter()
        .filter(|one| one.outcome == ItemOutcome::Replayed)
        .map(|one| (one.id, one.task_id))
        .unzip();
    let outcomes = looked
        .into_iter()
        .map(|one| (one.id, one.outcome))
        .collect();
    if replayed.is_empty() {
        return Ok(outcomes);
    }
    sqlx::query!(
        "update sync_queue q
        set state = 'pending', retry_count = 0, next_retry_time = null, limited_date = null,
            wanted_version = m.current_version, priority = $2, edit_id = $3,
            unsettled_version = case when q.edit_id is distinct from $3
                and (q.unsettled_version is not null or (q.intent_version is not null
                    and q.unsent_epoch is distinct from q.lease_epoch)) then 0
                else q.unsettled_version end,
            intent_version = case when q.edit_id is distinct from $3 then null
                else q.intent_version end,
            error_class = null, error_code = null, error_message = null,
            change_sequence = next_change(k.place), modified_date = clock_timestamp()
        from unnest($1::bigint[]) with ordinality k (id, place)
        join sync_queue t on t.id = k.id
        join sync_master_data m on m.id = t.master_data_id
        where q.id = k.id",
        &tasks,
        i16::from(replay::PRIORITY),
        edit.map(|edit| edit.id),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update dead_letters set state = 'replaying', actor = $2, note = $3
        where id = any($1::bigint[])",
        &replayed,
        actor,
        note,
    )
    .execute(&mut *connection)
    .await?;
    status::derive(connection, &masters).await?;
    Ok(outcomes)
}

/// See [`sluice_store::dead_letter::DeadLetterStore::replay_moved`].
pub(super) async fn replay_moved(
    pool: &Pool,
    connection_id: ConnectionId,
    moved: &[DeadLetterRef],
    actor: &str,
) -> Result<u64> {
    transaction!(pool, connection => moved_once(connection, connection_id, moved, actor).await)
}

/// The messages have left the queue, so the letters owe one again should they stay open.
async fn moved_once(
    connection: &mut PgConnection,
    connection_id: ConnectionId,
    moved: &[DeadLetterRef],
    actor: &str,
) -> Result<u64, Failure> {
    let (ids, times): (Vec<i64>, Vec<_>) = moved.iter().map(|one| (one.id, one.died_at)).unzip();
    let letters = sqlx::query!(
        r#"select distinct d.id, d.organization_id
        from unnest($1::bigint[], $2::timestamptz[]) k (id, died)
        join dead_letters d on d.id = k.id and d.last_date = k.died
        where d.connection_id = $3"#,
        &ids,
        &times,
        connection_id.0,
    )
    .fetch_all(&mut *connection)
    .await?;
    let matching: Vec<i64> = letters.iter().map(|row| row.id).collect();
    let outcomes = put_back(connection, &matching, None, actor, None).await?;
    sqlx::query!(
        "update dead_letters d set mirrored = false
        from unnest($1::bigint[], $2::timestamptz[]) k (id, died)
        where d.id = k.id and (d.state <> 'open' or d.last_date = k.died)
            and d.connection_id = $3",
        &ids,
        &times,
        connection_id.0,
    )
    .execute(&mut *connection)
    .await?;
    let replayed = replayed(&outcomes);
    if let (Some(row), 1..) = (letters.first(), replayed) {
        let (event, detail) = (
            "dead_letters.replayed",
            format!("{replayed} moved to a work queue at the broker"),
        );
        log::write(connection, row.organization_id, actor, event, &detail).await?;
    }
    Ok(replayed)
}

pub(super) fn replayed(outcomes: &[(i64, ItemOutcome)]) -> u64 {
    let replayed = outcomes
        .iter()
        .filter(|(_, outcome)| *outcome == ItemOutcome::Replayed);
    replayed.count() as u64
}

pub(super) async fn discard(
    pool: &Pool,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64> {
    let Some(filter) = filter.open() else {
        return Ok(0);
    };
    transaction!(pool, connection => discard_once(connection, &filter, actor, reason).await)
}

async fn discard_once(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
    actor: &str,
    reason: &str,
) -> Result<u64, Failure> {
    let letters = select(connection, filter, filter.limit).await?;
    if letters.is_empty() {
        return Ok(0);
    }
    let masters = hold(connection, &letters).await?;
    // Those that are still open: somebody else may have replayed them meanwhile.
    let tasks = sqlx::query_scalar!(
        "update dead_letters set state = 'discarded', actor = $2, note = $3
        where id = any($1::bigint[]) and state = 'open' returning task_id",
        &letters,
        actor,
        reason,
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "update sync_queue q
        set state = 'cancelled', error_class = null, error_code = null, error_message = null,
            change_sequence = next_change(k.place), modified_date = clock_timestamp()
        from unnest($1::bigint[]) with ordinality k (id, place)
        where q.id = k.id and q.state = 'dead'",
        &tasks,
    )
    .execute(&mut *connection)
    .await?;
    status::derive(connection, &masters).await?;
    let (event, detail) = (
        "dead_letters.discarded",
        format!("{}: {reason}", tasks.len()),
    );
    log::write(connection, filter.organization_id.0, actor, event, &detail).await?;
    Ok(tasks.len() as u64)
}
