//! Staging: marks due tasks and publishes their references (promise M2).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::Utc;
use sluice_connectors::limiter::manage;
use sluice_core::{ConnectionId, QueueClass, Result, TaskId, message::TaskRef, task::TaskKind};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
};
use sluice_store::broker::{Outgoing, Published};

use crate::{Orchestrator, quota, quota::Lane};

type LaneKey = (ConnectionId, TaskKind, QueueClass);

/// Pause between two looks whether somebody changed limits by hand.
const LIMITS_EVERY: Duration = Duration::from_secs(5);

/// Stages and publishes until shutdown.
pub(crate) async fn run(context: &Orchestrator, shutdown: &Shutdown) {
    let mut lanes = quota::lanes(&context.catalogue, context.settings.queue_depth);
    let mut pace = Pace::new("staging", shutdown, context.settings.idle);
    let mut followed = None;
    loop {
        let outcome = round(context, &mut lanes, &mut followed).await;
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// One round. `followed` is when limits were last looked at.
async fn round(
    context: &Orchestrator,
    lanes: &mut [Lane],
    followed: &mut Option<Instant>,
) -> Result<Again> {
    if followed.is_none_or(|at| at.elapsed() >= LIMITS_EVERY) {
        follow_limits(context, lanes).await?;
        *followed = Some(Instant::now());
    }
    look(context, lanes).await
}

/// What may wait in a queue follows the limits in force.
async fn follow_limits(context: &Orchestrator, lanes: &mut [Lane]) -> Result<()> {
    let (known, _) = manage::look(&*context.backends.fleet).await?;
    for (connection, traffic) in known {
        let of_connection = lanes
            .iter_mut()
            .filter(|lane| lane.connection_id == connection);
        for lane in of_connection {
            lane.follow(traffic.pace.limits(), context.settings.queue_depth);
        }
    }
    Ok(())
}

/// Looks at queues that may be full, stages what fits, publishes it.
async fn look(context: &Orchestrator, lanes: &mut [Lane]) -> Result<Again> {
    for lane in lanes.iter_mut().filter(|lane| lane.needs_look()) {
        lane.waiting = Some(depth(context, lane).await?);
    }
    let most = u32::try_from(context.settings.publish_batch.max(1)).unwrap_or(1_000);
    let quotas: Vec<_> = lanes
        .iter_mut()
        .flat_map(|lane| lane.quotas(most))
        .collect();
    if quotas.is_empty() {
        return Ok(Again::Later);
    }
    let staged = context.backends.tasks.stage(&quotas).await?;
    if staged.is_empty() {
        return Ok(Again::Later);
    }
    failpoint::reach(Point::OrchestratorStaged).await;
    let mut by_key: HashMap<LaneKey, usize> = HashMap::new();
    for (index, lane) in lanes.iter().enumerate() {
        by_key.insert((lane.connection_id, lane.kind, lane.class), index);
    }
    for batch in staged.chunks(context.settings.publish_batch.max(1)) {
        publish(context, lanes, &by_key, batch).await?;
    }
    Ok(Again::Now)
}

async fn depth(context: &Orchestrator, lane: &Lane) -> Result<u64> {
    let broker = &context.backends.broker;
    match broker.depth(&lane.queue).await {
        Ok(depth) => Ok(depth.ready),
        Err(_) => {
            // Somebody deleted the queue, or the broker was replaced by an empty one.
            broker.declare(std::slice::from_ref(&lane.queue)).await?;
            Ok(broker.depth(&lane.queue).await?.ready)
        }
    }
}

/// Publishes references; those that did not arrive for sure become pending again. A task whose
/// message arrived twice is claimed once, so doubt always means "again".
async fn publish(
    context: &Orchestrator,
    lanes: &mut [Lane],
    by_key: &HashMap<LaneKey, usize>,
    batch: &[TaskRef],
) -> Result<()> {
    let now = Utc::now();
    let mut unsent: Vec<TaskId> = Vec::new();
    let mut sent: Vec<(&TaskRef, usize)> = Vec::with_capacity(batch.len());
    let mut messages = Vec::with_capacity(batch.len());
    for reference in batch {
        let key = (
            reference.connection_id,
            reference.kind,
            reference.priority.class(),
        );
        let lane = by_key
            .get(&key)
            .and_then(|index| Some((*index, lanes.get(*index)?)));
        let Some((index, lane)) = lane else {
            // Staged for a connection that this process does not know (yet).
            unsent.push(reference.task_id);
            continue;
        };
        messages.push(Outgoing {
            queue: lane.queue.clone(),
            message_id: format!("{}-{}", reference.task_id, now.timestamp_micros()),
            body: reference.to_json(now),
            traceparent: reference.traceparent.clone(),
        });
        sent.push((reference, index));
    }
    let outcome = context.backends.broker.publish(&messages).await;
    failpoint::reach(Point::OrchestratorPublished).await;
    let mut missing = Vec::new();
    match &outcome {
        Ok(results) => {
            for ((reference, index), result) in sent.iter().zip(results) {
                match result {
                    Published::Confirmed => {
                        if let Some(lane) = lanes.get_mut(*index) {
                            lane.waiting = lane.waiting.map(|waiting| waiting + 1);
                        }
                    }
                    Published::Unroutable => {
                        unsent.push(reference.task_id);
                        if let Some(lane) = lanes.get(*index)
                            && !missing.contains(&lane.queue)
                        {
                            missing.push(lane.queue.clone());
                        }
                    }
                    Published::Unknown => unsent.push(reference.task_id),
                }
            }
        }
        Err(_) => unsent.extend(sent.iter().map(|(reference, _)| reference.task_id)),
    }
    if !unsent.is_empty() {
        let pending = context.backends.tasks.unstage(&unsent).await?;
        tracing::warn!(
            tasks.count = unsent.len(),
            tasks.pending = pending,
            queues.missing = missing.len(),
            "references did not arrive at the broker; they will be published again"
        );
    }
    if !missing.is_empty() {
        context.backends.broker.declare(&missing).await?;
    }
    outcome.map(|_| ())
}
