//! Waiting pushes are looked at by key: what that reads depends on how many wait, not on how many
//! records there are, also when the planner's statistics are those of nearly empty tables.

use std::sync::Arc;

use sluice_store::{
    conformance::sql::{Alone, LONG, World, children_wait, others_are_due},
    dependency::BlockedLook,
};
use sluice_testkit::PostgresDatabase;
use sqlx::{Connection, PgConnection};

use super::{dependency, rescue};
use crate::{PoolSettings, PostgresSql};

const WAITING: usize = 20;

/// Rows read by this connection that PostgreSQL has not yet counted elsewhere, which it does
/// between transactions.
async fn rows(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint
        from pg_stat_xact_user_tables",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// Rows read for releasing children, and for a look for missing parents and cycles.
async fn reads(others: usize) -> [i64; 2] {
    let database = PostgresDatabase::create().await;
    let settings = PoolSettings::default();
    let sql = PostgresSql::connect(database.url(), settings)
        .await
        .unwrap();
    let w = World::new(Arc::new(Alone(sql.clone()))).await;
    children_wait(&w, WAITING).await;
    let mut held = sql.pool.acquire().await.unwrap();
    sqlx::query("analyze").execute(&mut *held).await.unwrap();
    others_are_due(&w, others).await;
    let mut transaction = held.begin().await.unwrap();
    let before = rows(&mut transaction).await;
    rescue::unblock(&mut transaction, 500).await.unwrap();
    let unblocked = rows(&mut transaction).await - before;
    let look = BlockedLook {
        after: None,
        limit: 500,
        again_after: LONG,
        fetches: 10,
    };
    dependency::look_once(&mut transaction, &look)
        .await
        .unwrap();
    let looked = rows(&mut transaction).await - before - unblocked;
    drop(transaction);
    drop(held);
    sql.close().await;
    [unblocked, looked]
}

#[tokio::test]
async fn looks_at_what_waits_do_not_read_what_does_not() {
    let few = reads(50).await;
    let many = reads(1_000).await;
    for (few, many) in few.into_iter().zip(many) {
        assert!(few > 0 && many < few * 2, "{few} and {many} rows");
    }
}
