//! A long day at a target that knows nothing but idempotency keys, with workers that die at every step
//! and wake too late, in an order that a seed decides: no record is created twice there, none is parked, and at
//! the end the target holds the newest version of each (promise O1).
//!
//! The worker here does what `sync_out` does with such a target, and the target takes a key it knows for
//! what it was, and is strict about what comes under it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice_core::{ErrorClass, TaskId, task::PushAction};

use super::{
    replay::replay_all,
    sql::{LOCATION, LONG, SqlFixture, World, claim, failed, gone, ids, location, settlement},
    task_day::Dice,
};
use crate::{
    dead_letter::DeadLetterFilter,
    request::KeptRequest,
    task::{Claim, Lease, PushNext, PushSettlement, PushTask, RescueSettings},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_keyed_day_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_keyed_day,
            [no_order_of_deaths_creates_twice_or_parks]
        );
    };
}

/// Events of one day.
const EVENTS: u64 = 250;
const RECORDS: u64 = 4;

struct Day {
    w: World,
    dice: Dice,
    clock: i64,
    /// Who works on what, as the workers believe.
    hands: Vec<PushTask>,
    staged: Vec<TaskId>,
    target: Target,
    /// Claims that would have been in doubt, had nobody known that nothing was sent.
    spared: u32,
    repeated: u32,
}

#[derive(Default)]
struct Target {
    /// What came under a key, and the record that it made.
    keys: BTreeMap<String, (Value, String)>,
    /// Version by external id.
    records: BTreeMap<String, i32>,
}

impl Target {
    fn create(&mut self, request: &KeptRequest) -> String {
        if let Some((body, id)) = self.keys.get(&request.idempotency_key) {
            assert_eq!(*body, request.body, "another body under a known key");
            return id.clone();
        }
        let place = self.keys.len();
        let id = format!("{}#{place}", request.body["record"].as_str().unwrap());
        let known = (request.body.clone(), id.clone());
        self.keys.insert(request.idempotency_key.clone(), known);
        self.records.insert(id.clone(), request.version);
        id
    }
}

pub async fn no_order_of_deaths_creates_twice_or_parks(fixture: Arc<dyn SqlFixture>) {
    let mut day = Day {
        w: World::new(fixture).await,
        dice: Dice(1),
        clock: 100,
        hands: Vec::new(),
        staged: Vec::new(),
        target: Target::default(),
        spared: 0,
        repeated: 0,
    };
    for seed in 1..=3 {
        day.dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for _ in 0..EVENTS {
            day.event().await;
        }
        day.finish().await;
    }
    // What is to be shown has happened.
    assert!(day.spared > 0 && day.repeated > 0);
}

impl Day {
    async fn event(&mut self) {
        match self.dice.below(10) {
            0 | 1 => self.edit().await,
            2 => {
                let staged = self.w.stage_pushes(self.w.one, 2).await;
                self.staged.extend(ids(&staged));
            }
            3 | 4 => self.claim().await,
            5 | 6 => self.work().await,
            // Workers die before they have kept anything, or sleep through their leases.
            7 => {
                self.leases_end().await;
                if self.dice.below(2) == 0 {
                    self.hands.clear();
                }
            }
            _ => self.rescue().await,
        }
    }

    async fn edit(&mut self) {
        self.clock += 1;
        let n = self.dice.below(RECORDS);
        let record = location(&format!("p{n}"), self.clock, self.clock);
        let is_gone = self.dice.below(6) == 0;
        self.w
            .apply_one(if is_gone { gone(record) } else { record })
            .await;
    }

    async fn claim(&mut self) {
        let intents = "select count(*) from sync_queue where intent_version is not null and state in ('pending', 'staged')";
        let Some(id) = self.staged.pop() else { return };
        let before = self.w.number(intents).await;
        let claim = Claim {
            keeps: vec![LOCATION.into()],
            ..claim(&[id], LONG)
        };
        let claimed = self.w.tasks.claim_pushes(&claim).await.unwrap().tasks;
        let fewer = self.w.number(intents).await < before;
        let spared = |task: &PushTask| fewer && task.unsettled_version.is_none();
        self.spared += u32::from(claimed.iter().any(spared));
        self.hands.extend(claimed);
    }

    /// One worker goes on, in time or too late.
    async fn work(&mut self) {
        if self.hands.is_empty() {
            return;
        }
        let hands = u64::try_from(self.hands.len()).unwrap();
        let at = usize::try_from(self.dice.below(hands)).unwrap();
        let task = self.hands.swap_remove(at);
        if let Some(settlement) = self.attempt(&task).await {
            self.w.tasks.settle_pushes(&[settlement]).await.unwrap();
        }
    }

