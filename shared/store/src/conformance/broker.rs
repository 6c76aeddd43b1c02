//! What every [`Broker`] does.

use std::{sync::Arc, time::Duration};

use sluice_core::{
    QueueClass,
    message::{QueueKind, QueueName},
};

use super::eventually;
use crate::broker::{Broker, Consumer, Delivery, Outgoing, Published, QueueDepth};

/// Runs each broker case as a test of its own. `$fresh` is an async function that returns an empty
/// broker as `Arc<dyn Broker>` and a guard that removes it when dropped.
#[macro_export]
macro_rules! broker_conformance {
    ($fresh:path) => {
        $crate::conformance_cases!(
            $fresh,
            broker,
            [
                published_messages_arrive_in_order,
                exactly_the_unroutable_ones_are_reported,
                prefetch_bounds_what_is_unsettled,
                a_dropped_consumer_returns_its_messages,
                released_messages_come_again,
                a_batch_is_settled_in_any_order,
                two_consumers_share_a_queue,
                a_consumer_waits_for_its_queue,
                an_abandoned_wait_loses_nothing,
                depth_and_purge_count_ready_messages,
                declaring_twice_keeps_the_messages,
                closing_ends_consumers,
            ]
        );
    };
}

fn queue(class: QueueClass) -> QueueName {
    QueueName {
        kind: QueueKind::Push(class),
        organization: "acme".into(),
        connection: "one".into(),
    }
}

fn message(queue: &QueueName, n: usize) -> Outgoing {
    Outgoing {
        queue: queue.clone(),
        message_id: format!("m-{n}"),
        body: format!("{{\"n\":{n}}}").into_bytes(),
        traceparent: (n.is_multiple_of(2))
            .then(|| format!("00-0af7651916cd43dd8448eb211c80319c-{n:016x}-01")),
    }
}

async fn publish(broker: &dyn Broker, queue: &QueueName, numbers: std::ops::Range<usize>) {
    let batch: Vec<_> = numbers.map(|n| message(queue, n)).collect();
    let published = broker.publish(&batch).await.unwrap();
    assert_eq!(published, vec![Published::Confirmed; batch.len()]);
}

async fn declared(broker: &dyn Broker) -> QueueName {
    let queue = queue(QueueClass::Normal);
    broker.declare(std::slice::from_ref(&queue)).await.unwrap();
    queue
}

/// The next `count` messages, in as many calls as it takes.
async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next =
            tokio::time::timeout(Duration::from_secs(20), consumer.next(count - taken.len()))
                .await
                .unwrap_or_else(|_| panic!("{} of {count} messages came", taken.len()))
                .unwrap();
        assert!(!next.is_empty(), "the broker was closed");
        taken.extend(next);
    }
    assert_eq!(taken.len(), count, "more than asked for");
    taken
}

/// Asserts that nothing more arrives. Bounded, because absence cannot be waited for.
async fn nothing_more(consumer: &mut dyn Consumer) {
    let more = tokio::time::timeout(Duration::from_millis(300), consumer.next(1)).await;
    assert!(more.is_err(), "unexpected {more:?}");
}

fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    let number = |delivery: &Delivery| {
        let body: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
        usize::try_from(body["n"].as_u64().unwrap()).unwrap()
    };
    deliveries.iter().map(number).collect()
}

