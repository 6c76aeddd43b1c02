//! Cases of what people see of dead letters: references at the broker, counts.

use std::sync::Arc;

use sluice_core::{ErrorClass, message::DeadLetterRef, task::TaskKind};

use super::{
    replay::{kill_all, letters, replay_all, with_dead},
    sql::{SqlFixture, World, location},
};
use crate::dead_letter::{DeadLetterFilter, DeadLetterState, Mirrored};

/// The cases of this file.
#[macro_export]
macro_rules! dead_letter_shown_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            dead_letter_shown,
            [
                references_are_owed_until_they_are_mirrored,
                the_mirror_knows_what_a_queue_should_hold,
                letters_are_counted_by_cause,
                a_moved_reference_replays_its_own_death_only,
            ]
        );
    };
}

/// O6: each open dead letter has a reference at the broker, once per death.
pub async fn references_are_owed_until_they_are_mirrored(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..3).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    let owed = w.tasks.unmirrored_dead_letters(2).await.unwrap();
    assert_eq!(owed.len(), 2);
    assert!(owed[0].id < owed[1].id);
    let reference = &owed[0].reference;
    assert_eq!(reference.kind, TaskKind::Push);
    assert_eq!(reference.connection_id, w.one);
    assert_eq!(reference.organization_id, w.organization);
    let ids: Vec<_> = owed.iter().map(|one| one.id).collect();
    w.tasks.mark_dead_letters_mirrored(&ids).await.unwrap();
    let rest = w.tasks.unmirrored_dead_letters(10).await.unwrap();
    assert_eq!(rest.len(), 1);
    w.tasks
        .mark_dead_letters_mirrored(&[rest[0].id])
        .await
        .unwrap();
    assert!(
        w.tasks
            .unmirrored_dead_letters(10)
            .await
            .unwrap()
            .is_empty()
    );
    // Dead again after a replay: a reference again.
    let all = DeadLetterFilter::all(w.organization);
    replay_all(&w, &all).await;
    kill_all(&w, ErrorClass::Validation).await;
    assert_eq!(w.tasks.unmirrored_dead_letters(10).await.unwrap().len(), 3);
}

/// O6: the mirror can tell what the queue should hold, and begin anew.
pub async fn the_mirror_knows_what_a_queue_should_hold(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..3).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    assert_eq!(w.tasks.mirrored_dead_letters().await.unwrap(), []);
    let owed = w.tasks.unmirrored_dead_letters(10).await.unwrap();
    let ids: Vec<_> = owed.iter().map(|one| one.id).collect();
    w.tasks.mark_dead_letters_mirrored(&ids).await.unwrap();
    let one = DeadLetterFilter {
        ids: vec![ids[0]],
        ..DeadLetterFilter::all(w.organization)
    };
    let done = w.tasks.discard_dead_letters(&one, "ann", "a test").await;
    assert_eq!(done.unwrap(), 1);
    let held = Mirrored {
        connection_id: w.one,
        open: 2,
        closed: 1,
    };
    assert_eq!(w.tasks.mirrored_dead_letters().await.unwrap(), [held]);
    w.tasks.forget_mirrored(w.lessen).await.unwrap();
    assert_eq!(w.tasks.mirrored_dead_letters().await.unwrap(), [held]);
    w.tasks.forget_mirrored(w.one).await.unwrap();
    assert_eq!(w.tasks.mirrored_dead_letters().await.unwrap(), []);
    let owed = w.tasks.unmirrored_dead_letters(10).await.unwrap();
    assert_eq!(owed.len(), 2, "the closed one needs none");
}

/// Letters are counted in SQL, by cause and by class, however many there are.
pub async fn letters_are_counted_by_cause(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply((0..3).map(|n| location(&format!("p{n}"), n, 100)).collect())
        .await;
    kill_all(&w, ErrorClass::Validation).await;
    w.apply_one(location("p9", 1, 100)).await;
    kill_all(&w, ErrorClass::Timeout).await;
    let all = DeadLetterFilter::all(w.organization);
    let groups = w.tasks.dead_letter_groups(&all).await.unwrap();
    let counts: Vec<_> = groups.iter().map(|one| (one.class, one.count)).collect();
    assert_eq!(
        counts,
        [(ErrorClass::Validation, 3), (ErrorClass::Timeout, 1)]
    );
    assert_eq!(groups[0].message, "the target said no");
    let cause = DeadLetterFilter {
        fingerprint: Some(groups[0].fingerprint.clone()),
        ..all.clone()
    };
    assert_eq!(letters(&w, &cause).await.len(), 3);
    let record = DeadLetterFilter {
        entity_id: Some("yardi:p9".into()),
        ..all
    };
    assert_eq!(letters(&w, &record).await.len(), 1);
    let mut open = w.tasks.open_dead_letters().await.unwrap();
    open.sort_by_key(|one| one.class);
    let counts: Vec<_> = open
        .iter()
        .map(|one| (one.organization_id, one.connection_id, one.class, one.count))
        .collect();
    assert_eq!(
        counts,
        [
            (w.organization, w.one, ErrorClass::Timeout, 1),
            (w.organization, w.one, ErrorClass::Validation, 3)
        ]
    );
}

/// O6: a reference that somebody moved to a work queue is a wish; an old one is not.
pub async fn a_moved_reference_replays_its_own_death_only(fixture: Arc<dyn SqlFixture>) {
    let (w, all) = with_dead(fixture, 2).await;
    let references = async || -> Vec<DeadLetterRef> {
        let owed = w.tasks.unmirrored_dead_letters(10).await.unwrap();
        owed.iter()
            .map(|one| one.reference.dead_letter.unwrap())
            .collect()
    };
    let first = references().await;
    assert_eq!(first.len(), 2);
    let ids: Vec<_> = first.iter().map(|one| one.id).collect();
    w.tasks.mark_dead_letters_mirrored(&ids).await.unwrap();
    let moved = async |connection, references: &[DeadLetterRef]| {
        let done = w.tasks.replay_moved(connection, references, "broker").await;
        done.unwrap()
    };
    assert_eq!(moved(w.lessen, &first).await, 0, "another connection's");
    assert_eq!(
        moved(w.other_one, &first).await,
        0,
        "another organization's"
    );
    assert_eq!(w.tasks.mirrored_dead_letters().await.unwrap()[0].open, 2);
    // Delivered twice, as messages are.
    let twice = [first[0], first[0]];
    assert_eq!(moved(w.one, &twice).await, 1);
    assert_eq!(moved(w.one, &twice).await, 0);
    let held = w.tasks.mirrored_dead_letters().await.unwrap();
    assert_eq!(
        (held[0].open, held[0].closed),
        (1, 0),
        "its message has left"
    );
    let letter = letters(
        &w,
        &DeadLetterFilter {
            ids: vec![first[0].id],
            ..all.clone()
        },
    )
    .await
    .remove(0);
    assert_eq!(letter.state, DeadLetterState::Replaying);
    assert_eq!(letter.actor.as_deref(), Some("broker"));
    // Dead again: the old reference revives nothing, the new one does.
    kill_all(&w, ErrorClass::Validation).await;
    assert_eq!(moved(w.one, &[first[0]]).await, 0);
    assert!(w.claim_all().await.is_empty());
    let second = references().await;
    assert_eq!(second.len(), 1);
    assert_eq!(moved(w.one, &second).await, 1);
    assert_eq!(w.claim_all().await.len(), 1);
}
