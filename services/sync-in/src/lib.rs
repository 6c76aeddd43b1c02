//! From the source to master data: reads pages, keeps them raw, maps and checks the records in
//! them, and lets the SQL store decide what changed.
//!
//! A page's way: [`source`](sluice_connectors::source) -> `RawStore::put_payload` (durable, I1) ->
//! [`ingest`] (map, check, apply, store raw records) -> `RawStore::finish_payload` ->
//! `TaskStore::checkpoint`. Webhooks, files and recovered payloads take the same way from the
//! second step on, see [`intake`]. A crash anywhere in it is healed by doing it again.

pub mod connection;
mod consume;
mod decode;
pub mod identify;
pub mod ingest;
pub mod intake;
mod places;
pub mod prepare;
mod pull;
mod read;
mod recover;
mod reprocess;
mod retention;

use std::{sync::Arc, time::Duration};

use sluice_core::{
    QueueClass, Result,
    catalogue::Catalogue,
    message::{QueueKind, QueueName},
};
use sluice_runtime::{Shutdown, pace};
use sluice_store::Backends;
use tokio::sync::Semaphore;

pub use connection::{SourceConnection, Sources};
pub use ingest::Ingester;

use crate::places::Places;

/// Everything sync-in needs.
#[derive(Clone)]
pub struct SyncIn {
    pub backends: Backends,
    pub catalogue: Arc<Catalogue>,
    pub sources: Arc<Sources>,
    pub settings: Settings,
    /// Host and process, shown as the owner of leases.
    pub worker: String,
}

/// Pace and bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time after which a silent worker's pulls and payloads are given to others. Default 75 s.
    pub lease: Duration,
    /// Pulls worked on at once by this process; each connection has its own bound too. Default 4.
    pub concurrency: usize,
    /// Canonical records applied in one transaction, 1 to 500. Default 500.
    pub apply_batch: usize,
    /// Raw payloads are kept this long after they came in; `None` keeps them for ever.
    pub keep_raw: Option<Duration>,
    /// A pull that has worked for this long goes on later, when others wait who have fewer pulls
    /// at work. Default 30 s.
    pub turn: Duration,
    /// Pause between two looks for payloads whose worker is gone. Default 10 s.
    pub recovery_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(75),
            concurrency: 4,
            apply_batch: ingest::MAX_APPLY,
            keep_raw: None,
            turn: Duration::from_secs(30),
            recovery_interval: Duration::from_secs(10),
        }
    }
}

impl SyncIn {
    /// The part that pulls, webhooks and files share.
    pub fn ingester(&self) -> Ingester {
        Ingester {
            backends: self.backends.clone(),
            lease: self.settings.lease,
            apply_batch: self.settings.apply_batch,
            keep_raw: self.settings.keep_raw,
        }
    }
}

/// Reads from all opened sources until shutdown. A soft stop ends each pull after the page in
/// hand and gives it back without using an attempt; a hard one drops everything, and leases and
/// the recovery of payloads heal it.
///
/// # Errors
/// Only when the broker refuses the queues at the start; all other failures are logged and retried.
pub async fn run(context: SyncIn, shutdown: Shutdown) -> Result<()> {
    let mut lanes = Vec::new();
    for source in context.sources.all() {
        for class in QueueClass::ALL {
            lanes.push((source.clone(), pull_queue(source, class)));
        }
    }
    let queues: Vec<_> = lanes.iter().map(|(_, queue)| queue.clone()).collect();
    let broker = context.backends.broker.clone();
    let declare = || broker.declare(&queues);
    if !pace::until_done("declaring queues", &shutdown, declare).await? {
        return Ok(());
    }
    let context = Arc::new(context);
    let everybody = Places::new(context.settings.concurrency);
    let suspects = Arc::new(Semaphore::new(1));
    let consumers = lanes.into_iter().map(|(source, queue)| {
        consume::run(
            context.clone(),
            source,
            queue,
            everybody.clone(),
            suspects.clone(),
            shutdown.clone(),
        )
    });
    let work = async {
        tokio::join!(
            futures::future::join_all(consumers),
            recover::run(&context, &shutdown)
        );
    };
    tokio::select! {
        () = work => {}
        () = shutdown.hard.cancelled() => {}
    }
    Ok(())
}

fn pull_queue(source: &SourceConnection, class: QueueClass) -> QueueName {
    QueueName {
        kind: QueueKind::Pull(class),
        organization: source.organization.clone(),
        connection: source.connection.spec.name.clone(),
    }
}
