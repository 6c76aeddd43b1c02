//! Cases of [`crate::TaskStore`]: tasks that kill their workers (promises C2, O8).

use std::{sync::Arc, time::Duration};

use sluice_core::{
    ErrorClass, TaskId,
    retry::MAX_CRASHES,
    run::{RunCounts, RunState},
    task::{AttemptOutcome, TaskState},
};

use super::eventually;
use super::replay::replay_all;
use super::sql::{LOCATION, LONG, SHORT, SqlFixture, World, claim, ids, location};
use crate::{
    dead_letter::DeadLetterFilter,
    task::{Checkpoint, Claim, PullNext, PushNext, PushTask, Rescued},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_crash_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_crash,
            [
                a_suspect_is_left_out_of_batches,
                a_neighbour_of_a_crash_loses_the_mark_by_success,
                a_push_that_kills_its_workers_becomes_one_dead_letter,
                a_replayed_killer_is_a_suspect_with_new_tries,
                a_newer_version_of_a_killer_is_tried,
                a_pull_that_kills_its_workers_fails_its_run,
                a_checkpoint_clears_a_pull,
            ]
        );
    };
}

/// Claims as a worker does with a batch.
fn batch(ids: &[TaskId]) -> Claim {
    Claim {
        suspects: false,
        ..claim(ids, LONG)
    }
}

/// Waits until the leases have run out and the timer has seen it.
pub(super) async fn rescued(w: &World) -> Rescued {
    eventually(async || {
        let rescued = w.rescue().await;
        (rescued.leases > 0).then_some(rescued)
    })
    .await
}

/// Makes tasks that rest due at once.
pub(super) async fn rested(w: &World) {
    w.fixture
        .execute("update sync_queue set next_retry_time = null, state = 'pending' where state = 'waiting'")
        .await;
}

/// Lets the only push kill workers until it is given up.
async fn kill(w: &World, from: u32) -> PushTask {
    let mut last = None;
    for crash in from..=MAX_CRASHES {
        rested(w).await;
        last = Some(w.claim_for(w.one, SHORT).await.remove(0));
        let rescued = rescued(w).await;
        let given_up = u64::from(crash == MAX_CRASHES);
        assert_eq!((rescued.leases, rescued.given_up), (1, given_up));
    }
    last.unwrap()
}

async fn state(w: &World) -> TaskState {
    w.history(LOCATION, "p1").await.pushes[0].state
}

/// Both after the timer has freed it and when its lease has just run out.
pub async fn a_suspect_is_left_out_of_batches(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    w.claim_ids(&staged[..1], SHORT).await;
    w.claim_ids(&staged[1..], SHORT).await;
    let suspects = eventually(async || {
        let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
        assert!(claimed.tasks.is_empty());
        (claimed.suspects.len() == 2).then_some(claimed.suspects)
    })
    .await;
    assert_eq!(suspects, staged);
    assert_eq!(rescued(&w).await.leases, 2);
    w.apply_one(location("p3", 1, 100)).await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
    assert_eq!(claimed.tasks.len(), 1);
    assert_eq!(&*claimed.tasks[0].source_id, "p3");
    assert_eq!(claimed.suspects, suspects);
    assert_eq!(w.claim_ids(&suspects[..1], LONG).await.len(), 1);
    // What is in somebody's hands is no suspect for anybody else.
    let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
    assert_eq!(claimed.suspects, suspects[1..]);
}

pub async fn a_neighbour_of_a_crash_loses_the_mark_by_success(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    w.claim_for(w.one, SHORT).await;
    assert_eq!(rescued(&w).await.given_up, 0);
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let task = w.claim_ids(&staged, LONG).await.remove(0);
    // A retry proves nothing.
    let now = PushNext::Retry {
        after: Duration::ZERO,
    };
    w.fail(&task, ErrorClass::Network, now).await;
    w.rescue().await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
    assert_eq!(claimed.suspects, staged);
    let task = w.claim_ids(&staged, LONG).await.remove(0);
    assert!(w.deliver(&task).await);
    w.apply_one(location("p1", 2, 200)).await;
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
    assert_eq!((claimed.tasks.len(), claimed.suspects.len()), (1, 0));
}

