//! Pushes whose outcome nobody knows, and what a person finds out about them (promise O1).

use std::time::Duration;

use serde::Serialize;
use sluice_core::{
    ConnectionId, EntityType, Error, ErrorClass, OrganizationId, TaskId, Timestamp,
    task::PushAction,
};

use crate::task::{Attempt, AttemptError, Lease, PushNext, PushSettlement};

/// Selects pushes in the state `unknown`, oldest task first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownQuery {
    pub organization_id: OrganizationId,
    /// Only this target.
    pub connection_id: Option<ConnectionId>,
    /// Continue behind this task.
    pub after: Option<TaskId>,
    /// 1 to 1,000.
    pub limit: u32,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnknownPush {
    pub task_id: TaskId,
    /// Name of the target connection.
    pub target: String,
    pub entity_type: EntityType,
    /// Our reference, as the target would show it.
    pub entity_id: String,
    /// The version that the target may hold.
    pub version: i32,
    /// The newest version, which waits for the answer.
    pub wanted_version: i32,
    pub since: Timestamp,
    pub code: Option<String>,
    pub message: Option<String>,
}

/// What a person found out at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there, under this id: linked. A newer version is sent as an update.
    Applied { external_id: String },
    /// It is not there: created now.
    NotApplied,
    /// Nobody can tell, or nobody wants it: a dead letter. A replay parks it again.
    GivenUp,
}

impl Verdict {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Applied { .. } => "applied",
            Self::NotApplied => "not_applied",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether the target may still hold what was sent.
    pub fn leaves_doubt(&self) -> bool {
        *self == Self::GivenUp
    }

    /// The settlement that says so; the task has been taken for `actor` with this lease.
    /// `version` is the one that the target may hold.
    pub fn settlement(
        &self,
        lease: Lease,
        version: i32,
        actor: &str,
        reason: &str,
        now: Timestamp,
    ) -> PushSettlement {
        let next = match self {
            Self::Applied { external_id } => PushNext::Delivered {
                action: PushAction::Linked,
                version,
                // What the target holds may have been changed since: the next update is sent.
                hash: None,
                external_id: Some(external_id.clone()),
            },
            Self::NotApplied => PushNext::Snooze {
                after: Duration::ZERO,
            },
            Self::GivenUp => PushNext::Dead,
        };
        PushSettlement {
            lease,
            attempt: Attempt {
                started_at: now,
                duration: Duration::ZERO,
                calls: 0,
                error: Some(AttemptError {
                    class: ErrorClass::Conflict,
                    code: format!("settled_as_{}", self.as_str()),
                    message: reason.to_owned(),
                    http_status: None,
                }),
                reason: None,
                worker: actor.to_owned(),
                trace_id: None,
            },
            next,
            request: Some(version).filter(|_| !self.leaves_doubt()),
        }
    }
}

/// Why a task cannot be settled by hand.
pub fn not_unknown(id: TaskId) -> Error {
    Error::new(
        ErrorClass::NotFound,
        "task_not_unknown",
        format!("no task {id} waits for somebody to say what became of it"),
    )
    .hint("`sluice unknown list` shows those that do")
}
