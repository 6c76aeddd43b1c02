//! What one gate knows of its calls: as they come, after a change of limits, and after a loss.

use serde::{Deserialize, Serialize};

use super::{gate::Gate, history::History, past::Past};
use crate::traffic::{FORGOTTEN, Nanos, SECOND};

/// So long the past is taken to have been full where nobody knows.
const RECENT: Nanos = 60 * SECOND;

/// What is known of one gate's calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Held {
    pub(super) history: History,
    /// Before this no slot begins, for evenness.
    pub(super) next: Nanos,
    /// The last slot handed out.
    pub(super) last: Nanos,
    /// Until when calls may have been denser than the gate's step, and how far apart they were
    /// then at least (0: nobody knows).
    denser: (Nanos, Nanos),
}

impl Held {
    /// How far apart calls were at least in the `span` before `now`.
    fn apart(&self, gate: &Gate<'_>, now: Nanos, span: Nanos) -> Nanos {
        let (until, apart) = self.denser;
        if until > now.saturating_sub(span) {
            apart.min(gate.step)
        } else {
            gate.step
        }
    }

    /// A gate that was not there; `old` are those of before, `past` are all calls, and `last` is when
    /// the last one can have been.
    pub(super) fn begun(
        gate: &Gate<'_>,
        old: &[(Gate<'_>, &Self)],
        past: &Past,
        last: Nanos,
        now: Nanos,
    ) -> Self {
        let recent = gate.span.min(RECENT);
        let all_paths = gate.paths.is_empty();
        // It counts what the new one counts: all of these calls, or those that are not urgent besides.
        let alike = old
            .iter()
            .filter(|(other, _)| other.paths == gate.paths && !other.spares_urgent)
            .max_by_key(|(other, _)| other.span)
            .filter(|(other, _)| all_paths || other.span >= recent);
        let mut history = History::default();
        let unknown = !past.is_known_since(now - recent);
        let until = if unknown { last + recent } else { 0 };
        let (mut last, mut step) = (last, gate.step);
        match alike {
            Some((other, held)) => {
                history.clone_from(&held.history);
                history.forget(now - other.span);
                last = held.last;
                if all_paths {
                    let from = now - gate.span;
                    past.add_to(&mut history, from, now - other.span);
                }
            }
            None if all_paths => past.add_to(&mut history, now - gate.span, Nanos::MAX),
            None => {
                past.add_to(&mut history, now - recent, Nanos::MAX);
                history = history.sooner(gate.span - recent);
                step = step.min(recent);
            }
        }
        Self {
            history,
            next: (last + step).max(until),
            last,
            denser: (now + FORGOTTEN, densest(old, now, gate.span)),
        }
    }

    /// What may have been at most, when the last changes up to `quiet` are lost or have other times.
    /// No call known of was after `before`.
    pub(super) fn restarted(&self, gate: &Gate<'_>, before: Nanos, quiet: Nanos) -> Self {
        let recent = gate.span.min(RECENT);
        let apart = self.apart(gate, before, recent);
        let mut history = History::assumed(quiet, gate.step, gate.loose(), gate.span);
        // As much later as makes up for calls that were less even than their step.
        let mut next = quiet + gate.loose() + gate.step;
        if apart <= 0 {
            next = next.max(quiet + recent);
        } else if apart < gate.step {
            let denser = History::assumed(quiet, apart, gate.loose(), recent);
            history = history.fuller(&denser.sooner(gate.span - recent));
        }
        Self {
            history: history.fuller(&self.history.until(quiet)),
            next,
            last: quiet,
            denser: (quiet, apart),
        }
    }

    /// The gate has another step now.
    pub(super) fn changed(&self, before: &Gate<'_>, gate: &Gate<'_>, now: Nanos) -> Self {
        let mut held = self.clone();
        if gate.step < before.step {
            held.next = held.next.min(held.last + gate.step);
        } else if gate.step > before.step {
            held.denser = (now + FORGOTTEN, self.apart(before, now, gate.span));
        }
        held
    }
}

/// How far apart all calls were at least in the `span` before `now` (0: nobody knows).
fn densest(old: &[(Gate<'_>, &Held)], now: Nanos, span: Nanos) -> Nanos {
    let all = old.iter().filter(|(other, _)| other.counts_all());
    let apart = all.map(|(other, held)| held.apart(other, now, span));
    apart.max().unwrap_or_default()
}
