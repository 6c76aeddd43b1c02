//! Bad input, through the whole system: a clear error at the earliest point, the raw bytes kept,
//! the rest goes on, nothing lost.

mod harness;

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt;
use harness::{Setup, System};
use mongodb::bson::{Document, doc};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);
const REQUESTS: &str = "GetServiceRequest_ByDateRange";
const RESIDENTS: &str = "GetResident_Search";
const UNITS: &str = "GetUnitInformation";
const ATTACHMENTS: &str = "GetAttachments_DateRange";

/// Error codes of all attempts to read, with how often each was met.
async fn codes(system: &System) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select a.error_code, count(*) from task_attempts a join sync_queue q on q.id = a.task_id
         where q.kind = 'pull' and a.error_code is not null group by a.error_code",
    )
    .fetch_all(&system.sql)
    .await
    .unwrap();
    rows.into_iter().collect()
}

/// All documents of a collection that match.
async fn documents(system: &System, collection: &str, filter: Document) -> Vec<Document> {
    let database = system.mongo.open().await;
    let collection = database.collection::<Document>(collection);
    let found = collection.find(filter);
    found.await.unwrap().try_collect().await.unwrap()
}

/// Error codes in the logs of documents.
fn logged(documents: &[Document]) -> Vec<String> {
    let mut codes: Vec<String> = documents
        .iter()
        .flat_map(|document| document.get_array("errorLog").unwrap())
        .map(|entry| {
            entry
                .as_document()
                .unwrap()
                .get_str("code")
                .unwrap()
                .to_owned()
        })
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Bytes of a payload as received.
fn size(payload: &Document) -> i64 {
    let body = payload.get_document("body").unwrap();
    let size = body.get("size").unwrap();
    size.as_i64().or(size.as_i32().map(i64::from)).unwrap()
}

/// I1, I3: each broken answer has its own error, its bytes are kept where a body came, everything
/// else is taken in, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_answers_of_the_source_stop_nothing_and_lose_nothing() {
    let system = System::start(Setup {
        seed: 21,
        records: 400,
        ..Setup::default()
    })
    .await;
    for kind in [
        "truncated_body",
        "cut_document",
        "html_200",
        "wrong_encoding",
        "doctype",
        "oversized",
    ] {
        let fault = json!({ "kind": kind, "operation": REQUESTS, "count": 1 });
        system.fault(&system.yardi, fault).await;
    }
    for form in 1..=3 {
        let fault =
            json!({ "kind": "auth_form", "form": form, "operation": ATTACHMENTS, "count": 1 });
        system.fault(&system.yardi, fault).await;
    }
    // One record of each page; the first windows of a property hold none.
    for (kind, operation) in [
        ("impossible_dates", REQUESTS),
        ("duplicate_ids", RESIDENTS),
        ("missing_ids", UNITS),
    ] {
        let fault = json!({ "kind": kind, "operation": operation, "rate": 1.0 });
        system.fault(&system.yardi, fault).await;
    }
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    let state = system.until_quiet(run, PATIENCE).await;
    assert_eq!(state, "partial");
    let codes = codes(&system).await;
    for (code, times) in [
        ("xml_truncated", 1),
        ("unexpected_html", 1),
        ("body_not_utf8", 1),
        ("xml_doctype_refused", 1),
        ("credentials_refused", 3),
    ] {
        assert_eq!(codes.get(code), Some(&times), "{code} of {codes:?}");
    }
    let faults = system.stats(&system.yardi).await["faults"].clone();
    assert_eq!(faults["truncated_body"], 1, "{faults}");

    let broken = documents(
        &system,
        "raw_payloads",
        doc! { "syncStatus.inbound": "failed" },
    )
    .await;
    assert_eq!(
        logged(&broken),
        [
            "body_not_utf8",
            "unexpected_html",
            "xml_doctype_refused",
            "xml_truncated"
        ]
    );
    for payload in &broken {
        assert!(size(payload) > 0, "{payload:?}");
    }
    let large = documents(
        &system,
        "raw_payloads",
        doc! { "body.size": { "$gt": 20_000_000 } },
    )
    .await;
    assert_eq!(large.len(), 1);
    let rejected = documents(
        &system,
        "raw_records",
        doc! { "syncStatus.inbound": "failed" },
    )
    .await;
    assert_eq!(logged(&rejected), ["schema_violation", "source_id_missing"]);
    let (status, review) = system
        .command(&["raw", "rejected", "--output", "json"])
        .await;
    assert_eq!(status, 0, "{review}");
    assert_eq!(review.as_array().map(Vec::len), Some(rejected.len()));
    // Twice in a page is once in the master data: its key is unique, and no page failed for it.
    assert!(faults["duplicate_ids"].as_i64() > Some(0), "{faults}");

    system.clear_faults(&system.yardi).await;
    let again = system.start_run(&["--full"]).await;
    assert_eq!(system.until_quiet(again, PATIENCE).await, "done");
    system.assert_agreement().await;
}

/// I3: a property that loses its code while a run reads it fails alone, with an error that says so;
/// the others are read, and once the code is known again a run takes in what was missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_that_the_source_does_not_know_fails_alone() {
    let system = System::start(Setup {
        seed: 22,
        records: 400,
        ..Setup::default()
    })
    .await;
    let mut properties: Vec<String> = system
        .records(&system.yardi, "property")
        .await
        .iter()
        .map(|property| property["code"].as_str().unwrap().trim().to_owned())
        .collect();
    let known = properties.len();
    let property = properties.pop().unwrap();
    // Nothing can be read until the property has lost its code, which the slices know by then.
    let away = json!({ "kind": "http_503", "operation": UNITS, "rate": 1.0 });
    system.fault(&system.yardi, away).await;
    let _processes = system.start_roles().await;
    // Later streams would read the property under its other code, as another one.
    let units = ["--full", "--stream", "properties", "--stream", "units"];
    let run = system.start_run(&units).await;
    system
        .until(PATIENCE, || async {
            let stats = system.stats(&system.yardi).await;
            stats["faults"]["http_503"].as_i64() > Some(0)
        })
        .await;
    system.rename(&property, "moved").await;
    system.clear_faults(&system.yardi).await;
    assert_eq!(system.until_over(run, PATIENCE).await, "partial");
    let codes = codes(&system).await;
    assert_eq!(codes.get("unknown_property"), Some(&1), "{codes:?}");
    let locations = "select count(*) from sync_master_data where entity_type = 'Location'";
    assert!(
        system.number(locations).await > i64::try_from(known).unwrap(),
        "units of the other properties are read"
    );
    system.rename("moved", &property).await;
    let again = system.start_run(&["--full"]).await;
    assert_eq!(system.until_quiet(again, PATIENCE).await, "done");
    system.assert_agreement().await;
}
