//! Cases of replays: durable, frozen, bounded, never twice (promise O6).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice_core::{ErrorClass, task::TaskState};

use super::{
    eventually,
    sql::{LOCATION, SqlFixture, World, gone, location},
};
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterState},
    replay::{NewReplay, ReplayDetail, ReplayQuery, ReplayState, SkipCounts},
    task::PushNext,
};

/// The cases of this file.
#[macro_export]
macro_rules! replay_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            replay,
            [
                a_replay_takes_the_letters_of_its_beginning_only,
                what_fails_again_is_open_once_more_and_not_replayed_again,
                what_changes_before_its_turn_is_skipped_with_its_reason,
                a_replay_pauses_resumes_and_is_cancelled,
                a_rate_makes_batches_wait,
                two_workers_share_replays_without_doubling,
                an_idempotency_key_starts_one_replay,
                a_replayed_task_is_the_last_in_line,
                edited_data_is_sent_for_its_version_only,
                an_edit_needs_one_letter_about_the_newest_version,
                edited_data_is_another_request_than_what_was_tried,
                changes_are_kept_with_actor_and_reason,
                replays_of_another_organization_are_left_alone,
            ]
        );
    };
}

pub(super) async fn letters(w: &World, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
    w.tasks.dead_letters(filter).await.unwrap().items
}

/// Everything that is pending for `one` dies of this class.
pub(super) async fn kill_all(w: &World, class: ErrorClass) {
    for task in w.claim_all().await {
        assert!(w.fail(&task, class, PushNext::Dead).await);
    }
}

fn order(filter: &DeadLetterFilter) -> NewReplay {
    NewReplay {
        filter: filter.clone(),
        rate: None,
        edit: None,
        actor: "ann".into(),
        note: "mended".into(),
        idempotency_key: None,
    }
}

/// Works until nothing is due; returns the sizes of the batches.
async fn work(w: &World, most: u32) -> Vec<u64> {
    let mut sizes = Vec::new();
    while let Some(size) = w.tasks.work_replay(most).await.unwrap() {
        sizes.push(size);
    }
    sizes
}

async fn show(w: &World, id: i64) -> ReplayDetail {
    let detail = w.tasks.replay(w.organization, id).await.unwrap();
    detail.unwrap_or_else(|| panic!("there is no replay {id}"))
}

/// Orders a replay and works it off.
pub(super) async fn replay_all(w: &World, filter: &DeadLetterFilter) -> ReplayDetail {
    let id = w.tasks.start_replay(&order(filter)).await.unwrap().id;
    work(w, 100).await;
    let detail = w.tasks.replay(filter.organization_id, id).await.unwrap();
    let detail = detail.unwrap();
    assert_eq!(detail.replay.state, ReplayState::Done);
    assert!(detail.replay.finished_at.is_some());
    detail
}

/// Orders a replay of one letter with other data, and works it off.
pub(super) async fn replay_edited(w: &World, filter: &DeadLetterFilter, data: Value) {
    let edited = NewReplay {
        edit: Some(data),
        ..order(filter)
    };
    w.tasks.start_replay(&edited).await.unwrap();
    work(w, 10).await;
}

/// As many dead letters of `acme` for `one`.
pub(super) async fn with_dead(
    fixture: Arc<dyn SqlFixture>,
    count: i64,
) -> (World, DeadLetterFilter) {
    let w = World::new(fixture).await;
    w.apply((0..count).map(record).collect()).await;
    kill_all(&w, ErrorClass::Validation).await;
    let all = DeadLetterFilter::all(w.organization);
    (w, all)
}

fn record(n: i64) -> sluice_core::record::CanonicalRecord {
    location(&format!("p{n}"), n, 100)
}

pub async fn a_replay_takes_the_letters_of_its_beginning_only(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 5).await;
    let four = DeadLetterFilter { limit: 4, ..all };
    let started = w.tasks.start_replay(&order(&four)).await.unwrap();
    assert_eq!((started.matched, started.existed), (4, false));
    w.apply_one(location("later", 1, 100)).await;
    kill_all(&w, ErrorClass::Validation).await;
    assert_eq!(w.tasks.work_replay(3).await.unwrap(), Some(3));
    let detail = show(&w, started.id).await;
    assert_eq!(detail.replay.state, ReplayState::Running);
    assert_eq!((detail.replay.replayed, detail.waiting), (3, 1));
    // Another process goes on where this one stopped.
    let (_, tasks) = w.fixture.open().await;
    assert_eq!(tasks.work_replay(3).await.unwrap(), Some(1));
    assert_eq!(tasks.work_replay(3).await.unwrap(), None);
    let detail = show(&w, started.id).await;
    assert_eq!(detail.replay.state, ReplayState::Done);
    assert_eq!((detail.replay.matched, detail.replay.replayed), (4, 4));
    assert_eq!(detail.on_their_way, 4);
    assert_eq!(detail.replay.filter["limit"], 4);
    for task in w.claim_all().await {
        assert!(w.deliver(&task).await);
    }
    let detail = show(&w, started.id).await;
    assert_eq!((detail.resolved, detail.on_their_way), (4, 0));
    let open = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..DeadLetterFilter::all(w.organization)
    };
    assert_eq!(letters(&w, &open).await.len(), 2);
}

