//! What a limit that is new knows of earlier calls.

use super::*;

/// Limits with a long window, which a connection did not have before.
fn long_windows(calls: u32) -> [Vec<RateLimit>; 3] {
    let short = limit(300, 60);
    [
        vec![limit(calls, 3600)],
        vec![short.clone(), limit(calls, 86_400)],
        vec![limit(calls, 31 * 86_400), short],
    ]
}

/// A connection that has made a few calls, or none, calls at once after it got a long window: by
/// hand, through the configuration, and where nothing was limited before.
#[test]
fn a_quiet_connection_that_gets_a_long_window_calls_at_once() {
    for before in [vec![limit(300, 60)], Vec::new()] {
        for after in long_windows(100_000) {
            for calls in [0, 3] {
                let mut pace = Pace::new(&before);
                let kind = Kind::of(&before, "/", false);
                for minute in 0..calls {
                    let at = start() + minute * 60 * SECOND;
                    if kind.is_free() {
                        pace.freed(at + AHEAD);
                        pace.ended(at + SECOND, 1);
                    } else {
                        assert_eq!(pace.take(at, kind, 1, AHEAD), [at]);
                    }
                }
                let changed = start() + 300 * SECOND;
                if calls == 0 {
                    pace.configure(&after, changed);
                } else {
                    pace.set_limits(&after, changed);
                }
                let kind = Kind::of(&after, "/", false);
                let taken = pace.take(changed, kind, 1, AHEAD);
                assert_eq!(taken, [changed], "{before:?} {after:?} {calls}");
                let later = run(&mut pace, changed, changed + 60 * SECOND, kind);
                assert!(later.len() >= 2, "{before:?} {after:?} {calls}");
            }
        }
    }
}

proptest! {
    /// O3: a window of hours or days that is new counts every call of before, and the first call
    /// waits for those that are known and for nothing else. Times are known to a quarter of a call's age.
    #[test]
    fn a_long_window_that_is_new_counts_what_is_known(
        bursts in prop::collection::vec((1_i64..20_000, 1_usize..400, prop::bool::weighted(0.2)), 1..12),
        added in 100_u32..2_000,
        per in prop::sample::select(vec![3_600_u32, 86_400, 31 * 86_400]),
    ) {
        let before = [limit(600, 60)];
        let mut pace = Pace::new(&before);
        let kind = Kind::of(&before, "/", false);
        let mut now = start();
        let mut calls = Vec::new();
        for (idle, count, unused) in bursts {
            now += idle * SECOND;
            for _ in 0..count {
                let slot = next_slot(&mut pace, now, kind);
                let counted = slot + pace.late(kind);
                let used = (!unused).then_some(slot);
                pace.hear(slot, Told { kind, counted, used });
                calls.extend(used);
                now = slot;
            }
        }
        let after = [limit(600, 60), limit(added, per)];
        pace.set_limits(&after, now);
        let window = Nanos::from(per) * SECOND;
        let first = next_slot(&mut pace, now, Kind::of(&after, "/", false));
        let held = calls.iter().filter(|at| **at >= first - window).count();
        prop_assert!(held < added as usize, "{held}");
        let place = calls.len().checked_sub(added as usize);
        let leaves = place.map_or(0, |place| calls[place] + window + (now - calls[place]) / 4);
        let even = now + window / Nanos::from(added);
        prop_assert!(first <= leaves.max(even) + 5 * SECOND, "{}", (first - leaves.max(even)) / SECOND);
    }
}

/// What older versions wrote is read: calls of the last window count, and count for longer windows from
/// then on.
#[test]
fn a_state_of_an_older_version_is_taken_over() {
    let before = [limit(300, 60)];
    let mut pace = Pace::new(&before);
    let kind = Kind::of(&before, "/", false);
    let slots = run(&mut pace, start(), start() + 30 * SECOND, kind);
    let mut old = serde_json::to_value(&pace).unwrap();
    old.as_object_mut().unwrap().remove("past").unwrap();
    let mut pace: Pace = serde_json::from_value(old).unwrap();
    let changed = start() + 30 * SECOND;
    let after = [limit(u32::try_from(slots.len()).unwrap(), 3600)];
    pace.set_limits(&after, changed);
    let first = next_slot(&mut pace, changed, Kind::of(&after, "/", false));
    assert!(first >= slots[0] + 3600 * SECOND);
    assert!(first <= slots[0] + 3700 * SECOND);
}

/// What the past adds to the shared state, when there were calls in every second of a month.
#[test]
fn the_past_is_small() {
    let before = [limit(600, 60)];
    let mut pace = Pace::new(&before);
    let kind = Kind::of(&before, "/", false);
    let mut now = start();
    while now < start() + 31 * 86_400 * SECOND {
        let taken = pace.take(now, kind, 100, AHEAD);
        now += 9 * SECOND + Nanos::try_from(taken.len()).unwrap();
    }
    let stored = serde_json::to_string(&pace.past).unwrap();
    assert!(stored.len() < 1_000, "{} {stored}", stored.len());
}

/// Unknown paths count as any for a minute at most: a limit on new paths does not stop them for
/// longer, and other calls not at all.
#[test]
fn a_limit_on_new_paths_starts_within_a_minute() {
    let before = [limit(600, 60)];
    let mut pace = Pace::new(&before);
    let kind = Kind::of(&before, "/", false);
    let changed = start() + 600 * SECOND;
    run(&mut pace, start(), changed, kind);
    let search = RateLimit {
        paths: vec!["/search".into()],
        ..limit(100, 86_400)
    };
    let after = [limit(600, 60), search];
    pace.set_limits(&after, changed);
    let other = Kind::of(&after, "/", false);
    assert!(next_slot(&mut pace, changed, other) < changed + 2 * SECOND);
    let first = next_slot(&mut pace, changed, Kind::of(&after, "/search", false));
    assert!(
        first <= changed + 70 * SECOND,
        "{}",
        (first - changed) / SECOND
    );
}

/// The first limit of a busy connection: calls that nobody counted hold it back for a minute at most.
#[test]
fn a_first_limit_starts_within_a_minute() {
    for after in long_windows(1_000) {
        let mut pace = Pace::new(&[]);
        let changed = start() + 600 * SECOND;
        for second in 0..600 {
            pace.freed(start() + second * SECOND);
            pace.ended(start() + second * SECOND, 1);
        }
        pace.set_limits(&after, changed);
        let first = next_slot(&mut pace, changed, Kind::of(&after, "/", false));
        let step = after
            .iter()
            .map(|limit| window(limit) / i64::from(limit.calls))
            .max()
            .unwrap();
        let wait = (70 * SECOND).max(step + step / 10);
        assert!(first <= changed + wait, "{} s", (first - changed) / SECOND);
        assert!(pace.past.is_known_since(changed));
    }
}
