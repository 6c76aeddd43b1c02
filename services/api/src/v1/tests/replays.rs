use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};
use sluice_core::ErrorClass;

use super::{OPERATOR, STRANGER, Server, VIEWER};

/// O6: ordered, watched, paused, resumed, cancelled; all of it kept with who and why.
#[tokio::test]
async fn replays_are_ordered_watched_and_stopped() {
    let server = Server::start().await;
    server.kill(0..3, ErrorClass::Validation).await;
    let rehearsal = json!({ "filter": { "target": "one" }, "dry_run": true });
    let rehearsal = server.post(OPERATOR, "/replays", &rehearsal).await;
    assert_eq!(rehearsal.status, StatusCode::OK, "{}", rehearsal.body);
    assert_eq!(rehearsal.body["replayable"], 3);
    let filter = json!({ "ids": [1, 2], "target": "one", "class": "validation" });
    let order = json!({ "filter": filter, "rate": 50, "note": "mended" });
    let started = server.post(OPERATOR, "/replays", &order).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{}", started.body);
    // As it was asked for, with names for people.
    assert_eq!(started.body["filter"], filter);
    assert_eq!(started.headers["location"], "/api/v1/replays/1");
    assert_eq!(
        (&started.body["matched"], &started.body["waiting"]),
        (&json!(2), &json!(2))
    );
    for (verb, state) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
    ] {
        let path = format!("/replays/1/{verb}");
        let changed = server
            .post(OPERATOR, &path, &json!({ "note": "lunch" }))
            .await;
        assert_eq!(changed.body["state"], state, "{}", changed.body);
        let theirs = server.post(STRANGER, &path, &Value::Null).await;
        theirs.refused(StatusCode::NOT_FOUND, "replay_unknown");
    }
    let again = server
        .post(OPERATOR, "/replays/1/resume", &Value::Null)
        .await;
    again.refused(StatusCode::CONFLICT, "replay_transition_refused");
    let found = server.get(VIEWER, "/replays?state=cancelled&limit=1").await;
    assert_eq!(found.body["items"][0]["note"], "mended");
    assert_eq!(found.body["next_cursor"], Value::Null);
    let log = server.get(VIEWER, "/activity?limit=1").await;
    assert_eq!(log.body["items"][0]["event"], "replays.cancelled");
    assert_eq!(log.body["items"][0]["actor"], "api:ann");
    let next = log.body["next_cursor"].as_str().unwrap();
    let log = server
        .get(VIEWER, &format!("/activity?limit=200&cursor={next}"))
        .await;
    assert_eq!(log.body["items"].as_array().unwrap().len(), 3);
    for unfit in [
        json!({ "filter": {}, "speed": 1 }),
        json!({ "filter": { "cursor": "1" } }),
        json!({}),
    ] {
        let answer = server.post(OPERATOR, "/replays", &unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let still = json!({ "filter": {}, "rate": 0 });
    let answer = server.post(OPERATOR, "/replays", &still).await;
    answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "replay_rate_invalid");
}

/// The same key orders one replay, whoever retries.
#[tokio::test]
async fn an_order_with_a_key_is_carried_out_once() {
    let server = Server::start().await;
    server.kill(0..2, ErrorClass::Validation).await;
    let order = async |key: &str| {
        let request = Request::post("/api/v1/replays")
            .header(header::AUTHORIZATION, format!("Bearer {OPERATOR}"))
            .header("idempotency-key", key)
            .body(Body::from(json!({ "filter": {} }).to_string()))
            .unwrap();
        server.raw(request).await
    };
    let first = order("k1").await;
    let again = order("k1").await;
    assert_eq!(
        (&first.body["id"], &again.body["id"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(order("k2").await.body["id"], 2);
    let unfit = order(&"k".repeat(201)).await;
    unfit.refused(StatusCode::BAD_REQUEST, "idempotency_key_invalid");
}

/// Edited data passes the schema first, and the one letter must be named.
#[tokio::test]
async fn edited_data_is_checked_before_it_is_taken() {
    let server = Server::start().await;
    server.kill(0..2, ErrorClass::Validation).await;
    let order = async |filter: Value, data: Value, dry_run: bool| {
        let order = json!({ "filter": filter, "data": data, "dry_run": dry_run });
        server.post(OPERATOR, "/replays", &order).await
    };
    for dry_run in [true, false] {
        let answer = order(json!({ "ids": [1] }), json!({ "name": 7 }), dry_run).await;
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "edit_invalid");
        let told = answer.body["detail"].as_str().unwrap();
        assert!(
            told.contains("Location") && told.contains("required"),
            "{told}"
        );
        let answer = order(json!({}), json!({}), dry_run).await;
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "edit_needs_one");
        let answer = order(json!({ "ids": [99] }), json!({}), dry_run).await;
        answer.refused(StatusCode::NOT_FOUND, "dead_letter_unknown");
    }
    let sound = json!({
        "kind": "property", "number": "1", "name": "Oak Court", "property_code": "oak",
        "address": {}, "active": true
    });
    let answer = order(json!({ "ids": [1] }), sound.clone(), false).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(answer.body["edited"], true);
    let shown = server.get(VIEWER, "/dead-letters/1").await;
    assert_eq!(shown.body["edits"][0]["data"], sound);
    assert_eq!(shown.body["edits"][0]["actor"], "api:ann");
}
