//! Two-step shutdown: first finish what was begun, then stop.

use std::time::Duration;

use sluice_core::{Error, Result};
use tokio_util::sync::CancellationToken;

/// Two signals every service watches.
///
/// `soft` means: take no new work, finish and settle what is in hand. `hard` means: stop now;
/// whatever is in hand comes back through its lease. `hard` implies `soft`.
#[derive(Debug, Clone)]
pub struct Shutdown {
    pub soft: CancellationToken,
    pub hard: CancellationToken,
}

impl Shutdown {
    /// For callers that decide themselves when to stop: tests, the demo, one-off commands.
    pub fn manual() -> Self {
        let hard = CancellationToken::new();
        Self {
            // A child is cancelled with its parent, so that `hard` implies `soft`.
            soft: hard.child_token(),
            hard,
        }
    }

    /// Follows the process signals: the first SIGTERM or SIGINT is soft; a second one, or the
    /// end of the grace period, is hard. Needs a Tokio runtime.
    ///
    /// # Errors
    /// `signals_unavailable` when the operating system refuses the handlers.
    pub fn on_signals(grace: Duration) -> Result<Self> {
        let mut signals = Signals::new()?;
        let shutdown = Self::manual();
        let follower = shutdown.clone();
        tokio::spawn(async move {
            let name = signals.next().await;
            tracing::info!(
                signal = name,
                grace_seconds = grace.as_secs(),
                "stopping: finishing work in hand"
            );
            follower.soft.cancel();
            let reason = tokio::select! {
                name = signals.next() => name,
                () = tokio::time::sleep(grace) => "grace period over",
            };
            tracing::warn!(reason, "stopping now");
            follower.hard.cancel();
        });
        Ok(shutdown)
    }

    /// Asks for the first step.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Asks for both steps.
    pub fn abort(&self) {
        self.hard.cancel();
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Error::internal("signals_unavailable", "cannot listen for stop signals")
                    .caused_by(error)
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_implies_soft_and_soft_does_not_imply_hard() {
        let shutdown = Shutdown::manual();
        shutdown.stop();
        assert!(shutdown.soft.is_cancelled() && !shutdown.hard.is_cancelled());
        let shutdown = Shutdown::manual();
        shutdown.abort();
        assert!(shutdown.soft.is_cancelled() && shutdown.hard.is_cancelled());
    }
}
