//! A subscription to a queue in memory.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use sluice_core::Result;
use sluice_store::broker::{Consumer, Delivery};

use super::queue::{Message, Queue, Taken};

pub(super) struct LocalConsumer {
    queue: Arc<Queue>,
    prefetch: usize,
    /// By tag; tags grow, so this is the order in which they were taken.
    unsettled: BTreeMap<u64, Message>,
    last_tag: u64,
}

impl LocalConsumer {
    pub(super) fn new(queue: Arc<Queue>, prefetch: u16) -> Self {
        queue.joined();
        Self {
            queue,
            prefetch: usize::from(prefetch.max(1)),
            unsettled: BTreeMap::new(),
            last_tag: 0,
        }
    }

    fn deliver(&mut self, message: Message) -> Delivery {
        self.last_tag += 1;
        let delivery = Delivery {
            tag: self.last_tag,
            body: message.body.clone(),
            traceparent: message.traceparent.clone(),
            redelivered: message.redelivered,
        };
        self.unsettled.insert(delivery.tag, message);
        delivery
    }
}

#[async_trait]
impl Consumer for LocalConsumer {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let queue = self.queue.clone();
        loop {
            // Registered before looking, so that nothing pushed in between goes unnoticed.
            let mut changed = std::pin::pin!(queue.changed.notified());
            changed.as_mut().enable();
            let room = self.prefetch.saturating_sub(self.unsettled.len());
            match queue.take(max.max(1).min(room)) {
                Taken::Messages(messages) => {
                    return Ok(messages
                        .into_iter()
                        .map(|message| self.deliver(message))
                        .collect());
                }
                Taken::Closed => return Ok(Vec::new()),
                Taken::Nothing => changed.await,
            }
        }
    }

    async fn ack(&mut self, tags: &[u64]) {
        let settled = tags
            .iter()
            .filter(|tag| self.unsettled.remove(tag).is_some())
            .count();
        self.queue.settle(settled);
    }

    async fn release(&mut self, tags: &[u64]) {
        let mut tags = tags.to_vec();
        tags.sort_unstable();
        let messages = tags.iter().filter_map(|tag| self.unsettled.remove(tag));
        self.queue.give_back(messages.collect());
    }
}

impl Drop for LocalConsumer {
    fn drop(&mut self) {
        let messages = std::mem::take(&mut self.unsettled);
        self.queue.give_back(messages.into_values().collect());
        self.queue.left();
    }
}
