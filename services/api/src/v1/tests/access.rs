//! What holds for every endpoint.

use std::collections::HashMap;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use serde_json::{Value, json};
use sluice_core::{ErrorClass, access::Role};

use super::{super::endpoints, OPERATOR, STRANGER, Server, VIEWER};
use crate::v1::Token;

/// C4: no endpoint answers without a token, changes anything for a viewer, or shows another
/// organization's dead letter.
#[tokio::test]
async fn every_endpoint_refuses_the_wrong_callers() {
    let server = Server::start().await;
    let lists = endpoints()
        .into_iter()
        .filter(|endpoint| endpoint.method == Method::GET && !endpoint.path.contains("{id}"));
    let mut alone = HashMap::new();
    for list in lists {
        alone.insert(list.path, server.get(STRANGER, list.path).await.body);
    }
    server.kill(0..1, ErrorClass::Validation).await;
    let limit =
        json!({ "connection": "one", "limits": [{ "calls": 7, "per_seconds": 1 }], "reason": "x" });
    let limited = server.post(OPERATOR, "/connections/limit", &limit).await;
    assert_eq!(limited.status, StatusCode::OK, "{}", limited.body);
    let replay = server
        .post(OPERATOR, "/replays", &json!({ "filter": {} }))
        .await;
    assert_eq!(replay.body["id"], 1, "{}", replay.body);
    for endpoint in endpoints() {
        let (method, path) = (&endpoint.method, endpoint.path.replace("{id}", "1"));
        let send = |token| server.send(token, method.clone(), &path, &Value::Null);
        let answer = send("").await;
        answer.refused(StatusCode::UNAUTHORIZED, "token_missing");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        let answer = send("a-token-that-nobody-configured-000").await;
        answer.refused(StatusCode::UNAUTHORIZED, "token_unknown");
        let viewed = send(VIEWER).await;
        if method == Method::GET {
            assert_eq!(viewed.status, StatusCode::OK, "{path}: {}", viewed.body);
        } else {
            viewed.refused(StatusCode::FORBIDDEN, "operator_needed");
        }
        let theirs = send(STRANGER).await;
        if endpoint.path.contains("{id}") {
            assert_eq!(
                theirs.status,
                StatusCode::NOT_FOUND,
                "{path}: {}",
                theirs.body
            );
        } else if method == Method::GET {
            assert_eq!(theirs.body, alone[endpoint.path], "{path}");
        }
    }
    let page = include_str!("../../../../../docs/api.md");
    for endpoint in endpoints() {
        let line = format!("`{} {}`", endpoint.method, endpoint.path);
        assert!(page.contains(&line), "{line} is not in docs/api.md");
    }
}

#[tokio::test]
async fn without_tokens_the_answer_says_how_to_set_one() {
    let server = Server::with(|_, _| Vec::new()).await;
    let answer = server.get(OPERATOR, "/dead-letters").await;
    answer.refused(StatusCode::UNAUTHORIZED, "api_tokens_missing");
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("[[api_tokens]]")
    );
    let weak = Token::new("ann", server.world.organization, Role::Viewer, "short");
    assert_eq!(weak.err().unwrap().code(), "api_token_weak");
}

#[tokio::test]
async fn requests_have_names_and_unknown_things_are_refused() {
    let server = Server::start().await;
    let answer = server.get(VIEWER, "/dead-letters?colour=red").await;
    answer.refused(StatusCode::BAD_REQUEST, "query_invalid");
    let answer = server.get(VIEWER, "/dead-letters?class=red").await;
    answer.refused(StatusCode::BAD_REQUEST, "query_invalid");
    let answer = server.get(VIEWER, "/dead-letters?limit=201").await;
    answer.refused(StatusCode::BAD_REQUEST, "limit_invalid");
    let answer = server.get(VIEWER, "/dead-letters?cursor=%20").await;
    answer.refused(StatusCode::BAD_REQUEST, "cursor_invalid");
    let answer = server.get(VIEWER, "/dead-letters?target=nobody").await;
    answer.refused(StatusCode::NOT_FOUND, "connection_unknown");
    let answer = server.get(VIEWER, "/dead-letters/one").await;
    answer.refused(StatusCode::BAD_REQUEST, "id_invalid");
    let answer = server.get(VIEWER, "/nothing").await;
    answer.refused(StatusCode::NOT_FOUND, "endpoint_unknown");
    let answer = server
        .send(OPERATOR, Method::PUT, "/dead-letters", &Value::Null)
        .await;
    answer.refused(StatusCode::METHOD_NOT_ALLOWED, "method_unknown");

    let named = server.get(VIEWER, "/dead-letters").await;
    assert_eq!(named.headers["x-request-id"], "test-1");
    let unfit = Request::builder()
        .uri("/api/v1/dead-letters")
        .header("x-request-id", "a b")
        .body(Body::empty())
        .unwrap();
    let unfit = server.raw(unfit).await;
    assert_eq!(unfit.headers["x-request-id"].len(), 36, "one of our own");
}
