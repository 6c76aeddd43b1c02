//! A PostgreSQL database for one test.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{postgres_url, unique};

/// An empty database, dropped together with this value, also when the test fails.
#[derive(Debug)]
pub struct PostgresDatabase {
    name: String,
    server: String,
    url: String,
}

impl PostgresDatabase {
    /// Creates it on the server of `SLUICE_TEST_POSTGRES_URL`.
    ///
    /// # Panics
    /// When the server is not named, cannot be reached, or refuses.
    pub async fn create() -> Self {
        let server = postgres_url();
        let name = unique("test");
        execute(&server, format!("create database {name}")).await;
        let (path, options) = match server.split_once('?') {
            Some((path, options)) => (path, format!("?{options}")),
            None => (server.as_str(), String::new()),
        };
        let (base, _) = path
            .rsplit_once('/')
            .unwrap_or_else(|| panic!("SLUICE_TEST_POSTGRES_URL names no database"));
        Self {
            url: format!("{base}/{name}{options}"),
            name,
            server,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        let sql = format!("drop database if exists {} with (force)", self.name);
        // The test's own runtime cannot be waited for here.
        let worker = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(|runtime| runtime.block_on(execute(&server, sql)))
        });
        let dropped = worker.join();
        // A second panic would hide the first one.
        assert!(
            std::thread::panicking() || matches!(dropped, Ok(Ok(()))),
            "cannot drop test database {}",
            self.name
        );
    }
}

async fn execute(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url)
        .await
        .unwrap_or_else(|error| panic!("cannot reach the test PostgreSQL: {error}"));
    // The only variable part is a name made by `unique`.
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|error| panic!("the test PostgreSQL refused: {error}"));
    let _ = connection.close().await;
}
