//! A shipped target and its stand-in, and records for both.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use sluice_connectors::{
    http::{HttpClient, HttpOptions},
    library::Library,
    limiter::Limiter,
    target::{PushBatch, PushItem, PushOperation, Target},
};
use sluice_core::{EntityType, secret::SecretConfig};
use sluice_standin::{Handle, Kind, Options};

pub struct Setup {
    pub standin: Handle,
    pub target: Target,
}

pub async fn setup(kind: Kind, change: impl FnOnce(&mut Options)) -> Setup {
    let mut options = Options::new(kind);
    options.limit_per_minute = None;
    change(&mut options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (name, config) = match kind {
        Kind::One => (
            "one",
            json!({"base_url": url, "client_id": options.one.client_id, "client_secret": options.one.client_secret}),
        ),
        _ => (
            "lessen360",
            json!({"base_url": url, "app_id": options.lessen360.app_id, "app_secret": options.lessen360.secret}),
        ),
    };
    let standin = sluice_standin::serve(options, listener).unwrap();
    let config = SecretConfig::new(config);
    let bounds = HttpOptions {
        timeout: Duration::from_secs(2),
        ..HttpOptions::default()
    };
    let http = HttpClient::new("acme", &config, Limiter::new(&[]), bounds).unwrap();
    let files = Library::new(None).unwrap().get(name).unwrap();
    let target = Target::load(&files, "acme", config, http).unwrap();
    Setup { standin, target }
}

impl Setup {
    pub async fn fault(&self, rule: Value) {
        let url = format!("{}/_control/faults", self.standin.url());
        let client = reqwest::Client::new();
        let answer = client.post(url).json(&rule).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
    }

    /// How many records of a kind the stand-in holds.
    pub async fn held(&self, kind: &str) -> usize {
        let url = format!("{}/_control/records?kind={kind}", self.standin.url());
        let records: Vec<Value> = reqwest::get(url).await.unwrap().json().await.unwrap();
        records.len()
    }

    pub async fn push(
        &self,
        entity: &str,
        operation: PushOperation,
        items: Vec<PushItem>,
    ) -> PushBatch {
        self.target
            .push(&EntityType::from(entity), operation, items)
            .await
    }

    /// One record; its result as text.
    pub async fn push_one(&self, entity: &str, operation: PushOperation, item: PushItem) -> String {
        let batch = self.push(entity, operation, vec![item]).await;
        short(&batch).remove(0)
    }

    pub async fn found(&self, entity: &str, entity_id: &str) -> Option<String> {
        let (found, _) = self
            .target
            .lookup(&EntityType::from(entity), &[entity_id.to_owned()])
            .await;
        let found = found.into_iter().next().unwrap().unwrap();
        found.map(|found| found.external_id)
    }
}

pub fn short(batch: &PushBatch) -> Vec<String> {
    let results = batch.results.iter();
    results
        .map(|result| match result {
            Ok(receipt) => format!("{} {}", receipt.action.as_str(), receipt.external_id),
            Err(error) => format!("{} {}: {}", error.class(), error.code(), error.message()),
        })
        .collect()
}

pub fn item(entity_id: &str, external_id: Option<&str>, version: i64, body: Value) -> PushItem {
    PushItem {
        entity_id: entity_id.to_owned(),
        external_id: external_id.map(str::to_owned),
        body,
        idempotency_key: format!("{entity_id}-{version}"),
        version,
    }
}

pub const PLACE: &str = "yardi:oak run/12&304";
pub const PERSON: &str = "yardi:t0001";
pub const REQUEST: &str = "yardi:51877";
pub const FILE: &str = "yardi:f-1";

pub fn content() -> String {
    base64::engine::general_purpose::STANDARD.encode(b"\x89PNG not really")
}

pub fn one_bodies() -> [(&'static str, &'static str, Value); 4] {
    [
        (
            "Location",
            PLACE,
            json!({"locationNumber": PLACE, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1}),
        ),
        (
            "Resident",
            PERSON,
            json!({"residentNumber": PERSON, "locationNumber": PLACE, "name": "Dana Poe", "isPrimaryResident": true, "status": 1}),
        ),
        (
            "ServiceRequest",
            REQUEST,
            json!({"referWONum": REQUEST, "locationNumber": PLACE, "serviceRequestCategory": "Plumbing", "callTime": "2025-03-05T16:30:00-06:00", "caller": "Dana Poe", "priority": "High"}),
        ),
        (
            "Attachment",
            FILE,
            json!({"attachmentNumber": FILE, "referWONum": REQUEST, "fileName": "sink.png", "contentType": "image/png", "content": content()}),
        ),
    ]
}

pub fn source(version: i64) -> Value {
    json!({"system": "yardi", "id": "x", "version": version})
}

pub fn lessen360_place() -> Value {
    json!({"externalId": PLACE, "kind": "property", "name": "Oak Run", "active": true, "source": source(1)})
}
