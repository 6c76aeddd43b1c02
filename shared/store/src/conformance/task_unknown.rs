//! Cases of [`crate::TaskStore`]: a person settles what nobody knows (promise O1).

use std::sync::Arc;

use sluice_core::{
    ErrorClass, TaskId,
    task::{AttemptOutcome, PushAction, TaskState},
};

use super::replay::replay_all;
use super::sql::{LOCATION, SqlFixture, World, gone, location};
use crate::{
    dead_letter::DeadLetterFilter,
    task::PushNext,
    unknown::{UnknownQuery, Verdict},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_unknown_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_unknown,
            [
                unknown_pushes_are_listed_by_organization_and_target,
                what_was_applied_is_linked_and_a_newer_version_follows,
                what_was_not_applied_is_sent_again_without_doubt,
                what_is_given_up_is_a_dead_letter_that_keeps_its_doubt,
                only_what_is_unknown_can_be_settled_and_only_by_its_organization,
            ]
        );
    };
}

fn applied(id: &str) -> Verdict {
    Verdict::Applied {
        external_id: id.into(),
    }
}

/// A push of `p1` whose create got no answer.
async fn lost(w: &World) -> TaskId {
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert!(w.fail(&task, ErrorClass::Timeout, PushNext::Unknown).await);
    task.lease.task_id
}

async fn settle(w: &World, id: TaskId, verdict: &Verdict) {
    w.tasks
        .settle_unknown(w.organization, id, verdict, "dana", "looked it up")
        .await
        .unwrap();
}

fn query(w: &World) -> UnknownQuery {
    UnknownQuery {
        organization_id: w.organization,
        connection_id: None,
        after: None,
        limit: 10,
    }
}

/// C4, and with what a person needs to look for.
pub async fn unknown_pushes_are_listed_by_organization_and_target(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    assert!(w.tasks.unknown_pushes(&query(&w)).await.unwrap().is_empty());
    let id = lost(&w).await;
    w.apply_one(location("p1", 2, 200)).await;
    let found = w.tasks.unknown_pushes(&query(&w)).await.unwrap().remove(0);
    assert_eq!((found.task_id, &*found.target), (id, "one"));
    assert_eq!((found.version, found.wanted_version), (1, 2));
    assert_eq!(found.entity_type.as_str(), LOCATION);
    assert_eq!(&*found.entity_id, "yardi:p1");
    assert_eq!(found.code.as_deref(), Some("test_failure"));
    let backlog = w.tasks.backlog().await.unwrap();
    assert_eq!(
        (backlog[0].state, backlog[0].count),
        (TaskState::Unknown, 1)
    );
    let count = async |change: fn(&World, &mut UnknownQuery)| {
        let mut query = query(&w);
        change(&w, &mut query);
        w.tasks.unknown_pushes(&query).await.unwrap().len()
    };
    assert_eq!(count(|w, q| q.connection_id = Some(w.one)).await, 1);
    assert_eq!(count(|w, q| q.connection_id = Some(w.lessen)).await, 0);
    assert_eq!(count(|w, q| q.organization_id = w.other).await, 0);
    assert_eq!(count(|_, q| q.after = Some(TaskId(i64::MAX))).await, 0);
}

pub async fn what_was_applied_is_linked_and_a_newer_version_follows(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = lost(&w).await;
    settle(&w, id, &applied("there-7")).await;
    let history = w.history(LOCATION, "p1").await;
    let push = &history.pushes[0];
    assert_eq!(push.state, TaskState::Completed);
    let last = push.attempts.last().unwrap();
    assert_eq!(last.outcome, AttemptOutcome::Completed);
    assert_eq!(last.action, Some(PushAction::Linked));
    assert_eq!(&*last.worker, "dana");
    assert_eq!(last.error_message.as_deref(), Some("looked it up"));
    let link = history.links.iter().find(|link| link.connection == "one");
    assert_eq!(link.unwrap().external_id.as_deref(), Some("there-7"));
    assert_eq!(
        w.number("select count(*) from sync_activity_log where event = 'unknown_settled'")
            .await,
        1
    );
    // The same with a newer version that waited for the answer: a deletion is one, too.
    w.apply_one(gone(location("p1", 1, 200))).await;
    let task = w.claim_single().await;
    assert!(task.deleted);
    assert!(w.fail(&task, ErrorClass::Timeout, PushNext::Unknown).await);
    w.apply_one(location("p1", 3, 300)).await;
    settle(&w, task.lease.task_id, &applied("there-7")).await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (3, None));
    let link = task.link.unwrap();
    assert_eq!(link.external_id.as_deref(), Some("there-7"));
    assert_eq!((link.pushed_version, link.pushed_hash), (Some(2), None));
}

/// And under another key than the lost one.
pub async fn what_was_not_applied_is_sent_again_without_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = lost(&w).await;
    settle(&w, id, &Verdict::NotApplied).await;
    w.rescue().await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (1, None));
    assert_eq!((task.retry_count, task.refusal_count), (0, 1));
    assert!(w.deliver(&task).await);
}

pub async fn what_is_given_up_is_a_dead_letter_that_keeps_its_doubt(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = lost(&w).await;
    w.apply_one(location("p1", 2, 200)).await;
    settle(&w, id, &Verdict::GivenUp).await;
    assert_eq!(
        w.history(LOCATION, "p1").await.pushes[0].state,
        TaskState::Dead
    );
    let all = DeadLetterFilter::all(w.organization);
    let letter = w.tasks.dead_letters(&all).await.unwrap().items.remove(0);
    assert_eq!(&*letter.code, "settled_as_given_up");
    assert_eq!(&*letter.message, "looked it up");
    assert_eq!(replay_all(&w, &all).await.replay.replayed, 1);
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (2, Some(1)));
}

pub async fn only_what_is_unknown_can_be_settled_and_only_by_its_organization(
    fixture: Arc<dyn SqlFixture>,
) {
    let w = World::new(fixture).await;
    let id = lost(&w).await;
    let refused = async |organization, id| {
        w.tasks
            .settle_unknown(organization, id, &Verdict::NotApplied, "dana", "x")
            .await
            .unwrap_err()
            .code()
    };
    assert_eq!(refused(w.other, id).await, "task_not_unknown");
    assert_eq!(
        refused(w.organization, TaskId(i64::MAX)).await,
        "task_not_unknown"
    );
    settle(&w, id, &applied("9")).await;
    assert_eq!(refused(w.organization, id).await, "task_not_unknown");
}
