//! Exit statuses: what scripts and schedulers see.

use std::process::ExitCode;

use sluice_core::{Error, ErrorClass, Result};

/// How a command ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// It ran, and the answer is no: a mismatch, a failed check, a failed run.
    Failed,
    NotFound,
    /// Some of it.
    Partly,
    Interrupted,
}

/// Turns a command's end into the process's status; errors go to stderr, once.
pub fn code(result: Result<Exit>) -> ExitCode {
    match result {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::from(1),
        Ok(Exit::NotFound) => ExitCode::from(3),
        Ok(Exit::Partly) => ExitCode::from(6),
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::from(status_of(&error))
        }
    }
}

fn status_of(error: &Error) -> u8 {
    match error.class() {
        ErrorClass::Config | ErrorClass::Validation => 2,
        ErrorClass::NotFound => 3,
        ErrorClass::Auth => 4,
        ErrorClass::Conflict => 5,
        ErrorClass::Network | ErrorClass::Timeout | ErrorClass::RateLimit => 7,
        ErrorClass::TargetError | ErrorClass::Internal => 1,
    }
}
