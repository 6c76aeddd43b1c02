//! What one process agrees on with itself: no store, for tools and tests.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{ConnectionId, Result, traffic::StoreClock};
use sluice_store::{
    FleetStore,
    fleet::{By, Change, Noted},
};
use tokio::time::Instant;

/// One document of one connection, whatever they are called.
pub(crate) struct LocalFleet {
    document: Mutex<Option<Value>>,
    origin: Instant,
}

impl Default for LocalFleet {
    fn default() -> Self {
        Self {
            document: Mutex::default(),
            origin: Instant::now(),
        }
    }
}

impl LocalFleet {
    fn clock(&self) -> StoreClock {
        StoreClock {
            now: super::nanos(self.origin.elapsed()),
            server: 0,
        }
    }
}

#[async_trait]
impl FleetStore for LocalFleet {
    async fn change(&self, _: ConnectionId, _: &str, change: &mut Change<'_>) -> Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = change(document.clone(), self.clock())? {
            *document = Some(changed);
        }
        Ok(())
    }

    /// Nobody keeps an audit here.
    async fn change_by(
        &self,
        _: ConnectionId,
        _: &str,
        _: By<'_>,
        change: &mut Noted<'_>,
    ) -> Result<()> {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        *document = Some(change(document.clone(), self.clock())?.0);
        Ok(())
    }

    async fn documents(&self, _: &str) -> Result<(Vec<(ConnectionId, Value)>, StoreClock)> {
        let document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        let documents = document.clone().map(|document| (ConnectionId(0), document));
        Ok((documents.into_iter().collect(), self.clock()))
    }
}
