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
    described(url, BATCHES)
}

fn described(url: &str, text: &str) -> Target {
    let config = SecretConfig::new(json!({"base_url": url}));
    let http = HttpClient::new(
        "acme",
        &config,
        Limiter::new(&limits()),
        HttpOptions::default(),
    );
    let files = ConnectorFiles {
        name: "acme".to_owned(),
        files: [("operations.yaml".to_owned(), text.into())].into(),
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

/// The read side takes both for the list, and so does this one; what stands behind the star leads
/// into each result.
#[tokio::test]
async fn the_list_of_results_may_be_named_with_a_star() {
    for (path, node) in [
        ("[results]", false),
        ("[results, \"*\"]", false),
        ("[results, \"*\", node]", true),
    ] {
        let server = TestServer::start(move |seen, _| {
            let results = places(seen).into_iter().map(|place| {
                let result = json!({"done": true, "id": place["name"]});
                if node {
                    json!({ "node": result })
                } else {
                    result
                }
            });
            Reply::json(200, json!({ "results": results.collect::<Vec<_>>() }))
        })
        .await;
        let text = BATCHES.replace("field_path: [results]", &format!("field_path: {path}"));
        let items = ["a", "b"].map(|name| item(name, json!({ "name": name })));
        let batch = described(&server.url(), &text)
            .push(&entity("Location"), PushOperation::Create, items.into())
            .await;
        assert_eq!(short(&batch), ["created a", "created b"], "{path}");
    }
}

/// O1: a record that is there must not pass for absent, or it is created once more.
#[tokio::test]
async fn a_look_up_finds_records_with_and_without_a_star() {
    for path in ["[found]", "[found, \"*\"]"] {
        let server = TestServer::start(|_, _| {
            Reply::json(200, json!({"found": [{"ref": "yardi:a", "id": 7}]}))
        })
        .await;
        let text = format!(
            "{BATCHES}    lookup:\n      batch_size: 2\n      requester: {{path: /find}}\n      \
             extractor: {{field_path: {path}}}\n      reference_path: [ref]\n      id_path: [id]\n"
        );
        let wanted = ["yardi:a", "yardi:b"].map(str::to_owned);
        let target = described(&server.url(), &text);
        let (found, _) = target.lookup(&entity("Location"), &wanted).await;
        let ids: Vec<_> = found
            .into_iter()
            .map(|one| one.unwrap().map(|found| found.external_id))
            .collect();
        assert_eq!(ids, [Some("7".to_owned()), None], "{path}");
    }
}

/// Pushes three places; the server answers so.
async fn answered(status: u16, answer: Value, change: (&str, &str)) -> Vec<String> {
    let server = TestServer::start(move |_, _| Reply::json(status, answer.clone())).await;
    let items = ["a", "b", "c"].map(|name| item(name, json!({ "name": name })));
    assert!(BATCHES.contains(change.0));
    let batch = described(&server.url(), &BATCHES.replace(change.0, change.1))
        .push(&entity("Location"), PushOperation::Create, items.into())
        .await;
    let told = batch.results.iter().map(|result| match result {
        Ok(receipt) => receipt.external_id.clone(),
        Err(error) => {
            let told = error.chain();
            assert!(!told.contains("Dana"), "{told}");
            format!("{}: {told}", error.code())
        }
    });
    told.collect()
}

/// Whoever wrote the file sees what was expected and what was there, without a value of anybody.
#[tokio::test]
async fn an_answer_without_the_results_says_what_it_lacks() {
    let same = ("field_path: [results]", "field_path: [results]");
    let indexed = (
        "success_path:",
        "index_path: [place, index]\n        success_path:",
    );
    let done = |id: &str| json!({"done": true, "id": id, "name": "Dana Poe"});
    let one = json!({ "results": [done("1")] });
    let stray = json!({"results": [
        {"done": true, "id": "1", "place": {"index": 1}}, {"done": true, "id": "2", "place": {"index": "Dana"}},
    ]});
    let silent =
        json!({ "results": [done("1"), {"ok": true, "name": "Dana Poe"}, {"done": "Dana"}] });
    for (answer, change, expected) in [
        (
            json!({"result": "Dana"}),
            same,
            vec![
                "target_failed: the target answered 200 without a list of results at `results`: there is nothing";
                3
            ],
        ),
        (
            json!({"results": "Dana Poe"}),
            same,
            vec!["without a list of results at `results`: there is a text"; 3],
        ),
        (
            json!({"results": {"a": done("1")}}),
            same,
            vec!["without a list of results at `results`: there is an object"; 3],
        ),
        // Nobody could tell which record they belong to.
        (
            one.clone(),
            same,
            vec![
                "target_failed: the target answered 200 with 1 result for 3 records, and no `index_path` says whose they are";
                3
            ],
        ),
        (
            json!({"results": vec![done("1"); 4]}),
            same,
            vec!["with 4 results for 3 records"; 3],
        ),
        (
            one,
            indexed,
            vec![
                "target_result_missing: the target gave no result for this record: of 1 result for 3 records, 0 show the position of one at `place.index`";
                3
            ],
        ),
        (
            stray,
            indexed,
            vec![
                "of 2 results for 3 records, 1 shows",
                "1",
                "of 2 results for 3 records, 1 shows",
            ],
        ),
        (
            silent,
            same,
            vec![
                "1",
                "the target refused the record; its result has nothing at `done` and no code at `code`",
                "its result has a text at `done` and no code at `code`",
            ],
        ),
    ] {
        let told = answered(200, answer, change).await;
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{expected} is missing: {told}");
        }
    }
    let told = answered(500, json!({"results": []}), same).await;
    assert!(
        told[0].starts_with("target_failed: the target answered 500"),
        "{}",
        told[0]
    );
    assert!(!told[0].contains("results"), "{}", told[0]);
}
