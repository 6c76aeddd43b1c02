//! Cases of the pull part of [`crate::TaskStore`]: leases, progress and cursors.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_core::{ErrorClass, RunId, run::RunCounts};

use super::eventually;
use super::sql::{LONG, SHORT, SqlFixture, World, attempt, claim, failure, ids};
use crate::{
    run::NewRun,
    task::{Checkpoint, PullNext, PullSettlement, PullTask, StreamState},
};

/// The cases of this file.
#[macro_export]
macro_rules! run_pull_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            run_pull,
            [
                one_of_many_pull_claimers_wins,
                an_expired_pull_goes_on_after_its_checkpoint,
                a_fenced_pull_changes_nothing,
                a_failed_pull_waits_and_keeps_its_progress,
                cursors_are_kept_per_stream_and_partition,
                a_dry_run_keeps_no_cursor,
                all_counts_are_added_up,
            ]
        );
    };
}

fn state(partition: &str, cursor: i64) -> StreamState {
    StreamState {
        stream: "units".into(),
        partition: partition.into(),
        state: json!({"cursor": cursor, "a": [1]}),
    }
}

fn checkpoint(task: &PullTask, page: i64, state: Option<StreamState>) -> Checkpoint {
    Checkpoint {
        lease: task.lease,
        progress: json!({"page": page}),
        state,
        counts: read(1),
        lease_for: LONG,
    }
}

fn read(read: u64) -> RunCounts {
    RunCounts {
        read,
        unchanged: read,
        ..RunCounts::default()
    }
}

async fn counts(w: &World, id: RunId) -> RunCounts {
    let detail = w.tasks.run(w.organization, id).await.unwrap().unwrap();
    detail.run.counts
}

/// C2.
pub async fn one_of_many_pull_claimers_wins(fixture: Arc<dyn SqlFixture>) {
    let w = Arc::new(World::new(fixture).await);
    w.running(&["units"]).await;
    let staged = ids(&w.stage_pulls().await);
    let claimers = (0..6).map(|_| {
        let (w, ask) = (Arc::clone(&w), claim(&staged, LONG));
        tokio::spawn(async move { w.tasks.claim_pulls(&ask).await.unwrap().tasks.len() })
    });
    let won: usize = futures::future::try_join_all(claimers)
        .await
        .unwrap()
        .into_iter()
        .sum();
    assert_eq!(won, 1);
    // A push cannot be claimed as a pull or the other way round.
    assert!(w.claim_ids(&staged, LONG).await.is_empty());
}

/// C2: the next worker begins where the last page was durable.
pub async fn an_expired_pull_goes_on_after_its_checkpoint(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let run = w.running(&["units"]).await;
    let pull = w.claim_pulls(SHORT).await.remove(0);
    let page = Checkpoint {
        lease_for: SHORT,
        ..checkpoint(&pull, 1, None)
    };
    assert!(w.tasks.checkpoint(&page).await.unwrap());
    let ask = claim(&[pull.lease.task_id], LONG);
    let taken = eventually(async || w.tasks.claim_pulls(&ask).await.unwrap().tasks.pop()).await;
    assert_eq!(taken.progress, Some(json!({"page": 1})));
    assert!(taken.lease.epoch > pull.lease.epoch);
    assert_eq!(counts(&w, run).await, read(1));
}

/// C2: whoever lost the lease can neither move the cursor nor count nor spawn.
pub async fn a_fenced_pull_changes_nothing(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let run = w.running(&["units"]).await;
    let sleeper = w.claim_pulls(SHORT).await.remove(0);
    let ask = claim(&[sleeper.lease.task_id], LONG);
    let taken = eventually(async || w.tasks.claim_pulls(&ask).await.unwrap().tasks.pop()).await;
    let late = checkpoint(&sleeper, 7, Some(state("{}", 7)));
    assert!(!w.tasks.checkpoint(&late).await.unwrap());
    let done = PullNext::Done {
        state: Some(state("{}", 8)),
        counts: read(8),
        spawn: vec![sleeper.spec.clone()],
    };
    assert!(!w.settle_pull(&sleeper, done).await);
    assert_eq!(counts(&w, run).await, RunCounts::default());
    assert_eq!(w.number("select count(*) from sync_queue").await, 1);
    assert_eq!(w.number("select count(*) from sync_state").await, 0);
    assert_eq!(w.number("select count(*) from task_attempts").await, 0);
    assert!(
        w.tasks
            .checkpoint(&checkpoint(&taken, 1, None))
            .await
            .unwrap()
    );
}

