//! Calls with many records: how they are cut, and what happens when one is refused as a whole.

use super::*;
use crate::test_server::{Reply, TestServer};

const BATCHES: &str = r#"
type: DeclarativeTarget
version: 1
defaults:
  url_base: "{{ config['base_url'] }}"
  http_method: POST
  error_handler:
    error_code_path: [code]
    response_filters:
      - {error_codes: [taken], outcome: exists}
      - {error_codes: [no_parent], outcome: parent_missing}
      - {error_codes: [gone], outcome: not_found}
check: {requester: {path: /ping}}
entities:
  Location:
    create:
      type: BatchWrite
      batch_size: 8
      batch_bytes: 200
      requester: {path: /places, request_body_json: {places: "{{ items }}"}}
      result_selector:
        extractor: {type: DpathExtractor, field_path: [results]}
        success_path: [done]
        id_path: [id]
        error_code_path: [code]
"#;

fn batches(url: &str) -> Target {
    let config = SecretConfig::new(json!({"base_url": url}));
    let http = HttpClient::new(
        "acme",
        &config,
        Limiter::new(&limits()),
        HttpOptions::default(),
    );
    let files = ConnectorFiles {
        name: "acme".to_owned(),
        files: [("operations.yaml".to_owned(), BATCHES.into())].into(),
    };
    Target::load(&files, "acme", config, http.unwrap()).unwrap()
}

fn places(seen: &Seen) -> Vec<Value> {
    seen.json()["places"].as_array().unwrap().clone()
}

fn all_done(places: &[Value]) -> Reply {
    let results: Vec<_> = places
        .iter()
        .map(|place| json!({"done": true, "id": place["name"]}))
        .collect();
    Reply::json(200, json!({ "results": results }))
}

/// Pushes seven places and the fifth, which the server refuses whole calls for.
async fn refused(status: u16, code: &'static str) -> (Vec<String>, u32) {
    let server = TestServer::start(move |seen, _| {
        let places = places(seen);
        if places.iter().any(|place| place["name"] == "4") {
            Reply::json(status, json!({ "code": code }))
        } else {
            all_done(&places)
        }
    })
    .await;
    let items = (0..8)
        .map(|n| item(&n.to_string(), json!({"name": n.to_string()})))
        .collect();
    let batch = batches(&server.url())
        .push(&entity("Location"), PushOperation::Create, items)
        .await;
    let errors = batch.results.iter().filter_map(|one| one.as_ref().err());
    for error in errors {
        assert_eq!(error.status(), Some(status));
    }
    (short(&batch), batch.calls)
}

/// O8: whatever the system calls it, the record at fault ends up alone.
#[tokio::test]
async fn a_call_refused_for_one_record_is_halved() {
    for (status, code, expected) in [
        (400, "bad", "validation target_refused"),
        (413, "large", "validation target_refused"),
        (409, "race", "conflict target_conflict"),
        (409, "taken", "conflict target_record_exists"),
        (422, "no_parent", "validation target_parent_missing"),
        (404, "gone", "not_found target_record_missing"),
    ] {
        let (results, calls) = refused(status, code).await;
        for (n, result) in results.iter().enumerate() {
            match n {
                4 => assert_eq!(result, expected, "{code}"),
                n => assert_eq!(*result, format!("created {n}"), "{code}"),
            }
        }
        // 8, 4, 4, 2, 2, 1, 1
        assert_eq!(calls, 7, "{code}");
    }
}

/// Nothing says that smaller calls would fare better, or that nothing was carried out.
#[tokio::test]
async fn a_call_that_failed_for_other_reasons_is_not_repeated() {
    for (status, expected) in [
        (404, "not_found target_record_missing"),
        (403, "auth target_auth_refused"),
        (429, "rate_limit target_rate_limited"),
        (500, "target_error target_failed"),
    ] {
        let (results, calls) = refused(status, "other").await;
        assert_eq!(results, vec![expected; 8]);
        assert_eq!(calls, 1, "{status}");
    }
}

#[tokio::test]
async fn a_call_holds_no_more_bytes_than_allowed() {
    let server = TestServer::start(|seen, _| {
        let places = places(seen);
        let bytes: usize = places.iter().map(|place| place.to_string().len()).sum();
        if bytes > 200 && places.len() > 1 {
            Reply::text(500, "")
        } else {
            all_done(&places)
        }
    })
    .await;
    let items = [90, 90, 90, 900, 5, 5].iter().enumerate();
    let items = items
        .map(|(n, size)| {
            let body = json!({"name": n.to_string(), "text": "x".repeat(*size)});
            item(&n.to_string(), body)
        })
        .collect();
    let batch = batches(&server.url())
        .push(&entity("Location"), PushOperation::Create, items)
        .await;
    let expected: Vec<_> = (0..6).map(|n| format!("created {n}")).collect();
    assert_eq!(short(&batch), expected);
    // [0], [1], [2], [3], [4, 5]: two of 90 are more than 200 with their names.
    assert_eq!(batch.calls, 5);
}
