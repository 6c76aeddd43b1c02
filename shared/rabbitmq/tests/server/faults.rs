//! What the broker survives: cut connections, closed channels, deleted queues, wrong settings.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use sluice_core::{
    ErrorClass, QueueClass,
    message::{QueueKind, QueueName},
};
use sluice_rabbitmq::{PARKING_QUEUE, RabbitBroker, RabbitOptions};
use sluice_store::{
    broker::{Broker, Consumer, Delivery, Outgoing, Published},
    conformance::eventually,
};
use sluice_testkit::{Proxy, Weather};

use crate::vhost::Vhost;

fn options(name: &str) -> RabbitOptions {
    RabbitOptions {
        name: name.into(),
        reconnect: Duration::from_millis(20)..=Duration::from_millis(200),
        renew_idle: Duration::from_millis(300),
        ..RabbitOptions::default()
    }
}

async fn connect(vhost: &Vhost) -> Arc<RabbitBroker> {
    let broker = RabbitBroker::connect(&vhost.url(), options(&vhost.name)).await;
    Arc::new(broker.unwrap())
}

fn queue(class: QueueClass) -> QueueName {
    QueueName {
        kind: QueueKind::Push(class),
        organization: "acme".into(),
        connection: "one".into(),
    }
}

async fn declared(broker: &RabbitBroker) -> QueueName {
    let queue = queue(QueueClass::Normal);
    broker.declare(std::slice::from_ref(&queue)).await.unwrap();
    queue
}

fn messages(queue: &QueueName, numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    let message = |n: usize| Outgoing {
        queue: queue.clone(),
        message_id: format!("m-{n}"),
        body: n.to_string().into_bytes(),
        traceparent: None,
    };
    numbers.map(message).collect()
}

fn number(delivery: &Delivery) -> usize {
    String::from_utf8(delivery.body.clone())
        .unwrap()
        .parse()
        .unwrap()
}

/// Publishes what is not confirmed again, as the orchestrator does, until everything is.
async fn publish_all(broker: &RabbitBroker, mut pending: Vec<Outgoing>) {
    let publishing = tokio::time::timeout(Duration::from_secs(30), async {
        while !pending.is_empty() {
            let published = broker.publish(&pending).await.unwrap_or_default();
            let mut outcomes = published.into_iter();
            pending.retain(|_| outcomes.next() != Some(Published::Confirmed));
        }
    })
    .await;
    assert!(
        publishing.is_ok(),
        "{} messages are unconfirmed",
        pending.len()
    );
}

/// Cuts all connections of a purpose the hard way; returns how many there were.
async fn cut_connections(vhost: &Vhost, purpose: &str) -> usize {
    let wanted = format!("{} {purpose}", vhost.name);
    // The management's list lags some seconds behind.
    let names: Vec<_> = eventually(async || {
        let all = vhost
            .management
            .list(&format!("vhosts/{}/connections", vhost.name));
        let ours = all
            .iter()
            .filter(|connection| connection["client_properties"]["connection_name"] == *wanted);
        let names: Vec<_> = ours
            .filter_map(|connection| connection["name"].as_str().map(str::to_owned))
            .collect();
        (!names.is_empty()).then_some(names)
    })
    .await;
    for name in &names {
        let path = format!(
            "connections/{}",
            name.replace(' ', "%20").replace('>', "%3E")
        );
        let (status, body) = vhost.management.call("DELETE", &path, "");
        assert!(matches!(status, 204 | 404), "{status} {body}");
    }
    names.len()
}

