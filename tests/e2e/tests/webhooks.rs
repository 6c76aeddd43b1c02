//! Webhooks, through the whole system: refused early, kept before they are answered, taken in once.

mod harness;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{ORGANIZATION, Process, Setup, System, WEBHOOK_SECRET};
use hmac::{Hmac, KeyInit, Mac};
use mongodb::bson::{Document, doc};
use serde_json::json;
use sha2::Sha256;

const PATIENCE: Duration = Duration::from_secs(60);

/// Delivers a body as a vendor would, signed with this secret; returns the answer's status.
async fn deliver(system: &System, api: &Process, secret: &str, id: &str, body: Vec<u8>) -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let stamp = now.as_secs().to_string();
    let secret = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{id}.{stamp}.").as_bytes());
    mac.update(&body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let url = format!("{}/webhooks/{ORGANIZATION}/yardi/properties", api.url);
    let request = system
        .http
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", stamp)
        .header("webhook-signature", signature)
        .body(body);
    request.send().await.unwrap().status().as_u16()
}

async fn payloads(system: &System) -> u64 {
    let database = system.mongo.open().await;
    let payloads = database.collection::<Document>("raw_payloads");
    payloads.count_documents(doc! {}).await.unwrap()
}

/// I1, I2: what nobody signed is not stored; what was signed is stored, answered, and becomes one
/// version, however often it is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_checked_kept_and_taken_in_once() {
    let system = System::start(Setup {
        records: 100,
        ..Setup::default()
    })
    .await;
    let api = system.spawn("api").await;
    let property =
        json!({ "Code": "hooked", "MarketingName": "Hooked Court", "AddressLine1": "1 Main St" });
    let body = property.to_string().into_bytes();

    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = deliver(&system, &api, other, "hook-1", body.clone()).await;
    assert_eq!(refused, 401);
    let large = vec![b' '; 20 * 1024 * 1024 + 1];
    let refused = deliver(&system, &api, WEBHOOK_SECRET, "hook-0", large).await;
    assert_eq!(refused, 413);
    assert_eq!(payloads(&system).await, 0);

    // Nobody is there yet to take it in: kept all the same.
    let answer = deliver(&system, &api, WEBHOOK_SECRET, "hook-1", body.clone()).await;
    assert_eq!(answer, 202);
    assert_eq!(payloads(&system).await, 1);
    let _sync_in = system.spawn("sync-in").await;
    system
        .until(PATIENCE, || async {
            system.number("select count(*) from sync_master_data").await == 1
        })
        .await;
    let again = deliver(&system, &api, WEBHOOK_SECRET, "hook-1", body).await;
    assert_eq!(again, 200);

    // A later one proves that the second delivery has been passed over.
    let changed =
        json!({ "Code": "hooked", "MarketingName": "Hooked House", "AddressLine1": "1 Main St" });
    let body = changed.to_string().into_bytes();
    let answer = deliver(&system, &api, WEBHOOK_SECRET, "hook-2", body).await;
    assert_eq!(answer, 202);
    system
        .until(PATIENCE, || async {
            system.number("select count(*) from data_versions").await == 2
        })
        .await;
    assert_eq!(payloads(&system).await, 2);
}
