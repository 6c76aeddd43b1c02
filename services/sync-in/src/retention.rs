//! How long raw documents are kept.

use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use sluice_core::Timestamp;

/// When a raw document that came in at `received_at` may go: the midnight (UTC) after it was kept
/// for so long. What is seen again on the same day expires as it would anyway, so that its place in
/// the index of what expires stays. `None` when that is beyond all dates.
pub(crate) fn expiry(received_at: Timestamp, keep: Duration) -> Option<Timestamp> {
    let kept = received_at.checked_add_signed(TimeDelta::from_std(keep).ok()?)?;
    let next_day = kept.date_naive().succ_opt()?;
    Some(next_day.and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never early, at most a day late, and alike for all of a day.
        #[test]
        fn documents_are_kept_for_as_long_as_asked(second in 0_i64..4_000_000_000, keep in 1_u64..100_000_000) {
            let received_at = Timestamp::from_timestamp(second, 0).unwrap();
            let keep = Duration::from_secs(keep);
            let expires = expiry(received_at, keep).unwrap();
            let kept = (expires - received_at).to_std().unwrap();
            prop_assert!(kept > keep && kept <= keep + Duration::from_secs(86_400));
            prop_assert_eq!(expires.timestamp() % 86_400, 0);
        }
    }

    #[test]
    fn what_ends_beyond_all_dates_is_kept() {
        assert_eq!(expiry(Timestamp::MAX_UTC, Duration::from_secs(1)), None);
        assert_eq!(expiry(Timestamp::UNIX_EPOCH, Duration::MAX), None);
    }
}
