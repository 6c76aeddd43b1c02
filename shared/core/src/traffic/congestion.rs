//! How many calls to one connection a process makes at once: additive increase, multiplicative
//! decrease, from what each call tells. Pure.
//!
//! It begins low and doubles with every round of calls until the first sign of congestion; then
//! it grows by one per round, and halves at a sign. A sign is a call that timed out or was told to
//! slow down (429, 503), or a round that took twice as long as rounds at their best, and a tenth of
//! a second longer: less than that is noise of either side's machine.

use super::{MILLISECOND, Nanos};

const BEGIN: u32 = 4;
/// Latency below this above the best is no sign.
const NOISE: Nanos = 100 * MILLISECOND;
/// The best is forgotten by this part per round, so that a target that became slower for good is
/// not held against it: 1 in 100.
const FORGET: Nanos = 100;

/// What the last calls say about the next ones.
#[derive(Debug, Clone)]
pub struct Congestion {
    most: u32,
    calls: u32,
    seen_none: bool,
    /// Calls of this round that ended, and the sum of their latencies.
    ended: u32,
    took: Nanos,
    best: Option<Nanos>,
}

impl Congestion {
    /// Never more than `most` calls at once.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            calls: BEGIN.min(most),
            seen_none: true,
            ended: 0,
            took: 0,
            best: None,
        }
    }

    /// Calls at once now; at least 1.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// A call was answered after this long.
    pub fn answered(&mut self, took: Nanos) {
        self.ended += 1;
        self.took = self.took.saturating_add(took);
        if self.ended < self.calls {
            return;
        }
        let average = self.took / Nanos::from(self.ended);
        let best = self
            .best
            .map_or(average, |best| best + best / FORGET)
            .min(average);
        self.best = Some(best);
        if average > 2 * best && average > best + NOISE {
            self.congested();
        } else {
            let more = if self.seen_none { self.calls } else { 1 };
            self.calls = self.calls.saturating_add(more).min(self.most);
            self.next_round();
        }
    }

    /// A call timed out or was told to slow down. Further signs of the same round change nothing.
    pub fn congested(&mut self) {
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
    use proptest::prelude::*;

    use super::*;

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
        congestion.congested();
        assert_eq!(congestion.calls(), 50);
        round(&mut congestion, MILLISECOND);
        assert_eq!(congestion.calls(), 51);
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
