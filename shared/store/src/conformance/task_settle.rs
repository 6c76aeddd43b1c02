//! Cases of the task part of [`crate::TaskStore`]: how attempts end.

use std::{sync::Arc, time::Duration};

use sluice_core::{
    ErrorClass, Hash, Timestamp,
    task::{AttemptOutcome, PushAction, TaskState},
};

use super::eventually;
use super::sql::{LOCATION, SqlFixture, World, delivered, failed, gone, location, settlement};
use crate::{
    master::{MasterQuery, PushStatus},
    task::{PushNext, PushTask},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_settle_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_settle,
            [
                a_delivery_writes_link_and_attempt,
                why_nothing_was_sent_is_kept,
                a_retry_waits_and_uses_an_attempt,
                a_snooze_uses_no_attempt,
                an_intent_stays_while_the_call_may_have_been_applied,
                an_unknown_outcome_waits_for_a_person,
                a_deletion_forgets_the_external_id,
                a_skip_leaves_the_link_without_external_id,
                a_cancelled_push_comes_back_with_a_new_version,
                a_settlement_counts_once,
                many_pushes_settle_together,
                what_is_delivered_already_is_completed_at_the_claim,
                changes_are_read_in_order_and_once,
                targets_are_summed_up,
            ]
        );
    };
}

/// After the first delay has passed.
const SOON: Duration = Duration::from_millis(50);

async fn push(w: &World) -> PushStatus {
    w.history(LOCATION, "p1").await.pushes.remove(0)
}

/// Waits until the rescue finds the push due, and claims it again.
async fn claim_when_due(w: &World) -> PushTask {
    eventually(async || {
        w.rescue().await;
        w.claim_all().await.pop()
    })
    .await
}

pub async fn a_delivery_writes_link_and_attempt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert_eq!(task.link, None);
    assert_eq!(task.modified_at, Timestamp::from_timestamp(100, 0));
    let one = settlement(task.lease, delivered(&task, PushAction::Created));
    assert_eq!(
        w.tasks
            .settle_pushes(std::slice::from_ref(&one))
            .await
            .unwrap(),
        [true]
    );
    let history = w.history(LOCATION, "p1").await;
    let link = history.links.iter().find(|link| link.connection == "one");
    let link = link.expect("a link to the target");
    assert_eq!(link.external_id.as_deref(), Some("ext-yardi:p1"));
    assert_eq!((link.pushed_version, link.base_version), (Some(1), Some(1)));
    assert_eq!(link.pushed_hash, Some(Hash::of_json(&task.data)));
    assert!(link.pushed_at.is_some());
    let push = &history.pushes[0];
    assert_eq!((push.state, push.retry_count), (TaskState::Completed, 0));
    let attempt = &push.attempts[0];
    assert_eq!(attempt.outcome, AttemptOutcome::Completed);
    assert_eq!(attempt.action, Some(PushAction::Created));
    assert_eq!((attempt.number, attempt.version), (1, Some(1)));
    assert_eq!((attempt.duration_ms, attempt.calls), (12, 2));
    assert_eq!(attempt.started_at, one.attempt.started_at);
    assert_eq!(attempt.trace_id, one.attempt.trace_id);
    assert_eq!(&*attempt.worker, "test");
}

/// A person who asks why a target never got a record is told.
pub async fn why_nothing_was_sent_is_kept(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    let mut one = settlement(task.lease, delivered(&task, PushAction::Skipped));
    one.attempt.reason = Some("no unit".to_owned());
    w.tasks.settle_pushes(&[one]).await.unwrap();
    let push = push(&w).await;
    let attempt = &push.attempts[0];
    assert_eq!(attempt.action, Some(PushAction::Skipped));
    assert_eq!(attempt.reason.as_deref(), Some("no unit"));
    assert_eq!(
        (&attempt.error_class, &attempt.error_message),
        (&None, &None)
    );
    assert_eq!(
        (push.state, push.error_message),
        (TaskState::Completed, None)
    );
}

