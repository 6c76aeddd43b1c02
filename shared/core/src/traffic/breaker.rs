//! The breaker: stops all calls to a connection that fails, asks it now and then, and lets calls
//! through again when it is well (promise O4).
//!
//! ```text
//! Closed -- failures --> Open -- good probes --> Ramp -- 8 horizons --> Closed
//!                        ^  |                     |
//!                        +--+ bad probe           +-- failures --> Open
//! ```
//!
//! Failures are calls that nobody answered and answers of 5xx. Refusals (4xx) are answers; 429 is
//! neither, since pauses deal with it.

mod cause;
mod exchange;
mod look;

use serde::{Deserialize, Serialize};

use super::{AHEAD, MILLISECOND, Nanos, SECOND};
use crate::catalogue::BreakerPolicy;

pub use cause::Cause;
pub use exchange::{Admission, Ended, Event, ProbeBegin, ProbeEnd, Reason, Report};
pub use look::Look;

/// The past that counts.
const MEMORY: Nanos = 30 * SECOND;
const BUCKET: Nanos = 5 * SECOND;
/// Time a dead prober's successor waits beyond the longest call.
const PROBE_MARGIN: Nanos = 10 * SECOND;
/// Calls let through per [`AHEAD`] after closing: 1, 2, 4, .., 128, then all.
const RAMP: Nanos = 8;

/// The state of one connection's breaker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    state: State,
    counts: Vec<Counts>,
    in_a_row: u32,
    /// What the last failed call failed with, as far as anybody said.
    cause: Option<Cause>,
    /// Probes so far.
    probes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    since: Nanos,
    answered: u32,
    failed: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum State {
    #[default]
    Closed,
    Open {
        reason: Reason,
        since: Nanos,
        until: Nanos,
        wait: Nanos,
        good: u32,
        probe: Option<Probe>,
    },
    Ramp {
        since: Nanos,
        /// Calls let through in this horizon.
        horizon: Nanos,
        given: u32,
        /// Of the outage before: a relapse waits longer.
        wait: Nanos,
    },
}

/// The one probe there may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Probe {
    id: u64,
    owner: String,
    /// After this its owner is thought dead.
    until: Nanos,
}

impl Breaker {
    /// Hears what a call failed with, before it hears how many did.
    pub(super) fn blame(&mut self, cause: &Cause) {
        if self.cause.as_ref() != Some(cause) {
            self.cause = Some(cause.clone());
        }
    }

    /// Hears how calls ended.
    pub(super) fn hear(
        &mut self,
        now: Nanos,
        report: Report,
        probe: Option<ProbeEnd>,
        policy: &BreakerPolicy,
    ) -> Option<Event> {
        self.finish_ramp(now);
        let of_probe = probe.and_then(|end| self.hear_probe(now, end, policy));
        if of_probe.is_some() {
            return of_probe;
        }
        // Calls that began before it opened say nothing new.
        if report.is_empty() || matches!(self.state, State::Open { .. }) {
            return None;
        }
        self.count(now, report);
        let reason = self.verdict(policy)?;
        let wait = match self.state {
            State::Ramp { wait, .. } => longer(wait, policy),
            _ => millis(policy.first_wait_ms),
        };
        self.open(now, reason, wait);
        Some(Event::Opened {
            reason,
            wait_ms: wait / MILLISECOND,
        })
    }

    fn count(&mut self, now: Nanos, report: Report) {
        self.counts.retain(|counts| counts.since > now - MEMORY);
        match self.counts.last_mut() {
            Some(last) if now < last.since + BUCKET => {
                last.answered = last.answered.saturating_add(report.answered);
                last.failed = last.failed.saturating_add(report.failed);
            }
            _ => self.counts.push(Counts {
                since: now,
                answered: report.answered,
                failed: report.failed,
            }),
        }
        self.in_a_row = if report.answered > 0 {
            report.in_a_row
        } else {
            self.in_a_row.saturating_add(report.in_a_row)
        };
    }

    fn verdict(&self, policy: &BreakerPolicy) -> Option<Reason> {
        if self.in_a_row >= policy.failures_in_a_row.max(1) {
            return Some(Reason::FailuresInARow);
        }
        let sum =
            |of: fn(&Counts) -> u32| self.counts.iter().map(|c| u64::from(of(c))).sum::<u64>();
        let failed = sum(|counts| counts.failed);
        let calls = failed + sum(|counts| counts.answered);
        let many = calls >= u64::from(policy.least_calls.max(1))
            && failed * 100 >= calls * u64::from(policy.failed_percent.max(1));
        many.then_some(Reason::ManyFailed)
    }

    fn open(&mut self, now: Nanos, reason: Reason, wait: Nanos) {
        self.forget();
        self.state = State::Open {
            reason,
            since: now,
            until: now + wait,
            wait,
            good: 0,
            probe: None,
        };
    }

