//! Pushes that wait for another record (promise O7): what they wait for, and why that takes long.

use std::time::Duration;

use serde::Serialize;
use sluice_core::{
    ConnectionId, ErrorClass, OrganizationId, TaskId, Timestamp, record::RecordRef, task::TaskState,
};

use crate::task::{Attempt, AttemptError, Lease, PushNext, PushSettlement};

/// Selects [`Blocker`]s, those that block most first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockerQuery {
    pub organization_id: OrganizationId,
    /// Only this target.
    pub connection_id: Option<ConnectionId>,
    /// 1 to 1,000.
    pub limit: u32,
}

/// A record that others wait for at a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blocker {
    /// Name of the target connection.
    pub target: String,
    /// `{source connection}/{entity type}/{source id}`
    pub record: String,
    /// Pushes that wait for it.
    pub waiting: u64,
    /// Since when the first of them waits.
    pub since: Timestamp,
    pub reason: BlockReason,
    /// Why its own push failed last.
    pub error_code: Option<String>,
}

/// A record that others wait for, as people say it: `Location 699 of yardi`.
pub fn in_words(record: &str) -> String {
    let mut parts = record.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(entity), Some(id)) => format!("{entity} {id} of {source}"),
        _ => record.to_owned(),
    }
}

/// Why a record is not at the target yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockReason {
    /// It was never read from its source.
    Unseen,
    /// No flow brings it to the target, or the mapping leaves it out there.
    LeftOut,
    /// Its own push is due.
    OnItsWay,
    /// It waits for a record itself.
    Blocked,
    /// Its own push failed and waits for its next try.
    Retrying,
    Dead,
    /// Nobody knows whether it is there; a person settles it.
    Unknown,
}

impl BlockReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::LeftOut => "left_out",
            Self::OnItsWay => "on_its_way",
            Self::Blocked => "blocked",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// From what is known of the record: whether it was seen, and the state of its push to the
    /// target, with what that waits for.
    pub fn of(seen: bool, push: Option<TaskState>, push_blocked: bool) -> Self {
        match push {
            _ if !seen => Self::Unseen,
            Some(TaskState::Waiting) if push_blocked => Self::Blocked,
            Some(TaskState::Waiting) => Self::Retrying,
            Some(TaskState::Dead) => Self::Dead,
            Some(TaskState::Unknown) => Self::Unknown,
            Some(TaskState::Pending | TaskState::Staged | TaskState::Running) => Self::OnItsWay,
            Some(TaskState::Completed | TaskState::Cancelled) | None => Self::LeftOut,
        }
    }
}

/// Blocked pushes of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockedTotal {
    pub connection_id: ConnectionId,
    pub count: u64,
    pub oldest: Timestamp,
}

/// A bounded look at blocked pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedLook {
    /// Continue behind this task.
    pub after: Option<TaskId>,
    /// Pushes looked at.
    pub limit: u32,
    /// A missing parent is asked for at its source once in this time.
    pub again_after: Duration,
    /// At most this many runs of one connection that fetch parents are open at once.
    pub fetches: u32,
}

/// What was found, and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockedFound {
    /// Pushes that waited for themselves in the end: dead letters now.
    pub cycles: u64,
    /// Parents to be fetched now; noted as asked for.
    pub missing: Vec<MissingParent>,
    /// Where the next look begins; `None` at the end.
    pub next: Option<TaskId>,
}

/// A parent that nobody has read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingParent {
    pub organization_id: OrganizationId,
    pub source_connection_id: ConnectionId,
    pub record: RecordRef,
}

/// Longest chain of parents that is followed. Longer ones are no cycle anybody has seen.
pub const LONGEST_CHAIN: i32 = 32;

/// How a push ends that waits for itself; the task has been taken with this lease.
pub fn cycle(lease: Lease, now: Timestamp) -> PushSettlement {
    PushSettlement {
        lease,
        attempt: Attempt {
            started_at: now,
            duration: Duration::ZERO,
            calls: 0,
            error: Some(AttemptError {
                class: ErrorClass::Conflict,
                code: "dependency_cycle".to_owned(),
                message: "the record waits for a parent that waits for this record".to_owned(),
                http_status: None,
            }),
            reason: None,
            worker: "orchestrator".to_owned(),
            trace_id: None,
        },
        next: PushNext::Dead,
        request: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_record_is_said_in_words() {
        assert_eq!(in_words("yardi/Location/699"), "Location 699 of yardi");
        assert_eq!(in_words("yardi/Location/a/b c"), "Location a/b c of yardi");
        assert_eq!(in_words("699"), "699");
    }
}