    /// What a worker sends; `None` when it dies over it, or comes too late.
    async fn attempt(&mut self, task: &PushTask) -> Option<PushSettlement> {
        let lease = task.lease;
        let kept = self.w.tasks.kept_requests(&[lease.task_id]).await.unwrap();
        let mut kept = kept.into_iter().map(|(_, request)| request);
        let doubted = kept.find(|request| request.is_doubted(task));
        if task.is_linked() || doubted.is_some() {
            // Nothing is kept for these, so only their time tells workers that they are too late.
            let renewed = self.w.tasks.renew(&[lease], LONG).await.unwrap();
            if renewed != [true] {
                return None;
            }
        }
        if task.is_linked() {
            return self.follow(task);
        }
        if let Some(request) = doubted {
            self.repeated += 1;
            return self.create(lease, &request);
        }
        let unsettled = task.unsettled_version;
        assert!(unsettled.is_none(), "parked, {unsettled:?}: {task:?}");
        if task.deleted {
            return Some(settlement(lease, done(task, PushAction::Skipped, None)));
        }
        let request = KeptRequest {
            version: task.version,
            refusal_count: task.refusal_count,
            idempotency_key: format!("{}-{}-{}", task.source_id, task.version, task.refusal_count),
            body: json!({"record": task.source_id, "data": task.data}),
        };
        let keep = [(lease, request.clone())];
        if self.w.tasks.keep_requests(&keep).await.unwrap() != [true] || self.dice.below(6) == 0 {
            return None;
        }
        self.create(lease, &request)
    }

    fn create(&mut self, lease: Lease, request: &KeptRequest) -> Option<PushSettlement> {
        let after = Duration::from_secs(3_600);
        let again = || PushNext::Retry { after };
        let end = match self.dice.below(8) {
            0 => failed(lease, ErrorClass::Network, again()),
            1 if !self.target.keys.contains_key(&request.idempotency_key) => {
                failed(lease, ErrorClass::Validation, PushNext::Dead)
            }
            roll => {
                let id = self.target.create(request);
                let made = PushNext::Delivered {
                    action: PushAction::Created,
                    version: request.version,
                    hash: None,
                    external_id: Some(id),
                };
                match roll {
                    2 => return None,
                    3 => failed(lease, ErrorClass::Timeout, again()),
                    4 => failed(lease, ErrorClass::TargetError, PushNext::Dead),
                    _ => settlement(lease, made),
                }
            }
        };
        Some(PushSettlement {
            request: Some(request.version),
            ..end
        })
    }

    /// An update or a deletion of what is linked.
    fn follow(&mut self, task: &PushTask) -> Option<PushSettlement> {
        let id = task.link.as_ref()?.external_id.clone()?;
        if task.deleted {
            self.target.records.remove(&id);
        } else {
            self.target.records.insert(id.clone(), task.version);
        }
        let action = match task.deleted {
            true => PushAction::Deleted,
            false => PushAction::Updated,
        };
        let after = Duration::from_secs(3_600);
        match self.dice.below(6) {
            0 => None,
            1 => {
                let again = PushNext::Retry { after };
                Some(failed(task.lease, ErrorClass::Timeout, again))
            }
            _ => Some(settlement(task.lease, done(task, action, Some(id)))),
        }
    }

    async fn leases_end(&self) {
        let ended = "update sync_queue set lease_until = created_date where state = 'running'";
        self.w.fixture.execute(ended).await;
    }

    /// Every wait is over.
    async fn rescue(&mut self) {
        self.w
            .fixture
            .execute("update sync_queue set next_retry_time = created_date where state = 'waiting'")
            .await;
        self.w.wake().await;
        let settings = RescueSettings {
            staged_for: Duration::ZERO,
            limit: 1_000,
        };
        self.w.tasks.rescue(&settings).await.unwrap();
    }

    /// The evening: all records exist, and somebody replays the dead letters. Work goes on, faults and
    /// all, until nothing is open.
    async fn finish(&mut self) {
        for n in 0..RECORDS {
            self.clock += 1;
            let record = location(&format!("p{n}"), self.clock, self.clock);
            self.w.apply_one(record).await;
        }
        self.hands.clear();
        self.leases_end().await;
        let open = "select count(*) from sync_queue where state <> 'completed'";
        let all = DeadLetterFilter::all(self.w.organization);
        for round in 0.. {
            assert!(round < 200, "never done");
            self.rescue().await;
            let staged = self.w.stage_pushes(self.w.one, 10).await;
            self.staged = ids(&staged);
            while !self.staged.is_empty() {
                self.claim().await;
                self.work().await;
            }
            self.leases_end().await;
            if self.w.number(open).await == 0 {
                break;
            }
            replay_all(&self.w, &all).await;
        }
        self.check().await;
    }

    async fn check(&self) {
        let records = self.w.master.records(&self.w.query()).await.unwrap();
        let mut held = BTreeMap::<_, Vec<i32>>::new();
        for (id, version) in &self.target.records {
            let name = id.split('#').next().unwrap_or_default().to_owned();
            held.entry(name).or_default().push(*version);
        }
        let wanted = records.into_iter();
        let wanted = wanted.map(|one| (one.source_id, vec![one.version]));
        assert_eq!(held, wanted.collect(), "each once, and the newest version");
        let kept = self.w.number("select count(*) from kept_requests").await;
        assert_eq!(kept, 0, "what is kept goes with the doubt");
    }
}

fn done(task: &PushTask, action: PushAction, external_id: Option<String>) -> PushNext {
    PushNext::Delivered {
        action,
        version: task.version,
        hash: None,
        external_id: external_id.filter(|_| action != PushAction::Deleted),
    }
}
