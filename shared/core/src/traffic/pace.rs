//! Slots: no window of a limit's length ever holds more calls than the limit allows, as counted at
//! the other side (promise O3).
//!
//! Every call takes a slot, and slots of one limit are at least `step = (W + D) / L` apart, where
//! `W` is the window's length, `L` the calls allowed in it, and `D` the slack: the most by which a
//! call can reach the other side after its slot. Three quarters of `D` are ours (a process may be
//! late, at most by [`LATE`]), the rest is the network's. Calls that arrive within one window have slots within an open interval of
//! `W + D`, which holds at most `L` of them.
//!
//! `D` is two seconds, or a 25th of windows shorter than 50 seconds. So 96.8 % of a limit per
//! minute can be used and 96.1 % of one per second: at least 95 % with something to spare for slots
//! that a process could not use in time. A single call that takes longer than its part to get there,
//! say because a new connection is slow to stand, can stray into a later window; as long as the
//! others are not late as well, the spare 4 % have room for it.
//!
//! Our part of `D` also has to hold what a process does not know about the store's clock, which is as
//! much as a round trip takes at best: limits per second need a store that answers in milliseconds.
//!
//! Every limit of a connection is asked in one step, so that a call never uses up a slot of one
//! limit while it waits for another; this is why the usual one-quota crates do not fit.

use serde::{Deserialize, Serialize};

use super::{FORGOTTEN, LATE, Nanos, SECOND};
use crate::{catalogue::RateLimit, retry::MAX_RETRY_AFTER};

/// Longest slack.
const SLACK: Nanos = 2 * SECOND;
/// Slack of short windows, as a part of the window: 1 in 25.
const SLACK_PART: Nanos = 25;
/// Limits one connection may have.
pub const MAX_LIMITS: usize = 16;

/// Which limits count a call: one bit for each gate it has to pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u32);

impl Kind {
    /// The kind of a call to this path. Limits beyond [`MAX_LIMITS`] are not there.
    pub fn of(limits: &[RateLimit], path: &str, urgent: bool) -> Self {
        let mut kind = 0;
        for (bit, gate) in gates(limits).enumerate() {
            let counts = gate.paths.is_empty() || gate.paths.iter().any(|p| path.starts_with(&**p));
            if counts && !(urgent && gate.spares_urgent) {
                kind |= 1 << bit;
            }
        }
        Self(kind)
    }

    /// Nothing limits calls of this kind.
    pub fn is_free(self) -> bool {
        self.0 == 0
    }

    fn has(self, gate: usize) -> bool {
        self.0 & (1 << gate) != 0
    }
}

/// One pace that calls have to keep: a limit's, or that of a limit without its reserve.
struct Gate<'a> {
    per_seconds: u32,
    paths: &'a [String],
    spares_urgent: bool,
    /// The window and the slack.
    span: Nanos,
    slack: Nanos,
    calls: Nanos,
    step: Nanos,
}

impl<'a> Gate<'a> {
    fn new(limit: &'a RateLimit, calls: u32, spares_urgent: bool) -> Self {
        let window = Nanos::from(limit.per_seconds.max(1)) * SECOND;
        let slack = SLACK.min(window / SLACK_PART);
        let calls = Nanos::from(calls.max(1));
        Self {
            per_seconds: limit.per_seconds,
            paths: &limit.paths,
            spares_urgent,
            span: window + slack,
            slack,
            calls,
            // One more than the quotient: strictly fewer than `calls` steps in `W + D`.
            step: (window + slack) / calls + 1,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.per_seconds, self.paths, self.spares_urgent)
            == (other.per_seconds, other.paths, other.spares_urgent)
    }
}

fn gates(limits: &[RateLimit]) -> impl Iterator<Item = Gate<'_>> {
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

/// Where the slots of one gate stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Slots {
    /// The earliest next one.
    next: Nanos,
    /// The last one handed out.
    last: Nanos,
    /// When the limit was last changed.
    changed: Nanos,
}

/// The pace of one connection's calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Counts the changes of limits.
    revision: u64,
    limits: Vec<RateLimit>,
    /// The limits last taken over from the configuration.
    configured: Vec<RateLimit>,
    slots: Vec<Slots>,
    /// The last slot handed out, or time given freely, of any kind.
    last: Nanos,
    paused_until: Nanos,
}

