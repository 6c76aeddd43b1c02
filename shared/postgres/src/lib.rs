//! PostgreSQL as [`MasterStore`](sluice_store::MasterStore), [`TaskStore`](sluice_store::TaskStore),
//! [`FleetStore`](sluice_store::FleetStore) and [`CredentialStore`](sluice_store::CredentialStore).
//!
//! Every method is one transaction of a few set-based statements: lists travel as arrays and are
//! unnested, so the number of statements does not grow with the batch. Rows are locked in one
//! order everywhere, master records by id before tasks by (record, connection), so that no two
//! transactions wait for each other. Leases and due times come from the database's clock.

mod convert;
mod credential;
mod dead_letter;
mod error;
mod fleet;
mod look;
mod master;
mod pool;
mod reach;
mod request;
mod run;
mod store;
mod task;

use std::{str::FromStr, time::Duration};

use sluice_core::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use pool::Pool;

/// How a process shares its connections to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections at most. Default 10.
    pub max_connections: u32,
    /// A method that finds no free connection for this long fails. Default 30 s.
    pub acquire_timeout: Duration,
    /// PostgreSQL cancels a statement that takes longer, so that a stuck one cannot hold locks
    /// for ever; a connection that is silent for 5 s longer is given up. Default 60 s.
    pub statement_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
        }
    }
}

/// Master data and tasks in one PostgreSQL database (13 or newer). Clones share the connections.
///
/// [`MasterStore`]: sluice_store::MasterStore
/// [`TaskStore`]: sluice_store::TaskStore
#[derive(Debug, Clone)]
pub struct PostgresSql {
    pool: Pool,
    /// For [`FleetStore`](sluice_store::FleetStore): calls must not wait behind batches.
    fleet: Pool,
}

/// Connections for what the fleet agrees on: one in use, one for the next connection's turn.
const FLEET_CONNECTIONS: u32 = 2;
/// What the fleet agrees on is needed now: a statement or a wait that takes longer has failed.
const FLEET_TIMEOUT: Duration = Duration::from_secs(2);

impl PostgresSql {
    /// Connects to `postgres://user:password@host:port/database` and checks that it answers.
    /// Applies no migration.
    ///
    /// # Errors
    /// `postgres_url_invalid`; `postgres_unreachable` when no connection can be made within ten
    /// seconds; `postgres_refused_login`; `postgres_database_unknown`.
    pub async fn connect(url: &str, settings: PoolSettings) -> Result<Self> {
        let timeout = settings.statement_timeout.as_millis().to_string();
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| {
                // The error's text could quote the password.
                Error::config("postgres_url_invalid", "the URL of PostgreSQL is invalid")
                    .hint("write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE")
            })?
            .application_name("sluice")
            .options([
                ("statement_timeout", timeout.as_str()),
                // A worker that was stopped in a transaction must not keep its locks.
                ("idle_in_transaction_session_timeout", timeout.as_str()),
                // Statements here find the rows of one batch by key. The planner cannot see how
                // few they are, and would read, hash and keep whole tables.
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_material", "off"),
                // Nor how many it would read before it sorts them, instead of the first by an index.
                ("enable_bitmapscan", "off"),
                // Where only a whole table will do, the setting above makes the costs look huge.
                ("jit", "off"),
            ])
            .statement_cache_capacity(200);
        let fleet = PgPoolOptions::new()
            .max_connections(FLEET_CONNECTIONS)
            .acquire_timeout(FLEET_TIMEOUT)
            .connect_lazy_with(options.clone().options([
                ("statement_timeout", FLEET_TIMEOUT.as_millis().to_string()),
                // A crash that forgets the last changes starts another server, which
                // `StoreClock::server` tells.
                ("synchronous_commit", "off".to_owned()),
            ]));
        reach::reach(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections.max(1))
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(options);
        Ok(Self {
            pool: Pool::new(pool, settings.statement_timeout),
            fleet: Pool::new(fleet, FLEET_TIMEOUT),
        })
    }

    /// Waits until every connection is closed.
    pub async fn close(&self) {
        self.fleet.close().await;
        self.pool.close().await;
    }
}
