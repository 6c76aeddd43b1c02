//! A connection that says nothing any more is given up, and its place in the pool is free again
//! (C2: a worker that waits for ever would keep its lease).

use std::time::Duration;

use sluice_postgres::{PoolSettings, PostgresSql};
use sluice_store::{MasterStore, TaskStore};
use sluice_testkit::{PostgresDatabase, Proxy, Weather, wait_until};

#[tokio::test]
async fn silence_is_bounded() {
    let database = PostgresDatabase::create().await;
    let address = database.url().rsplit('@').next().unwrap();
    let address = address.split('/').next().unwrap();
    let proxy = Proxy::start(address).await;
    let settings = PoolSettings {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_millis(500),
    };
    let through = database.url().replace(address, &proxy.address());
    let store = PostgresSql::connect(&through, settings).await.unwrap();
    store.migrate().await.unwrap();
    store.backlog().await.unwrap();

    // One statement alone, and one within a transaction.
    proxy.set(Weather::SilentAfter(0));
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.code(), "postgres_unreachable");
    proxy.set(Weather::Clear);
    wait_until(Duration::from_secs(30), || async {
        store.ping().await.is_ok()
    })
    .await;

    proxy.set(Weather::SilentAfter(0));
    let error = store.advance_runs().await.unwrap_err();
    assert_eq!(error.code(), "postgres_unreachable");
    proxy.set(Weather::Clear);
    wait_until(Duration::from_secs(30), || async {
        store.advance_runs().await.is_ok()
    })
    .await;
}
