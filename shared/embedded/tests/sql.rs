//! The embedded SQL store against the conformance suite, each case with a file of its own.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_embedded::EmbeddedSql;
use sluice_store::{
    CredentialStore, FleetStore, MasterStore, TaskStore, conformance::sql::SqlFixture,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

struct File {
    folder: TempDir,
}

async fn file() -> File {
    File {
        folder: TempDir::new().unwrap(),
    }
}

impl File {
    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("sluice.db").display())
    }

    async fn connect(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url()).await.unwrap()
    }
}

#[async_trait]
impl SqlFixture for File {
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>) {
        let store = Arc::new(EmbeddedSql::open(&self.url()).await.unwrap());
        (store.clone(), store)
    }

    async fn open_fleet(&self) -> Arc<dyn FleetStore> {
        Arc::new(EmbeddedSql::open(&self.url()).await.unwrap())
    }

    async fn open_credentials(&self) -> Arc<dyn CredentialStore> {
        Arc::new(EmbeddedSql::open(&self.url()).await.unwrap())
    }

    async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql)
            .execute(&mut self.connect().await)
            .await
            .unwrap()
            .rows_affected()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&mut self.connect().await)
            .await
            .unwrap()
    }

    async fn remove(&self) {
        // The folder goes with its guard.
    }
}

sluice_store::sql_suite!(file);
