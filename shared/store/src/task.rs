//! Tasks: staging, claiming, leases, settling, rescue. See `sluice_core::task` for the states.

mod pull;

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use sluice_core::{
    ConnectionId, EntityType, Error, ErrorClass, Hash, MasterId, OrganizationId, Priority,
    QueueClass, Result, RunId, TaskId, Timestamp,
    message::TaskRef,
    record::RecordRef,
    run::RunState,
    task::{AttemptOutcome, PushAction, TaskKind, TaskState},
};

use crate::{
    dead_letter::DeadLetterStore,
    dependency::{BlockedFound, BlockedLook, BlockedTotal, Blocker, BlockerQuery},
    request::RequestStore,
    run::{NewRun, Run, RunDetail, RunQuery, StartedRun},
    unknown::{UnknownPush, UnknownQuery, Verdict},
};

pub use pull::{Checkpoint, PullNext, PullSettlement, PullSpec, PullTask, StreamState};

/// How many tasks of one connection and some priorities may be staged now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageQuota {
    pub connection_id: ConnectionId,
    pub kind: TaskKind,
    /// First and last, as [`QueueClass::priorities`] gives them.
    pub priorities: (u8, u8),
    pub limit: u32,
}

/// Open tasks, and those of unknown outcome, counted by connection, kind, class and state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backlog {
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    pub kind: TaskKind,
    pub class: QueueClass,
    pub state: TaskState,
    pub count: u64,
    pub oldest: Option<Timestamp>,
}

/// What [`TaskStore::rescue`] looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RescueSettings {
    /// A staged task not claimed for this long is pending again: its message was lost.
    pub staged_for: Duration,
    /// At most this many rows per kind of rescue.
    pub limit: u32,
}

/// What [`TaskStore::rescue`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Running tasks whose lease had run out.
    pub leases: u64,
    /// Those of them that were given up, because their workers keep dying.
    pub given_up: u64,
    /// Staged tasks whose message was lost.
    pub messages: u64,
    /// Blocked tasks whose parent is linked by now.
    pub unblocked: u64,
}

/// Proof of a claim: settling with an outdated epoch changes nothing (promise C2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub task_id: TaskId,
    pub epoch: i64,
}

/// Asks for tasks by id, as named by broker messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub ids: Vec<TaskId>,
    /// Who asks: host and process, for people.
    pub owner: String,
    /// Longer than any call it covers.
    pub lease: Duration,
    /// Whether suspects may be among them: tasks whose last worker died. Whoever says so works on
    /// one suspect at a time, so that one which kills its worker drags no other along (promise O8).
    pub suspects: bool,
    /// Entity types whose creates whoever claims keeps before it sends them; see
    /// [`crate::RequestStore`].
    pub keeps: Vec<EntityType>,
}

impl Claim {
    /// Whether whoever claims can send nothing for this push but a create, and none that it has not
    /// kept: as long as nothing is kept, nothing was sent (promise O1). Updates and deletions are not kept.
    pub fn keeps_what_it_sends(&self, task: &PushTask) -> bool {
        !task.is_linked() && self.keeps.contains(&task.entity_type)
    }
}

/// Answer to a claim, in the order of its ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed<T> {
    pub tasks: Vec<T>,
    /// Free, but suspects, and the claim takes none.
    pub suspects: Vec<TaskId>,
}

