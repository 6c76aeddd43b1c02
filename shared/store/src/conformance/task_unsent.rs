//! Cases of [`crate::TaskStore`] and [`crate::RequestStore`]: where creates are kept before they are
//! sent, what was not kept was not sent, and leaves no doubt (promise O1).

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_core::{ErrorClass, retry::MAX_CRASHES, task::PushAction};

use super::{
    eventually,
    replay::replay_edited,
    sql::{LOCATION, LONG, REQUEST, SHORT, SqlFixture, World, claim, delivered, ids, location},
    task_crash::{rescued, rested},
};
use crate::{
    dead_letter::DeadLetterFilter,
    request::KeptRequest,
    task::{Claim, Lease, PushNext, PushTask},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_unsent_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_unsent,
            [
                what_was_not_kept_was_not_sent,
                what_was_kept_may_have_been_sent,
                a_claim_that_keeps_nothing_leaves_doubt,
                an_update_is_not_kept_and_leaves_doubt,
                who_wakes_too_late_keeps_nothing,
                an_answer_without_a_kept_request_leaves_no_doubt,
                an_edit_of_what_was_not_sent_is_not_in_doubt,
            ]
        );
    };
}

/// Claims the only push under a short lease, as a worker that keeps the creates of these types.
async fn take(w: &World, keeps: &[&str]) -> PushTask {
    rested(w).await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let claim = Claim {
        keeps: keeps.iter().map(|name| (*name).into()).collect(),
        ..claim(&staged, SHORT)
    };
    let mut tasks = w.tasks.claim_pushes(&claim).await.unwrap().tasks;
    assert_eq!(tasks.len(), 1);
    tasks.remove(0)
}

/// Its worker dies, and a newer version comes.
async fn die(w: &World, newer: i64) {
    rescued(w).await;
    w.apply_one(location("p1", newer, newer * 100)).await;
}

async fn keep(w: &World, lease: Lease, version: i32) -> bool {
    let request = KeptRequest {
        version,
        refusal_count: 0,
        idempotency_key: format!("key-{version}"),
        body: json!({}),
    };
    w.tasks.keep_requests(&[(lease, request)]).await.unwrap() == [true]
}

fn seen(task: &PushTask) -> (i32, Option<i32>) {
    (task.version, task.unsettled_version)
}

pub async fn what_was_not_kept_was_not_sent(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    take(&w, &[REQUEST, LOCATION]).await;
    die(&w, 2).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (2, None));
    die(&w, 3).await;
    // Whoever comes next may be one that keeps nothing.
    assert_eq!(seen(&take(&w, &[]).await), (3, None));
    die(&w, 4).await;
    assert_eq!(seen(&take(&w, &[]).await), (4, Some(3)));
}

/// Until its outcome is known, however many die after it without having kept anything.
pub async fn what_was_kept_may_have_been_sent(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = take(&w, &[LOCATION]).await;
    assert!(keep(&w, task.lease, 1).await);
    die(&w, 2).await;
    let task = take(&w, &[LOCATION]).await;
    assert_eq!(seen(&task), (2, Some(1)));
    die(&w, 3).await;
    let task = take(&w, &[LOCATION]).await;
    assert_eq!(seen(&task), (3, Some(1)));
    let kept = w.tasks.kept_requests(&[task.lease.task_id]).await.unwrap();
    assert!(kept[0].1.is_doubted(&task));
}

/// The target's files may have been others when it claimed.
pub async fn a_claim_that_keeps_nothing_leaves_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    take(&w, &[LOCATION]).await;
    die(&w, 2).await;
    assert_eq!(seen(&take(&w, &[REQUEST]).await), (2, None));
    die(&w, 3).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (3, Some(2)));
    die(&w, 4).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (4, Some(2)));
}

pub async fn an_update_is_not_kept_and_leaves_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = take(&w, &[LOCATION]).await;
    assert!(w.settle(&task, delivered(&task, PushAction::Created)).await);
    w.apply_one(location("p1", 2, 200)).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (2, None));
    die(&w, 3).await;
    let task = take(&w, &[LOCATION]).await;
    assert_eq!(seen(&task), (3, Some(2)));
    // Deleted there, it is created anew.
    assert!(w.settle(&task, delivered(&task, PushAction::Deleted)).await);
    w.apply_one(location("p1", 4, 400)).await;
    take(&w, &[LOCATION]).await;
    die(&w, 5).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (5, None));
}

/// C2: so that what the next claim found to be not sent is not sent afterwards.
pub async fn who_wakes_too_late_keeps_nothing(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let late = take(&w, &[LOCATION]).await;
    w.apply_one(location("p1", 2, 200)).await;
    let claim = Claim {
        keeps: vec![LOCATION.into()],
        ..claim(&[late.lease.task_id], LONG)
    };
    let task = eventually(async || {
        let claimed = w.tasks.claim_pushes(&claim).await.unwrap();
        claimed.tasks.into_iter().next()
    })
    .await;
    assert_eq!(seen(&task), (2, None));
    assert!(!keep(&w, late.lease, 1).await);
    let kept = w.tasks.kept_requests(&[late.lease.task_id]).await.unwrap();
    assert_eq!(kept, []);
    // Nor does that change what is known of whoever holds it now.
    w.tasks.renew(&[task.lease], Duration::ZERO).await.unwrap();
    die(&w, 3).await;
    let task = take(&w, &[LOCATION]).await;
    assert_eq!(seen(&task), (3, None));
    assert!(keep(&w, task.lease, 3).await);
    die(&w, 4).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (4, Some(3)));
}

/// Such as a defect in the mapping, of which nobody else could say what was sent before it.
pub async fn an_answer_without_a_kept_request_leaves_no_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let again = || PushNext::Retry {
        after: Duration::ZERO,
    };
    let task = take(&w, &[LOCATION]).await;
    assert!(w.fail(&task, ErrorClass::Internal, again()).await);
    w.apply_one(location("p1", 2, 200)).await;
    let task = take(&w, &[LOCATION]).await;
    assert_eq!(seen(&task), (2, None));
    assert!(keep(&w, task.lease, 2).await);
    assert!(w.fail(&task, ErrorClass::Timeout, again()).await);
    w.apply_one(location("p1", 3, 300)).await;
    assert_eq!(seen(&take(&w, &[LOCATION]).await), (3, Some(2)));
}

/// A dead letter whose workers died before they had kept anything.
pub async fn an_edit_of_what_was_not_sent_is_not_in_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let all = DeadLetterFilter::all(w.organization);
    for kept in [false, true] {
        for crash in 1..=MAX_CRASHES {
            let task = take(&w, &[LOCATION]).await;
            let last = crash == MAX_CRASHES;
            assert!(!(kept && last) || keep(&w, task.lease, task.version).await);
            assert_eq!(rescued(&w).await.given_up, u64::from(last));
        }
        replay_edited(&w, &all, json!({"content": 99})).await;
        let task = take(&w, &[LOCATION]).await;
        assert_eq!(task.unsettled_version, kept.then_some(0));
        assert!(w.settle(&task, delivered(&task, PushAction::Deleted)).await);
        w.apply_one(location("p1", 2, 200)).await;
    }
}
