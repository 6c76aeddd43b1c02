//! Slots: no window of a limit's length ever holds more calls than the limit allows, as counted at
//! the other side (promise O3).
//!
//! Every call takes a slot, which may be used from its time until a quarter of the window later, a
//! second at most. The last moment of that is written down when the slot is handed out, and replaced
//! by the true time when the process tells it, with its next ask. A slot begins no sooner than when,
//! of all those handed out before, fewer than `L` can have been used less than `W + D` earlier, where
//! `W` is the window's length, `L` the calls allowed in it, and `D` the slack: the most by which a
//! call can reach the other side after it was made.
//!
//! This suffices. Take any window, and of its calls the one whose slot was handed out last. It
//! arrived no sooner than its slot began, so all others arrived less than `W` before that, and were
//! made less than `W + D` before: at most `L - 1` of them.
//!
//! `D` is 2 % of the window, and a second and a half at most. So 98 % of a limit can be used, less
//! what processes and the way are late on average: a process that wakes up late does not lose its
//! slot, it only uses it late. A slot that nobody used is handed out again; one whose process died
//! counts as used at the last moment.
//!
//! A call that may have taken longer than `D` to get there, say because a new connection was slow to
//! stand, is told as made so much later, as `share::flights` knows from the time that the answer took.
//! Beyond what a slot may be late that does not go: a call that is still slower can stray into a later
//! window.
//!
//! What holds for windows would let all calls of one come at once, and urgent ones wait for the next.
//! So slots are also kept `(W + D) / L` apart, except that a time in which nobody called can be made
//! up for, by as much as a slot may be late.
//!
//! When the store has lost the last changes or got another clock, that evenness is what is known of
//! calls: the past is taken to have been as full as it allows, or as it is written down where that
//! is more.
//!
//! A limit that was not there before begins with what is known of calls then, however long its window
//! is. A limit on all calls, or on the same paths, knows those of its own window exactly; all calls of
//! 31 days are counted in `past`, less closely. So of a window that reaches back before the change no
//! call is left out that was counted, and the first one waits for those at most. To take an unknown past
//! to have been full would be safe to the letter, and would stop a quiet connection that gets a limit by
//! the day for a day. What is not known is therefore taken to have been full for a minute only:
//!
//! - calls that no limit counted, which processes tell when they have ended, or never when they die;
//! - calls of which nobody knows the paths: a limit on new paths counts all calls of so long;
//! - calls before the shared state began to count, or around a loss of its last changes.
//!
//! So windows of up to a minute hold what they promise across any change; longer ones do if all calls
//! were counted.
//!
//! Every limit of a connection is asked in one step, so that a call never uses up a slot of one
//! limit while it waits for another; this is why the usual one-quota crates do not fit.

mod gate;
mod held;
mod history;
mod past;

use serde::{Deserialize, Serialize};

use self::{gate::gates, held::Held, history::up, past::Past};
use super::{FORGOTTEN, LATE, Nanos};
use crate::{catalogue::RateLimit, retry::MAX_RETRY_AFTER};

pub use gate::{MAX_LIMITS, slack};

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

    /// How far apart calls of this kind are at least because of limits of single paths; `None` when no
    /// such limit counts them.
    pub(super) fn step_of_paths(self, limits: &[RateLimit]) -> Option<Nanos> {
        let counting = gates(limits).enumerate().filter(|(bit, _)| self.has(*bit));
        let of_paths = counting.filter(|(_, gate)| !gate.paths.is_empty());
        of_paths.map(|(_, gate)| gate.step).max()
    }

    fn has(self, gate: usize) -> bool {
        self.0 & (1 << gate) != 0
    }
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub kind: Kind,
    /// When it counts as used until it is told: the last moment.
    pub counted: Nanos,
    /// Such a time that the call arrived within the slack after it; `None` when there was no call
    /// and never will be.
    pub used: Option<Nanos>,
}

/// The pace of one connection's calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Counts the changes of limits and the losses of the past. What is told about slots of an
    /// earlier revision says nothing any more.
    revision: u64,
    limits: Vec<RateLimit>,
    /// The limits last taken over from the configuration.
    configured: Vec<RateLimit>,
    gates: Vec<Held>,
    /// All calls of the past, for limits to come.
    past: Past,
    /// The last moment at which a call so far can have been made, of any kind.
    last: Nanos,
    paused_until: Nanos,
}