/// A claimed push with the newest version and all that is needed to send it.
#[derive(Debug, Clone, PartialEq)]
pub struct PushTask {
    pub lease: Lease,
    pub organization_id: OrganizationId,
    /// The target.
    pub connection_id: ConnectionId,
    pub priority: Priority,
    pub master_id: MasterId,
    pub entity_type: EntityType,
    pub entity_id: String,
    pub source_connection_id: ConnectionId,
    pub source_system: String,
    pub source_id: String,
    /// The newest version; claiming it is the recorded intent to send it (promise O1).
    pub version: i32,
    /// The version's data, or what somebody sends instead.
    pub data: Value,
    /// The edit that `data` comes from, if it is not the version's own.
    pub edit: Option<i64>,
    pub deleted: bool,
    /// When the source itself last changed what the version says; `None` when it does not tell.
    pub modified_at: Option<Timestamp>,
    /// Parents, with their external ids at this target where they have one.
    pub parents: Vec<ParentLink>,
    pub link: Option<TargetLink>,
    /// Oldest version of an earlier intent that may have been carried out without our knowing,
    /// because nobody recorded its outcome or the answer was lost: find out before sending again.
    /// What was to be kept before it was sent, and was not kept, was not carried out.
    pub unsettled_version: Option<i32>,
    /// Definite refusals so far: each makes the next create another request (promise O1).
    pub refusal_count: u32,
    /// Attempts so far, without this one.
    pub retry_count: u32,
    pub max_retries: u32,
    /// How long the target has answered with nothing but rate limits.
    pub limited_for: Duration,
    pub traceparent: Option<String>,
}

impl PushTask {
    /// Whether the target is known to have the record.
    pub fn is_linked(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| link.external_id.is_some())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    pub parent: RecordRef,
    /// `None` while the parent is not linked at this target.
    pub external_id: Option<String>,
}

/// The link to the target as of the claim.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetLink {
    pub external_id: Option<String>,
    pub pushed_version: Option<i32>,
    /// Hash of the body last delivered, in the target's form.
    pub pushed_hash: Option<Hash>,
}

/// One try, for `task_attempts`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub started_at: Timestamp,
    pub duration: Duration,
    /// Calls to the other system that belong to this attempt; a batch counts for its first task.
    pub calls: u32,
    pub error: Option<AttemptError>,
    /// Why nothing was sent although nothing failed, in the mapping's words.
    pub reason: Option<String>,
    pub worker: String,
    pub trace_id: Option<String>,
}

impl Attempt {
    /// What is kept in words: a failure's, else the reason.
    pub fn message(&self) -> Option<&str> {
        let error = self.error.as_ref().map(|error| &*error.message);
        error.or(self.reason.as_deref())
    }
}

/// Why an attempt failed; free of secrets and personal data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptError {
    pub class: ErrorClass,
    pub code: String,
    pub message: String,
    pub http_status: Option<u16>,
}

impl From<&Error> for AttemptError {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class(),
            code: error.code().to_owned(),
            message: error.to_string(),
            http_status: error.status(),
        }
    }
}

/// The trace id inside a W3C `traceparent` (version, trace id, span id, flags, with dashes
/// between), for [`Attempt::trace_id`].
pub fn trace_id(traceparent: &str) -> Option<String> {
    traceparent.split('-').nth(1).map(str::to_owned)
}

/// A stored attempt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptRow {
    pub number: u32,
    pub version: Option<i32>,
    pub outcome: AttemptOutcome,
    pub action: Option<PushAction>,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub calls: u32,
    pub error_class: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// Why nothing was sent although nothing failed.
    pub reason: Option<String>,
    pub http_status: Option<u16>,
    pub worker: String,
    pub trace_id: Option<String>,
}

impl AttemptRow {
    /// Kept words belong to the failure where there is one; see [`Attempt::message`]. Returns the
    /// failure's message and the reason.
    pub fn words(class: Option<&str>, kept: Option<String>) -> (Option<String>, Option<String>) {
        match class {
            Some(_) => (kept, None),
            None => (None, kept),
        }
    }
}

