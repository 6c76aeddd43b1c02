//! Cases of [`crate::TaskStore`]: what blocks, cycles, and parents nobody has seen (promise O7).

use std::{sync::Arc, time::Duration};

use sluice_core::{ErrorClass, TaskId, record::CanonicalRecord, run::RunState, task::TaskState};

use super::sql::{LOCATION, REQUEST, SqlFixture, World, location, location_ref, request};
use crate::{
    dead_letter::DeadLetterFilter,
    dependency::{BlockReason, BlockedFound, BlockedLook, BlockerQuery},
    run::NewRun,
    task::{PushNext, PushTask},
};

/// The cases of this file.
#[macro_export]
macro_rules! task_blocked_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            task_blocked,
            [
                blockers_tell_how_many_wait_and_why,
                a_cycle_surfaces_as_dead_letters,
                a_chain_without_end_in_itself_is_left_alone,
                a_missing_parent_is_named_once_in_a_while,
                few_missing_parents_are_fetched_at_once,
                background_runs_do_not_count,
            ]
        );
    };
}

const HOUR: Duration = Duration::from_secs(3_600);

/// A location that is part of another one.
fn part(source_id: &str, of: &str) -> CanonicalRecord {
    CanonicalRecord {
        parents: vec![location_ref(of)],
        ..location(source_id, 1, 100)
    }
}

/// Claims everything and blocks those with a parent on their first one; returns the others.
async fn block(w: &World) -> Vec<PushTask> {
    let mut others = Vec::new();
    for task in w.claim_all().await {
        match task.parents.first() {
            Some(link) => {
                let on = link.parent.clone();
                assert!(w.settle(&task, PushNext::Blocked { on }).await);
            }
            None => others.push(task),
        }
    }
    others
}

fn look() -> BlockedLook {
    BlockedLook {
        after: None,
        limit: 100,
        again_after: HOUR,
        fetches: 10,
    }
}

async fn looked(w: &World, look: &BlockedLook) -> BlockedFound {
    w.tasks.look_at_blocked(look).await.unwrap()
}

fn names(found: &BlockedFound) -> Vec<&str> {
    found
        .missing
        .iter()
        .map(|parent| &*parent.record.source_id)
        .collect()
}

async fn reasons(w: &World) -> Vec<(String, u64, BlockReason)> {
    let query = BlockerQuery {
        organization_id: w.organization,
        connection_id: Some(w.one),
        limit: 10,
    };
    let found = w.tasks.blockers(&query).await.unwrap();
    let theirs = BlockerQuery {
        organization_id: w.other,
        ..query.clone()
    };
    assert!(w.tasks.blockers(&theirs).await.unwrap().is_empty());
    let elsewhere = BlockerQuery {
        connection_id: Some(w.lessen),
        ..query
    };
    assert!(w.tasks.blockers(&elsewhere).await.unwrap().is_empty());
    found
        .into_iter()
        .map(|one| {
            assert_eq!(&*one.target, "one");
            (one.record, one.waiting, one.reason)
        })
        .collect()
}

pub async fn blockers_tell_how_many_wait_and_why(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    assert!(reasons(&w).await.is_empty());
    w.apply_one(location("bad", 1, 100)).await;
    w.apply_one(part("inner", "nowhere")).await;
    for (n, parent) in ["bad", "bad", "bad", "inner", "inner", "a/b"]
        .iter()
        .enumerate()
    {
        w.apply_one(request(&format!("r{n}"), 1, parent)).await;
    }
    let bad = block(&w).await.remove(0);
    let name = |id: &str| format!("yardi/Location/{id}");
    let expected = |bad| {
        vec![
            (name("bad"), 3, bad),
            (name("inner"), 2, BlockReason::Blocked),
            (name("nowhere"), 1, BlockReason::Unseen),
            (name("a/b"), 1, BlockReason::Unseen),
        ]
    };
    assert_eq!(reasons(&w).await, expected(BlockReason::OnItsWay));
    let hour = PushNext::Retry { after: HOUR };
    assert!(w.fail(&bad, ErrorClass::Network, hour).await);
    assert_eq!(reasons(&w).await, expected(BlockReason::Retrying));
    let totals = w.tasks.blocked_totals().await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!((totals[0].connection_id, totals[0].count), (w.one, 7));
}

