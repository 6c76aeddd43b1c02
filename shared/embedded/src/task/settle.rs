//! Settling pushes: attempts, links, states, releases of children and dead letters together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sluice_core::{
    MasterId, Result,
    record::RecordRef,
    task::{PushAction, TaskState},
};
use sluice_store::task::{Lease, PushNext, PushSettlement};
use sqlx::SqliteConnection;

use super::{
    attempts,
    settle_plan::{After, Held, after},
};
use crate::{
    dead_letter,
    master::status,
    sql::{
        EmbeddedSql,
        convert::{micros, now, number, to_json},
        failed,
    },
};

/// A task whose lease is held, and what was known of it at the claim.
struct Task {
    master_id: i64,
    connection_id: i64,
    /// Name of the source connection, the first part of a `blocked_on` key.
    source: String,
    entity_type: String,
    source_id: String,
    parent_linked: bool,
    held: Held,
}

/// One settlement that counts.
struct Settled<'a> {
    task: &'a Task,
    settlement: &'a PushSettlement,
    after: After,
}

pub(super) async fn settle(sql: &EmbeddedSql, settlements: &[PushSettlement]) -> Result<Vec<bool>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = sql.begin().await?;
    let tasks = held(&mut tx, settlements).await?;
    let mut settled = Vec::new();
    let mut seen = BTreeSet::new();
    let answers: Vec<bool> = settlements
        .iter()
        .enumerate()
        .map(|(position, settlement)| {
            let Some(task) = tasks.get(&position) else {
                return false;
            };
            // The second of two settlements of one claim comes too late.
            if !seen.insert(settlement.lease.task_id) {
                return false;
            }
            settled.push(Settled {
                task,
                settlement,
                after: after(
                    &task.held,
                    &settlement.attempt,
                    &settlement.next,
                    task.parent_linked,
                ),
            });
            true
        })
        .collect();
    if settled.is_empty() {
        return Ok(answers);
    }
    write_tasks(&mut tx, &settled).await?;
    let rows: Vec<Value> = settled.iter().filter_map(Settled::attempt_row).collect();
    attempts::write(&mut tx, &rows).await?;
    write_links(&mut tx, &settled).await?;
    release_children(&mut tx, &settled).await?;
    let dead: Vec<Value> = settled.iter().filter_map(Settled::dead_row).collect();
    dead_letter::write::bury(&mut tx, &dead).await?;
    let delivered: Vec<i64> = settled
        .iter()
        .filter(|one| matches!(one.settlement.next, PushNext::Delivered { .. }))
        .map(|one| one.settlement.lease.task_id.0)
        .collect();
    dead_letter::write::resolve(&mut tx, &delivered).await?;
    write_attempts_of_records(&mut tx, &settled).await?;
    tx.commit().await.map_err(failed)?;
    Ok(answers)
}

impl Settled<'_> {
    fn attempt_row(&self) -> Option<Value> {
        let (outcome, action) = self.after.attempt?;
        let PushSettlement {
            lease,
            attempt,
            next,
        } = self.settlement;
        let version = match next {
            PushNext::Delivered { version, .. } => Some(*version),
            _ => self.task.held.intent_version,
        };
        Some(attempts::row(
            lease.task_id,
            version,
            attempt,
            outcome,
            action,
        ))
    }

    fn dead_row(&self) -> Option<Value> {
        let attempt = &self.settlement.attempt;
        (self.after.state == TaskState::Dead).then(|| {
            dead_letter::write::row(
                self.settlement.lease.task_id,
                self.task.held.intent_version,
                attempt,
            )
        })
    }

    fn action(&self) -> Option<PushAction> {
        self.after.attempt.and_then(|(_, action)| action)
    }
}

/// The text of `sync_queue.blocked_on`.
fn blocked_on(source: &str, record: &RecordRef) -> String {
    format!("{source}/{record}")
}

/// Tasks whose lease is held, by position in the settlements. For a blocked one, also whether its
/// parent was linked meanwhile.
async fn held(
    connection: &mut SqliteConnection,
    settlements: &[PushSettlement],
) -> Result<BTreeMap<usize, Task>> {
    let rows: Vec<_> = settlements
        .iter()
        .map(
            |PushSettlement {
                 lease: Lease { task_id, epoch },
                 next,
                 ..
             }| {
                let parent = match next {
                    PushNext::Blocked { on } => Some(on),
                    _ => None,
                };
                json!([
                    task_id,
                    epoch,
                    parent.map(|parent| &parent.entity_type),
                    parent.map(|parent| &parent.source_id),
                ])
            },
        )
        .collect();
    let rows = to_json(&rows)?;
    sqlx::query!(
        r#"select j.key + 0 as "position!: i64", m.id as "master_id!: i64",
            q.connection_id as "connection_id!: i64", c.name as "source!: String",
            m.entity_type as "entity_type!: String", m.source_id as "source_id!: String",
            q.wanted_version as "wanted!: i64", q.intent_version as "intent?: i64",
            q.unsettled_version as "unsettled?: i64", q.delivered_version as "delivered?: i64",
            q.retry_count as "retry_count!: i64",
            exists (select 1 from sync_master_data pm
                join links pl on pl.master_data_id = pm.id and pl.connection_id = q.connection_id
                where pm.source_connection_id = m.source_connection_id
                    and pm.entity_type = j.value ->> 2 and pm.source_id = j.value ->> 3
                    and pl.external_id is not null) as "parent_linked!: bool"
        from json_each(?1) j
        cross join sync_queue q on q.id = j.value ->> 0 and q.lease_epoch = j.value ->> 1
            and q.kind = 'push' and q.state = 'running'
        join sync_master_data m on m.id = q.master_data_id
        join connections c on c.id = m.source_connection_id"#,
        rows,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let task = Task {
            master_id: row.master_id,
            connection_id: row.connection_id,
            source: row.source,
            entity_type: row.entity_type,
            source_id: row.source_id,
            parent_linked: row.parent_linked,
            held: Held {
                wanted_version: number(row.wanted)?,
                intent_version: row.intent.map(number).transpose()?,
                unsettled_version: row.unsettled.map(number).transpose()?,
                delivered_version: row.delivered.map(number).transpose()?,
                retry_count: number(row.retry_count)?,
            },
        };
        Ok((number(row.position)?, task))
    })
    .collect()
}

