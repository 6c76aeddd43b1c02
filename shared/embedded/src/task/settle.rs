//! Settling pushes: reading what is held, deciding, writing everything together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sluice_core::{ConnectionId, MasterId, Result, TaskId, task::TaskState};
use sluice_store::{
    outcome::{self, Held, Outcome},
    task::{Lease, PushNext, PushSettlement},
};
use sqlx::SqliteConnection;

use super::{attempts, settle_write as write};
use crate::{
    dead_letter, request,
    sql::{
        EmbeddedSql,
        convert::{number, to_json, word},
        failed,
    },
};

/// One settlement that counts.
pub(crate) struct Settled<'a> {
    pub(crate) held: &'a Held,
    pub(crate) settlement: &'a PushSettlement,
    pub(crate) outcome: Outcome<'a>,
}

pub(super) async fn settle(sql: &EmbeddedSql, settlements: &[PushSettlement]) -> Result<Vec<bool>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = sql.begin().await?;
    let answers = settle_once(&mut tx, settlements).await?;
    tx.commit().await.map_err(failed)?;
    Ok(answers)
}

/// Settles in a transaction of the caller.
pub(super) async fn settle_once(
    connection: &mut SqliteConnection,
    settlements: &[PushSettlement],
) -> Result<Vec<bool>> {
    let held = load(connection, settlements).await?;
    let mut settled = Vec::new();
    let mut seen = BTreeSet::new();
    let mut answers = Vec::with_capacity(settlements.len());
    for (position, settlement) in settlements.iter().enumerate() {
        let held = held
            .get(&position)
            .filter(|held| held.is_leased_by(settlement.lease))
            // The second of two settlements of one claim comes too late.
            .filter(|held| seen.insert(held.id));
        answers.push(held.is_some());
        if let Some(held) = held {
            settled.push(Settled {
                held,
                settlement,
                outcome: outcome::settle(held, settlement),
            });
        }
    }
    if settled.is_empty() {
        return Ok(answers);
    }
    write::tasks(connection, &settled).await?;
    let tries: Vec<_> = settled
        .iter()
        .filter_map(|one| {
            let (outcome, action, version) = one.outcome.attempt?;
            let attempt = &one.settlement.attempt;
            Some(attempts::row(
                one.held.id,
                version,
                attempt,
                outcome,
                action,
            ))
        })
        .collect();
    attempts::write(connection, &tries).await?;
    write::links(connection, &settled).await?;
    write::release_children(connection, &settled).await?;
    dead_letter::write::bury(connection, &settled).await?;
    dead_letter::write::resolve(connection, &settled).await?;
    request::forget(connection, &settled).await?;
    write::records(connection, &settled).await?;
    Ok(answers)
}

/// The rows that settlements name, by position in them. For a blocked one, also whether its parent
/// was linked meanwhile.
async fn load(
    connection: &mut SqliteConnection,
    settlements: &[PushSettlement],
) -> Result<BTreeMap<usize, Held>> {
    let rows: Vec<_> = settlements
        .iter()
        .map(|one| {
            let Lease { task_id, epoch } = one.lease;
            let parent = match &one.next {
                PushNext::Blocked { on } => Some(on),
                _ => None,
            };
            json!([
                task_id,
                epoch,
                parent.map(|parent| &parent.entity_type),
                parent.map(|parent| &parent.source_id),
            ])
        })
        .collect();
    let rows = to_json(&rows)?;
    sqlx::query!(
        r#"select j.key + 0 as "position!: i64", q.id as "id!: i64", q.state as "state!: String",
            q.lease_epoch as "epoch!: i64", m.id as "master_id!: i64",
            q.connection_id as "connection_id!: i64", c.name as "source!: String",
            m.entity_type as "entity_type!: String", m.source_id as "source_id!: String",
            q.wanted_version as "wanted!: i64", q.intent_version as "intent?: i64",
            q.unsettled_version as "unsettled?: i64", q.delivered_version as "delivered?: i64",
            q.retry_count as "retry_count!: i64", q.crash_count as "crash_count!: i64",
            q.refusal_count as "refusal_count!: i64",
            exists (select 1 from sync_master_data pm
                join links pl on pl.master_data_id = pm.id and pl.connection_id = q.connection_id
                where pm.source_connection_id = m.source_connection_id
                    and pm.entity_type = j.value ->> 2 and pm.source_id = j.value ->> 3
                    and pl.external_id is not null) as "parent_linked!: bool"
        from json_each(?1) j
        cross join sync_queue q on q.id = j.value ->> 0 and q.lease_epoch = j.value ->> 1
            and q.kind = 'push'
        join sync_master_data m on m.id = q.master_data_id
        join connections c on c.id = m.source_connection_id"#,
        rows,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let held = Held {
            id: TaskId(row.id),
            master_id: MasterId(row.master_id),
            connection_id: ConnectionId(row.connection_id),
            source: row.source,
            entity_type: row.entity_type.into(),
            source_id: row.source_id,
            state: word(TaskState::parse(&row.state))?,
            epoch: row.epoch,
            wanted_version: number(row.wanted)?,
            delivered_version: row.delivered.map(number).transpose()?,
            intent_version: row.intent.map(number).transpose()?,
            unsettled_version: row.unsettled.map(number).transpose()?,
            retry_count: number(row.retry_count)?,
            crash_count: number(row.crash_count)?,
            refusal_count: number(row.refusal_count)?,
            parent_linked: row.parent_linked,
        };
        Ok((number(row.position)?, held))
    })
    .collect()
}
