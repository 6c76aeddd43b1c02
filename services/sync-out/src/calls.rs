//! Calls in flight to one target: as many as the connection's own experience allows.

use std::sync::{Mutex, PoisonError};

use sluice_connectors::http::HttpClient;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bounds the calls in flight; follows [`HttpClient::concurrency`].
pub(crate) struct Calls {
    http: HttpClient,
    open: Semaphore,
    /// Permits there are, given out or not.
    permits: Mutex<usize>,
}

/// Leave for one exchange with the target, until dropped.
pub(crate) struct Permit<'a> {
    calls: &'a Calls,
    /// `None` once it was given back.
    inner: Option<SemaphorePermit<'a>>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.inner = None;
        self.calls.follow();
    }
}

impl Calls {
    pub(crate) fn new(http: HttpClient) -> Self {
        Self {
            http,
            open: Semaphore::new(0),
            permits: Mutex::new(0),
        }
    }

    /// Waits for leave to call.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        self.follow();
        Permit {
            calls: self,
            // Nobody closes the semaphore.
            inner: self.open.acquire().await.ok(),
        }
    }

    /// Adds permits, or takes free ones away; those in use are taken when they come back.
    fn follow(&self) {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.http.concurrency();
        if wanted > *permits {
            self.open.add_permits(wanted - *permits);
            *permits = wanted;
        } else {
            *permits -= self.open.forget_permits(*permits - wanted);
        }
    }
}
