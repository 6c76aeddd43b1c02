//! Claiming pushes.

use std::collections::HashMap;

use serde_json::Value;
use sluice_core::{ConnectionId, MasterId, OrganizationId, Result, TaskId, record::RecordRef};
use sluice_store::task::{Claim, Claimed, Lease, ParentLink, PushTask, TargetLink};
use sqlx::PgConnection;

use crate::{
    convert::{count, duration, from_json, hash_option, priority, seconds},
    error::{Failure, transaction},
    master::status,
    pool::Pool,
};

/// Two statements: lease what is free, read what is needed to send it. An intent that is still
/// there was never settled: it moves to `unsettled_version`, where the oldest stays until a
/// delivery (promise O1), unless it is known that nothing was sent ([`mark_unsent`]). A third one
/// finds out whether what was left out are suspects.
pub(crate) async fn claim(pool: &Pool, claim: &Claim) -> Result<Claimed<PushTask>> {
    if claim.ids.is_empty() {
        return Ok(Claimed {
            tasks: Vec::new(),
            suspects: Vec::new(),
        });
    }
    transaction!(pool, connection => claim_once(connection, claim).await)
}

pub(crate) async fn claim_once(
    connection: &mut PgConnection,
    claim: &Claim,
) -> Result<Claimed<PushTask>, Failure> {
    let ids: Vec<i64> = claim.ids.iter().map(|id| id.0).collect();
    // Found by id only, looked at afterwards: with more to search by, the planner would take an
    // index of all pushes while it thinks them few.
    let rows = sqlx::query!(
        r#"with named as materialized (
            select id, kind, state, lease_until, crash_count as crashed,
                coalesce(delivered_version >= wanted_version, false) as delivered,
                (state = 'running')::int as crashes
            from sync_queue
            where id = any($1::bigint[])
            order by master_data_id, connection_id
            for no key update
        ), free as (
            select id, delivered, crashes from named
            where kind = 'push'
                and ((state in ('pending', 'staged') and (crashed = 0 or $4))
                    or (state = 'running' and lease_until < clock_timestamp()
                        and crashed = 0 and $4))
        )
        update sync_queue q
        set state = case when delivered then 'completed' else 'running' end,
            unsettled_version = case when delivered then null
                when unsent_epoch = lease_epoch then unsettled_version
                else coalesce(unsettled_version, intent_version) end,
            intent_version = case when delivered then null else wanted_version end,
            change_sequence = case when delivered then next_change(q.id % 1000000)
                else change_sequence end,
            crash_count = crash_count + crashes,
            lease_owner = case when delivered then null else $2 end,
            lease_epoch = lease_epoch + 1,
            lease_until = case when delivered then null
                else clock_timestamp() + make_interval(secs => $3::float8) end,
            staged_date = null, modified_date = clock_timestamp()
        from free where q.id = free.id
        returning q.id, q.master_data_id as "master_id!", free.delivered as "delivered!""#,
        &ids,
        claim.owner,
        seconds(claim.lease),
        claim.suspects,
    )
    .fetch_all(&mut *connection)
    .await?;
    let suspects = if rows.len() < ids.len() && !claim.suspects {
        suspects(&mut *connection, &ids, "push").await?
    } else {
        Vec::new()
    };
    let delivered: Vec<i64> = rows
        .iter()
        .filter(|row| row.delivered)
        .map(|row| row.master_id)
        .collect();
    let leased: Vec<i64> = rows
        .iter()
        .filter(|row| !row.delivered)
        .map(|row| row.id)
        .collect();
    let mut tasks = load(connection, &leased).await?;
    mark_unsent(connection, claim, &tasks).await?;
    // Rare, and last: everybody else locks records before tasks. A collision is tried again.
    status::derive(connection, &delivered).await?;
    Ok(Claimed {
        tasks: claim.ids.iter().filter_map(|id| tasks.remove(id)).collect(),
        suspects,
    })
}

