//! How many calls to one connection a process makes at once: additive increase, multiplicative
//! decrease, from what each call tells. Pure.
//!
//! It begins low and doubles with every round of calls until the first sign of congestion; then
//! it grows by one per round, and halves at a sign. A sign is a call that timed out or was told to
//! slow down (429, 503), or a round that took twice as long as rounds at their best, and a tenth of
//! a second longer: less than that is noise of either side's machine.
//!
//! Calls that were under way at a sign say nothing new, neither that it is still slow nor that it is
//! not: one hiccup of the target halves once. Where even one call at a time takes as long, it is not
//! our calls that slow the target down: that is its best from then on, and the calls begin anew. The best
//! is not forgotten otherwise: rounds that our own calls slow down would become the best, little by little.

use super::{MILLISECOND, Nanos};

const BEGIN: u32 = 4;
/// Latency below this above the best is no sign.
const NOISE: Nanos = 100 * MILLISECOND;
/// Slow rounds of one call that say that our calls are not what makes them slow.
const ALONE: u32 = 3;

/// What the last calls say about the next ones.
#[derive(Debug, Clone)]
pub struct Congestion {
    most: u32,
    calls: u32,
    seen_none: bool,
    /// Calls that were under way at the last sign.
    before: u32,
    /// Slow rounds of one call in a row.
    alone: u32,
    /// Calls of this round that ended, and the sum of their latencies.
    ended: u32,
    took: Nanos,
    best: Option<Nanos>,
    /// What a call of the last whole round took, on average.
    lasts: Option<Nanos>,
}

