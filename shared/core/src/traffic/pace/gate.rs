//! What calls have to pass: a limit, or a limit without its reserve.

use super::{Nanos, history};
use crate::{
    catalogue::RateLimit,
    traffic::{AHEAD, LATE, LONGEST_TRIP, SECOND},
};

/// Longest slack.
const SLACK: Nanos = 3 * SECOND / 2;
/// Slack of short windows, in percent of the window.
const SLACK_PERCENT: Nanos = 2;
/// A slot may be used late by this part of the window, and so much may be caught up with.
const LATE_PART: Nanos = 4;
/// Limits one connection may have.
pub const MAX_LIMITS: usize = 16;

/// The slack of a window: the most by which a call may reach the other side after it counts as made.
pub fn slack(limit: &RateLimit) -> Nanos {
    SLACK.min(window(limit) * SLACK_PERCENT / 100)
}

fn window(limit: &RateLimit) -> Nanos {
    Nanos::from(limit.per_seconds.max(1)) * SECOND
}

/// One pace that calls have to keep: a limit's, or that of a limit without its reserve.
pub(super) struct Gate<'a> {
    per_seconds: u32,
    pub(super) paths: &'a [String],
    pub(super) spares_urgent: bool,
    /// The window, the slack, and a nanosecond, since both ends of a window may count.
    pub(super) span: Nanos,
    /// How late a slot may be used, and what may be caught up with of time in which nobody called.
    pub(super) late: Nanos,
    pub(super) calls: u64,
    /// Slots are this far apart, more or less.
    pub(super) step: Nanos,
    /// Of the times in its history.
    pub(super) grain: Nanos,
}

impl<'a> Gate<'a> {
    fn new(limit: &'a RateLimit, calls: u32, spares_urgent: bool) -> Self {
        let span = window(limit) + slack(limit) + 1;
        let calls = calls.max(1);
        Self {
            per_seconds: limit.per_seconds,
            paths: &limit.paths,
            spares_urgent,
            span,
            late: LATE.min(window(limit) / LATE_PART),
            calls: u64::from(calls),
            step: span / Nanos::from(calls) + 1,
            grain: history::grain(calls, span),
        }
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.per_seconds, self.paths, self.spares_urgent)
            == (other.per_seconds, other.paths, other.spares_urgent)
    }

    /// By so much calls can be ahead of even steps: they catch up, are late, and slots are given
    /// back that were handed out ahead of time and could still be used.
    pub(super) fn loose(&self) -> Nanos {
        3 * self.late + AHEAD + LONGEST_TRIP
    }

    pub(super) fn counts_all(&self) -> bool {
        self.paths.is_empty() && !self.spares_urgent
    }
}

pub(super) fn gates(limits: &[RateLimit]) -> impl Iterator<Item = Gate<'_>> {
    limits.iter().take(MAX_LIMITS).flat_map(|limit| {
        let left = u64::from(limit.calls) * u64::from(100 - limit.reserve.min(100)) / 100;
        let left = u32::try_from(left).unwrap_or(limit.calls);
        [
            Some(Gate::new(limit, limit.calls, false)),
            (limit.reserve > 0).then(|| Gate::new(limit, left, true)),
        ]
        .into_iter()
        .flatten()
    })
}
