//! Dead letters in the transaction that settles their task.

use sluice_store::dead_letter::Buried;
use sqlx::PgConnection;

use crate::{convert::int, error::Failure};

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
    let (mut statuses, mut traces, mut fingerprints) = (vec![], vec![], vec![]);
    for one in dead {
        tasks.push(one.task_id.0);
        versions.push(one.version);
        attempts.push(int(one.attempts));
        classes.push(one.class.as_str().to_owned());
        codes.push(one.code.to_owned());
        messages.push(one.message.to_owned());
        statuses.push(one.http_status.map(i32::from));
        traces.push(one.trace_id.map(str::to_owned));
        fingerprints.push(one.fingerprint.clone());
    }
    sqlx::query!(
        "with clock as materialized (select clock_timestamp() as now)
        insert into dead_letters (organization_id, connection_id, target, task_id,
            master_data_id, entity_type, entity_id, version, error_class, error_code,
            error_message, http_status, attempts, first_date, last_date, trace_id, fingerprint)
        select q.organization_id, q.connection_id, q.target_system, q.id, m.id, m.entity_type,
            m.entity_id, k.version, k.class, k.code, k.message, k.status, k.attempts,
            clock.now, clock.now, k.trace_id, k.fingerprint
        from unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[],
            $7::int[], $8::text[], $9::text[])
            k (task_id, version, attempts, class, code, message, status, trace_id, fingerprint)
        cross join clock
        join sync_queue q on q.id = k.task_id
        join sync_master_data m on m.id = q.master_data_id
        on conflict (task_id) where state in ('open', 'replaying') do update
        set state = 'open', version = excluded.version, error_class = excluded.error_class,
            error_code = excluded.error_code, error_message = excluded.error_message,
            http_status = excluded.http_status, attempts = excluded.attempts,
            last_date = excluded.last_date, trace_id = excluded.trace_id,
            fingerprint = excluded.fingerprint, mirrored = false",
        &tasks,
        &versions,
        &attempts,
        &classes,
        &codes,
        &messages,
        &statuses as &[Option<i32>],
        &traces as &[Option<String>],
        &fingerprints,
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
