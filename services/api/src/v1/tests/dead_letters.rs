use axum::http::StatusCode;
use serde_json::{Value, json};
use sluice_core::ErrorClass;

use super::{OPERATOR, STRANGER, Server, VIEWER};

/// O6.
#[tokio::test]
async fn dead_letters_are_listed_by_filter_in_pages_and_shown() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    server.kill(3..4, ErrorClass::Timeout).await;
    let mut seen = Vec::new();
    let mut path = "/dead-letters?limit=3".to_owned();
    loop {
        let page = server.get(VIEWER, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let items = page.body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        let Some(next) = page.body["next_cursor"].as_str() else {
            break;
        };
        path = format!("/dead-letters?limit=3&cursor={next}");
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|a, b| a > b));
    let some = "/dead-letters?class=validation&target=one&state=open&entity_type=Location";
    let some = server.get(VIEWER, some).await;
    assert_eq!(some.body["items"].as_array().unwrap().len(), 3);
    let one = server
        .get(VIEWER, &format!("/dead-letters/{}", seen[0]))
        .await;
    assert_eq!(one.body["class"], "timeout");
    assert_eq!(one.body["attempts"][0]["outcome"], "dead");
    let none = server.get(VIEWER, "/dead-letters/999").await;
    none.refused(StatusCode::NOT_FOUND, "dead_letter_unknown");
}

/// O6: what is discarded is closed for good, with who and why; another organization's stays.
#[tokio::test]
async fn dead_letters_are_discarded_with_a_reason() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    let discard =
        async |token, body: Value| server.post(token, "/dead-letters/discard", &body).await;
    let some = json!({ "filter": { "ids": [1, 2] }, "reason": "test units" });
    let theirs = discard(STRANGER, some.clone()).await;
    theirs.refused(StatusCode::NOT_FOUND, "dead_letter_unknown");
    let rehearsal = json!({ "filter": {}, "reason": "test units", "dry_run": true });
    let rehearsal = discard(OPERATOR, rehearsal).await;
    assert_eq!(rehearsal.body, json!({ "matched": 3 }));
    let mine = discard(OPERATOR, some).await;
    assert_eq!(mine.body, json!({ "discarded": 2 }));
    let closed = server
        .get(VIEWER, "/dead-letters?state=discarded&ids=1,3")
        .await;
    let items = closed.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(
        (&items[0]["actor"], &items[0]["note"]),
        (&json!("api:ann"), &json!("test units"))
    );
    for unfit in [
        json!({ "filter": {}, "reason": " " }),
        json!({ "filter": {} }),
        json!({ "filter": { "cursor": "1" }, "reason": "x" }),
        json!({ "filter": { "colour": "red" }, "reason": "x" }),
    ] {
        let answer = discard(OPERATOR, unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let large = json!({ "filter": {}, "reason": "x".repeat(1 << 20) });
    let answer = discard(OPERATOR, large).await;
    answer.refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
}