fn tags(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

async fn until_ready(broker: &dyn Broker, queue: &QueueName, ready: u64) {
    eventually(async || {
        let depth = broker.depth(queue).await.unwrap();
        (depth.ready == ready).then_some(())
    })
    .await;
}

pub async fn published_messages_arrive_in_order(broker: Arc<dyn Broker>) {
    broker.ping().await.unwrap();
    let queue = declared(&*broker).await;
    assert_eq!(broker.publish(&[]).await.unwrap(), []);
    publish(&*broker, &queue, 0..1500).await;
    let mut consumer = broker.consume(&queue, 50).await.unwrap();
    for start in (0..1500).step_by(50) {
        let deliveries = take(&mut *consumer, 50).await;
        assert_eq!(
            numbers(&deliveries),
            (start..start + 50).collect::<Vec<_>>()
        );
        for (delivery, n) in deliveries.iter().zip(start..) {
            let sent = message(&queue, n);
            assert_eq!(
                (&delivery.body, &delivery.traceparent),
                (&sent.body, &sent.traceparent)
            );
            assert!(!delivery.redelivered);
        }
        consumer.ack(&tags(&deliveries)).await;
    }
    nothing_more(&mut *consumer).await;
    drop(consumer);
    until_ready(&*broker, &queue, 0).await;
}

pub async fn exactly_the_unroutable_ones_are_reported(broker: Arc<dyn Broker>) {
    let there = declared(&*broker).await;
    let missing = queue(QueueClass::Low);
    // Several mixtures: single ones, long runs, everything, nothing.
    let mixtures: [fn(usize) -> bool; 5] = [
        |n| n % 7 == 3,
        |n| n % 2 == 0,
        |n| (300..700).contains(&n),
        |_| true,
        |_| false,
    ];
    for unroutable in mixtures {
        let batch: Vec<_> = (0..1000)
            .map(|n| message(if unroutable(n) { &missing } else { &there }, n))
            .collect();
        let published = broker.publish(&batch).await.unwrap();
        for (n, published) in published.iter().enumerate() {
            let expected = match unroutable(n) {
                true => Published::Unroutable,
                false => Published::Confirmed,
            };
            assert_eq!(*published, expected, "message {n}");
        }
        let routed = (0..1000).filter(|n| !unroutable(*n)).count() as u64;
        until_ready(&*broker, &there, routed).await;
        assert_eq!(broker.purge(&there).await.unwrap(), routed);
    }
}

pub async fn prefetch_bounds_what_is_unsettled(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    publish(&*broker, &queue, 0..10).await;
    let mut consumer = broker.consume(&queue, 4).await.unwrap();
    let first = take(&mut *consumer, 4).await;
    nothing_more(&mut *consumer).await;
    until_ready(&*broker, &queue, 6).await;
    consumer.ack(&tags(&first[..1])).await;
    let fifth = take(&mut *consumer, 1).await;
    assert_eq!(numbers(&fifth), [4]);
    nothing_more(&mut *consumer).await;
}

pub async fn a_dropped_consumer_returns_its_messages(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    publish(&*broker, &queue, 0..10).await;
    let mut consumer = broker.consume(&queue, 5).await.unwrap();
    let taken = take(&mut *consumer, 5).await;
    consumer.ack(&tags(&taken[..2])).await;
    drop(consumer);
    until_ready(&*broker, &queue, 8).await;
    let mut consumer = broker.consume(&queue, 20).await.unwrap();
    let again = take(&mut *consumer, 8).await;
    let mut seen: Vec<_> = numbers(&again);
    seen.sort_unstable();
    assert_eq!(seen, (2..10).collect::<Vec<_>>());
    for (delivery, n) in again.iter().zip(numbers(&again)) {
        // The two that took the room of the acked ones may have been on their way already.
        let expected = n < 5 || (n < 7 && delivery.redelivered);
        assert_eq!(delivery.redelivered, expected, "message {n}");
    }
}

pub async fn released_messages_come_again(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    publish(&*broker, &queue, 0..6).await;
    let mut consumer = broker.consume(&queue, 6).await.unwrap();
    let taken = take(&mut *consumer, 6).await;
    let (released, kept): (Vec<_>, Vec<_>) = taken
        .into_iter()
        .partition(|delivery| delivery.tag % 2 == 0);
    consumer.release(&tags(&released)).await;
    let again = take(&mut *consumer, 3).await;
    let mut came = numbers(&again);
    came.sort_unstable();
    assert_eq!(came, numbers(&released));
    assert!(again.iter().all(|delivery| delivery.redelivered));
    consumer.ack(&tags(&again)).await;
    consumer.ack(&tags(&kept)).await;
    nothing_more(&mut *consumer).await;
    drop(consumer);
    until_ready(&*broker, &queue, 0).await;
}

pub async fn a_batch_is_settled_in_any_order(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    publish(&*broker, &queue, 0..20).await;
    let mut consumer = broker.consume(&queue, 20).await.unwrap();
    let taken = tags(&take(&mut *consumer, 20).await);
    // Backwards, with a repeat and an unknown tag; the last five stay unsettled.
    consumer.ack(&[]).await;
    consumer
        .ack(&[taken[9], taken[3], taken[3], u64::MAX])
        .await;
    let rest: Vec<_> = (0..15).rev().filter(|n| ![3, 9].contains(n)).collect();
    for n in rest {
        consumer.ack(&[taken[n]]).await;
    }
    consumer.ack(&taken[..15]).await;
    publish(&*broker, &queue, 20..21).await;
    assert_eq!(numbers(&take(&mut *consumer, 1).await), [20]);
    drop(consumer);
    until_ready(&*broker, &queue, 6).await;
    let mut consumer = broker.consume(&queue, 20).await.unwrap();
    let mut again = numbers(&take(&mut *consumer, 6).await);
    again.sort_unstable();
    assert_eq!(again, [15, 16, 17, 18, 19, 20]);
}

pub async fn two_consumers_share_a_queue(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        let mut consumer = broker.consume(&queue, 10).await.unwrap();
        workers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let deliveries = consumer.next(5).await.unwrap();
                if deliveries.is_empty() {
                    return mine;
                }
                mine.extend(numbers(&deliveries));
                consumer.ack(&tags(&deliveries)).await;
            }
        }));
    }
    publish(&*broker, &queue, 0..400).await;
    until_ready(&*broker, &queue, 0).await;
    // Unsettled messages are not ready; a third consumer that gets the marker after them knows
    // that they were taken, and closing returns only what was not settled.
    publish(&*broker, &queue, 400..500).await;
    until_ready(&*broker, &queue, 0).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        broker.close().await;
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a message came twice");
        // What was on its way to a worker when the broker closed is not lost, only not seen here.
        assert!(count > 480, "{count}");
    })
    .await
    .unwrap();
}

