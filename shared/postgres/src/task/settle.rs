//! Settling pushes: attempts, links, states, releases of children and dead letters together.

use std::collections::{HashMap, HashSet};

use sluice_core::{ConnectionId, MasterId, Result, TaskId, task::TaskState};
use sluice_store::{
    dead_letter::Buried,
    outcome::{Held, Outcome, settle as decide},
    task::{PushNext, PushSettlement},
};
use sqlx::PgConnection;

use super::{
    attempts::{self, NewAttempt},
    settle_write,
};
use crate::{
    convert::{count, word},
    dead_letter,
    error::{Failure, transaction},
    pool::Pool,
    request,
};

/// One settlement that counts.
pub(super) struct Settled<'a> {
    pub(super) held: Held,
    pub(super) settlement: &'a PushSettlement,
    pub(super) outcome: Outcome<'a>,
}

pub(crate) async fn settle(pool: &Pool, settlements: &[PushSettlement]) -> Result<Vec<bool>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    transaction!(pool, connection => settle_once(connection, settlements).await)
}

pub(super) async fn settle_once(
    connection: &mut PgConnection,
    settlements: &[PushSettlement],
) -> Result<Vec<bool>, Failure> {
    let mut tasks = hold(connection, settlements).await?;
    let mut settled = Vec::new();
    let mut answers = Vec::with_capacity(settlements.len());
    for settlement in settlements {
        // Removed, so that the second of two settlements of one claim comes too late.
        let held = tasks
            .remove(&settlement.lease.task_id)
            .filter(|held| held.is_leased_by(settlement.lease));
        answers.push(held.is_some());
        if let Some(held) = held {
            let outcome = decide(&held, settlement);
            settled.push(Settled {
                held,
                settlement,
                outcome,
            });
        }
    }
    if settled.is_empty() {
        return Ok(answers);
    }
    settle_write::tasks(connection, &settled).await?;
    let rows: Vec<NewAttempt<'_>> = settled.iter().filter_map(Settled::attempt).collect();
    attempts::write(connection, &rows).await?;
    settle_write::links(connection, &settled).await?;
    settle_write::release_children(connection, &settled).await?;
    dead_letter::write::bury(connection, &dead(&settled)).await?;
    dead_letter::write::resolve(connection, &delivered(&settled)).await?;
    request::forget(connection, &answered(&settled)).await?;
    settle_write::records(connection, &settled).await?;
    Ok(answers)
}

fn dead<'a>(settled: &'a [Settled<'_>]) -> Vec<Buried<'a>> {
    settled
        .iter()
        .filter_map(|one| Buried::new(&one.held, one.settlement, &one.outcome))
        .collect()
}

fn delivered(settled: &[Settled<'_>]) -> Vec<i64> {
    settled
        .iter()
        .filter(|one| one.outcome.link.is_some())
        .map(|one| one.held.id.0)
        .collect()
}

fn answered(settled: &[Settled<'_>]) -> Vec<i64> {
    settled
        .iter()
        .filter(|one| one.outcome.forget_request)
        .map(|one| one.held.id.0)
        .collect()
}

impl<'a> Settled<'a> {
    fn attempt(&self) -> Option<NewAttempt<'a>> {
        let (outcome, action, version) = self.outcome.attempt?;
        Some(NewAttempt {
            task_id: self.held.id,
            version,
            outcome,
            action,
            attempt: &self.settlement.attempt,
        })
    }
}

/// Locks the records, then the tasks, and reads them.
async fn hold(
    connection: &mut PgConnection,
    settlements: &[PushSettlement],
) -> Result<HashMap<TaskId, Held>, Failure> {
    let ids: Vec<i64> = settlements
        .iter()
        .map(|settlement| settlement.lease.task_id.0)
        .collect::<HashSet<_>>()
        .into_iter()
        .collect();
    sqlx::query!(
        "select m.id from sync_master_data m
        where m.id in (select q.master_data_id from sync_queue q where q.id = any($1::bigint[]))
        order by m.id for no key update",
        &ids,
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut blocked, mut types, mut sources) = (vec![], vec![], vec![]);
    for settlement in settlements {
        if let PushNext::Blocked { on } = &settlement.next {
            blocked.push(settlement.lease.task_id.0);
            types.push(on.entity_type.as_str().to_owned());
            sources.push(on.source_id.clone());
        }
    }
    let rows = sqlx::query!(
        r#"select q.id, q.state, q.lease_epoch, q.connection_id, m.id as "master_id!",
            c.name as "source!", m.entity_type as "entity_type!", m.source_id as "source_id!",
            q.wanted_version as "wanted!", q.delivered_version, q.intent_version,
            q.unsettled_version, q.retry_count, q.crash_count, q.refusal_count
        from sync_queue q
        join sync_master_data m on m.id = q.master_data_id
        join connections c on c.id = m.source_connection_id
        where q.id = any($1::bigint[])
        order by q.master_data_id, q.connection_id
        for no key update of q"#,
        &ids,
    )
    .fetch_all(&mut *connection)
    .await?;
    let linked = parents_linked(connection, &blocked, &types, &sources).await?;
    rows.into_iter()
        .map(|row| {
            let held = Held {
                id: TaskId(row.id),
                master_id: MasterId(row.master_id),
                connection_id: ConnectionId(row.connection_id),
                source: row.source,
                entity_type: row.entity_type.into(),
                source_id: row.source_id,
                state: word(TaskState::parse(&row.state))?,
                epoch: row.lease_epoch,
                wanted_version: row.wanted,
                delivered_version: row.delivered_version,
                intent_version: row.intent_version,
                unsettled_version: row.unsettled_version,
                retry_count: count(row.retry_count)?,
                crash_count: count(row.crash_count)?,
                refusal_count: count(row.refusal_count)?,
                parent_linked: linked.contains(&row.id),
            };
            Ok((held.id, held))
        })
        .collect()
}

/// Those of the tasks to be blocked whose parent is linked by now.
async fn parents_linked(
    connection: &mut PgConnection,
    tasks: &[i64],
    types: &[String],
    sources: &[String],
) -> Result<HashSet<i64>, Failure> {
    if tasks.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = sqlx::query_scalar!(
        "select q.id
        from unnest($1::bigint[], $2::text[], $3::text[]) k (id, entity_type, source_id)
        join sync_queue q on q.id = k.id
        join sync_master_data m on m.id = q.master_data_id
        join sync_master_data p on p.source_connection_id = m.source_connection_id
            and p.entity_type = k.entity_type and p.source_id = k.source_id
        join links l on l.master_data_id = p.id and l.connection_id = q.connection_id
        where l.external_id is not null",
        tasks,
        types,
        sources,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}