/// A waits for B, B for A, and one waits for itself; who waits for them is no part of it.
pub async fn a_cycle_surfaces_as_dead_letters(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![
        part("a", "b"),
        part("b", "a"),
        part("self", "self"),
        part("outside", "a"),
    ])
    .await;
    assert!(block(&w).await.is_empty());
    let found = looked(&w, &look()).await;
    assert_eq!((found.cycles, found.next), (3, None));
    let all = DeadLetterFilter::all(w.organization);
    let letters = w.tasks.dead_letters(&all).await.unwrap().items;
    let mut dead: Vec<_> = letters.iter().map(|one| &*one.entity_id).collect();
    dead.sort_unstable();
    assert_eq!(dead, ["yardi:a", "yardi:b", "yardi:self"]);
    assert!(letters.iter().all(|one| one.code == "dependency_cycle"));
    let outside = w.history(LOCATION, "outside").await.pushes.remove(0);
    assert_eq!(outside.state, TaskState::Waiting);
    assert_eq!(reasons(&w).await[0].2, BlockReason::Dead);
    assert_eq!(looked(&w, &look()).await.cycles, 0);
    // A new version without the fault is sent.
    w.apply_one(location("a", 2, 200)).await;
    assert!(w.deliver(&w.claim_single().await).await);
    assert_eq!(w.claim_single().await.source_id, "outside");
}

pub async fn a_chain_without_end_in_itself_is_left_alone(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("n0", 1, 100)).await;
    for n in 1..40 {
        w.apply_one(part(&format!("n{n}"), &format!("n{}", n - 1)))
            .await;
    }
    assert_eq!(block(&w).await.len(), 1);
    // In pages, to the end.
    let mut page = BlockedLook {
        limit: 15,
        ..look()
    };
    let mut pages = 0;
    loop {
        let found = looked(&w, &page).await;
        assert_eq!((found.cycles, found.missing.len()), (0, 0));
        pages += 1;
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(
        looked(
            &w,
            &BlockedLook {
                after: Some(TaskId(i64::MAX)),
                ..look()
            }
        )
        .await,
        BlockedFound::default()
    );
}

pub async fn a_missing_parent_is_named_once_in_a_while(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("known", 1, 100)).await;
    w.apply(vec![
        request("r1", 1, "gone"),
        request("r2", 1, "gone"),
        request("r3", 1, "known"),
    ])
    .await;
    block(&w).await;
    let found = looked(&w, &look()).await;
    assert_eq!(names(&found), ["gone"]);
    assert_eq!(found.missing[0].organization_id, w.organization);
    assert_eq!(found.missing[0].source_connection_id, w.source);
    assert_eq!(found.missing[0].record, location_ref("gone"));
    assert!(looked(&w, &look()).await.missing.is_empty());
    let later = BlockedLook {
        again_after: Duration::ZERO,
        ..look()
    };
    assert_eq!(names(&looked(&w, &later).await), ["gone"]);
    // Once it is read, it is not missing, and its delivery releases those who wait.
    w.apply_one(location("gone", 1, 100)).await;
    assert!(looked(&w, &later).await.missing.is_empty());
    assert!(w.deliver(&w.claim_single().await).await);
    let mut released: Vec<_> = w
        .claim_all()
        .await
        .into_iter()
        .map(|task| task.source_id)
        .collect();
    released.sort_unstable();
    assert_eq!(released, ["r1", "r2"]);
    assert_eq!(w.history(REQUEST, "r3").await.pushes[0].retry_count, 0);
}

pub async fn few_missing_parents_are_fetched_at_once(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(
        (0..5)
            .map(|n| request(&format!("r{n}"), 1, &format!("p{n}")))
            .collect(),
    )
    .await;
    block(&w).await;
    let few = BlockedLook {
        fetches: 2,
        ..look()
    };
    assert_eq!(names(&looked(&w, &few).await), ["p0", "p1"]);
    let fetch = |w: &World| NewRun {
        background: true,
        ..w.new_run(&["units"])
    };
    let id = w.tasks.start_run(&fetch(&w)).await.unwrap().id;
    assert_eq!(names(&looked(&w, &few).await), ["p2"]);
    w.tasks.start_run(&fetch(&w)).await.unwrap();
    assert!(looked(&w, &few).await.missing.is_empty());
    w.tasks
        .change_run(w.organization, id, RunState::Cancelled, "test")
        .await
        .unwrap();
    assert_eq!(names(&looked(&w, &few).await), ["p3"]);
}

/// C1 is about what people start.
pub async fn background_runs_do_not_count(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let fetch = NewRun {
        background: true,
        ..w.new_run(&["units"])
    };
    for _ in 0..6 {
        w.tasks.start_run(&fetch).await.unwrap();
    }
    for _ in 0..5 {
        w.tasks.start_run(&w.new_run(&["units"])).await.unwrap();
    }
    let refused = w.tasks.start_run(&w.new_run(&["units"])).await;
    assert_eq!(refused.unwrap_err().code(), "too_many_runs");
    w.tasks.start_run(&fetch).await.unwrap();
}