impl Pace {
    pub fn new(limits: &[RateLimit]) -> Self {
        Self {
            revision: 1,
            limits: limits.to_vec(),
            configured: limits.to_vec(),
            slots: gates(limits).map(|_| Slots::default()).collect(),
            ..Self::default()
        }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The limits in force.
    pub fn limits(&self) -> &[RateLimit] {
        &self.limits
    }

    pub fn paused_until(&self) -> Nanos {
        self.paused_until
    }

    /// A shorter pause never shortens a longer one.
    pub fn pause_until(&mut self, until: Nanos) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Ends a pause, by hand.
    pub fn resume(&mut self) {
        self.paused_until = 0;
    }

    /// Nothing was limited until then.
    pub(super) fn freed(&mut self, until: Nanos) {
        self.last = self.last.max(until);
    }

    /// How late a slot of this kind may be used.
    pub(super) fn late(&self, kind: Kind) -> Nanos {
        self.passed(kind)
            .map(|(gate, _)| gate.slack * 3 / 4)
            .fold(LATE, Nanos::min)
    }

    /// When a call of this kind may be made at the earliest.
    pub(super) fn next_at(&self, now: Nanos, kind: Kind) -> Nanos {
        // What was missed by less than processes may be late can still be used.
        self.passed(kind)
            .map(|(_, slots)| slots.next)
            .fold(self.paused_until.max(now - self.late(kind) / 2), Nanos::max)
    }

    fn passed(&self, kind: Kind) -> impl Iterator<Item = (Gate<'_>, &Slots)> {
        gates(&self.limits)
            .zip(&self.slots)
            .enumerate()
            .filter(move |(index, _)| kind.has(*index))
            .map(|(_, gate)| gate)
    }

    /// Takes slots that begin within the next `ahead`, at most `count`.
    pub(super) fn take(&mut self, now: Nanos, kind: Kind, count: u32, ahead: Nanos) -> Vec<Nanos> {
        let steps = gates(&self.limits).map(|gate| gate.step).enumerate();
        let passed: Vec<_> = steps.filter(|(index, _)| kind.has(*index)).collect();
        let mut at = self.next_at(now, kind);
        let mut taken = Vec::new();
        while taken.len() < count as usize && at <= now + ahead {
            taken.push(at);
            self.last = self.last.max(at);
            let this = at;
            for (index, step) in &passed {
                if let Some(slots) = self.slots.get_mut(*index) {
                    slots.last = this;
                    slots.next = this + step;
                    at = at.max(slots.next);
                }
            }
        }
        taken
    }

    /// Whether these limits of the configuration were taken over.
    pub fn is_configured(&self, limits: &[RateLimit]) -> bool {
        self.configured == limits
    }

    /// Takes over the configuration's limits, unless it has done so before: what was set by hand
    /// since then stays. Says whether anything changed.
    pub fn configure(&mut self, limits: &[RateLimit], now: Nanos) -> bool {
        if self.is_configured(limits) {
            return false;
        }
        self.configured = limits.to_vec();
        self.set_limits(limits, now);
        true
    }

    /// Changes the limits at once. No window with a call after the change holds more than the new
    /// limits allow, calls before the change included. Of a limit whose window (or paths) is new,
    /// earlier calls are only known to have kept the old pace, so the first one may have to wait.
    pub fn set_limits(&mut self, limits: &[RateLimit], now: Nanos) {
        let old: Vec<_> = gates(&self.limits).zip(self.slots.clone()).collect();
        // All earlier calls were at least this far apart.
        let apart = old
            .iter()
            .filter(|(gate, _)| gate.paths.is_empty() && !gate.spares_urgent)
            .map(|(gate, _)| gate.step)
            .fold(0, Nanos::max);
        let slots = gates(limits)
            .map(|gate| {
                let before = old.iter().find(|(other, _)| other.is_like(&gate));
                let slots = match before {
                    Some((other, slots)) if gate.step < other.step => {
                        raised(&gate, other, *slots, now)
                    }
                    Some((other, slots)) if gate.step > other.step => Slots {
                        next: slots
                            .next
                            .max(room(&gate, slots.next - other.step, other.step)),
                        ..*slots
                    },
                    Some((_, slots)) => return *slots,
                    None => Slots {
                        next: room(&gate, self.last, apart),
                        last: self.last,
                        ..Slots::default()
                    },
                };
                Slots {
                    changed: now,
                    ..slots
                }
            })
            .collect();
        self.slots = slots;
        self.limits = limits.to_vec();
        self.revision += 1;
    }

    /// The store is another one, or its clock jumped: what was handed out last may be forgotten
    /// or have other times. Nobody uses it any more after [`FORGOTTEN`]; a step later the
    /// next slot is far enough from all earlier ones, whatever the clock says.
    pub(super) fn restart(&mut self, now: Nanos) {
        let quiet = now + FORGOTTEN;
        for (slots, gate) in self.slots.iter_mut().zip(gates(&self.limits)) {
            slots.next = slots
                .next
                .clamp(quiet + gate.step, quiet + gate.step + gate.span);
            slots.last = slots.last.min(quiet);
        }
        self.last = self.last.min(quiet);
        let longest = Nanos::try_from(MAX_RETRY_AFTER.as_nanos()).unwrap_or(Nanos::MAX / 2);
        self.paused_until = self.paused_until.clamp(quiet, now + longest);
    }
}

/// The earliest slot of a gate after calls that ended at `last` and were at least `apart`: no
/// window with it holds more than the gate allows.
///
/// The window's interval is open and `span` long. When it ends just after the slot, it begins
/// `(calls - 1) * apart` before `last`, so it holds at most `calls - 1` of the earlier ones. Moving
/// on, it loses one of them every `apart` and gains a new one every step, which is longer.
fn room(gate: &Gate<'_>, last: Nanos, apart: Nanos) -> Nanos {
    let held = (gate.calls - 1).saturating_mul(apart.min(gate.step));
    last.saturating_add(gate.span - held)
}

/// More calls are allowed now. After a change within the last window, calls that were denser than
/// the new pace may still be in it: then only the step changes.
fn raised(gate: &Gate<'_>, before: &Gate<'_>, slots: Slots, now: Nanos) -> Slots {
    let settled = slots.changed.saturating_add(before.span) < now;
    Slots {
        next: if settled {
            slots.next.min(slots.last + gate.step)
        } else {
            slots.next
        },
        ..slots
    }
}

#[cfg(test)]
mod tests;
