//! A claim is taken over while its worker keeps a request: whichever comes second sees what the first
//! one did (promises O1, C2). The conformance suite has them one after the other.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_store::{
    conformance::sql::{Alone, LOCATION, LONG, World, claim, location},
    request::{KeptRequest, RequestStore},
    task::{Claim, Claimed, Lease, PushTask, TaskStore},
};
use sluice_testkit::{PostgresDatabase, wait_until};
use sqlx::Connection;

use crate::{PoolSettings, PostgresSql, task::claim::claim_once};

/// A store with one push, whose claim by a worker that keeps has run out.
async fn overdue() -> (PostgresDatabase, PostgresSql, Lease) {
    let database = PostgresDatabase::create().await;
    let settings = PoolSettings::default();
    let sql = PostgresSql::connect(database.url(), settings)
        .await
        .unwrap();
    let w = World::new(Arc::new(Alone(sql.clone()))).await;
    w.apply_one(location("p1", 1, 100)).await;
    let staged = w.stage_pushes(w.one, 1).await;
    let found = sql.claim_pushes(&keeping(staged[0].task_id)).await.unwrap();
    sqlx::query("update sync_queue set lease_until = now() - interval '1 second'")
        .execute(&sql.pool)
        .await
        .unwrap();
    (database, sql, found.tasks[0].lease)
}

fn keeping(id: sluice_core::TaskId) -> Claim {
    Claim {
        keeps: vec![LOCATION.into()],
        ..claim(&[id], LONG)
    }
}

async fn keep(sql: PostgresSql, lease: Lease) -> bool {
    let request = KeptRequest {
        version: 1,
        refusal_count: 0,
        idempotency_key: "key".into(),
        body: json!({}),
    };
    sql.keep_requests(&[(lease, request)]).await.unwrap() == [true]
}

/// Until as many statements wait for another one's locks.
async fn until_waiting(sql: &PostgresSql, statements: i64) {
    wait_until(Duration::from_secs(20), || async {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&sql.pool)
        .await
        .unwrap();
        waiting == statements
    })
    .await;
}

fn unsettled(found: &Claimed<PushTask>) -> Vec<Option<i32>> {
    let tasks = found.tasks.iter();
    tasks.map(|task| task.unsettled_version).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_keeps_while_the_claim_is_taken_over_keeps_nothing() {
    let (_database, sql, lease) = overdue().await;
    let mut held = sql.pool.acquire().await.unwrap();
    let mut taking = held.begin().await.unwrap();
    let found = claim_once(&mut taking, &keeping(lease.task_id)).await;
    let kept = tokio::spawn(keep(sql.clone(), lease));
    until_waiting(&sql, 1).await;
    taking.commit().await.unwrap();
    assert_eq!(unsettled(&found.unwrap()), [None]);
    assert!(!kept.await.unwrap());
    drop(held);
    sql.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_claim_over_while_it_keeps_sees_the_doubt() {
    let (_database, sql, lease) = overdue().await;
    let mut held = sql.pool.acquire().await.unwrap();
    // Another row of the same task, so that keeping waits in its middle.
    let mut other = held.begin().await.unwrap();
    sqlx::query(
        "insert into kept_requests (task_id, version, refusal_count, idempotency_key, body)
        values ($1, 1, 0, 'other', '{}')",
    )
    .bind(lease.task_id.0)
    .execute(&mut *other)
    .await
    .unwrap();
    let kept = tokio::spawn(keep(sql.clone(), lease));
    until_waiting(&sql, 1).await;
    let taking = keeping(lease.task_id);
    let found = tokio::spawn({
        let sql = sql.clone();
        async move { sql.claim_pushes(&taking).await.unwrap() }
    });
    until_waiting(&sql, 2).await;
    other.rollback().await.unwrap();
    assert!(kept.await.unwrap());
    assert_eq!(unsettled(&found.await.unwrap()), [Some(1)]);
    drop(held);
    sql.close().await;
}
