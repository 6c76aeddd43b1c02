//! The rhythm of a loop that works by looking: at once again while there is work, a pause when
//! there is none, a growing pause while something is broken.

use std::time::Duration;

use sluice_core::{ErrorClass, Result};

use crate::Shutdown;

/// Whether a look found work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// There may be more: look again at once.
    Now,
    /// Nothing (more) to do for the moment.
    Later,
}

/// First pause after a failure; doubled with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause after a failure, so that recovery is noticed soon.
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// Paces one loop. Ask [`Pace::next`] after each look.
#[derive(Debug)]
pub struct Pace {
    name: &'static str,
    shutdown: Shutdown,
    idle: Duration,
    failures: u32,
}

impl Pace {
    /// `name` appears in log lines; `idle` is the pause when there is no work.
    pub fn new(name: &'static str, shutdown: &Shutdown, idle: Duration) -> Self {
        Self {
            name,
            shutdown: shutdown.clone(),
            idle,
            failures: 0,
        }
    }

    /// Another pause when there is no work.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// Takes the outcome of a look, waits as it calls for, and says whether to look once more.
    /// A failure is logged here, so that the loop need not. `false` once shutdown has begun.
    pub async fn next(&mut self, outcome: Result<Again>) -> bool {
        let pause = match outcome {
            Ok(again) => {
                if self.failures > 0 {
                    tracing::info!(loop.name = self.name, "works again");
                    self.failures = 0;
                }
                match again {
                    Again::Now => Duration::ZERO,
                    Again::Later => self.idle,
                }
            }
            Err(error) => {
                tracing::warn!(
                    loop.name = self.name,
                    error.class = error.class().as_str(),
                    error.code = error.code(),
                    error = error.chain(),
                    "failed; trying again soon"
                );
                self.failures = self.failures.saturating_add(1);
                backoff(self.failures).max(self.idle)
            }
        };
        if self.shutdown.soft.is_cancelled() {
            return false;
        }
        if pause.is_zero() {
            // A loop with endless work must still let others of its thread run.
            tokio::task::yield_now().await;
            return true;
        }
        tokio::select! {
            () = self.shutdown.soft.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}

/// Does what must be done before work can begin, again while a server is away. `false` once
/// shutdown has begun.
///
/// # Errors
/// What waiting does not mend.
pub async fn until_done<F, W>(name: &'static str, shutdown: &Shutdown, work: F) -> Result<bool>
where
    F: Fn() -> W,
    W: Future<Output = Result<()>>,
{
    let mut pace = Pace::new(name, shutdown, Duration::ZERO);
    loop {
        match work().await {
            Ok(()) => return Ok(true),
            Err(error) if matches!(error.class(), ErrorClass::Network | ErrorClass::Timeout) => {
                if !pace.next(Err(error)).await {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LAST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use sluice_core::Error;

    use super::*;

    #[test]
    fn pauses_after_failures_grow_to_their_limit() {
        assert_eq!(backoff(1), FIRST_BACKOFF);
        assert_eq!(backoff(2), FIRST_BACKOFF * 2);
        assert_eq!(backoff(u32::MAX), LAST_BACKOFF);
    }

    #[tokio::test]
    async fn what_must_be_done_is_tried_while_a_server_is_away() {
        let tries = std::cell::Cell::new(0);
        let fails = |class| {
            let tries = &tries;
            move || {
                tries.set(tries.get() + 1);
                std::future::ready(match tries.get() {
                    2 => Ok(()),
                    _ => Err(Error::new(class, "test", "test")),
                })
            }
        };
        let shutdown = Shutdown::manual();
        let done = until_done("test", &shutdown, fails(ErrorClass::Network)).await;
        assert!(done.unwrap());
        tries.set(0);
        let refused = until_done("test", &shutdown, fails(ErrorClass::Config)).await;
        assert_eq!((refused.is_err(), tries.get()), (true, 1));
        tries.set(0);
        shutdown.stop();
        let stopped = until_done("test", &shutdown, fails(ErrorClass::Network)).await;
        assert!(!stopped.unwrap());
    }

    #[tokio::test]
    async fn shutdown_ends_the_loop_even_in_a_pause() {
        let shutdown = Shutdown::manual();
        let mut pace = Pace::new("test", &shutdown, Duration::from_secs(3600));
        assert!(pace.next(Ok(Again::Now)).await);
        let stop = async { shutdown.stop() };
        let (more, ()) = tokio::join!(pace.next(Ok(Again::Later)), stop);
        assert!(!more);
        assert!(!pace.next(Err(Error::internal("test", "test"))).await);
    }
}