/// The end of an attempt at a push.
#[derive(Debug, Clone, PartialEq)]
pub struct PushSettlement {
    pub lease: Lease,
    pub attempt: Attempt,
    pub next: PushNext,
    /// Version of the kept request that was sent, where one was: the attempt is about that, and not
    /// about the claimed version; see [`crate::RequestStore`].
    pub request: Option<i32>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PushNext {
    /// The target holds `version`. When a newer version is wanted by now, the task is pending
    /// again; otherwise completed. Attempts start from 0 again. With an external id, children
    /// blocked on this record are released. [`PushAction::Deleted`] forgets the external id;
    /// otherwise `None` leaves the one that is known.
    Delivered {
        action: PushAction,
        version: i32,
        /// Hash of the body in the target's form; `None` for a skip by the mapping.
        hash: Option<Hash>,
        external_id: Option<String>,
    },
    /// One attempt used. The intent stays on record when the error's class says that the call
    /// may have been carried out ([`ErrorClass::may_have_been_applied`], or no error given).
    Retry {
        after: Duration,
    },
    /// No attempt used. The intent is taken back, unless the error's class says that the call may have
    /// been carried out. Snoozes with an error of class [`ErrorClass::RateLimit`] add up to
    /// `limited_for`, until something else happens.
    Snooze {
        after: Duration,
    },
    /// Waits, without an attempt, until this record is linked at the target; nothing was sent. A
    /// newer version makes the task pending too, because its parents may be others.
    Blocked {
        on: RecordRef,
    },
    /// A dead letter is written in the same transaction.
    Dead,
    /// Nobody knows whether it was applied; waits for a person.
    Unknown,
    Cancelled,
}

/// A link state that changed, for mirroring into the raw store.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboundChange {
    /// Continue after this (task change sequence).
    pub cursor: i64,
    pub organization_id: OrganizationId,
    pub source_connection_id: ConnectionId,
    pub entity_type: EntityType,
    pub source_id: String,
    pub target: String,
    pub state: TaskState,
}

/// Totals of one target connection, from its attempts and tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TargetSummary {
    pub connection: String,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub linked: u64,
    pub skipped: u64,
    pub calls: u64,
    pub retries: u64,
    pub dead: u64,
    /// On their way: pending, staged, running, or waiting for a time.
    pub open: u64,
    /// Waiting for a parent that is not at this target: not yet, or left out there.
    pub blocked: u64,
    /// Versions that were wanted at this target so far.
    pub wanted: u64,
}

/// Keeps tasks, runs and dead letters, in the same database as the master data.
#[async_trait]
pub trait TaskStore: DeadLetterStore + RequestStore {
    // Runs

    /// Creates a queued run with a step per stream, in order, and the first step's pull task;
    /// [`Self::advance_runs`] starts it. The same idempotency key gives the run it gave before. At
    /// most five queued or running runs per organization; one more is refused with
    /// `too_many_runs`, also when it is a paused one that resumes (promise C1).
    ///
    /// # Errors
    /// `too_many_runs`, `run_without_streams`, `connection_unknown` (also another organization's).
    async fn start_run(&self, run: &NewRun) -> Result<StartedRun>;

    async fn run(&self, organization: OrganizationId, id: RunId) -> Result<Option<RunDetail>>;

    async fn runs(&self, query: &RunQuery) -> Result<Vec<Run>>;

    /// A legal step of [`RunState`] or an error; repeating the current state is a success.
    /// Cancelling (any final state) cancels the run's open pull tasks and steps.
    ///
    /// # Errors
    /// `run_unknown` (also another organization's), `run_transition_refused`, `too_many_runs`.
    async fn change_run(
        &self,
        organization: OrganizationId,
        id: RunId,
        to: RunState,
        note: &str,
    ) -> Result<Run>;

    /// Starts queued runs, closes steps whose tasks are all closed, opens the next ones, ends runs
    /// as [`sluice_core::run::ending`] says; returns the runs that changed.
    async fn advance_runs(&self) -> Result<Vec<Run>>;

    // Staging

    async fn backlog(&self) -> Result<Vec<Backlog>>;

    /// Marks pending tasks as staged, most urgent and oldest first, within each quota, and returns
    /// their references. Tasks of runs that do not run are left alone.
    async fn stage(&self, quotas: &[StageQuota]) -> Result<Vec<TaskRef>>;

    /// Makes staged tasks pending again, when their message could not be published.
    async fn unstage(&self, ids: &[TaskId]) -> Result<u64>;

