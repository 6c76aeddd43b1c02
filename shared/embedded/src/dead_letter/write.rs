//! Dead letters in the transaction that settles their task.

use serde_json::json;
use sluice_core::Result;
use sluice_store::outcome::NO_ERROR;
use sqlx::SqliteConnection;

use crate::{
    sql::{
        convert::{now, to_json},
        failed,
    },
    task::settle::Settled,
};

/// One dead letter per task that is dead now. A task that dies again after a replay has its old
/// dead letter opened again, so there is never a second one (promise O6).
pub(crate) async fn bury(connection: &mut SqliteConnection, settled: &[Settled<'_>]) -> Result<()> {
    let rows: Vec<_> = settled
        .iter()
        .filter_map(|one| {
            let attempts = one.outcome.dead_letter?;
            let error = one.outcome.error;
            Some(json!([
                one.held.id,
                one.held.intent_version.unwrap_or(one.held.wanted_version),
                error.map_or(NO_ERROR.0, |error| error.class).as_str(),
                error.map_or(NO_ERROR.1, |error| &error.code),
                error.map_or("", |error| &error.message),
                error.and_then(|error| error.http_status),
                attempts,
                one.settlement.attempt.trace_id,
            ]))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "insert into dead_letters (organization_id, connection_id, target, task_id,
            master_data_id, entity_type, entity_id, version, error_class, error_code,
            error_message, http_status, attempts, first_date, last_date, trace_id)
        select q.organization_id, q.connection_id, q.target_system, q.id, m.id, m.entity_type,
            m.entity_id, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4,
            j.value ->> 5, j.value ->> 6, ?2, ?2, j.value ->> 7
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
pub(crate) async fn resolve(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let tasks: Vec<_> = settled
        .iter()
        .filter(|one| one.outcome.link.is_some())
        .map(|one| one.held.id)
        .collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let tasks = to_json(&tasks)?;
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