impl Pace {
    pub fn new(limits: &[RateLimit]) -> Self {
        Self {
            revision: 1,
            limits: limits.to_vec(),
            configured: limits.to_vec(),
            gates: gates(limits).map(|_| Held::default()).collect(),
            past: Past::since(0),
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
        self.past.unknown_until(until);
    }

    /// Whether every call takes a slot.
    fn counts_all(&self) -> bool {
        gates(&self.limits).any(|gate| gate.counts_all())
    }

    /// So many calls have ended; those that took slots are counted already.
    pub(super) fn ended(&mut self, now: Nanos, calls: u64) {
        if !self.counts_all() {
            self.past.add(now, calls, now);
        }
    }

    /// Begins to count all calls where a version before this one did not.
    pub(super) fn count_past(&mut self, now: Nanos) {
        if self.past.is_there() {
            return;
        }
        let all = gates(&self.limits)
            .zip(&self.gates)
            .filter(|(gate, _)| gate.counts_all());
        let longest = all.max_by_key(|(gate, _)| gate.span);
        self.past = Past::since(now - longest.as_ref().map_or(0, |(gate, _)| gate.span));
        for (at, calls) in longest
            .into_iter()
            .flat_map(|(_, held)| held.history.iter())
        {
            self.past.add(at, calls, now);
        }
    }

    /// How late a slot of this kind may be used.
    pub(super) fn late(&self, kind: Kind) -> Nanos {
        gates(&self.limits)
            .enumerate()
            .filter(|(index, _)| kind.has(*index))
            .map(|(_, gate)| gate.late)
            .fold(LATE, Nanos::min)
    }

    /// When a call of this kind may be made at the earliest, as far as is known.
    pub(super) fn next_at(&self, now: Nanos, kind: Kind) -> Nanos {
        gates(&self.limits)
            .zip(&self.gates)
            .enumerate()
            .filter(|(index, _)| kind.has(*index))
            .map(|(_, (gate, held))| held.next.max(held.history.room(gate.calls, gate.span).at))
            .fold(self.paused_until.max(now), Nanos::max)
    }

    /// Takes slots that begin within the next `ahead`, at most `count`.
    pub(super) fn take(&mut self, now: Nanos, kind: Kind, count: u32, ahead: Nanos) -> Vec<Nanos> {
        let late = self.late(kind);
        let counts_all = self.counts_all();
        let mut passed: Vec<_> = gates(&self.limits)
            .zip(&mut self.gates)
            .enumerate()
            .filter(|(index, _)| kind.has(*index))
            .map(|(_, (gate, held))| {
                held.history.forget(now - gate.span);
                let room = held.history.room(gate.calls, gate.span);
                (gate, held, room)
            })
            .collect();
        let mut taken = Vec::new();
        while taken.len() < count as usize {
            let at = passed
                .iter()
                .map(|(_, held, room)| held.next.max(room.at))
                .fold(self.paused_until.max(now), Nanos::max);
            if at > now + ahead {
                break;
            }
            taken.push(at);
            self.last = self.last.max(at + late);
            // It may be told as made so much later.
            let latest = at + 2 * late;
            if counts_all {
                self.past.add(latest, 1, now);
            } else {
                self.past.unknown_until(latest);
            }
            for (gate, held, room) in &mut passed {
                held.history.add(up(at + late, gate.grain), 1);
                held.next = held.next.max(at - gate.late) + gate.step;
                held.last = at;
                room.calls -= 1;
                if room.calls == 0 {
                    *room = held.history.room(gate.calls, gate.span);
                }
            }
        }
        taken
    }

    /// Hears what became of a slot of this revision.
    pub(super) fn hear(&mut self, now: Nanos, told: Told) {
        if told.used.is_none() && self.counts_all() {
            self.past.remove(told.counted + self.late(told.kind));
        }
        for (index, (gate, held)) in gates(&self.limits).zip(&mut self.gates).enumerate() {
            let counted = up(told.counted, gate.grain);
            // What is older is forgotten, and may not be mistaken for something else.
            if !told.kind.has(index) || counted <= now - gate.span {
                continue;
            }
            let used = told.used.map(|used| up(used, gate.grain));
            held.history.correct(counted, used);
            if used.is_none() {
                held.next -= gate.step;
            }
        }
    }

    /// The limits last taken over from the configuration; others are in force after a change by hand.
    pub fn configured(&self) -> &[RateLimit] {
        &self.configured
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
    /// limits allow, calls before the change included as far as they are known.
    pub fn set_limits(&mut self, limits: &[RateLimit], now: Nanos) {
        self.count_past(now);
        let old: Vec<_> = gates(&self.limits).zip(&self.gates).collect();
        let held = gates(limits)
            .map(
                |gate| match old.iter().find(|(other, _)| other.is_like(&gate)) {
                    Some((before, held)) => held.changed(before, &gate, now),
                    None => Held::begun(&gate, &old, &self.past, self.last, now),
                },
            )
            .collect();
        self.gates = held;
        self.limits = limits.to_vec();
        self.revision += 1;
    }

    /// The store is another one, or its clock jumped, or another version wrote the state: what was
    /// handed out last may be forgotten or have other times. Nobody uses it any more after
    /// [`FORGOTTEN`]; until then calls were no denser than they may be.
    pub(super) fn restart(&mut self, now: Nanos) {
        let quiet = now + FORGOTTEN;
        let before = self.last.min(now);
        let count = gates(&self.limits).count();
        self.gates.resize_with(count, Held::default);
        for (held, gate) in self.gates.iter_mut().zip(gates(&self.limits)) {
            *held = held.restarted(&gate, before, quiet);
        }
        self.past.end(quiet, now);
        self.past.unknown_until(quiet);
        self.last = quiet;
        self.revision += 1;
        let longest = Nanos::try_from(MAX_RETRY_AFTER.as_nanos()).unwrap_or(Nanos::MAX / 2);
        self.paused_until = self.paused_until.clamp(quiet, now + longest);
    }

    /// Whether the state has a part for each gate, as this version writes it.
    pub(super) fn is_whole(&self) -> bool {
        self.gates.len() == gates(&self.limits).count()
    }
}

#[cfg(test)]
mod tests;
