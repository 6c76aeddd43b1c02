//! Cases of [`crate::MasterStore`].

use std::sync::Arc;

use serde_json::json;
use sluice_core::{MasterId, change::Change, task::TaskState};

use super::sql::{
    LOCATION, SqlFixture, World, catalogue_spec, connection_spec, gone, location, request,
};
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
                a_batch_is_applied_whole_or_not_at_all,
                a_batch_with_a_repeated_record_is_refused,
                results_come_in_the_order_of_the_records,
                a_thousand_records_are_one_batch,
                a_dry_run_decides_and_writes_nothing,
                both_sides_changed_is_a_conflict,
                versions_keep_their_content,
                what_is_no_longer_configured_stays_but_is_not_listed,
                registering_twice_gives_the_same_ids,
                a_flow_to_nowhere_is_refused,
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
    // Migrating may close the connection it used.
    master.ping().await.unwrap();
    let open = master.connections();
    assert!(open.idle + open.used > 0, "{open:?}");
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
        json!(2)
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
    assert_eq!(history.record.data["content"], json!(1));
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

/// M1: when one record cannot be written, none is.
pub async fn a_batch_is_applied_whole_or_not_at_all(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    // The last statements of a batch write the pushes; this one cannot.
    let mut batch = w.batch(vec![location("p1", 2, 200), location("p2", 1, 200)]);
    for route in &mut batch.routes {
        route.connection_id = sluice_core::ConnectionId(999_999);
    }
    assert!(w.master.apply(&batch).await.is_err());
    assert_eq!(w.number("select count(*) from sync_master_data").await, 1);
    assert_eq!(w.number("select count(*) from data_versions").await, 1);
    assert_eq!(w.number("select count(*) from links").await, 1);
    assert_eq!(
        w.number("select max(wanted_version) from sync_queue").await,
        1
    );
    // And the connection that failed is still good for the next batch.
    assert_eq!(
        w.apply_one(location("p1", 2, 200)).await.change,
        Change::Update
    );
}

/// Which of two copies is the newer one is the caller's to say.
pub async fn a_batch_with_a_repeated_record_is_refused(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let batch = w.batch(vec![location("p1", 1, 100), location("p1", 2, 200)]);
    let error = w.master.apply(&batch).await.unwrap_err();
    assert_eq!(error.code(), "batch_repeats_record");
    assert_eq!(w.number("select count(*) from sync_master_data").await, 0);
}

/// New, changed, unchanged, stale and deleted records of one batch, in no order of their keys.
pub async fn results_come_in_the_order_of_the_records(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![
        location("same", 1, 100),
        location("changed", 1, 100),
        location("late", 1, 100),
        location("gone", 1, 100),
    ])
    .await;
    let applied = w
        .apply(vec![
            location("zz-new", 1, 100),
            gone(location("gone", 1, 200)),
            location("late", 2, 50),
            location("changed", 2, 200),
            location("same", 1, 100),
            location("aa-new", 1, 100),
        ])
        .await;
    let changes: Vec<_> = applied.iter().map(|one| one.change).collect();
    assert_eq!(
        changes,
        [
            Change::Create,
            Change::Delete,
            Change::Stale,
            Change::Update,
            Change::Unchanged,
            Change::Create
        ]
    );
    for (applied, source_id) in applied.iter().zip(["zz-new", "gone", "late", "changed"]) {
        let record = w.history(LOCATION, source_id).await.record;
        assert_eq!(applied.master_id, Some(record.id));
        assert_eq!(applied.version, record.version);
    }
}

/// The largest batch the contract allows, and the first one it does not.
pub async fn a_thousand_records_are_one_batch(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let records = |count: i64| {
        (0..count)
            .map(|n| location(&format!("p{n}"), n, 100))
            .collect()
    };
    let applied = w.apply(records(1_000)).await;
    assert_eq!(applied.len(), 1_000);
    assert!(applied.iter().all(|one| one.pushes == 1));
    let error = w.master.apply(&w.batch(records(1_001))).await.unwrap_err();
    assert_eq!(error.code(), "batch_too_large");
    assert!(w.apply(Vec::new()).await.is_empty());
}

/// C3: the same decisions, no row.
pub async fn a_dry_run_decides_and_writes_nothing(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply(vec![location("p1", 1, 100), location("p2", 1, 100)])
        .await;
    let mut batch = w.batch(vec![
        location("p1", 2, 200),
        gone(location("p2", 1, 200)),
        location("p3", 1, 200),
    ]);
    batch.dry_run = true;
    let applied = w.master.apply(&batch).await.unwrap();
    let seen: Vec<_> = applied
        .iter()
        .map(|one| (one.change, one.version, one.pushes))
        .collect();
    assert_eq!(
        seen,
        [
            (Change::Update, 2, 1),
            (Change::Delete, 2, 1),
            (Change::Create, 1, 1)
        ]
    );
    assert!(applied[0].master_id.is_some());
    assert_eq!(applied[2].master_id, None::<MasterId>);
    assert_eq!(w.number("select count(*) from sync_master_data").await, 2);
    assert_eq!(w.number("select count(*) from data_versions").await, 2);
    assert_eq!(
        w.number("select max(wanted_version) from sync_queue").await,
        1
    );
    batch.dry_run = false;
    let wet = w.master.apply(&batch).await.unwrap();
    for (dry, wet) in applied.iter().zip(&wet) {
        assert_eq!(
            (dry.change, dry.version, dry.pushes),
            (wet.change, wet.version, wet.pushes)
        );
    }
}

