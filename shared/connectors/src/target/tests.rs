//! Both shipped targets against a server that answers as their README says.

mod batches;
mod lessen360;
mod loading;
mod one;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use sluice_core::{ErrorClass, catalogue::RateLimit};

use super::*;
use crate::{http::HttpOptions, library::Library, limiter::Limiter, test_server::Seen};

/// A secret planted in the settings.
const CANARY: &str = "canary-2c55de";

fn limits() -> Vec<RateLimit> {
    Vec::new()
}

fn target(connector: &str, url: &str) -> Target {
    let config = match connector {
        "one" => json!({"base_url": url, "client_id": "id-1", "client_secret": CANARY}),
        _ => json!({"base_url": url, "app_id": "app-1", "app_secret": CANARY}),
    };
    let config = SecretConfig::new(config);
    let options = HttpOptions {
        timeout: Duration::from_millis(1500),
        ..HttpOptions::default()
    };
    let http = HttpClient::new("acme", &config, Limiter::new(&limits()), options).unwrap();
    let files = Library::new(None::<&Path>).unwrap().get(connector).unwrap();
    Target::load(&files, "acme", config, http).unwrap()
}

fn item(source_id: &str, body: Value) -> PushItem {
    PushItem {
        entity_id: format!("yardi:{source_id}"),
        external_id: None,
        body,
        idempotency_key: format!("key-{source_id}"),
        version: 3,
    }
}

fn known(source_id: &str, external_id: &str, body: Value) -> PushItem {
    PushItem {
        external_id: Some(external_id.to_owned()),
        ..item(source_id, body)
    }
}

/// Results as short texts: `created 17`, or class and code.
fn short(batch: &PushBatch) -> Vec<String> {
    let results = batch.results.iter();
    results
        .map(|result| match result {
            Ok(receipt) => format!("{} {}", receipt.action.as_str(), receipt.external_id),
            Err(error) => {
                let everything = format!("{error} {error:?} {}", error.chain());
                assert!(!everything.contains(CANARY), "{everything}");
                format!("{} {}", error.class(), error.code())
            }
        })
        .collect()
}

fn entity(name: &str) -> EntityType {
    EntityType::from(name)
}
