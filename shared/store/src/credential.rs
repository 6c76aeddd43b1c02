//! [`CredentialStore`]: credentials that the other side changes while they are used.

use std::time::Duration;

use async_trait::async_trait;
use sluice_core::{ConnectionId, Result};

/// Which credentials of which connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialName {
    pub connection: ConnectionId,
    /// Tells several credentials of one connection apart; holds no secret.
    pub name: String,
}

/// What is kept. The bytes are sealed: a store never sees what is in them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Counts what was kept so far; 0 when nothing was.
    pub generation: i64,
    pub sealed: Option<Vec<u8>>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Whose turn it is to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The asker's, until its lease ends.
    Mine {
        /// Somebody had it before and let its lease run out: nobody knows what came of that turn.
        abandoned: bool,
    },
    /// Somebody else's, for so long at most.
    Taken(Duration),
}

/// Sealed credentials, and whose turn it is to renew them. In the same database as the tasks;
/// what was kept survives a crash.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// What is kept now, and the turn to renew it if nobody has it. Who has it already gets it
    /// again.
    async fn begin(
        &self,
        name: &CredentialName,
        owner: &str,
        lease: Duration,
    ) -> Result<(Kept, Turn)>;

    /// Keeps a renewed one, durably, and ends the turn, unless another was kept since
    /// `generation`: then nothing changes and the answer is `false`. A lease that is over does no
    /// harm by itself: what was renewed may be all that is worth anything now.
    async fn keep(&self, name: &CredentialName, generation: i64, sealed: &[u8]) -> Result<bool>;

    /// Ends the owner's turn without a result.
    async fn give_up(&self, name: &CredentialName, owner: &str) -> Result<()>;
}
