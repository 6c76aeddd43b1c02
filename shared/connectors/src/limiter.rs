//! The pace of calls to one connection: no window of a limit's length ever holds more calls than
//! the limit allows, as counted at the other side (promise O3).
//!
//! How: every call gets a slot, and slots of one limit are at least `step = (W + D) / L` apart,
//! where `W` is the window's length, `L` the calls allowed in it, and `D` the slack: the most by
//! which a call can reach the other side after its slot. Half of `D` is ours (a late timer may
//! catch up on that much of missed slots), half is the network's. Calls that arrive within one
//! window have slots within `W + D`, which holds at most `L` slots. `D` is two seconds, or a
//! twentieth of shorter windows, so at least 95 % of the limit can be used.
//!
//! A single call that takes longer than that to get there, say because a new connection is slow to
//! stand, can stray into a later window; `Retry-After` covers such rare cases.
//!
//! Every limit of a connection is asked in one step, so that a call never uses up a slot of one
//! limit while it waits for another; this is why the usual one-quota crates do not fit.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_core::{Result, catalogue::RateLimit};
use tokio::time::Instant;

/// Longest slack: half for our own delays, half for the network's.
const SLACK: Duration = Duration::from_secs(2);
/// Slack of short windows, as a part of the window: 1 in 20.
const SLACK_PART: u32 = 20;

/// The pace of one connection in this process. Clones share it. Waiting callers are served in the
/// order they came; a caller that gives up uses no slot.
///
/// A limiter shared by all replicas will replace the inside of this struct; that is why taking a
/// slot can fail: when the shared state cannot be reached, no call is made.
#[derive(Debug, Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Held by the caller whose turn it is; tokio's mutex is fair, so callers queue here.
    turn: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
    origin: Instant,
}

impl Limiter {
    /// A limiter for these limits; none means no waiting, except when paused.
    pub fn new(limits: &[RateLimit]) -> Self {
        Self {
            inner: Arc::new(Inner {
                turn: tokio::sync::Mutex::new(()),
                pace: Mutex::new(Pace::new(limits)),
                origin: Instant::now(),
            }),
        }
    }

    /// Waits for the next slot. The call must be sent right after; every HTTP call takes its own,
    /// token refreshes and look-ups too.
    ///
    /// # Errors
    /// None with the limiter of one process; see the type's text.
    pub async fn acquire(&self) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        loop {
            let now = self.inner.origin.elapsed();
            let taken = self.pace().take(now);
            match taken {
                Ok(()) => return Ok(()),
                Err(at) => tokio::time::sleep_until(self.inner.origin + at).await,
            }
        }
    }

    /// No slot is given for this long, for instance because of a `Retry-After`. A shorter pause
    /// never shortens a longer one.
    pub fn pause(&self, wait: Duration) {
        let until = self.inner.origin.elapsed().saturating_add(wait);
        self.pace().pause_until(until);
    }

    /// How long the next caller would wait if it were alone.
    pub fn wait(&self) -> Duration {
        let now = self.inner.origin.elapsed();
        self.pace().ready_at().saturating_sub(now)
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        // Nothing panics while the lock is held, and a slot taken is taken.
        self.inner
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decision, with time as an argument: durations since some fixed origin.
#[derive(Debug, Clone)]
struct Pace {
    limits: Vec<Slots>,
    paused_until: Duration,
}

/// The slots of one limit.
#[derive(Debug, Clone)]
struct Slots {
    next: Duration,
    step: Duration,
    /// How far behind its time a slot may still be used.
    catch_up: Duration,
}

impl Pace {
    fn new(limits: &[RateLimit]) -> Self {
        Self {
            limits: limits.iter().map(Slots::new).collect(),
            paused_until: Duration::ZERO,
        }
    }

    /// When a call may be made at the earliest.
    fn ready_at(&self) -> Duration {
        self.limits
            .iter()
            .map(|limit| limit.next)
            .fold(self.paused_until, Duration::max)
    }

    /// Takes one slot of every limit, or says when to ask again and takes none.
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let ready = self.ready_at();
        if ready > now {
            return Err(ready);
        }
        for limit in &mut self.limits {
            let slot = limit.next.max(now.saturating_sub(limit.catch_up));
            limit.next = slot.saturating_add(limit.step);
        }
        Ok(())
    }

    fn pause_until(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(until);
    }
}

