//! Publishing in batches, with confirms.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use sluice_core::{Error, Result};
use sluice_store::broker::{Outgoing, Published};
use tokio::sync::Mutex;

use crate::{
    RabbitOptions,
    connection::{Link, close_later},
    errors::{Failure, in_time},
    topology::WORK_EXCHANGE,
};

/// CloudEvents in structured mode.
const CONTENT_TYPE: &str = "application/cloudevents+json";
/// AMQP's number for "keep on disk".
const PERSISTENT: u8 = 2;

pub(crate) struct Publisher {
    link: Link,
    options: Arc<RabbitOptions>,
    /// The channel between batches. One batch at a time, so that what the broker returns belongs
    /// to it; a batch that fails or is abandoned keeps the channel out for good.
    channel: Mutex<Option<Channel>>,
}

impl Publisher {
    pub(crate) fn new(link: Link, options: Arc<RabbitOptions>) -> Self {
        Self {
            link,
            options,
            channel: Mutex::default(),
        }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let channel = self.link.channel().await.map_err(Error::from)?;
        close_later(channel);
        match self.link.blocked().await {
            true => Err(Failure::Blocked.into()),
            false => Ok(()),
        }
    }

    pub(crate) async fn publish(&self, batch: &[Outgoing]) -> Result<Vec<Published>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let mut slot = self.channel.lock().await;
        let mut channel = self.ready(slot.take()).await.map_err(Error::from)?;
        let mut published = Vec::with_capacity(batch.len());
        let mut sound = true;
        for window in batch.chunks(self.options.window.clamp(1, 1000)) {
            if !sound {
                published.extend(window.iter().map(|_| Published::Unknown));
                continue;
            }
            let mut outcome = self.publish_window(&channel, window).await;
            if outcome.sent_nothing && published.is_empty() {
                // The connection was lost while idle, which shows on the first use only.
                channel = self.ready(None).await.map_err(Error::from)?;
                outcome = self.publish_window(&channel, window).await;
            }
            sound = outcome.sound;
            published.extend(outcome.published);
        }
        match sound {
            true => *slot = Some(channel),
            false => close_later(channel),
        }
        Ok(published)
    }

    pub(crate) async fn close(&self) {
        self.link.close().await;
    }

    /// A channel in confirm mode on a connection that takes messages.
    async fn ready(&self, kept: Option<Channel>) -> Result<Channel, Failure> {
        let channel = match kept.filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => {
                let channel = self.link.channel().await?;
                let confirm = channel.confirm_select(ConfirmSelectOptions::default());
                in_time(self.options.answer_timeout, confirm).await?;
                channel
            }
        };
        match self.link.blocked().await {
            // Nothing was sent: the caller knows that, and need not wait for a timeout.
            true => Err(Failure::Blocked),
            false => Ok(channel),
        }
    }

    async fn publish_window(&self, channel: &Channel, window: &[Outgoing]) -> Outcome {
        let limit = self.options.answer_timeout;
        let mut confirms: Vec<PublisherConfirm> = Vec::with_capacity(window.len());
        let sending = async {
            for message in window {
                confirms.push(send(channel, message).await?);
            }
            lapin::Result::Ok(())
        };
        let sent = in_time(limit, sending).await;
        let sent_nothing = sent.is_err() && confirms.is_empty();
        let answers = join_all(confirms.into_iter().map(|confirm| in_time(limit, confirm))).await;
        judge(window, answers, sent_nothing)
    }
}

async fn send(channel: &Channel, message: &Outgoing) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let mut properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.message_id.clone().into());
    if let Some(traceparent) = &message.traceparent {
        let mut headers = FieldTable::default();
        let value = AMQPValue::LongString(traceparent.clone().into());
        headers.insert("traceparent".into(), value);
        properties = properties.with_headers(headers);
    }
    let queue = message.queue.to_string();
    channel
        .basic_publish(
            WORK_EXCHANGE.into(),
            queue.into(),
            options,
            &message.body,
            properties,
        )
        .await
}

struct Outcome {
    published: Vec<Published>,
    /// The channel can be used again.
    sound: bool,
    /// Not one message left, so the window can be published again at once.
    sent_nothing: bool,
}

/// What became of a window. The library hands a returned message to whichever confirm resolves
/// next, so returns are gathered over the whole window and matched by message id. While a confirm
/// is missing a return may be too: then an ack alone proves nothing.
fn judge(
    window: &[Outgoing],
    answers: Vec<Result<Confirmation, Failure>>,
    sent_nothing: bool,
) -> Outcome {
    let complete = answers.len() == window.len() && answers.iter().all(Result::is_ok);
    // The broker closes the channel when the exchange is missing; then nothing could be routed.
    let no_exchange =
        (answers.iter().flat_map(|answer| answer.as_ref().err())).any(Failure::is_not_found);
    let mut returned = HashSet::new();
    let mut acked = Vec::with_capacity(window.len());
    for answer in answers {
        acked.push(matches!(answer, Ok(Confirmation::Ack(_))));
        let message = answer.ok().and_then(Confirmation::take_message);
        let id = message.and_then(|message| message.delivery.properties.message_id().clone());
        returned.extend(id.map(|id| id.to_string()));
    }
    let verdict = |(place, message): (usize, &Outgoing)| {
        if returned.contains(&message.message_id) || no_exchange {
            Published::Unroutable
        } else if complete && acked.get(place) == Some(&true) {
            Published::Confirmed
        } else {
            Published::Unknown
        }
    };
    Outcome {
        published: window.iter().enumerate().map(verdict).collect(),
        sound: complete,
        sent_nothing,
    }
}
