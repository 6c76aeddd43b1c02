//! Tasks: the rows of `sync_queue`.

use serde::{Deserialize, Serialize};

/// The two kinds of task. They share staging, claiming, leases, settling and rescue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Read one partition of a stream.
    Pull,
    /// Bring one master record to one connection.
    Push,
}

impl TaskKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pull, Self::Push]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Life of a task. Stored in `sync_queue.state`, which has a CHECK of the same words.
///
/// ```text
///            stage            claim             settle
/// pending ----------> staged -------> running ----------> completed
///    ^                   |               |  |
///    |  lease or message lost (rescue)   |  +-----------> dead | cancelled | unknown
///    +-------------------+---------------+
///    ^                                   | retry, snooze, blocked
///    +------------- waiting <------------+
/// ```
///
/// A push task is one row per master record and connection for ever: `completed` means that the
/// target holds the wanted version. A newer version makes the row `pending` again, so waiting
/// updates coalesce and no two calls for one record can run at once (promise O2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Owed, no message out yet.
    Pending,
    /// A reference is on the broker, or about to be.
    Staged,
    /// Leased by a worker.
    Running,
    /// Due again at `next_retry_time`, or when the record it is blocked on is linked.
    Waiting,
    Completed,
    /// A dead letter.
    Dead,
    Cancelled,
    /// Sent, but nobody can say whether it was applied; a person settles it.
    Unknown,
}

impl TaskState {
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Staged,
        Self::Running,
        Self::Waiting,
        Self::Completed,
        Self::Dead,
        Self::Cancelled,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Staged => "staged",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether work is still owed.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Staged | Self::Running | Self::Waiting
        )
    }
}

/// How an attempt ended. Stored in `task_attempts.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Completed,
    RetryAt,
    Snoozed,
    Dead,
    Cancelled,
    Unknown,
}

impl AttemptOutcome {
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::RetryAt,
        Self::Snoozed,
        Self::Dead,
        Self::Cancelled,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::RetryAt => "retry_at",
            Self::Snoozed => "snoozed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// What a completed push did at the target. Stored in `task_attempts.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushAction {
    Created,
    Updated,
    Deleted,
    /// An existing record there was found and linked; nothing needed to be written.
    Linked,
    /// Nothing to send: the mapping leaves it out, or the target already holds the same content.
    Skipped,
}

impl PushAction {
    pub const ALL: [Self; 5] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::Linked,
        Self::Skipped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Linked => "linked",
            Self::Skipped => "skipped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }
}