async fn write_tasks(connection: &mut SqliteConnection, settled: &[Settled<'_>]) -> Result<()> {
    let now = now();
    let rows: Vec<_> = settled
        .iter()
        .map(
            |Settled {
                 task,
                 settlement,
                 after,
             }| {
                let PushSettlement {
                    lease,
                    attempt,
                    next,
                } = settlement;
                let error = attempt.error.as_ref();
                let due = match next {
                    PushNext::Retry { after } | PushNext::Snooze { after } => {
                        Some(now.saturating_add(micros(*after)))
                    }
                    _ => None,
                };
                let blocked = match next {
                    PushNext::Blocked { on } if !task.parent_linked => {
                        Some(blocked_on(&task.source, on))
                    }
                    _ => None,
                };
                json!([
                    lease.task_id,
                    after.state.as_str(),
                    after.intent_version,
                    after.unsettled_version,
                    after.delivered_version,
                    after.retry_count,
                    due,
                    blocked,
                    error.map(|error| error.class.as_str()),
                    error.map(|error| &error.code),
                    error.map(|error| &error.message),
                ])
            },
        )
        .collect();
    let rows = to_json(&rows)?;
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue)
        update sync_queue set
            state = j.value ->> 1, intent_version = j.value ->> 2,
            unsettled_version = j.value ->> 3, delivered_version = j.value ->> 4,
            retry_count = j.value ->> 5, next_retry_time = j.value ->> 6,
            blocked_on = j.value ->> 7, error_class = j.value ->> 8, error_code = j.value ->> 9,
            error_message = j.value ->> 10, lease_owner = null, lease_until = null,
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
async fn write_links(connection: &mut SqliteConnection, settled: &[Settled<'_>]) -> Result<()> {
    let rows: Vec<_> = settled
        .iter()
        .filter_map(
            |Settled {
                 task, settlement, ..
             }| {
                let PushNext::Delivered {
                    action,
                    version,
                    hash,
                    external_id,
                } = &settlement.next
                else {
                    return None;
                };
                let deleted = *action == PushAction::Deleted;
                Some(json!([
                    task.master_id,
                    task.connection_id,
                    external_id.as_ref().filter(|_| !deleted),
                    version,
                    hash,
                    deleted,
                ]))
            },
        )
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
    if settled
        .iter()
        .any(|one| one.action() == Some(PushAction::Deleted))
    {
        sqlx::query!(
            "update links set external_id = null from json_each(?1) j
            where links.master_data_id = j.value ->> 0 and links.connection_id = j.value ->> 1
                and j.value ->> 5",
            rows,
        )
        .execute(connection)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

/// Children wait for the link, so a delivery without an external id releases nobody. Each child
/// is released once, because releasing forgets what it waited for (promise O7).
async fn release_children(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let rows: Vec<_> = settled
        .iter()
        .filter(|one| matches!(one.settlement.next, PushNext::Delivered { .. }))
        .map(|Settled { task, .. }| {
            let record = RecordRef {
                entity_type: task.entity_type.as_str().into(),
                source_id: task.source_id.clone(),
            };
            json!([
                task.connection_id,
                blocked_on(&task.source, &record),
                task.master_id,
            ])
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (rows, now) = (to_json(&rows)?, now());
    sqlx::query!(
        "with base as (select coalesce(max(change_sequence), 0) as top from sync_queue)
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
async fn write_attempts_of_records(
    connection: &mut SqliteConnection,
    settled: &[Settled<'_>],
) -> Result<()> {
    let tried: Vec<i64> = settled
        .iter()
        .filter(|one| one.after.attempt.is_some())
        .map(|one| one.task.master_id)
        .collect();
    if !tried.is_empty() {
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
    }
    let masters: Vec<_> = settled
        .iter()
        .map(|one| MasterId(one.task.master_id))
        .collect();
    status::derive(connection, &masters).await
}