/// S2: neither side is overwritten; one open conflict holds the newest inbound content.
pub async fn both_sides_changed_is_a_conflict(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    w.apply_one(location("p1", 2, 200)).await;
    // As if version 2 had been made on our side: what both agreed on is version 1.
    w.fixture.execute("update links set base_version = 1").await;
    for (content, at) in [(3, 300), (4, 400)] {
        let applied = w.apply_one(location("p1", content, at)).await;
        assert_eq!(
            (applied.change, applied.version, applied.pushes),
            (Change::Conflict, 2, 0)
        );
    }
    // The same again is nothing new.
    assert_eq!(
        w.apply_one(location("p1", 4, 400)).await.change,
        Change::Unchanged
    );
    assert_eq!(
        w.number("select count(*) from sync_conflict where state = 'open' and master_version = 2 and base_version = 1")
            .await,
        1
    );
    assert_eq!(w.number("select count(*) from data_versions").await, 2);
    assert_eq!(
        w.history(LOCATION, "p1").await.record.data["content"],
        json!(2)
    );
}

/// Every version keeps what it was, to the letter, and in the order of its keys.
pub async fn versions_keep_their_content(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let mut record = location("p/1 'ü\"", 1, 100);
    record.data = json!({
        "zz": [1, 2.5, -0.0, 9_007_199_254_740_993_i64, u64::MAX, true, null],
        "aa": {"text": "quote \" back \\ slash / tab \t newline \n \u{1f3e0} \u{7f}", "": {}},
        "long": "x".repeat(100_000),
    });
    let first = record.clone();
    w.apply_one(first.clone()).await;
    record.data = json!(["another", "shape"]);
    record.modified_at = sluice_core::Timestamp::from_timestamp_micros(200_000_001);
    w.apply_one(record.clone()).await;
    let history = w.history(LOCATION, &first.source_id).await;
    let numbers: Vec<_> = history.versions.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(history.versions[0].data, first.data);
    assert_eq!(history.versions[0].data.to_string(), first.data.to_string());
    assert_eq!(history.versions[0].hash, first.hash());
    assert_eq!(history.record.data, record.data);
    assert_eq!(history.record.data_hash, record.hash());
    assert_eq!(history.links[0].connection, "yardi");
    assert_eq!(history.links[0].base_version, Some(2));
    assert_eq!(history.links[0].last_seen_hash, Some(record.hash()));
}

/// Rows refer to connections, so their ids stay for ever.
pub async fn what_is_no_longer_configured_stays_but_is_not_listed(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    w.apply_one(location("p1", 1, 100)).await;
    let mut spec = catalogue_spec();
    spec.connections.retain(|one| one.name != "lessen");
    spec.flows.retain(|one| one.organization != "other");
    let fewer = w.master.register(&spec).await.unwrap();
    assert!(fewer.connection(w.organization, "lessen").is_none());
    assert!(fewer.flow(w.other, "yardi-to-one").is_none());
    assert_eq!(fewer.connection(w.organization, "one").unwrap().id, w.one);
    assert_eq!(w.master.catalogue().await.unwrap(), fewer);
    let again = w.master.register(&catalogue_spec()).await.unwrap();
    assert_eq!(
        again.connection(w.organization, "lessen").unwrap().id,
        w.lessen
    );
}

/// Several replicas register at their start; a changed setting is taken over.
pub async fn registering_twice_gives_the_same_ids(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let before = w.master.catalogue().await.unwrap();
    let starts = (0..4).map(|_| {
        let master = Arc::clone(&w.master);
        tokio::spawn(async move { master.register(&catalogue_spec()).await.unwrap() })
    });
    for after in futures::future::try_join_all(starts).await.unwrap() {
        assert_eq!(after, before);
    }
    let mut spec = catalogue_spec();
    spec.connections[0].concurrency = 9;
    spec.connections.push(connection_spec("acme", "new"));
    let after = w.master.register(&spec).await.unwrap();
    let yardi = after.connection(w.organization, "yardi").unwrap();
    assert_eq!((yardi.id, yardi.spec.concurrency), (w.source, 9));
    assert!(after.connection(w.organization, "new").is_some());
    assert!(after.connection(w.other, "new").is_none());
}

/// C4: a flow cannot reach another organization's connection either.
pub async fn a_flow_to_nowhere_is_refused(fixture: Arc<dyn SqlFixture>) {
    let w = World::new(fixture).await;
    let before = w.master.catalogue().await.unwrap();
    let mut spec = catalogue_spec();
    spec.flows[1].targets[0].connection = "lessen".into();
    let error = w.master.register(&spec).await.unwrap_err();
    assert_eq!(error.code(), "connection_unknown");
    let mut spec = catalogue_spec();
    spec.connections[0].organization = "nobody".into();
    let error = w.master.register(&spec).await.unwrap_err();
    assert_eq!(error.code(), "organization_unknown");
    assert_eq!(w.master.catalogue().await.unwrap(), before);
}
