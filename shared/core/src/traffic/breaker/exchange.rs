//! What processes tell a breaker, and what they hear from it.

use serde::{Deserialize, Serialize};

use crate::traffic::Nanos;

/// Calls that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub answered: u32,
    pub failed: u32,
    /// Failures since the last answer.
    pub in_a_row: u32,
}

impl Report {
    pub fn add(&mut self, ended: Ended) {
        match ended {
            Ended::Answered => {
                self.answered += 1;
                self.in_a_row = 0;
            }
            Ended::Failed => {
                self.failed += 1;
                self.in_a_row += 1;
            }
            Ended::Unknown => {}
        }
    }

    /// This one's calls came before the other's.
    pub fn and_then(self, later: Self) -> Self {
        Self {
            answered: self.answered + later.answered,
            failed: self.failed + later.failed,
            in_a_row: if later.answered > 0 {
                later.in_a_row
            } else {
                self.in_a_row + later.in_a_row
            },
        }
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// How a call ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well or refused, the other side works.
    Answered,
    /// Nobody there, no answer in time, or an answer of 5xx.
    Failed,
    /// Given up by us, or told to slow down.
    Unknown,
}

/// A call that is made as a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeBegin {
    pub id: u64,
    /// How long the breaker has been open.
    pub open_for: Nanos,
    /// How long everybody waits when it fails.
    pub next_wait: Nanos,
}

/// The end of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeEnd {
    pub id: u64,
    pub ended: Ended,
}

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    All,
    Some(u32),
    /// One call, as a probe.
    Probe,
    None,
}

/// What people want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Opened {
        reason: Reason,
        wait_ms: i64,
    },
    /// A probe failed; the next one comes later.
    StillOpen {
        wait_ms: i64,
    },
    Closed,
}

/// Why it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    FailuresInARow,
    ManyFailed,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailuresInARow => "failures_in_a_row",
            Self::ManyFailed => "many_failed",
        }
    }
}