pub async fn a_consumer_waits_for_its_queue(broker: Arc<dyn Broker>) {
    let queue = queue(QueueClass::High);
    assert_eq!(broker.depth(&queue).await.unwrap(), QueueDepth::default());
    let mut consumer = broker.consume(&queue, 5).await.unwrap();
    let waiting = tokio::spawn(async move { numbers(&take(&mut *consumer, 3).await) });
    broker.declare(std::slice::from_ref(&queue)).await.unwrap();
    publish(&*broker, &queue, 0..3).await;
    assert_eq!(waiting.await.unwrap(), [0, 1, 2]);
}

pub async fn an_abandoned_wait_loses_nothing(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    let mut consumer = broker.consume(&queue, 100).await.unwrap();
    let mut came = Vec::new();
    for round in 0..50 {
        // Given up at any moment around the arrival of a message; one that came late in the round
        // before may be at hand at once.
        let mut wait = std::pin::pin!(consumer.next(10));
        let mut now = futures::poll!(&mut wait);
        publish(&*broker, &queue, round..round + 1).await;
        if now.is_pending() {
            now = futures::poll!(&mut wait);
        }
        if let std::task::Poll::Ready(deliveries) = now {
            came.extend(deliveries.unwrap());
        }
    }
    let missing = 50 - came.len();
    came.extend(take(&mut *consumer, missing).await);
    assert_eq!(numbers(&came), (0..50).collect::<Vec<_>>());
}

pub async fn depth_and_purge_count_ready_messages(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    assert_eq!(broker.depth(&queue).await.unwrap(), QueueDepth::default());
    publish(&*broker, &queue, 0..9).await;
    until_ready(&*broker, &queue, 9).await;
    let mut consumer = broker.consume(&queue, 4).await.unwrap();
    let taken = take(&mut *consumer, 4).await;
    let depth = eventually(async || {
        let depth = broker.depth(&queue).await.unwrap();
        (depth.ready == 5).then_some(depth)
    })
    .await;
    assert_eq!(depth.consumers, 1);
    assert_eq!(broker.purge(&queue).await.unwrap(), 5);
    consumer.ack(&tags(&taken)).await;
    nothing_more(&mut *consumer).await;
    drop(consumer);
    eventually(async || {
        let depth = broker.depth(&queue).await.unwrap();
        (depth == QueueDepth::default()).then_some(())
    })
    .await;
    assert_eq!(broker.purge(&queue).await.unwrap(), 0);
}

pub async fn declaring_twice_keeps_the_messages(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    publish(&*broker, &queue, 0..3).await;
    let all: Vec<_> = QueueClass::ALL
        .into_iter()
        .flat_map(|class| [QueueKind::Pull(class), QueueKind::Push(class)])
        .chain([QueueKind::Dead])
        .map(|kind| QueueName {
            kind,
            ..queue.clone()
        })
        .collect();
    let (one, two) = futures::join!(broker.declare(&all), broker.declare(&all));
    one.unwrap();
    two.unwrap();
    until_ready(&*broker, &queue, 3).await;
    for queue in &all[..] {
        publish(&*broker, queue, 7..8).await;
    }
}

pub async fn closing_ends_consumers(broker: Arc<dyn Broker>) {
    let queue = declared(&*broker).await;
    let mut idle = broker.consume(&queue, 5).await.unwrap();
    let waiting = tokio::spawn(async move { idle.next(5).await });
    let mut unborn = broker
        .consume(&self::queue(QueueClass::Low), 5)
        .await
        .unwrap();
    let unborn = tokio::spawn(async move { unborn.next(5).await });
    tokio::task::yield_now().await;
    broker.close().await;
    for waiting in [waiting, unborn] {
        let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert_eq!(ended.unwrap().unwrap().unwrap(), []);
    }
    assert!(broker.ping().await.is_err());
    let refused = broker.publish(&[message(&queue, 1)]).await;
    assert_eq!(refused.unwrap_err().code(), "broker_closed");
    broker.close().await;
}
