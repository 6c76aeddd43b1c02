//! Cases of the dead-letter part of [`crate::TaskStore`].

use std::{sync::Arc, time::Duration};

use sluice_core::{
    ErrorClass, Timestamp,
    task::{AttemptOutcome, TaskState},
};

use super::{
    replay::{kill_all, letters, replay_all},
    sql::{LOCATION, LONG, REQUEST, SqlFixture, World, location, request, routes, settlement},
};
use crate::{
    dead_letter::{DeadLetterFilter, DeadLetterState},
    master::SyncStatus,
    replay::SkipCounts,
    task::PushNext,
};

/// The cases of this file.
#[macro_export]
macro_rules! dead_letter_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            dead_letter,
            [
                an_exhausted_task_is_one_dead_letter_and_can_be_replayed,
                a_new_version_revives_a_dead_task,
                a_version_that_came_during_the_last_attempt_gets_its_own,
                a_dead_letter_tells_its_story,
                filters_select,
                dead_letters_are_listed_in_pages,
                what_cannot_be_replayed_is_skipped,
                a_discarded_task_is_cancelled,
                dead_letters_of_another_organization_are_left_alone,
            ]
        );
    };
}

/// O6: exactly one dead letter, also when the replayed task dies again; delivery resolves it.
pub async fn an_exhausted_task_is_one_dead_letter_and_can_be_replayed(
    fixture: Arc<dyn SqlFixture>,
) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let filter = DeadLetterFilter::all(w.organization);
    for _ in 0..2 {
        let task = w.claim_single().await;
        assert_eq!(task.retry_count, 0);
        assert!(w.fail(&task, ErrorClass::Validation, PushNext::Dead).await);
        let letters = w.tasks.dead_letters(&filter).await.unwrap().items;
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].state, DeadLetterState::Open);
        assert_eq!(letters[0].class, ErrorClass::Validation);
        assert_eq!((letters[0].version, letters[0].attempts), (1, 1));
        assert!(w.claim_all().await.is_empty());
        let dry = w.tasks.preview_replay(&filter).await.unwrap();
        assert_eq!((dry.matched, dry.replayable), (1, 1));
        let wet = replay_all(&w, &filter).await.replay;
        assert_eq!((wet.matched, wet.replayed, wet.skipped), (1, 1, 0));
        let again = replay_all(&w, &filter).await.replay;
        assert_eq!((again.matched, again.replayed), (0, 0));
    }
    let task = w.claim_single().await;
    assert!(w.deliver(&task).await);
    let letters = w.tasks.dead_letters(&filter).await.unwrap().items;
    assert_eq!(letters[0].state, DeadLetterState::Resolved);
    assert_eq!(letters[0].actor.as_deref(), Some("ann"));
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].state, TaskState::Completed);
}

/// With attempts 0; the dead letter is on its way, and resolved by the delivery.
pub async fn a_new_version_revives_a_dead_task(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let now = Duration::ZERO;
    let task = w.claim_single().await;
    w.fail(&task, ErrorClass::Network, PushNext::Retry { after: now })
        .await;
    w.rescue().await;
    kill_all(&w, ErrorClass::Network).await;
    let all = DeadLetterFilter::all(w.organization);
    assert_eq!(letters(&w, &all).await[0].attempts, 2);
    assert_eq!(w.rescue().await, crate::task::Rescued::default());
    // The same content again revives nothing.
    w.apply_one(location("p1", 1, 100)).await;
    assert!(w.claim_all().await.is_empty());
    w.apply_one(location("p1", 2, 200)).await;
    assert_eq!(letters(&w, &all).await[0].state, DeadLetterState::Replaying);
    assert_eq!(replay_all(&w, &all).await.replay.matched, 0);
    let task = w.claim_single().await;
    assert_eq!((task.version, task.retry_count), (2, 0));
    assert!(w.deliver(&task).await);
    let left = letters(&w, &all).await;
    assert_eq!((left.len(), left[0].state), (1, DeadLetterState::Resolved));
    // Dying once more is another dead letter: the first one is history.
    w.apply_one(location("p1", 3, 300)).await;
    kill_all(&w, ErrorClass::Validation).await;
    let left = letters(&w, &all).await;
    assert_eq!((left.len(), left[0].state), (2, DeadLetterState::Open));
}

/// As if it had come a moment later.
pub async fn a_version_that_came_during_the_last_attempt_gets_its_own(
    fixture: Arc<dyn SqlFixture>,
) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    w.apply_one(location("p1", 2, 200)).await;
    assert!(w.fail(&task, ErrorClass::Validation, PushNext::Dead).await);
    let all = DeadLetterFilter::all(w.organization);
    assert!(letters(&w, &all).await.is_empty());
    let task = w.claim_single().await;
    assert_eq!((task.version, task.retry_count), (2, 0));
}

