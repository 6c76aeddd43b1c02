//! What the end of an attempt makes of a push task: decided here, without I/O.

use sluice_core::task::{AttemptOutcome, PushAction, TaskState};
use sluice_store::task::{Attempt, PushNext};

/// The task as its holder left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) wanted_version: i32,
    pub(super) intent_version: Option<i32>,
    pub(super) unsettled_version: Option<i32>,
    pub(super) delivered_version: Option<i32>,
    pub(super) retry_count: u32,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct After {
    pub(super) state: TaskState,
    pub(super) intent_version: Option<i32>,
    pub(super) unsettled_version: Option<i32>,
    pub(super) delivered_version: Option<i32>,
    pub(super) retry_count: u32,
    /// The attempt to record, with what was done; `None` when it left nothing to tell.
    pub(super) attempt: Option<(AttemptOutcome, Option<PushAction>)>,
}

/// `parent_linked` matters for a blocked task only: the parent may have been linked since the
/// claim, and then nobody would release the child.
pub(super) fn after(held: &Held, attempt: &Attempt, next: &PushNext, parent_linked: bool) -> After {
    let maybe_applied = attempt
        .error
        .as_ref()
        .is_none_or(|error| error.class.may_have_been_applied());
    // An intent outlives its attempt only while the call may have been carried out unnoticed.
    let doubtful = After {
        state: TaskState::Pending,
        intent_version: held.intent_version.filter(|_| maybe_applied),
        unsettled_version: held.unsettled_version,
        delivered_version: held.delivered_version,
        retry_count: held.retry_count,
        attempt: None,
    };
    let unsent = After {
        intent_version: None,
        ..doubtful
    };
    match next {
        PushNext::Delivered {
            action, version, ..
        } => After {
            state: if held.wanted_version > *version {
                TaskState::Pending
            } else {
                TaskState::Completed
            },
            intent_version: None,
            unsettled_version: None,
            delivered_version: Some(*version),
            retry_count: 0,
            attempt: Some((AttemptOutcome::Completed, Some(*action))),
        },
        PushNext::Retry { .. } => After {
            state: TaskState::Waiting,
            retry_count: held.retry_count.saturating_add(1),
            attempt: Some((AttemptOutcome::RetryAt, None)),
            ..doubtful
        },
        PushNext::Snooze { .. } => After {
            state: TaskState::Waiting,
            attempt: Some((AttemptOutcome::Snoozed, None)),
            ..unsent
        },
        PushNext::Blocked { .. } => After {
            state: if parent_linked {
                TaskState::Pending
            } else {
                TaskState::Waiting
            },
            ..unsent
        },
        // A version that came during the call deserves its own attempts, as it would have had
        // if it had come a moment later.
        PushNext::Dead if Some(held.wanted_version) > held.intent_version => After {
            retry_count: 0,
            attempt: Some((AttemptOutcome::Dead, None)),
            ..doubtful
        },
        PushNext::Dead => After {
            state: TaskState::Dead,
            attempt: Some((AttemptOutcome::Dead, None)),
            ..doubtful
        },
        PushNext::Unknown => After {
            state: TaskState::Unknown,
            intent_version: held.intent_version,
            attempt: Some((AttemptOutcome::Unknown, None)),
            ..doubtful
        },
        PushNext::Cancelled => After {
            state: TaskState::Cancelled,
            attempt: Some((AttemptOutcome::Cancelled, None)),
            ..doubtful
        },
    }
}
