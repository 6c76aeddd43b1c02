//! [`FleetStore`]: what the processes of a fleet agree on about one connection.

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{ConnectionId, Result, traffic::StoreClock};

/// Decides what becomes of a document: gets it as it is (`None` when there is none yet) and the
/// store's clock, and returns the new one, or `None` to leave it. May be called several times; only
/// the last call counts.
pub type Change<'a> = dyn FnMut(Option<Value>, StoreClock) -> Result<Option<Value>> + Send + 'a;

/// What a person changes: gets what [`Change`] gets, and returns the new document with what the audit
/// is to say about it.
pub type Noted<'a> = dyn FnMut(Option<Value>, StoreClock) -> Result<(Value, String)> + Send + 'a;

/// Who changes what, for the audit.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// `cli:` and a user, or `api:` and a token's name.
    pub actor: &'a str,
    /// What, such as `connection.limited`.
    pub event: &'a str,
}

/// Small named documents, one set per connection, that every process may change: the pace and the
/// breaker of its calls ([`sluice_core::traffic`]).
///
/// In the same database as the tasks, but with connections of its own, so that a call never waits
/// behind a large batch. A crash of the store may undo the last changes; then the clock names
/// another server.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Changes one document as if nobody else did anything meanwhile. The clock is read after the
    /// call has begun and before it returns. After `Ok` everybody sees the change; after an error
    /// it may have been made all the same.
    ///
    /// # Errors
    /// When the store cannot be reached within seconds, and what `change` returns.
    async fn change(
        &self,
        connection: ConnectionId,
        name: &str,
        change: &mut Change<'_>,
    ) -> Result<()>;

    /// Changes one document for a person: durably, and with an entry of the audit
    /// ([`crate::dead_letter::Change`]) in the same transaction.
    ///
    /// # Errors
    /// As [`Self::change`]; then the audit says nothing either.
    async fn change_by(
        &self,
        connection: ConnectionId,
        name: &str,
        by: By<'_>,
        change: &mut Noted<'_>,
    ) -> Result<()>;

    /// Documents of this name, by connection, and the store's clock.
    async fn documents(&self, name: &str) -> Result<(Vec<(ConnectionId, Value)>, StoreClock)>;
}
