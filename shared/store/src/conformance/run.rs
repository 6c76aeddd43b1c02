//! Cases of the run part of [`crate::TaskStore`].

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_core::{
    ErrorClass, RunId,
    run::{RunCounts, RunKind, RunState},
};

use super::sql::{LONG, SqlFixture, World, attempt, claim, failure, ids, location};
use crate::{
    run::{NewRun, RunDetail, RunQuery, StepState},
    task::{Checkpoint, PullNext, PullSettlement, PullTask},
};

/// The cases of this file.
#[macro_export]
macro_rules! run_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            run,
            [
                steps_run_one_after_the_other,
                one_key_is_one_run,
                at_most_five_runs_are_active,
                only_legal_transitions,
                a_cancelled_run_stops_at_once,
                a_paused_run_stops_and_resumes_where_it_was,
                the_ending_tells_what_failed,
                runs_are_listed_newest_first,
                runs_of_another_organization_are_unknown,
                closed_runs_are_pruned,
            ]
        );
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
    let state = |detail: &RunDetail| detail.run.state;
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
            slice: Some(json!({"n": n})),
            ..plan.spec.clone()
        };
        let done = |spawn| PullNext::Done {
            state: None,
            counts: RunCounts::default(),
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

async fn detail(w: &World, id: RunId) -> RunDetail {
    w.tasks.run(w.organization, id).await.unwrap().unwrap()
}

fn done(counts: RunCounts) -> PullNext {
    PullNext::Done {
        state: None,
        counts,
        spawn: Vec::new(),
    }
}

async fn change(w: &World, id: RunId, to: RunState) -> Result<RunState, &'static str> {
    w.tasks
        .change_run(w.organization, id, to, "a test wants it")
        .await
        .map(|run| run.state)
        .map_err(|error| error.code())
}

/// C1: whoever comes second, also at the same moment, gets the first one's run.
pub async fn one_key_is_one_run(fixture: Arc<dyn SqlFixture>) {
    let w = Arc::new(World::new(fixture).await);
    let keyed = NewRun {
        idempotency_key: Some("nightly".into()),
        ..w.new_run(&["units"])
    };
    let starts = (0..6).map(|_| {
        let (w, keyed) = (Arc::clone(&w), keyed.clone());
        tokio::spawn(async move { w.tasks.start_run(&keyed).await.unwrap() })
    });
    let started = futures::future::try_join_all(starts).await.unwrap();
    assert!(started.iter().all(|one| one.id == started[0].id));
    assert_eq!(started.iter().filter(|one| !one.existed).count(), 1);
    assert_eq!(w.number("select count(*) from sync_queue").await, 1);
    // Also when the run has ended, and not in another organization.
    change(&w, started[0].id, RunState::Cancelled)
        .await
        .unwrap();
    assert!(w.tasks.start_run(&keyed).await.unwrap().existed);
    let theirs = NewRun {
        organization_id: w.other,
        connection_id: w.other_source,
        ..keyed
    };
    assert!(!w.tasks.start_run(&theirs).await.unwrap().existed);
}

/// C1: per organization, counted under concurrent starts, and on resuming too.
pub async fn at_most_five_runs_are_active(fixture: Arc<dyn SqlFixture>) {
    let w = Arc::new(World::new(fixture).await);
    let starts = (0..8).map(|_| {
        let w = Arc::clone(&w);
        tokio::spawn(async move { w.tasks.start_run(&w.new_run(&["units"])).await })
    });
    let started = futures::future::try_join_all(starts).await.unwrap();
    let mut runs = Vec::new();
    for one in started {
        match one {
            Ok(one) => runs.push(one.id),
            Err(error) => assert_eq!(error.code(), "too_many_runs"),
        }
    }
    assert_eq!(runs.len(), 5);
    let theirs = NewRun {
        organization_id: w.other,
        connection_id: w.other_source,
        ..w.new_run(&["units"])
    };
    w.tasks.start_run(&theirs).await.unwrap();
    assert_eq!(w.tasks.advance_runs().await.unwrap().len(), 6);
    change(&w, runs[0], RunState::Paused).await.unwrap();
    let sixth = w.tasks.start_run(&w.new_run(&["units"])).await.unwrap();
    assert_eq!(
        change(&w, runs[0], RunState::Running).await,
        Err("too_many_runs")
    );
    change(&w, sixth.id, RunState::Cancelled).await.unwrap();
    assert_eq!(
        change(&w, runs[0], RunState::Running).await,
        Ok(RunState::Running)
    );
    let none = w.tasks.start_run(&w.new_run(&[])).await.unwrap_err();
    assert_eq!(none.code(), "run_without_streams");
}

