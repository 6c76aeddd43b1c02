//! The calls of the past that one limit counts, and until when each was made at the latest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Nanos;

/// Times are kept in microseconds.
const MICROSECOND: Nanos = 1_000;
/// Steps in which an assumed past is written down.
const STEPS: Nanos = 250;
/// Calls of which nobody can tell how many there were.
const UNKNOWN: u64 = u32::MAX as u64;

/// Calls by the latest time at which they were made. A call enters with the last moment its slot
/// may be used, and moves when the true one is told, or that it may have arrived late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<i64>", from = "Vec<i64>")]
pub(super) struct History(BTreeMap<Nanos, u64>);

/// When there is room for a further call, and for how many before that has to be asked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) at: Nanos,
    pub(super) calls: u64,
}

impl History {
    pub(super) fn add(&mut self, latest: Nanos, calls: u64) {
        if calls > 0 {
            *self.0.entry(latest).or_default() += calls;
        }
    }

    /// One call written down for `counted` counts as made at `used`, or not at all.
    pub(super) fn correct(&mut self, counted: Nanos, used: Option<Nanos>) {
        if let Some(calls) = self.0.get_mut(&counted) {
            *calls -= 1;
            if *calls == 0 {
                self.0.remove(&counted);
            }
            if let Some(used) = used {
                self.add(used, 1);
            }
        }
    }

    /// What happened up to then matters no more.
    pub(super) fn forget(&mut self, until: Nanos) {
        if self.0.first_key_value().is_some_and(|(at, _)| *at <= until) {
            self.0 = self.0.split_off(&(until + 1));
        }
    }

    /// How many there are.
    pub(super) fn calls(&self) -> u64 {
        self.0
            .values()
            .fold(0, |all, calls| all.saturating_add(*calls))
    }

    /// The calls up to then; later ones have wrong times.
    pub(super) fn until(&self, until: Nanos) -> Self {
        let calls = self.0.range(..=until);
        Self(calls.map(|(at, calls)| (*at, *calls)).collect())
    }

    /// Since any time as many calls as the one of both that has more of them since then.
    pub(super) fn fuller(&self, other: &Self) -> Self {
        let times: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let calls = |history: &Self, at| history.0.get(at).copied().unwrap_or_default();
        let mut fuller = Self::default();
        let (mut of_one, mut of_other, mut written) = (0_u64, 0_u64, 0);
        for at in times.into_iter().rev() {
            of_one = of_one.saturating_add(calls(self, at));
            of_other = of_other.saturating_add(calls(other, at));
            let since = of_one.max(of_other);
            fuller.add(*at, since - written);
            written = since;
        }
        fuller
    }

    /// The same calls, made so much sooner.
    pub(super) fn sooner(&self, by: Nanos) -> Self {
        let calls = self.0.iter().map(|(at, calls)| (at - by, *calls));
        Self(calls.collect())
    }

    /// Each time and its calls.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Nanos, u64)> {
        self.0.iter().map(|(at, calls)| (*at, *calls))
    }

    /// From when on a call may follow so that fewer than `calls` earlier ones are within the `span`
    /// before it.
    pub(super) fn room(&self, calls: u64, span: Nanos) -> Room {
        let mut later = 0;
        for (at, count) in self.0.iter().rev() {
            if later + count >= calls {
                return Room {
                    at: at.saturating_add(span),
                    calls: calls - later,
                };
            }
            later += count;
        }
        Room {
            at: 0,
            calls: calls - later,
        }
    }

    /// What the `span` before `end` may have held at most when calls were `apart`, but up to `loose`
    /// ahead of that.
    pub(super) fn assumed(end: Nanos, apart: Nanos, loose: Nanos, span: Nanos) -> Self {
        let mut history = Self::default();
        let apart = apart.max(1);
        let calls = span / apart + 1;
        let together = calls / STEPS + 1;
        let mut written = 0;
        while written < calls {
            let part = together.min(calls - written);
            history.add(up(end - written * apart, MICROSECOND), count(part));
            written += part;
        }
        history.add(up(end, MICROSECOND), count(loose / apart + 1));
        history
    }
}

