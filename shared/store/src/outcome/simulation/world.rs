//! The workers that are played, their store, their messages and the target.

mod workers;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_core::{ConnectionId, MasterId, TaskId, Timestamp, retry::after_crash, task::TaskState};

use super::super::{Held, fatal_attempt, settle};
use crate::task::{Lease, PushNext, PushSettlement};

/// Milliseconds since the beginning.
type Millis = i64;

const LEASE: Duration = Duration::from_secs(30);
const LEASE_MS: Millis = 30_000;
const TICK: Millis = 1_000;
/// Disturbances end here.
const TROUBLE: Millis = 200_000;
/// By then everything is at rest.
const END: Millis = TROUBLE + 900_000;

/// What a run contains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) tasks: usize,
    /// The first task kills whoever works on it.
    pub(super) poison: bool,
    pub(super) deaths: bool,
    pub(super) stops: bool,
}

struct Row {
    held: Held,
    lease_until: Millis,
    due: Option<Millis>,
    staged_at: Millis,
    /// Epochs that were settled.
    settled: Vec<i64>,
}

struct Worker {
    /// Counts its lives; what an earlier one began, comes to nothing.
    life: u32,
    stopped_until: Millis,
    /// Parts in a million by which its clock is fast.
    drift: Millis,
    held: VecDeque<(Lease, i32)>,
    claimed_at: Millis,
    suspects: VecDeque<i64>,
}

/// One call at the target.
struct Call {
    task: usize,
    version: i32,
    from: Millis,
    to: Millis,
}

enum Happening {
    /// A worker looks for work, or goes on with what it holds.
    Work,
    Claim {
        ids: Vec<i64>,
        suspects: bool,
        since: Millis,
    },
    Claimed {
        tasks: Vec<(Lease, i32)>,
        suspects: Vec<i64>,
        since: Millis,
    },
    Settle(PushSettlement),
    Answered(PushSettlement),
    Stop,
    Die,
    Start,
}

pub(super) struct World {
    rng: StdRng,
    plan: Plan,
    now: Millis,
    queue: BinaryHeap<Reverse<(Millis, u64)>>,
    happenings: std::collections::HashMap<u64, (usize, u32, Happening)>,
    number: u64,
    rows: Vec<Row>,
    workers: Vec<Worker>,
    messages: VecDeque<i64>,
    calls: Vec<Call>,
    /// The version that the target holds.
    target: Vec<i32>,
    pub(super) fenced: u32,
    pub(super) given_up: u32,
    pub(super) healed: u32,
}

