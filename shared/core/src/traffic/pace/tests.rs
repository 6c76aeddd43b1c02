mod changes;

use proptest::prelude::*;

use super::*;
use crate::traffic::{AHEAD, MILLISECOND, SECOND};

/// Most entries of `arrivals` (sorted) in any closed window of this length.
fn fullest(arrivals: &[Nanos], window: Nanos) -> usize {
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

/// The same, of windows that hold this one.
fn fullest_with(call: Nanos, arrivals: &[Nanos], window: Nanos) -> usize {
    let ends = arrivals.iter().filter(|end| **end >= call);
    ends.map(|end| {
        let held = |at: &&Nanos| (*end - window..=*end).contains(*at);
        arrivals.iter().filter(held).count()
    })
    .max()
    .unwrap_or(0)
}

fn limit(calls: u32, per_seconds: u32) -> RateLimit {
    RateLimit::new(calls, per_seconds)
}

fn window(limit: &RateLimit) -> Nanos {
    Nanos::from(limit.per_seconds) * SECOND
}

/// Slots taken under backlog until `end`, by somebody who asks 100 ms ahead, uses each in time and
/// tells it.
fn run(pace: &mut Pace, from: Nanos, end: Nanos, kind: Kind) -> Vec<Nanos> {
    let mut now = from;
    let mut slots = Vec::new();
    while now < end {
        let taken = pace.take(now, kind, 1_000, AHEAD);
        if taken.is_empty() {
            now = now.max(pace.next_at(now, kind) - 100 * MILLISECOND);
        }
        for slot in taken {
            let used = Some(slot);
            let counted = slot + pace.late(kind);
            pace.hear(
                now,
                Told {
                    kind,
                    counted,
                    used,
                },
            );
            slots.push(slot);
        }
    }
    slots
}

/// Asks again and again until there is a slot.
fn next_slot(pace: &mut Pace, from: Nanos, kind: Kind) -> Nanos {
    let mut now = from;
    loop {
        if let [slot] = pace.take(now, kind, 1, 0)[..] {
            return slot;
        }
        now = pace.next_at(now, kind);
    }
}

fn start() -> Nanos {
    1_000_000 * SECOND
}

proptest! {
    /// O3: whatever processes and network do within the slack, no window at the other side holds
    /// more calls than any of the limits, idle times and pauses included.
    #[test]
    fn no_window_is_ever_overfull(
        limits in prop::collection::vec((1_u32..300, prop::sample::select(vec![1_u32, 10, 60, 3600])), 1..4),
        // (idle before asking, count, late use, network delay), each in parts of 1000
        steps in prop::collection::vec((0_i64..1000, 1_u32..20, 0_i64..=1000, 0_i64..=1000, prop::bool::weighted(0.05)), 50..300),
        // What is told of each slot: the truth, that it was not used, nothing.
        tells in prop::collection::vec(0_u8..6, 1..50),
    ) {
        let limits: Vec<_> = limits.into_iter().map(|(calls, per)| limit(calls, per)).collect();
        let mut pace = Pace::new(&limits);
        let kind = Kind::of(&limits, "/", false);
        let late = pace.late(kind);
        let network = limits.iter().map(slack).min().unwrap();
        let mut now = start();
        let mut arrivals = Vec::new();
        let mut tells = tells.into_iter().cycle();
        let mut told = Vec::new();
        for (idle, count, use_late, delay, pause) in steps {
            for told in told.drain(..) {
                pace.hear(now, told);
            }
            if pause {
                pace.pause_until(now + idle * 30 * MILLISECOND);
            }
            // Mostly backlog; one in ten asks after a time of rest.
            now = if idle > 900 {
                now + idle * 5 * MILLISECOND
            } else {
                now.max(pace.next_at(now, kind) - idle * MILLISECOND / 4)
            };
            for slot in pace.take(now, kind, count, AHEAD) {
                prop_assert!(slot >= pace.paused_until() && slot >= now);
                let (used, counted) = (slot + late * use_late / 1000, slot + late);
                let tells = tells.next().unwrap();
                if tells == 0 {
                    told.push(Told { kind, counted, used: None });
                    continue;
                }
                arrivals.push(used + network * delay / 1000);
                if tells < 5 {
                    told.push(Told { kind, counted, used: Some(used) });
                }
            }
        }
        arrivals.sort_unstable();
        for limit in &limits {
            prop_assert!(fullest(&arrivals, window(limit)) <= limit.calls as usize, "{limit:?}");
        }
    }

    /// O3: at least 95 % of the limit can be used under backlog.
    #[test]
    fn backlog_uses_the_limit(calls in 20_u32..20_000, per in prop::sample::select(vec![1_u32, 60])) {
        let windows = 5;
        let limits = [limit(calls, per)];
        let mut pace = Pace::new(&limits);
        let end = start() + window(&limits[0]) * windows;
        let slots = run(&mut pace, start(), end, Kind::of(&limits, "/", false));
        let used = slots.iter().filter(|slot| **slot < end).count() as u64;
        let allowed = u64::from(calls) * 5;
        prop_assert!(used * 100 >= allowed * 95 - 100, "{used} of {allowed}");
    }

    /// O3: after any series of live changes, no window with a call made after a change holds more
    /// than the limit then in force, under full backlog before and after.
    #[test]
    fn a_live_change_overfills_no_window(
        per in prop::sample::select(vec![1_u32, 60]),
        changes in prop::collection::vec((1_u32..100, 1_i64..2_000), 2..8),
    ) {
        let mut pace = Pace::new(&[limit(changes[0].0, per)]);
        let mut now = start();
        let mut slots: Vec<(Nanos, u32)> = Vec::new();
        for (calls, lasts) in changes {
            let limits = [limit(calls, per)];
            pace.set_limits(&limits, now);
            let end = now + Nanos::from(per) * lasts * MILLISECOND;
            let kind = Kind::of(&limits, "/", false);
            slots.extend(run(&mut pace, now, end, kind).into_iter().map(|slot| (slot, calls)));
            now = end;
        }
        // Of a window's calls the one handed out last knew of all others.
        let length = Nanos::from(per) * SECOND;
        for (number, (last, calls)) in slots.iter().enumerate() {
            let mut near: Vec<Nanos> = slots[..=number]
                .iter()
                .map(|(slot, _)| *slot)
                .filter(|slot| (slot - last).abs() <= length)
                .collect();
            near.sort_unstable();
            let held = fullest_with(*last, &near, length);
            prop_assert!(held <= *calls as usize, "{held} calls, limit {calls}");
        }
    }

    /// O3: a limit whose window is new counts the calls that were made before it.
    #[test]
    fn a_new_window_counts_what_was_before(calls in 2_u32..100, added in 1_u32..50) {
        let before = [limit(calls, 1)];
        let mut pace = Pace::new(&before);
        let changed = start() + 20 * SECOND;
        let mut slots = run(&mut pace, start(), changed, Kind::of(&before, "/", false));
        let after = [limit(calls, 1), limit(added, 10)];
        pace.set_limits(&after, changed);
        let new = slots.len();
        slots.extend(run(&mut pace, changed, changed + 60 * SECOND, Kind::of(&after, "/", false)));
        prop_assert!(slots.len() > new);
        let first = slots[new];
        let in_window = slots.iter().filter(|slot| **slot > first - 10 * SECOND && **slot <= first);
        prop_assert!(in_window.count() <= added as usize);
        prop_assert!(fullest(&slots[new..], 10 * SECOND) <= added as usize);
    }
}

/// The slowest limit decides, and a call takes its slot in all of them at once.
#[test]
fn several_limits_hold_together() {
    let limits = [limit(10, 1), limit(60, 60), limit(1000, 3600)];
    let mut pace = Pace::new(&limits);
    let kind = Kind::of(&limits, "/", false);
    let slots = run(&mut pace, start(), start() + 7200 * SECOND, kind);
    assert!(fullest(&slots, 3600 * SECOND) <= 1000);
    assert!(slots.len() >= 1900, "{}", slots.len());
}

/// A limit with paths counts only these; the others do not wait for it.
#[test]
fn classes_of_endpoints_have_limits_of_their_own() {
    let limits = [
        limit(100, 1),
        RateLimit {
            paths: vec!["/search".into()],
            ..limit(1, 60)
        },
    ];
    let mut pace = Pace::new(&limits);
    let (search, other) = (
        Kind::of(&limits, "/search/x", false),
        Kind::of(&limits, "/x", false),
    );
    assert_eq!(pace.take(start(), search, 5, AHEAD).len(), 1);
    assert!(pace.take(start(), search, 5, AHEAD).is_empty());
    assert!(pace.take(start(), other, 5, AHEAD).len() > 3);
}

/// A raise takes effect at once, even from one call per hour.
#[test]
fn a_raised_limit_waits_for_nothing() {
    let before = [limit(1, 3600)];
    let mut pace = Pace::new(&before);
    let kind = Kind::of(&before, "/", false);
    assert_eq!(pace.take(start(), kind, 5, AHEAD).len(), 1);
    pace.set_limits(&[limit(3600, 3600)], start() + 2 * SECOND);
    assert_eq!(pace.take(start() + 2 * SECOND, kind, 1, AHEAD).len(), 1);
}

/// What was set by hand stays until the configuration changes.
#[test]
fn the_configuration_is_taken_over_once() {
    let configured = [limit(60, 60)];
    let mut pace = Pace::new(&configured);
    pace.set_limits(&[limit(30, 60)], start());
    assert!(!pace.configure(&configured, start()));
    assert_eq!(pace.limits(), [limit(30, 60)]);
    assert!(pace.configure(&[limit(90, 60)], start()));
    assert_eq!(pace.limits(), [limit(90, 60)]);
}

#[test]
fn a_pause_stops_calls_and_a_shorter_one_does_not_shorten_it() {
    let mut pace = Pace::new(&[]);
    let kind = Kind::of(&[], "/", false);
    pace.pause_until(start() + 10 * SECOND);
    pace.pause_until(start() + 5 * SECOND);
    assert!(pace.take(start() + 6 * SECOND, kind, 1, AHEAD).is_empty());
    assert_eq!(pace.take(start() + 10 * SECOND, kind, 1, AHEAD).len(), 1);
}
