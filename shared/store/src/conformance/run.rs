//! Cases of the run part of [`crate::TaskStore`].

use std::sync::Arc;

use sluice_core::run::RunState;

use super::sql::{LONG, SqlFixture, World};
use crate::{run::StepState, task::PullNext};

/// The cases of this file.
#[macro_export]
macro_rules! run_suite {
    ($fixture:path) => {
        $crate::sql_cases!($fixture, run, [steps_run_one_after_the_other]);
    };
}

/// A step starts when all pulls of the one before are closed, also those it spawned.
pub async fn steps_run_one_after_the_other(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let started = w
        .tasks
        .start_run(&w.new_run(&["units", "residents"]))
        .await
        .unwrap();
    let state = |detail: &crate::run::RunDetail| detail.run.state;
    let run = async || {
        w.tasks
            .run(w.organization, started.id)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(state(&run().await), RunState::Queued);
    assert!(
        w.stage_pulls().await.is_empty(),
        "a queued run pulls nothing"
    );
    let changed = w.tasks.advance_runs().await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(state(&run().await), RunState::Running);
    for stream in ["units", "residents"] {
        let plan = w.claim_pulls(LONG).await.remove(0);
        assert_eq!((&*plan.spec.stream, &plan.spec.slice), (stream, &None));
        let slice = |n: i64| crate::task::PullSpec {
            slice: Some(serde_json::json!({"n": n})),
            ..plan.spec.clone()
        };
        let done = |spawn| PullNext::Done {
            state: None,
            counts: Default::default(),
            spawn,
        };
        assert!(w.settle_pull(&plan, done(vec![slice(1), slice(2)])).await);
        let slices = w.claim_pulls(LONG).await;
        assert_eq!(slices.len(), 2);
        for slice in &slices {
            w.tasks.advance_runs().await.unwrap();
            assert!(w.stage_pulls().await.is_empty());
            assert!(w.settle_pull(slice, done(Vec::new())).await);
        }
        w.tasks.advance_runs().await.unwrap();
    }
    let detail = run().await;
    assert_eq!(detail.run.state, RunState::Done);
    assert!(detail.run.finished_at.is_some());
    for step in &detail.steps {
        assert_eq!(step.state, StepState::Done);
        assert_eq!((step.tasks, step.tasks_closed, step.tasks_dead), (3, 3, 0));
    }
}
