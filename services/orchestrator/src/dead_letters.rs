//! The mirror of dead letters at the broker: a reference message per open letter, in the dead-letter
//! queue of its connection, where people look for it (promise O6). It may lag; it is never read as
//! truth.
//!
//! A broker has no way to remove one message from the middle of a queue. So a queue that holds
//! something else than it should is emptied and filled anew with what is open; how long it may be
//! out of step grows with what that costs.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use chrono::Utc;
use sluice_core::{
    ConnectionId, Result,
    message::{QueueKind, QueueName},
};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
};
use sluice_store::{
    broker::{Outgoing, Published},
    dead_letter::Mirrored,
};

use crate::{Orchestrator, mirror::MIRROR_IDLE, quota};

const LETTERS_AT_ONCE: u32 = 500;
/// Open letters per second that filling queues anew may cost, on the average.
const REFILL_RATE: u64 = 500;

type Queues = BTreeMap<ConnectionId, QueueName>;

/// Keeps rows and messages in step until shutdown.
pub(crate) async fn run(context: &Orchestrator, shutdown: &Shutdown) {
    let queues: Queues = context
        .catalogue
        .targets()
        .into_iter()
        .filter_map(|connection| {
            let queue = quota::queue(&context.catalogue, connection, QueueKind::Dead)?;
            Some((connection.id, queue))
        })
        .collect();
    let every = context.settings.mirror_interval;
    let idle = context.settings.idle.max(MIRROR_IDLE).min(every);
    let mut pace = Pace::new("dead-letter-mirror", shutdown, idle);
    let mut watch = Watch::default();
    let mut looked = Instant::now();
    loop {
        let outcome = async {
            let again = publish(context, &queues).await?;
            if again == Again::Later && looked.elapsed() >= every {
                looked = Instant::now();
                look(context, &queues, &mut watch).await?;
            }
            Ok(again)
        };
        let outcome = outcome.await;
        if !pace.next(outcome).await {
            return;
        }
    }
}

/// Publishes a reference for each open letter that has none.
async fn publish(context: &Orchestrator, queues: &Queues) -> Result<Again> {
    let tasks = &context.backends.tasks;
    let letters = tasks.unmirrored_dead_letters(LETTERS_AT_ONCE).await?;
    let now = Utc::now();
    let (ids, messages): (Vec<_>, Vec<_>) = letters
        .iter()
        .filter_map(|letter| {
            let queue = queues.get(&letter.reference.connection_id)?.clone();
            let message = Outgoing {
                queue,
                message_id: format!("dead-{}", letter.id),
                body: letter.reference.to_json(now),
                traceparent: letter.reference.traceparent.clone(),
            };
            Some((letter.id, message))
        })
        .unzip();
    if messages.is_empty() {
        return Ok(Again::Later);
    }
    let results = context.backends.broker.publish(&messages).await?;
    failpoint::reach(Point::OrchestratorMirrored).await;
    let mut mirrored = Vec::new();
    let mut missing: Vec<QueueName> = Vec::new();
    for ((id, message), result) in ids.iter().zip(&messages).zip(results) {
        match result {
            Published::Confirmed => mirrored.push(*id),
            Published::Unroutable if !missing.contains(&message.queue) => {
                missing.push(message.queue.clone());
            }
            Published::Unroutable | Published::Unknown => {}
        }
    }
    tasks.mark_dead_letters_mirrored(&mirrored).await?;
    if !missing.is_empty() {
        context.backends.broker.declare(&missing).await?;
    }
    // A full page of letters for connections that are gone must not spin.
    Ok(if mirrored.len() >= LETTERS_AT_ONCE as usize {
        Again::Now
    } else {
        Again::Later
    })
}

/// Compares what each queue holds with what it should, and empties those that were out of step for
/// too long; [`publish`] fills them. A crash in between leaves an empty queue, which is out of step.
async fn look(context: &Orchestrator, queues: &Queues, watch: &mut Watch) -> Result<()> {
    let (tasks, broker) = (&context.backends.tasks, &context.backends.broker);
    let held: HashMap<_, _> = tasks
        .mirrored_dead_letters()
        .await?
        .into_iter()
        .map(|held| (held.connection_id, held))
        .collect();
    for (connection_id, queue) in queues {
        let held = held.get(connection_id).copied().unwrap_or(Mirrored {
            connection_id: *connection_id,
            open: 0,
            closed: 0,
        });
        let ready = broker.depth(queue).await?.ready;
        let now = Instant::now();
        if !watch.refill(held, ready, now, context.settings.mirror_interval) {
            continue;
        }
        broker.purge(queue).await?;
        tasks.forget_mirrored(*connection_id).await?;
        tracing::debug!(
            queue = %queue,
            messages.ready = ready,
            letters.open = held.open,
            letters.closed = held.closed,
            "the dead-letter queue is filled anew"
        );
    }
    Ok(())
}

/// Since when queues have been out of step.
#[derive(Debug, Default)]
struct Watch(HashMap<ConnectionId, Instant>);

impl Watch {
    /// Notes what was seen, and tells whether the queue is to be filled anew now: it must have been
    /// out of step for `patience` and for as long as filling it is worth.
    fn refill(&mut self, held: Mirrored, ready: u64, now: Instant, patience: Duration) -> bool {
        if held.closed == 0 && held.open == ready {
            self.0.remove(&held.connection_id);
            return false;
        }
        let since = *self.0.entry(held.connection_id).or_insert(now);
        let worth = Duration::from_millis(held.open.saturating_mul(1_000 / REFILL_RATE));
        if now.duration_since(since) < patience + worth {
            return false;
        }
        self.0.remove(&held.connection_id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn held(open: u64, closed: u64) -> Mirrored {
        Mirrored {
            connection_id: ConnectionId(1),
            open,
            closed,
        }
    }

    #[test]
    fn a_queue_out_of_step_is_filled_anew_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (held, ready) in [(held(3, 1), 4), (held(3, 0), 2), (held(0, 0), 1)] {
            let mut watch = Watch::default();
            assert!(!watch.refill(held, ready, start, PATIENCE));
            assert!(!watch.refill(held, ready, at(4), PATIENCE));
            assert!(watch.refill(held, ready, at(6), PATIENCE));
            assert!(
                !watch.refill(held, ready, at(7), PATIENCE),
                "it starts anew"
            );
        }
    }

    #[test]
    fn a_moment_out_of_step_is_forgotten_and_a_long_queue_takes_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::default();
        assert!(!watch.refill(held(3, 1), 4, start, PATIENCE));
        assert!(!watch.refill(held(3, 0), 3, at(4), PATIENCE));
        assert!(!watch.refill(held(3, 1), 4, at(8), PATIENCE));
        let mut watch = Watch::default();
        assert!(!watch.refill(held(100_000, 1), 100_001, start, PATIENCE));
        assert!(!watch.refill(held(100_000, 1), 100_001, at(200), PATIENCE));
        assert!(watch.refill(held(100_000, 1), 100_001, at(206), PATIENCE));
    }
}
