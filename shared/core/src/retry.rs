//! When to try a task again: a pure function of class, attempts, policy and chance.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorClass};

/// How a connection's failed tasks are tried again. Requirement 002 gives the defaults: three
/// retries, five minutes; ours start earlier and grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Retries after the first attempt; then the task is dead. Default 3.
    pub max_retries: u32,
    /// Base of the exponential delay, in milliseconds. Default 10,000.
    pub base_delay_ms: u64,
    /// No delay of ours is longer, in milliseconds. Default 300,000 (five minutes).
    pub max_delay_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            base_delay_ms: 10_000,
            max_delay_ms: 300_000,
        }
    }
}

/// The longest wait a target can impose with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What happens to a task after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try again after the delay; one attempt is used up.
    RetryAfter(Duration),
    /// Try again after the delay; no attempt is used up.
    SnoozeFor(Duration),
    /// Give up: a dead letter.
    Dead,
}

/// Decides what follows a failure. `attempts` counts this attempt. The target's own wait beats
/// our backoff, and a rate limit never costs an attempt.
pub fn decide(error: &Error, attempts: u32, policy: &RetryPolicy, rng: &mut impl Rng) -> Next {
    let asked = error.wait().map(|wait| wait.min(MAX_RETRY_AFTER));
    match error.class() {
        ErrorClass::RateLimit => Next::SnoozeFor(asked.unwrap_or_else(|| backoff(1, policy, rng))),
        ErrorClass::Validation | ErrorClass::NotFound | ErrorClass::Conflict => Next::Dead,
        ErrorClass::Network
        | ErrorClass::Timeout
        | ErrorClass::Auth
        | ErrorClass::TargetError
        | ErrorClass::Config
        | ErrorClass::Internal => {
            if attempts > policy.max_retries {
                Next::Dead
            } else {
                Next::RetryAfter(asked.unwrap_or_else(|| backoff(attempts, policy, rng)))
            }
        }
    }
}

/// Exponential delay with jitter for the n-th attempt (from 1): a random part of
/// `min(max, base * 2^(n-1))`, never under half of the base.
/// Source: "full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter", with a floor.
pub fn backoff(attempt: u32, policy: &RetryPolicy, rng: &mut impl Rng) -> Duration {
    let factor = 1_u64 << attempt.saturating_sub(1).min(30);
    let ceiling = policy
        .base_delay_ms
        .saturating_mul(factor)
        .min(policy.max_delay_ms);
    let floor = (policy.base_delay_ms / 2).min(ceiling);
    Duration::from_millis(rng.random_range(floor..=ceiling))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn rng(seed: u64) -> rand::rngs::StdRng {
        rand::rngs::StdRng::seed_from_u64(seed)
    }

    fn failure(class: ErrorClass) -> Error {
        Error::new(class, "test_failure", "test")
    }

    proptest! {
        /// O5: every delay lies within the policy's bounds.
        #[test]
        fn delays_stay_within_bounds(seed: u64, attempt in 1_u32..100, base in 1_u64..100_000, max in 1_u64..1_000_000) {
            let policy = RetryPolicy { max_retries: 3, base_delay_ms: base, max_delay_ms: max };
            let delay = backoff(attempt, &policy, &mut rng(seed)).as_millis() as u64;
            prop_assert!(delay <= max);
            prop_assert!(delay >= (base / 2).min(max));
        }

        /// O5: retryable classes end after `max_retries`, the others at once, rate limits never.
        #[test]
        fn attempts_are_bounded(seed: u64, attempts in 1_u32..20) {
            let policy = RetryPolicy::default();
            for class in ErrorClass::ALL {
                let next = decide(&failure(class), attempts, &policy, &mut rng(seed));
                match class {
                    ErrorClass::RateLimit => prop_assert!(matches!(next, Next::SnoozeFor(_))),
                    ErrorClass::Validation | ErrorClass::NotFound | ErrorClass::Conflict =>
                        prop_assert_eq!(next, Next::Dead),
                    _ => prop_assert_eq!(matches!(next, Next::Dead), attempts > policy.max_retries),
                }
            }
        }
    }

    /// O5: what the target asks for wins over our own backoff, within an hour.
    #[test]
    fn retry_after_wins_within_its_cap() {
        let policy = RetryPolicy::default();
        let asked = failure(ErrorClass::TargetError).retry_after(Duration::from_secs(77));
        assert_eq!(
            decide(&asked, 1, &policy, &mut rng(1)),
            Next::RetryAfter(Duration::from_secs(77))
        );
        let absurd = failure(ErrorClass::RateLimit).retry_after(Duration::from_secs(1_000_000));
        assert_eq!(
            decide(&absurd, 1, &policy, &mut rng(1)),
            Next::SnoozeFor(MAX_RETRY_AFTER)
        );
    }
}
