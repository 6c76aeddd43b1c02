//! Driver errors as Sluice's. Server texts are left out: a duplicate key error, for one, repeats
//! the values of the document.

use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use sluice_core::{Error, ErrorClass};

/// The server's code for a document that breaks a unique index.
const DUPLICATE_KEY: i32 = 11000;

pub(crate) fn failed(error: DriverError) -> Error {
    let unreachable = |why: String| {
        Error::new(
            ErrorClass::Network,
            "mongo_unreachable",
            format!("MongoDB cannot be reached: {why}"),
        )
    };
    let refused = |code: i32, name: &str| {
        Error::internal(
            "mongo_failed",
            format!("MongoDB refused an operation: {name} ({code})"),
        )
    };
    match &*error.kind {
        ErrorKind::Io(io) => unreachable(io.kind().to_string()),
        // Names the servers and what is wrong with each; has no credentials in it.
        ErrorKind::ServerSelection { message, .. } => {
            unreachable(message.chars().take(500).collect())
        }
        ErrorKind::ConnectionPoolCleared { .. } => unreachable("connections were reset".into()),
        ErrorKind::DnsResolve { .. } => unreachable("its name cannot be resolved".into()),
        ErrorKind::Authentication { .. } => Error::new(
            ErrorClass::Auth,
            "mongo_refused_login",
            "MongoDB refused the raw store's credentials",
        )
        .hint("check the user, its password and authSource in the raw store's URL"),
        ErrorKind::Command(command) => refused(command.code, &command.code_name),
        ErrorKind::Write(WriteFailure::WriteError(write)) => refused(
            write.code,
            write.code_name.as_deref().unwrap_or("write error"),
        ),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Error::new(
            ErrorClass::Network,
            "mongo_no_majority",
            format!(
                "MongoDB did not confirm a write: {} ({})",
                concern.code_name, concern.code
            ),
        ),
        ErrorKind::InsertMany(many) => {
            let first = many.write_errors.iter().flatten().next();
            refused(first.map_or(0, |error| error.code), "insert")
        }
        ErrorKind::GridFs(_) => {
            Error::internal("mongo_failed", "a large body cannot be stored or read")
        }
        _ => Error::internal("mongo_failed", "the MongoDB driver failed"),
    }
}

pub(crate) fn is_duplicate_key(error: &DriverError) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        ErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Places of the documents of an unordered insert that were there already; `None` when the insert
/// failed for any other reason.
pub(crate) fn duplicates(error: &DriverError) -> Option<Vec<usize>> {
    let ErrorKind::InsertMany(many) = &*error.kind else {
        return None;
    };
    if many.write_concern_error.is_some() {
        return None;
    }
    let errors = many.write_errors.as_ref()?;
    errors
        .iter()
        .map(|error| (error.code == DUPLICATE_KEY).then_some(error.index))
        .collect()
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::internal(
        "raw_damaged",
        format!("field {what} of a stored document is not what was written"),
    )
}
