//! The fleet that is played: processes, their store, the network between them and the other side.

mod happening;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::super::{
    Ask, FORGOTTEN, Grant, Leave, MILLISECOND, Nanos, SECOND, Share, StoreClock, Take, Traffic,
    breaker::Event as BreakerEvent,
    pace::{Kind, slack},
};
use crate::catalogue::{BreakerPolicy, RateLimit};

use self::happening::Happening;
pub(super) use self::happening::Plan;

pub(super) struct Process {
    share: Share,
    /// Own clock minus true time.
    offset: Nanos,
    alive: bool,
    /// Not scheduled before this true time.
    stopped_until: Nanos,
    /// Callers that wait, and the epoch in which they are known.
    callers: u32,
    waiting: Option<(Kind, u64, u32)>,
    asking: Option<(Nanos, Ask, Option<Grant>)>,
    /// When it looks next, in true time.
    looks_at: Nanos,
    /// Calls made.
    pub(super) calls: u64,
    /// An answer has come about as fast as any can.
    knows_the_way: bool,
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) now: Nanos,
    queue: BinaryHeap<Reverse<(Nanos, u64, Happening)>>,
    pub(super) number: u64,
    pub(super) traffic: Option<Traffic>,
    /// Store clock minus true time.
    pub(super) store_offset: Nanos,
    pub(super) server: i64,
    pub(super) processes: Vec<Process>,
    pub(super) limits: Vec<RateLimit>,
    /// Of the shortest window there ever is.
    slack: Nanos,
    pub(super) policy: BreakerPolicy,
    /// One way to the store, usually.
    pub(super) trip: Nanos,
    /// Who should wake up now does so this much later, usually, and at worst.
    pub(super) wakes: (Nanos, Nanos),
    /// The longest way to the other side.
    pub(super) strays: Nanos,
    /// Arrival of each call at the other side, and the process that made it.
    pub(super) arrivals: Vec<(Nanos, usize)>,
    /// True times at which the limits changed, with what held from then on.
    pub(super) changes: Vec<(Nanos, Vec<RateLimit>)>,
    pub(super) pauses: Vec<(Nanos, Nanos)>,
    pub(super) outage: bool,
    pub(super) probing: BTreeMap<u64, Nanos>,
    pub(super) most_probes: usize,
    pub(super) opened: u32,
    pub(super) closed: u32,
    pub(super) opened_at: Option<Nanos>,
    pub(super) while_open: u32,
}

impl World {
    pub(super) fn new(seed: u64, limits: Vec<RateLimit>, processes: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = 1_000_000 * SECOND;
        let mut world = Self {
            now: start,
            queue: BinaryHeap::new(),
            number: 0,
            traffic: None,
            store_offset: rng.random_range(-1_000 * SECOND..1_000 * SECOND),
            server: 1,
            processes: Vec::new(),
            changes: vec![(0, limits.clone())],
            slack: limits.iter().map(slack).min().unwrap_or(SECOND),
            limits,
            policy: BreakerPolicy::default(),
            trip: 3 * MILLISECOND,
            wakes: (2 * MILLISECOND, 10 * MILLISECOND),
            strays: 100 * MILLISECOND,
            arrivals: Vec::new(),
            pauses: Vec::new(),
            outage: false,
            probing: BTreeMap::new(),
            most_probes: 0,
            opened: 0,
            closed: 0,
            opened_at: None,
            while_open: 0,
            rng,
        };
        for index in 0..processes {
            let process = world.process(index);
            world.processes.push(process);
            world.look(index, 0);
        }
        world
    }

    fn process(&mut self, index: usize) -> Process {
        let name = format!("process {index}");
        Process {
            share: Share::new(name, &self.limits, SECOND),
            offset: self.rng.random_range(-1_000_000 * SECOND..0),
            alive: true,
            stopped_until: 0,
            callers: 4,
            waiting: None,
            asking: None,
            looks_at: Nanos::MAX,
            calls: 0,
            knows_the_way: false,
        }
    }

    /// Plans a process's next look, unless it looks earlier anyway.
    fn look(&mut self, index: usize, after: Nanos) {
        let at = self.now + after;
        let process = &mut self.processes[index];
        if at < process.looks_at {
            process.looks_at = at;
            self.plan(after, Happening::Step(index));
        }
    }

    /// Mostly fast, sometimes slow.
    fn delay(&mut self, usual: Nanos, longest: Nanos) -> Nanos {
        let longest = if self.rng.random_bool(0.02) {
            longest
        } else {
            usual
        };
        self.rng.random_range(usual / 10..=longest)
    }

    fn clock(&self) -> StoreClock {
        StoreClock {
            now: self.now + self.store_offset,
            server: self.server,
        }
    }

    /// Calls what may be called, asks when it is due, and plans the next look.
    fn step(&mut self, index: usize) {
        let stopped_until = self.processes[index].stopped_until;
        if !self.processes[index].alive {
            return;
        }
        if self.now < stopped_until {
            self.look(index, stopped_until - self.now);
            return;
        }
        let own = self.now + self.processes[index].offset;
        let mut next = Nanos::MAX;
        loop {
            let process = &mut self.processes[index];
            if process.callers == 0 {
                break;
            }
            let kind = process.share.kind("/", false);
            match process.share.take(kind, own) {
                Take::Now(leave) => {
                    process.callers -= 1;
                    process.calls += 1;
                    self.call(index, leave);
                }
                Take::At(at) => {
                    next = at;
                    break;
                }
                Take::Open(wait) => {
                    next = own + wait;
                    break;
                }
                Take::Ask | Take::Away => break,
            }
        }
        self.register(index);
        let process = &mut self.processes[index];
        if process.asking.is_none() {
            match process.share.next_ask(own) {
                Some(at) if at <= own => {
                    let ask = process.share.ask(own);
                    process.asking = Some((own, ask, None));
                    let there = self.delay(self.trip, (80 * MILLISECOND).max(self.trip));
                    self.plan(there, Happening::Serve(index));
                }
                Some(at) => next = next.min(at),
                None => {}
            }
        }
        if next < Nanos::MAX {
            let late = self.delay(self.wakes.0, self.wakes.1);
            self.look(index, (next - own).max(0) + late);
        }
    }