pub async fn a_dead_letter_tells_its_story(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let task = w.claim_single().await;
    assert!(w.fail(&task, ErrorClass::Conflict, PushNext::Dead).await);
    let letter = letters(&w, &DeadLetterFilter::all(w.organization))
        .await
        .remove(0);
    let detail = w
        .tasks
        .dead_letter(w.organization, letter.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(detail.letter, letter);
    assert_eq!(detail.data, location("p1", 1, 100).data);
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!(detail.attempts[0].outcome, AttemptOutcome::Dead);
    assert_eq!((letter.connection_id, &*letter.target), (w.one, "one"));
    assert_eq!(
        (letter.task_id, letter.master_id),
        (task.lease.task_id, task.master_id)
    );
    assert_eq!(
        (letter.entity_type.as_str(), &*letter.entity_id),
        (LOCATION, "yardi:p1")
    );
    assert_eq!(
        (&*letter.code, &*letter.message),
        ("test_failure", "the target said no")
    );
    assert_eq!((letter.http_status, letter.version), (Some(422), 1));
    assert_eq!(letter.first_at, letter.last_at);
    assert!(letter.trace_id.is_some());
    let none = w.tasks.dead_letter(w.organization, i64::MAX).await.unwrap();
    assert!(none.is_none());
    // A worker that gives no reason is recorded all the same.
    w.apply_one(location("p2", 1, 100)).await;
    let task = w.claim_single().await;
    let silent = settlement(task.lease, PushNext::Dead);
    assert_eq!(w.tasks.settle_pushes(&[silent]).await.unwrap(), [true]);
    let letter = letters(&w, &DeadLetterFilter::all(w.organization))
        .await
        .remove(0);
    assert_eq!(letter.class, ErrorClass::Internal);
}

/// Each condition alone, and all together, for looking and for replay alike.
pub async fn filters_select(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    w.apply_one(request("r1", 1, "p1")).await;
    kill_all(&w, ErrorClass::Conflict).await;
    let mut batch = w.batch(vec![location("p1", 1, 100)]);
    batch.routes = routes(w.lessen, "lessen");
    w.master.apply(&batch).await.unwrap();
    let task = w.claim_for(w.lessen, LONG).await.remove(0);
    w.fail(&task, ErrorClass::Validation, PushNext::Dead).await;
    let all = || DeadLetterFilter::all(w.organization);
    let everything = letters(&w, &all()).await;
    assert_eq!(everything.len(), 4);
    assert!(everything.is_sorted_by(|a, b| a.id > b.id));
    let past = Timestamp::from_timestamp(1_000, 0);
    let future = Timestamp::from_timestamp(100_000_000_000, 0);
    let cases = [
        (
            DeadLetterFilter {
                ids: vec![everything[0].id, everything[3].id],
                ..all()
            },
            2,
        ),
        (
            DeadLetterFilter {
                connection_id: Some(w.lessen),
                ..all()
            },
            1,
        ),
        (
            DeadLetterFilter {
                entity_type: Some(REQUEST.into()),
                ..all()
            },
            1,
        ),
        (
            DeadLetterFilter {
                class: Some(ErrorClass::Validation),
                ..all()
            },
            3,
        ),
        (
            DeadLetterFilter {
                code: Some("test_failure".into()),
                ..all()
            },
            4,
        ),
        (
            DeadLetterFilter {
                code: Some("other".into()),
                ..all()
            },
            0,
        ),
        (
            DeadLetterFilter {
                state: Some(DeadLetterState::Open),
                ..all()
            },
            4,
        ),
        (
            DeadLetterFilter {
                state: Some(DeadLetterState::Resolved),
                ..all()
            },
            0,
        ),
        (
            DeadLetterFilter {
                before: past,
                ..all()
            },
            0,
        ),
        (
            DeadLetterFilter {
                before: future,
                since: past,
                ..all()
            },
            4,
        ),
        (
            DeadLetterFilter {
                since: future,
                ..all()
            },
            0,
        ),
        (DeadLetterFilter { limit: 3, ..all() }, 3),
        (
            DeadLetterFilter {
                connection_id: Some(w.one),
                class: Some(ErrorClass::Validation),
                entity_type: Some(LOCATION.into()),
                ..all()
            },
            2,
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(letters(&w, &filter).await.len(), expected, "{filter:?}");
        let preview = w.tasks.preview_replay(&filter).await.unwrap();
        assert_eq!(preview.matched, expected as u64, "{filter:?}");
    }
    let some = DeadLetterFilter {
        class: Some(ErrorClass::Conflict),
        ..all()
    };
    assert_eq!(replay_all(&w, &some).await.replay.replayed, 1);
    assert_eq!(w.claim_single().await.entity_type.as_str(), REQUEST);
}

pub async fn dead_letters_are_listed_in_pages(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..5).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    let mut filter = DeadLetterFilter {
        limit: 2,
        ..DeadLetterFilter::all(w.organization)
    };
    let mut sizes = Vec::new();
    let mut seen = Vec::new();
    loop {
        let page = w.tasks.dead_letters(&filter).await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items.iter().map(|letter| letter.id));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert!(seen.is_sorted_by(|a, b| a > b));
}

/// O6: a replay can neither overtake nor repeat what is delivered.
pub async fn what_cannot_be_replayed_is_skipped(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..3).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    // As after the work of a person on the tables: one is open again, one is delivered.
    w.fixture
        .execute(
            "update sync_queue set state = 'pending' where id = (select min(id) from sync_queue)",
        )
        .await;
    w.fixture
        .execute("update sync_queue set delivered_version = 1 where id = (select max(id) from sync_queue)")
        .await;
    let all = DeadLetterFilter::all(w.organization);
    let preview = w.tasks.preview_replay(&all).await.unwrap();
    assert_eq!((preview.matched, preview.replayable), (3, 1));
    let skipped = SkipCounts {
        on_its_way: 1,
        delivered: 1,
        ..SkipCounts::default()
    };
    assert_eq!(preview.skipped, skipped);
    let detail = replay_all(&w, &all).await;
    assert_eq!((detail.replay.replayed, detail.replay.skipped), (1, 2));
    assert_eq!((detail.skipped_because, detail.on_their_way), (skipped, 1));
    let open = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..all
    };
    assert_eq!(letters(&w, &open).await.len(), 2);
    // The replayed one and the one that was open.
    assert_eq!(w.claim_all().await.len(), 2);
}

