//! `sluice dlq`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sluice_core::{ErrorClass, Timestamp};

#[derive(Debug, Args, Clone)]
pub struct DlqFilter {
    /// Only these dead letters
    #[arg(long = "id")]
    pub ids: Vec<i64>,
    /// Target connection
    #[arg(long)]
    pub target: Option<String>,
    #[arg(long)]
    pub entity_type: Option<String>,
    /// Our reference, such as yardi:51877
    #[arg(long)]
    pub entity_id: Option<String>,
    /// Error class, such as validation or timeout
    #[arg(long, value_parser = parse_class)]
    pub class: Option<ErrorClass>,
    #[arg(long)]
    pub code: Option<String>,
    /// Of this cause; `dlq groups` tells it
    #[arg(long)]
    pub fingerprint: Option<String>,
    /// Last failure at or after this time (RFC 3339)
    #[arg(long)]
    pub since: Option<Timestamp>,
    /// Last failure before this time (RFC 3339)
    #[arg(long)]
    pub before: Option<Timestamp>,
    /// The newest ones only [default: 1,000 for looking, all for acting]
    #[arg(long)]
    pub limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Newest first
    List {
        #[command(flatten)]
        filter: DlqFilter,
        /// Closed ones too
        #[arg(long)]
        all: bool,
    },
    /// Causes with their counts, most dead letters first
    Groups {
        #[command(flatten)]
        filter: DlqFilter,
    },
    /// One dead letter with its payload, edits and attempts
    Show { id: i64 },
    /// Order a replay of what matches now: sent again, with the newest version, through the
    /// ordinary gate at the lowest priority; the orchestrator works it off
    Replay(DlqReplayArgs),
    /// Replays: list, show, pause, resume, cancel
    Replays {
        #[command(subcommand)]
        command: ReplaysCommand,
    },
    /// Close for good, with a reason
    Discard {
        #[command(flatten)]
        filter: DlqFilter,
        #[arg(long)]
        reason: String,
        /// Only count
        #[arg(long)]
        dry_run: bool,
        /// Needed without --id when no terminal can be asked
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct DlqReplayArgs {
    #[command(flatten)]
    pub filter: DlqFilter,
    /// Dead letters put back per second at most [default: as fast as it goes]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Why, for the log
    #[arg(long, default_value = "")]
    pub note: String,
    /// JSON file to send instead of the version's own data; needs one --id
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The same key orders one replay only
    #[arg(long)]
    pub idempotency_key: Option<String>,
    /// Wait until every dead letter is put back or skipped
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Only count
    #[arg(long)]
    pub dry_run: bool,
    /// Needed without --id when no terminal can be asked
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum ReplaysCommand {
    /// Newest first
    List {
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// One replay, and what became of its dead letters
    Show { id: i64 },
    /// Take no further dead letters until resumed
    Pause(ReplayChangeArgs),
    /// Go on where it was paused
    Resume(ReplayChangeArgs),
    /// End it; what was put back goes its way, the rest stays open
    Cancel(ReplayChangeArgs),
}

#[derive(Debug, Args)]
pub struct ReplayChangeArgs {
    pub id: i64,
    /// Why, for the log
    #[arg(long, default_value = "")]
    pub note: String,
}

fn parse_class(text: &str) -> Result<ErrorClass, String> {
    ErrorClass::parse(text).ok_or_else(|| {
        let known: Vec<_> = ErrorClass::ALL.iter().map(|class| class.as_str()).collect();
        format!("one of {}", known.join(", "))
    })
}
