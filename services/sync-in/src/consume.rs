//! Takes pull references from one queue and works on them.

use std::{sync::Arc, time::Duration};

use sluice_core::{Error, Result, TaskId, message::QueueName, message::TaskRef};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    pace::{Again, Pace},
};
use sluice_store::{
    broker::{Consumer, Delivery},
    task::{Claim, PullTask},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{
    SourceConnection, SyncIn,
    places::{Place, Places, Who},
    pull,
};

/// A pull is minutes of work: the next one waits in the queue, where others can take it.
const PREFETCH: u16 = 1;

/// Works on one queue until shutdown, then waits for the pulls in hand.
pub(crate) async fn run(
    context: Arc<SyncIn>,
    source: Arc<SourceConnection>,
    queue: QueueName,
    everybody: Arc<Places>,
    suspects: Arc<Semaphore>,
    shutdown: Shutdown,
) {
    let concurrency = usize::try_from(source.connection.spec.concurrency).unwrap_or(1);
    let mut lane = Lane {
        context,
        source,
        queue,
        everybody,
        suspects,
        own: Arc::new(Semaphore::new(concurrency.max(1))),
        shutdown: shutdown.clone(),
        pulls: JoinSet::new(),
    };
    let mut pace = Pace::new("pulling", &shutdown, Duration::from_millis(200));
    loop {
        let outcome = lane.consume().await;
        if !pace.next(outcome.map(|()| Again::Later)).await {
            break;
        }
    }
    // Dropped by a hard stop, which ends the pulls with it.
    while lane.pulls.join_next().await.is_some() {}
}

struct Lane {
    context: Arc<SyncIn>,
    source: Arc<SourceConnection>,
    queue: QueueName,
    everybody: Arc<Places>,
    /// The one suspect that this process works on, over all sources.
    suspects: Arc<Semaphore>,
    own: Arc<Semaphore>,
    shutdown: Shutdown,
    pulls: JoinSet<()>,
}

type Permits = (OwnedSemaphorePermit, Place);

/// What came of a message.
enum Taken {
    /// Somebody else's, or done.
    Nothing,
    /// Shutdown began first: others may have the message.
    Stopping,
    /// A pull, with a suspect's turn if it is one.
    Task(Box<PullTask>, Permits, Option<OwnedSemaphorePermit>),
}

fn no_place() -> Error {
    Error::internal("permits_closed", "the permits of pulls were closed")
}

impl Lane {
    /// Consumes until the broker closes, something fails, or shutdown begins.
    async fn consume(&mut self) -> Result<()> {
        let broker = self.context.backends.broker.clone();
        let mut consumer = broker.consume(&self.queue, PREFETCH).await?;
        loop {
            while self.pulls.try_join_next().is_some() {}
            let deliveries = tokio::select! {
                deliveries = consumer.next(usize::from(PREFETCH)) => deliveries?,
                () = self.shutdown.soft.cancelled() => return Ok(()),
            };
            if deliveries.is_empty() {
                return Ok(());
            }
            for delivery in deliveries {
                let permits = tokio::select! {
                    permits = self.permits() => permits?,
                    () = self.shutdown.soft.cancelled() => {
                        consumer.release(&[delivery.tag]).await;
                        continue;
                    }
                };
                self.take(consumer.as_mut(), &delivery, permits).await?;
            }
        }
    }

    async fn permits(&self) -> Result<Permits> {
        let own = self
            .own
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| no_place())?;
        let connection = &self.source.connection;
        let who = Who {
            organization: connection.organization_id,
            connection: connection.id,
        };
        let place = self.everybody.take(who).await.ok_or_else(no_place)?;
        Ok((own, place))
    }

    /// Claims what a message names. The message is settled right after the claim: from then on
    /// the lease says whose work it is, and a pull may take longer than a broker waits.
    async fn take(
        &mut self,
        consumer: &mut dyn Consumer,
        delivery: &Delivery,
        permits: Permits,
    ) -> Result<()> {
        let claimed = match TaskRef::from_json(&delivery.body) {
            Ok(reference) => self.claim(reference.task_id, permits).await,
            Err(error) => {
                tracing::warn!(queue = %self.queue, error = error.chain(), "message dropped");
                Ok(Taken::Nothing)
            }
        };
        let taken = match claimed {
            Ok(Taken::Stopping) => {
                consumer.release(&[delivery.tag]).await;
                return Ok(());
            }
            Ok(taken) => taken,
            Err(error) => {
                consumer.release(&[delivery.tag]).await;
                return Err(error);
            }
        };
        consumer.ack(&[delivery.tag]).await;
        if let Taken::Task(task, (own, place), turn) = taken {
            failpoint::reach(Point::SyncInClaimed).await;
            let work = pull::run(
                self.context.clone(),
                self.source.clone(),
                *task,
                place,
                turn,
                self.shutdown.clone(),
            );
            self.pulls.spawn(async move {
                work.await;
                drop(own);
            });
        }
        Ok(())
    }

    /// Claims a pull. One whose last worker died first waits for its turn, without a permit, so
    /// that those which only were its neighbours are not dragged along again (promise O8).
    async fn claim(&self, id: TaskId, permits: Permits) -> Result<Taken> {
        let mut claim = Claim {
            ids: vec![id],
            owner: self.context.worker.clone(),
            lease: self.context.settings.lease,
            suspects: false,
            keeps: Vec::new(),
        };
        let tasks = &self.context.backends.tasks;
        let claimed = tasks.claim_pulls(&claim).await?;
        if claimed.suspects.is_empty() {
            let task = claimed.tasks.into_iter().next();
            return Ok(task.map_or(Taken::Nothing, |task| {
                Taken::Task(Box::new(task), permits, None)
            }));
        }
        drop(permits);
        let turn = async {
            let turn = self
                .suspects
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| no_place())?;
            Ok::<_, Error>((turn, self.permits().await?))
        };
        let (turn, permits) = tokio::select! {
            turn = turn => turn?,
            () = self.shutdown.soft.cancelled() => return Ok(Taken::Stopping),
        };
        claim.suspects = true;
        let task = tasks.claim_pulls(&claim).await?.tasks.into_iter().next();
        Ok(task.map_or(Taken::Nothing, |task| {
            Taken::Task(Box::new(task), permits, Some(turn))
        }))
    }
}
