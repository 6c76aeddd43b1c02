use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, OPERATOR, STRANGER, Server, VIEWER};

/// The state of `one` as a caller sees it.
async fn one(server: &Server, token: &str) -> Value {
    let listed = server.get(token, "/connections").await;
    let items = listed.body["items"].as_array().unwrap();
    let of_one = items.iter().find(|item| item["connection"] == "one");
    of_one.unwrap().clone()
}

async fn limit(server: &Server, body: Value) -> Answer {
    server.post(OPERATOR, "/connections/limit", &body).await
}

/// O3: in force at once, shown beside the configuration's, kept with who and why, and taken back.
#[tokio::test]
async fn limits_are_changed_by_hand_and_back() {
    let server = Server::start().await;
    assert_eq!(one(&server, VIEWER).await["limits"], json!([]));
    let tight = json!([{ "calls": 30, "per_seconds": 60, "reserve": 20, "paths": ["/a"] }]);
    let order = json!({ "connection": "one", "limits": tight, "reason": "the vendor asked" });
    let changed = limit(&server, order).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    assert_eq!(changed.body["limits"], tight);
    let state = one(&server, VIEWER).await;
    assert_eq!(state, changed.body);
    assert_eq!(
        (&state["configured_limits"], &state["limits_by_hand"]),
        (&json!([]), &json!(true))
    );
    let back = json!({ "connection": "one", "configured": true, "reason": "it is over" });
    let back = limit(&server, back).await;
    assert_eq!(
        (&back.body["limits"], &back.body["limits_by_hand"]),
        (&json!([]), &json!(false))
    );
    let log = server.get(VIEWER, "/activity").await;
    let details: Vec<_> = log.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            assert_eq!(entry["actor"], "api:ann");
            assert_eq!(entry["event"], "connection.limited");
            entry["detail"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        details,
        [
            "one, from 30/60,reserve=20,path=/a to the configuration's no limit: it is over",
            "one, from no limit to 30/60,reserve=20,path=/a: the vendor asked",
        ]
    );
    let theirs = server.get(STRANGER, "/activity").await;
    assert_eq!(theirs.body["items"], json!([]));
}

/// O3: what is out of bounds changes nothing and leaves no trace.
#[tokio::test]
async fn unfit_limits_are_refused() {
    let server = Server::start().await;
    let before = one(&server, VIEWER).await;
    let many = vec![json!({ "calls": 1, "per_seconds": 1 }); 17];
    for limits in [
        json!([]),
        json!(many),
        json!([{ "calls": 0, "per_seconds": 60 }]),
        json!([{ "calls": 1, "per_seconds": 9_999_999 }]),
        json!([{ "calls": 1, "per_seconds": 60, "reserve": 91 }]),
        json!([{ "calls": 1, "per_seconds": 60, "paths": ["a"] }]),
    ] {
        let order = json!({ "connection": "one", "limits": limits, "reason": "x" });
        let answer = limit(&server, order).await;
        answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "limits_invalid");
    }
    let sound = json!([{ "calls": 1, "per_seconds": 60 }]);
    let long = json!({ "connection": "one", "limits": sound, "reason": "x".repeat(1_001) });
    let answer = limit(&server, long).await;
    answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "reason_too_long");
    for unfit in [
        json!({ "connection": "one", "reason": "x" }),
        json!({ "connection": "one", "limits": sound, "configured": true, "reason": "x" }),
        json!({ "connection": "one", "limits": sound, "reason": " " }),
        json!({ "connection": "one", "limits": [{ "calls": 1 }], "reason": "x" }),
        json!({ "connection": "one", "limits": [{ "calls": -1, "per_seconds": 1 }], "reason": "x" }),
        json!({ "connection": "one", "limits": sound, "speed": 1, "reason": "x" }),
    ] {
        let answer = limit(&server, unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let nobody = json!({ "connection": "nobody", "limits": sound, "reason": "x" });
    let answer = limit(&server, nobody).await;
    answer.refused(StatusCode::NOT_FOUND, "connection_unknown");
    assert_eq!(one(&server, VIEWER).await, before);
    let log = server.get(VIEWER, "/activity").await;
    assert_eq!(log.body["items"], json!([]));
}

/// O4: a breaker is closed by hand, with who and why.
#[tokio::test]
async fn a_connection_is_resumed_by_hand() {
    let server = Server::start().await;
    let order = json!({ "connection": "one", "reason": "the vendor is back" });
    let resumed = server.post(OPERATOR, "/connections/resume", &order).await;
    assert_eq!(resumed.body["breaker"], "closed", "{}", resumed.body);
    let log = server.get(VIEWER, "/activity").await;
    assert_eq!(log.body["items"][0]["event"], "connection.resumed");
    let detail = log.body["items"][0]["detail"].as_str().unwrap();
    assert!(detail.ends_with("the vendor is back"), "{detail}");
    let silent = json!({ "connection": "one", "reason": "" });
    let answer = server.post(OPERATOR, "/connections/resume", &silent).await;
    answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
}