    fn hear_probe(&mut self, now: Nanos, end: ProbeEnd, policy: &BreakerPolicy) -> Option<Event> {
        let State::Open {
            until,
            wait,
            good,
            probe,
            ..
        } = &mut self.state
        else {
            return None;
        };
        if probe.as_ref().is_none_or(|probe| probe.id != end.id) {
            return None;
        }
        *probe = None;
        match end.ended {
            Ended::Unknown => None,
            Ended::Failed => {
                *wait = longer(*wait, policy);
                *until = now + *wait;
                *good = 0;
                Some(Event::StillOpen {
                    wait_ms: *wait / MILLISECOND,
                })
            }
            Ended::Answered => {
                *good += 1;
                if *good < policy.good_probes.max(1) {
                    return None;
                }
                self.close(now);
                Some(Event::Closed)
            }
        }
    }

    fn forget(&mut self) {
        self.counts.clear();
        self.in_a_row = 0;
    }

    /// Closes it. After an outage calls come back step by step: nobody knows yet how much is borne.
    pub fn close(&mut self, now: Nanos) {
        self.forget();
        self.cause = None;
        self.state = match self.state {
            State::Open { wait, .. } => State::Ramp {
                since: now,
                horizon: 0,
                given: 0,
                wait,
            },
            State::Ramp { .. } | State::Closed => State::Closed,
        };
    }

    fn finish_ramp(&mut self, now: Nanos) {
        if let State::Ramp { since, .. } = self.state
            && now >= since + RAMP * AHEAD
        {
            self.state = State::Closed;
        }
    }

    pub(super) fn admission(&mut self, now: Nanos) -> Admission {
        self.finish_ramp(now);
        match &self.state {
            State::Closed => Admission::All,
            State::Open { until, probe, .. } => {
                let taken = probe.as_ref().is_some_and(|probe| now < probe.until);
                if now >= *until && !taken {
                    Admission::Probe
                } else {
                    Admission::None
                }
            }
            State::Ramp {
                since,
                horizon,
                given,
                ..
            } => {
                let current = (now - since) / AHEAD;
                let given = if current == *horizon { *given } else { 0 };
                Admission::Some((1_u32 << current.clamp(0, RAMP)).saturating_sub(given))
            }
        }
    }

    /// Calls were let through in the ramp.
    pub(super) fn gave(&mut self, now: Nanos, calls: u32) {
        if let State::Ramp {
            since,
            horizon,
            given,
            ..
        } = &mut self.state
        {
            let current = (now - *since) / AHEAD;
            if current != *horizon {
                (*horizon, *given) = (current, 0);
            }
            *given += calls;
        }
    }

    /// The probe is this owner's now. One that takes longer than the longest call is given up.
    pub(super) fn begin_probe(
        &mut self,
        now: Nanos,
        owner: &str,
        call_lasts: Nanos,
        policy: &BreakerPolicy,
    ) -> ProbeBegin {
        self.probes += 1;
        let mut begin = ProbeBegin {
            id: self.probes,
            open_for: 0,
            next_wait: 0,
        };
        if let State::Open {
            since, wait, probe, ..
        } = &mut self.state
        {
            begin.open_for = now.saturating_sub(*since).max(0);
            begin.next_wait = longer(*wait, policy);
            *probe = Some(Probe {
                id: self.probes,
                owner: owner.to_owned(),
                until: now + AHEAD + call_lasts + PROBE_MARGIN,
            });
        }
        begin
    }

    /// The store's clock may be another one: no wait is longer than it could be.
    pub(super) fn restart(&mut self, now: Nanos, policy: &BreakerPolicy) {
        match &mut self.state {
            State::Open { until, wait, .. } => {
                *until = (*until).min(now + (*wait).min(millis(policy.longest_wait_ms)));
            }
            State::Ramp { since, .. } => *since = now,
            State::Closed => {}
        }
        self.counts.clear();
    }

    /// Nobody but a prober calls before this time; 0 when calls go through. While a probe is
    /// under way, the next look is worth it in a moment.
    pub(super) fn open_until(&self, now: Nanos) -> Nanos {
        match &self.state {
            State::Open { until, probe, .. } => {
                let probing = probe.as_ref().is_some_and(|probe| now < probe.until);
                (*until).max(if probing { now + AHEAD } else { 0 })
            }
            _ => 0,
        }
    }

    pub(super) fn is_guarded(&self, now: Nanos) -> bool {
        match self.state {
            State::Closed => false,
            State::Open { .. } => true,
            State::Ramp { since, .. } => now < since + RAMP * AHEAD,
        }
    }
}

fn longer(wait: Nanos, policy: &BreakerPolicy) -> Nanos {
    wait.saturating_mul(2).min(millis(policy.longest_wait_ms))
}

fn millis(millis: u64) -> Nanos {
    Nanos::try_from(millis)
        .unwrap_or(Nanos::MAX)
        .saturating_mul(MILLISECOND)
        .min(Nanos::MAX / 4)
}

#[cfg(test)]
mod tests;
