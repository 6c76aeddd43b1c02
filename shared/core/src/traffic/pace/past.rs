//! How many calls there were in the last 31 days, whatever was limited then, for limits to come.
//!
//! The younger, the closer: calls are counted together by the second at first, then by two seconds, by
//! four and so on, never over more than a quarter of their age. That makes up to ninety counts, less
//! than a kilobyte in the shared state. Each stands at the time of its last call, so that none counts
//! as older than it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Nanos,
    history::{History, up},
};
use crate::{catalogue::MAX_SECONDS, traffic::SECOND};

/// Calls are counted together over at most this part of their age: 1 in 4.
const PART: Nanos = 4;
/// Older calls count in no window; with room for the slack.
const OLDEST: Nanos = (MAX_SECONDS as Nanos + 60) * SECOND;

/// What an older version's state says: nothing.
const NEVER: Nanos = Nanos::MAX / SECOND * SECOND;

/// Calls by the time of the last of those that are counted together, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<i64>", from = "Vec<i64>")]
pub(super) struct Past {
    calls: BTreeMap<Nanos, u64>,
    /// All calls after that are counted here; of those before, what was known.
    since: Nanos,
}

impl Past {
    /// Before that there were none.
    pub(super) fn since(since: Nanos) -> Self {
        Self {
            calls: BTreeMap::new(),
            since: up(since, SECOND),
        }
    }

    /// Whether somebody has begun to count.
    pub(super) fn is_there(&self) -> bool {
        self.since < NEVER
    }

    /// Whether all calls after that are counted here.
    pub(super) fn is_known_since(&self, since: Nanos) -> bool {
        self.since <= since
    }

    /// Not all calls until then are counted here.
    pub(super) fn unknown_until(&mut self, until: Nanos) {
        self.since = self.since.max(up(until, SECOND));
    }

    /// Calls that were made at this time at the latest.
    pub(super) fn add(&mut self, latest: Nanos, calls: u64, now: Nanos) {
        if calls == 0 {
            return;
        }
        let at = up(latest, SECOND);
        let known = self.calls.contains_key(&at);
        let count = self.calls.entry(at).or_default();
        *count = count.saturating_add(calls);
        if !known {
            self.put_together(now);
        }
    }

    /// One call that was added for this time was not made.
    pub(super) fn remove(&mut self, latest: Nanos) {
        // Each call is counted at the first time that is no earlier than its own.
        if let Some((_, count)) = self.calls.range_mut(up(latest, SECOND)..).next() {
            *count = count.saturating_sub(1);
        }
    }

    /// Nothing was later than that.
    pub(super) fn end(&mut self, at: Nanos, now: Nanos) {
        let later = self.calls.split_off(&at);
        self.add(at, later.into_values().fold(0, u64::saturating_add), now);
    }

    fn put_together(&mut self, now: Nanos) {
        let mut kept: BTreeMap<Nanos, u64> = BTreeMap::new();
        for (at, calls) in std::mem::take(&mut self.calls) {
            if at <= now.saturating_sub(OLDEST) || calls == 0 {
                continue;
            }
            let grain = grain(now.saturating_sub(at));
            let mut together = calls;
            if let Some(before) = kept.last_entry()
                && up(*before.key(), grain) == up(at, grain)
            {
                together = together.saturating_add(before.remove());
            }
            kept.insert(at, together);
        }
        self.calls = kept;
    }

    /// Adds what was between `from` and `until` to a history that holds all calls after `until`.
    pub(super) fn add_to(&self, history: &mut History, from: Nanos, until: Nanos) {
        let mut later = history.calls();
        for (at, calls) in self.calls.range(from.saturating_add(1)..).rev() {
            // Of those that are counted together, some may be in the history.
            let older = if *at > until {
                let older = calls.saturating_sub(later);
                later = later.saturating_sub(*calls);
                older
            } else {
                *calls
            };
            history.add((*at).min(until), older);
        }
    }
}

impl Default for Past {
    fn default() -> Self {
        Self {
            calls: BTreeMap::new(),
            since: NEVER,
        }
    }
}

/// Since when all are counted; then seconds since the time before, and the calls, of each time.
impl From<Past> for Vec<i64> {
    fn from(past: Past) -> Self {
        let mut before = 0;
        let counts = past.calls.into_iter().flat_map(|(at, calls)| {
            let since = at / SECOND - before;
            before = at / SECOND;
            [since, i64::try_from(calls).unwrap_or(i64::MAX)]
        });
        std::iter::once(past.since / SECOND).chain(counts).collect()
    }
}

impl From<Vec<i64>> for Past {
    fn from(numbers: Vec<i64>) -> Self {
        let Some((since, counts)) = numbers.split_first() else {
            return Self::default();
        };
        let mut past = Self::since(since.saturating_mul(SECOND));
        let mut at: Nanos = 0;
        for entry in counts.chunks_exact(2) {
            at = at.saturating_add(entry[0]);
            let calls = u64::try_from(entry[1]).unwrap_or(0);
            past.calls.insert(at.saturating_mul(SECOND), calls);
        }
        past
    }
}

/// Over how much time calls of this age are counted together.
fn grain(age: Nanos) -> Nanos {
    let mut grain = SECOND;
    while 2 * PART * grain <= age {
        grain *= 2;
    }
    grain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is known of these calls, of which some were not made; when those were that were; and now.
    fn past(calls: &[(Nanos, bool)]) -> (Past, Vec<Nanos>, Nanos) {
        let mut past = Past::since(0);
        let mut now = 1_000_000 * SECOND;
        let mut made = Vec::new();
        for (idle, used) in calls {
            now += idle;
            past.add(now, 1, now);
            if *used {
                made.push(now);
            } else {
                past.remove(now);
            }
        }
        past.put_together(now);
        (past, made, now)
    }

    proptest! {
        /// Every call counts, as no older than it is and no younger than by a quarter of its age.
        #[test]
        fn it_counts_what_was(
            calls in prop::collection::vec((0_i64..100_000 * SECOND, prop::bool::weighted(0.8)), 1..200),
            back in 0_i64..MAX_SECONDS as Nanos * SECOND,
        ) {
            let (past, made, now) = past(&calls);
            let mut history = History::default();
            past.add_to(&mut history, now - back, Nanos::MAX);
            let within = |back: Nanos| made.iter().filter(|at| **at > now - back).count() as u64;
            prop_assert!(history.calls() >= within(back));
            prop_assert!(history.calls() <= within(back + back / 3 + 2 * SECOND), "{} {back}", history.calls());
        }

        /// What a closer history holds is not counted twice.
        #[test]
        fn it_goes_on_where_a_history_ends(
            calls in prop::collection::vec((0_i64..100_000 * SECOND, prop::bool::weighted(0.8)), 1..200),
            known in 0_i64..MAX_SECONDS as Nanos * SECOND,
        ) {
            let (past, made, now) = past(&calls);
            let until = now - known;
            let mut history = History::default();
            made.iter().filter(|at| **at > until).for_each(|at| history.add(*at, 1));
            past.add_to(&mut history, 0, until);
            let mut all = History::default();
            past.add_to(&mut all, 0, Nanos::MAX);
            prop_assert_eq!(history.calls(), all.calls());
        }

        /// What is stored is what is read.
        #[test]
        fn it_is_stored_whole(calls in prop::collection::vec((0_i64..100_000 * SECOND, any::<bool>()), 1..200)) {
            let (past, ..) = past(&calls);
            let stored = serde_json::to_string(&past).unwrap();
            prop_assert_eq!(serde_json::from_str::<Past>(&stored).unwrap(), past);
        }
    }
}
