//! Dead letters in the transaction that settles their task.

use sluice_core::Result;
use sluice_store::dead_letter::Buried;
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
        .filter_map(|one| Buried::new(one.held, one.settlement, &one.outcome))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "insert into dead_letters (organization_id, connection_id, target, task_id,
            master_data_id, entity_type, entity_id, version, error_class, error_code,
            error_message, http_status, attempts, first_date, last_date, trace_id, fingerprint)
        select q.organization_id, q.connection_id, q.target_system, q.id, m.id, m.entity_type,
            m.entity_id, j.value ->> 'version', j.value ->> 'class', j.value ->> 'code',
            j.value ->> 'message', j.value ->> 'http_status', j.value ->> 'attempts', ?2, ?2,
            j.value ->> 'trace_id', j.value ->> 'fingerprint'
        from json_each(?1) j cross join sync_queue q on q.id = j.value ->> 'task_id'
        join sync_master_data m on m.id = q.master_data_id where true
        on conflict (task_id) where state in ('open', 'replaying') do update set
            state = 'open', version = excluded.version, error_class = excluded.error_class,
            error_code = excluded.error_code, error_message = excluded.error_message,
            http_status = excluded.http_status, attempts = excluded.attempts,
            last_date = excluded.last_date, trace_id = excluded.trace_id,
            fingerprint = excluded.fingerprint, mirrored = 0",
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
