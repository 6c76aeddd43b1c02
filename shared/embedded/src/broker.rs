//! The broker inside one process: bounded queues with the same promises as the server's.
//!
//! Nothing survives the process, which is no loss: the task rows say what is owed, and the
//! orchestrator publishes it again.

mod consumer;
mod queue;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use sluice_core::{Error, ErrorClass, Result, message::QueueName};
use sluice_store::broker::{Broker, Consumer, Outgoing, Published, QueueDepth};

use consumer::LocalConsumer;
use queue::{Message, Queue};

/// Most messages one queue holds unless told otherwise; about 50 MB of references.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// Queues in memory. A full queue refuses ([`Published::Unknown`]), as the server's do.
pub struct LocalBroker {
    queues: Mutex<HashMap<QueueName, Arc<Queue>>>,
    capacity: usize,
    closed: AtomicBool,
}

impl Default for LocalBroker {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl LocalBroker {
    /// `capacity` is the most messages one queue holds, delivered but unsettled ones included.
    pub fn new(capacity: usize) -> Self {
        Self {
            queues: Mutex::default(),
            capacity,
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorClass::Network,
                "broker_closed",
                "the broker of this process was closed",
            ));
        }
        Ok(())
    }

    fn find(&self, name: &QueueName) -> Option<Arc<Queue>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(name).cloned()
    }

    /// The queue of this name; a new one is not declared, so nothing can be published to it.
    fn entry(&self, name: &QueueName) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(name) {
            return queue.clone();
        }
        let queue = Arc::new(Queue::new(self.closed.load(Ordering::Acquire)));
        queues.insert(name.clone(), queue.clone());
        queue
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn ping(&self) -> Result<()> {
        self.open()
    }

    async fn declare(&self, queues: &[QueueName]) -> Result<()> {
        self.open()?;
        for name in queues {
            self.entry(name).declare();
        }
        Ok(())
    }

    async fn publish(&self, batch: &[Outgoing]) -> Result<Vec<Published>> {
        self.open()?;
        let publish = |outgoing: &Outgoing| match self.find(&outgoing.queue) {
            Some(queue) => queue.push(Message::from(outgoing), self.capacity),
            None => Published::Unroutable,
        };
        Ok(batch.iter().map(publish).collect())
    }

    async fn consume(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Consumer>> {
        self.open()?;
        let consumer = LocalConsumer::new(self.entry(queue), prefetch);
        Ok(Box::new(consumer))
    }

    async fn depth(&self, queue: &QueueName) -> Result<QueueDepth> {
        self.open()?;
        Ok(self
            .find(queue)
            .map(|queue| queue.depth())
            .unwrap_or_default())
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.open()?;
        Ok(self.find(queue).map_or(0, |queue| queue.purge()))
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues.values() {
            queue.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::{QueueClass, message::QueueKind};

    use super::*;

    async fn fresh() -> (Arc<dyn Broker>, ()) {
        (Arc::new(LocalBroker::default()), ())
    }

    sluice_store::broker_conformance!(fresh);

    #[tokio::test]
    async fn a_full_queue_refuses_until_there_is_room() {
        let broker = LocalBroker::new(2);
        let queue = QueueName {
            kind: QueueKind::Pull(QueueClass::High),
            organization: "acme".into(),
            connection: "yardi".into(),
        };
        broker.declare(std::slice::from_ref(&queue)).await.unwrap();
        let message = |id: &str| Outgoing {
            queue: queue.clone(),
            message_id: id.into(),
            body: vec![],
            traceparent: None,
        };
        let batch = [message("1"), message("2"), message("3")];
        let published = broker.publish(&batch).await.unwrap();
        use Published::{Confirmed, Unknown};
        assert_eq!(published, [Confirmed, Confirmed, Unknown]);

        // Unsettled messages take room, since they may come back.
        let mut consumer = broker.consume(&queue, 10).await.unwrap();
        let taken = consumer.next(1).await.unwrap();
        let published = broker.publish(&[message("4")]).await.unwrap();
        assert_eq!(published, [Unknown]);
        consumer.ack(&[taken[0].tag]).await;
        let published = broker.publish(&[message("4")]).await.unwrap();
        assert_eq!(published, [Confirmed]);
    }
}
