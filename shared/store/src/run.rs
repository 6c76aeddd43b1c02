//! Runs as stored: `sync_orchestration`, its steps and its activity log.

use serde::{Deserialize, Serialize};
use sluice_core::{
    ConnectionId, OrganizationId, RunId, Timestamp,
    run::{RunCounts, RunKind, RunState},
};

/// A run to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub organization_id: OrganizationId,
    pub flow: String,
    /// The source connection.
    pub connection_id: ConnectionId,
    pub kind: RunKind,
    /// One step per stream, in this order.
    pub streams: Vec<String>,
    pub since: Option<Timestamp>,
    /// Only this source id, for [`RunKind::Single`].
    pub record: Option<String>,
    pub dry_run: bool,
    pub idempotency_key: Option<String>,
    /// Who asked: `schedule`, `cli`, or an API user.
    pub requested_by: String,
    pub max_retries: u32,
    pub traceparent: Option<String>,
    /// Started by the machinery itself: does not count towards the organization's limit of open
    /// runs (promise C1).
    pub background: bool,
}

/// Answer to [`crate::TaskStore::start_run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartedRun {
    pub id: RunId,
    /// The idempotency key was known: no new run.
    pub existed: bool,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    pub id: RunId,
    pub organization_id: OrganizationId,
    pub flow: String,
    pub connection_id: ConnectionId,
    pub kind: RunKind,
    pub state: RunState,
    pub dry_run: bool,
    pub counts: RunCounts,
    pub requested_by: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub error: Option<String>,
}

/// A run with its steps and log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDetail {
    #[serde(flatten)]
    pub run: Run,
    pub steps: Vec<RunStep>,
    pub activity: Vec<Activity>,
}

/// State of one step: `pending`, `running`, `done`, `failed`, `cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Pending,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl StepState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// One stream of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunStep {
    pub number: i32,
    pub stream: String,
    pub state: StepState,
    /// Pull tasks of the step, and how many of them are closed, dead.
    pub tasks: u32,
    pub tasks_closed: u32,
    pub tasks_dead: u32,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// One entry of `sync_activity_log`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Activity {
    pub at: Timestamp,
    pub event: String,
    pub detail: String,
}

/// Selects runs, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct RunQuery {
    pub organization_id: OrganizationId,
    pub flow: Option<String>,
    pub state: Option<RunState>,
    /// Continue below this id.
    pub after: Option<RunId>,
    pub limit: u32,
}
