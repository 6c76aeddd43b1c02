//! What settling writes: one statement per table, whatever the size of the batch.

use serde_json::json;
use sluice_core::{MasterId, Result};
use sqlx::SqliteConnection;

use super::settle::Settled;
use crate::{
    master::status,
    sql::{
        convert::{micros, now, to_json},
        failed,
    },
};

pub(super) async fn tasks(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let now = now();
    let rows: Vec<_> = settled
        .iter()
        .map(|Settled { held, outcome, .. }| {
            json!([
                held.id,
                outcome.state.as_str(),
                outcome.intent_version,
                outcome.unsettled_version,
                outcome.delivered_version,
                outcome.retry_count,
                outcome.wait.map(|wait| now.saturating_add(micros(wait))),
                outcome.blocked_on,
                outcome.error.map(|error| error.class.as_str()),
                outcome.error.map(|error| &error.code),
                outcome.error.map(|error| &error.message),
                outcome.crash_count,
                outcome.refusal_count,
                outcome.limited,
            ])
        })
        .collect();
    let rows = to_json(&rows)?;
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set
            state = j.value ->> 1, intent_version = j.value ->> 2,
            unsettled_version = j.value ->> 3, delivered_version = j.value ->> 4,
            retry_count = j.value ->> 5, next_retry_time = j.value ->> 6,
            blocked_on = j.value ->> 7, error_class = j.value ->> 8, error_code = j.value ->> 9,
            error_message = j.value ->> 10, crash_count = j.value ->> 11,
            refusal_count = j.value ->> 12,
            limited_date = case when j.value ->> 13 is null then limited_date
                when j.value ->> 13 then coalesce(limited_date, ?2) end,
            lease_owner = null, lease_until = null,
            staged_date = null, change_sequence = (select top from base) + j.key + 1,
            modified_date = ?2
        from json_each(?1) j
        where sync_queue.id = j.value ->> 0",
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Both sides agree on what was delivered. A record deleted there has no counterpart any more.
pub(super) async fn links(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let rows: Vec<_> = settled
        .iter()
        .filter_map(|Settled { held, outcome, .. }| {
            let link = outcome.link.as_ref()?;
            Some(json!([
                held.master_id,
                held.connection_id,
                link.external_id.filter(|_| !link.forget),
                link.version,
                link.hash,
                link.forget,
            ]))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "insert into links (master_data_id, connection_id, organization_id, entity_type,
            external_id, base_version, pushed_version, pushed_hash, pushed_date)
        select m.id, j.value ->> 1, m.organization_id, m.entity_type, j.value ->> 2,
            j.value ->> 3, j.value ->> 3, j.value ->> 4, ?2
        from json_each(?1) j cross join sync_master_data m on m.id = j.value ->> 0 where true
        on conflict (master_data_id, connection_id) do update set
            external_id = coalesce(excluded.external_id, external_id),
            base_version = excluded.base_version, pushed_version = excluded.pushed_version,
            pushed_hash = excluded.pushed_hash, pushed_date = excluded.pushed_date",
        rows,
        now,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update links set external_id = null from json_each(?1) j
        where links.master_data_id = j.value ->> 0 and links.connection_id = j.value ->> 1
            and j.value ->> 5",
        rows,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Children wait for the link, so a delivery without an external id releases nobody. Each child
/// is released once, because releasing forgets what it waited for (promise O7).
pub(super) async fn release_children(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let rows: Vec<_> = settled
        .iter()
        .filter(|one| one.outcome.link.is_some())
        .map(|Settled { held, .. }| {
            json!([held.connection_id, held.blocking_key(), held.master_id])
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set state = 'pending', blocked_on = null, modified_date = ?2,
            change_sequence = (select top from base) + free.place
        from (
            select child.id, row_number() over (order by child.id) as place
            from json_each(?1) j
            cross join links l on l.master_data_id = j.value ->> 2
                and l.connection_id = j.value ->> 0 and l.external_id is not null
            cross join sync_queue child on child.connection_id = j.value ->> 0
                and child.blocked_on = j.value ->> 1 and child.state = 'waiting'
        ) free
        where sync_queue.id = free.id",
        rows,
        now,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// The record's own columns: when it was last tried, how often, and its derived status.
pub(super) async fn records(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let tried: Vec<MasterId> = settled
        .iter()
        .filter(|one| one.outcome.attempt.is_some())
        .map(|one| one.held.master_id)
        .collect();
    let (tried, now) = (to_json(&tried)?, now());
    sqlx::query!(
        "update sync_master_data set last_sync_attempt = ?2,
            sync_attempt_count = sync_attempt_count + 1
        where id in (select value from json_each(?1))",
        tried,
        now,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    let masters: Vec<_> = settled.iter().map(|one| one.held.master_id).collect();
    status::derive(connection, &masters).await
}
