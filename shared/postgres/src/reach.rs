//! The first connection: what is wrong with it is told to the person who can mend it.

use std::time::Duration;

use sluice_core::{Error, ErrorClass, Result};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::time::Instant;

use crate::error::failed;

/// A server that is just starting is waited for this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time one try may take.
const TRY: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Connects once and hangs up.
///
/// # Errors
/// `postgres_unreachable`, `postgres_refused_login`, `postgres_database_unknown`, and others of the
/// server.
pub(crate) async fn reach(options: &PgConnectOptions) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match tokio::time::timeout(TRY, options.connect()).await {
            Ok(Ok(connection)) => {
                // It has said what it was asked for.
                let _ = connection.close().await;
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => crate::pool::silent(),
        };
        if !may_pass(&error) || Instant::now() + PAUSE > until {
            return Err(explained(error, options));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// SQLSTATE of a server that starts or stops, and of one whose connections are used up
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const BUSY: [&str; 4] = ["57P01", "57P02", "57P03", "53300"];

fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            BUSY.contains(&code.as_ref())
        }
        _ => false,
    }
}

fn explained(error: sqlx::Error, options: &PgConnectOptions) -> Error {
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let state = match &error {
        sqlx::Error::Database(database) => database.code().unwrap_or_default().into_owned(),
        _ => String::new(),
    };
    match state.as_str() {
        "3D000" => Error::config(
            "postgres_database_unknown",
            format!(
                "PostgreSQL at {place} has no database `{}`",
                options.get_database().unwrap_or_default()
            ),
        )
        .hint("make it with `createdb`, or mend the name at the end of store.master"),
        "28000" | "28P01" => Error::new(
            ErrorClass::Auth,
            "postgres_refused_login",
            format!(
                "PostgreSQL at {place} refused the user `{}`",
                options.get_username()
            ),
        )
        .hint("check user and password in store.master, and the server's pg_hba.conf"),
        _ => {
            let error = failed(error);
            if error.advice().is_some() {
                return error;
            }
            error.hint(format!(
                "store.master names {place}: check that the server runs there, takes connections \
                 from this machine and has some left"
            ))
        }
    }
}
