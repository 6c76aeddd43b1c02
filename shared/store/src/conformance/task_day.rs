//! A long day of [`crate::TaskStore`] with everything that can happen, in an order that a seed
//! decides: at its end the target holds the newest version of every record.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sluice_core::{ErrorClass, TaskId, record::RecordRef, task::PushAction};

use super::replay::replay_all;
use super::sql::{
    LONG, REQUEST, SqlFixture, World, delivered, failed, gone, ids, location, location_ref,
    request, settlement,
};
use crate::{
    dead_letter::DeadLetterFilter,
    task::{PushNext, PushTask, RescueSettings},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_day_suite {
    ($fixture:path) => {
        $crate::sql_cases!($fixture, task_day, [any_day_ends_in_step]);
    };
}

/// Events of one day.
const EVENTS: u64 = 250;
const RECORDS: u64 = 6;

/// The same numbers for the same seed (xorshift64, Marsaglia 2003).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Day {
    w: World,
    dice: Dice,
    clock: i64,
    /// Who works on what, as the workers believe.
    hands: Vec<PushTask>,
    staged: Vec<TaskId>,
    /// What the target holds: version by record.
    target: BTreeMap<(String, String), i32>,
}

/// O2, C2, M2: whatever fails, no older version follows a newer one and none is forgotten.
pub async fn any_day_ends_in_step(fixture: Arc<dyn SqlFixture>) {
    let mut day = Day {
        w: World::new(fixture).await,
        dice: Dice(1),
        clock: 100,
        hands: Vec::new(),
        staged: Vec::new(),
        target: BTreeMap::new(),
    };
    for seed in 1..=3 {
        day.dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for _ in 0..EVENTS {
            day.event().await;
        }
        day.finish().await;
    }
}

impl Day {
    async fn event(&mut self) {
        match self.dice.below(12) {
            0..=2 => self.edit().await,
            3 => self
                .staged
                .extend(ids(&self.w.stage_pushes(self.w.one, 3).await)),
            4 | 5 => self.claim().await,
            6..=8 => self.work().await,
            // A worker dies, or sleeps through its lease.
            9 => {
                self.w
                    .fixture
                    .execute(
                        "update sync_queue set lease_until = created_date where state = 'running'",
                    )
                    .await;
                if self.dice.below(2) == 0 {
                    self.hands.clear();
                }
            }
            // The broker forgets.
            10 => self.staged.clear(),
            _ => self.rescue().await,
        }
    }

    async fn edit(&mut self) {
        self.clock += 1;
        let n = self.dice.below(RECORDS);
        let content = i64::try_from(self.dice.below(1_000)).unwrap();
        // A request's location exists at some time, not necessarily before it.
        let mut record = if self.dice.below(2) == 0 {
            location(&format!("p{n}"), content, self.clock)
        } else {
            request(&format!("r{n}"), content, &format!("p{n}"))
        };
        record.modified_at = sluice_core::Timestamp::from_timestamp(self.clock, 0);
        if self.dice.below(8) == 0 {
            record = gone(record);
        }
        self.w.apply_one(record).await;
    }

    async fn claim(&mut self) {
        let take = usize::try_from(self.dice.below(3) + 1).unwrap();
        let take = take.min(self.staged.len());
        let named: Vec<_> = self.staged.drain(..take).collect();
        for task in self.w.claim_ids(&named, LONG).await {
            // One call in flight per record: whoever had the task has lost its lease.
            let id = task.lease.task_id;
            for before in self.hands.iter().filter(|one| one.lease.task_id == id) {
                assert!(before.lease.epoch < task.lease.epoch);
                let renewed = self.w.tasks.renew(&[before.lease], LONG).await.unwrap();
                assert_eq!(renewed, [false]);
            }
            self.hands.push(task);
        }
    }

