//! What PostgreSQL's errors mean, and transactions that try again after a collision.

use std::time::Duration;

use sluice_core::{Error, ErrorClass};

/// Tries of a transaction that collides with others. Collisions are rare, since all lock in one
/// order, so running out of tries means that something else is wrong.
pub(crate) const TRIES: u32 = 8;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    /// Another transaction created the same rows first: read again.
    Overtaken,
    Refused(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    /// Whether the transaction was rolled back for reasons that pass by themselves: PostgreSQL's
    /// 40001 serialization_failure and 40P01 deadlock_detected
    /// (<https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>).
    /// A lost connection is none: the commit may have happened.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Sql(error) => matches!(code(error).as_deref(), Some("40001" | "40P01")),
            Self::Overtaken => true,
            Self::Refused(_) => false,
        }
    }

    /// For the caller, when trying again is over.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Sql(error) => failed(error),
            Self::Overtaken => Error::internal(
                "postgres_busy",
                "other transactions kept creating the same records",
            ),
            Self::Refused(error) => error,
        }
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .map(|code| code.into_owned())
}

/// What failed, without values: PostgreSQL's own texts may quote them, so only its code and the
/// constraint's name are told.
pub(crate) fn failed(error: sqlx::Error) -> Error {
    let unreachable = |what: &str| {
        Error::new(
            ErrorClass::Network,
            "postgres_unreachable",
            format!("PostgreSQL cannot be reached: {what}"),
        )
    };
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // Class 22 is "data exception": https://www.postgresql.org/docs/current/errcodes-appendix.html
            if code.starts_with("22") {
                return Error::validation(
                    "postgres_refused_data",
                    format!("PostgreSQL cannot store a value of the batch (SQLSTATE {code})"),
                );
            }
            let constraint = database
                .constraint()
                .map(|name| format!(", constraint {name}"))
                .unwrap_or_default();
            let error = Error::new(
                ErrorClass::Internal,
                "postgres_failed",
                format!("PostgreSQL refused a statement (SQLSTATE {code}{constraint})"),
            );
            if code == "42P01" {
                error.hint("run `sluice migrate`")
            } else {
                error
            }
        }
        sqlx::Error::Io(error) => unreachable(&error.kind().to_string()),
        sqlx::Error::Tls(_) => unreachable("TLS failed"),
        sqlx::Error::PoolTimedOut => unreachable("no connection became free in time"),
        sqlx::Error::PoolClosed => unreachable("it was closed"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Error::internal(
            "stored_value_unreadable",
            "a value stored in PostgreSQL is unreadable",
        ),
        _ => Error::internal("postgres_failed", "unexpected failure of PostgreSQL"),
    }
}

/// A moment for the others to finish: 2 ms, 4 ms, 8 ms, ..
pub(crate) async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(1 << tries.min(8))).await;
}

/// Runs a body in a transaction and commits it. The body is an expression of type
/// `Result<T, Failure>` that may be evaluated several times; it gets the connection.
macro_rules! transaction {
    ($pool:expr, $connection:ident => $body:expr) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome: Result<_, $crate::error::Failure> = $crate::pool::answered!($pool, held => {
                async {
                    let mut transaction = sqlx::Connection::begin(held).await?;
                    let $connection = &mut *transaction;
                    let value = $body?;
                    transaction.commit().await?;
                    Ok(value)
                }
                .await
            })
            .await;
            match outcome {
                Ok(value) => break Ok(value),
                Err(failure) if failure.passes() && tries < $crate::error::TRIES => {
                    $crate::error::pause(tries).await;
                }
                Err(failure) => break Err(failure.into_error()),
            }
        }
    }};
}
pub(crate) use transaction;

#[cfg(test)]
mod tests {
    use super::*;

    /// A lost connection is not tried again: the commit may have happened.
    #[test]
    fn only_collisions_are_tried_again() {
        assert!(Failure::Overtaken.passes());
        assert!(!Failure::Sql(sqlx::Error::PoolTimedOut).passes());
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!Failure::Sql(sqlx::Error::Io(lost)).passes());
    }
}
