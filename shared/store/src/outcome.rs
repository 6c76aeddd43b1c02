//! What settling does to a push task, decided from its row: no I/O here. Both SQL backends decide
//! with this and only differ in how they read and write.

use std::time::Duration;

use sluice_core::{
    ConnectionId, EntityType, ErrorClass, MasterId, TaskId, Timestamp,
    record::RecordRef,
    retry::is_own_wait,
    task::{AttemptOutcome, PushAction, TaskState},
};

use crate::{
    request::OTHER_DATA,
    task::{Attempt, AttemptError, Lease, PushNext, PushSettlement},
};

/// A push task's row, locked.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub id: TaskId,
    pub master_id: MasterId,
    /// The target.
    pub connection_id: ConnectionId,
    /// Name of the source connection.
    pub source: String,
    pub entity_type: EntityType,
    pub source_id: String,
    pub state: TaskState,
    pub epoch: i64,
    pub wanted_version: i32,
    pub delivered_version: Option<i32>,
    /// The version that the claim intends to send.
    pub intent_version: Option<i32>,
    pub unsettled_version: Option<i32>,
    pub retry_count: u32,
    pub crash_count: u32,
    pub refusal_count: u32,
    /// For a task that is to be blocked: whether its parent was linked since the claim. Then nobody
    /// would release it.
    pub parent_linked: bool,
}

/// What the row becomes, and what is written beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<'a> {
    pub state: TaskState,
    pub retry_count: u32,
    pub crash_count: u32,
    pub refusal_count: u32,
    /// Whether the target asked to slow down; see [`limited`].
    pub limited: Option<bool>,
    /// Due again after this.
    pub wait: Option<Duration>,
    /// See [`blocking_key`].
    pub blocked_on: Option<String>,
    pub delivered_version: Option<i32>,
    pub intent_version: Option<i32>,
    pub unsettled_version: Option<i32>,
    pub error: Option<&'a AttemptError>,
    /// The attempt to record, with the version it was about; `None` when nothing was tried.
    pub attempt: Option<(AttemptOutcome, Option<PushAction>, Option<i32>)>,
    pub link: Option<Delivered<'a>>,
    /// Attempts made, when a dead letter is to be written.
    pub dead_letter: Option<u32>,
    /// Nobody will ask any more what became of the kept request.
    pub forget_request: bool,
}

/// What is written to the link after a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered<'a> {
    pub version: i32,
    pub hash: Option<sluice_core::Hash>,
    /// `None` leaves the one that is known, unless `forget` is set.
    pub external_id: Option<&'a str>,
    /// The record is gone at the target.
    pub forget: bool,
}

/// How `sync_queue.blocked_on` names a record. Sources use the same ids for different things, so
/// the name of the source connection belongs to it.
pub fn blocking_key(source: &str, entity_type: &EntityType, source_id: &str) -> String {
    format!("{source}/{entity_type}/{source_id}")
}

impl Held {
    /// Whether this lease is the one in force (promise C2).
    pub fn is_leased_by(&self, lease: Lease) -> bool {
        self.id == lease.task_id && self.state == TaskState::Running && self.epoch == lease.epoch
    }

    /// Names this task's record where others wait for it.
    pub fn blocking_key(&self) -> String {
        blocking_key(&self.source, &self.entity_type, &self.source_id)
    }

    /// A key of [`Self::blocking_key`]'s form for a record of the same source.
    fn key_of(&self, parent: &RecordRef) -> String {
        blocking_key(&self.source, &parent.entity_type, &parent.source_id)
    }
}

/// Decides. The lease must have been checked.
pub fn settle<'a>(held: &Held, settlement: &'a PushSettlement) -> Outcome<'a> {
    let outcome = decide(held, settlement);
    let doubt = outcome.intent_version.or(outcome.unsettled_version);
    Outcome {
        forget_request: settlement.request.is_some() && doubt.is_none(),
        ..outcome
    }
}