/// C1: every pair of states, as the core says.
pub async fn only_legal_transitions(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    for from in RunState::ALL {
        for to in RunState::ALL {
            let id = w.tasks.start_run(&w.new_run(&["units"])).await.unwrap().id;
            // The shortest legal way to the state.
            if from != RunState::Queued && from != RunState::Cancelled {
                change(&w, id, RunState::Running).await.unwrap();
            }
            change(&w, id, from).await.unwrap();
            let changed = change(&w, id, to).await;
            if from == to || from.may_become(to) {
                assert_eq!(changed, Ok(to), "{from:?} to {to:?}");
            } else {
                assert_eq!(changed, Err("run_transition_refused"), "{from:?} to {to:?}");
                assert_eq!(detail(&w, id).await.run.state, from);
            }
            let left = detail(&w, id).await;
            assert_eq!(left.run.finished_at.is_some(), left.run.state.is_final());
            assert!(!left.activity.is_empty());
            if !left.run.state.is_final() {
                change(&w, id, RunState::Cancelled).await.unwrap();
            }
        }
    }
}

/// Nothing is staged, claimed, stored or settled after it.
pub async fn a_cancelled_run_stops_at_once(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = w.running(&["units", "residents"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    change(&w, id, RunState::Cancelled).await.unwrap();
    assert!(!w.tasks.checkpoint(&page(&pull, 1)).await.unwrap());
    assert!(!w.settle_pull(&pull, done(counts(1))).await);
    assert!(w.claim_pulls(LONG).await.is_empty());
    assert!(w.tasks.advance_runs().await.unwrap().is_empty());
    let left = detail(&w, id).await;
    assert_eq!(left.run.counts, RunCounts::default());
    assert!(
        left.steps
            .iter()
            .all(|step| step.state == StepState::Cancelled)
    );
    assert_eq!((left.steps[0].tasks, left.steps[0].tasks_closed), (1, 1));
    assert!(
        left.activity
            .iter()
            .any(|entry| entry.detail == "a test wants it")
    );
}

fn counts(read: u64) -> RunCounts {
    RunCounts {
        read,
        created: read,
        ..RunCounts::default()
    }
}

/// The checkpoint after page `n` with `n` records.
fn page(task: &PullTask, n: u64) -> Checkpoint {
    Checkpoint {
        lease: task.lease,
        progress: json!({"page": n}),
        state: None,
        counts: counts(n),
        lease_for: LONG,
    }
}

/// C1: the page in hand is kept, and after resuming nothing is repeated or skipped.
pub async fn a_paused_run_stops_and_resumes_where_it_was(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = w.running(&["units"]).await;
    let staged = ids(&w.stage_pulls().await);
    change(&w, id, RunState::Paused).await.unwrap();
    let ask = claim(&staged, LONG);
    assert!(w.tasks.claim_pulls(&ask).await.unwrap().tasks.is_empty());
    change(&w, id, RunState::Running).await.unwrap();
    // Whoever asked in vain has used up the message: there is another one at once.
    assert_eq!(ids(&w.stage_pulls().await), staged);
    let pull = w.tasks.claim_pulls(&ask).await.unwrap().tasks.remove(0);
    assert_eq!(pull.progress, None);
    assert!(w.tasks.checkpoint(&page(&pull, 1)).await.unwrap());
    change(&w, id, RunState::Paused).await.unwrap();
    assert!(!w.tasks.checkpoint(&page(&pull, 2)).await.unwrap());
    let now = Duration::ZERO;
    assert!(w.settle_pull(&pull, PullNext::Snooze { after: now }).await);
    w.rescue().await;
    assert!(w.claim_pulls(LONG).await.is_empty());
    assert!(w.tasks.advance_runs().await.unwrap().is_empty());
    change(&w, id, RunState::Running).await.unwrap();
    let pull = w.claim_pulls(LONG).await.remove(0);
    assert_eq!(pull.progress, Some(json!({"page": 2})));
    assert_eq!(pull.retry_count, 0);
    assert!(w.settle_pull(&pull, done(counts(3))).await);
    w.tasks.advance_runs().await.unwrap();
    let run = detail(&w, id).await.run;
    assert_eq!((run.state, run.counts), (RunState::Done, counts(6)));
}

/// A failed step does not stop the next one.
pub async fn the_ending_tells_what_failed(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    for (reads, expected) in [(0, RunState::Failed), (5, RunState::Partial)] {
        let id = w.running(&["units", "residents"]).await;
        let pull = w.claim_pulls(LONG).await.remove(0);
        let dead = PullSettlement {
            lease: pull.lease,
            attempt: attempt(Some(failure(ErrorClass::Auth))),
            next: PullNext::Dead,
        };
        assert!(w.tasks.settle_pull(&dead).await.unwrap());
        assert!(!w.tasks.settle_pull(&dead).await.unwrap());
        assert_eq!(w.tasks.advance_runs().await.unwrap().len(), 1);
        let pull = w.claim_pulls(LONG).await.remove(0);
        assert_eq!(pull.spec.stream, "residents");
        w.settle_pull(&pull, done(counts(reads))).await;
        let ended = w.tasks.advance_runs().await.unwrap();
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].id, ended[0].state), (id, expected));
        let left = detail(&w, id).await;
        assert_eq!(left.run.error.as_deref(), Some("the target said no"));
        let steps: Vec<_> = left
            .steps
            .iter()
            .map(|step| (step.state, step.tasks_dead))
            .collect();
        assert_eq!(steps, [(StepState::Failed, 1), (StepState::Done, 0)]);
        assert!(w.tasks.advance_runs().await.unwrap().is_empty());
    }
    let id = w.running(&["units"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    let rejected = RunCounts {
        read: 2,
        created: 1,
        rejected: 1,
        ..RunCounts::default()
    };
    w.settle_pull(&pull, done(rejected)).await;
    w.tasks.advance_runs().await.unwrap();
    assert_eq!(detail(&w, id).await.run.state, RunState::Partial);

    let new = NewRun {
        kind: RunKind::Single,
        record: Some("nobody".into()),
        ..w.new_run(&["units"])
    };
    let id = w.tasks.start_run(&new).await.unwrap().id;
    w.tasks.advance_runs().await.unwrap();
    let pull = w.claim_pulls(LONG).await.remove(0);
    w.settle_pull(&pull, done(counts(0))).await;
    w.tasks.advance_runs().await.unwrap();
    let run = detail(&w, id).await.run;
    assert_eq!(run.state, RunState::Failed);
    assert!(run.error.unwrap().starts_with("record_not_found"));
}

pub async fn runs_are_listed_newest_first(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut started = Vec::new();
    for n in 0..4 {
        let new = NewRun {
            flow: if n == 2 { "another" } else { "yardi-to-one" }.into(),
            kind: RunKind::Single,
            record: Some("p1".into()),
            since: sluice_core::Timestamp::from_timestamp_micros(1_700_000_000_123_456),
            dry_run: true,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..w.new_run(&["units"])
        };
        started.push((w.tasks.start_run(&new).await.unwrap().id, new));
    }
    change(&w, started[0].0, RunState::Cancelled).await.unwrap();
    let all = RunQuery {
        organization_id: w.organization,
        flow: None,
        state: None,
        after: None,
        limit: 2,
    };
    let list = async |query: &RunQuery| -> Vec<RunId> {
        let runs = w.tasks.runs(query).await.unwrap();
        runs.iter().map(|run| run.id).collect()
    };
    assert_eq!(list(&all).await, [started[3].0, started[2].0]);
    let next = RunQuery {
        after: Some(started[2].0),
        ..all.clone()
    };
    assert_eq!(list(&next).await, [started[1].0, started[0].0]);
    let flow = RunQuery {
        flow: Some("another".into()),
        ..all.clone()
    };
    assert_eq!(list(&flow).await, [started[2].0]);
    let cancelled = RunQuery {
        state: Some(RunState::Cancelled),
        ..all
    };
    assert_eq!(list(&cancelled).await, [started[0].0]);
    let run = detail(&w, started[1].0).await.run;
    assert_eq!((run.kind, run.dry_run), (RunKind::Single, true));
    assert_eq!((&*run.requested_by, &*run.flow), ("test", "yardi-to-one"));
    assert_eq!((run.started_at, run.finished_at), (None, None));
    w.tasks.advance_runs().await.unwrap();
    let pull = w.claim_pulls(LONG).await.remove(0);
    let new = &started[1].1;
    assert_eq!(pull.run_id, started[1].0);
    assert_eq!((pull.run_kind, &pull.flow), (new.kind, &new.flow));
    assert_eq!(
        (pull.spec.since, &pull.spec.record),
        (new.since, &new.record)
    );
    assert_eq!((pull.spec.dry_run, pull.max_retries), (true, 3));
    assert_eq!(pull.traceparent, new.traceparent);
}

/// C4: neither shown, nor changed, nor started with another one's connection.
pub async fn runs_of_another_organization_are_unknown(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let id = w.running(&["units"]).await;
    assert!(w.tasks.run(w.other, id).await.unwrap().is_none());
    let theirs = RunQuery {
        organization_id: w.other,
        flow: None,
        state: None,
        after: None,
        limit: 10,
    };
    assert!(w.tasks.runs(&theirs).await.unwrap().is_empty());
    let error = w
        .tasks
        .change_run(w.other, id, RunState::Cancelled, "")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "run_unknown");
    let stolen = NewRun {
        connection_id: w.other_source,
        ..w.new_run(&["units"])
    };
    let error = w.tasks.start_run(&stolen).await.unwrap_err();
    assert_eq!(error.code(), "connection_unknown");
    assert_eq!(detail(&w, id).await.run.state, RunState::Running);
}

