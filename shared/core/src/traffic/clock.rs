//! The store's clock against a process's own monotonic one.

use super::{Nanos, SECOND};

/// The most by which the two drift apart: 500 parts in a million, what time daemons allow
/// themselves, plus the quartz.
const DRIFT_PER_SECOND: Nanos = 600_000;

/// Bounds of `store time - own time`. Every round trip gives bounds as wide as it took; together
/// they are as narrow as the fastest one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    low: Nanos,
    high: Nanos,
    at: Nanos,
}

impl Clock {
    /// The store's clock showed `now` at some moment between `asked` and `answered`. `false` when
    /// that contradicts what was seen before: one of the clocks has jumped.
    pub fn observe(&mut self, asked: Nanos, answered: Nanos, now: Nanos) -> bool {
        let fresh = Seen {
            low: now - answered,
            high: now - asked,
            at: answered,
        };
        let Some(seen) = self.seen else {
            self.seen = Some(fresh);
            return true;
        };
        let drift = (answered - seen.at).max(0) / 1_000 * DRIFT_PER_SECOND / (SECOND / 1_000);
        let low = (seen.low - drift).max(fresh.low);
        let high = (seen.high + drift).min(fresh.high);
        let sound = low <= high;
        self.seen = Some(if sound {
            Seen { low, high, ..fresh }
        } else {
            fresh
        });
        sound
    }

    /// The own time at which this store time is certainly reached.
    pub fn reached(&self, store: Nanos) -> Nanos {
        self.seen.map_or(store, |seen| store - seen.low)
    }

    /// The store time that is certainly not over at this own time.
    pub fn at_most(&self, own: Nanos) -> Nanos {
        self.seen.map_or(own, |seen| own + seen.high)
    }

    /// The own time before which this store time is certainly not over.
    pub fn not_over(&self, store: Nanos) -> Nanos {
        self.seen.map_or(store, |seen| store - seen.high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the round trips take and wherever in them the store reads its clock, and with
        /// all the drift allowed, the true time lies within the bounds (and the drift of one round
        /// trip); no jump is seen.
        #[test]
        fn bounds_hold_the_truth(
            offset in -1_000_000_000_000_i64..1_000_000_000_000,
            drift in -500_i64..500,
            trips in prop::collection::vec((0_i64..5_000_000_000, 0_i64..50_000_000, 0_i64..50_000_000), 1..50),
        ) {
            let store = |own: Nanos| own + offset + own / 1_000_000 * drift;
            let mut clock = Clock::default();
            let mut own = 0;
            for (idle, to, back) in trips {
                own += idle;
                let (asked, read, answered) = (own, own + to, own + to + back);
                own = answered;
                prop_assert!(clock.observe(asked, answered, store(read)));
                prop_assert!(clock.reached(store(own)) >= own - 50_000);
                prop_assert!(clock.not_over(store(own)) <= own + 50_000);
                prop_assert!(clock.at_most(own) >= store(own) - 50_000);
            }
        }
    }

    #[test]
    fn a_fast_round_trip_makes_slow_ones_exact_and_a_jump_is_seen() {
        let mut clock = Clock::default();
        assert!(clock.observe(0, 1_000, 5_000_500));
        assert!(clock.observe(10_000, 900_000, 5_300_000));
        assert!(clock.reached(6_000_000) - clock.not_over(6_000_000) < 3_000);
        for jump in [SECOND, -SECOND] {
            let mut clock = clock;
            assert!(!clock.observe(1_000_000, 1_001_000, 6_000_500 + jump));
            assert!(clock.observe(2_000_000, 2_001_000, 7_000_500 + jump));
        }
    }
}
