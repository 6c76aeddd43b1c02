//! The steps of `cargo xtask test`, in order.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use sluice_servers::{Needs, Outcome, Servers, install, process, root};

use crate::{compose, sqlx};

/// One check. The order here is the order they run in: quick ones first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// rustfmt on everything.
    Format,
    /// The compose file, read by a compose implementation.
    Compose,
    /// clippy on everything; warnings are errors.
    Lint,
    /// Offline data of the sqlx macros is complete and up to date.
    Sqlx,
    /// Every test of the workspace, against real servers.
    Test,
    /// API documentation; warnings are errors.
    Doc,
}

impl Step {
    fn needs(self) -> Needs {
        match self {
            Self::Format | Self::Compose | Self::Lint | Self::Doc => Needs::Nothing,
            Self::Sqlx => Needs::Postgres,
            Self::Test => Needs::All,
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn run(self, servers: &Servers) -> Outcome {
        match self {
            Self::Format => process::run(cargo().args(["fmt", "--all", "--check"])),
            Self::Compose => compose::check(&root()),
            Self::Lint => process::run(
                cargo()
                    .args(["clippy", "--workspace", "--all-targets", "--locked"])
                    .args(["--", "-D", "warnings"]),
            ),
            Self::Sqlx => sqlx::check(servers),
            Self::Test => process::run(
                cargo()
                    .args(["test", "--workspace", "--locked"])
                    .env("SLUICE_TEST_BINARY", binary())
                    .env(REFERENCE, reference()?)
                    .envs(servers.environment()),
            ),
            Self::Doc => process::run(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--locked"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
        }
    }
}

/// Names the interpreter of the runtime that the read engine is compared with.
pub const REFERENCE: &str = "SLUICE_TEST_REFERENCE";

/// The one that the environment names, or ours, installed when it is missing.
pub fn reference() -> Outcome<PathBuf> {
    match std::env::var_os(REFERENCE) {
        Some(python) => Ok(python.into()),
        None => install::reference(),
    }
}

/// Where `cargo test` leaves the program before any test runs, because it has tests of its own.
fn binary() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target).join("debug").join("sluice")
}

/// Cargo, in the workspace's folder.
pub fn cargo() -> Command {
    let mut command = process::cargo();
    command.current_dir(root());
    command
}

/// Runs the chosen steps, or all. The first failure ends it; private servers are stopped in any
/// case, unless they are to be kept.
pub fn test(only: &[Step], keep_servers: bool) -> Outcome {
    let steps: Vec<Step> = Step::value_variants()
        .iter()
        .copied()
        .filter(|step| only.is_empty() || only.contains(step))
        .collect();
    let mut servers = Servers::default();
    let begun = Instant::now();
    let mut times: Vec<(String, Duration)> = Vec::new();
    let outcome = steps.into_iter().try_for_each(|step| {
        if process::interrupted() {
            return Err("interrupted".into());
        }
        println!("\n=== {} ===", step.name());
        let start = Instant::now();
        let outcome = servers
            .start(step.needs())
            .and_then(|()| step.run(&servers));
        println!(
            "--- {}: {:.1} s",
            step.name(),
            start.elapsed().as_secs_f64()
        );
        times.push((step.name(), start.elapsed()));
        outcome.map_err(|message| format!("step {} failed: {message}", step.name()))
    });
    if keep_servers {
        servers.keep();
    } else {
        drop(servers);
    }
    println!();
    for (name, time) in &times {
        println!("{name:<8} {:>7.1} s", time.as_secs_f64());
    }
    println!("total    {:>7.1} s", begun.elapsed().as_secs_f64());
    outcome
}
