//! How much work of one target is in hand: pure decisions.

use std::time::Duration;

use sluice_core::catalogue::RateLimit;

use crate::settle;

/// Fewer calls per second than this, and a batch waits alone: a second one would wait for its
/// turn longer than is good for urgent work and for its lease.
const SLOW: f64 = 0.1;
/// The broker's bound of unsettled messages per consumer, kept so that one process cannot hold
/// everything.
const MOST_PREFETCH: usize = 2_000;

/// What all batches in hand need together at most, of the lease: what has not begun in its first half goes
/// back, and was claimed in vain.
const PART_OF_LEASE: u32 = 8;
/// How long a call is thought to take before any was answered.
const UNKNOWN: Duration = Duration::from_millis(500);

/// Bounds of one target connection in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pushes claimed together.
    pub claim: usize,
    /// Batches in hand at once.
    pub slots: usize,
    /// Unsettled messages per class: what is in hand, what is being settled, and a batch to pick from.
    /// With fewer, batches would be small while outcomes are written.
    pub prefetch: u16,
}

/// The window of a connection. Without limits of all calls it is what the settings say. With limits a batch is
/// about a second's worth, or one call's: what is claimed is sent within seconds, far within its
/// lease, and urgent work never stands behind more than that.
///
/// `batch` and `slots` are the settings; `records_per_call` is what the target takes at once.
pub fn window(limits: &[RateLimit], batch: usize, slots: usize, records_per_call: usize) -> Window {
    let batch = batch.max(1);
    // What a limit of single paths holds up is sent away (`Terms::patience`), and counts for nobody else.
    let calls_per_second = limits
        .iter()
        .filter(|limit| limit.counts_all())
        .map(|limit| f64::from(limit.calls) / f64::from(limit.per_seconds.max(1)))
        .fold(f64::INFINITY, f64::min);
    let (claim, slots) = if calls_per_second.is_finite() {
        let per_call = records_per_call.max(1);
        let of_a_second = (calls_per_second * per_call as f64).ceil() as usize;
        let slots = if calls_per_second < SLOW {
            1
        } else if of_a_second < batch {
            slots.clamp(1, 2)
        } else {
            // A batch lasts less than a second: as without limits.
            slots.max(1)
        };
        (of_a_second.max(per_call).min(batch), slots)
    } else {
        (batch, slots.max(1))
    };
    let prefetch = (claim * (1 + slots + settle::WRITES)).clamp(2, MOST_PREFETCH);
    Window {
        claim,
        slots,
        prefetch: u16::try_from(prefetch).unwrap_or(u16::MAX),
    }
}

/// What may be claimed now, of what the window allows: no more than the target answers in time, as its
/// calls go at present. `at_once` calls are made at a time, `lasts` is how long one takes.
pub fn claimable(
    window: Window,
    records_per_call: usize,
    at_once: usize,
    lasts: Option<Duration>,
    lease: Duration,
) -> usize {
    let lasts = lasts.unwrap_or(UNKNOWN).max(Duration::from_micros(1));
    let rounds = (lease / PART_OF_LEASE).as_secs_f64() / lasts.as_secs_f64();
    let (at_once, slots) = (at_once.max(1), window.slots.max(1));
    let calls = (rounds * at_once as f64 / slots as f64) as usize;
    // No fewer than can be under way.
    let calls = calls.max(at_once.div_ceil(slots));
    let records = calls.saturating_mul(records_per_call.max(1));
    records.min(window.claim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(calls: u32, per_seconds: u32) -> RateLimit {
        RateLimit::new(calls, per_seconds)
    }

    #[test]
    fn without_limits_the_settings_count() {
        let window = window(&[], 200, 3, 1);
        assert_eq!(
            (window.claim, window.slots, window.prefetch),
            (200, 3, 1_200)
        );
    }

    #[test]
    fn with_limits_a_batch_is_a_second_or_a_call() {
        assert_eq!(window(&[limit(60, 60)], 200, 3, 1).claim, 1);
        assert_eq!(window(&[limit(600, 60)], 200, 3, 1).claim, 10);
        assert_eq!(window(&[limit(60, 60)], 200, 3, 50).claim, 50);
        assert_eq!(window(&[limit(1, 60)], 200, 3, 50).claim, 50);
        assert_eq!(window(&[limit(1, 60)], 200, 3, 50).slots, 1);
        assert_eq!(window(&[limit(600, 60), limit(30, 60)], 200, 3, 1).claim, 1);
        let of_a_path = RateLimit {
            paths: vec!["/slow".to_owned()],
            ..limit(30, 60)
        };
        assert_eq!(window(&[limit(600, 60), of_a_path], 200, 3, 1).claim, 10);
    }

    #[test]
    fn no_more_is_claimed_than_a_slow_target_answers_in_time() {
        let lease = Duration::from_secs(75);
        let window = window(&[], 200, 3, 1);
        let claim = |at_once, lasts| claimable(window, 1, at_once, Some(lasts), lease);
        assert_eq!(claim(4, Duration::from_millis(300)), 41);
        assert_eq!(claim(64, Duration::from_millis(2)), 200);
        assert_eq!(claim(1, Duration::from_secs(60)), 1);
        assert_eq!(claim(4, Duration::from_secs(60)), 2);
        assert_eq!(claimable(window, 1, 4, None, lease), 25);
        assert_eq!(
            claimable(window, 50, 1, Some(lease), lease),
            50,
            "a call's worth"
        );
    }

    proptest! {
        /// C2: what is in hand can be sent within half of a lease of 75 s.
        #[test]
        fn what_is_in_hand_fits_into_a_lease(
            calls in 1_u32..10_000, per in 1_u32..35, batch in 1_usize..1_000, slots in 1_usize..8, per_call in 1_usize..200,
        ) {
            let window = window(&[limit(calls, per)], batch, slots, per_call);
            let calls_in_hand = (window.claim * window.slots).div_ceil(per_call.min(batch)) as f64;
            let seconds = calls_in_hand * f64::from(per) / f64::from(calls);
            prop_assert!(seconds <= 37.5, "{seconds} s for {window:?}");
            prop_assert!(window.claim >= 1 && window.claim <= batch);
            prop_assert!(usize::from(window.prefetch) >= window.claim.min(MOST_PREFETCH));
        }
    }
}
