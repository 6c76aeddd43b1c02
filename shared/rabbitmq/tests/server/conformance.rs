//! The suite that every broker passes.

use std::{sync::Arc, time::Duration};

use sluice_rabbitmq::{RabbitBroker, RabbitOptions};
use sluice_store::broker::Broker;

use crate::vhost::Vhost;

async fn fresh() -> (Arc<dyn Broker>, Vhost) {
    let vhost = Vhost::new();
    let options = RabbitOptions {
        reconnect: Duration::from_millis(20)..=Duration::from_millis(200),
        ..RabbitOptions::default()
    };
    let broker = RabbitBroker::connect(&vhost.url(), options).await.unwrap();
    // The exchanges are there in every installation, also before the first queue.
    broker.declare(&[]).await.unwrap();
    (Arc::new(broker), vhost)
}

sluice_store::broker_conformance!(fresh);
