//! Timers: lost work comes back, runs move on, gauges are set, old rows go.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::Utc;
use sluice_core::{Result, message::QueueKind};
use sluice_runtime::{
    Shutdown, metrics as names,
    pace::{Again, Pace},
};
use sluice_store::task::RescueSettings;

use crate::{Orchestrator, quota};

/// Rows brought back in one transaction, per kind of rescue.
const RESCUE_BATCH: u32 = 500;
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Counting a long backlog takes time: the pause after it is this many times as long, so that
/// counting never takes more than a twentieth of a database connection's time.
const MEASURE_REST: u32 = 20;
const CLEAR_EVERY: Duration = Duration::from_secs(60);

/// Wakes due retries soon after their time: with a long pause they would all come at its end, whatever
/// their backoff spread them over (O5).
pub(crate) async fn wake(context: &Orchestrator, shutdown: &Shutdown) {
    let mut pace = Pace::new("retries", shutdown, context.settings.idle);
    loop {
        let woken = context.backends.tasks.wake(RESCUE_BATCH).await;
        let outcome = woken.map(|count| match count >= u64::from(RESCUE_BATCH) {
            true => Again::Now,
            false => Again::Later,
        });
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// Brings back dead workers' tasks, lost messages and released children (C2, O7).
pub(crate) async fn rescue(context: &Orchestrator, shutdown: &Shutdown) {
    let settings = RescueSettings {
        staged_for: context.settings.staged_for,
        limit: RESCUE_BATCH,
    };
    let mut pace = Pace::new("rescue", shutdown, context.settings.rescue_interval);
    loop {
        let outcome = context
            .backends
            .tasks
            .rescue(&settings)
            .await
            .map(|rescued| {
                for (outcome, count) in [
                    ("again", rescued.leases.saturating_sub(rescued.given_up)),
                    ("given_up", rescued.given_up),
                ] {
                    metrics::counter!(names::LEASES_LOST, "outcome" => outcome).increment(count);
                }
                if rescued.given_up > 0 {
                    tracing::warn!(
                        tasks = rescued.given_up,
                        "gave up tasks whose workers keep dying"
                    );
                }
                if rescued.leases + rescued.messages > 0 {
                    tracing::info!(
                        leases = rescued.leases,
                        messages = rescued.messages,
                        "brought back tasks whose worker or message was lost"
                    );
                }
                let limit = u64::from(RESCUE_BATCH);
                let full = [rescued.leases, rescued.messages, rescued.unblocked]
                    .iter()
                    .any(|count| *count >= limit);
                if full { Again::Now } else { Again::Later }
            });
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// Opens the next steps of runs and ends runs (C1).
pub(crate) async fn advance(context: &Orchestrator, shutdown: &Shutdown) {
    let mut pace = Pace::new("runs", shutdown, context.settings.idle);
    loop {
        let outcome = context.backends.tasks.advance_runs().await.map(|changed| {
            for run in &changed {
                if run.state.is_final() {
                    tracing::info!(
                        run.id = run.id.0,
                        run.state = run.state.as_str(),
                        flow = run.flow,
                        records.read = run.counts.read,
                        records.rejected = run.counts.rejected,
                        "run ended"
                    );
                }
            }
            Again::Later
        });
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// Sets the gauges that people watch.
pub(crate) async fn measure(context: &Orchestrator, shutdown: &Shutdown) {
    let mut gauges = Gauges::default();
    let mut pace = Pace::new("gauges", shutdown, MEASURE_EVERY);
    loop {
        let began = Instant::now();
        let outcome = set_gauges(context, &mut gauges).await;
        pace.set_idle(MEASURE_EVERY.max(began.elapsed() * MEASURE_REST));
        if !pace.next(outcome.map(|()| Again::Later)).await {
            return;
        }
    }
}

/// Gauges set so far, so that what disappears becomes 0 instead of standing still.
#[derive(Debug, Default)]
struct Gauges {
    tasks: HashMap<(String, &'static str), f64>,
    oldest: HashMap<String, f64>,
    dead: HashMap<(String, &'static str), f64>,
    blocked: HashMap<String, (f64, f64)>,
}

async fn set_gauges(context: &Orchestrator, gauges: &mut Gauges) -> Result<()> {
    let now = Utc::now();
    gauges.tasks.values_mut().for_each(|value| *value = 0.0);
    gauges.oldest.values_mut().for_each(|value| *value = 0.0);
    gauges.dead.values_mut().for_each(|value| *value = 0.0);
    gauges
        .blocked
        .values_mut()
        .for_each(|value| *value = (0.0, 0.0));
    for backlog in context.backends.tasks.backlog().await? {
        let queue = context
            .catalogue
            .connection_by_id(backlog.connection_id)
            .and_then(|connection| {
                let kind = QueueKind::work(backlog.kind, backlog.class);
                quota::queue(&context.catalogue, connection, kind)
            });
        let Some(queue) = queue.map(|queue| queue.to_string()) else {
            continue;
        };
        // Those that wait for a person are no sign of slow work.
        if let Some(oldest) = backlog.oldest.filter(|_| backlog.state.is_open()) {
            let age = (now - oldest).as_seconds_f64().max(0.0);
            let known = gauges.oldest.entry(queue.clone()).or_default();
            *known = known.max(age);
        }
        *gauges
            .tasks
            .entry((queue, backlog.state.as_str()))
            .or_default() += backlog.count as f64;
    }
    for open in context.backends.tasks.open_dead_letters().await? {
        if let Some(target) = context.catalogue.connection_by_id(open.connection_id) {
            let key = (target.spec.name.clone(), open.class.as_str());
            *gauges.dead.entry(key).or_default() += open.count as f64;
        }
    }
    for total in context.backends.tasks.blocked_totals().await? {
        if let Some(target) = context.catalogue.connection_by_id(total.connection_id) {
            let age = (now - total.oldest).as_seconds_f64().max(0.0);
            let name = target.spec.name.clone();
            gauges.blocked.insert(name, (total.count as f64, age));
        }
    }
    for (target, (count, age)) in &gauges.blocked {
        metrics::gauge!(names::BLOCKED, "target" => target.clone()).set(*count);
        metrics::gauge!(names::BLOCKED_OLDEST, "target" => target.clone()).set(*age);
    }
    for ((queue, state), value) in &gauges.tasks {
        metrics::gauge!(names::QUEUE_TASKS, "queue" => queue.clone(), "state" => *state)
            .set(*value);
    }
    for (queue, value) in &gauges.oldest {
        metrics::gauge!(names::QUEUE_OLDEST, "queue" => queue.clone()).set(*value);
    }
    for ((target, class), value) in &gauges.dead {
        metrics::gauge!(
            names::DEAD_LETTERS,
            "target" => target.clone(),
            "error_class" => *class
        )
        .set(*value);
    }
    Ok(())
}

/// Removes expired raw documents and old history.
pub(crate) async fn clear(context: &Orchestrator, shutdown: &Shutdown) {
    let mut pace = Pace::new("clearing", shutdown, CLEAR_EVERY);
    loop {
        let outcome = clear_once(context).await;
        if !pace.next(outcome.map(|()| Again::Later)).await {
            return;
        }
    }
}

async fn clear_once(context: &Orchestrator) -> Result<()> {
    let expired = context.backends.raw.expire(Utc::now()).await?;
    let pruned = context.backends.tasks.prune(context.settings.keep).await?;
    if expired + pruned > 0 {
        tracing::info!(
            raw.expired = expired,
            rows.pruned = pruned,
            "cleared away what is old"
        );
    }
    Ok(())
}
