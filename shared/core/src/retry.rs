//! When to try a task again: a pure function of class, attempts, policy and chance.

use std::{collections::BTreeMap, time::Duration};

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
    /// A system may answer with nothing but rate limits for this long, in milliseconds; then each
    /// further one costs an attempt. Default 86,400,000 (a day).
    pub max_limited_ms: u64,
    /// A system may be down for this long, in milliseconds; then each further probe of it that fails
    /// costs an attempt. Default 86,400,000 (a day).
    pub max_outage_ms: u64,
    /// Other numbers for errors of some classes.
    pub classes: BTreeMap<ErrorClass, ClassPolicy>,
}

/// What is different for one class of errors; the rest is as for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay_ms: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            base_delay_ms: 10_000,
            max_delay_ms: 300_000,
            max_limited_ms: 24 * 3_600_000,
            max_outage_ms: 24 * 3_600_000,
            classes: BTreeMap::new(),
        }
    }
}

impl RetryPolicy {
    /// The numbers for one class of errors.
    fn of(&self, class: ErrorClass) -> Self {
        let own = self.classes.get(&class).cloned().unwrap_or_default();
        Self {
            max_retries: own.max_retries.unwrap_or(self.max_retries),
            base_delay_ms: own.base_delay_ms.unwrap_or(self.base_delay_ms),
            max_delay_ms: own.max_delay_ms.unwrap_or(self.max_delay_ms),
            max_limited_ms: self.max_limited_ms,
            max_outage_ms: self.max_outage_ms,
            classes: BTreeMap::new(),
        }
    }
}

/// The longest wait a target can impose with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Codes of errors of class `RateLimit` that mean: no call was made, for reasons of our own. They
/// never cost an attempt and do not count as an answer of the system.
const OWN_WAITS: [&str; 6] = [
    "no_time_left",
    "no_turn_soon",
    "no_slot_in_time",
    "breaker_open",
    "limits_unreachable",
    "request_not_kept",
];

/// Whether a rate limit is our own waiting, and not the system's answer.
pub fn is_own_wait(code: &str) -> bool {
    OWN_WAITS.contains(&code)
}

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

/// What is known about a failed task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Attempts, this one included.
    pub attempts: u32,
    /// How long the system has answered with nothing but rate limits.
    pub limited_for: Duration,
    /// Set when it failed as the probe of an open breaker.
    pub outage: Option<Outage>,
}

/// What a failed probe says about a system that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// How long the breaker has been open.
    pub lasts: Duration,
    /// When the next probe may be made, from the failure on.
    pub next_probe: Duration,
}