async fn drain(consumer: &mut dyn Consumer, seen: &mut Vec<usize>, count: usize) {
    let drained = tokio::time::timeout(Duration::from_secs(30), async {
        while seen.len() < count {
            let deliveries = consumer.next(10).await.unwrap();
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            for delivery in &deliveries {
                let n = number(delivery);
                if !seen.contains(&n) {
                    seen.push(n);
                }
            }
            consumer.ack(&tags).await;
        }
    })
    .await;
    assert!(drained.is_ok(), "{} of {count} messages came", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_goes_on_after_its_connection_was_cut() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let queue = declared(&broker).await;
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    publish_all(&broker, messages(&queue, 0..30)).await;
    // Unsettled messages of the cut connection come again; their old tags settle nothing.
    let held = consumer.next(5).await.unwrap();
    assert_eq!(cut_connections(&vhost, "consume").await, 1);
    let fresh = eventually(async || {
        let next = consumer.next(1).await.unwrap();
        next.into_iter().find(|delivery| delivery.redelivered)
    })
    .await;
    let old: Vec<_> = held.iter().map(|delivery| delivery.tag).collect();
    assert!(!old.contains(&fresh.tag), "a tag was used twice");
    consumer.ack(&old).await;
    drop(consumer);
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    let mut seen = Vec::new();
    drain(&mut *consumer, &mut seen, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_goes_on_after_its_connection_was_cut() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let queue = declared(&broker).await;
    publish_all(&broker, messages(&queue, 0..10)).await;
    let publishing = tokio::spawn({
        let (broker, queue) = (broker.clone(), queue.clone());
        async move {
            for start in (10..2010).step_by(100) {
                publish_all(&broker, messages(&queue, start..start + 100)).await;
            }
        }
    });
    cut_connections(&vhost, "publish").await;
    publishing.await.unwrap();
    // The idle channel of a lost connection is noticed without losing a batch.
    publish_all(&broker, messages(&queue, 2010..2015)).await;
    cut_connections(&vhost, "publish").await;
    eventually(async || broker.ping().await.ok()).await;
    publish_all(&broker, messages(&queue, 2015..2020)).await;
    let mut consumer = broker.consume(&queue, 100).await.unwrap();
    let mut seen = Vec::new();
    drain(&mut *consumer, &mut seen, 2020).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_reported_and_comes_back() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let queue = declared(&broker).await;
    let mut consumer = broker.consume(&queue, 10).await.unwrap();
    publish_all(&broker, messages(&queue, 0..3)).await;
    let mut seen = Vec::new();
    drain(&mut *consumer, &mut seen, 3).await;

    let path = format!("queues/{}/{queue}", vhost.name);
    assert_eq!(vhost.management.call("DELETE", &path, "").0, 204);
    let published = broker.publish(&messages(&queue, 3..6)).await.unwrap();
    assert_eq!(published, [Published::Unroutable; 3]);
    let waiting = tokio::spawn(async move {
        drain(&mut *consumer, &mut seen, 6).await;
        seen
    });
    declared(&broker).await;
    publish_all(&broker, messages(&queue, 3..6)).await;
    let seen = waiting.await.unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn nothing_is_routed_before_anything_is_declared() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let queue = queue(QueueClass::Normal);
    let published = broker.publish(&messages(&queue, 0..5)).await.unwrap();
    assert_eq!(published, [Published::Unroutable; 5]);
    declared(&broker).await;
    let published = broker.publish(&messages(&queue, 0..5)).await.unwrap();
    assert_eq!(published, [Published::Confirmed; 5]);
}

#[tokio::test]
async fn queues_are_what_the_documentation_says() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let work = declared(&broker).await;
    let find = |name: &str| {
        let (status, body) =
            vhost
                .management
                .call("GET", &format!("queues/{}/{name}", vhost.name), "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let queue = find(&work.to_string());
    assert_eq!(queue["durable"], true);
    assert_eq!(
        queue["arguments"],
        serde_json::json!({
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": "sluice.dead",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": 100,
        })
    );
    let parking = find(PARKING_QUEUE);
    assert_eq!(
        parking["arguments"],
        serde_json::json!({"x-queue-type": "quorum"})
    );
}

#[tokio::test]
async fn a_queue_made_by_somebody_else_is_used_as_it_is() {
    let vhost = Vhost::new();
    let theirs = queue(QueueClass::Low);
    let path = format!("queues/{}/{theirs}", vhost.name);
    let made = vhost.management.call("PUT", &path, r#"{"durable": true}"#);
    assert_eq!(made.0, 201, "{made:?}");
    let broker = connect(&vhost).await;
    let both = [theirs.clone(), queue(QueueClass::High)];
    broker.declare(&both).await.unwrap();
    for queue in &both {
        let published = broker.publish(&messages(queue, 0..2)).await.unwrap();
        assert_eq!(published, [Published::Confirmed; 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_nobody_settles_is_parked() {
    let vhost = Vhost::new();
    let broker = connect(&vhost).await;
    let queue = declared(&broker).await;
    publish_all(&broker, messages(&queue, 0..1)).await;
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    for _ in 0..=100 {
        let deliveries = consumer.next(1).await.unwrap();
        consumer.release(&[deliveries[0].tag]).await;
    }
    eventually(async || {
        let path = format!("queues/{}/{PARKING_QUEUE}/get", vhost.name);
        let get = r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
        let (status, body) = vhost.management.call("POST", &path, get);
        assert_eq!(status, 200, "{body}");
        let parked: Vec<Value> = serde_json::from_str(&body).unwrap();
        let parked = parked.first()?;
        assert_eq!(parked["payload"], "0");
        assert_eq!(parked["properties"]["message_id"], "m-0");
        Some(())
    })
    .await;
}

/// A frozen broker answers nothing and refuses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_unknown_and_bounded() {
    let vhost = Vhost::new();
    let proxy = Proxy::start(&vhost.address()).await;
    let options = RabbitOptions {
        answer_timeout: Duration::from_millis(500),
        ..options(&vhost.name)
    };
    let url = vhost.url().replace(&vhost.address(), &proxy.address());
    let broker = RabbitBroker::connect(&url, options).await.unwrap();
    let queue = declared(&broker).await;
    publish_all(&broker, messages(&queue, 0..10)).await;

    proxy.set(Weather::Frozen);
    let started = std::time::Instant::now();
    let published = broker.publish(&messages(&queue, 10..1510)).await.unwrap();
    assert_eq!(published, vec![Published::Unknown; 1500]);
    // One wait for sending, one for confirms; the windows after it are not tried.
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        broker.depth(&queue).await.unwrap_err().code(),
        "broker_unreachable"
    );

    proxy.set(Weather::Clear);
    publish_all(&broker, messages(&queue, 10..20)).await;
    let mut consumer = broker.consume(&queue, 50).await.unwrap();
    let mut seen = Vec::new();
    drain(&mut *consumer, &mut seen, 20).await;
}

#[tokio::test]
async fn errors_name_the_fault_and_no_password() {
    let vhost = Vhost::new();
    let wrong = vhost.url().replace("guest:guest@", "guest:hunter2@");
    let cases = [
        (wrong, "broker_refused_login", ErrorClass::Auth),
        (
            "amqp://guest:hunter2@127.0.0.1:1/%2f".into(),
            "broker_unreachable",
            ErrorClass::Network,
        ),
    ];
    for (url, code, class) in cases {
        let broker = RabbitBroker::connect(&url, options("wrong")).await.unwrap();
        let ping = broker.ping().await.unwrap_err();
        let published = broker
            .publish(&messages(&queue(QueueClass::Low), 0..1))
            .await;
        for error in [ping, published.unwrap_err()] {
            assert_eq!((error.code(), error.class()), (code, class), "{error}");
            let debug = format!("{error:?}");
            assert!(!error.chain().contains("hunter2") && !debug.contains("hunter2"));
        }
    }
    let invalid = RabbitBroker::connect("http://guest:hunter2@host", options("wrong")).await;
    let invalid = invalid.err().unwrap();
    assert_eq!(invalid.code(), "broker_url_invalid");
    assert!(!format!("{invalid:?}").contains("hunter2"));
}
