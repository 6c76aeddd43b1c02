//! What a worker may do while its lease lasts, by its own clock from before it asked for the
//! lease (promise C2).

use std::time::Duration;

/// Calls that are still running when only this part of the lease is left are given up: 1 in 10.
const MARGIN: u32 = 10;

/// No call begins later: it ends before somebody else may begin.
pub fn begins_within(lease: Duration) -> Duration {
    lease / 2
}

/// No call lasts longer.
pub fn ends_within(lease: Duration) -> Duration {
    lease - lease / MARGIN
}
