//! ONE as a client calls it.

use serde_json::{Value, json};
use sluice_standin::{Handle, Kind};

use super::{Answer, options, send, start};

pub async fn token_answer(handle: &Handle, secret: &str) -> Answer {
    let body = format!("grant_type=client_credentials&client_id=sluice&client_secret={secret}");
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    send(
        handle.addr(),
        "POST",
        "/oauth/token",
        &headers,
        body.as_bytes(),
    )
    .await
    .unwrap()
}

pub async fn token(handle: &Handle) -> String {
    let answer = token_answer(handle, "one-standin-secret").await.json();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3600);
    answer["access_token"].as_str().unwrap().to_owned()
}

pub async fn graphql(handle: &Handle, token: &str, query: &str, variables: Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let body = json!({"query": query, "variables": variables}).to_string();
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
    ];
    send(handle.addr(), "POST", "/graphql", &headers, body.as_bytes())
        .await
        .unwrap()
}

/// A mutation; the results come back ordered by index.
pub async fn mutate(
    handle: &Handle,
    token: &str,
    field: &str,
    key: &str,
    items: Value,
) -> Vec<Value> {
    let answer = graphql(handle, token, &query(field, key), json!({"in": items})).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    let mut results = answer["data"][field]["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .clone();
    results.sort_by_key(|one| one["index"].as_u64());
    results
}

pub fn query(field: &str, key: &str) -> String {
    let kind = format!("{}{}Input", field[..1].to_uppercase(), &field[1..]);
    let more = if key == "attachmentNumber" {
        "fileName "
    } else {
        ""
    };
    format!(
        "mutation($in:[{kind}!]!){{{field}(input:$in){{results{{index {key} id {more}success validationMessages{{code field message}}}}}}}}"
    )
}

pub fn location(number: &str) -> Value {
    json!({"locationNumber": number, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1})
}

pub fn request(number: &str, location: &str) -> Value {
    json!({"referWONum": number, "locationNumber": location, "serviceRequestCategory": "Plumbing", "callTime": "2025-03-04T09:10:02-06:00", "caller": "Dana Poe", "priority": "High"})
}

pub fn codes(result: &Value) -> Vec<&str> {
    result["validationMessages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect()
}

pub async fn begin() -> (Handle, String) {
    let handle = start(options(Kind::One)).await;
    let token = token(&handle).await;
    (handle, token)
}