fn row(id: usize) -> Row {
    let id = i64::try_from(id).unwrap();
    Row {
        held: Held {
            id: TaskId(id),
            master_id: MasterId(id),
            connection_id: ConnectionId(1),
            source: "yardi".into(),
            entity_type: "Location".into(),
            source_id: id.to_string(),
            state: TaskState::Pending,
            epoch: 0,
            wanted_version: 1,
            delivered_version: None,
            intent_version: None,
            unsettled_version: None,
            retry_count: 0,
            crash_count: 0,
            refusal_count: 0,
            parent_linked: false,
        },
        lease_until: 0,
        due: None,
        staged_at: 0,
        settled: Vec::new(),
    }
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let workers = (0..plan.workers)
            .map(|_| Worker {
                life: 0,
                stopped_until: 0,
                drift: rng.random_range(-600..=600),
                held: VecDeque::new(),
                claimed_at: 0,
                suspects: VecDeque::new(),
            })
            .collect();
        let mut world = Self {
            rng,
            plan,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: std::collections::HashMap::new(),
            number: 0,
            rows: (0..plan.tasks).map(row).collect(),
            workers,
            messages: VecDeque::new(),
            calls: Vec::new(),
            target: vec![0; plan.tasks],
            fenced: 0,
            given_up: 0,
            healed: 0,
        };
        for worker in 0..plan.workers {
            world.plan(0, worker, Happening::Work);
        }
        world
    }

    fn plan(&mut self, after: Millis, worker: usize, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + after, self.number)));
        let life = self.workers[worker].life;
        self.happenings
            .insert(self.number, (worker, life, happening));
    }

    /// A way to the store or back: mostly short, sometimes as long as a lease.
    fn way(&mut self) -> Millis {
        if self.now < TROUBLE && self.rng.random_bool(0.02) {
            self.rng.random_range(0..LEASE_MS)
        } else {
            self.rng.random_range(1..20)
        }
    }

    pub(super) fn run(&mut self) {
        let mut tick = 0;
        while tick <= END && !(tick > TROUBLE && self.is_at_rest()) {
            while let Some(Reverse((at, number))) = self.queue.peek().copied()
                && at <= tick
            {
                self.queue.pop();
                self.now = at;
                if let Some((worker, life, happening)) = self.happenings.remove(&number) {
                    self.happen(worker, life, happening);
                }
            }
            self.now = tick;
            self.orchestrate();
            if tick < TROUBLE {
                self.disturb();
            }
            tick += TICK;
        }
    }

    fn is_at_rest(&self) -> bool {
        self.rows.iter().all(|row| !row.held.state.is_open())
    }

    /// What the timer does: brings back what is due, heals, stages, finds lost messages.
    fn orchestrate(&mut self) {
        for index in 0..self.rows.len() {
            let now = self.now;
            let row = &mut self.rows[index];
            match row.held.state {
                TaskState::Waiting if row.due.is_some_and(|due| due <= now) => {
                    row.held.state = TaskState::Pending;
                    row.due = None;
                }
                TaskState::Running if row.lease_until < now => self.heal(index),
                TaskState::Staged if row.staged_at + 5 * LEASE_MS / 2 < now => {
                    row.held.state = TaskState::Pending;
                }
                _ => {}
            }
            let row = &mut self.rows[index];
            if row.held.state == TaskState::Pending {
                row.held.state = TaskState::Staged;
                row.staged_at = now;
                let copies = if now < TROUBLE {
                    self.rng.random_range(0..=20)
                } else {
                    1
                };
                // One in 21 is lost, one in 21 doubled.
                for _ in 0..copies.min(1) + i32::from(copies == 20) {
                    self.messages.push_back(row.held.id.0);
                }
            }
        }
    }

    fn heal(&mut self, index: usize) {
        let now = self.now;
        let row = &mut self.rows[index];
        self.healed += 1;
        let died = row.held.crash_count + 1;
        match after_crash(died) {
            Some(rest) => {
                row.held.crash_count = died;
                row.held.state = if rest.is_zero() {
                    TaskState::Pending
                } else {
                    row.due = Some(now + millis(rest));
                    TaskState::Waiting
                };
            }
            None => {
                let settlement = PushSettlement {
                    lease: Lease {
                        task_id: row.held.id,
                        epoch: row.held.epoch,
                    },
                    attempt: fatal_attempt(died, None, Timestamp::UNIX_EPOCH),
                    next: PushNext::Dead,
                    request: None,
                };
                self.given_up += 1;
                self.settle(&settlement);
            }
        }
    }

    fn disturb(&mut self) {
        let worker = self.rng.random_range(0..self.workers.len());
        if self.plan.stops && self.rng.random_bool(0.02) {
            self.plan(0, worker, Happening::Stop);
        }
        if self.plan.deaths && self.rng.random_bool(0.02) {
            self.plan(0, worker, Happening::Die);
        }
        if self.rng.random_bool(0.1) {
            let task = self.rng.random_range(0..self.rows.len());
            self.update(task);
        }
    }

    /// A newer version: what had come to its end is owed again.
    fn update(&mut self, task: usize) {
        let row = &mut self.rows[task];
        row.held.wanted_version += 1;
        if !row.held.state.is_open() {
            row.held.state = TaskState::Pending;
            row.held.retry_count = 0;
        }
    }

    /// As `settle_pushes` of both backends.
    fn settle(&mut self, settlement: &PushSettlement) {
        let row = &mut self.rows[usize::try_from(settlement.lease.task_id.0).unwrap()];
        if !row.held.is_leased_by(settlement.lease) {
            self.fenced += 1;
            return;
        }
        assert!(
            !row.settled.contains(&settlement.lease.epoch),
            "settled twice: {:?}",
            settlement.lease
        );
        row.settled.push(settlement.lease.epoch);
        let outcome = settle(&row.held, settlement);
        row.due = outcome.wait.map(|wait| self.now + millis(wait));
        let held = &mut row.held;
        held.state = outcome.state;
        held.retry_count = outcome.retry_count;
        held.crash_count = outcome.crash_count;
        held.refusal_count = outcome.refusal_count;
        held.delivered_version = outcome.delivered_version;
        held.intent_version = outcome.intent_version;
        held.unsettled_version = outcome.unsettled_version;
    }

    pub(super) fn check(&mut self) {
        self.calls.sort_by_key(|call| (call.task, call.from));
        for pair in self.calls.windows(2) {
            if pair[0].task == pair[1].task {
                assert!(
                    pair[0].to <= pair[1].from,
                    "two calls for task {} at {}",
                    pair[0].task,
                    pair[1].from
                );
                assert!(pair[0].version <= pair[1].version, "an older version");
            }
        }
        for (task, row) in self.rows.iter().enumerate() {
            let held = &row.held;
            if self.plan.poison && task == 0 {
                assert_eq!(held.state, TaskState::Dead, "{held:?}");
                continue;
            }
            match held.state {
                TaskState::Completed => {
                    assert_eq!(held.delivered_version, Some(held.wanted_version));
                    assert_eq!(self.target[task], held.wanted_version);
                }
                // Given up after deaths that others were the cause of.
                TaskState::Dead => assert!(self.plan.deaths || self.plan.poison || self.plan.stops),
                _ => panic!("not at rest: {held:?}"),
            }
        }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap()
}
