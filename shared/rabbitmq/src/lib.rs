//! The broker on RabbitMQ, 3.10 and later.
//!
//! Publishing and consuming have a connection each, so that a broker that blocks publishers (out
//! of memory or disk) still hands out work. Both are watched here: the client library's own
//! recovery is off, because it notices neither a channel the broker closed nor a deleted queue.
//! On any error the connection or channel is dropped and made again.

mod connection;
mod consumer;
mod errors;
mod publisher;
mod settle;
mod topology;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::options::{QueueDeclareOptions, QueuePurgeOptions};
use sluice_core::{Error, Result, message::QueueName};
use sluice_store::broker::{Broker, Consumer, Outgoing, Published, QueueDepth};
use tokio::sync::watch;

use connection::Link;
use consumer::RabbitConsumer;
use publisher::Publisher;

pub use topology::{DEAD_EXCHANGE, PARKING_QUEUE, WORK_EXCHANGE};

/// How to talk to the broker. The defaults suit production.
#[derive(Debug, Clone)]
pub struct RabbitOptions {
    /// Shown in the management screens, with `publish` or `consume` after it.
    pub name: String,
    /// Longest wait for a connection; the protocol itself has no limit for its greeting.
    pub connect_timeout: Duration,
    /// Longest wait for the confirms of one window, and for other answers.
    pub answer_timeout: Duration,
    /// A connection silent for twice as long counts as lost. Whole seconds.
    pub heartbeat: Duration,
    /// Messages published before waiting for their confirms, 1 to 1,000.
    pub window: usize,
    /// Bounds of the random wait before connecting or subscribing again.
    pub reconnect: RangeInclusive<Duration>,
    /// How long a consumer trusts silence before it subscribes anew.
    pub renew_idle: Duration,
    /// PEM text of the authorities that sign the broker's certificate, when the system does not
    /// know them (`amqps:` only).
    pub ca_chain: Option<String>,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            name: "sluice".into(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            window: 500,
            reconnect: Duration::from_millis(200)..=Duration::from_secs(5),
            renew_idle: Duration::from_secs(60),
            ca_chain: None,
        }
    }
}

/// Queues on a RabbitMQ server, over two connections.
pub struct RabbitBroker {
    publisher: Publisher,
    consume: Arc<Link>,
    options: Arc<RabbitOptions>,
    closed: watch::Sender<bool>,
}

impl RabbitBroker {
    /// Reads the URL (`amqp:` or `amqps:`). Connections are made when they are first needed, so
    /// that a service starts while the broker is away; [`Broker::ping`] tells whether it is there.
    ///
    /// # Errors
    /// `broker_url_invalid`; the URL, which may hold a password, is not repeated.
    pub async fn connect(url: &str, options: RabbitOptions) -> Result<Self> {
        let uri = url.parse().map_err(|_: String| {
            Error::config("broker_url_invalid", "the broker's URL is no AMQP URL")
                .hint("write amqp://user:password@host:5672/%2f")
        })?;
        let options = Arc::new(options);
        let closed = watch::Sender::new(false);
        let link = |purpose| Link::new(&uri, purpose, options.clone(), closed.subscribe());
        Ok(Self {
            publisher: Publisher::new(link("publish"), options.clone()),
            consume: Arc::new(link("consume")),
            options,
            closed,
        })
    }

    /// A fresh channel for questions; a question about a missing queue closes it.
    async fn ask<T, F: Future<Output = lapin::Result<T>>>(
        &self,
        question: impl FnOnce(lapin::Channel) -> F,
    ) -> Result<T, errors::Failure> {
        let channel = self.consume.channel().await?;
        let answer = errors::in_time(self.options.answer_timeout, question(channel.clone())).await;
        if answer.is_ok() {
            connection::close_later(channel);
        }
        answer
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn ping(&self) -> Result<()> {
        let channel = self.consume.channel().await.map_err(Error::from)?;
        connection::close_later(channel);
        self.publisher.ping().await
    }

    async fn declare(&self, queues: &[QueueName]) -> Result<()> {
        topology::declare(&self.consume, self.options.answer_timeout, queues).await
    }

    async fn publish(&self, batch: &[Outgoing]) -> Result<Vec<Published>> {
        self.publisher.publish(batch).await
    }

    async fn consume(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Consumer>> {
        let mut consumer = RabbitConsumer::new(
            self.consume.clone(),
            queue.to_string(),
            prefetch,
            self.options.clone(),
            self.closed.subscribe(),
        );
        // At once when possible, so that work comes before the first `next`; else later.
        consumer.ensure_subscribed().await;
        Ok(Box::new(consumer))
    }

    async fn depth(&self, queue: &QueueName) -> Result<QueueDepth> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = queue.to_string();
        let declared = self
            .ask(async move |channel| {
                let arguments = lapin::types::FieldTable::default();
                channel.queue_declare(name.into(), passive, arguments).await
            })
            .await;
        match declared {
            Ok(queue) => Ok(QueueDepth {
                ready: queue.message_count().into(),
                consumers: queue.consumer_count().into(),
            }),
            Err(failure) if failure.is_not_found() => Ok(QueueDepth::default()),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let name = queue.to_string();
        let purged = self
            .ask(async move |channel| {
                let options = QueuePurgeOptions::default();
                channel.queue_purge(name.into(), options).await
            })
            .await;
        match purged {
            Ok(count) => Ok(count.into()),
            Err(failure) if failure.is_not_found() => Ok(0),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn close(&self) {
        self.closed.send_replace(true);
        self.publisher.close().await;
        self.consume.close().await;
    }
}