pub async fn a_discarded_task_is_cancelled(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    let all = DeadLetterFilter::all(w.organization);
    let first = letters(&w, &all).await.pop().unwrap();
    let one = DeadLetterFilter {
        ids: vec![first.id],
        ..all.clone()
    };
    let count = w
        .tasks
        .discard_dead_letters(&one, "ann", "a test unit")
        .await;
    assert_eq!(count.unwrap(), 1);
    let again = w
        .tasks
        .discard_dead_letters(&one, "ann", "a test unit")
        .await;
    assert_eq!(again.unwrap(), 0);
    let letter = letters(&w, &one).await.remove(0);
    assert_eq!(letter.state, DeadLetterState::Discarded);
    assert_eq!(letter.actor.as_deref(), Some("ann"));
    assert_eq!(letter.note.as_deref(), Some("a test unit"));
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].state, TaskState::Cancelled);
    assert_eq!(history.record.sync_status, SyncStatus::Synced);
    assert_eq!(replay_all(&w, &one).await.replay.matched, 0);
    // A new version is wanted all the same; the other one is still open.
    w.apply_one(location("p1", 2, 200)).await;
    assert_eq!(w.claim_single().await.version, 2);
    assert_eq!(letters(&w, &one).await[0].state, DeadLetterState::Discarded);
    assert_eq!(letters(&w, &all).await[0].state, DeadLetterState::Open);
}

/// C4.
pub async fn dead_letters_of_another_organization_are_left_alone(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    kill_all(&w, ErrorClass::Validation).await;
    let mine = letters(&w, &DeadLetterFilter::all(w.organization)).await;
    let theirs = DeadLetterFilter {
        ids: vec![mine[0].id],
        ..DeadLetterFilter::all(w.other)
    };
    assert!(letters(&w, &theirs).await.is_empty());
    let detail = w.tasks.dead_letter(w.other, mine[0].id).await.unwrap();
    assert!(detail.is_none());
    let preview = w.tasks.preview_replay(&theirs).await.unwrap();
    assert_eq!(preview.matched, 0);
    assert_eq!(replay_all(&w, &theirs).await.replay.matched, 0);
    assert!(
        w.tasks
            .dead_letter_groups(&theirs)
            .await
            .unwrap()
            .is_empty()
    );
    let discarded = w.tasks.discard_dead_letters(&theirs, "eve", "").await;
    assert_eq!(discarded.unwrap(), 0);
    assert_eq!(
        letters(&w, &DeadLetterFilter::all(w.organization)).await,
        mine
    );
}
