//! On which terms calls are made: how urgent they are, and by when they must begin. They hold for
//! every call made while a future runs, however deep in a connector it is made.

use tokio::time::Instant;

tokio::task_local! {
    static TERMS: Terms;
}

/// The terms of calls. The default is an ordinary call that may wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// May use the reserve of a limit.
    pub urgent: bool,
    /// A call that cannot begin by then is not made.
    pub begin_by: Option<Instant>,
}

impl Terms {
    /// Makes the calls of a future on these terms.
    pub async fn hold<T>(self, work: impl Future<Output = T>) -> T {
        TERMS.scope(self, work).await
    }

    /// Makes the calls of a future urgent, with its other terms as they are.
    pub async fn urgently<T>(work: impl Future<Output = T>) -> T {
        let terms = Self {
            urgent: true,
            ..Self::current()
        };
        terms.hold(work).await
    }

    pub(super) fn current() -> Self {
        TERMS.try_with(|terms| *terms).unwrap_or_default()
    }
}