fn decide<'a>(held: &Held, settlement: &'a PushSettlement) -> Outcome<'a> {
    let error = settlement.attempt.error.as_ref();
    // Without an error class nobody can tell that nothing was sent (promise O1).
    let applied = error.is_none_or(|error| error.class.may_have_been_applied());
    let refused = error.is_some_and(|error| is_refusal(error.class));
    // A kept request counts instead of what was claimed.
    let repeated = settlement.request.is_some();
    let sent = settlement.request.or(held.intent_version);
    let tried = |outcome| Some((outcome, None, sent));
    let base = Outcome {
        state: TaskState::Waiting,
        retry_count: held.retry_count,
        // A retry or a snooze proves nothing: it may be the next one that kills the worker.
        crash_count: held.crash_count,
        refusal_count: held.refusal_count.saturating_add(u32::from(refused)),
        limited: limited(error),
        wait: None,
        blocked_on: None,
        delivered_version: held.delivered_version,
        intent_version: held
            .intent_version
            .filter(|intent| applied && sent == Some(*intent)),
        // Refused: what was in doubt was not carried out either.
        unsettled_version: held.unsettled_version.filter(|_| !(repeated && refused)),
        error,
        attempt: None,
        link: None,
        dead_letter: None,
        forget_request: false,
    };
    let used = held.retry_count.saturating_add(1);
    // A version that came during the call deserves its own attempts.
    let newer = |version: Option<i32>| version.is_some_and(|version| held.wanted_version > version);
    // It was sent before somebody edited the data of its version: that is to be sent as well.
    let edited_since = repeated && held.unsettled_version == Some(OTHER_DATA);
    match &settlement.next {
        PushNext::Delivered {
            action,
            version,
            hash,
            external_id,
        } => Outcome {
            state: if newer(Some(*version)) || edited_since {
                TaskState::Pending
            } else {
                TaskState::Completed
            },
            retry_count: 0,
            crash_count: 0,
            limited: Some(false),
            delivered_version: if edited_since {
                held.delivered_version
            } else {
                held.delivered_version.max(Some(*version))
            },
            intent_version: None,
            unsettled_version: None,
            error: None,
            attempt: Some((AttemptOutcome::Completed, Some(*action), Some(*version))),
            link: Some(Delivered {
                version: *version,
                hash: *hash,
                external_id: external_id.as_deref(),
                forget: *action == PushAction::Deleted,
            }),
            ..base
        },
        PushNext::Retry { after } => Outcome {
            retry_count: used,
            wait: Some(*after),
            attempt: tried(AttemptOutcome::RetryAt),
            ..base
        },
        PushNext::Snooze { after } => Outcome {
            wait: Some(*after),
            // A person says that nothing was sent; an error says itself whether it may have been.
            intent_version: base.intent_version.filter(|_| error.is_some()),
            attempt: tried(AttemptOutcome::Snoozed).filter(|_| !waited(&settlement.attempt)),
            ..base
        },
        PushNext::Blocked { .. } if held.parent_linked => Outcome {
            state: TaskState::Pending,
            intent_version: None,
            ..base
        },
        PushNext::Blocked { on } => Outcome {
            blocked_on: Some(held.key_of(on)),
            intent_version: None,
            ..base
        },
        // While it is in doubt whether the kept request was carried out, nothing newer is sent.
        PushNext::Dead if newer(sent) && !(repeated && applied) => Outcome {
            state: TaskState::Pending,
            retry_count: 0,
            crash_count: held.crash_count.min(1),
            attempt: tried(AttemptOutcome::Dead),
            ..base
        },
        PushNext::Dead => Outcome {
            state: TaskState::Dead,
            // Whoever replays it gets a suspect, with all tries of one.
            crash_count: held.crash_count.min(1),
            attempt: tried(AttemptOutcome::Dead),
            dead_letter: Some(used),
            ..base
        },
        PushNext::Unknown => Outcome {
            state: TaskState::Unknown,
            intent_version: held.intent_version,
            attempt: tried(AttemptOutcome::Unknown),
            ..base
        },
        PushNext::Cancelled => Outcome {
            state: if newer(sent) {
                TaskState::Pending
            } else {
                TaskState::Cancelled
            },
            attempt: tried(AttemptOutcome::Cancelled),
            ..base
        },
    }
}

/// Whether the push only waited for a turn of its own: nothing was tried, and it may wait many times.
fn waited(attempt: &Attempt) -> bool {
    let error = attempt.error.as_ref();
    attempt.calls == 0 && error.is_some_and(|error| is_own_wait(&error.code))
}

/// What an attempt says about `limited_date`: the time runs on, or begins (`Some(true)`), ends
/// (`Some(false)`), or stays as it is, because nothing was asked.
pub fn limited(error: Option<&AttemptError>) -> Option<bool> {
    let error = error?;
    match error.class {
        ErrorClass::RateLimit if is_own_wait(&error.code) => None,
        class => Some(class == ErrorClass::RateLimit),
    }
}

/// Whether the target has looked at the request and will not carry it out.
fn is_refusal(class: ErrorClass) -> bool {
    matches!(
        class,
        ErrorClass::Validation | ErrorClass::NotFound | ErrorClass::Conflict
    )
}

/// How a task ends whose workers keep dying (promise O8).
pub fn worker_died(crashes: u32) -> AttemptError {
    AttemptError {
        class: ErrorClass::Internal,
        code: "worker_died".to_owned(),
        message: format!(
            "{crashes} workers in a row died, or lost their lease, while they worked on this task"
        ),
        http_status: None,
    }
}

/// The last attempt of such a task, as far as anybody knows.
pub fn fatal_attempt(crashes: u32, worker: Option<String>, now: Timestamp) -> Attempt {
    Attempt {
        started_at: now,
        duration: Duration::ZERO,
        calls: 0,
        error: Some(worker_died(crashes)),
        reason: None,
        worker: worker.unwrap_or_default(),
        trace_id: None,
    }
}

/// Class and code of a dead letter whose attempt gave no error.
pub const NO_ERROR: (ErrorClass, &str) = (ErrorClass::Internal, "no_error_given");

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
