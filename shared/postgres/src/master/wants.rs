//! Push tasks that a batch makes necessary. One row per record and target for ever: wanting it
//! again raises the version (promise O2).

use std::collections::BTreeMap;

use sluice_core::{MasterId, Priority, change::Change};
use sluice_store::{master::ApplyBatch, plan::Decided};
use sqlx::PgConnection;

use crate::{convert::int, error::Failure};

/// One version wanted at one target.
pub(super) struct Want {
    /// In the batch.
    pub(super) position: usize,
    master_id: MasterId,
    version: i32,
    /// In the batch's routes.
    route: usize,
    priority: Priority,
    /// Whether the record was known before the batch.
    known: bool,
}

/// Unchanged records that have never been wanted on one of their routes, at a target that was
/// added later: as (position, route).
pub(super) async fn missing(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
) -> Result<Vec<(usize, usize)>, Failure> {
    let (mut masters, mut connections, mut found) = (vec![], vec![], vec![]);
    for one in decided {
        let Some(before) = one.before else { continue };
        if one.change != Change::Unchanged || one.input.record.deleted {
            continue;
        }
        for (route, to) in batch.routes.iter().enumerate() {
            if to.entity_type == one.input.record.entity_type {
                masters.push(before.master_id.0);
                connections.push(to.connection_id.0);
                found.push((one.position, route));
            }
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    // The key is unique; `limit 1` keeps the planner from reading all tasks once for a batch, which
    // it takes for few while a first load goes on.
    let rows = sqlx::query_scalar!(
        r#"select k.place as "place!"
        from unnest($1::bigint[], $2::bigint[]) with ordinality k (master_id, connection_id, place)
        left join lateral (
            select q.id from sync_queue q where q.kind = 'push'
                and q.master_data_id = k.master_id and q.connection_id = k.connection_id
            limit 1
        ) q on true
        where q.id is null"#,
        &masters,
        &connections,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|place| found.get(place as usize - 1).copied())
        .collect())
}

/// New versions are wanted on every route of their entity type, unchanged records where they are
/// missing. A dry run's new records have no id yet and are counted with a stand-in that is never
/// written. Ordered by (record, connection), the order in which tasks are locked.
pub(super) fn plan(
    batch: &ApplyBatch,
    decided: &[Decided<'_>],
    ids: &BTreeMap<usize, MasterId>,
    missing: &[(usize, usize)],
) -> Vec<Want> {
    let mut wants = Vec::new();
    for one in decided {
        let record = &one.input.record;
        for (route, to) in batch.routes.iter().enumerate() {
            let wanted = to.entity_type == record.entity_type
                && (one.change.makes_version() || missing.contains(&(one.position, route)));
            if wanted {
                wants.push(Want {
                    position: one.position,
                    master_id: ids.get(&one.position).copied().unwrap_or(MasterId(0)),
                    version: one.version(),
                    route,
                    priority: record.priority.unwrap_or(to.priority),
                    known: one.before.is_some(),
                });
            }
        }
    }
    wants.sort_by_key(|want| {
        let connection = batch.routes.get(want.route).map(|to| to.connection_id);
        (want.master_id, connection)
    });
    wants
}

/// Writes them. A closed task becomes pending with no attempts used, a task blocked on a parent is
/// looked at again because its parents may be others now, and every other open task keeps its
/// state. A task whose outcome is unknown waits for a person, whatever is wanted.
///
/// The first task of a new record is no change for the mirror: its raw record is stored with it.
/// A connection that is not there is refused, because the column takes no null.
pub(super) async fn write(
    connection: &mut PgConnection,
    batch: &ApplyBatch,
    wants: &[Want],
) -> Result<(), Failure> {
    let (mut masters, mut types, mut connections, mut targets) = (vec![], vec![], vec![], vec![]);
    let (mut versions, mut priorities, mut retries) = (vec![], vec![], vec![]);
    let mut known = vec![];
    for want in wants {
        let Some(route) = batch.routes.get(want.route) else {
            continue;
        };
        masters.push(want.master_id.0);
        types.push(route.entity_type.as_str().to_owned());
        connections.push(route.connection_id.0);
        targets.push(route.target.clone());
        versions.push(want.version);
        priorities.push(i16::from(want.priority.get()));
        retries.push(int(route.max_retries));
        known.push(want.known);
    }
    if masters.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into sync_queue as q (organization_id, kind, connection_id, target_system,
            master_data_id, entity_type, priority, state, wanted_version, max_retries, traceparent,
            change_sequence)
        select $1, 'push', c.id, k.target, k.master_id, k.entity_type, k.priority,
            'pending', k.version, k.max_retries, $2, case when k.known then next_change(k.place) end
        from unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::int[], $8::smallint[],
            $9::int[], $10::bool[])
            with ordinality k (master_id, connection_id, entity_type, target, version, priority,
                max_retries, known, place)
        left join connections c on c.id = k.connection_id
        order by k.place
        on conflict (master_data_id, connection_id) where kind = 'push' do update
        set wanted_version = greatest(q.wanted_version, excluded.wanted_version),
            wanted_count = q.wanted_count + 1,
            target_system = excluded.target_system,
            priority = case when q.state in ('completed', 'dead', 'cancelled')
                then excluded.priority else least(q.priority, excluded.priority) end,
            retry_count = case when q.state in ('completed', 'dead', 'cancelled')
                then 0 else q.retry_count end,
            max_retries = excluded.max_retries,
            error_class = case when q.state in ('completed', 'dead', 'cancelled')
                then null else q.error_class end,
            error_code = case when q.state in ('completed', 'dead', 'cancelled')
                then null else q.error_code end,
            error_message = case when q.state in ('completed', 'dead', 'cancelled')
                then null else q.error_message end,
            state = case when q.state in ('completed', 'dead', 'cancelled')
                or q.blocked_on is not null then 'pending' else q.state end,
            blocked_on = null,
            traceparent = excluded.traceparent,
            change_sequence = excluded.change_sequence,
            modified_date = clock_timestamp()",
        batch.organization_id.0,
        batch.traceparent,
        &masters,
        &connections,
        &types,
        &targets,
        &versions,
        &priorities,
        &retries,
        &known,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Dead letters whose task is on its way again because a newer version came.
pub(super) async fn revive(connection: &mut PgConnection, masters: &[i64]) -> Result<(), Failure> {
    if masters.is_empty() {
        return Ok(());
    }
    // `offset 0` keeps the state out of the search: the planner would look through all that is
    // pending.
    sqlx::query!(
        "update dead_letters d set state = 'replaying', note = 'a newer version is on its way'
        from unnest($1::bigint[]) k (id)
        cross join lateral (
            select q.id, q.state from sync_queue q
            where q.kind = 'push' and q.master_data_id = k.id
            offset 0
        ) q
        where q.state = 'pending' and d.task_id = q.id and d.state = 'open'",
        masters,
    )
    .execute(connection)
    .await?;
    Ok(())
}