/// O6, O8: with its cause, once; and it rests in between.
pub async fn a_push_that_kills_its_workers_becomes_one_dead_letter(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    w.claim_for(w.one, SHORT).await;
    rescued(&w).await;
    assert_eq!(state(&w).await, TaskState::Pending);
    w.claim_for(w.one, SHORT).await;
    rescued(&w).await;
    assert_eq!(state(&w).await, TaskState::Waiting);
    let last = kill(&w, 3).await;
    assert!(!w.deliver(&last).await);
    let push = w.history(LOCATION, "p1").await.pushes.remove(0);
    assert_eq!(push.state, TaskState::Dead);
    assert_eq!(push.error_class.as_deref(), Some("internal"));
    assert_eq!(push.attempts.len(), 1);
    assert_eq!(push.attempts[0].outcome, AttemptOutcome::Dead);
    assert_eq!(&*push.attempts[0].worker, "test");
    let letters = DeadLetterFilter::all(w.organization);
    let letters = w.tasks.dead_letters(&letters).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].class, &*letters[0].code),
        (ErrorClass::Internal, "worker_died")
    );
}

/// O1: and what its last worker may have sent is still on record.
pub async fn a_replayed_killer_is_a_suspect_with_new_tries(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    kill(&w, 1).await;
    let all = DeadLetterFilter::all(w.organization);
    assert_eq!(replay_all(&w, &all).await.replay.replayed, 1);
    let staged = ids(&w.stage_pushes(w.one, 10).await);
    let claimed = w.tasks.claim_pushes(&batch(&staged)).await.unwrap();
    assert_eq!(claimed.suspects, staged);
    let task = w.claim_ids(&staged, SHORT).await.remove(0);
    assert_eq!(task.unsettled_version, Some(1));
    assert_eq!(rescued(&w).await.given_up, 0);
    kill(&w, 3).await;
    assert_eq!(state(&w).await, TaskState::Dead);
    assert_eq!(w.number("select count(*) from dead_letters").await, 1);
}

/// O2: what the newer one holds may be harmless.
pub async fn a_newer_version_of_a_killer_is_tried(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    kill(&w, 1).await;
    w.apply_one(location("p1", 2, 200)).await;
    let task = w.claim_single().await;
    assert_eq!((task.version, task.unsettled_version), (2, Some(1)));
    assert!(w.deliver(&task).await);
    assert_eq!(state(&w).await, TaskState::Completed);
}

/// C2: never an endless loop.
pub async fn a_pull_that_kills_its_workers_fails_its_run(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let run = w.running(&["units"]).await;
    for crash in 1..=MAX_CRASHES {
        rested(&w).await;
        let staged = ids(&w.stage_pulls().await);
        let ordinary = w.tasks.claim_pulls(&batch(&staged)).await.unwrap();
        assert_eq!(ordinary.suspects.is_empty(), crash == 1);
        let taken = claim(&staged, SHORT);
        match crash {
            // The claim of a batch was for a long time.
            1 => w
                .tasks
                .renew(&[ordinary.tasks[0].lease], Duration::ZERO)
                .await
                .map(drop),
            _ => w.tasks.claim_pulls(&taken).await.map(drop),
        }
        .unwrap();
        let rescued = rescued(&w).await;
        assert_eq!(rescued.given_up, u64::from(crash == MAX_CRASHES));
    }
    w.tasks.advance_runs().await.unwrap();
    let detail = w.tasks.run(w.organization, run).await.unwrap().unwrap();
    assert_eq!(detail.run.state, RunState::Failed);
    assert!(detail.run.error.unwrap().contains("workers in a row died"));
}

/// Progress is what counts, however often its worker dies later.
pub async fn a_checkpoint_clears_a_pull(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.running(&["units"]).await;
    for page in 0..=i64::from(MAX_CRASHES) {
        rested(&w).await;
        let pull = w.claim_pulls(SHORT).await.remove(0);
        let checkpoint = Checkpoint {
            lease: pull.lease,
            progress: serde_json::json!({"page": page}),
            state: None,
            counts: RunCounts::default(),
            lease_for: SHORT,
        };
        assert!(w.tasks.checkpoint(&checkpoint).await.unwrap());
        assert_eq!(rescued(&w).await.given_up, 0);
    }
    let pull = w.claim_pulls(LONG).await.remove(0);
    let done = PullNext::Done {
        state: None,
        counts: RunCounts::default(),
        spawn: Vec::new(),
    };
    assert!(w.settle_pull(&pull, done).await);
}
