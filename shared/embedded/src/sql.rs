//! The SQLite database that keeps master data and tasks: opening, transactions, errors.

pub(crate) mod convert;
mod migrate;

use std::{str::FromStr, time::Duration};

use sluice_core::{Error, ErrorClass, Result};
use sqlx::{
    Pool, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// How long a connection waits for another process that writes. A write transaction of ours takes
/// milliseconds, so this only ends when something is stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections for reading; they see the last commit and never wait for the writer.
const READERS: u32 = 4;

/// Master data and tasks in one SQLite file: [`sluice_store::MasterStore`],
/// [`sluice_store::TaskStore`] and [`sluice_store::FleetStore`].
///
/// There is one writer per process, and writers of several processes take turns by SQLite's own
/// lock (`BEGIN IMMEDIATE`), so every write transaction sees all that were committed before it and
/// none is ever rolled back for a conflict. Readers go beside the writer (write-ahead log).
#[derive(Debug, Clone)]
pub struct EmbeddedSql {
    write: SqlitePool,
    /// None for a database in memory: its one connection *is* the database.
    readers: Option<SqlitePool>,
}

impl EmbeddedSql {
    /// Opens `sqlite:PATH`, making the file when it is missing; `sqlite::memory:` is a database
    /// that lives as long as this value. Applies no migration.
    ///
    /// # Errors
    /// `sqlite_url_invalid` for a URL that SQLite does not understand, `sqlite_failed` when the file
    /// cannot be opened.
    pub async fn open(url: &str) -> Result<Self> {
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| {
                Error::config(
                    "sqlite_url_invalid",
                    "the URL of the embedded database is invalid",
                )
                .hint("write it as sqlite:PATH")
                .caused_by(error)
            })?
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit must survive a power cut, because a checkpoint at the source moves after
            // it. In WAL mode NORMAL keeps the file sound but may lose the last commits.
            .synchronous(SqliteSynchronous::Full)
            // JSON parameters make statements alike, so few texts cover everything.
            .statement_cache_capacity(200);
        let write = pool(options.clone(), 1).await?;
        let readers = match in_memory {
            true => None,
            false => Some(pool(options, READERS).await?),
        };
        Ok(Self { write, readers })
    }

    /// Connections for reading.
    pub(crate) fn read(&self) -> &SqlitePool {
        self.readers.as_ref().unwrap_or(&self.write)
    }

    /// A transaction that holds the write lock from its beginning.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.write
            .begin_with("begin immediate")
            .await
            .map_err(failed)
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &SqlitePool> {
        self.readers.iter().chain([&self.write])
    }

    /// Waits until every connection is closed, which also folds the log into the file.
    pub async fn close(&self) {
        for pool in self.pools() {
            pool.close().await;
        }
    }
}

async fn pool(options: SqliteConnectOptions, connections: u32) -> Result<Pool<Sqlite>> {
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        // A connection costs nothing while idle, and the last one of a database in memory *is*
        // the database.
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_lazy_with(options);
    // Several processes that switch a new file to write-ahead logging at once can find it locked
    // in spite of the busy timeout, because the switch needs the file for itself.
    let give_up = tokio::time::Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool.acquire().await {
            Ok(_) => return Ok(pool),
            Err(error) if is_busy(&error) && tokio::time::Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// SQLITE_BUSY and SQLITE_LOCKED with their extended forms (<https://sqlite.org/rescode.html>).
fn is_busy(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// What failed, without values: SQLite's own texts name tables and columns only, and the texts of
/// the other kinds, which may quote data, are left out.
pub(crate) fn failed(error: sqlx::Error) -> Error {
    let kind = match &error {
        sqlx::Error::Database(error) => {
            return Error::new(
                ErrorClass::Internal,
                "sqlite_failed",
                format!("the embedded database refused: {}", error.message()),
            );
        }
        sqlx::Error::Io(error) => return io_failed(error.kind()),
        sqlx::Error::PoolTimedOut => "no connection became free in time",
        sqlx::Error::PoolClosed => "it was closed",
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "a stored value is unreadable",
        sqlx::Error::WorkerCrashed => "its worker thread stopped",
        _ => "unexpected failure",
    };
    Error::internal("sqlite_failed", format!("the embedded database: {kind}"))
}

fn io_failed(kind: std::io::ErrorKind) -> Error {
    Error::internal(
        "sqlite_failed",
        format!("the embedded database's file: {kind}"),
    )
}
