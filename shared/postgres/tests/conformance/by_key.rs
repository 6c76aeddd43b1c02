//! Statements for a batch find its rows by key, however many others there are and whatever the
//! planner believes: it learns late that a first load has filled the tables, and an index of all
//! that is pending, read once for each record of a batch, looks cheap until then.

use std::{sync::Arc, time::Duration};

use sluice_core::task::PushAction;
use sluice_store::{
    conformance::sql::{
        LOCATION, LONG, SqlFixture, World, delivered, ids, location, request, settlement,
    },
    request::KeptRequest,
    task::{Lease, PushSettlement, PushTask},
};
use sluice_testkit::wait_until;

use super::{Fixture, fixture};

const BATCH: i64 = 200;
const BATCHES: i64 = 100;
/// Index entries and rows read per record of a batch, at most. One look through all records would
/// be a hundred.
const READS: i64 = 40;

/// What the server has counted: index scans, and entries and rows read.
async fn counted(fixture: &Fixture) -> (i64, i64) {
    let scans = fixture.number("select sum(idx_scan) from pg_stat_user_indexes");
    let reads = fixture.number(
        "select (select sum(idx_tup_read) from pg_stat_user_indexes)
            + (select sum(seq_tup_read) from pg_stat_user_tables)",
    );
    (scans.await, reads.await)
}

/// Until the server has counted what the store's one connection did: it tells so at the end of a
/// later statement, everything at once.
async fn until_told(fixture: &Fixture, w: &World, scans: i64) {
    wait_until(Duration::from_secs(30), || async {
        w.master.ping().await.unwrap();
        counted(fixture).await.0 > scans
    })
    .await;
}

/// Carries out one transaction and says how much the server read for it.
async fn reads<T>(fixture: &Fixture, w: &World, work: impl Future<Output = T>) -> (i64, T) {
    // What came before is told by the time that this small one is.
    let (scans, _) = counted(fixture).await;
    w.history(LOCATION, "first").await;
    until_told(fixture, w, scans).await;
    let (scans, before) = counted(fixture).await;
    let outcome = work.await;
    until_told(fixture, w, scans).await;
    (counted(fixture).await.1 - before, outcome)
}

fn records(batch: i64) -> Vec<sluice_core::record::CanonicalRecord> {
    let numbers = batch * BATCH..(batch + 1) * BATCH;
    numbers
        .map(|number| match number % 2 {
            0 => location(&format!("l{number}"), number, 100),
            _ => request(&format!("r{number}"), number, &format!("l{}", number - 1)),
        })
        .collect()
}

fn leases(tasks: &[PushTask]) -> Vec<Lease> {
    tasks.iter().map(|task| task.lease).collect()
}

#[tokio::test]
async fn batches_are_found_by_key() {
    let fixture = Arc::new(fixture().await);
    let mut w = World::new(fixture.clone()).await;
    let store = Arc::new(fixture.connect(1).await);
    w.master = store.clone();
    w.tasks = store;
    // Nobody tells the planner more while the test runs.
    fixture
        .execute("alter table sync_queue set (autovacuum_enabled = off)")
        .await;
    fixture
        .execute("alter table sync_master_data set (autovacuum_enabled = off)")
        .await;
    // The planner sees one record of each kind, and every statement is planned with that.
    w.apply(vec![location("first", 1, 100)]).await;
    fixture.execute("analyze").await;
    for batch in 0..BATCHES {
        w.apply(records(batch)).await;
    }

    let mut told = Vec::new();
    let (read, applied) = reads(&fixture, &w, w.apply(records(BATCHES / 2))).await;
    assert!(applied.iter().all(|one| !one.change.makes_version()));
    told.push(("apply what is unchanged", read));
    let changed: Vec<_> = records(BATCHES / 2)
        .into_iter()
        .map(|record| location(&record.source_id, -1, 200))
        .collect();
    let (read, _) = reads(&fixture, &w, w.apply(changed)).await;
    told.push(("apply what changed", read));
    // Others are staged and leased too.
    for _ in 0..10 {
        w.claim_ids(&ids(&w.stage_pushes(w.one, BATCH as u32).await), LONG)
            .await;
        w.stage_pushes(w.one, BATCH as u32).await;
    }
    let (read, staged) = reads(&fixture, &w, w.stage_pushes(w.one, BATCH as u32)).await;
    told.push(("stage", read));
    let staged = ids(&staged);
    let (read, tasks) = reads(&fixture, &w, w.claim_ids(&staged, LONG)).await;
    assert_eq!(tasks.len(), BATCH as usize);
    told.push(("claim", read));
    let kept: Vec<_> = leases(&tasks)
        .into_iter()
        .map(|lease| {
            let kept = KeptRequest {
                version: 1,
                refusal_count: 0,
                idempotency_key: lease.task_id.to_string(),
                body: serde_json::json!({}),
            };
            (lease, kept)
        })
        .collect();
    let (read, kept) = reads(&fixture, &w, w.tasks.keep_requests(&kept)).await;
    assert!(kept.unwrap().into_iter().all(|kept| kept));
    told.push(("keep requests", read));
    let leases = leases(&tasks);
    let (read, held) = reads(&fixture, &w, w.tasks.renew(&leases, LONG)).await;
    assert!(held.unwrap().into_iter().all(|held| held));
    told.push(("renew leases", read));
    let settlements: Vec<PushSettlement> = tasks
        .iter()
        .map(|task| settlement(task.lease, delivered(task, PushAction::Created)))
        .collect();
    let (read, held) = reads(&fixture, &w, w.tasks.settle_pushes(&settlements)).await;
    assert!(held.unwrap().into_iter().all(|held| held));
    told.push(("settle", read));

    let most = READS * BATCH;
    assert!(
        told.iter().all(|(_, read)| *read <= most),
        "{most} at most: {told:?}"
    );
}
