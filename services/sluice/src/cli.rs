//! The command line, as data. Help texts are the reference; README and docs quote them.

mod connector;
mod dlq;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice_core::Timestamp;

pub use connector::{ConnectorCommand, ConnectorReadArgs, ConnectorSides};
pub use dlq::{DlqCommand, DlqFilter, DlqReplayArgs, ReplayChangeArgs, ReplaysCommand};

/// Keeps property-management and field-service systems in agreement.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 not found, 4 credentials, \
    5 conflict, 6 partly done, 7 unavailable or timed out, 130 interrupted."
)]
pub struct Cli {
    /// Configuration file [default: sluice.toml when it exists] [env: SLUICE_CONFIG]
    // The variable is read in `main`: clap would take it for the `--config` of `connector` too,
    // which is another file.
    #[arg(long, short, global = true)]
    pub config: Option<PathBuf>,
    /// Organization to work in; needed when there is more than one [env: SLUICE_ORGANIZATION]
    // Read in `main`, too: usage errors would show what clap reads from a variable as required.
    #[arg(long, short = 'o', global = true)]
    pub organization: Option<String>,
    /// How to print results
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job on realistic data, with no servers: full sync, live edits, incremental sync,
    /// then a comparison of source, master data and both targets, record by record
    Demo(DemoArgs),
    /// All services in one process
    Up,
    /// Read sources: pulls to raw payloads, master data and push tasks
    SyncIn,
    /// Write targets: push tasks to the systems that want them
    SyncOut,
    /// Plan runs; stage, publish and rescue tasks
    Orchestrator,
    /// Health, metrics, webhook intake and the management API over HTTP
    Api,
    /// A stand-in vendor server for trying things out
    Standin(StandinArgs),
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Reach every backend and connection; say what is wrong and what to do
    Doctor,
    /// Database migrations
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Runs: start, look, pause, resume, cancel
    Run {
        #[command(subcommand)]
        command: RunCommand,
    },
    /// Take records from a file through the same path as a source
    Ingest(IngestArgs),
    /// What happened to a record
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// What waits, by connection and state
    Queue {
        #[command(subcommand)]
        command: Option<QueueCommand>,
    },
    /// Pushes whose outcome nobody knows: list, settle
    Unknown {
        #[command(subcommand)]
        command: UnknownCommand,
    },
    /// Each target's totals: created, updated, skipped, waiting, dead
    Targets,
    /// Connections: limits in force, pauses, breakers; live changes to them
    Connection {
        #[command(subcommand)]
        command: crate::commands::connection::ConnectionCommand,
    },
    /// Who changed what and why: limits, replays, discards, settled outcomes; newest first
    Activity {
        /// Entries below this number
        #[arg(long)]
        after: Option<i64>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Dead letters: list, group, show, replay, discard
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Raw records and the review list
    Raw {
        #[command(subcommand)]
        command: RawCommand,
    },
    /// Connector folders: list, check, run their fixtures
    Connector {
        #[command(subcommand)]
        command: ConnectorCommand,
    },
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// About how many records the stand-in source holds
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(50..=1_000_000))]
    pub records: u64,
    /// Makes the data; the same seed makes the same data
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Live edits between the full and the incremental sync
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub edits: u64,
    /// Calls per minute that each stand-in target allows; the real defaults (ONE 60, Lessen360
    /// 30) would make the demo take hours
    #[arg(long, default_value_t = 120_000, value_parser = clap::value_parser!(u32).range(60..))]
    pub target_limit: u32,
    /// Leave everything running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// How to print the result (`json`: one object and nothing else on stdout)
    #[arg(from_global)]
    pub output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StandinKind {
    Yardi,
    One,
    Lessen360,
}

#[derive(Debug, Args)]
pub struct StandinArgs {
    #[arg(value_enum)]
    pub kind: StandinKind,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// About how many records it holds (sources)
    #[arg(long, default_value_t = 5_000)]
    pub records: u64,
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Calls allowed per minute [default: the vendor's]
    #[arg(long)]
    pub limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read everything, resolve every secret, load every connector; list all errors at once
    Check,
    /// Every setting, its value and where it comes from; secrets masked
    Show,
}

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Apply what is missing (the default)
    Up,
    /// List migrations and whether they are applied
    Status,
}

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Start a run of a flow
    Start(RunStartArgs),
    /// Newest runs first
    List {
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One run with its steps
    Show { id: i64 },
    /// Wait until a run has ended, showing progress; Ctrl-C stops watching, not the run
    Watch { id: i64 },
    /// Take no new pages until resumed
    Pause { id: i64 },
    /// Go on where it was paused
    Resume { id: i64 },
    /// End it; what was stored stays
    Cancel { id: i64 },
}