impl Slots {
    fn new(limit: &RateLimit) -> Self {
        let window = Duration::from_secs(u64::from(limit.per_seconds.max(1)));
        let slack = SLACK.min(window / SLACK_PART);
        // One nanosecond more than the quotient: strictly fewer than `calls` steps in `W + D`.
        let step = (window + slack) / limit.calls.max(1) + Duration::from_nanos(1);
        Self {
            next: Duration::ZERO,
            step,
            catch_up: slack / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Most entries of `arrivals` (sorted) in any closed window of this length.
    fn fullest(arrivals: &[Duration], window: Duration) -> usize {
        let mut from = 0;
        let mut most = 0;
        for (to, at) in arrivals.iter().enumerate() {
            while *at - arrivals[from] > window {
                from += 1;
            }
            most = most.max(to - from + 1);
        }
        most
    }

    /// Calls made under backlog until `end`, each waking `late` after its time.
    fn run(
        limits: &[RateLimit],
        end: Duration,
        mut late: impl FnMut() -> Duration,
    ) -> Vec<Duration> {
        let mut pace = Pace::new(limits);
        let mut now = Duration::ZERO;
        let mut sent = Vec::new();
        while now < end {
            match pace.take(now) {
                Ok(()) => sent.push(now),
                Err(at) => now = at + late(),
            }
        }
        sent
    }

    fn limit(calls: u32, per_seconds: u32) -> RateLimit {
        RateLimit { calls, per_seconds }
    }

    proptest! {
        /// O3: whatever the timers and the network do within the slack, no window at the other
        /// side holds more calls than any of the limits, idle times and pauses included.
        #[test]
        fn no_window_is_ever_overfull(
            limits in prop::collection::vec((1_u32..300, prop::sample::select(vec![1_u32, 10, 60, 3600])), 1..4),
            // (idle before the call, timer late, network delay), each as parts per 1000
            steps in prop::collection::vec((0_u64..1000, 0_u64..1000, 0_u64..1000, prop::bool::weighted(0.05)), 50..600),
        ) {
            let limits: Vec<_> = limits.into_iter().map(|(calls, per)| limit(calls, per)).collect();
            let shortest = limits.iter().map(|limit| limit.per_seconds).min().unwrap();
            let half_slack = (SLACK.min(Duration::from_secs(shortest.into()) / SLACK_PART)) / 2;
            let mut pace = Pace::new(&limits);
            let mut now = Duration::ZERO;
            let mut arrivals = Vec::new();
            for (idle, late, network, pause) in steps {
                if pause {
                    pace.pause_until(now + Duration::from_millis(idle * 30));
                }
                // Mostly backlog; one in ten callers comes after a time of rest.
                if idle > 900 {
                    now += Duration::from_millis(idle * 5);
                }
                while let Err(at) = pace.take(now) {
                    now = at + half_slack.mul_f64(late as f64 / 1000.0);
                }
                arrivals.push(now + half_slack.mul_f64(network as f64 / 1000.0));
            }
            arrivals.sort();
            for limit in &limits {
                let window = Duration::from_secs(limit.per_seconds.into());
                prop_assert!(fullest(&arrivals, window) <= limit.calls as usize, "{limit:?}");
            }
        }

        /// O3: at least 95 % of the limit is used under backlog, with timers of a millisecond.
        #[test]
        fn backlog_uses_the_limit(calls in 20_u32..200_000, per in prop::sample::select(vec![1_u32, 60])) {
            let windows = if calls > 20_000 { 1 } else { 4 };
            let end = Duration::from_secs(u64::from(per) * windows);
            let sent = run(&[limit(calls, per)], end, || Duration::from_millis(1));
            let allowed = u64::from(calls) * windows;
            prop_assert!(sent.len() as u64 * 100 >= allowed * 95 - 100, "{} of {allowed}", sent.len());
        }
    }

    /// The slowest limit decides, and a call takes its slot in all of them at once.
    #[test]
    fn several_limits_hold_together() {
        let limits = [limit(10, 1), limit(60, 60), limit(1000, 3600)];
        let sent = run(&limits, Duration::from_secs(7200), || {
            Duration::from_millis(1)
        });
        assert!(fullest(&sent, Duration::from_secs(3600)) <= 1000);
        assert!(sent.len() >= 1900, "{}", sent.len());
    }

    #[test]
    fn a_pause_stops_calls_and_a_shorter_one_does_not_shorten_it() {
        let mut pace = Pace::new(&[]);
        pace.pause_until(Duration::from_secs(10));
        pace.pause_until(Duration::from_secs(5));
        assert_eq!(
            pace.take(Duration::from_secs(6)),
            Err(Duration::from_secs(10))
        );
        assert_eq!(pace.take(Duration::from_secs(10)), Ok(()));
    }

    /// A caller that gives up while waiting leaves the slot to the next one.
    #[tokio::test]
    async fn a_cancelled_caller_uses_no_slot() {
        let limiter = Limiter::new(&[limit(1, 3600)]);
        limiter.acquire().await.unwrap();
        let before = limiter.wait();
        for _ in 0..10 {
            let waiting = limiter.acquire();
            assert!(
                tokio::time::timeout(Duration::from_millis(1), waiting)
                    .await
                    .is_err()
            );
        }
        assert!(limiter.wait() <= before);
    }

    #[tokio::test]
    async fn without_limits_nobody_waits() {
        let limiter = Limiter::new(&[]);
        for _ in 0..1000 {
            limiter.acquire().await.unwrap();
        }
        assert_eq!(limiter.wait(), Duration::ZERO);
        limiter.pause(Duration::from_secs(60));
        assert!(limiter.wait() > Duration::from_secs(59));
    }
}
