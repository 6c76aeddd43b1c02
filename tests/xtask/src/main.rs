//! Development tasks: `cargo xtask test` runs everything that continuous integration runs.
//!
//! ```text
//! cargo xtask test [--only STEP]... [--keep-servers]   all checks, with private servers
//! cargo xtask servers                                  private servers until Ctrl-C
//! cargo xtask reference                                the runtime the read engine is compared with
//! cargo xtask sqlx prepare|check                       offline data of the `query!` macros
//! ```

#![expect(
    clippy::print_stdout,
    reason = "a command-line tool that reports on its standard output"
)]

mod compose;
mod sqlx;
mod steps;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_servers::{Needs, Outcome, Servers, process};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Sluice")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs all checks: formatting, lints, query data, tests, documentation, deployment files.
    ///
    /// Installs what is missing (Debian packages, MongoDB) and starts private servers. A server
    /// named by SLUICE_TEST_POSTGRES_URL, SLUICE_TEST_MONGODB_URL or SLUICE_TEST_RABBITMQ_URL
    /// (with SLUICE_TEST_RABBITMQ_MANAGEMENT_URL) is used as it is.
    Test {
        /// Only this step; may be repeated.
        #[arg(long, value_enum)]
        only: Vec<steps::Step>,
        /// Leaves the private servers running and prints how to reach and stop them.
        #[arg(long)]
        keep_servers: bool,
    },
    /// Starts private servers, prints their addresses as shell exports, and waits for Ctrl-C.
    Servers,
    /// Installs the runtime that tests/differential compares the read engine with, and prints its
    /// interpreter as a shell export.
    Reference,
    /// Offline data of the sqlx macros in shared/postgres and shared/embedded.
    Sqlx {
        #[command(subcommand)]
        action: sqlx::Action,
    },
}

/// Starts all servers and waits for Ctrl-C.
fn serve() -> Outcome {
    let mut servers = Servers::default();
    servers.start(Needs::All)?;
    print!("{}", servers.exports());
    println!("# running until Ctrl-C");
    while !process::interrupted() {
        process::pause();
    }
    Ok(())
}

fn main() -> ExitCode {
    let outcome = process::catch_signals().and_then(|()| match Arguments::parse().task {
        Task::Test { only, keep_servers } => steps::test(&only, keep_servers),
        Task::Servers => serve(),
        Task::Reference => steps::reference()
            .map(|python| println!("export {}={}", steps::REFERENCE, python.display())),
        Task::Sqlx { action } => sqlx::run(&action),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
