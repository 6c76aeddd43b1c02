//! `sluice`: one binary, every role and every tool. Each command is one file in `commands`.

mod backends;
mod checks;
mod cli;
mod commands;
mod connections;
mod context;
mod demo;
mod exit;
mod output;
mod roles;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Less CPU time than the system's, and memory that stays flat over many threads (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    let mut cli = Cli::parse();
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    cli.config = cli.config.or_else(|| set("SLUICE_CONFIG").map(Into::into));
    let organization =
        || set("SLUICE_ORGANIZATION").map(|slug| slug.to_string_lossy().into_owned());
    cli.organization = cli.organization.or_else(organization);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit::code(Err(cannot_start(error))),
    };
    let code = exit::code(runtime.block_on(run(&cli)));
    // What was to be done is done. Taking the runtime down would make background tasks of drivers
    // panic that just look at their timers, and people would read that as a failure.
    std::mem::forget(runtime);
    code
}

fn cannot_start(error: std::io::Error) -> sluice_core::Error {
    sluice_core::Error::internal(
        "threads_unavailable",
        "the system gives no threads to work with",
    )
    .hint("raise the limit of processes for this user")
    .caused_by(error)
}

async fn run(cli: &Cli) -> sluice_core::Result<exit::Exit> {
    // One TLS provider for every client of the process; a second call would be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match &cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Up => roles::run(cli, roles::Role::All).await,
        Command::SyncIn => roles::run(cli, roles::Role::SyncIn).await,
        Command::SyncOut => roles::run(cli, roles::Role::SyncOut).await,
        Command::Orchestrator => roles::run(cli, roles::Role::Orchestrator).await,
        Command::Api => roles::run(cli, roles::Role::Api).await,
        Command::Standin(args) => commands::standin::run(args).await,
        Command::Config { command } => commands::config::run(cli, command),
        Command::Doctor => commands::doctor::run(cli).await,
        Command::Migrate { command } => commands::migrate::run(cli, command).await,
        Command::Run { command } => commands::run::run(cli, command).await,
        Command::Ingest(args) => commands::ingest::run(cli, args).await,
        Command::Record { command } => commands::record::run(cli, command).await,
        Command::Queue { command } => commands::queue::run(cli, command.as_ref()).await,
        Command::Unknown { command } => commands::unknown::run(cli, command).await,
        Command::Connection { command } => commands::connection::run(cli, command).await,
        Command::Targets => commands::targets::run(cli).await,
        Command::Activity { after, limit } => commands::activity::run(cli, *after, *limit).await,
        Command::Dlq { command } => commands::dlq::run(cli, command).await,
        Command::Raw { command } => commands::raw::run(cli, command).await,
        Command::Connector { command } => commands::connector::run(cli, command).await,
    }
}
