//! Dates and durations as the manifest format writes them.

mod duration;
mod format;
mod iso;

use chrono::{DateTime, FixedOffset, Utc};

pub use duration::Duration;
pub use format::{format, parse};
pub use iso::parse as parse_iso;

/// A point in time with the offset it was written in. Texts without an offset count as UTC.
pub type Moment = DateTime<FixedOffset>;

/// A UTC time as a moment.
pub fn utc(time: DateTime<Utc>) -> Moment {
    time.fixed_offset()
}