/// What is open, or younger than asked, stays; master data always does.
pub async fn closed_runs_are_pruned(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let closed = w.running(&["units"]).await;
    let pull = w.claim_pulls(LONG).await.remove(0);
    w.settle_pull(&pull, done(RunCounts::default())).await;
    w.tasks.advance_runs().await.unwrap();
    let open = w.running(&["units"]).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let tasks = w.claim_all().await;
    w.deliver(&tasks[0]).await;
    w.fail(
        &tasks[1],
        ErrorClass::Validation,
        crate::task::PushNext::Dead,
    )
    .await;
    // The attempts of these tests are from 2023.
    let years = Duration::from_secs(20 * 365 * 24 * 3_600);
    assert_eq!(w.tasks.prune(years).await.unwrap(), 0);
    assert!(w.tasks.prune(Duration::ZERO).await.unwrap() > 0);
    assert!(w.tasks.run(w.organization, closed).await.unwrap().is_none());
    assert!(w.tasks.run(w.organization, open).await.unwrap().is_some());
    assert_eq!(
        w.number("select count(*) from sync_queue where kind = 'pull'")
            .await,
        1
    );
    assert_eq!(
        w.number("select count(*) from sync_queue where kind = 'push'")
            .await,
        2
    );
    assert_eq!(w.number("select count(*) from data_versions").await, 2);
    // The dead letter's history is still needed.
    assert_eq!(w.number("select count(*) from task_attempts").await, 1);
    assert_eq!(w.number("select count(*) from dead_letters").await, 1);
}
