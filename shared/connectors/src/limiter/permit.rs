//! Leave for one call.

use std::sync::Arc;

use sluice_core::traffic::{
    Leave,
    breaker::{Cause, Ended, ProbeBegin},
};

use super::Inner;

/// Leave for one call, which must be made right away. Say how it ended, or drop it when nobody
/// knows.
#[must_use = "a slot is used up"]
pub struct Permit {
    inner: Arc<Inner>,
    leave: Leave,
    ended: Ended,
}

impl Permit {
    pub(super) fn new(inner: &Arc<Inner>, leave: Leave) -> Self {
        Self {
            inner: Arc::clone(inner),
            leave,
            ended: Ended::Unknown,
        }
    }

    /// The probe of an open breaker, when the call is one.
    pub fn probe(&self) -> Option<ProbeBegin> {
        self.leave.probe
    }

    /// The answer begins, so the call has arrived. Without a word of it, it may have arrived as late
    /// as its end.
    pub fn answered(&self) {
        self.inner.answered(self.leave);
    }

    /// The call ended so.
    pub fn ended(mut self, ended: Ended) {
        self.ended = ended;
    }

    /// The call failed with this.
    pub fn failed(self, cause: Cause) {
        self.inner.state().share.blame(cause);
        self.ended(Ended::Failed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.ended(self.leave, self.ended);
    }
}
