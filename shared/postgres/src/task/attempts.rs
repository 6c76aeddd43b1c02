//! Attempts: writing one row per try, and reading them.

use std::collections::HashMap;

use sluice_core::{
    Result, TaskId, Timestamp,
    task::{AttemptOutcome, PushAction},
};
use sluice_store::task::{Attempt, AttemptRow};
use sqlx::PgConnection;

use crate::{
    convert::{count, int, word},
    error::Failure,
};

/// One row to be written; at most one per task and call of [`write`].
pub(crate) struct NewAttempt<'a> {
    pub(crate) task_id: TaskId,
    pub(crate) version: Option<i32>,
    pub(crate) outcome: AttemptOutcome,
    pub(crate) action: Option<PushAction>,
    pub(crate) attempt: &'a Attempt,
}

/// The tasks must be locked: attempts are numbered per task.
pub(crate) async fn write(
    connection: &mut PgConnection,
    rows: &[NewAttempt<'_>],
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let column = |f: fn(&Attempt) -> Option<String>| -> Vec<Option<String>> {
        rows.iter().map(|row| f(row.attempt)).collect()
    };
    let tasks: Vec<i64> = rows.iter().map(|row| row.task_id.0).collect();
    let versions: Vec<Option<i32>> = rows.iter().map(|row| row.version).collect();
    let outcomes: Vec<String> = rows
        .iter()
        .map(|row| row.outcome.as_str().to_owned())
        .collect();
    let actions: Vec<Option<String>> = rows
        .iter()
        .map(|row| row.action.map(|action| action.as_str().to_owned()))
        .collect();
    let started: Vec<Timestamp> = rows.iter().map(|row| row.attempt.started_at).collect();
    let durations: Vec<i64> = rows
        .iter()
        .map(|row| i64::try_from(row.attempt.duration.as_millis()).unwrap_or(i64::MAX))
        .collect();
    let calls: Vec<i32> = rows.iter().map(|row| int(row.attempt.calls)).collect();
    let classes = column(|a| {
        a.error
            .as_ref()
            .map(|error| error.class.as_str().to_owned())
    });
    let codes = column(|a| a.error.as_ref().map(|error| error.code.clone()));
    let messages = column(|a| a.message().map(str::to_owned));
    let statuses: Vec<Option<i32>> = rows
        .iter()
        .map(|row| row.attempt.error.as_ref()?.http_status.map(i32::from))
        .collect();
    let workers: Vec<String> = rows.iter().map(|row| row.attempt.worker.clone()).collect();
    let traces = column(|a| a.trace_id.clone());
    sqlx::query!(
        "insert into task_attempts (task_id, number, version, outcome, action, started_date,
            duration_ms, calls, error_class, error_code, error_message, http_status, worker,
            trace_id)
        select k.task_id,
            coalesce((select max(a.number) from task_attempts a where a.task_id = k.task_id), 0) + 1,
            k.version, k.outcome, k.action, k.started, k.duration, k.calls, k.class, k.code,
            k.message, k.status, k.worker, k.trace_id
        from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::timestamptz[],
            $6::bigint[], $7::int[], $8::text[], $9::text[], $10::text[], $11::int[], $12::text[],
            $13::text[])
            k (task_id, version, outcome, action, started, duration, calls, class, code, message,
                status, worker, trace_id)",
        &tasks,
        &versions as &[Option<i32>],
        &outcomes,
        &actions as &[Option<String>],
        &started,
        &durations,
        &calls,
        &classes as &[Option<String>],
        &codes as &[Option<String>],
        &messages as &[Option<String>],
        &statuses as &[Option<i32>],
        &workers,
        &traces as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Attempts of tasks, by task, oldest first.
pub(crate) async fn of_tasks(
    connection: &mut PgConnection,
    tasks: &[i64],
) -> Result<HashMap<i64, Vec<AttemptRow>>, Failure> {
    let rows = sqlx::query!(
        "select * from task_attempts where task_id = any($1::bigint[]) order by task_id, number",
        tasks,
    )
    .fetch_all(connection)
    .await?;
    let mut attempts: HashMap<i64, Vec<AttemptRow>> = HashMap::new();
    for row in rows {
        let (error_message, reason) =
            AttemptRow::words(row.error_class.as_deref(), row.error_message);
        let attempt = AttemptRow {
            number: count(row.number)?,
            version: row.version,
            outcome: word(AttemptOutcome::parse(&row.outcome))?,
            action: row
                .action
                .map(|action| word(PushAction::parse(&action)))
                .transpose()?,
            started_at: row.started_date,
            duration_ms: count(row.duration_ms)?,
            calls: count(row.calls)?,
            error_class: row.error_class,
            error_code: row.error_code,
            error_message,
            reason,
            http_status: row.http_status.map(count).transpose()?,
            worker: row.worker,
            trace_id: row.trace_id,
        };
        attempts.entry(row.task_id).or_default().push(attempt);
    }
    Ok(attempts)
}