    /// Those who wait are known to the share.
    fn register(&mut self, index: usize) {
        let process = &mut self.processes[index];
        if let Some((kind, epoch, count)) = process.waiting.take() {
            (0..count).for_each(|_| process.share.wait_ended(kind, epoch));
        }
        let kind = process.share.kind("/", false);
        let mut epoch = 0;
        for _ in 0..process.callers {
            epoch = process.share.wait_begins(kind);
        }
        process.waiting = Some((kind, epoch, process.callers));
    }

    /// The way there takes longer than the slack now and then, once the process has seen how long it
    /// takes usually.
    fn call(&mut self, index: usize, leave: Leave) {
        let slack = self.slack().min(100 * MILLISECOND);
        let strays = self.processes[index].knows_the_way && self.rng.random_bool(0.05);
        let longest = if strays { self.strays } else { slack / 2 };
        let travels = self.rng.random_range(0..=longest);
        self.arrivals.push((self.now + travels, index));
        let works = self.delay(slack / 2, 4 * slack);
        let back = MILLISECOND;
        let answered = Happening::Answered(index, leave, travels + works <= slack / 2);
        self.plan(travels + works + back, answered);
        if let Some(probe) = leave.probe {
            self.probing.insert(probe.id, self.now);
            self.most_probes = self.most_probes.max(self.probing.len());
        } else if self.opened_at.is_some_and(|at| self.now > at + FORGOTTEN) {
            self.while_open += 1;
        }
        let lasts = travels + works + back + self.delay(20 * MILLISECOND, 500 * MILLISECOND);
        let failed = self.outage;
        self.plan(lasts, Happening::Ended(index, leave, failed));
    }

    pub(super) fn slack(&self) -> Nanos {
        self.slack
    }

    fn serve(&mut self, index: usize, plan: Plan) {
        let clock = self.clock();
        let Some((_, ask, grant)) = &mut self.processes[index].asking else {
            return;
        };
        // The store is away now and then.
        if plan.disturbances && self.rng.random_bool(0.01) {
            self.plan(SECOND, Happening::Answer(index));
            return;
        }
        let traffic = self
            .traffic
            .get_or_insert_with(|| Traffic::new(&self.limits));
        let (given, event) = traffic.serve(clock, ask, &self.policy);
        *grant = Some(given);
        // What is stored is what is read.
        if self.rng.random_bool(0.01) {
            let stored = serde_json::to_string(&traffic).unwrap();
            *traffic = serde_json::from_str(&stored).unwrap();
        }
        match event {
            Some(BreakerEvent::Opened { .. }) => {
                self.opened += 1;
                self.opened_at = Some(self.now);
            }
            Some(BreakerEvent::Closed) => {
                self.closed += 1;
                self.opened_at = None;
            }
            _ => {}
        }
        let back = self.delay(self.trip, (80 * MILLISECOND).max(self.trip));
        self.plan(back, Happening::Answer(index));
    }

    fn answer(&mut self, index: usize) {
        let stopped_until = self.processes[index].stopped_until;
        if self.processes[index].alive && self.now < stopped_until {
            self.plan(stopped_until - self.now, Happening::Answer(index));
            return;
        }
        let chance = self.rng.random::<f64>();
        let process = &mut self.processes[index];
        let own = self.now + process.offset;
        if let Some((asked, ask, grant)) = process.asking.take() {
            match grant {
                Some(grant) => process.share.granted(asked, own, &grant, chance),
                None => process.share.failed(own, ask),
            }
        }
        let late = self.delay(self.wakes.0, self.wakes.1);
        self.look(index, late);
    }

    /// No window of any limit held more than the limit in force at its end, unless it holds no
    /// call made after the change to it.
    pub(super) fn check_windows(&mut self) {
        self.arrivals.sort_unstable();
        let own_slack = self.slack();
        for (number, (since, limits)) in self.changes.iter().enumerate() {
            let until = self
                .changes
                .get(number + 1)
                .map_or(Nanos::MAX, |(until, _)| *until);
            // Slots of the old pace may be handed out already and still be on their way.
            let settled = if number == 0 {
                *since
            } else {
                since + FORGOTTEN + own_slack
            };
            for limit in limits {
                let window = Nanos::from(limit.per_seconds) * SECOND;
                let mut from = 0;
                for to in 0..self.arrivals.len() {
                    let at = self.arrivals[to].0;
                    while at - self.arrivals[from].0 > window {
                        from += 1;
                    }
                    if at > settled && at < until {
                        let held = to - from + 1;
                        assert!(
                            held <= limit.calls as usize,
                            "{held} calls in {} s, limit {}, change {number} at {since}, call at {at}",
                            limit.per_seconds,
                            limit.calls,
                        );
                    }
                }
            }
        }
    }
}
