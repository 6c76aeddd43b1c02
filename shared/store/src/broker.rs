//! The broker: hands references of ready tasks to workers. It is a wake-up, not a memory: losing
//! every message loses nothing, because the SQL rows say what is owed (promise M2).

use async_trait::async_trait;
use sluice_core::{Result, message::QueueName};

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub queue: QueueName,
    /// Shown in management screens and in returned-message reports; unique in a batch.
    pub message_id: String,
    pub body: Vec<u8>,
    pub traceparent: Option<String>,
}

/// What became of one published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Stored by the broker and routed to its queue.
    Confirmed,
    /// The queue does not exist.
    Unroutable,
    /// Refused, or no answer in time: it may or may not be there.
    Unknown,
}

/// A received message. Settle it by passing `tag` to [`Consumer::ack`] or [`Consumer::release`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub tag: u64,
    pub body: Vec<u8>,
    pub traceparent: Option<String>,
    pub redelivered: bool,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    pub ready: u64,
    pub consumers: u64,
}

/// Moves references. Implementations reconnect by themselves, without an operator.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    async fn ping(&self) -> Result<()>;

    /// Creates the queues that do not exist yet. Safe from several replicas at once.
    async fn declare(&self, queues: &[QueueName]) -> Result<()>;

    /// Publishes a batch, persistent and mandatory, and waits for all confirms. The result has one
    /// entry per message. `Err` only when nothing is known about any of them.
    async fn publish(&self, batch: &[Outgoing]) -> Result<Vec<Published>>;

    /// Starts consuming one queue with at most `prefetch` unsettled messages (at least 1). A
    /// consumer survives a broker restart and the loss of its queue: it waits until the broker is
    /// back and the queue is declared. Messages unsettled at that time come again.
    async fn consume(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Consumer>>;

    /// Zeros for a queue that does not exist.
    async fn depth(&self, queue: &QueueName) -> Result<QueueDepth>;

    /// Removes all ready messages; returns how many. For dead-letter queues and tests.
    async fn purge(&self, queue: &QueueName) -> Result<u64>;

    /// Closes connections; unsettled messages go back to their queues.
    async fn close(&self);
}

/// One queue's subscription. Dropping it returns unsettled messages to the queue.
#[async_trait]
pub trait Consumer: Send + 'static {
    /// Waits for at least one message and returns those at hand, at most `max`.
    /// Cancel-safe: a message is never lost when the future is dropped.
    /// An empty list means that the broker was closed.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>>;

    /// Settles messages for good. Never fails loudly: an ack that did not arrive means the message
    /// comes again, which the task row absorbs. Unknown tags are ignored.
    async fn ack(&mut self, tags: &[u64]);

    /// Gives messages back to the queue, to be delivered again.
    async fn release(&mut self, tags: &[u64]);
}
