//! Cases of the task part of [`crate::TaskStore`].

use std::sync::Arc;

use sluice_core::task::TaskState;

use super::eventually;
use super::sql::{LOCATION, LONG, SHORT, SqlFixture, World, ids, location};

/// The cases of this file.
#[macro_export]
macro_rules! task_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task,
            [
                many_wants_are_one_push_with_the_newest_content,
                a_newer_version_during_the_call_is_pending_afterwards,
                one_of_many_claimers_wins,
                an_expired_lease_is_taken_over_and_its_holder_fenced,
            ]
        );
    };
}

/// O2: k queued updates are one row and one call with the newest content.
pub async fn many_wants_are_one_push_with_the_newest_content(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    for n in 1..=5 {
        w.apply_one(location("p1", n, 100 * n)).await;
    }
    let task = w.claim_single().await;
    assert_eq!(task.version, 5);
    assert_eq!(task.data["content"], serde_json::json!(5));
    assert_eq!(task.unsettled_version, None);
    assert!(w.deliver(&task).await);
    assert!(w.claim_all().await.is_empty());
    let push = w.history(LOCATION, "p1").await.pushes.remove(0);
    assert_eq!(push.state, TaskState::Completed);
    assert_eq!(push.attempts.len(), 1);
    let summary = w.tasks.target_summary(w.organization).await.unwrap();
    assert_eq!((summary[0].wanted, summary[0].created), (5, 1));
}

/// O2: while a call is in flight nobody else sends; a version that came meanwhile goes next.
pub async fn a_newer_version_during_the_call_is_pending_afterwards(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let first = w.claim_single().await;
    w.apply_one(location("p1", 2, 200)).await;
    assert!(w.claim_all().await.is_empty());
    assert!(w.deliver(&first).await);
    let second = w.claim_single().await;
    assert_eq!((second.version, second.unsettled_version), (2, None));
    let link = second.link.unwrap();
    assert_eq!(link.external_id.as_deref(), Some("ext-yardi:p1"));
    assert_eq!(link.pushed_version, Some(1));
}

/// C2: racing claimers never get the same task.
pub async fn one_of_many_claimers_wins(fixture: Arc<dyn SqlFixture>) {
    let w = Arc::new(World::new(fixture).await);
    w.apply(
        (0..50)
            .map(|n| location(&format!("p{n}"), n, 100))
            .collect(),
    )
    .await;
    let staged = ids(&w.stage_pushes(w.one, 1_000).await);
    assert_eq!(staged.len(), 50);
    let claimers = (0..6).map(|_| {
        let (w, staged) = (Arc::clone(&w), staged.clone());
        tokio::spawn(async move { w.claim_ids(&staged, LONG).await })
    });
    let claimed: Vec<_> = futures::future::try_join_all(claimers)
        .await
        .unwrap()
        .into_iter()
        .flatten()
        .map(|task| task.lease.task_id)
        .collect();
    let mut unique = claimed.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((claimed.len(), unique.len()), (50, 50));
}

/// C2, O1: a dead worker's task comes back with the version it may have sent, and when that
/// worker wakes, nothing it says counts.
pub async fn an_expired_lease_is_taken_over_and_its_holder_fenced(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let sleeper = w.claim_for(w.one, SHORT).await.remove(0);
    w.apply_one(location("p1", 2, 200)).await;
    let id = [sleeper.lease.task_id];
    let taken = eventually(async || w.claim_ids(&id, LONG).await.pop()).await;
    assert_eq!((taken.version, taken.unsettled_version), (2, Some(1)));
    assert!(taken.lease.epoch > sleeper.lease.epoch);
    assert!(!w.deliver(&sleeper).await);
    assert_eq!(
        w.tasks.renew(&[sleeper.lease], LONG).await.unwrap(),
        [false]
    );
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].state, TaskState::Running);
    assert!(history.pushes[0].attempts.is_empty());
    assert!(w.deliver(&taken).await);
}
