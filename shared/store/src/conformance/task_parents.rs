//! Cases of the task part of [`crate::TaskStore`]: children wait for their parents (promise O7).

use std::sync::Arc;

use sluice_core::{
    record::CanonicalRecord,
    task::{PushAction, TaskState},
};

use super::sql::{
    LONG, REQUEST, SqlFixture, World, delivered, location, location_ref, request, routes,
};
use crate::task::{PushNext, PushTask};

/// The cases of this file.
#[macro_export]
macro_rules! task_parents_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_parents,
            [
                a_claim_tells_the_parents_links,
                a_blocked_child_is_released_once_by_its_parent,
                a_parent_linked_during_the_claim_is_not_waited_for,
                rescue_releases_children_that_were_forgotten,
                a_parent_that_is_left_out_releases_nobody,
                a_new_version_of_a_blocked_child_is_looked_at_again,
                a_parent_at_another_target_or_source_releases_nobody,
            ]
        );
    };
}

/// A location and a service request there; claimed, the parent first.
async fn claimed(w: &World) -> (PushTask, PushTask) {
    w.apply_one(location("p1", 1, 100)).await;
    w.apply_one(request("r1", 1, "p1")).await;
    let mut tasks = w.claim_all().await;
    let child = tasks.pop().unwrap();
    (tasks.pop().unwrap(), child)
}

fn blocked() -> PushNext {
    PushNext::Blocked {
        on: location_ref("p1"),
    }
}

async fn state(w: &World) -> TaskState {
    w.history(REQUEST, "r1").await.pushes[0].state
}

pub async fn a_claim_tells_the_parents_links(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let child = |content| CanonicalRecord {
        parents: vec![location_ref("nowhere"), location_ref("p1")],
        ..request("r1", content, "p1")
    };
    w.apply_one(location("p1", 1, 100)).await;
    w.deliver(&w.claim_single().await).await;
    w.apply_one(child(1)).await;
    let task = w.claim_single().await;
    let parents: Vec<_> = task
        .parents
        .iter()
        .map(|link| (&*link.parent.source_id, link.external_id.as_deref()))
        .collect();
    assert_eq!(parents, [("nowhere", None), ("p1", Some("ext-yardi:p1"))]);
}

/// It waits visibly, costs no attempt, and comes back when the parent is linked.
pub async fn a_blocked_child_is_released_once_by_its_parent(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (parent, child) = claimed(&w).await;
    assert_eq!(child.parents[0].external_id, None);
    assert!(w.settle(&child, blocked()).await);
    let push = w.history(REQUEST, "r1").await.pushes.remove(0);
    assert_eq!((push.state, push.retry_count), (TaskState::Waiting, 0));
    assert!(push.blocked_on.unwrap().ends_with("Location/p1"));
    assert!(push.attempts.is_empty());
    assert_eq!(w.rescue().await, crate::task::Rescued::default());
    assert!(w.claim_all().await.is_empty());
    let summary = w.tasks.target_summary(w.organization).await.unwrap();
    assert_eq!((summary[0].open, summary[0].blocked), (1, 1));
    assert!(w.deliver(&parent).await);
    let released = w.claim_single().await;
    assert_eq!(released.entity_type.as_str(), REQUEST);
    assert_eq!(
        released.parents[0].external_id.as_deref(),
        Some("ext-yardi:p1")
    );
    assert_eq!(
        (released.retry_count, released.unsettled_version),
        (0, None)
    );
    assert!(w.deliver(&released).await);
    // The parent's next delivery has nobody to release.
    w.apply_one(location("p1", 2, 200)).await;
    let parent = w.claim_single().await;
    w.settle(&parent, delivered(&parent, PushAction::Updated))
        .await;
    assert_eq!(state(&w).await, TaskState::Completed);
    assert!(w.claim_all().await.is_empty());
}

/// The parent was linked after the child's claim had looked: nobody would release the child.
pub async fn a_parent_linked_during_the_claim_is_not_waited_for(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (parent, child) = claimed(&w).await;
    assert!(w.deliver(&parent).await);
    assert!(w.settle(&child, blocked()).await);
    let again = w.claim_single().await;
    assert_eq!(
        again.parents[0].external_id.as_deref(),
        Some("ext-yardi:p1")
    );
}

/// M2: a child that nobody released comes back by the timer.
pub async fn rescue_releases_children_that_were_forgotten(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (parent, child) = claimed(&w).await;
    assert!(w.settle(&child, blocked()).await);
    // As if the parent had been linked by hand.
    w.settle(
        &parent,
        PushNext::Delivered {
            action: PushAction::Skipped,
            version: 1,
            hash: None,
            external_id: None,
        },
    )
    .await;
    w.fixture
        .execute("update links set external_id = 'by-hand' where pushed_version = 1")
        .await;
    assert_eq!(state(&w).await, TaskState::Waiting);
    assert_eq!(w.rescue().await.unblocked, 1);
    assert_eq!(w.rescue().await.unblocked, 0);
    let child = w.claim_single().await;
    assert_eq!(child.parents[0].external_id.as_deref(), Some("by-hand"));
}

/// The mapping leaves the parent out, so it has no id there.
pub async fn a_parent_that_is_left_out_releases_nobody(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (parent, child) = claimed(&w).await;
    assert!(w.settle(&child, blocked()).await);
    let skipped = PushNext::Delivered {
        action: PushAction::Skipped,
        version: 1,
        hash: None,
        external_id: None,
    };
    assert!(w.settle(&parent, skipped).await);
    assert_eq!(w.rescue().await.unblocked, 0);
    assert_eq!(state(&w).await, TaskState::Waiting);
}

/// Its parents may be others now; k new versions while it waits are one push.
pub async fn a_new_version_of_a_blocked_child_is_looked_at_again(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (_parent, child) = claimed(&w).await;
    assert!(w.settle(&child, blocked()).await);
    let mut orphan = request("r1", 2, "p1");
    orphan.parents.clear();
    w.apply_one(orphan).await;
    let child = w.claim_single().await;
    assert_eq!((child.version, child.retry_count), (2, 0));
    assert!(child.parents.is_empty());
}

/// C4 and O7: the same ids elsewhere are other records.
pub async fn a_parent_at_another_target_or_source_releases_nobody(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let (_parent, child) = claimed(&w).await;
    assert!(w.settle(&child, blocked()).await);
    // The same location at the other target.
    let mut batch = w.batch(vec![location("p1", 1, 100)]);
    batch.routes = routes(w.lessen, "lessen");
    w.master.apply(&batch).await.unwrap();
    let elsewhere = w.claim_for(w.lessen, LONG).await.remove(0);
    assert!(w.deliver(&elsewhere).await);
    // A location of the same id in the other organization.
    let others = w.other_batch(vec![location("p1", 1, 100)]);
    w.master.apply(&others).await.unwrap();
    let theirs = w.claim_for(w.other_one, LONG).await.remove(0);
    assert!(w.deliver(&theirs).await);
    assert_eq!(w.rescue().await.unblocked, 0);
    assert_eq!(state(&w).await, TaskState::Waiting);
    // And waiting is not a matter of time.
    assert_eq!(w.wake().await, 0);
}
