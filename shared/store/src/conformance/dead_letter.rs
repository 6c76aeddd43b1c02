//! Cases of the dead-letter part of [`crate::TaskStore`].

use std::sync::Arc;

use sluice_core::{ErrorClass, task::TaskState};

use super::sql::{LOCATION, SqlFixture, World, location};
use crate::{
    dead_letter::{DeadLetterFilter, DeadLetterState, ReplayReport},
    task::PushNext,
};

/// The cases of this file.
#[macro_export]
macro_rules! dead_letter_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            dead_letter,
            [an_exhausted_task_is_one_dead_letter_and_can_be_replayed]
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
        let one = ReplayReport {
            matched: 1,
            replayed: 1,
            skipped: 0,
        };
        let dry = w.tasks.replay_dead_letters(&filter, "ann", true).await;
        assert_eq!(dry.unwrap(), one);
        let wet = w.tasks.replay_dead_letters(&filter, "ann", false).await;
        assert_eq!(wet.unwrap(), one);
        let again = w.tasks.replay_dead_letters(&filter, "ann", false).await;
        assert_eq!(again.unwrap(), ReplayReport::default());
    }
    let task = w.claim_single().await;
    assert!(w.deliver(&task).await);
    let letters = w.tasks.dead_letters(&filter).await.unwrap().items;
    assert_eq!(letters[0].state, DeadLetterState::Resolved);
    assert_eq!(letters[0].actor.as_deref(), Some("ann"));
    let history = w.history(LOCATION, "p1").await;
    assert_eq!(history.pushes[0].state, TaskState::Completed);
}
