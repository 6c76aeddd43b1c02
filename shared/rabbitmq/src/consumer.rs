//! One queue's subscription, on a channel of its own.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::join_all};
use lapin::{
    Channel,
    message::Delivery as Received,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use sluice_core::Result;
use sluice_store::broker::{Consumer, Delivery};
use tokio::{sync::watch, time::Instant};

use crate::{
    RabbitOptions,
    connection::{Link, close_later, pause},
    errors::{Failure, in_time},
    settle,
};

/// Bits of a tag that hold the broker's number; the ones above count subscriptions, because the
/// broker starts again at 1 on each channel and a late ack must not settle a stranger's message.
const TAG_BITS: u32 = 44;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

pub(crate) struct RabbitConsumer {
    link: Arc<Link>,
    queue: String,
    prefetch: u16,
    options: Arc<RabbitOptions>,
    closed: watch::Receiver<bool>,
    subscription: Option<Subscription>,
    /// How many subscriptions there have been.
    generation: u64,
}

struct Subscription {
    channel: Channel,
    stream: lapin::Consumer,
    /// The broker's tags of what was delivered and not settled.
    unsettled: BTreeSet<u64>,
    /// When silence has lasted too long to be trusted.
    renew_at: Instant,
}

impl RabbitConsumer {
    pub(crate) fn new(
        link: Arc<Link>,
        queue: String,
        prefetch: u16,
        options: Arc<RabbitOptions>,
        closed: watch::Receiver<bool>,
    ) -> Self {
        Self {
            link,
            queue,
            prefetch: prefetch.max(1),
            options,
            closed,
            subscription: None,
            generation: 0,
        }
    }

    async fn subscribe(&self) -> Result<Subscription, Failure> {
        let limit = self.options.answer_timeout;
        let channel = self.link.channel().await?;
        let qos = channel.basic_qos(self.prefetch, BasicQosOptions::default());
        in_time(limit, qos).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = channel.basic_consume(self.queue.clone().into(), "".into(), options, none);
        let stream = in_time(limit, consume).await?;
        Ok(Subscription {
            channel,
            stream,
            unsettled: BTreeSet::new(),
            renew_at: Instant::now() + self.options.renew_idle,
        })
    }

    /// Subscribes when there is no subscription; tells whether there is one now.
    pub(crate) async fn ensure_subscribed(&mut self) -> bool {
        if self.subscription.is_some() {
            return true;
        }
        match self.subscribe().await {
            Ok(subscription) => {
                self.generation += 1;
                self.subscription = Some(subscription);
                true
            }
            Err(failure) if failure.is_not_found() => {
                tracing::debug!(queue = self.queue, "the queue is not declared yet");
                false
            }
            Err(failure) => {
                let error = sluice_core::Error::from(failure);
                tracing::warn!(queue = self.queue, %error, "cannot consume; will try again");
                false
            }
        }
    }

    /// Waits for a message and takes those at hand. Nothing is taken before the last await, so
    /// giving up the wait loses nothing.
    async fn receive(&mut self, max: usize) -> Vec<Delivery> {
        loop {
            let Some(subscription) = &mut self.subscription else {
                if !self.ensure_subscribed().await {
                    tokio::time::sleep(pause(&self.options)).await;
                }
                continue;
            };
            let received = tokio::select! {
                biased;
                received = subscription.stream.next() => received,
                () = tokio::time::sleep_until(subscription.renew_at) => {
                    // A queue deleted and declared again within milliseconds keeps counting its
                    // consumers and hands them messages that never arrive. Nothing tells a client
                    // but the silence.
                    if subscription.unsettled.is_empty() {
                        self.unsubscribe();
                    } else {
                        subscription.renew_at = Instant::now() + self.options.renew_idle;
                    }
                    continue;
                }
            };
            let Some(Ok(first)) = received else {
                // Closed channel, lost connection, deleted queue.
                tracing::warn!(queue = self.queue, "subscription ended; subscribing again");
                self.unsubscribe();
                continue;
            };
            let mut deliveries = vec![subscription.take(first, self.generation)];
            while deliveries.len() < max {
                let Some(Some(Ok(next))) = subscription.stream.next().now_or_never() else {
                    break;
                };
                deliveries.push(subscription.take(next, self.generation));
            }
            subscription.renew_at = Instant::now() + self.options.renew_idle;
            return deliveries;
        }
    }

    /// What is unsettled goes back to the queue.
    fn unsubscribe(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            close_later(subscription.channel);
        }
    }

    /// The broker's frames for these tags; tags of earlier subscriptions are over.
    fn plan(&mut self, tags: &[u64]) -> Vec<(u64, bool)> {
        let generation = self.generation;
        let Some(subscription) = &mut self.subscription else {
            return Vec::new();
        };
        let tags: Vec<_> = tags
            .iter()
            .filter(|tag| **tag >> TAG_BITS == generation)
            .map(|tag| tag & TAG_MASK)
            .collect();
        settle::plan(&mut subscription.unsettled, &tags)
    }

    /// Sends frames without waiting for one before the next. Failures need no answer: the
    /// messages come again.
    async fn send<F: Future<Output = lapin::Result<()>>>(&self, frames: impl Iterator<Item = F>) {
        let limit = self.options.answer_timeout;
        let sent = join_all(frames.map(|frame| in_time(limit, frame))).await;
        if let Some(Err(failure)) = sent.into_iter().find(Result::is_err) {
            let error = sluice_core::Error::from(failure);
            tracing::debug!(queue = self.queue, %error, "messages could not be settled");
        }
    }
}

impl Subscription {
    fn take(&mut self, received: Received, generation: u64) -> Delivery {
        self.unsettled.insert(received.delivery_tag);
        let headers = received.properties.headers().as_ref();
        let traceparent = match headers.and_then(|headers| headers.inner().get("traceparent")) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            Some(AMQPValue::ShortString(text)) => Some(text.to_string()),
            _ => None,
        };
        Delivery {
            tag: (generation << TAG_BITS) | (received.delivery_tag & TAG_MASK),
            body: received.data,
            traceparent,
            redelivered: received.redelivered,
        }
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            // An error means that the broker's handle is gone, which closed it too.
            _ = closed.wait_for(|closed| *closed) => Ok(Vec::new()),
            deliveries = self.receive(max.max(1)) => Ok(deliveries),
        }
    }

    async fn ack(&mut self, tags: &[u64]) {
        let plan = self.plan(tags);
        let Some(subscription) = &self.subscription else {
            return;
        };
        let frames = plan.into_iter().map(|(tag, multiple)| {
            let options = BasicAckOptions { multiple };
            subscription.channel.basic_ack(tag, options)
        });
        self.send(frames).await;
    }

    async fn release(&mut self, tags: &[u64]) {
        let plan = self.plan(tags);
        let Some(subscription) = &self.subscription else {
            return;
        };
        let frames = plan.into_iter().map(|(tag, multiple)| {
            // Not `reject`: from RabbitMQ 4.3 on that counts towards the delivery limit.
            let options = BasicNackOptions {
                multiple,
                requeue: true,
            };
            subscription.channel.basic_nack(tag, options)
        });
        self.send(frames).await;
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}
