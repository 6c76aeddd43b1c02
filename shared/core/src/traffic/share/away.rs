//! Callers whose turn is far off come back for it instead of waiting in line, where only a limit of
//! single paths holds them up: what waits in line is in a worker's hands, and calls to other paths would
//! stand behind it (promise O8).

use super::{Nanos, SECOND, Share};
use crate::traffic::pace::Kind;

/// Nobody stays away for longer, so that other limits, and turns that nobody took, are noticed.
const LONGEST: Nanos = 60 * SECOND;

impl Share {
    /// Whether a limit of single paths counts calls of this kind.
    pub fn is_of_paths(&self, kind: Kind) -> bool {
        kind.step_of_paths(&self.limits).is_some()
    }

    /// How long a caller should stay away: `None` while its turn is thought to come within `patience`, or
    /// when what holds it up holds up all calls. Turns are given away one by one, as the limit allows
    /// them, each so early that half of `patience` is left to come back in; who finds all those of the next
    /// minute given away comes back to ask again.
    pub fn send_away(&mut self, kind: Kind, patience: Nanos, now: Nanos) -> Option<Nanos> {
        let step = kind.step_of_paths(&self.limits)?;
        let lane = self.lanes.entry(kind).or_default();
        let next = lane.slots.front().map_or(lane.next_at, |slot| slot.from);
        let turn = next.max(now) + step.saturating_mul(Nanos::from(lane.waiting));
        if turn - now <= patience {
            return None;
        }
        let turn = turn.max(lane.booked_until);
        if turn - now > LONGEST {
            return Some(LONGEST);
        }
        lane.booked_until = turn + step;
        Some((turn - now - patience / 2).max(patience / 2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{catalogue::RateLimit, traffic::MILLISECOND};

    const PATIENCE: Nanos = 2 * SECOND;

    fn limit(calls: u32, per_seconds: u32, paths: &[&str]) -> RateLimit {
        RateLimit {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..RateLimit::new(calls, per_seconds)
        }
    }

    fn share(limits: &[RateLimit]) -> Share {
        Share::new("one".to_owned(), limits, 30 * SECOND)
    }

    /// Waits in line at each limit, until told to stay away.
    fn line_up(share: &mut Share, path: &str, now: Nanos) -> Option<Nanos> {
        let kind = share.kind(path, false);
        let away = share.send_away(kind, PATIENCE, now);
        if away.is_none() {
            share.wait_begins(kind);
        }
        away
    }

    #[test]
    fn only_limits_of_paths_send_away() {
        let limits = [limit(1, 60, &[]), limit(1, 3_600, &["/slow"])];
        let mut share = share(&limits);
        for _ in 0..10 {
            assert_eq!(line_up(&mut share, "/other", SECOND), None);
        }
        assert_eq!(
            line_up(&mut share, "/slow/a", SECOND),
            None,
            "the first in line"
        );
        assert_eq!(line_up(&mut share, "/slow/b", SECOND), Some(LONGEST));
    }

    proptest! {
        /// O3, O8: in line waits what has its turn within the patience; turns are given away no faster
        /// than the limit allows, for a minute at most; and what is left can be asked for again.
        #[test]
        fn turns_are_given_away_as_the_limit_allows(calls in 1_u32..200, per in 1_u32..600, callers in 1_usize..500) {
            let limits = [limit(calls, per, &["/slow"])];
            let mut share = share(&limits);
            let now = 5 * SECOND;
            let step = share.kind("/slow", false).step_of_paths(&limits).unwrap();
            let away: Vec<_> = (0..callers).map(|_| line_up(&mut share, "/slow", now)).collect();
            let in_line = away.iter().filter(|away| away.is_none()).count();
            let fit = usize::try_from(PATIENCE / step).unwrap() + 1;
            prop_assert_eq!(in_line, callers.min(fit));
            let given: Vec<_> = away.iter().flatten().filter(|wait| **wait < LONGEST).collect();
            for pair in given.windows(2) {
                let early = PATIENCE / 2;
                prop_assert!(*pair[1] == early || *pair[1] >= *pair[0], "{pair:?}");
                prop_assert!(*pair[0] == early || pair[1] - pair[0] >= step - MILLISECOND, "{pair:?}");
            }
            let room = usize::try_from((LONGEST - PATIENCE) / step).unwrap() + 2;
            prop_assert!(given.len() <= room, "{} of {room}", given.len());
            // A minute later the next minute's turns are there to be given away.
            if away.contains(&Some(LONGEST)) && step < LONGEST - PATIENCE {
                let kind = share.kind("/slow", false);
                let later = share.send_away(kind, PATIENCE, now + LONGEST);
                prop_assert!(later.is_some_and(|wait| wait < LONGEST) || later.is_none());
            }
        }
    }
}
