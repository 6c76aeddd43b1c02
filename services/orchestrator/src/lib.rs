//! Keeps work moving: stages due tasks and publishes their references, brings back what was lost,
//! advances runs, works off replays, mirrors states to where people look for them, and clears away
//! what is old.
//!
//! Nothing here is needed for correctness of a single task: the SQL rows say what is owed, and
//! any number of replicas may run these loops at once (promises M2, C2).

mod dead_letters;
pub mod dependency;
mod housekeeping;
mod mirror;
pub mod plan;
pub mod quota;
pub mod replay;
mod stage;

use std::{sync::Arc, time::Duration};

use sluice_core::{Result, catalogue::Catalogue};
use sluice_runtime::{Shutdown, pace};
use sluice_store::Backends;

pub use dependency::SourceStreams;

/// Everything the orchestrator needs.
#[derive(Clone)]
pub struct Orchestrator {
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    /// For fetching parents that nobody has read.
    pub streams: Arc<SourceStreams>,
    pub settings: Settings,
}

/// Pace and bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pause between two looks for due tasks, retries too, when there were none. Default 200 ms.
    pub idle: Duration,
    /// References published, and waited for, together; at most 1,000. Default 500.
    pub publish_batch: usize,
    /// References kept waiting in one queue; more stay in SQL, where priority is exact.
    /// Default 2,000.
    pub queue_depth: u32,
    /// Pause between two looks for lost leases and messages. Default 500 ms.
    pub rescue_interval: Duration,
    /// A staged task that nobody claimed for this long has lost its message. Default 5 minutes.
    pub staged_for: Duration,
    /// Pause between two looks whether the broker's dead-letter queues hold what they should; one
    /// that does not for longer is filled anew. Default 5 s.
    pub mirror_interval: Duration,
    /// Closed runs and their history are kept this long. Default 90 days.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle: Duration::from_millis(200),
            publish_batch: 500,
            queue_depth: 2_000,
            rescue_interval: Duration::from_millis(500),
            staged_for: Duration::from_secs(300),
            mirror_interval: Duration::from_secs(5),
            keep: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// Runs until shutdown. A soft stop ends each loop after its present look; a hard one at once.
///
/// # Errors
/// Only when the broker refuses the queues at the start; all other failures are logged and retried.
pub async fn run(context: Orchestrator, shutdown: Shutdown) -> Result<()> {
    let queues = quota::queues(&context.catalogue);
    let broker = context.backends.broker.clone();
    let declare = || broker.declare(&queues);
    if !pace::until_done("declaring queues", &shutdown, declare).await? {
        return Ok(());
    }
    let loops = async {
        tokio::join!(
            stage::run(&context, &shutdown),
            mirror::outbound(&context, &shutdown),
            dead_letters::run(&context, &shutdown),
            dependency::run(&context, &shutdown),
            replay::run(&context, &shutdown),
            housekeeping::wake(&context, &shutdown),
            housekeeping::rescue(&context, &shutdown),
            housekeeping::advance(&context, &shutdown),
            housekeeping::measure(&context, &shutdown),
            housekeeping::clear(&context, &shutdown),
        );
    };
    tokio::select! {
        () = loops => {}
        () = shutdown.hard.cancelled() => {}
    }
    Ok(())
}
