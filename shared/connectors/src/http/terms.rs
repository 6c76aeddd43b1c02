//! On which terms calls are made: how urgent they are, and by when they must begin. They hold for
//! every call made while a future runs, however deep in a connector it is made.

use std::{cell::Cell, time::Duration};

use sluice_core::{retry::Outage, traffic::breaker::ProbeBegin};
use tokio::time::Instant;

/// Longest wait of a probe for its turn: behind one slow connection others are to be looked at.
const PROBE_WAITS: Duration = Duration::from_secs(15);

tokio::task_local! {
    static TERMS: Terms;
    /// Set while the last call was a probe that failed.
    static OUTAGE: Cell<Option<Outage>>;
}

/// The terms of calls. The default is an ordinary call that may wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// May use the reserve of a limit.
    pub urgent: bool,
    /// A call that cannot begin by then is not made.
    pub begin_by: Option<Instant>,
    /// A call that would wait longer than this for its turn under a limit of single paths is not made.
    pub patience: Option<Duration>,
}

impl Terms {
    /// Makes the calls of a future on these terms.
    pub fn hold<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        // No async function: its future would have room for the work twice.
        TERMS.scope(self, work)
    }

    /// Makes the calls of a future urgent, with its other terms as they are.
    pub fn urgently<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        let terms = Self {
            urgent: true,
            ..Self::current()
        };
        terms.hold(work)
    }

    /// Makes the calls of a future as looks at whether a system is there: urgent, and not made at all when
    /// limits, a pause or the breaker let none begin within 15 seconds.
    pub fn probing<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
        let terms = Self {
            urgent: true,
            begin_by: Some(Instant::now() + PROBE_WAITS),
            ..Self::current()
        };
        terms.hold(work)
    }

    /// What the calls of a future tell about an outage: whether the last one that was made within it was
    /// the probe of an open breaker, and failed.
    pub async fn watch_outage<T>(work: impl Future<Output = T>) -> (T, Option<Outage>) {
        let watched = async { (work.await, OUTAGE.with(Cell::get)) };
        OUTAGE.scope(Cell::new(None), watched).await
    }

    /// A call has ended: `failed` is the probe that it was, if it was one and failed.
    pub(super) fn note(failed: Option<ProbeBegin>) {
        let duration = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        let outage = failed.map(|probe| Outage {
            lasts: duration(probe.open_for),
            next_probe: duration(probe.next_wait),
        });
        // Nobody may be watching.
        let _ = OUTAGE.try_with(|cell| cell.set(outage));
    }

    pub(super) fn current() -> Self {
        TERMS.try_with(|terms| *terms).unwrap_or_default()
    }
}
