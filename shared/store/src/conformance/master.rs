//! Cases of [`crate::MasterStore`].

use std::sync::Arc;

use sluice_core::{change::Change, task::TaskState};

use super::sql::{LOCATION, SqlFixture, World, gone, location, request};
use crate::master::SyncStatus;

/// The cases of this file.
#[macro_export]
macro_rules! master_suite {
    ($fixture:path) => {
        $crate::sql_cases!(
            $fixture,
            master,
            [
                several_processes_may_migrate_at_once,
                apply_same_batch_twice_is_one_version,
                an_older_copy_changes_nothing,
                concurrent_writers_leave_no_gap,
                a_deletion_and_a_return_are_versions,
            ]
        );
    };
}

/// Several replicas that start at once migrate exactly once.
pub async fn several_processes_may_migrate_at_once(fixture: Arc<dyn SqlFixture>) {
    let starts = (0..4).map(|_| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            let (master, _) = fixture.open().await;
            master.migrate().await.unwrap()
        })
    });
    let applied: Vec<usize> = futures::future::try_join_all(starts).await.unwrap();
    let (master, _) = fixture.open().await;
    let known = master.migrations().await.unwrap();
    assert!(known.iter().all(|migration| migration.applied), "{known:?}");
    assert_eq!(applied.iter().sum::<usize>(), known.len(), "{applied:?}");
    assert_eq!(master.migrate().await.unwrap(), 0);
}

/// I2: the same batch again makes no version and no push.
pub async fn apply_same_batch_twice_is_one_version(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let batch = || vec![location("p1", 1, 100), request("r1", 1, "p1")];
    let first = w.apply(batch()).await;
    assert!(first.iter().all(|applied| {
        (applied.change, applied.version, applied.pushes) == (Change::Create, 1, 1)
    }));
    let second = w.apply(batch()).await;
    for (before, after) in first.iter().zip(&second) {
        assert_eq!(
            (after.change, after.version, after.pushes, after.master_id),
            (Change::Unchanged, 1, 0, before.master_id)
        );
    }
    assert_eq!(w.number("select count(*) from data_versions").await, 2);
    assert_eq!(w.number("select count(*) from sync_queue").await, 2);
}

/// I6: a late copy of older content is ignored, whoever delivers it.
pub async fn an_older_copy_changes_nothing(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    w.apply_one(location("p1", 2, 200)).await;
    let late = w.apply_one(location("p1", 3, 150)).await;
    assert_eq!(
        (late.change, late.version, late.pushes),
        (Change::Stale, 2, 0)
    );
    // The newest content again, but with a later time: a copy between the two is late as well.
    w.apply_one(location("p1", 2, 400)).await;
    assert_eq!(
        w.apply_one(location("p1", 3, 300)).await.change,
        Change::Stale
    );
    assert_eq!(
        w.history(LOCATION, "p1").await.record.data["content"],
        serde_json::json!(2)
    );
}

/// M1: writers that race for the same records number the versions 1, 2, 3 without a gap, and
/// nobody deadlocks although each has another order.
pub async fn concurrent_writers_leave_no_gap(fixture: Arc<dyn SqlFixture>) {
    const WRITERS: i64 = 6;
    let w = Arc::new(World::new(fixture).await);
    let writers = (0..WRITERS).map(|writer| {
        let w = Arc::clone(&w);
        tokio::spawn(async move {
            let mut records: Vec<_> = (0..20)
                .map(|n| location(&format!("p{n}"), 1_000 + writer, 100))
                .collect();
            if writer % 2 == 0 {
                records.reverse();
            }
            let (master, _) = w.fixture.open().await;
            master.apply(&w.batch(records)).await.unwrap()
        })
    });
    futures::future::try_join_all(writers).await.unwrap();
    assert_eq!(
        w.number("select count(*) from sync_master_data m where m.current_version <> (select count(*) from data_versions v where v.master_data_id = m.id)")
            .await,
        0
    );
    assert_eq!(
        w.number("select count(*) from data_versions").await,
        20 * WRITERS
    );
    assert_eq!(w.number("select count(*) from sync_queue").await, 20);
}

/// I5: a deletion is a version with the last known content; who returns is restored.
pub async fn a_deletion_and_a_return_are_versions(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let ghost = w.apply_one(gone(location("p9", 1, 100))).await;
    assert_eq!(
        (ghost.change, ghost.master_id, ghost.version, ghost.pushes),
        (Change::Unchanged, None, 0, 0)
    );
    w.apply_one(location("p1", 1, 100)).await;
    let deleted = w.apply_one(gone(location("p1", 1, 200))).await;
    assert_eq!(
        (deleted.change, deleted.version, deleted.pushes),
        (Change::Delete, 2, 1)
    );
    let again = w.apply_one(gone(location("p1", 1, 300))).await;
    assert_eq!((again.change, again.version), (Change::Unchanged, 2));
    let history = w.history(LOCATION, "p1").await;
    assert!(history.record.deleted);
    assert_eq!(history.record.data["content"], serde_json::json!(1));
    assert_eq!(history.versions[1].change, Change::Delete);
    assert_eq!(history.record.sync_status, SyncStatus::Pending);
    let task = w.claim_single().await;
    assert!(task.deleted && task.version == 2);
    let back = w.apply_one(location("p1", 1, 400)).await;
    assert_eq!(
        (back.change, back.version, back.pushes),
        (Change::Restore, 3, 1)
    );
    let history = w.history(LOCATION, "p1").await;
    assert!(!history.record.deleted);
    assert_eq!(history.pushes[0].state, TaskState::Running);
    assert_eq!(history.pushes[0].wanted_version, 3);
}
