//! What happens in the world, and when.

use std::cmp::Reverse;

use rand::{RngExt, rngs::StdRng};

use super::World;
use crate::{
    catalogue::RateLimit,
    traffic::{Leave, MILLISECOND, Nanos, SECOND, breaker::Ended},
};

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A process looks whether it can call or has to ask.
    Step(usize),
    /// The store carries out a process's ask.
    Serve(usize),
    /// The answer is there.
    Answer(usize),
    /// A call ends.
    Ended(usize, Leave, bool),
    /// The answer begins; whether as soon as it can.
    Answered(usize, Leave, bool),
    Stop(usize),
    Start(usize),
    ChangeLimit,
    RetryAfter,
    Outage(bool),
    StoreRestarts,
}

/// What a scenario contains besides ordinary calls.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Plan {
    pub(in super::super) disturbances: bool,
    pub(in super::super) limit_changes: bool,
    pub(in super::super) pauses: bool,
    pub(in super::super) outages: bool,
    pub(in super::super) store_restarts: bool,
}

impl World {
    pub(super) fn plan(&mut self, after: Nanos, happening: Happening) {
        self.number += 1;
        self.queue
            .push(Reverse((self.now + after, self.number, happening)));
    }

    pub(in super::super) fn run(&mut self, until: Nanos, plan: Plan) {
        let end = self.now + until;
        let times = |world: &mut Self, count: u32, happening: fn(&mut StdRng) -> Happening| {
            for _ in 0..count {
                let after = world.rng.random_range(0..until);
                let happening = happening(&mut world.rng);
                world.plan(after, happening);
            }
        };
        if plan.disturbances {
            let count = self.processes.len();
            for _ in 0..self.rng.random_range(0..6) {
                let index = self.rng.random_range(0..count);
                let at = self.rng.random_range(0..until);
                self.plan(at, Happening::Stop(index));
            }
        }
        let some = self.rng.random_range(1..4);
        if plan.limit_changes {
            times(self, some, |_| Happening::ChangeLimit);
        }
        if plan.pauses {
            times(self, some, |_| Happening::RetryAfter);
        }
        if plan.store_restarts {
            times(self, some, |_| Happening::StoreRestarts);
        }
        if plan.outages {
            let at = self.rng.random_range(0..until / 3);
            self.plan(at, Happening::Outage(true));
            let lasts = self.rng.random_range(SECOND..until / 3);
            self.plan(at + lasts, Happening::Outage(false));
        }
        while let Some(Reverse((at, _, happening))) = self.queue.pop() {
            if at > end {
                self.queue.push(Reverse((at, 0, happening)));
                break;
            }
            self.now = at;
            self.happen(happening, plan);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening, plan: Plan) {
        match happening {
            Happening::Step(index) => {
                if self.processes[index].looks_at == self.now {
                    self.processes[index].looks_at = Nanos::MAX;
                    self.step(index);
                }
            }
            Happening::Serve(index) => self.serve(index, plan),
            Happening::Answer(index) => self.answer(index),
            Happening::Answered(index, leave, soon) => {
                let process = &mut self.processes[index];
                if process.alive && self.now >= process.stopped_until {
                    process.share.answered(leave, self.now + process.offset);
                    process.knows_the_way |= soon;
                }
            }
            Happening::Ended(index, leave, failed) => {
                if let Some(probe) = leave.probe {
                    self.probing.remove(&probe.id);
                }
                let process = &mut self.processes[index];
                if process.alive {
                    let ended = if failed {
                        Ended::Failed
                    } else {
                        Ended::Answered
                    };
                    process.share.ended(leave, ended, self.now + process.offset);
                    process.callers += 1;
                    let late = self.delay(self.wakes.0, self.wakes.1);
                    self.look(index, late);
                }
            }
            Happening::Stop(index) => {
                if self.rng.random_bool(0.5) {
                    // Frozen, as by SIGSTOP, with everything it has in hand.
                    let lasts = self.rng.random_range(MILLISECOND..20 * SECOND);
                    self.processes[index].stopped_until = self.now + lasts;
                } else {
                    self.processes[index].alive = false;
                    let lasts = self.rng.random_range(MILLISECOND..20 * SECOND);
                    self.plan(lasts, Happening::Start(index));
                }
            }
            Happening::Start(index) => {
                if !self.processes[index].alive {
                    self.processes[index] = self.process(index);
                    self.look(index, 0);
                }
            }
            Happening::ChangeLimit => {
                let limits = self.other_limits();
                let clock = self.clock();
                if let Some(traffic) = &mut self.traffic {
                    traffic.pace.set_limits(&limits, clock.now);
                    self.changes.push((self.now, limits.clone()));
                    self.limits = limits;
                }
            }
            Happening::RetryAfter => {
                let index = self.rng.random_range(0..self.processes.len());
                let lasts = self.rng.random_range(SECOND..20 * SECOND);
                let process = &mut self.processes[index];
                if process.alive && self.now >= process.stopped_until {
                    let own = self.now + process.offset;
                    process.share.pause_until(own + lasts);
                    self.pauses.push((self.now, self.now + lasts));
                    self.look(index, 0);
                }
            }
            Happening::Outage(begins) => self.outage = begins,
            Happening::StoreRestarts => {
                // Another server, whose clock differs by up to two seconds.
                self.server += 1;
                self.store_offset += self.rng.random_range(-2 * SECOND..2 * SECOND);
            }
        }
    }
    /// Other numbers, one more window, or another one instead of all.
    fn other_limits(&mut self) -> Vec<RateLimit> {
        let calls = self.rng.random_range(1..=2 * self.limits[0].calls.max(2));
        let mut limits = self.limits.clone();
        limits[0].calls = calls;
        let shortest = self.limits.iter().map(|limit| limit.per_seconds).min();
        let longer = RateLimit::new(
            self.rng.random_range(1..120),
            self.rng.random_range(shortest.unwrap_or(1)..=90),
        );
        match self.rng.random_range(0..4) {
            0 => limits.truncate(1),
            1 => limits.push(longer),
            2 => limits = vec![longer],
            _ => return limits,
        }
        limits
    }
}