#[derive(Debug, Args)]
pub struct RunStartArgs {
    /// Name of the flow
    pub flow: String,
    /// Everything the source has, instead of what changed since the last run
    #[arg(long, conflicts_with_all = ["reprocess", "since"])]
    pub full: bool,
    /// Only the record with this source id
    #[arg(long)]
    pub record: Option<String>,
    /// Stored raw records once more, without fetching
    #[arg(long, conflicts_with_all = ["since", "full"])]
    pub reprocess: bool,
    /// Changes since this time (RFC 3339), instead of the stored cursor
    #[arg(long)]
    pub since: Option<Timestamp>,
    /// Only these streams
    #[arg(long = "stream")]
    pub streams: Vec<String>,
    /// Decide and count, write nothing, call no target
    #[arg(long)]
    pub dry_run: bool,
    /// The same key starts one run only
    #[arg(long)]
    pub idempotency_key: Option<String>,
    /// Wait for the end
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    Json,
    Ndjson,
    Csv,
    Xml,
}

#[derive(Debug, Args)]
pub struct IngestArgs {
    pub file: PathBuf,
    /// Source connection the records belong to
    #[arg(long)]
    pub connection: String,
    /// Stream whose rules apply
    #[arg(long)]
    pub stream: String,
    /// [default: by the file's ending]
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
}

#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Raw documents, versions, links and pushes of one record
    Show {
        /// Such as ServiceRequest
        entity_type: String,
        /// Our reference, such as yardi:51877
        entity_id: String,
    },
    /// Master records
    List {
        #[arg(long)]
        entity_type: Option<String>,
        #[arg(long)]
        source_id: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Which records others wait for at a target, how many, and why; the worst first
    Blocked {
        /// Target connection
        #[arg(long)]
        target: Option<String>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
}

#[derive(Debug, Subcommand)]
pub enum UnknownCommand {
    /// Oldest first
    List {
        /// Target connection
        #[arg(long)]
        target: Option<String>,
        /// Continue behind this task
        #[arg(long)]
        after: Option<i64>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Say what became of a push, after looking for the record at the target
    Settle(UnknownSettleArgs),
}

#[derive(Debug, Args)]
pub struct UnknownSettleArgs {
    /// Number of the task
    pub task: i64,
    #[command(flatten)]
    pub verdict: VerdictArgs,
    /// Kept with the task
    #[arg(long)]
    pub reason: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct VerdictArgs {
    /// It is there, under this id: link it, and send what is newer
    #[arg(long, value_name = "EXTERNAL_ID")]
    pub applied: Option<String>,
    /// It is not there: create it now
    #[arg(long)]
    pub not_applied: bool,
    /// Nobody can tell: make it a dead letter
    #[arg(long)]
    pub give_up: bool,
}

#[derive(Debug, Subcommand)]
pub enum RawCommand {
    /// Records that failed mapping or validation, with the reasons
    Rejected {
        #[arg(long)]
        connection: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Payloads that could not be read, with the reasons; `run start --reprocess` tries webhooks
    /// and files again
    Failed {
        #[arg(long)]
        connection: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// A payload's bytes, as they came in
    Payload {
        /// As `sluice raw failed` prints it
        payload: String,
    },
    /// Every raw document of one source id
    Show {
        entity_type: String,
        source_id: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// A full run reads everything: `--since` would make it one of another kind.
    #[test]
    fn a_full_run_begins_at_no_time() {
        let since = ["--since", "2026-01-01T00:00:00Z"];
        let start = ["sluice", "run", "start", "flow"];
        assert!(Cli::try_parse_from([&start[..], &since].concat()).is_ok());
        assert!(Cli::try_parse_from([&start[..], &since, &["--full"]].concat()).is_err());
    }

    #[test]
    fn exactly_one_verdict_settles_an_unknown_push() {
        let parse = |more: &[&str]| {
            let words = ["sluice", "unknown", "settle", "7", "--reason", "r"];
            Cli::try_parse_from([&words[..], more].concat())
        };
        for verdict in [&["--applied", "x"][..], &["--not-applied"], &["--give-up"]] {
            assert!(parse(verdict).is_ok(), "{verdict:?}");
        }
        assert!(parse(&[]).is_err());
        assert!(parse(&["--not-applied", "--give-up"]).is_err());
    }
}