/// Decides what follows a failure. The system's own wait beats our backoff. A rate limit costs no
/// attempt, nor does a failed probe of a system that is down: it says nothing about the task that
/// happened to be the probe. Neither goes on for ever, since it may be this very task that a system
/// fails at.
pub fn decide(error: &Error, tried: Tried, policy: &RetryPolicy, rng: &mut impl Rng) -> Next {
    let asked = error.wait().map(|wait| wait.min(MAX_RETRY_AFTER));
    let policy = &policy.of(error.class());
    let Tried {
        attempts,
        limited_for,
        outage,
    } = tried;
    let outage = outage.filter(|outage| {
        let of_the_system = matches!(
            error.class(),
            ErrorClass::Network | ErrorClass::Timeout | ErrorClass::TargetError
        );
        of_the_system && outage.lasts < Duration::from_millis(policy.max_outage_ms)
    });
    if let Some(outage) = outage {
        // Later than those that wait for the next probe, so that another one makes it.
        let behind = outage.next_probe + backoff(1, policy, rng);
        return Next::SnoozeFor(asked.map_or(behind, |wait| wait.max(behind)));
    }
    match error.class() {
        ErrorClass::RateLimit
            if is_own_wait(error.code())
                || limited_for < Duration::from_millis(policy.max_limited_ms) =>
        {
            Next::SnoozeFor(asked.unwrap_or_else(|| backoff(1, policy, rng)))
        }
        ErrorClass::Validation | ErrorClass::NotFound | ErrorClass::Conflict => Next::Dead,
        ErrorClass::RateLimit
        | ErrorClass::Network
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

/// Crashes after which a task is given up: one in company, three alone.
pub const MAX_CRASHES: u32 = 4;

/// How long a task rests after its worker died for the n-th time (from 1) since its last success;
/// `None` means: give up. The first time it may have been a neighbour's fault, so it comes back at
/// once, but alone (promise O8).
pub fn after_crash(crashes: u32) -> Option<Duration> {
    match crashes {
        ..=1 => Some(Duration::ZERO),
        MAX_CRASHES.. => None,
        // 10 s, 40 s: whoever watches sees it happen.
        more => Some(Duration::from_secs(10 << (2 * (more - 2)))),
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

    fn tried(attempts: u32) -> Tried {
        Tried {
            attempts,
            ..Tried::default()
        }
    }

    fn failure(class: ErrorClass) -> Error {
        Error::new(class, "test_failure", "test")
    }

    proptest! {
        /// O5: every delay lies within the policy's bounds.
        #[test]
        fn delays_stay_within_bounds(seed: u64, attempt in 1_u32..100, base in 1_u64..100_000, max in 1_u64..1_000_000) {
            let policy = RetryPolicy { base_delay_ms: base, max_delay_ms: max, ..RetryPolicy::default() };
            let delay = backoff(attempt, &policy, &mut rng(seed)).as_millis() as u64;
            prop_assert!(delay <= max);
            prop_assert!(delay >= (base / 2).min(max));
        }

        /// O5: retryable classes end after `max_retries`, the others at once, rate limits never.
        #[test]
        fn attempts_are_bounded(seed: u64, attempts in 1_u32..20) {
            let policy = RetryPolicy::default();
            for class in ErrorClass::ALL {
                let next = decide(&failure(class), tried(attempts), &policy, &mut rng(seed));
                match class {
                    ErrorClass::RateLimit => prop_assert!(matches!(next, Next::SnoozeFor(_))),
                    ErrorClass::Validation | ErrorClass::NotFound | ErrorClass::Conflict =>
                        prop_assert_eq!(next, Next::Dead),
                    _ => prop_assert_eq!(matches!(next, Next::Dead), attempts > policy.max_retries),
                }
            }
        }
    }

    /// O5: a rate limit without end has an end, a day later by default.
    #[test]
    fn rate_limits_cost_attempts_after_a_day() {
        let policy = RetryPolicy::default();
        let limited = failure(ErrorClass::RateLimit).retry_after(Duration::from_secs(9));
        let day = Duration::from_secs(24 * 3600);
        let after = |limited_for, attempts| {
            let tried = Tried {
                attempts,
                limited_for,
                outage: None,
            };
            decide(&limited, tried, &policy, &mut rng(1))
        };
        let wait = Duration::from_secs(9);
        let almost = day - Duration::from_secs(1);
        assert_eq!(after(almost, 99), Next::SnoozeFor(wait));
        assert_eq!(after(day, 1), Next::RetryAfter(wait));
        assert_eq!(after(day, policy.max_retries + 1), Next::Dead);
        let tired = Tried {
            attempts: 99,
            limited_for: 9 * day,
            outage: None,
        };
        for code in OWN_WAITS {
            let not_made = Error::new(ErrorClass::RateLimit, code, "test");
            let next = decide(&not_made, tired, &policy, &mut rng(1));
            assert!(matches!(next, Next::SnoozeFor(_)), "{code}");
        }
    }

    /// O4: an outage of an hour makes no dead letter, however few records there are to probe with, and
    /// a system that fails at one operation for ever makes them all, in bounded time.
    #[test]
    fn outages_cost_no_attempts_until_they_are_none() {
        let hour = Duration::from_secs(3600);
        for records in [1, 2, 50] {
            let policy = RetryPolicy::default();
            let dead = probed(records, hour, &policy);
            assert_eq!(dead, 0, "{records} records");
            let policy = RetryPolicy {
                max_outage_ms: 0,
                ..policy
            };
            let dead = probed(records, hour, &policy);
            assert!(records > 2 || dead > 0, "it was so with {records} records");
        }
        let policy = RetryPolicy::default();
        for records in [1, 2, 10] {
            // A day, then four attempts of each, a probe every ten minutes.
            let probes = records as u32 * (policy.max_retries + 1);
            let bound = 24 * hour + (probes + 2) * Duration::from_secs(700);
            assert_eq!(probed(records, bound, &policy), records);
        }
    }

    /// Records that are dead when a breaker with its default waits has been open for so long, and
    /// they made its probes.
    fn probed(records: usize, lasts: Duration, policy: &RetryPolicy) -> usize {
        let down = failure(ErrorClass::TargetError);
        // One attempt of each was used up before it opened. Due time and attempts.
        let mut alive = vec![(Duration::ZERO, 1_u32); records];
        let (mut at, mut wait) = (Duration::from_secs(5), Duration::from_secs(5));
        while at < lasts {
            let Some(place) = (0..alive.len()).min_by_key(|place| alive[*place].0.max(at)) else {
                break;
            };
            let (due, attempts) = &mut alive[place];
            at = at.max(*due);
            wait = (2 * wait).min(Duration::from_secs(600));
            let tried = Tried {
                attempts: *attempts + 1,
                outage: Some(Outage {
                    lasts: at,
                    next_probe: wait,
                }),
                ..Tried::default()
            };
            match decide(&down, tried, policy, &mut rng(at.as_secs())) {
                Next::SnoozeFor(after) => *due = at + after,
                Next::RetryAfter(after) => (*due, *attempts) = (at + after, *attempts + 1),
                Next::Dead => drop(alive.remove(place)),
            }
            at += wait;
        }
        records - alive.len()
    }

    /// O4: a probe that was answered says something about its own record, and the others that wait
    /// come before one that failed.
    #[test]
    fn only_failed_probes_are_free_and_they_step_back() {
        let policy = RetryPolicy::default();
        let tried = |lasts| Tried {
            attempts: 99,
            outage: Some(Outage {
                lasts: Duration::from_secs(lasts),
                next_probe: Duration::from_secs(600),
            }),
            ..Tried::default()
        };
        for class in ErrorClass::ALL {
            let next = decide(&failure(class), tried(60), &policy, &mut rng(1));
            let later = decide(&failure(class), tried(24 * 3600), &policy, &mut rng(1));
            match class {
                ErrorClass::Network | ErrorClass::Timeout | ErrorClass::TargetError => {
                    assert!(
                        matches!(next, Next::SnoozeFor(after) if after > Duration::from_secs(600)),
                        "{next:?}"
                    );
                    assert_eq!(later, Next::Dead, "{class}");
                }
                ErrorClass::RateLimit => assert!(matches!(next, Next::SnoozeFor(_)), "{next:?}"),
                _ => assert_eq!(next, Next::Dead, "{class}"),
            }
        }
    }

    /// O5: a class has its own numbers where it is given some, and leaves the others alone.
    #[test]
    fn classes_have_numbers_of_their_own() {
        let policy: RetryPolicy = serde_json::from_value(serde_json::json!({
            "max_retries": 1,
            "classes": {
                "timeout": {"max_retries": 5, "base_delay_ms": 7, "max_delay_ms": 7},
                "auth": {"max_retries": 0},
            },
        }))
        .unwrap();
        let after =
            |class, attempts| decide(&failure(class), tried(attempts), &policy, &mut rng(1));
        let seven = Next::RetryAfter(Duration::from_millis(7));
        assert!(matches!(after(ErrorClass::Timeout, 5), Next::RetryAfter(_)));
        assert_eq!(after(ErrorClass::Timeout, 2), seven);
        assert_eq!(after(ErrorClass::Timeout, 6), Next::Dead);
        assert_eq!(after(ErrorClass::Auth, 1), Next::Dead);
        assert!(matches!(after(ErrorClass::Network, 1), Next::RetryAfter(_)));
        assert_eq!(after(ErrorClass::Network, 2), Next::Dead);
        let wrong = serde_json::json!({"classes": {"whatever": {}}});
        assert!(serde_json::from_value::<RetryPolicy>(wrong).is_err());
    }

    /// O8, C2: a dead worker's tasks come back at once, and one that kills its workers is given up.
    #[test]
    fn crashes_are_bounded_and_spread_out() {
        let rests: Vec<_> = (1..=MAX_CRASHES).map(after_crash).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(rests, [seconds(0), seconds(10), seconds(40), None]);
        assert_eq!(after_crash(u32::MAX), None);
    }

    /// O5: what the target asks for wins over our own backoff, within an hour.
    #[test]
    fn retry_after_wins_within_its_cap() {
        let policy = RetryPolicy::default();
        let asked = failure(ErrorClass::TargetError).retry_after(Duration::from_secs(77));
        assert_eq!(
            decide(&asked, tried(1), &policy, &mut rng(1)),
            Next::RetryAfter(Duration::from_secs(77))
        );
        let absurd = failure(ErrorClass::RateLimit).retry_after(Duration::from_secs(1_000_000));
        assert_eq!(
            decide(&absurd, tried(1), &policy, &mut rng(1)),
            Next::SnoozeFor(MAX_RETRY_AFTER)
        );
    }
}