    /// One worker ends its attempt, in time or too late.
    async fn work(&mut self) {
        if self.hands.is_empty() {
            return;
        }
        let hands = u64::try_from(self.hands.len()).unwrap();
        let at = usize::try_from(self.dice.below(hands)).unwrap();
        let task = self.hands.swap_remove(at);
        let after = Duration::from_secs(3_600);
        let sent = delivered(&task, action(&task));
        let end = match (missing_parent(&task), self.dice.below(8)) {
            (Some(on), _) => settlement(task.lease, PushNext::Blocked { on }),
            (None, 0) => failed(task.lease, ErrorClass::Timeout, PushNext::Retry { after }),
            (None, 1) => failed(
                task.lease,
                ErrorClass::RateLimit,
                PushNext::Snooze { after },
            ),
            (None, 2) => failed(task.lease, ErrorClass::Validation, PushNext::Dead),
            (None, _) => settlement(task.lease, sent),
        };
        let delivers = matches!(end.next, PushNext::Delivered { .. });
        let counts = self.w.tasks.settle_pushes(&[end]).await.unwrap();
        if delivers && counts == [true] {
            let key = (task.entity_type.to_string(), task.source_id);
            let before = self.target.insert(key, task.version);
            assert!(
                before < Some(task.version),
                "{before:?} then {}",
                task.version
            );
        }
    }

    /// Every wait is over.
    async fn rescue(&mut self) {
        self.w
            .fixture
            .execute("update sync_queue set next_retry_time = created_date where state = 'waiting' and next_retry_time is not null")
            .await;
        self.w.wake().await;
        self.w
            .tasks
            .rescue(&RescueSettings {
                staged_for: Duration::ZERO,
                limit: 1_000,
            })
            .await
            .unwrap();
    }

    /// The evening: all records exist, nothing fails any more, somebody replays the dead letters.
    async fn finish(&mut self) {
        self.clock += 1;
        for n in 0..RECORDS {
            let record = location(&format!("p{n}"), self.clock, self.clock);
            self.w.apply_one(record).await;
        }
        self.hands.clear();
        self.w
            .fixture
            .execute("update sync_queue set lease_until = created_date where state = 'running'")
            .await;
        let all = DeadLetterFilter::all(self.w.organization);
        replay_all(&self.w, &all).await;
        // A round for what is pending, one for the children that it releases, and one in reserve.
        for _ in 0..3 {
            self.rescue().await;
            for task in self.w.claim_all().await {
                let next = match missing_parent(&task) {
                    Some(on) => PushNext::Blocked { on },
                    None => {
                        let key = (task.entity_type.to_string(), task.source_id.clone());
                        self.target.insert(key, task.version);
                        delivered(&task, action(&task))
                    }
                };
                assert!(self.w.settle(&task, next).await);
            }
        }
        self.check().await;
    }

    async fn check(&self) {
        let w = &self.w;
        for (expected, sql) in [
            (
                0,
                "select count(*) from sync_queue where state <> 'completed'",
            ),
            (
                0,
                "select count(*) from sync_queue q join sync_master_data m on m.id = q.master_data_id where q.delivered_version <> m.current_version",
            ),
            (
                0,
                "select count(*) from sync_queue where intent_version is not null or unsettled_version is not null or retry_count <> 0 or blocked_on is not null",
            ),
            (
                0,
                "select count(*) from dead_letters where state in ('open', 'replaying')",
            ),
            (
                0,
                "select count(*) from sync_master_data where sync_status <> 'synced' or error_message is not null",
            ),
            (
                0,
                "select count(*) from sync_master_data m where m.current_version <> (select count(*) from data_versions v where v.master_data_id = m.id)",
            ),
        ] {
            assert_eq!(w.number(sql).await, expected, "{sql}");
        }
        let records = w.master.records(&w.query()).await.unwrap();
        assert_eq!(records.len(), self.target.len());
        for record in records {
            let key = (record.entity_type.to_string(), record.source_id);
            assert_eq!(self.target.get(&key), Some(&record.version), "{key:?}");
        }
    }
}

fn action(task: &PushTask) -> PushAction {
    match (&task.link, task.deleted) {
        (_, true) => PushAction::Deleted,
        (Some(link), false) if link.external_id.is_some() => PushAction::Updated,
        _ => PushAction::Created,
    }
}

/// What a request must wait for; a deletion waits for nothing.
fn missing_parent(task: &PushTask) -> Option<RecordRef> {
    if task.entity_type.as_str() != REQUEST || task.deleted {
        return None;
    }
    let missing = task
        .parents
        .iter()
        .find(|parent| parent.external_id.is_none())?;
    assert_eq!(missing.parent, location_ref(&missing.parent.source_id));
    Some(missing.parent.clone())
}