pub async fn what_fails_again_is_open_once_more_and_not_replayed_again(
    fixture: Arc<dyn SqlFixture>,
) {
    let (w, all) = with_dead(fixture, 2).await;
    let before = letters(&w, &all).await;
    let id = w.tasks.start_replay(&order(&all)).await.unwrap().id;
    assert_eq!(w.tasks.work_replay(1).await.unwrap(), Some(1));
    kill_all(&w, ErrorClass::Conflict).await;
    // The first one is dead and open again before the replay has come to its end.
    assert_eq!(work(&w, 1).await, [1, 0]);
    let detail = show(&w, id).await;
    assert_eq!((detail.dead_again, detail.on_their_way), (1, 1));
    let after = letters(&w, &all).await;
    let ids = |letters: &[DeadLetter]| letters.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before));
    let open: Vec<_> = after
        .iter()
        .filter(|one| one.state == DeadLetterState::Open)
        .collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].class, ErrorClass::Conflict);
    assert!(work(&w, 10).await.is_empty());
}

pub async fn what_changes_before_its_turn_is_skipped_with_its_reason(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 4).await;
    let id = w.tasks.start_replay(&order(&all)).await.unwrap().id;
    // A newer version, a discard, somebody else's replay; one is left.
    w.apply_one(location("p0", 7, 700)).await;
    let found = letters(&w, &all).await;
    let one = |n: usize| DeadLetterFilter {
        ids: vec![found[found.len() - 1 - n].id],
        ..all.clone()
    };
    w.tasks
        .discard_dead_letters(&one(1), "ann", "a test")
        .await
        .unwrap();
    let pause = w
        .tasks
        .change_replay(w.organization, id, ReplayState::Paused, "ann", "");
    pause.await.unwrap();
    replay_all(&w, &one(2)).await;
    let resume = w
        .tasks
        .change_replay(w.organization, id, ReplayState::Running, "ann", "");
    resume.await.unwrap();
    work(&w, 10).await;
    let detail = show(&w, id).await;
    assert_eq!((detail.replay.replayed, detail.replay.skipped), (1, 3));
    let closed = SkipCounts {
        closed: 3,
        ..SkipCounts::default()
    };
    assert_eq!(detail.skipped_because, closed);
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].state, TaskState::Cancelled);
    assert_eq!(w.claim_all().await.len(), 3, "p0, p2 and p3, once each");
}

pub async fn a_replay_pauses_resumes_and_is_cancelled(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 3).await;
    let id = w.tasks.start_replay(&order(&all)).await.unwrap().id;
    let change = async |to| {
        w.tasks
            .change_replay(w.organization, id, to, "bob", "lunch")
            .await
    };
    use ReplayState::{Cancelled, Paused, Running};
    assert_eq!(change(Paused).await.unwrap().state, Paused);
    assert_eq!(change(Paused).await.unwrap().state, Paused);
    assert!(work(&w, 1).await.is_empty());
    assert_eq!(change(Running).await.unwrap().state, Running);
    assert_eq!(w.tasks.work_replay(1).await.unwrap(), Some(1));
    let cancelled = change(Cancelled).await.unwrap();
    assert!(cancelled.finished_at.is_some());
    assert!(work(&w, 1).await.is_empty());
    let refused = change(Running).await.unwrap_err();
    assert_eq!(refused.code(), "replay_transition_refused");
    let detail = show(&w, id).await;
    assert_eq!((detail.replay.replayed, detail.waiting), (1, 2));
    let open = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..all
    };
    assert_eq!(letters(&w, &open).await.len(), 2);
    let query = ReplayQuery {
        organization_id: w.organization,
        state: Some(Cancelled),
        after: None,
        limit: 10,
    };
    let found = w.tasks.replays(&query).await.unwrap();
    assert_eq!(found, [detail.replay]);
    let query = ReplayQuery {
        state: Some(Running),
        ..query
    };
    assert!(w.tasks.replays(&query).await.unwrap().is_empty());
}

