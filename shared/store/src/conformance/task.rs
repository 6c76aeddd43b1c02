//! Cases of the task part of [`crate::TaskStore`].

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_core::{
    Priority, QueueClass, TaskId,
    task::{TaskKind, TaskState},
};

use super::eventually;
use super::sql::{LOCATION, LONG, SHORT, SqlFixture, World, delivered, ids, location};
use crate::task::{Lease, RescueSettings};

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
                rescue_frees_expired_leases_and_fences_their_holders,
                a_renewed_lease_does_not_run_out,
                a_claim_answers_in_the_order_of_its_ids,
                staging_takes_the_most_urgent_and_oldest_within_the_quota,
                the_least_urgent_can_be_staged_before_the_others,
                one_of_many_stagers_wins,
                unstaged_tasks_are_staged_again,
                a_lost_message_is_pending_again,
                the_backlog_counts_what_is_open,
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
    assert_eq!(task.data["content"], json!(5));
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

/// C2: the timer does what a claim does, for tasks whose message is gone.
pub async fn rescue_frees_expired_leases_and_fences_their_holders(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let sleeper = w.claim_for(w.one, SHORT).await.remove(0);
    let rescued = eventually(async || {
        let rescued = w.rescue().await;
        (rescued.leases > 0).then_some(rescued)
    })
    .await;
    assert_eq!((rescued.leases, rescued.messages), (1, 0));
    assert!(!w.deliver(&sleeper).await);
    assert_eq!(
        w.tasks.renew(&[sleeper.lease], LONG).await.unwrap(),
        [false]
    );
    let taken = w.claim_single().await;
    assert_eq!(taken.unsettled_version, Some(1));
    assert!(!w.deliver(&sleeper).await);
    assert!(w.deliver(&taken).await);
    assert_eq!(w.number("select count(*) from task_attempts").await, 1);
}

pub async fn a_renewed_lease_does_not_run_out(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let tasks = w.claim_for(w.one, SHORT).await;
    let (kept, lost) = (&tasks[0], &tasks[1]);
    let unknown = Lease {
        task_id: TaskId(i64::MAX),
        epoch: 1,
    };
    let renewed = w.tasks.renew(&[unknown, kept.lease], LONG).await.unwrap();
    assert_eq!(renewed, [false, true]);
    let claimed = eventually(async || {
        let both = [kept.lease.task_id, lost.lease.task_id];
        let claimed = w.claim_ids(&both, LONG).await;
        (!claimed.is_empty()).then_some(claimed)
    })
    .await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].lease.task_id, lost.lease.task_id);
    assert!(w.deliver(kept).await);
}

