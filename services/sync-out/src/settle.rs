//! Writes outcomes in batches, and acknowledges messages only after the commit.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use sluice_core::{Error, ErrorClass, QueueClass, Timestamp, retry::Outage, task::PushAction};
use sluice_runtime::{
    failpoint::{self, Point},
    metrics as names,
};
use sluice_store::task::{self, Attempt, AttemptError, PushNext, PushSettlement, PushTask};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    SyncOut, TargetConnection,
    inbox::{Desk, Ticket},
    outcome,
};

/// Outcomes written together.
const BATCH: usize = 200;
/// Batches being written at once, so that one travels while another commits. The second one is a
/// full one: small ones cost the database more for each outcome.
pub(crate) const WRITES: usize = 2;
/// Pause before a failed write is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A claimed push in hand.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) task: PushTask,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) started_at: Timestamp,
    pub(crate) started: Instant,
    /// Calls made for it so far; a batch's calls count for its first push.
    pub(crate) calls: u32,
    /// Set while the last call for it failed as the probe of an open breaker.
    pub(crate) outage: Option<Outage>,
    /// A suspect's turn: no other suspect begins before this one is settled (promise O8).
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    /// Version of the kept request that was sent for it.
    pub(crate) request: Option<i32>,
    /// Why the mapping leaves it out.
    pub(crate) reason: Option<String>,
}

impl Work {
    pub(crate) fn new(task: PushTask, tickets: Vec<Ticket>, started: Instant) -> Self {
        Self {
            task,
            tickets,
            started_at: Utc::now(),
            started,
            calls: 0,
            outage: None,
            turn: None,
            request: None,
            reason: None,
        }
    }

    /// Whether it may use what the target's limits keep for urgent work.
    pub(crate) fn is_urgent(&self) -> bool {
        self.task.priority.class() == QueueClass::High
    }
}

/// A push whose outcome is known, on its way to SQL.
#[derive(Debug)]
pub(crate) struct Settled {
    settlement: PushSettlement,
    tickets: Vec<Ticket>,
    claimed: Instant,
    turn: Option<OwnedSemaphorePermit>,
}

impl Settled {
    /// Ends a push and counts it.
    pub(crate) fn new(
        context: &SyncOut,
        target: &TargetConnection,
        work: Work,
        next: PushNext,
        error: Option<&Error>,
    ) -> Self {
        let name = || target.connection.spec.name.clone();
        let class = error.map_or("none", |error| error.class().as_str());
        metrics::counter!(
            names::PUSH_ATTEMPTS,
            "target" => name(),
            "entity_type" => work.task.entity_type.to_string(),
            "outcome" => outcome::word(&next),
            "error_class" => class
        )
        .increment(1);
        if let Some(lag) = lag(&work.task, &next, Utc::now()) {
            metrics::histogram!(
                names::SYNC_LAG,
                "target" => name(),
                "entity_type" => work.task.entity_type.to_string()
            )
            .record(lag);
        }
        if next == PushNext::Dead {
            metrics::counter!(names::DEAD_LETTERED, "target" => name(), "error_class" => class)
                .increment(1);
        }
        if matches!(next, PushNext::Retry { .. }) {
            metrics::counter!(
                names::RETRIES,
                "queue" => format!("sluice.push.{}.{}", target.organization, name()),
                "error_class" => class
            )
            .increment(1);
        }
        if let Some(error) = error {
            log(target, &work.task, &next, error);
        }
        Self {
            settlement: PushSettlement {
                lease: work.task.lease,
                attempt: Attempt {
                    started_at: work.started_at,
                    duration: work.started.elapsed(),
                    calls: work.calls,
                    error: error.map(AttemptError::from),
                    reason: work.reason,
                    worker: context.worker.clone(),
                    trace_id: work.task.traceparent.as_deref().and_then(task::trace_id),
                },
                next,
                request: work.request,
            },
            tickets: work.tickets,
            claimed: work.started,
            turn: work.turn,
        }
    }
}

/// How long an edit took from the source's own time of it to the target's confirmation; `None`
/// for what did not reach the target now, and when the source tells no time. A source's clock may
/// be ahead of ours a little.
fn lag(task: &PushTask, next: &PushNext, now: Timestamp) -> Option<Duration> {
    match next {
        PushNext::Delivered { action, .. } if *action != PushAction::Skipped => {
            Some((now - task.modified_at?).to_std().unwrap_or_default())
        }
        _ => None,
    }
}