/// O5: not before its time, with the failure on record; a success starts from 0 again.
pub async fn a_retry_waits_and_uses_an_attempt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert_eq!((task.retry_count, task.max_retries), (0, 3));
    let hour = Duration::from_secs(3_600);
    w.fail(&task, ErrorClass::Network, PushNext::Retry { after: hour })
        .await;
    assert_eq!(w.wake().await, 0);
    assert!(w.claim_all().await.is_empty());
    let waiting = push(&w).await;
    assert_eq!(
        (waiting.state, waiting.retry_count),
        (TaskState::Waiting, 1)
    );
    assert!(waiting.next_retry_time.is_some());
    assert_eq!(waiting.error_class.as_deref(), Some("network"));
    assert!(waiting.error_message.is_some());
    assert_eq!(waiting.attempts[0].outcome, AttemptOutcome::RetryAt);
    assert_eq!(
        waiting.attempts[0].error_code.as_deref(),
        Some("test_failure")
    );
    assert_eq!(waiting.attempts[0].http_status, Some(422));
    // A newer version does not cut the wait short.
    w.apply_one(location("p1", 2, 200)).await;
    assert_eq!(push(&w).await.state, TaskState::Waiting);
}

/// O3: the gate's waits and rate limits cost nothing.
pub async fn a_snooze_uses_no_attempt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let mut task = w.claim_single().await;
    for _ in 0..3 {
        assert!(
            w.fail(
                &task,
                ErrorClass::RateLimit,
                PushNext::Snooze { after: SOON }
            )
            .await
        );
        assert_eq!(push(&w).await.state, TaskState::Waiting);
        task = claim_when_due(&w).await;
        assert_eq!((task.retry_count, task.unsettled_version), (0, None));
    }
    assert!(w.deliver(&task).await);
    let outcomes: Vec<_> = push(&w)
        .await
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            (1, AttemptOutcome::Snoozed),
            (2, AttemptOutcome::Snoozed),
            (3, AttemptOutcome::Snoozed),
            (4, AttemptOutcome::Completed)
        ]
    );
}

/// O1: the oldest version that may have arrived is told until a delivery, also over a snooze.
pub async fn an_intent_stays_while_the_call_may_have_been_applied(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let now = || PushNext::Retry { after: SOON };
    let task = w.claim_single().await;
    w.fail(&task, ErrorClass::Network, now()).await;
    let task = claim_when_due(&w).await;
    assert_eq!((task.retry_count, task.unsettled_version), (1, None));
    w.fail(&task, ErrorClass::Timeout, now()).await;
    w.apply_one(location("p1", 2, 200)).await;
    let task = claim_when_due(&w).await;
    assert_eq!(
        (task.retry_count, task.version, task.unsettled_version),
        (2, 2, Some(1))
    );
    w.settle(&task, PushNext::Snooze { after: SOON }).await;
    let task = claim_when_due(&w).await;
    assert_eq!((task.version, task.unsettled_version), (2, Some(1)));
    w.fail(&task, ErrorClass::TargetError, now()).await;
    let task = claim_when_due(&w).await;
    assert_eq!((task.version, task.unsettled_version), (2, Some(1)));
    assert!(w.deliver(&task).await);
    w.apply_one(location("p1", 3, 300)).await;
    let task = w.claim_single().await;
    assert_eq!((task.retry_count, task.unsettled_version), (0, None));
    // The probe of a target that is down uses no attempt, but it may have been carried out.
    let free = || PushNext::Snooze { after: SOON };
    w.fail(&task, ErrorClass::Network, free()).await;
    let task = claim_when_due(&w).await;
    assert_eq!((task.retry_count, task.unsettled_version), (0, None));
    w.fail(&task, ErrorClass::TargetError, free()).await;
    let task = claim_when_due(&w).await;
    assert_eq!((task.retry_count, task.unsettled_version), (0, Some(3)));
}

/// O1: nothing is sent again blindly, not even a newer version.
pub async fn an_unknown_outcome_waits_for_a_person(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert!(w.fail(&task, ErrorClass::Timeout, PushNext::Unknown).await);
    w.apply_one(location("p1", 2, 200)).await;
    w.rescue().await;
    assert!(w.claim_all().await.is_empty());
    let push = push(&w).await;
    assert_eq!((push.state, push.wanted_version), (TaskState::Unknown, 2));
    assert_eq!(push.attempts[0].outcome, AttemptOutcome::Unknown);
}