pub async fn a_rate_makes_batches_wait(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 4).await;
    let slow = NewReplay {
        rate: Some(4),
        ..order(&all)
    };
    let id = w.tasks.start_replay(&slow).await.unwrap().id;
    let began = std::time::Instant::now();
    assert_eq!(w.tasks.work_replay(100).await.unwrap(), Some(1));
    assert_eq!(w.tasks.work_replay(100).await.unwrap(), None, "not yet");
    eventually(async || {
        w.tasks.work_replay(100).await.unwrap();
        (show(&w, id).await.waiting == 0).then_some(())
    })
    .await;
    // Three pauses of a quarter of a second lie between four batches.
    assert!(began.elapsed() >= Duration::from_millis(750));
}

pub async fn two_workers_share_replays_without_doubling(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 40).await;
    let id = w.tasks.start_replay(&order(&all)).await.unwrap().id;
    let (_, other) = w.fixture.open().await;
    let (one, two) = (w.tasks.clone(), other);
    let worker = async |tasks: Arc<dyn crate::TaskStore>| {
        let mut done = 0;
        loop {
            match tasks.work_replay(3).await.unwrap() {
                Some(more) => done += more,
                // Nothing is due: the other one is at it, or it is over.
                None if show(&w, id).await.replay.state == ReplayState::Running => {}
                None => return done,
            }
        }
    };
    let both = async { tokio::join!(worker(one), worker(two)) };
    let (a, b) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
    assert_eq!(a + b, 40);
    assert_eq!(show(&w, id).await.replay.replayed, 40);
    assert_eq!(w.claim_all().await.len(), 40);
}

pub async fn an_idempotency_key_starts_one_replay(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 2).await;
    let keyed = NewReplay {
        idempotency_key: Some("k1".into()),
        ..order(&all)
    };
    let first = w.tasks.start_replay(&keyed).await.unwrap();
    let again = w.tasks.start_replay(&keyed).await.unwrap();
    assert_eq!(
        (again.id, again.matched, again.existed),
        (first.id, 2, true)
    );
    let theirs = NewReplay {
        filter: DeadLetterFilter::all(w.other),
        ..keyed
    };
    let theirs = w.tasks.start_replay(&theirs).await.unwrap();
    assert!(!theirs.existed && theirs.id != first.id);
}

/// O8: whatever happens today goes first.
pub async fn a_replayed_task_is_the_last_in_line(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 1).await;
    replay_all(&w, &all).await;
    let task = w.claim_single().await;
    assert_eq!((task.priority.get(), task.retry_count), (10, 0));
    assert_eq!(task.limited_for, Duration::ZERO);
    assert!(w.fail(&task, ErrorClass::Validation, PushNext::Dead).await);
    w.apply_one(location("p0", 2, 200)).await;
    assert_eq!(w.claim_single().await.priority.get(), 5);
}

/// The original stays as it is; the edit is kept with who, when and why.
pub async fn edited_data_is_sent_for_its_version_only(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 1).await;
    let edited = json!({ "content": 99 });
    let with_edit = NewReplay {
        edit: Some(edited.clone()),
        ..order(&all)
    };
    let id = w.tasks.start_replay(&with_edit).await.unwrap().id;
    work(&w, 10).await;
    assert!(show(&w, id).await.replay.edited);
    let task = w.claim_single().await;
    assert_eq!((task.version, &task.data), (1, &edited));
    assert!(task.edit.is_some());
    assert!(w.fail(&task, ErrorClass::Validation, PushNext::Dead).await);
    let letter = letters(&w, &all).await.remove(0);
    let detail = w.tasks.dead_letter(w.organization, letter.id).await;
    let detail = detail.unwrap().unwrap();
    assert_eq!(detail.data, record(0).data);
    assert_eq!(detail.edits.len(), 1);
    let kept = &detail.edits[0];
    assert_eq!((&*kept.actor, &*kept.note), ("ann", "mended"));
    assert_eq!((kept.version, &kept.data), (1, &edited));
    // Replayed as it is: the original again.
    replay_all(&w, &all).await;
    let task = w.claim_single().await;
    assert_eq!((&task.data, task.edit), (&record(0).data, None));
    assert!(w.fail(&task, ErrorClass::Validation, PushNext::Dead).await);
    // Edited once more, and superseded by a newer version before it is sent.
    w.tasks.start_replay(&with_edit).await.unwrap();
    work(&w, 10).await;
    w.apply_one(location("p0", 7, 700)).await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.edit), (2, None));
    assert_eq!(task.data, location("p0", 7, 700).data);
}