/// What a person must look at is a warning; what is tried again is not.
fn log(target: &TargetConnection, task: &PushTask, next: &PushNext, error: &Error) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target.name = target.connection.spec.name,
                task.id = task.lease.task_id.0,
                entity.r#type = task.entity_type.as_str(),
                outcome = outcome::word(next),
                error.class = error.class().as_str(),
                error.code = error.code(),
                error = error.message(),
                "push did not succeed"
            )
        };
    }
    match next {
        PushNext::Dead | PushNext::Unknown => event!(warn),
        _ => event!(debug),
    }
}

/// Settles what comes in until nobody can send any more.
pub(crate) async fn run(
    context: Arc<SyncOut>,
    target: Arc<TargetConnection>,
    mut outcomes: mpsc::Receiver<Settled>,
    desk: Desk,
) {
    let mut writes = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = outcomes.recv().await {
        batch.push(first);
        let until = Instant::now() + context.settings.linger;
        while batch.len() < BATCH {
            let busy = !writes.is_empty();
            let room = BATCH - batch.len();
            tokio::select! {
                _ = writes.join_next(), if busy => {}
                received = outcomes.recv_many(&mut batch, room) => if received == 0 { break },
                () = tokio::time::sleep_until(until), if !busy => break,
            }
        }
        while writes.len() >= WRITES {
            writes.join_next().await;
        }
        let batch = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        writes.spawn(write(context.clone(), target.clone(), batch, desk.clone()));
    }
    while writes.join_next().await.is_some() {}
}

/// Writes one batch, again and again while SQL is away and the leases last: what is known now
/// need not be found out at the target later.
async fn write(
    context: Arc<SyncOut>,
    target: Arc<TargetConnection>,
    batch: Vec<Settled>,
    desk: Desk,
) {
    let oldest = batch.iter().map(|settled| settled.claimed).min();
    let give_up = oldest.unwrap_or_else(Instant::now) + context.settings.lease;
    let (mut settlements, mut tickets) = (Vec::new(), Vec::new());
    // Suspects' turns end with this function.
    let mut turns = Vec::new();
    for settled in batch {
        settlements.push(settled.settlement);
        tickets.extend(settled.tickets);
        turns.extend(settled.turn);
    }
    loop {
        match context.backends.tasks.settle_pushes(&settlements).await {
            Ok(held) => {
                let lost = held.iter().filter(|held| !**held).count();
                if lost > 0 {
                    tracing::warn!(
                        target.name = target.connection.spec.name,
                        pushes = lost,
                        "leases were lost before their pushes were settled"
                    );
                }
                break;
            }
            Err(error) if error.class() == ErrorClass::Validation => {
                tracing::warn!(error = error.chain(), "settling one by one");
                one_by_one(&context, &settlements).await;
                break;
            }
            Err(error) if Instant::now() + RETRY_PAUSE < give_up => {
                tracing::warn!(error = error.chain(), "pushes not settled; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(
                    error = error.chain(),
                    pushes = settlements.len(),
                    "pushes not settled; they are looked up at the target once their leases end"
                );
                break;
            }
        }
    }
    failpoint::reach(Point::SyncOutSettled).await;
    desk.ack(tickets);
}

/// One outcome that SQL cannot store must not keep the others from being stored (O8).
async fn one_by_one(context: &SyncOut, settlements: &[PushSettlement]) {
    for settlement in settlements {
        let one = std::slice::from_ref(settlement);
        if let Err(error) = context.backends.tasks.settle_pushes(one).await {
            tracing::error!(
                task.id = settlement.lease.task_id.0,
                error = error.chain(),
                "push not settled"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::gate::tests::task;

    #[test]
    fn the_lag_is_that_of_confirmed_edits_with_a_time() {
        let now = Utc::now();
        let edited = |modified_at| PushTask {
            modified_at,
            ..task(1, "Location")
        };
        let ended = |action| PushNext::Delivered {
            action,
            version: 1,
            hash: None,
            external_id: None,
        };
        let updated = ended(PushAction::Updated);
        let minute = Some(now - TimeDelta::minutes(1));
        let expected = Some(Duration::from_secs(60));
        assert_eq!(lag(&edited(minute), &updated, now), expected);
        let ahead = Some(now + TimeDelta::seconds(2));
        assert_eq!(lag(&edited(ahead), &updated, now), Some(Duration::ZERO));
        for (modified_at, next) in [
            (None, updated),
            (minute, ended(PushAction::Skipped)),
            (minute, PushNext::Dead),
        ] {
            assert_eq!(lag(&edited(modified_at), &next, now), None, "{next:?}");
        }
    }
}
