//! Dead letters in the transaction that settles their task.

use serde_json::{Value, json};
use sluice_core::{Result, TaskId};
use sluice_store::task::Attempt;
use sqlx::SqliteConnection;

use crate::sql::{
    convert::{now, to_json},
    failed,
};

/// What [`bury`] needs beside the task's own row.
pub(crate) fn row(task: TaskId, version: Option<i32>, attempt: &Attempt) -> Value {
    let status = attempt.error.as_ref().and_then(|error| error.http_status);
    json!([task, version, status, attempt.trace_id])
}

/// One dead letter per task that is dead by now. A task that dies again after a replay has its old
/// dead letter opened again, so there is never a second one (promise O6).
pub(crate) async fn bury(connection: &mut SqliteConnection, rows: &[Value]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(rows)?, now());
    sqlx::query!(
        "insert into dead_letters (organization_id, connection_id, target, task_id,
            master_data_id, entity_type, entity_id, version, error_class, error_code,
            error_message, http_status, attempts, first_date, last_date, trace_id)
        select q.organization_id, q.connection_id, q.target_system, q.id, m.id, m.entity_type,
            m.entity_id, coalesce(j.value ->> 1, q.wanted_version),
            coalesce(q.error_class, 'internal'), coalesce(q.error_code, 'unspecified'),
            coalesce(q.error_message, 'no error was given'), j.value ->> 2, q.retry_count + 1,
            ?2, ?2, j.value ->> 3
        from json_each(?1) j cross join sync_queue q on q.id = j.value ->> 0
        join sync_master_data m on m.id = q.master_data_id where true
        on conflict (task_id) where state in ('open', 'replaying') do update set
            state = 'open', version = excluded.version, error_class = excluded.error_class,
            error_code = excluded.error_code, error_message = excluded.error_message,
            http_status = excluded.http_status, attempts = excluded.attempts,
            last_date = excluded.last_date, trace_id = excluded.trace_id, mirrored = 0",
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The tasks were delivered after all.
pub(crate) async fn resolve(connection: &mut SqliteConnection, tasks: &[i64]) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let tasks = to_json(tasks)?;
    sqlx::query!(
        "update dead_letters set state = 'resolved'
        where state in ('open', 'replaying') and task_id in (select value from json_each(?1))",
        tasks,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