    /// Makes waiting tasks pending whose time has come, the longest due first, and tells how many.
    async fn wake(&self, limit: u32) -> Result<u64>;

    /// The timer that heals everything: dead workers, lost messages, parents linked meanwhile. All go back to pending, but a task whose worker died rests and is given up as
    /// [`sluice_core::retry::after_crash`] says: a push as a dead letter `worker_died`, a pull as
    /// failed. A success, and a pull's checkpoint, begin the count anew.
    async fn rescue(&self, settings: &RescueSettings) -> Result<Rescued>;

    // Working

    /// Leases those of the named pulls that are pending, staged, or running with an expired lease,
    /// and whose run is running. The others are left out: nothing to do.
    /// A task whose lease has just run out is taken over only when it is the first time, and as a
    /// suspect.
    async fn claim_pulls(&self, claim: &Claim) -> Result<Claimed<PullTask>>;

    /// The same for pushes, with everything needed to send them, in at most four statements, and one
    /// more where creates are kept.
    /// A push whose wanted version is delivered already becomes completed and is left out.
    async fn claim_pushes(&self, claim: &Claim) -> Result<Claimed<PushTask>>;

    /// Extends leases that are still held; `false` for a lost one.
    async fn renew(&self, leases: &[Lease], by: Duration) -> Result<Vec<bool>>;

    /// Stores a pull's progress; `false` when the lease is lost or the run no longer runs: stop.
    /// A paused run keeps this last progress, so that resuming repeats nothing; a lost lease
    /// changes nothing; a dry run keeps no cursor.
    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<bool>;

    /// `false` when the lease was lost: nothing was changed.
    async fn settle_pull(&self, settlement: &PullSettlement) -> Result<bool>;

    /// Attempts, links, states, releases of children and dead letters in one transaction and a
    /// handful of statements; `false` for each lost lease.
    async fn settle_pushes(&self, settlements: &[PushSettlement]) -> Result<Vec<bool>>;

    /// Cursors of a stream, by partition.
    async fn stream_states(
        &self,
        connection: ConnectionId,
        stream: &str,
    ) -> Result<Vec<StreamState>>;

    // What waits for a person or a parent

    /// Pushes that wait for a person to say whether they were carried out.
    async fn unknown_pushes(&self, query: &UnknownQuery) -> Result<Vec<UnknownPush>>;

    /// Settles one of them; who did it, and why, is kept as an attempt and in the activity log.
    /// `task_not_unknown` (also another organization's) when it is none.
    async fn settle_unknown(
        &self,
        organization: OrganizationId,
        id: TaskId,
        verdict: &Verdict,
        actor: &str,
        reason: &str,
    ) -> Result<()>;

    /// Which records block most.
    async fn blockers(&self, query: &BlockerQuery) -> Result<Vec<Blocker>>;

    /// Blocked pushes, by target, of all organizations.
    async fn blocked_totals(&self) -> Result<Vec<BlockedTotal>>;

    /// Looks at some blocked pushes: those that wait for themselves in the end become dead letters
    /// `dependency_cycle`, and parents that nobody has read are named once, to be fetched.
    async fn look_at_blocked(&self, look: &BlockedLook) -> Result<BlockedFound>;

    // Looking

    /// Changes of push states after a cursor, oldest first. None is ever stepped over, so the newest
    /// may be held back while older transactions run.
    async fn outbound_changes(&self, after: i64, limit: u32) -> Result<Vec<OutboundChange>>;

    /// The cursor kept for a named reader of [`Self::outbound_changes`], 0 at first.
    async fn reader_cursor(&self, reader: &str) -> Result<i64>;

    async fn save_reader_cursor(&self, reader: &str, cursor: i64) -> Result<()>;

    async fn target_summary(&self, organization: OrganizationId) -> Result<Vec<TargetSummary>>;

    /// Deletes closed runs, pulls, attempts and log entries older than `keep`; returns how many.
    async fn prune(&self, keep: Duration) -> Result<u64>;
}