/// A record that returns is created anew where it was deleted.
pub async fn a_deletion_forgets_the_external_id(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    w.deliver(&w.claim_single().await).await;
    w.apply_one(gone(location("p1", 1, 200))).await;
    let task = w.claim_single().await;
    assert!(task.deleted);
    assert_eq!(task.data["content"], serde_json::json!(1));
    let link = task.link.as_ref().unwrap();
    assert_eq!(link.external_id.as_deref(), Some("ext-yardi:p1"));
    w.settle(&task, delivered(&task, PushAction::Deleted)).await;
    w.apply_one(location("p1", 1, 300)).await;
    let task = w.claim_single().await;
    assert!(!task.deleted);
    let link = task.link.unwrap();
    assert_eq!((link.external_id, link.pushed_version), (None, Some(2)));
}

/// Left out by the mapping: done, but nothing is there; a later skip keeps what is there.
pub async fn a_skip_leaves_the_link_without_external_id(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let skipped = |task: &PushTask| PushNext::Delivered {
        action: PushAction::Skipped,
        version: task.version,
        hash: None,
        external_id: None,
    };
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    w.settle(&task, skipped(&task)).await;
    assert_eq!(push(&w).await.state, TaskState::Completed);
    w.apply_one(location("p1", 2, 200)).await;
    let task = w.claim_single().await;
    let link = task.link.as_ref().unwrap();
    assert_eq!((&link.external_id, link.pushed_version), (&None, Some(1)));
    w.deliver(&task).await;
    w.apply_one(location("p1", 3, 300)).await;
    let task = w.claim_single().await;
    w.settle(&task, skipped(&task)).await;
    w.apply_one(location("p1", 4, 400)).await;
    let link = w.claim_single().await.link.unwrap();
    assert_eq!(link.external_id.as_deref(), Some("ext-yardi:p1"));
}

pub async fn a_cancelled_push_comes_back_with_a_new_version(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert!(w.settle(&task, PushNext::Cancelled).await);
    w.rescue().await;
    assert!(w.claim_all().await.is_empty());
    assert_eq!(push(&w).await.state, TaskState::Cancelled);
    w.apply_one(location("p1", 2, 200)).await;
    assert_eq!(w.claim_single().await.version, 2);
}

/// C2: neither twice in a row nor twice in one batch, nor with a lease of another task.
pub async fn a_settlement_counts_once(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let tasks = w.claim_all().await;
    let first = settlement(tasks[0].lease, delivered(&tasks[0], PushAction::Created));
    let mut forged = first.clone();
    forged.lease.task_id = tasks[1].lease.task_id;
    forged.lease.epoch += 1;
    let batch = [first.clone(), forged, first.clone()];
    let settled = w.tasks.settle_pushes(&batch).await.unwrap();
    assert_eq!(settled, [true, false, false]);
    assert_eq!(w.tasks.settle_pushes(&[first]).await.unwrap(), [false]);
    assert_eq!(w.number("select count(*) from task_attempts").await, 1);
    assert!(w.tasks.settle_pushes(&[]).await.unwrap().is_empty());
}

/// One batch with every way to end.
pub async fn many_pushes_settle_together(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(
        (0..200)
            .map(|n| location(&format!("p{n:03}"), n, 100))
            .collect(),
    )
    .await;
    let tasks = w.claim_all().await;
    let hour = Duration::from_secs(3_600);
    let settlements: Vec<_> = tasks
        .iter()
        .enumerate()
        .map(|(n, task)| match n % 4 {
            0 => settlement(task.lease, delivered(task, PushAction::Created)),
            1 => failed(
                task.lease,
                ErrorClass::Network,
                PushNext::Retry { after: hour },
            ),
            2 => failed(task.lease, ErrorClass::Validation, PushNext::Dead),
            _ => settlement(task.lease, PushNext::Snooze { after: hour }),
        })
        .collect();
    let settled = w.tasks.settle_pushes(&settlements).await.unwrap();
    assert_eq!(settled, vec![true; 200]);
    for (state, sql) in [
        (
            50,
            "select count(*) from sync_queue where state = 'completed' and delivered_version = 1",
        ),
        (
            50,
            "select count(*) from sync_queue where state = 'waiting' and retry_count = 1",
        ),
        (
            50,
            "select count(*) from sync_queue where state = 'waiting' and retry_count = 0",
        ),
        (50, "select count(*) from sync_queue where state = 'dead'"),
        (50, "select count(*) from dead_letters where state = 'open'"),
        (
            50,
            "select count(*) from links where external_id like 'ext-%'",
        ),
        (200, "select count(*) from task_attempts where number = 1"),
        (
            200,
            "select count(distinct change_sequence) from sync_queue",
        ),
        (
            50,
            "select count(*) from sync_master_data where sync_status = 'synced'",
        ),
        (
            50,
            "select count(*) from sync_master_data where sync_status = 'retry'",
        ),
        (
            50,
            "select count(*) from sync_master_data where sync_status = 'failed'",
        ),
    ] {
        assert_eq!(w.number(sql).await, state, "{sql}");
    }
}