impl Congestion {
    /// Never more than `most` calls at once.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            calls: BEGIN.min(most),
            seen_none: true,
            before: 0,
            alone: 0,
            ended: 0,
            took: 0,
            best: None,
            lasts: None,
        }
    }

    /// Calls at once now; at least 1.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// How long calls take lately; `None` before a round of them was answered.
    pub fn lasts(&self) -> Option<Nanos> {
        self.lasts
    }

    /// A call was answered after this long.
    pub fn answered(&mut self, took: Nanos) {
        if self.was_before() {
            return;
        }
        self.ended += 1;
        self.took = self.took.saturating_add(took);
        if self.ended < self.calls {
            return;
        }
        let average = self.took / Nanos::from(self.ended);
        self.lasts = Some(average);
        let best = self.best.map_or(average, |best| best.min(average));
        self.best = Some(best);
        let slow = average > 2 * best && average > best + NOISE;
        self.alone = if slow && self.calls == 1 {
            self.alone + 1
        } else {
            0
        };
        if self.alone == ALONE {
            self.best = Some(average);
            self.seen_none = true;
        } else if slow {
            self.halve();
            return;
        }
        let more = if self.seen_none { self.calls } else { 1 };
        self.calls = self.calls.saturating_add(more).min(self.most);
        self.next_round();
    }

    /// A call timed out or was told to slow down.
    pub fn congested(&mut self) {
        if !self.was_before() {
            self.alone = 0;
            self.halve();
        }
    }

    /// Whether the call that ended was under way at the last sign.
    fn was_before(&mut self) -> bool {
        let before = self.before > 0;
        self.before = self.before.saturating_sub(1);
        before
    }

    fn halve(&mut self) {
        self.before = self.calls - 1;
        self.calls = (self.calls / 2).max(1);
        self.seen_none = false;
        self.next_round();
    }

    fn next_round(&mut self) {
        self.ended = 0;
        self.took = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;
    use crate::traffic::SECOND;

    fn round(congestion: &mut Congestion, took: Nanos) {
        for _ in 0..congestion.calls() {
            congestion.answered(took);
        }
    }

    #[test]
    fn it_doubles_until_the_first_sign_and_then_grows_by_one() {
        let mut congestion = Congestion::new(100);
        let mut seen = vec![congestion.calls()];
        for _ in 0..5 {
            round(&mut congestion, MILLISECOND);
            seen.push(congestion.calls());
        }
        assert_eq!(seen, [4, 8, 16, 32, 64, 100]);
        // Further signs of the same round change nothing.
        for _ in 0..100 {
            congestion.congested();
        }
        assert_eq!(congestion.calls(), 50);
        round(&mut congestion, MILLISECOND);
        assert_eq!(congestion.calls(), 51);
    }

    /// A process that always has as many calls in flight as it may; `latency` says how long a call
    /// takes that begins at this time, beside so many others.
    struct Loop {
        congestion: Congestion,
        now: Nanos,
        /// When each call in flight ends, and how long it took then.
        flights: BinaryHeap<Reverse<(Nanos, Nanos)>>,
    }

    impl Loop {
        fn new(most: u32) -> Self {
            Self {
                congestion: Congestion::new(most),
                now: 0,
                flights: BinaryHeap::new(),
            }
        }

        /// Goes on until then; returns the most and the fewest calls it allowed at once.
        fn run(&mut self, until: Nanos, latency: impl Fn(Nanos, usize) -> Nanos) -> (u32, u32) {
            let calls = self.congestion.calls();
            let (mut most, mut least) = (calls, calls);
            while self.now < until {
                while self.flights.len() < self.congestion.calls() as usize {
                    let took = latency(self.now, self.flights.len());
                    self.flights.push(Reverse((self.now + took, took)));
                }
                let Some(Reverse((ends, took))) = self.flights.pop() else {
                    break;
                };
                self.now = ends;
                self.congestion.answered(took);
                most = most.max(self.congestion.calls());
                least = least.min(self.congestion.calls());
            }
            (most, least)
        }
    }

    /// A target that always takes as long gets all it may, and so again soon after a hiccup that
    /// held up everything for two seconds.
    #[test]
    fn a_hiccup_is_made_up_for_soon() {
        let mut played = Loop::new(12);
        let slow = |_, _| 300 * MILLISECOND;
        assert_eq!(played.run(2 * SECOND, slow).0, 12);
        assert_eq!(played.run(10 * SECOND, slow), (12, 12));
        let (_, least) = played.run(12 * SECOND, |_, _| 2 * SECOND);
        assert!(least >= 3, "{least}");
        played.run(16 * SECOND, slow);
        assert_eq!(played.congestion.calls(), 12);
        // The same where the calls time out.
        for _ in 0..12 {
            played.congestion.congested();
        }
        assert_eq!(played.congestion.calls(), 6);
        played.run(20 * SECOND, slow);
        assert_eq!(played.congestion.calls(), 12);
    }

    /// A target that becomes slow for good, whatever we do, gets all it may again within seconds.
    #[test]
    fn a_target_that_became_slower_for_good_gets_as_many_calls_as_before() {
        for most in [4, 12, 64] {
            let mut played = Loop::new(most);
            played.run(SECOND, |_, _| 5 * MILLISECOND);
            assert_eq!(played.congestion.calls(), most);
            played.run(10 * SECOND, |_, _| 300 * MILLISECOND);
            assert_eq!(played.congestion.calls(), most);
        }
    }

    /// A target that takes one call after another is not flooded: its answers are slow because of ours.
    #[test]
    fn a_target_that_calls_slow_down_gets_few() {
        let mut played = Loop::new(64);
        let free = Cell::new(0);
        let queue = |now, _| {
            free.set(free.get().max(now) + 50 * MILLISECOND);
            free.get() - now
        };
        played.run(20 * SECOND, queue);
        let (most, _) = played.run(300 * SECOND, queue);
        assert!(most <= 8, "{most}");
    }

    #[test]
    fn slow_rounds_are_a_sign_and_noise_is_none() {
        let mut congestion = Congestion::new(64);
        round(&mut congestion, 20 * MILLISECOND);
        round(&mut congestion, 90 * MILLISECOND);
        assert_eq!(congestion.calls(), 16);
        round(&mut congestion, 400 * MILLISECOND);
        assert_eq!(congestion.calls(), 8);
    }

    proptest! {
        /// Whatever happens, at least one call and never more than allowed.
        #[test]
        fn it_stays_within_its_bounds(most in 0_u32..200, signs in prop::collection::vec(prop::option::of(0_i64..10_000_000_000), 0..500)) {
            let mut congestion = Congestion::new(most);
            for sign in signs {
                match sign {
                    Some(took) => congestion.answered(took),
                    None => congestion.congested(),
                }
                prop_assert!((1..=most.max(1)).contains(&congestion.calls()));
            }
        }
    }
}