/// Remembers that these claims send nothing that they have not kept, for as long as they have kept
/// nothing. Decided from what was loaded, because that is what the worker decides from.
async fn mark_unsent(
    connection: &mut PgConnection,
    claim: &Claim,
    tasks: &HashMap<TaskId, PushTask>,
) -> Result<(), Failure> {
    let ids: Vec<i64> = tasks
        .values()
        .filter(|task| claim.keeps_what_it_sends(task))
        .map(|task| task.lease.task_id.0)
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update sync_queue set unsent_epoch = lease_epoch where id = any($1::bigint[])",
        &ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of the named tasks that a claim which takes suspects would get.
pub(super) async fn suspects(
    connection: &mut PgConnection,
    ids: &[i64],
    kind: &str,
) -> Result<Vec<TaskId>, Failure> {
    let rows = sqlx::query_scalar!(
        "select id from sync_queue
        where id = any($1::bigint[]) and kind = $2
            and ((state in ('pending', 'staged') and crash_count > 0)
                or (state = 'running' and lease_until < clock_timestamp() and crash_count = 0))
        order by id",
        ids,
        kind,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(TaskId).collect())
}

async fn load(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<HashMap<TaskId, PushTask>, Failure> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"select q.id, q.lease_epoch, q.organization_id, q.connection_id, q.priority,
            m.id as master_id, m.entity_type, m.entity_id, m.source_connection_id, m.source_system,
            m.source_id, q.wanted_version as "version!",
            coalesce(e.data, v.data_snapshot) as "data!: Value", e.id as "edit?",
            v.change_type = 'delete' as "deleted!", v.source_modified,
            l.master_data_id is not null as "linked!", l.external_id as "external_id?",
            l.pushed_version as "pushed_version?", l.pushed_hash as "pushed_hash?",
            q.unsettled_version, q.refusal_count, q.retry_count, q.max_retries, q.traceparent,
            extract(epoch from clock_timestamp() - q.limited_date)::float8 as limited_for,
            case when m.parents::text <> '[]' then (
                select json_agg(json_build_array(p.entity_type, p.source_id, pl.external_id)
                    order by p.place)
                from rows from (json_to_recordset(m.parents) as (entity_type text, source_id text))
                    with ordinality p (entity_type, source_id, place)
                left join sync_master_data pm on pm.source_connection_id = m.source_connection_id
                    and pm.entity_type = p.entity_type and pm.source_id = p.source_id
                left join links pl
                    on pl.master_data_id = pm.id and pl.connection_id = q.connection_id
            ) end as "parents: Value"
        from sync_queue q
        join sync_master_data m on m.id = q.master_data_id
        join data_versions v on v.master_data_id = m.id and v.version_number = q.wanted_version
        left join links l on l.master_data_id = m.id and l.connection_id = q.connection_id
        left join payload_edits e on e.id = q.edit_id and e.version = q.wanted_version
        where q.id = any($1::bigint[])"#,
        ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let link = if row.linked {
                Some(TargetLink {
                    external_id: row.external_id,
                    pushed_version: row.pushed_version,
                    pushed_hash: hash_option(row.pushed_hash)?,
                })
            } else {
                None
            };
            let task = PushTask {
                lease: Lease {
                    task_id: TaskId(row.id),
                    epoch: row.lease_epoch,
                },
                organization_id: OrganizationId(row.organization_id),
                connection_id: ConnectionId(row.connection_id),
                priority: priority(row.priority)?,
                master_id: MasterId(row.master_id),
                entity_type: row.entity_type.into(),
                entity_id: row.entity_id,
                source_connection_id: ConnectionId(row.source_connection_id),
                source_system: row.source_system,
                source_id: row.source_id,
                version: row.version,
                data: row.data,
                edit: row.edit,
                deleted: row.deleted,
                modified_at: row.source_modified,
                parents: row.parents.map(parents).transpose()?.unwrap_or_default(),
                link,
                unsettled_version: row.unsettled_version,
                refusal_count: count(row.refusal_count)?,
                retry_count: count(row.retry_count)?,
                max_retries: count(row.max_retries)?,
                limited_for: duration(row.limited_for),
                traceparent: row.traceparent,
            };
            Ok((task.lease.task_id, task))
        })
        .collect()
}

fn parents(value: Value) -> Result<Vec<ParentLink>> {
    let parents: Vec<(String, String, Option<String>)> = from_json(value)?;
    Ok(parents
        .into_iter()
        .map(|(entity_type, source_id, external_id)| ParentLink {
            parent: RecordRef {
                entity_type: entity_type.into(),
                source_id,
            },
            external_id,
        })
        .collect())
}
