//! What workers do, and what becomes of it on the way.

use std::time::Duration;

use rand::RngExt;
use sluice_core::{
    ErrorClass, lease,
    task::{PushAction, TaskState},
};

use super::{Call, Happening, LEASE, LEASE_MS, Millis, World, millis};
use crate::{
    conformance::sql::{failed, settlement},
    task::{Lease, PushNext, PushSettlement},
};

/// The longest a call takes.
const CALL_MS: Millis = 12_000;
/// Messages taken together.
const BATCH: usize = 3;

impl World {
    pub(super) fn happen(&mut self, index: usize, life: u32, happening: Happening) {
        let worker = &mut self.workers[index];
        match happening {
            // What is on its way arrives, whatever became of the sender.
            Happening::Claim {
                ids,
                suspects,
                since,
            } => self.claim(index, life, &ids, suspects, since),
            Happening::Settle(settlement) => self.settle(&settlement),
            _ if worker.life != life => {}
            Happening::Start => self.plan(0, index, Happening::Work),
            Happening::Stop => {
                worker.stopped_until = self.now + self.rng.random_range(1..3 * LEASE_MS);
            }
            Happening::Die => self.die(index),
            happening if self.now < worker.stopped_until => {
                let wait = worker.stopped_until - self.now;
                self.plan(wait, index, happening);
            }
            Happening::Work => self.work(index),
            Happening::Claimed {
                tasks,
                suspects,
                since,
            } => {
                worker.held.extend(tasks);
                worker.suspects.extend(suspects);
                worker.claimed_at = since;
                let mapping = self.rng.random_range(0..200);
                self.plan(mapping, index, Happening::Work);
            }
            Happening::Answered(settlement) => {
                let there = self.way();
                self.plan(there, index, Happening::Settle(settlement));
                self.plan(1, index, Happening::Work);
            }
        }
    }

    fn die(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        worker.life += 1;
        worker.stopped_until = 0;
        worker.held.clear();
        worker.suspects.clear();
        let back = self.rng.random_range(100..10_000);
        self.plan(back, index, Happening::Start);
    }

    fn work(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if let Some((lease, version)) = worker.held.pop_front() {
            return self.call(index, lease, version);
        }
        let (ids, suspects) = match worker.suspects.pop_front() {
            Some(id) => (vec![id], true),
            None => {
                let count = BATCH.min(self.messages.len());
                (self.messages.drain(..count).collect(), false)
            }
        };
        if ids.is_empty() {
            let pause = self.rng.random_range(500..1_500);
            return self.plan(pause, index, Happening::Work);
        }
        let there = self.way();
        let since = self.now;
        let claim = Happening::Claim {
            ids,
            suspects,
            since,
        };
        self.plan(there, index, claim);
    }

    /// As `claim_pushes` of both backends.
    fn claim(&mut self, index: usize, life: u32, ids: &[i64], take: bool, since: Millis) {
        let now = self.now;
        let (mut tasks, mut suspects) = (Vec::new(), Vec::new());
        for id in ids {
            let row = &mut self.rows[usize::try_from(*id).unwrap()];
            let held = &mut row.held;
            let waits = matches!(held.state, TaskState::Pending | TaskState::Staged);
            let over = held.state == TaskState::Running && row.lease_until < now;
            let suspect = (waits && held.crash_count > 0) || (over && held.crash_count == 0);
            if suspect && !take {
                suspects.push(*id);
            } else if waits || suspect {
                held.crash_count += u32::from(over);
                held.epoch += 1;
                if held.delivered_version >= Some(held.wanted_version) {
                    held.state = TaskState::Completed;
                    (held.unsettled_version, held.intent_version) = (None, None);
                    continue;
                }
                held.unsettled_version = held.unsettled_version.or(held.intent_version);
                held.intent_version = Some(held.wanted_version);
                held.state = TaskState::Running;
                row.lease_until = now + LEASE_MS;
                let lease = Lease {
                    task_id: held.id,
                    epoch: held.epoch,
                };
                tasks.push((lease, held.wanted_version));
            }
        }
        let back = self.way();
        if self.workers[index].life == life {
            let claimed = Happening::Claimed {
                tasks,
                suspects,
                since,
            };
            self.plan(back, index, claimed);
        }
    }

    fn call(&mut self, index: usize, lease: Lease, version: i32) {
        let now = self.now;
        let task = usize::try_from(lease.task_id.0).unwrap();
        let worker = &self.workers[index];
        let elapsed = now - worker.claimed_at;
        let elapsed = elapsed + elapsed * worker.drift / 1_000_000;
        if elapsed > millis(lease::begins_within(LEASE)) {
            let next = PushNext::Snooze {
                after: Duration::from_millis(100),
            };
            return self.answer(index, 0, failed(lease, ErrorClass::RateLimit, next));
        }
        if self.plan.poison && task == 0 {
            return self.die(index);
        }
        let longest = (millis(lease::ends_within(LEASE)) - elapsed).min(CALL_MS);
        let lasts = self.rng.random_range(1..=longest);
        self.calls.push(Call {
            task,
            version,
            from: now,
            to: now + lasts,
        });
        let after = Duration::from_millis(self.rng.random_range(1..2_000));
        let ends = self.rng.random_range(0..10);
        let ended = match ends {
            // Not answered in time: carried out, or not.
            0 => {
                if self.rng.random_bool(0.5) {
                    self.target[task] = version;
                }
                failed(lease, ErrorClass::Timeout, PushNext::Retry { after })
            }
            1 => failed(lease, ErrorClass::Network, PushNext::Retry { after }),
            _ => {
                self.target[task] = version;
                let delivered = PushNext::Delivered {
                    action: PushAction::Updated,
                    version,
                    hash: None,
                    external_id: Some(task.to_string()),
                };
                settlement(lease, delivered)
            }
        };
        self.answer(index, lasts, ended);
    }

    fn answer(&mut self, index: usize, after: Millis, settlement: PushSettlement) {
        self.plan(after, index, Happening::Answered(settlement));
    }
}
