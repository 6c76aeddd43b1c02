//! PostgreSQL behind the two SQL contracts: every case of the suites, each in a database of its own.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_postgres::{PoolSettings, PostgresSql};
use sluice_store::{
    CredentialStore, FleetStore, MasterStore, TaskStore, conformance::sql::SqlFixture,
};
use sluice_testkit::PostgresDatabase;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

struct Fixture {
    database: PostgresDatabase,
}

async fn fixture() -> Fixture {
    Fixture {
        database: PostgresDatabase::create().await,
    }
}

impl Fixture {
    async fn connect(&self) -> PostgresSql {
        let settings = PoolSettings {
            max_connections: 4,
            ..PoolSettings::default()
        };
        PostgresSql::connect(self.database.url(), settings)
            .await
            .unwrap()
    }
}

#[async_trait]
impl SqlFixture for Fixture {
    async fn open(&self) -> (Arc<dyn MasterStore>, Arc<dyn TaskStore>) {
        let store = Arc::new(self.connect().await);
        (store.clone(), store)
    }

    async fn open_fleet(&self) -> Arc<dyn FleetStore> {
        Arc::new(self.connect().await)
    }

    async fn open_credentials(&self) -> Arc<dyn CredentialStore> {
        Arc::new(self.connect().await)
    }

    async fn execute(&self, sql: &'static str) -> u64 {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        let done = sqlx::query(sql).execute(&mut connection).await.unwrap();
        done.rows_affected()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        // The suite counts in one type, PostgreSQL in several.
        sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::bigint")))
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// The database goes with the fixture.
    async fn remove(&self) {}
}

sluice_store::sql_suite!(fixture);