/// What is named twice, unknown, a pull or somebody else's is left out.
pub async fn a_claim_answers_in_the_order_of_its_ids(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.running(&["units"]).await;
    let pull = ids(&w.stage_pulls().await)[0];
    w.apply((0..4).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    let mut asked = ids(&w.stage_pushes(w.one, 1_000).await);
    asked.reverse();
    let taken = w.claim_ids(&asked[..1], LONG).await;
    assert_eq!(taken.len(), 1);
    let named = [&[pull, TaskId(i64::MAX), asked[3]], &asked[..]].concat();
    let claimed: Vec<_> = w
        .claim_ids(&named, LONG)
        .await
        .iter()
        .map(|task| task.lease.task_id)
        .collect();
    assert_eq!(claimed, [asked[3], asked[1], asked[2]]);
    assert!(w.claim_ids(&[], LONG).await.is_empty());
}

/// O8: within a class by priority and age, at most the quota, and only of the named connections.
pub async fn staging_takes_the_most_urgent_and_oldest_within_the_quota(
    fixture: Arc<dyn SqlFixture>,
) {
    let w = World::new(fixture).await;
    let with = |name: &str, priority: u8| {
        let mut record = location(name, 1, 100);
        record.priority = Some(Priority::try_from(priority).unwrap());
        record
    };
    w.apply_one(with("first", 7)).await;
    w.apply_one(with("second", 4)).await;
    w.apply_one(with("third", 4)).await;
    w.apply_one(with("urgent", 1)).await;
    w.apply_one(with("patient", 10)).await;
    w.master
        .apply(&w.other_batch(vec![with("p1", 1)]))
        .await
        .unwrap();
    let quota = |class: QueueClass, limit| crate::task::StageQuota {
        connection_id: w.one,
        kind: TaskKind::Push,
        priorities: class.priorities(),
        limit,
    };
    let quotas = [
        quota(QueueClass::Normal, 2),
        quota(QueueClass::High, 5),
        quota(QueueClass::Low, 0),
    ];
    let staged = w.tasks.stage(&quotas).await.unwrap();
    let urgency: Vec<_> = staged.iter().map(|one| one.priority.get()).collect();
    assert_eq!(urgency, [1, 4, 4]);
    assert!(staged.iter().all(|one| {
        one.connection_id == w.one
            && one.organization_id == w.organization
            && one.kind == TaskKind::Push
    }));
    let tasks = w.claim_ids(&ids(&staged), LONG).await;
    let names: Vec<_> = tasks.iter().map(|task| &*task.source_id).collect();
    assert_eq!(names, ["urgent", "second", "third"]);
    let rest: Vec<_> = w
        .tasks
        .stage(&quotas)
        .await
        .unwrap()
        .iter()
        .map(|one| one.priority.get())
        .collect();
    assert_eq!(rest, [7]);
    let low = w.tasks.stage(&[quota(QueueClass::Low, 1)]).await.unwrap();
    assert_eq!(low.len(), 1);
    assert!(w.tasks.stage(&[]).await.unwrap().is_empty());
}

/// O8: so that they move under an endless stream of more urgent ones.
pub async fn the_least_urgent_can_be_staged_before_the_others(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let with = |name: &str, priority: u8| {
        let mut record = location(name, 1, 100);
        record.priority = Some(Priority::try_from(priority).unwrap());
        record
    };
    w.apply((0..6).map(|n| with(&format!("a{n}"), 8)).collect())
        .await;
    w.apply_one(with("patient", 10)).await;
    w.apply_one(with("between", 9)).await;
    let quota = |priorities, limit| crate::task::StageQuota {
        connection_id: w.one,
        kind: TaskKind::Push,
        priorities,
        limit,
    };
    let mut staged = Vec::new();
    for from in [9, 10] {
        let quotas = [quota((8, 10), 2), quota((from, 10), 1)];
        let some = w.tasks.stage(&quotas).await.unwrap();
        staged.extend(some.iter().map(|one| one.priority.get()));
    }
    assert_eq!(staged, [8, 8, 9, 8, 8, 10]);
    // One task that fits two quotas is staged once.
    let quotas = [quota((8, 10), 9), quota((8, 10), 9)];
    assert_eq!(w.tasks.stage(&quotas).await.unwrap().len(), 2);
}

/// Several orchestrators publish each task once.
pub async fn one_of_many_stagers_wins(fixture: Arc<dyn SqlFixture>) {
    let w = Arc::new(World::new(fixture).await);
    w.apply(
        (0..60)
            .map(|n| location(&format!("p{n}"), n, 100))
            .collect(),
    )
    .await;
    let stagers = (0..4).map(|_| {
        let w = Arc::clone(&w);
        tokio::spawn(async move {
            let mut staged = w.stage_pushes(w.one, 20).await;
            staged.extend(w.stage_pushes(w.one, 20).await);
            staged
        })
    });
    let mut staged: Vec<_> = futures::future::try_join_all(stagers)
        .await
        .unwrap()
        .iter()
        .flat_map(|staged| ids(staged))
        .collect();
    staged.extend(ids(&w.stage_pushes(w.one, 60).await));
    assert_eq!(staged.len(), 60);
    staged.sort();
    staged.dedup();
    assert_eq!(staged.len(), 60);
}

/// What could not be published is not lost, and what was claimed meanwhile is left alone.
pub async fn unstaged_tasks_are_staged_again(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    assert_eq!(w.claim_ids(&staged[..1], LONG).await.len(), 1);
    assert_eq!(w.tasks.unstage(&staged).await.unwrap(), 1);
    assert_eq!(ids(&w.stage_pushes(w.one, 10).await), staged[1..]);
}

/// M2: a reference that nobody claims is published again.
pub async fn a_lost_message_is_pending_again(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let staged = w.stage_pushes(w.one, 10).await;
    assert_eq!(w.rescue().await.messages, 0);
    let rescued = w
        .tasks
        .rescue(&RescueSettings {
            staged_for: Duration::ZERO,
            limit: 10,
        })
        .await
        .unwrap();
    assert_eq!(rescued.messages, 1);
    assert_eq!(w.stage_pushes(w.one, 10).await, staged);
    // The first message arrives after all: still one claim.
    assert_eq!(w.claim_ids(&ids(&staged), LONG).await.len(), 1);
    assert_eq!(w.claim_ids(&ids(&staged), LONG).await.len(), 0);
}

/// By connection, kind, class and state; what is closed does not count.
pub async fn the_backlog_counts_what_is_open(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut urgent = location("p0", 1, 100);
    urgent.priority = Some(Priority::HIGHEST);
    w.apply_one(urgent).await;
    let done = w.claim_single().await;
    w.settle(
        &done,
        delivered(&done, sluice_core::task::PushAction::Created),
    )
    .await;
    w.apply((1..4).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    let staged = ids(&w.stage_pushes(w.one, 2).await);
    w.claim_ids(&staged[..1], LONG).await;
    w.running(&["units"]).await;
    let mut counted: Vec<_> = w
        .tasks
        .backlog()
        .await
        .unwrap()
        .into_iter()
        .map(|one| {
            assert_eq!(one.organization_id, w.organization);
            assert!(one.oldest.is_some());
            (one.connection_id, one.kind, one.class, one.state, one.count)
        })
        .collect();
    counted.sort_by_key(|one| (one.1 == TaskKind::Push, one.3.as_str()));
    let push = |state| (w.one, TaskKind::Push, QueueClass::Normal, state, 1);
    assert_eq!(
        counted,
        [
            (
                w.source,
                TaskKind::Pull,
                QueueClass::Normal,
                TaskState::Pending,
                1
            ),
            push(TaskState::Pending),
            push(TaskState::Running),
            push(TaskState::Staged),
        ]
    );
}
