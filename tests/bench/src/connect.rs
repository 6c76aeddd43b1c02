//! Addresses of the servers, and databases of the benchmark's own.

use crate::{Failure, Outcome};

/// The servers a part works on.
#[derive(Debug, Clone)]
pub struct Servers {
    pub postgres: String,
    pub mongodb: String,
    pub mongodb_database: String,
    pub rabbitmq: String,
}

impl Servers {
    /// From the SLUICE_TEST_* variables; `name` is the database and prefix of this benchmark.
    pub fn from_environment(name: &str) -> Outcome<Self> {
        let server = server("SLUICE_TEST_POSTGRES_URL")?;
        let (base, _) = server
            .rsplit_once('/')
            .ok_or("SLUICE_TEST_POSTGRES_URL names no database")?;
        Ok(Self {
            postgres: format!("{base}/{name}"),
            mongodb: self::server("SLUICE_TEST_MONGODB_URL")?,
            mongodb_database: name.to_owned(),
            rabbitmq: self::server("SLUICE_TEST_RABBITMQ_URL")?,
        })
    }

    /// Empty databases and queues, whatever was there.
    pub async fn reset(name: &str) -> Outcome<Self> {
        use sqlx::{AssertSqlSafe, Connection, PgConnection};
        let servers = Self::from_environment(name)?;
        let mut connection = PgConnection::connect(&server("SLUICE_TEST_POSTGRES_URL")?).await?;
        for sql in [
            format!("drop database if exists {name} with (force)"),
            format!("create database {name}"),
        ] {
            // The name is a constant of this program.
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        let client = mongodb::Client::with_uri_str(&servers.mongodb).await?;
        client.database(name).drop().await?;
        Ok(servers)
    }
}

fn server(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("set {name}; `cargo xtask servers` prints it").into())
}