/// A late message for work that is done.
pub async fn what_is_delivered_already_is_completed_at_the_claim(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    w.deliver(&task).await;
    w.fixture
        .execute("update sync_queue set state = 'pending'")
        .await;
    assert!(w.claim_all().await.is_empty());
    assert_eq!(push(&w).await.state, TaskState::Completed);
    assert!(!w.deliver(&task).await);
}

/// A reader that continues where it stopped sees each outcome, and nothing again.
pub async fn changes_are_read_in_order_and_once(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..7).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    let mut cursor = w.tasks.reader_cursor("mirror").await.unwrap();
    assert_eq!(cursor, 0);
    let mut read = async || {
        let mut states = std::collections::BTreeMap::new();
        loop {
            let changes = w.tasks.outbound_changes(cursor, 3).await.unwrap();
            assert!(changes.len() <= 3);
            for change in &changes {
                assert!(change.cursor > cursor);
                cursor = change.cursor;
                assert_eq!(change.organization_id, w.organization);
                assert_eq!(change.source_connection_id, w.source);
                assert_eq!(
                    (change.entity_type.as_str(), &*change.target),
                    (LOCATION, "one")
                );
                states.insert(change.source_id.clone(), change.state);
            }
            if changes.is_empty() {
                w.tasks.save_reader_cursor("mirror", cursor).await.unwrap();
                return states;
            }
        }
    };
    // A store may hold changes back for as long as older transactions run.
    let mut read_all = async |count: usize| {
        let mut seen = std::collections::BTreeMap::new();
        eventually(async || {
            seen.extend(read().await);
            (seen.len() >= count).then(|| std::mem::take(&mut seen))
        })
        .await
    };
    // A new record's first tasks are stored beside the record itself; only what happens to them
    // later is a change.
    assert!(read_all(0).await.is_empty());
    let tasks = w.claim_all().await;
    w.deliver(&tasks[0]).await;
    w.fail(&tasks[1], ErrorClass::Validation, PushNext::Dead)
        .await;
    let states: Vec<_> = read_all(2).await.into_iter().collect();
    assert_eq!(
        states,
        [
            ("p0".to_owned(), TaskState::Completed),
            ("p1".to_owned(), TaskState::Dead)
        ]
    );
    w.apply_one(location("p0", 8, 200)).await;
    let states: Vec<_> = read_all(1).await.into_iter().collect();
    assert_eq!(states, [("p0".to_owned(), TaskState::Pending)]);
    assert!(read().await.is_empty());
    assert!(w.tasks.reader_cursor("mirror").await.unwrap() > 0);
    assert_eq!(w.tasks.reader_cursor("another").await.unwrap(), 0);
    let all = MasterQuery { ..w.query() };
    assert_eq!(w.master.records(&all).await.unwrap().len(), 7);
}

/// What was done at each target, from attempts and tasks.
pub async fn targets_are_summed_up(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..6).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    w.apply_one(location("p5", 9, 200)).await;
    let tasks = w.claim_all().await;
    for (task, action) in tasks.iter().zip([
        PushAction::Created,
        PushAction::Updated,
        PushAction::Linked,
        PushAction::Skipped,
    ]) {
        w.settle(task, delivered(task, action)).await;
    }
    w.fail(&tasks[4], ErrorClass::Validation, PushNext::Dead)
        .await;
    w.fail(
        &tasks[5],
        ErrorClass::Network,
        PushNext::Retry { after: SOON },
    )
    .await;
    let summary = w.tasks.target_summary(w.organization).await.unwrap();
    assert_eq!(summary.len(), 1, "{summary:?}");
    let one = &summary[0];
    assert_eq!(&*one.connection, "one");
    assert_eq!(
        (
            one.created,
            one.updated,
            one.deleted,
            one.linked,
            one.skipped
        ),
        (1, 1, 0, 1, 1)
    );
    assert_eq!((one.calls, one.retries, one.dead), (12, 1, 1));
    assert_eq!((one.open, one.blocked, one.wanted), (1, 0, 7));
}
