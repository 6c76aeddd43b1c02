//! Exchanges and queues. docs/broker-topology.md tells operators the same.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use sluice_core::{Result, message::QueueName};

use crate::{
    connection::{Link, close_later},
    errors::{Failure, in_time},
};

/// Direct; the routing key is the queue's name.
pub const WORK_EXCHANGE: &str = "sluice.work";
/// Fanout; takes what a queue cannot keep.
pub const DEAD_EXCHANGE: &str = "sluice.dead";
/// Where that ends up.
pub const PARKING_QUEUE: &str = "sluice.parking";

/// Deliveries without a settlement before a message is parked. High, because a worker that crashes
/// takes its whole prefetch along each time.
const DELIVERY_LIMIT: i64 = 100;

pub(crate) async fn declare(link: &Link, limit: Duration, queues: &[QueueName]) -> Result<()> {
    let mut channel = link.channel().await?;
    in_time(limit, exchanges(&channel)).await?;
    let parking = table([("x-queue-type", AMQPValue::LongString("quorum".into()))]);
    channel = queue(link, limit, channel, PARKING_QUEUE, parking).await?;
    in_time(limit, bind(&channel, PARKING_QUEUE, DEAD_EXCHANGE, "")).await?;
    for name in queues {
        let name = name.to_string();
        channel = queue(link, limit, channel, &name, work_arguments()).await?;
        in_time(limit, bind(&channel, &name, WORK_EXCHANGE, &name)).await?;
    }
    close_later(channel);
    Ok(())
}

async fn exchanges(channel: &Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    let work = ExchangeKind::Direct;
    channel
        .exchange_declare(WORK_EXCHANGE.into(), work, options, none())
        .await?;
    let dead = ExchangeKind::Fanout;
    channel
        .exchange_declare(DEAD_EXCHANGE.into(), dead, options, none())
        .await
}

/// Declares one queue. One that exists with other arguments is somebody's decision and stays; the
/// broker answers it by closing the channel, so a new one is returned.
async fn queue(
    link: &Link,
    limit: Duration,
    channel: Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<Channel, Failure> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    match in_time(
        limit,
        channel.queue_declare(name.into(), options, arguments),
    )
    .await
    {
        Ok(_) => Ok(channel),
        Err(failure) if failure.is_other_arguments() => {
            tracing::warn!(
                queue = name,
                "the queue exists with other arguments; it stays as it is"
            );
            link.channel().await
        }
        Err(failure) => Err(failure),
    }
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let short = |text: &str| ShortString::from(text.to_owned());
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(short(queue), short(exchange), short(key), options, none)
        .await
}

/// The same on every version. Lengths and other limits belong into policies, which can change.
fn work_arguments() -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(value.into());
    table([
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(DEAD_EXCHANGE)),
        // A dead message leaves its queue only when the parking queue has it; this needs the
        // overflow behaviour below, else the broker falls back to at-most-once without a word.
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
    ])
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}
