//! Attempts: writing one row per try, and reading them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_core::{
    Result, TaskId,
    task::{AttemptOutcome, PushAction},
};
use sluice_store::task::{Attempt, AttemptRow};
use sqlx::SqliteConnection;

use crate::sql::{
    convert::{number, time, to_json, word},
    failed,
};

/// One row to be written; at most one per task and call of [`write`].
pub(crate) fn row(
    task: TaskId,
    version: Option<i32>,
    attempt: &Attempt,
    outcome: AttemptOutcome,
    action: Option<PushAction>,
) -> Value {
    let error = attempt.error.as_ref();
    json!([
        task,
        version,
        outcome.as_str(),
        action.map(PushAction::as_str),
        attempt.started_at.timestamp_micros(),
        u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
        attempt.calls,
        error.map(|error| error.class.as_str()),
        error.map(|error| &error.code),
        attempt.message(),
        error.and_then(|error| error.http_status),
        attempt.worker,
        attempt.trace_id,
    ])
}

pub(crate) async fn write(connection: &mut SqliteConnection, rows: &[Value]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = to_json(rows)?;
    sqlx::query!(
        "insert into task_attempts (task_id, number, version, outcome, action, started_date,
            duration_ms, calls, error_class, error_code, error_message, http_status, worker,
            trace_id)
        select j.value ->> 0,
            coalesce((select max(a.number) from task_attempts a where a.task_id = j.value ->> 0), 0)
                + 1,
            j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5,
            j.value ->> 6, j.value ->> 7, j.value ->> 8, j.value ->> 9, j.value ->> 10,
            j.value ->> 11, j.value ->> 12
        from json_each(?1) j",
        rows,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Attempts of tasks, by task, oldest first.
pub(crate) async fn of_tasks(
    connection: &mut SqliteConnection,
    tasks: &[i64],
) -> Result<BTreeMap<i64, Vec<AttemptRow>>> {
    let ids = to_json(tasks)?;
    let rows = sqlx::query!(
        r#"select a.task_id as "task_id!: i64", a.number as "number!: i64",
            a.version as "version?: i64", a.outcome as "outcome!: String",
            a.action as "action?: String", a.started_date as "started!: i64",
            a.duration_ms as "duration_ms!: i64", a.calls as "calls!: i64",
            a.error_class as "error_class?: String", a.error_code as "error_code?: String",
            a.error_message as "error_message?: String", a.http_status as "http_status?: i64",
            a.worker as "worker!: String", a.trace_id as "trace_id?: String"
        from task_attempts a where a.task_id in (select value from json_each(?1))
        order by a.task_id, a.number"#,
        ids,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let mut attempts: BTreeMap<i64, Vec<AttemptRow>> = BTreeMap::new();
    for row in rows {
        let (error_message, reason) =
            AttemptRow::words(row.error_class.as_deref(), row.error_message);
        let attempt = AttemptRow {
            number: number(row.number)?,
            version: row.version.map(number).transpose()?,
            outcome: word(AttemptOutcome::parse(&row.outcome))?,
            action: row
                .action
                .map(|action| word(PushAction::parse(&action)))
                .transpose()?,
            started_at: time(row.started)?,
            duration_ms: number(row.duration_ms)?,
            calls: number(row.calls)?,
            error_class: row.error_class,
            error_code: row.error_code,
            error_message,
            reason,
            http_status: row.http_status.map(number).transpose()?,
            worker: row.worker,
            trace_id: row.trace_id,
        };
        attempts.entry(row.task_id).or_default().push(attempt);
    }
    Ok(attempts)
}
