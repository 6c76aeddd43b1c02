//! Dead letters in the transaction that settles their task.

use sluice_core::TaskId;
use sluice_store::{outcome::NO_ERROR, task::Attempt};
use sqlx::PgConnection;

use crate::{convert::int, error::Failure};

/// A task that has just become dead.
pub(crate) struct Buried<'a> {
    pub(crate) task_id: TaskId,
    /// The version that could not be delivered.
    pub(crate) version: i32,
    pub(crate) attempts: u32,
    pub(crate) attempt: &'a Attempt,
}

/// One dead letter per task. A task that dies again after a replay has its old dead letter opened
/// again, so there is never a second one (promise O6).
pub(crate) async fn bury(
    connection: &mut PgConnection,
    dead: &[Buried<'_>],
) -> Result<(), Failure> {
    if dead.is_empty() {
        return Ok(());
    }
    let (mut tasks, mut versions, mut attempts) = (vec![], vec![], vec![]);
    let (mut classes, mut codes, mut messages) = (vec![], vec![], vec![]);
    let (mut statuses, mut traces) = (vec![], vec![]);
    for one in dead {
        let error = one.attempt.error.as_ref();
        tasks.push(one.task_id.0);
        versions.push(one.version);
        attempts.push(int(one.attempts));
        classes.push(
            error
                .map_or(NO_ERROR.0, |error| error.class)
                .as_str()
                .to_owned(),
        );
        codes.push(error.map_or(NO_ERROR.1, |error| &error.code).to_owned());
        messages.push(error.map_or(String::new(), |error| error.message.clone()));
        statuses.push(error.and_then(|error| error.http_status).map(i32::from));
        traces.push(one.attempt.trace_id.clone());
    }
    sqlx::query!(
        "insert into dead_letters (organization_id, connection_id, target, task_id,
            master_data_id, entity_type, entity_id, version, error_class, error_code,
            error_message, http_status, attempts, first_date, last_date, trace_id)
        select q.organization_id, q.connection_id, q.target_system, q.id, m.id, m.entity_type,
            m.entity_id, k.version, k.class, k.code, k.message, k.status, k.attempts,
            clock_timestamp(), clock_timestamp(), k.trace_id
        from unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[],
            $7::int[], $8::text[])
            k (task_id, version, attempts, class, code, message, status, trace_id)
        join sync_queue q on q.id = k.task_id
        join sync_master_data m on m.id = q.master_data_id
        on conflict (task_id) where state in ('open', 'replaying') do update
        set state = 'open', version = excluded.version, error_class = excluded.error_class,
            error_code = excluded.error_code, error_message = excluded.error_message,
            http_status = excluded.http_status, attempts = excluded.attempts,
            last_date = excluded.last_date, trace_id = excluded.trace_id, mirrored = false",
        &tasks,
        &versions,
        &attempts,
        &classes,
        &codes,
        &messages,
        &statuses as &[Option<i32>],
        &traces as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tasks were delivered after all.
pub(crate) async fn resolve(connection: &mut PgConnection, tasks: &[i64]) -> Result<(), Failure> {
    if tasks.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update dead_letters set state = 'resolved'
        where state in ('open', 'replaying') and task_id = any($1::bigint[])",
        tasks,
    )
    .execute(connection)
    .await?;
    Ok(())
}