/// O5: as for pushes.
pub async fn a_failed_pull_waits_and_keeps_its_progress(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.running(&["units"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    w.tasks
        .checkpoint(&checkpoint(&pull, 3, None))
        .await
        .unwrap();
    let settle = async |pull: &PullTask, next| {
        let settlement = PullSettlement {
            lease: pull.lease,
            attempt: attempt(Some(failure(ErrorClass::Network))),
            next,
        };
        assert!(w.tasks.settle_pull(&settlement).await.unwrap());
    };
    let soon = Duration::from_millis(50);
    settle(&pull, PullNext::Retry { after: soon }).await;
    w.tasks.advance_runs().await.unwrap();
    let again = async || {
        eventually(async || {
            w.rescue().await;
            w.claim_pulls(LONG).await.pop()
        })
        .await
    };
    let pull = again().await;
    assert_eq!((pull.retry_count, pull.max_retries), (1, 3));
    assert_eq!(pull.progress, Some(json!({"page": 3})));
    settle(&pull, PullNext::Snooze { after: soon }).await;
    let pull = again().await;
    assert_eq!(pull.retry_count, 1);
    let hour = Duration::from_secs(3_600);
    settle(&pull, PullNext::Retry { after: hour }).await;
    assert_eq!(w.wake().await, 0);
    assert_eq!(w.number("select count(*) from task_attempts").await, 3);
}

/// The newest one wins; other streams and connections have their own.
pub async fn cursors_are_kept_per_stream_and_partition(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.running(&["units"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    for (page, partition) in [(1, "{\"p\":1}"), (2, "{\"p\":2}"), (3, "{\"p\":1}")] {
        let page = checkpoint(&pull, page, Some(state(partition, page)));
        assert!(w.tasks.checkpoint(&page).await.unwrap());
    }
    let done = PullNext::Done {
        state: Some(state("{\"p\":3}", 4)),
        counts: RunCounts::default(),
        spawn: Vec::new(),
    };
    assert!(w.settle_pull(&pull, done).await);
    let mut kept = w.tasks.stream_states(w.source, "units").await.unwrap();
    kept.sort_by(|a, b| a.partition.cmp(&b.partition));
    assert_eq!(
        kept,
        [
            state("{\"p\":1}", 3),
            state("{\"p\":2}", 2),
            state("{\"p\":3}", 4)
        ]
    );
    let none = w.tasks.stream_states(w.source, "residents").await.unwrap();
    assert!(none.is_empty());
    let theirs = w
        .tasks
        .stream_states(w.other_source, "units")
        .await
        .unwrap();
    assert!(theirs.is_empty());
}

/// C3.
pub async fn a_dry_run_keeps_no_cursor(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let new = NewRun {
        dry_run: true,
        ..w.new_run(&["units"])
    };
    let run = w.tasks.start_run(&new).await.unwrap().id;
    w.tasks.advance_runs().await.unwrap();
    let pull = w.claim_pulls(LONG).await.remove(0);
    assert!(pull.spec.dry_run);
    let page = checkpoint(&pull, 1, Some(state("{}", 1)));
    assert!(w.tasks.checkpoint(&page).await.unwrap());
    let done = PullNext::Done {
        state: Some(state("{}", 2)),
        counts: read(1),
        spawn: Vec::new(),
    };
    assert!(w.settle_pull(&pull, done).await);
    assert_eq!(w.number("select count(*) from sync_state").await, 0);
    assert_eq!(counts(&w, run).await, read(2));
}

/// C1: each count arrives in its own column, by checkpoint and by settlement.
pub async fn all_counts_are_added_up(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let run = w.running(&["units"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    let some = RunCounts {
        read: 1,
        stored: 2,
        created: 3,
        updated: 4,
        deleted: 5,
        unchanged: 6,
        stale: 7,
        conflicts: 8,
        rejected: 9,
        skipped: 10,
        bytes: 5_000_000_000,
        calls: 12,
    };
    let page = Checkpoint {
        counts: some,
        ..checkpoint(&pull, 1, None)
    };
    assert!(w.tasks.checkpoint(&page).await.unwrap());
    assert_eq!(counts(&w, run).await, some);
    let done = PullNext::Done {
        state: None,
        counts: some,
        spawn: Vec::new(),
    };
    assert!(w.settle_pull(&pull, done).await);
    let mut twice = some;
    twice.add(&some);
    assert_eq!(counts(&w, run).await, twice);
}
