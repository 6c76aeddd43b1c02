//! The raw store's suite against a real MongoDB, a database per case.

use std::sync::Arc;

use mongodb::{
    Client,
    bson::{Document, doc},
};
use sluice_mongo::MongoRaw;
use sluice_store::raw::RawStore;

fn url() -> String {
    std::env::var("SLUICE_TEST_MONGODB_URL")
        .unwrap_or_else(|_| panic!("set SLUICE_TEST_MONGODB_URL or run `cargo xtask test`"))
}

/// A database of one test's own, dropped with it.
struct TestDatabase(String);

impl TestDatabase {
    fn new() -> Self {
        Self(format!("sluice_test_{}", uuid::Uuid::new_v4().simple()))
    }

    async fn open(&self) -> MongoRaw {
        MongoRaw::connect(&url(), &self.0).await.unwrap()
    }

    async fn driver(&self) -> mongodb::Database {
        let client = Client::with_uri_str(url()).await.unwrap();
        client.database(&self.0)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.0);
        // A runtime of its own: the test's cannot be waited for from here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = Client::with_uri_str(url()).await.unwrap();
                client.database(&name).drop().await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

async fn fresh() -> (Arc<dyn RawStore>, TestDatabase) {
    let database = TestDatabase::new();
    let store = database.open().await;
    store.prepare().await.unwrap();
    (Arc::new(store), database)
}

sluice_store::raw_conformance!(fresh);
