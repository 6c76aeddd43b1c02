//! True sliding windows over call times: one that refuses, one that only measures.
//!
//! Times are microseconds on any steady clock, so that tests need no waiting.

use std::collections::VecDeque;

/// One minute in microseconds.
pub const MINUTE: u64 = 60_000_000;

/// Accepts at most `limit` calls in any window of one minute. Refused calls cost nothing.
#[derive(Debug)]
pub struct SlidingLimit {
    limit: usize,
    accepted: VecDeque<u64>,
}

impl SlidingLimit {
    /// A window with room for `limit` calls.
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limit as usize,
            accepted: VecDeque::with_capacity(limit as usize),
        }
    }

    /// Takes one call at `now`.
    ///
    /// # Errors
    /// The microseconds until a call could be accepted.
    pub fn take(&mut self, now: u64) -> Result<(), u64> {
        while self.accepted.front().is_some_and(|t| t + MINUTE <= now) {
            self.accepted.pop_front();
        }
        if self.accepted.len() < self.limit {
            self.accepted.push_back(now);
            return Ok(());
        }
        let free_at = self.accepted.front().map_or(now + MINUTE, |t| t + MINUTE);
        Err(free_at - now)
    }
}

/// The most calls seen in any window of one minute, refused ones included.
#[derive(Debug, Default)]
pub struct SlidingMeter {
    seen: VecDeque<u64>,
    most: usize,
}

impl SlidingMeter {
    /// Notes one call at `now`; times must not go back.
    pub fn note(&mut self, now: u64) {
        while self.seen.front().is_some_and(|t| t + MINUTE <= now) {
            self.seen.pop_front();
        }
        self.seen.push_back(now);
        self.most = self.most.max(self.seen.len());
    }

    /// The most calls in any window so far.
    pub fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_window_slides_and_does_not_reset_at_the_minute() {
        let mut limit = SlidingLimit::new(2);
        assert_eq!(limit.take(59_000_000), Ok(()));
        assert_eq!(limit.take(59_500_000), Ok(()));
        // A fixed window would allow two more in the next minute.
        assert_eq!(limit.take(60_000_000), Err(59_000_000));
        assert_eq!(limit.take(118_999_999), Err(1));
        assert_eq!(limit.take(119_000_000), Ok(()));
        assert_eq!(limit.take(119_000_000), Err(500_000));
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_never_less_than_it_could(
            limit in 1_u32..8,
            gaps in prop::collection::vec(0_u64..20_000_000, 1..200),
        ) {
            let mut window = SlidingLimit::new(limit);
            let mut accepted: Vec<u64> = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                let inside = accepted.iter().filter(|t| **t + MINUTE > now).count();
                match window.take(now) {
                    Ok(()) => {
                        prop_assert!(inside < limit as usize);
                        accepted.push(now);
                    }
                    Err(wait) => {
                        prop_assert_eq!(inside, limit as usize);
                        prop_assert!(wait > 0 && wait <= MINUTE);
                    }
                }
            }
        }

        #[test]
        fn the_meter_finds_the_fullest_window(gaps in prop::collection::vec(0_u64..30_000_000, 1..100)) {
            let mut meter = SlidingMeter::default();
            let mut times = Vec::new();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                times.push(now);
                meter.note(now);
            }
            let most = times
                .iter()
                .map(|end| times.iter().filter(|t| **t <= *end && **t + MINUTE > *end).count())
                .max()
                .unwrap_or(0);
            prop_assert_eq!(meter.most(), most);
        }
    }
}
