//! Pulls: what is read, how far it came, how it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{
    ConnectionId, OrganizationId, RunId, Timestamp,
    run::{RunCounts, RunKind},
};

use super::{Attempt, Lease};

/// A claimed pull.
#[derive(Debug, Clone, PartialEq)]
pub struct PullTask {
    pub lease: Lease,
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    pub run_id: RunId,
    pub run_kind: RunKind,
    /// Name of the flow.
    pub flow: String,
    pub spec: PullSpec,
    /// Progress stored by the last checkpoint; `None` on the first attempt.
    pub progress: Option<Value>,
    /// Attempts so far, without this one.
    pub retry_count: u32,
    pub max_retries: u32,
    /// How long the source has answered with nothing but rate limits.
    pub limited_for: Duration,
    pub traceparent: Option<String>,
}

/// What a pull task reads. Stored as JSON in `sync_queue.spec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PullSpec {
    pub stream: String,
    /// One slice; `None` means "plan": find the slices and make a task of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Value>,
    /// Overrides the stored cursor of an incremental run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only this source id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Decide and count, write nothing, enqueue nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A cursor to be kept for the next incremental run.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamState {
    pub stream: String,
    /// Canonical JSON of the partition; `{}` without partitions.
    pub partition: String,
    pub state: Value,
}

/// Progress of a pull after a page is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub lease: Lease,
    pub progress: Value,
    pub state: Option<StreamState>,
    /// Added to the run's counts.
    pub counts: RunCounts,
    /// The lease is renewed by this.
    pub lease_for: Duration,
}

/// The end of an attempt at a pull.
#[derive(Debug, Clone, PartialEq)]
pub struct PullSettlement {
    pub lease: Lease,
    pub attempt: Attempt,
    pub next: PullNext,
}

#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once per pull and taken apart at once"
)]
pub enum PullNext {
    Done {
        state: Option<StreamState>,
        counts: RunCounts,
        /// Further pulls of the same run and step, made in the same transaction.
        spawn: Vec<PullSpec>,
    },
    Retry {
        after: Duration,
    },
    Snooze {
        after: Duration,
    },
    Dead,
    Cancelled,
}
