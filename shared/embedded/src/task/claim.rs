//! Claiming pushes and keeping leases.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sluice_core::{ConnectionId, MasterId, OrganizationId, Result, TaskId, record::RecordRef};
use sluice_store::task::{Claim, Claimed, Lease, ParentLink, PushTask, TargetLink};
use sqlx::SqliteConnection;

use crate::{
    master::status,
    sql::{
        EmbeddedSql,
        convert::{
            from_json, hash_option, micros, now, number, priority, since, time_option, to_json,
        },
        failed,
    },
};

/// Two statements: lease what is free, read what is needed to send it. An intent that is still
/// there was never settled: it moves to `unsettled_version`, where the oldest stays until a
/// delivery (promise O1), unless it is known that nothing was sent ([`mark_unsent`]). A third one
/// finds out whether what was left out are suspects.
pub(super) async fn claim(sql: &EmbeddedSql, claim: &Claim) -> Result<Claimed<PushTask>> {
    if claim.ids.is_empty() {
        return Ok(Claimed {
            tasks: Vec::new(),
            suspects: Vec::new(),
        });
    }
    let ids = to_json(&claim.ids)?;
    let now = now();
    let until = now.saturating_add(micros(claim.lease));
    let mut tx = sql.begin().await?;
    let leased = sqlx::query!(
        r#"update sync_queue set
            state = case when delivered_version >= wanted_version then 'completed'
                else 'running' end,
            unsettled_version = case when delivered_version >= wanted_version then null
                when unsent_epoch = lease_epoch then unsettled_version
                else coalesce(unsettled_version, intent_version) end,
            intent_version = case when delivered_version >= wanted_version then null
                else wanted_version end,
            crash_count = crash_count + (state = 'running'),
            lease_owner = ?2, lease_epoch = lease_epoch + 1, lease_until = ?3,
            staged_date = null, modified_date = ?4
        where kind = 'push' and id in (select value from json_each(?1))
            and ((state in ('pending', 'staged') and (crash_count = 0 or ?5))
                or (state = 'running' and lease_until < ?4 and crash_count = 0 and ?5))
        returning id as "id!: i64", state = 'completed' as "completed!: bool",
            master_data_id as "master_id!: i64""#,
        ids,
        claim.owner,
        until,
        now,
        claim.suspects,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let suspects = if leased.len() < claim.ids.len() && !claim.suspects {
        suspects(&mut tx, &ids, "push", now).await?
    } else {
        Vec::new()
    };
    let completed: Vec<_> = leased
        .iter()
        .filter(|row| row.completed)
        .map(|row| (row.id, MasterId(row.master_id)))
        .collect();
    show_completed(&mut tx, &completed).await?;
    let running: Vec<i64> = leased
        .iter()
        .filter(|row| !row.completed)
        .map(|row| row.id)
        .collect();
    let mut tasks = load(&mut tx, &running).await?;
    mark_unsent(&mut tx, claim, &tasks).await?;
    tx.commit().await.map_err(failed)?;
    Ok(Claimed {
        tasks: claim.ids.iter().filter_map(|id| tasks.remove(id)).collect(),
        suspects,
    })
}

/// Remembers that these claims send nothing that they have not kept, for as long as they have kept
/// nothing. Decided from what was loaded, because that is what the worker decides from.
async fn mark_unsent(
    connection: &mut SqliteConnection,
    claim: &Claim,
    tasks: &BTreeMap<TaskId, PushTask>,
) -> Result<()> {
    let ids: Vec<TaskId> = tasks
        .values()
        .filter(|task| claim.keeps_what_it_sends(task))
        .map(|task| task.lease.task_id)
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids = to_json(&ids)?;
    sqlx::query!(
        "update sync_queue set unsent_epoch = lease_epoch
        where id in (select value from json_each(?1))",
        ids,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// Those of the named tasks that a claim which takes suspects would get.
pub(super) async fn suspects(
    connection: &mut SqliteConnection,
    ids: &str,
    kind: &str,
    now: i64,
) -> Result<Vec<TaskId>> {
    let rows = sqlx::query!(
        r#"select id as "id!: i64" from sync_queue
        where id in (select value from json_each(?1)) and kind = ?2
            and ((state in ('pending', 'staged') and crash_count > 0)
                or (state = 'running' and lease_until < ?3 and crash_count = 0))
        order by id"#,
        ids,
        kind,
        now,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(|row| TaskId(row.id)).collect())
}

/// The rare claim of what was delivered already is a change of outcome too.
async fn show_completed(
    connection: &mut SqliteConnection,
    completed: &[(i64, MasterId)],
) -> Result<()> {
    if completed.is_empty() {
        return Ok(());
    }
    let (tasks, masters): (Vec<i64>, Vec<MasterId>) = completed.iter().copied().unzip();
    let tasks = to_json(&tasks)?;
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue
            where change_sequence is not null)
        update sync_queue set lease_owner = null, lease_until = null,
            change_sequence = (select top from base) + j.key + 1
        from json_each(?1) j where sync_queue.id = j.value",
        tasks,
    )
    .execute(&mut *connection)
    .await
    .map_err(failed)?;
    status::derive(connection, &masters).await
}

async fn load(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<BTreeMap<TaskId, PushTask>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids = to_json(ids)?;
    let rows = sqlx::query!(
        r#"select q.id as "id!: i64", q.lease_epoch as "epoch!: i64",
            q.organization_id as "organization_id!: i64", q.connection_id as "connection_id!: i64",
            q.priority as "priority!: i64", m.id as "master_id!: i64",
            m.entity_type as "entity_type!: String", m.entity_id as "entity_id!: String",
            m.source_connection_id as "source_connection_id!: i64",
            m.source_system as "source_system!: String", m.source_id as "source_id!: String",
            q.wanted_version as "version!: i64",
            coalesce(e.data, v.data_snapshot) as "data!: String", e.id as "edit?: i64",
            v.change_type = 'delete' as "deleted!: bool", v.source_modified as "modified?: i64", l.master_data_id as "linked?: i64",
            l.external_id as "external_id?: String", l.pushed_version as "pushed_version?: i64",
            l.pushed_hash as "pushed_hash?: String", q.unsettled_version as "unsettled?: i64",
            q.retry_count as "retry_count!: i64", q.max_retries as "max_retries!: i64",
            q.refusal_count as "refusal_count!: i64", q.limited_date as "limited?: i64",
            q.traceparent as "traceparent?: String",
            (select json_group_array(json_array(p.value ->> 'entity_type', p.value ->> 'source_id',
                    pl.external_id))
                from json_each(m.parents) p
                left join sync_master_data pm
                    on pm.source_connection_id = m.source_connection_id
                    and pm.entity_type = p.value ->> 'entity_type'
                    and pm.source_id = p.value ->> 'source_id'
                left join links pl on pl.master_data_id = pm.id
                    and pl.connection_id = q.connection_id
            ) as "parents!: String"
        from sync_queue q
        join sync_master_data m on m.id = q.master_data_id
        join data_versions v on v.master_data_id = m.id and v.version_number = q.wanted_version
        left join links l on l.master_data_id = m.id and l.connection_id = q.connection_id
        left join payload_edits e on e.id = q.edit_id and e.version = q.wanted_version
        where q.id in (select value from json_each(?1))"#,
        ids,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    rows.into_iter()
        .map(|row| {
            let link = match row.linked {
                None => None,
                Some(_) => Some(TargetLink {
                    external_id: row.external_id,
                    pushed_version: row.pushed_version.map(number).transpose()?,
                    pushed_hash: hash_option(row.pushed_hash)?,
                }),
            };
            let task = PushTask {
                lease: Lease {
                    task_id: TaskId(row.id),
                    epoch: row.epoch,
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
                version: number(row.version)?,
                data: from_json(&row.data)?,
                edit: row.edit,
                deleted: row.deleted,
                modified_at: time_option(row.modified)?,
                parents: parents(&row.parents)?,
                link,
                unsettled_version: row.unsettled.map(number).transpose()?,
                refusal_count: number(row.refusal_count)?,
                retry_count: number(row.retry_count)?,
                max_retries: number(row.max_retries)?,
                limited_for: since(row.limited),
                traceparent: row.traceparent,
            };
            Ok((task.lease.task_id, task))
        })
        .collect()
}

fn parents(text: &str) -> Result<Vec<ParentLink>> {
    let parents: Vec<(String, String, Option<String>)> = from_json(text)?;
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

/// A lease that ran out but was not taken by anyone still counts as held: nobody else can have
/// begun.
pub(super) async fn renew(sql: &EmbeddedSql, leases: &[Lease], by: Duration) -> Result<Vec<bool>> {
    let rows: Vec<Value> = leases
        .iter()
        .map(|lease| json!([lease.task_id, lease.epoch]))
        .collect();
    let now = now();
    let (rows, until) = (to_json(&rows)?, now.saturating_add(micros(by)));
    let mut tx = sql.begin().await?;
    let held = sqlx::query!(
        r#"update sync_queue set lease_until = ?2, modified_date = ?3
        from json_each(?1) j
        where sync_queue.id = j.value ->> 0 and sync_queue.lease_epoch = j.value ->> 1
            and sync_queue.state = 'running'
        returning id as "id!: i64", lease_epoch as "epoch!: i64""#,
        rows,
        until,
        now,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(leases
        .iter()
        .map(|lease| {
            held.iter()
                .any(|row| row.id == lease.task_id.0 && row.epoch == lease.epoch)
        })
        .collect())
}
