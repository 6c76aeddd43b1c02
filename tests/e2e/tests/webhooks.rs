//! Webhooks, through the whole system: refused early, kept before they are answered, taken in once.

mod harness;

use std::time::Duration;

use harness::{Process, Setup, System, WEBHOOK_SECRET, webhook::Delivery};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Delivers a body, signed with this secret; returns the answer's status.
async fn deliver(system: &System, api: &Process, secret: &str, id: &str, body: Vec<u8>) -> u16 {
    let delivery = Delivery {
        secret,
        ..Delivery::new(id, body)
    };
    let request = delivery.to(&system.http, &api.url);
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

/// A list of properties in each format that is read.
fn formats(code: &str) -> [(&'static str, &'static str, String); 4] {
    let property = |format| json!({ "Code": format!("{code}{format}"), "MarketingName": "Court" });
    [
        (
            "json",
            "application/json",
            json!([property("json")]).to_string(),
        ),
        (
            "ndjson",
            "application/x-ndjson",
            format!("{}\n", property("ndjson")),
        ),
        (
            "csv",
            "text/csv",
            format!("Code,MarketingName\n{code}csv,Court\n"),
        ),
        (
            "xml",
            "application/xml",
            format!(
                "<Envelope><Body><GetPropertyConfigurationsResponse><GetPropertyConfigurationsResult>\
                 <Properties><Property><Code>{code}xml</Code><MarketingName>Court</MarketingName>\
                 </Property></Properties></GetPropertyConfigurationsResult>\
                 </GetPropertyConfigurationsResponse></Body></Envelope>"
            ),
        ),
    ]
}

/// I1: what a file or a webhook brings is taken in like a page of the source, in each format; what
/// nobody could read is refused while its sender listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_comes_in_from_files_and_webhooks() {
    let system = System::start(Setup {
        records: 100,
        ..Setup::default()
    })
    .await;
    let api = system.spawn("api").await;
    for (format, _, text) in formats("file") {
        let file = format!("properties.{format}");
        // Editors of some systems put a byte order mark before everything.
        std::fs::write(system.folder.path().join(&file), format!("\u{feff}{text}")).unwrap();
        let ingest = ["ingest", &file, "--connection", "yardi", "--output", "json"];
        let ingest = [&ingest[..], &["--stream", "properties"]].concat();
        let (status, answer) = system.command(&ingest).await;
        assert_eq!(status, 0, "{format}: {answer}");
        assert_eq!(answer["counts"]["created"], 1, "{format}: {answer}");
    }
    for (format, content_type, text) in formats("hook") {
        let delivery = Delivery {
            content_type,
            ..Delivery::new(format, text)
        };
        let answer = delivery.to(&system.http, &api.url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 202, "{format}");
    }
    let _sync_in = system.spawn("sync-in").await;
    system
        .until(PATIENCE, || async {
            system.number("select count(*) from sync_master_data").await == 8
        })
        .await;
    // What is accepted and turns out to be unreadable is found again, byte for byte.
    let broken = Delivery::new("broken", "{\"Code\": ");
    let answer = broken.to(&system.http, &api.url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    let failed = async || {
        let (status, failed) = system.command(&["raw", "failed", "--output", "json"]).await;
        assert_eq!(status, 0);
        failed.as_array().unwrap().first().cloned()
    };
    system
        .until(PATIENCE, || async { failed().await.is_some() })
        .await;
    let failed = failed().await.unwrap();
    assert_eq!(
        (&failed["connection"], &failed["errors"][0]["code"]),
        (&json!("yardi"), &json!("payload_unreadable"))
    );
    let id = failed["id"].as_str().unwrap();
    let (status, bytes) = system.command(&["raw", "payload", id]).await;
    assert_eq!((status, bytes), (0, json!("{\"Code\": ")));

    let before = payloads(&system).await;
    let large = vec![b' '; 20 * 1024 * 1024 + 1];
    for (code, status, delivery) in [
        (
            "webhook_stream_unknown",
            404,
            Delivery {
                stream: "invoices",
                ..Delivery::new("refused-1", "{}")
            },
        ),
        (
            "webhook_content_type",
            415,
            Delivery {
                content_type: "image/png",
                ..Delivery::new("refused-2", "{}")
            },
        ),
        ("webhook_too_large", 413, Delivery::new("refused-3", large)),
    ] {
        let answer = delivery.to(&system.http, &api.url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{code}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["type"], format!("urn:sluice:problem:{code}"));
    }
    assert_eq!(payloads(&system).await, before);
    let log = api.text();
    let told = log.lines().find(|line| line.contains("webhook_too_large"));
    assert!(
        told.unwrap().contains(r#""webhook.connection":"yardi""#),
        "{told:?}"
    );
}