pub async fn an_edit_needs_one_letter_about_the_newest_version(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 2).await;
    let with_edit = |filter: &DeadLetterFilter| NewReplay {
        edit: Some(json!({})),
        ..order(filter)
    };
    let code = async |filter: &DeadLetterFilter| {
        let refused = w.tasks.start_replay(&with_edit(filter)).await;
        refused.unwrap_err().code()
    };
    assert_eq!(code(&all).await, "edit_needs_one");
    let none = DeadLetterFilter {
        ids: vec![i64::MAX],
        ..all.clone()
    };
    assert_eq!(code(&none).await, "edit_needs_one");
    // A newer version dies as well: the edit that was written for the old one is refused, and one
    // that was ordered before is skipped.
    let first = DeadLetterFilter {
        ids: vec![letters(&w, &all).await[0].id],
        ..all.clone()
    };
    let id = w.tasks.start_replay(&with_edit(&first)).await.unwrap().id;
    w.apply_one(location("p1", 7, 700)).await;
    kill_all(&w, ErrorClass::Validation).await;
    assert_eq!(letters(&w, &first).await[0].version, 2);
    work(&w, 10).await;
    let skipped = show(&w, id).await.skipped_because;
    assert_eq!(skipped.outdated, 1, "{skipped:?}");
    w.apply_one(gone(location("p0", 1, 800))).await;
    kill_all(&w, ErrorClass::Validation).await;
    let deleted = DeadLetterFilter {
        ids: vec![letters(&w, &all).await[1].id],
        ..all
    };
    assert_eq!(code(&deleted).await, "edit_of_deletion");
}

/// O1: what was tried without an outcome was other content, so its key says nothing about this one.
pub async fn edited_data_is_another_request_than_what_was_tried(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(record(0)).await;
    kill_all(&w, ErrorClass::Timeout).await;
    let all = DeadLetterFilter::all(w.organization);
    replay_edited(&w, &all, json!({ "content": 99 })).await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (1, Some(0)));
    assert!(w.fail(&task, ErrorClass::Timeout, PushNext::Dead).await);
    replay_all(&w, &all).await;
    let task = w.claim_single().await;
    assert_eq!((task.edit, task.unsettled_version), (None, Some(0)));
    assert!(w.deliver(&task).await);
    // The same content again is the same request.
    w.apply_one(location("p1", 1, 100)).await;
    kill_all(&w, ErrorClass::Timeout).await;
    replay_all(&w, &all).await;
    assert_eq!(w.claim_single().await.unsettled_version, Some(1));
}

pub async fn changes_are_kept_with_actor_and_reason(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 3).await;
    let newest = DeadLetterFilter {
        limit: 1,
        ..all.clone()
    };
    let id = w.tasks.start_replay(&order(&newest)).await.unwrap().id;
    let cancel = w
        .tasks
        .change_replay(w.organization, id, ReplayState::Cancelled, "bob", "wrong");
    cancel.await.unwrap();
    w.tasks
        .discard_dead_letters(&all, "eve", "test units")
        .await
        .unwrap();
    let changes = w.tasks.changes(w.organization, None, 10).await.unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|one| (&*one.actor, &*one.event, &*one.detail))
        .collect();
    let (started, cancelled) = (
        format!("replay {id} of 1: mended"),
        format!("replay {id}: wrong"),
    );
    assert_eq!(
        told,
        [
            ("eve", "dead_letters.discarded", "3: test units"),
            ("bob", "replays.cancelled", &*cancelled),
            ("ann", "replays.started", &*started),
        ]
    );
    let rest = w
        .tasks
        .changes(w.organization, Some(changes[0].id), 1)
        .await;
    assert_eq!(rest.unwrap(), [changes[1].clone()]);
    assert!(w.tasks.changes(w.other, None, 10).await.unwrap().is_empty());
}

/// C4.
pub async fn replays_of_another_organization_are_left_alone(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 1).await;
    let id = w.tasks.start_replay(&order(&all)).await.unwrap().id;
    assert!(w.tasks.replay(w.other, id).await.unwrap().is_none());
    let query = ReplayQuery {
        organization_id: w.other,
        state: None,
        after: None,
        limit: 10,
    };
    assert!(w.tasks.replays(&query).await.unwrap().is_empty());
    let change = w
        .tasks
        .change_replay(w.other, id, ReplayState::Cancelled, "eve", "");
    assert_eq!(change.await.unwrap_err().code(), "replay_unknown");
    assert_eq!(show(&w, id).await.replay.state, ReplayState::Running);
}
