//! How reading waits before it tries again.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;

type Sleep = dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync;

/// The longest wait a read sits out by itself, and how it waits.
#[derive(Clone)]
pub struct Patience {
    pub(super) longest: Duration,
    sleep: Arc<Sleep>,
}

impl Patience {
    /// Waits up to this long. After a longer one the caller gets the error together with the
    /// wait, and may give its worker to others.
    pub fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            sleep: Arc::new(|wait| Box::pin(tokio::time::sleep(wait))),
        }
    }

    /// Waits by this function instead of the clock: for tests that compare waits.
    #[must_use]
    pub fn with_sleep(
        mut self,
        sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.sleep = Arc::new(sleep);
        self
    }

    pub(super) async fn sleep(&self, wait: Duration) {
        (self.sleep)(wait).await;
    }
}

impl Default for Patience {
    /// What suits a worker with a lease: thirty seconds.
    fn default() -> Self {
        Self::up_to(Duration::from_secs(30))
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}
