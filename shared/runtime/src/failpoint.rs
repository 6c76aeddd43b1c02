//! Fail points: named places between two steps of "one record", where a test can end the process
//! as `kill -9` would, or hold it up. In builds without debug assertions they are nothing.
//!
//! `SLUICE_FAIL_POINTS` holds rules, separated by `;`: `POINT[@SUBJECT]=ACTION[@N]`. The action is
//! `kill` or `pause:DURATION`; with `@N` only the Nth time, else each time. A subject (an entity
//! id) restricts a rule to one record.
//!
//! ```text
//! SLUICE_FAIL_POINTS="sync_out.answered=kill@3;sync_in.kept=pause:2s"
//! SLUICE_FAIL_POINTS="sync_out.mapped@yardi:service_request/1017=kill"
//! ```

#[cfg(debug_assertions)]
mod plan;

use sluice_core::{Error, Result};

/// The variable that holds the rules.
pub const VARIABLE: &str = "SLUICE_FAIL_POINTS";

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A place between two steps; ARCHITECTURE.md names the steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Point {
            /// All of them, in the order of one record's way.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in rules.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

points! {
    /// The webhook's payload is durable; its sender was not answered.
    ApiKept = "api.kept",
    /// References are staged; none is published.
    OrchestratorStaged = "orchestrator.staged",
    /// References are published and confirmed, or not; nothing is noted about it.
    OrchestratorPublished = "orchestrator.published",
    /// A pull is claimed and its message acknowledged; nothing is read.
    SyncInClaimed = "sync_in.claimed",
    /// A page came in; it is not durable.
    SyncInFetched = "sync_in.fetched",
    /// The payload is durable; nothing was made of it.
    SyncInKept = "sync_in.kept",
    /// Master data, links and tasks of a page are committed; raw records are not stored.
    SyncInApplied = "sync_in.applied",
    /// Raw records are stored; the payload is still pending.
    SyncInStored = "sync_in.stored",
    /// The payload is finished; the checkpoint has not moved.
    SyncInFinished = "sync_in.finished",
    /// The checkpoint has moved; the next page may be under way.
    SyncInCheckpointed = "sync_in.checkpointed",
    /// Everything was read; the pull is not settled.
    SyncInRead = "sync_in.read",
    /// Recovery took a payload over; it is still pending.
    SyncInRecovering = "sync_in.recovering",
    /// Pushes are claimed, their intents recorded; nothing is mapped.
    SyncOutClaimed = "sync_out.claimed",
    /// A push is mapped; no call was made. Knows its subject.
    SyncOutMapped = "sync_out.mapped",
    /// The target said which records of unknown outcome it has; nothing is sent.
    SyncOutLookedUp = "sync_out.looked_up",
    /// A token was renewed for the fleet; it is not kept.
    TokenRenewed = "token.renewed",
    /// A renewed token is kept; nobody has used it.
    TokenKept = "token.kept",
    /// A new token was fetched; it has not been used.
    TargetToken = "target.token",
    /// The target answered; nothing is noted about it.
    SyncOutAnswered = "sync_out.answered",
    /// Outcomes are committed; their messages are not acknowledged.
    SyncOutSettled = "sync_out.settled",
    /// Outbound states are marked at raw records; the reader's position is not saved.
    OrchestratorMarked = "orchestrator.marked",
    /// References of dead letters are published; they are not noted as mirrored.
    OrchestratorMirrored = "orchestrator.mirrored",
}

/// Reads the rules and says that they are armed.
///
/// # Errors
/// `fail_points`: a rule that cannot be read, or rules for a build that has no fail points.
#[cfg(debug_assertions)]
pub fn arm() -> Result<()> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    let plan = plan::Plan::parse(&text).map_err(refused)?;
    tracing::warn!(rules = text, "fail points are armed");
    // A second call in one process changes nothing.
    let _ = PLAN.set(plan);
    Ok(())
}

/// Refuses rules: this build has no fail points.
///
/// # Errors
/// `fail_points` when there are any.
#[cfg(not(debug_assertions))]
pub fn arm() -> Result<()> {
    match std::env::var_os(VARIABLE) {
        Some(_) => Err(refused("this build has no fail points".to_owned())),
        None => Ok(()),
    }
}

fn refused(problem: String) -> Error {
    Error::config("fail_points", format!("{VARIABLE}: {problem}"))
        .hint("fail points are for tests of builds with debug assertions; unset the variable")
}

#[cfg(debug_assertions)]
static PLAN: std::sync::OnceLock<plan::Plan> = std::sync::OnceLock::new();

/// A step ends here and the next begins.
#[cfg(debug_assertions)]
pub async fn reach(point: Point) {
    reach_for(point, "").await;
}

/// The same, for one record.
#[cfg(debug_assertions)]
pub async fn reach_for(point: Point, subject: &str) {
    let Some(plan) = PLAN.get() else { return };
    match plan.hit(point, subject) {
        None => {}
        Some(plan::Action::Kill) => {
            // No destructor runs, no buffer is written: as if killed from outside.
            eprintln!("fail point {}: killed", point.name());
            std::process::abort();
        }
        Some(plan::Action::Pause(time)) => {
            tracing::warn!(point = point.name(), ?time, "fail point: pausing");
            tokio::time::sleep(time).await;
        }
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub async fn reach(_: Point) {}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub async fn reach_for(_: Point, _: &str) {}
