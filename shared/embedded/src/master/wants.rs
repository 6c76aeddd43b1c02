//! Push tasks that a batch makes necessary. One row per record and target for ever: wanting it
//! again raises the version (promise O2).

use std::collections::BTreeMap;

use serde_json::json;
use sluice_core::{MasterId, Priority, Result, change::Change};
use sluice_store::{
    master::{ApplyBatch, Route},
    plan::Decided,
};
use sqlx::SqliteConnection;

use crate::sql::{
    convert::{now, number, to_json},
    failed,
};

/// One version wanted at one target.
pub(super) struct Want {
    /// In the batch.
    pub(super) position: usize,
    pub(super) master_id: MasterId,
    version: i32,
    /// In the batch's routes.
    route: usize,
    priority: Priority,
    /// Whether the record was known before the batch.
    known: bool,
}

/// New versions are wanted on every route of their entity type. An unchanged record is wanted
/// where it has never been: at a target that was added later. A dry run's new records have no id
/// yet and are counted with a stand-in that is never written.
pub(super) async fn plan(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
) -> Result<Vec<Want>> {
    let mut wants = Vec::new();
    let mut candidates = Vec::new();
    for one in decided {
        let record = &one.input.record;
        let routes = batch
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.entity_type == record.entity_type);
        for (
            route,
            Route {
                connection_id,
                priority,
                ..
            },
        ) in routes
        {
            let master_id = ids.get(&one.position).copied();
            if one.change.makes_version() {
                wants.push(Want {
                    position: one.position,
                    master_id: master_id.unwrap_or(MasterId(0)),
                    version: one.version(),
                    route,
                    priority: record.priority.unwrap_or(*priority),
                    known: one.before.is_some(),
                });
            } else if one.change == Change::Unchanged
                && !record.deleted
                && let Some(master_id) = master_id
            {
                candidates.push(json!([master_id, connection_id, one.position, route]));
            }
        }
    }
    if candidates.is_empty() {
        return Ok(wants);
    }
    let candidates = to_json(&candidates)?;
    let missing = sqlx::query!(
        r#"select j.value ->> 0 as "master_id!: i64", j.value ->> 2 as "position!: i64",
            j.value ->> 3 as "route!: i64"
        from json_each(?1) j
        where not exists (
            select 1 from sync_queue q where q.kind = 'push'
                and q.master_data_id = j.value ->> 0 and q.connection_id = j.value ->> 1
        )"#,
        candidates,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    for row in missing {
        let (position, route): (usize, usize) = (number(row.position)?, number(row.route)?);
        let (Some(one), Some(to)) = (decided.get(position), batch.routes.get(route)) else {
            continue;
        };
        wants.push(Want {
            position,
            master_id: MasterId(row.master_id),
            version: one.version(),
            route,
            priority: one.input.record.priority.unwrap_or(to.priority),
            known: true,
        });
    }
    Ok(wants)
}

/// Writes them. A closed task becomes pending with no attempts used, a task blocked on a parent is
/// looked at again because its parents may be others now, and every other open task keeps its
/// state. A task whose outcome is unknown waits for a person, whatever is wanted.
///
/// The first task of a new record is no change for the mirror: its raw record is stored with it.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    batch: &ApplyBatch,
    wants: &[Want],
) -> Result<()> {
    let rows: Vec<_> = wants
        .iter()
        .filter_map(|want| {
            let route = batch.routes.get(want.route)?;
            Some(json!([
                want.master_id,
                route.entity_type,
                route.connection_id,
                route.target,
                want.version,
                want.priority,
                route.max_retries,
                want.known,
            ]))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        insert into sync_queue (organization_id, kind, connection_id, target_system,
            master_data_id, entity_type, priority, state, wanted_version, max_retries,
            traceparent, change_sequence, created_date, modified_date)
        select ?2, 'push', j.value ->> 2, j.value ->> 3, j.value ->> 0, j.value ->> 1,
            j.value ->> 5, 'pending', j.value ->> 4, j.value ->> 6, ?3,
            case when j.value ->> 7 then (select top from base) + j.key + 1 end, ?4, ?4
        from json_each(?1) j where true
        on conflict (master_data_id, connection_id) where kind = 'push' do update set
            wanted_version = max(wanted_version, excluded.wanted_version),
            wanted_count = wanted_count + 1,
            target_system = excluded.target_system,
            priority = case when state in ('completed', 'dead', 'cancelled') then excluded.priority
                else min(priority, excluded.priority) end,
            retry_count = case when state in ('completed', 'dead', 'cancelled') then 0
                else retry_count end,
            max_retries = excluded.max_retries,
            error_class = case when state in ('completed', 'dead', 'cancelled') then null
                else error_class end,
            error_code = case when state in ('completed', 'dead', 'cancelled') then null
                else error_code end,
            error_message = case when state in ('completed', 'dead', 'cancelled') then null
                else error_message end,
            state = case when state in ('completed', 'dead', 'cancelled') or blocked_on is not null
                then 'pending' else state end,
            blocked_on = null,
            traceparent = excluded.traceparent,
            change_sequence = excluded.change_sequence,
            modified_date = excluded.modified_date",
        rows,
        batch.organization_id.0,
        batch.traceparent,
        now,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update dead_letters set state = 'replaying', note = 'a newer version is on its way'
        where state = 'open' and state in ('open', 'replaying') and task_id in (
            select q.id from json_each(?1) j
            cross join sync_queue q on q.kind = 'push' and q.state = 'pending'
                and q.master_data_id = j.value ->> 0 and q.connection_id = j.value ->> 2
        )",
        rows,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
