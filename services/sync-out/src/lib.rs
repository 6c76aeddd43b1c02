//! From tasks to targets: claims batches of pushes, maps the newest version of each record, sends
//! what the target does not have yet, and settles.
//!
//! Per target connection: `inbox` holds references by urgency; `worker` takes a slot, picks
//! with [`picker`] and claims; [`gate`] decides what each push needs; `deliver` maps, looks up,
//! groups and sends; `settle` writes outcomes in batches and only then acknowledges messages.
//! Claiming is the recorded intent to send (promise O1); a push that comes back with an intent
//! nobody settled is looked up at the target before anything is created there.

pub mod connection;
mod deliver;
pub mod gate;
pub mod group;
mod inbox;
mod keep;
mod moved;
pub mod outcome;
pub mod picker;
mod settle;
pub mod window;
mod worker;

use std::{sync::Arc, time::Duration};

use sluice_core::{
    QueueClass, Result,
    message::{QueueKind, QueueName},
};
use sluice_runtime::{Shutdown, pace};
use sluice_store::Backends;
use tokio::sync::Semaphore;

pub use connection::{TargetConnection, Targets};

/// Everything sync-out needs.
#[derive(Clone)]
pub struct SyncOut {
    pub backends: Backends,
    pub targets: Arc<Targets>,
    pub settings: Settings,
    /// Host and process, shown as the owner of leases and in attempts.
    pub worker: String,
}

/// Pace and bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time after which a silent worker's pushes are given to others. A call may begin in its
    /// first half only, so that it ends before somebody else may begin. Default 75 s.
    pub lease: Duration,
    /// Pushes claimed together at most; fewer when the target's limit is low. Default 200.
    pub batch: usize,
    /// Batches of one connection in hand at once. Default 3.
    pub slots: usize,
    /// Longest wait for a batch to fill, before claiming and before settling. Default 5 ms.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(75),
            batch: 200,
            slots: 3,
            linger: Duration::from_millis(5),
        }
    }
}

/// Writes to all opened targets until shutdown. A soft stop claims nothing more, finishes and
/// settles what is in hand and gives the rest of the messages back; a hard one drops everything,
/// and leases heal it.
///
/// # Errors
/// Only when the broker refuses the queues at the start; all other failures are logged and retried.
pub async fn run(context: SyncOut, shutdown: Shutdown) -> Result<()> {
    let queues: Vec<_> = context
        .targets
        .all()
        .flat_map(|target| QueueClass::ALL.map(|class| push_queue(target, class)))
        .collect();
    let broker = context.backends.broker.clone();
    let declare = || broker.declare(&queues);
    if !pace::until_done("declaring queues", &shutdown, declare).await? {
        return Ok(());
    }
    let context = Arc::new(context);
    let suspects = Arc::new(Semaphore::new(1));
    let workers = context.targets.all().map(|target| {
        worker::run(
            context.clone(),
            target.clone(),
            suspects.clone(),
            shutdown.clone(),
        )
    });
    let work = futures::future::join_all(workers);
    tokio::select! {
        _ = work => {}
        () = shutdown.hard.cancelled() => {}
    }
    Ok(())
}

fn push_queue(target: &TargetConnection, class: QueueClass) -> QueueName {
    QueueName {
        kind: QueueKind::Push(class),
        organization: target.organization.clone(),
        connection: target.connection.spec.name.clone(),
    }
}
