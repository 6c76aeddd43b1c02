//! Runs: one execution of a flow, its states and its counts.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorClass};

/// What a run does. Stored in `sync_orchestration.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Everything the source has.
    Full,
    /// What changed since the last run's cursor, minus an overlap.
    Incremental,
    /// One record by its source id.
    Single,
    /// Stored raw records once more, without fetching.
    Reprocess,
}

impl RunKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Single => "single",
            Self::Reprocess => "reprocess",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Full, Self::Incremental, Self::Single, Self::Reprocess]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Life of a run. Stored in `sync_orchestration.state`, which has a CHECK of the same words.
///
/// ```text
/// queued -> running -> done | partial | failed
///             |  ^
///             v  |
///           paused          queued, running, paused -> cancelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Queued,
    Running,
    Paused,
    /// Everything read and processed.
    Done,
    /// Finished, but some records or partitions failed.
    Partial,
    /// Nothing useful came of it.
    Failed,
    Cancelled,
}

impl RunState {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Done,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Partial | Self::Failed | Self::Cancelled
        )
    }

    /// Whether the step is legal (promise C1). Staying in a state is no step.
    pub fn may_become(self, next: Self) -> bool {
        use RunState::{Cancelled, Done, Failed, Partial, Paused, Queued, Running};
        matches!(
            (self, next),
            (Queued, Running | Cancelled | Failed)
                | (Running, Paused | Done | Partial | Failed | Cancelled)
                | (Paused, Running | Cancelled)
        )
    }

    /// Checks a step; the error names both states.
    pub fn step(self, next: Self) -> Result<Self, Error> {
        if self.may_become(next) {
            return Ok(next);
        }
        Err(Error::new(
            ErrorClass::Conflict,
            "run_transition_refused",
            format!(
                "a run that is {} cannot become {}",
                self.as_str(),
                next.as_str()
            ),
        ))
    }
}

/// Counts of records in a run. `read = created + updated + deleted + unchanged + stale + conflicts
/// + rejected + skipped` once the run has ended (promise C1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    /// Records the source delivered.
    pub read: u64,
    /// Raw records stored that were not known before.
    pub stored: u64,
    pub created: u64,
    pub updated: u64,
    pub deleted: u64,
    pub unchanged: u64,
    /// Older than what was known.
    pub stale: u64,
    pub conflicts: u64,
    /// Failed mapping or validation; on the review list.
    pub rejected: u64,
    /// Left out on purpose by the mapping, such as pseudo units.
    pub skipped: u64,
    /// Bytes of raw payloads.
    pub bytes: u64,
    /// Calls made to the source.
    pub calls: u64,
}

impl RunCounts {
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.stored += other.stored;
        self.created += other.created;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
        self.conflicts += other.conflicts;
        self.rejected += other.rejected;
        self.skipped += other.skipped;
        self.bytes += other.bytes;
        self.calls += other.calls;
    }

    /// Records whose fate is known; equals `read` when nothing is pending.
    pub fn settled(&self) -> u64 {
        self.created
            + self.updated
            + self.deleted
            + self.unchanged
            + self.stale
            + self.conflicts
            + self.rejected
            + self.skipped
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub state: RunState,
    /// What is wrong, when no pull's error tells it.
    pub error: Option<&'static str>,
}

/// How a run ends whose steps are all closed: `done` when nothing failed, `failed` when pulls
/// failed and nothing was read or the one record that was wanted was not found, else `partial`.
pub fn ending(kind: RunKind, counts: &RunCounts, failed_pulls: u64) -> Ending {
    let (state, error) = match (failed_pulls, counts.read, counts.rejected) {
        (0, 0, _) if kind == RunKind::Single => {
            let unknown = "record_not_found: the source has no record of this id in these streams";
            (RunState::Failed, Some(unknown))
        }
        (0, _, 0) => (RunState::Done, None),
        (1.., 0, _) => (RunState::Failed, None),
        _ => (RunState::Partial, None),
    };
    Ending { state, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C1: final states are final, and every state can be reached from `queued`.
    #[test]
    fn final_states_have_no_way_out_and_all_states_can_be_reached() {
        let mut reached = vec![RunState::Queued];
        let mut index = 0;
        while index < reached.len() {
            let from = reached[index];
            let steps: Vec<_> = RunState::ALL
                .into_iter()
                .filter(|to| from.may_become(*to))
                .collect();
            assert_eq!(from.is_final(), steps.is_empty(), "{from:?}");
            for to in steps {
                if !reached.contains(&to) {
                    reached.push(to);
                }
            }
            index += 1;
        }
        assert_eq!(reached.len(), RunState::ALL.len());
    }

    #[test]
    fn the_ending_tells_failed_from_partial_from_done() {
        let counts = |read, rejected| RunCounts {
            read,
            rejected,
            ..RunCounts::default()
        };
        let state = |kind, counts, failed| ending(kind, &counts, failed).state;
        for kind in [RunKind::Full, RunKind::Single] {
            assert_eq!(state(kind, counts(9, 0), 0), RunState::Done);
            assert_eq!(state(kind, counts(9, 1), 0), RunState::Partial);
            assert_eq!(state(kind, counts(9, 0), 1), RunState::Partial);
            assert_eq!(state(kind, counts(0, 0), 2), RunState::Failed);
        }
        assert_eq!(state(RunKind::Full, counts(0, 0), 0), RunState::Done);
        let unknown = ending(RunKind::Single, &counts(0, 0), 0);
        assert_eq!(unknown.state, RunState::Failed);
        assert!(unknown.error.unwrap().contains("record_not_found"));
    }

    #[test]
    fn words_round_trip() {
        for state in RunState::ALL {
            assert_eq!(RunState::parse(state.as_str()), Some(state));
        }
    }
}
