//! [`RequestStore`]: requests kept before they are sent, for targets where only the very same
//! request under the same key tells what became of it (promise O1).

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{Result, TaskId};

use crate::task::{Lease, PushTask};

/// A create as it is sent: what the mapping made, and the key it goes under.
#[derive(Clone, PartialEq)]
pub struct KeptRequest {
    pub version: i32,
    /// Refusals before it; after one more it means nothing.
    pub refusal_count: u32,
    pub idempotency_key: String,
    pub body: Value,
}

/// Bodies hold personal data.
impl std::fmt::Debug for KeptRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptRequest")
            .field("version", &self.version)
            .field("idempotency_key", &self.idempotency_key)
            .finish_non_exhaustive()
    }
}

impl KeptRequest {
    /// Whether it is the one whose outcome is in doubt.
    pub fn is_doubted(&self, task: &PushTask) -> bool {
        let doubted = |version| version == self.version || version == OTHER_DATA;
        task.unsettled_version.is_some_and(doubted) && task.refusal_count == self.refusal_count
    }
}

/// In place of an unsettled version: somebody has edited its data since it was sent.
pub const OTHER_DATA: i32 = 0;

/// Keeps the last create of each push, until its outcome is known.
#[async_trait]
pub trait RequestStore: Send + Sync {
    /// Keeps what is about to be sent, in place of what was kept before; `false` for each lost
    /// lease: it is not to be sent. From then on it may have been sent: a claim that kept nothing
    /// leaves no doubt ([`crate::task::Claim::keeps_what_it_sends`]). Settling with a `request`
    /// forgets it, unless doubt is left.
    async fn keep_requests(&self, requests: &[(Lease, KeptRequest)]) -> Result<Vec<bool>>;

    /// What is kept for these tasks.
    async fn kept_requests(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, KeptRequest)>>;
}