fn count(calls: Nanos) -> u64 {
    u64::try_from(calls).unwrap_or(0)
}

/// The next multiple of `grain`.
pub(super) fn up(at: Nanos, grain: Nanos) -> Nanos {
    at.saturating_add(grain - 1).div_euclid(grain) * grain
}

/// Of calls that are put together, the grain of their times; else a microsecond.
pub(super) fn grain(calls: u32, span: Nanos) -> Nanos {
    if Nanos::from(calls) <= STEPS {
        MICROSECOND
    } else {
        up(span / STEPS, MICROSECOND)
    }
}

/// Microseconds since the entry before, and the calls, of each entry.
impl From<History> for Vec<i64> {
    fn from(history: History) -> Self {
        let mut before = 0;
        history
            .0
            .into_iter()
            .flat_map(|(at, calls)| {
                let since = at / MICROSECOND - before;
                before = at / MICROSECOND;
                [since, i64::try_from(calls).unwrap_or(i64::MAX)]
            })
            .collect()
    }
}

impl From<Vec<i64>> for History {
    fn from(numbers: Vec<i64>) -> Self {
        let mut history = Self::default();
        let mut at: Nanos = 0;
        for entry in numbers.chunks_exact(2) {
            at = at.saturating_add(entry[0]);
            history.add(
                at.saturating_mul(MICROSECOND),
                u64::try_from(entry[1]).unwrap_or(UNKNOWN),
            );
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// There is room exactly when fewer calls than allowed are within the span.
        #[test]
        fn room_is_what_counting_says(
            calls in prop::collection::vec((1_i64..1_000, 1_u64..4), 1..40),
            allowed in 1_u64..30,
        ) {
            let span = 500;
            let mut history = History::default();
            for (at, count) in &calls {
                history.add(*at, *count);
            }
            let within = |now: Nanos| -> u64 {
                calls.iter().filter(|(at, _)| *at > now - span).map(|(_, count)| count).sum()
            };
            let room = history.room(allowed, span);
            prop_assert!(within(room.at.max(1_000)) < allowed || room.at < 1_000);
            if room.at >= 1_000 {
                prop_assert!(within(room.at - 1) >= allowed);
            }
            history.forget(room.at - span);
            prop_assert_eq!(within(room.at.max(1)) + room.calls <= allowed, true);
        }

        /// What is stored is what is read.
        #[test]
        fn it_is_stored_whole(calls in prop::collection::vec((1_i64..2_000_000_000_000_000, 1_u64..1_000), 0..40)) {
            let mut history = History::default();
            for (at, count) in calls {
                history.add(at * MICROSECOND, count);
            }
            let stored = serde_json::to_string(&history).unwrap();
            prop_assert_eq!(serde_json::from_str::<History>(&stored).unwrap(), history);
        }

        /// An assumed past holds, before any moment in it, at least the calls that could be there.
        #[test]
        fn an_assumed_past_holds_what_could_be(apart in 1_i64..100_000, loose in 0_i64..100_000, back in 0_i64..1_000_000) {
            let (end, span) = (1_000_000_000, 1_000_000);
            let history = History::assumed(end, apart, loose, span);
            let held: u64 = history.0.range(end - back..).map(|(_, calls)| calls).sum();
            prop_assert!(held >= ((back + loose) / apart + 1).unsigned_abs());
        }
    }

    #[test]
    fn the_fuller_of_two_holds_what_either_does() {
        let history = |calls: [(Nanos, u64); 2]| History(BTreeMap::from(calls));
        let one = history([(10, 5), (30, 1)]);
        let other = history([(20, 3), (30, 2)]);
        let fuller = History(BTreeMap::from([(10, 1), (20, 3), (30, 2)]));
        assert_eq!(one.fuller(&other), fuller);
        assert_eq!(other.fuller(&one), fuller);
    }

    #[test]
    fn a_call_moves_to_its_true_time_once() {
        let mut history = History::default();
        history.add(10_000, 2);
        history.correct(10_000, Some(4_000));
        history.correct(10_000, None);
        history.correct(10_000, None);
        assert_eq!(history.0, BTreeMap::from([(4_000, 1)]));
    }
}
