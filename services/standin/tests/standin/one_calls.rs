//! Whom ONE refuses, and how whole calls fail.

use serde_json::{Value, json};
use sluice_standin::{Kind, Options};

use crate::support::one::{begin, graphql, location, mutate, query, token, token_answer};
use crate::support::{fault, options, records, start, stats};

#[tokio::test]
async fn tokens_are_issued_refused_and_expire() {
    let (handle, good) = begin().await;
    let refused = token_answer(&handle, "other").await;
    assert_eq!(
        (refused.status, refused.json()),
        (401, json!({"error": "invalid_client"}))
    );
    let items = json!([location("a")]);
    for bad in ["", "unknown"] {
        let answer = graphql(
            &handle,
            bad,
            &query("createLocation", "locationNumber"),
            json!({"in": items}),
        )
        .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["data"], Value::Null);
        assert_eq!(
            answer.json()["errors"][0]["extensions"]["code"],
            "UNAUTHENTICATED"
        );
        assert_eq!(
            answer.json()["errors"][0]["path"],
            json!(["createLocation"])
        );
    }
    mutate(&handle, &good, "createLocation", "locationNumber", items).await;
    fault(
        &handle,
        json!({"kind": "token_expiry", "operation": "createLocation"}),
    )
    .await;
    let answer = graphql(
        &handle,
        &good,
        &query("createLocation", "locationNumber"),
        json!({"in": [location("b")]}),
    )
    .await;
    assert_eq!(
        answer.json()["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
    assert_eq!(records(&handle, "location").await.len(), 1);
    let fresh = token(&handle).await;
    mutate(
        &handle,
        &fresh,
        "createLocation",
        "locationNumber",
        json!([location("b")]),
    )
    .await;

    let handle = start(Options {
        token_seconds: 0,
        ..options(Kind::One)
    })
    .await;
    let body = token_answer(&handle, "one-standin-secret").await.json();
    let answer = graphql(
        &handle,
        body["access_token"].as_str().unwrap(),
        "{locations{pageInfo{hasNextPage}}}",
        json!({}),
    )
    .await;
    assert_eq!(
        answer.json()["errors"][0]["extensions"]["code"],
        "UNAUTHENTICATED"
    );
}

#[tokio::test]
async fn whole_calls_are_refused_for_their_form() {
    let (handle, token) = begin().await;
    let mut unknown = location("a");
    unknown["colour"] = json!("red");
    let good = query("createLocation", "locationNumber");
    let many: Vec<Value> = (0..26).map(|n| location(&format!("n{n}"))).collect();
    for (text, input, code, piece) in [
        (
            good.clone(),
            json!([location("ok"), unknown]),
            "GRAPHQL_VALIDATION_FAILED",
            "\"colour\" is not defined by type \"CreateLocationInput\"",
        ),
        (
            good.replace("createLocation", "createTenant"),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "createTenant",
        ),
        (
            good.replace("success", "worked"),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "worked",
        ),
        (
            good.replace("{code field message}", ""),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "subfields",
        ),
        (
            good.replace("CreateLocationInput", "UpdateLocationInput"),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "expecting type",
        ),
        (
            good.replace("input:$in", "inputs:$in"),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "Unknown argument",
        ),
        (
            "mutation{".into(),
            json!([]),
            "GRAPHQL_VALIDATION_FAILED",
            "Syntax Error",
        ),
        (good.clone(), json!(many), "BAD_USER_INPUT", "at most 25"),
    ] {
        let answer = graphql(&handle, &token, &text, json!({"in": input})).await;
        assert_eq!(answer.status, 200);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["extensions"]["code"], code);
        assert!(
            error["message"].as_str().unwrap().contains(piece),
            "{error}"
        );
        assert_eq!(answer.json()["data"], Value::Null);
    }
    assert!(records(&handle, "location").await.is_empty());
}

#[tokio::test]
async fn data_and_errors_together_and_lying_success() {
    let (handle, token) = begin().await;
    fault(
        &handle,
        json!({"kind": "partial_errors", "operation": "createLocation"}),
    )
    .await;
    let answer = graphql(
        &handle,
        &token,
        &query("createLocation", "locationNumber"),
        json!({"in": [location("a"), location("b"), location("c")]}),
    )
    .await
    .json();
    assert_eq!(answer["data"]["createLocation"]["results"][1], Value::Null);
    assert_eq!(
        answer["data"]["createLocation"]["results"][2]["success"],
        true
    );
    assert_eq!(
        answer["errors"][0]["path"],
        json!(["createLocation", "results", 1])
    );
    assert_eq!(records(&handle, "location").await.len(), 2);
    fault(&handle, json!({"kind": "lying_success"})).await;
    let results = mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("d")]),
    )
    .await;
    assert_eq!(
        (&results[0]["success"], &results[0]["id"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(records(&handle, "location").await.len(), 2);
    fault(&handle, json!({"kind": "http_502"})).await;
    let answer = graphql(
        &handle,
        &token,
        &query("createLocation", "locationNumber"),
        json!({"in": []}),
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (502, Some("text/html; charset=utf-8"))
    );
}

#[tokio::test]
async fn commit_then_timeout_is_found_by_its_reference() {
    let (handle, token) = begin().await;
    fault(&handle, json!({"kind": "commit_then_timeout"})).await;
    let text = query("createLocation", "locationNumber");
    let call = graphql(&handle, &token, &text, json!({"in": [location("lost")]}));
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(300), call)
            .await
            .is_err()
    );
    let text = "query($filter:LocationFilter!){locations(filter:$filter,first:1){edges{node{id}}}}";
    let answer = graphql(
        &handle,
        &token,
        text,
        json!({"filter": {"locationNumbers": ["lost"]}}),
    )
    .await
    .json();
    assert_eq!(
        answer["data"]["locations"]["edges"][0]["node"]["id"],
        "loc_1"
    );
}

#[tokio::test]
async fn sixty_calls_a_minute_token_included() {
    let handle = start(Options::new(Kind::One)).await;
    let token = token(&handle).await;
    for _ in 0..59 {
        let answer = graphql(
            &handle,
            &token,
            "{locations{pageInfo{hasNextPage}}}",
            json!({}),
        )
        .await;
        assert_eq!(answer.status, 200);
    }
    let answer = graphql(
        &handle,
        &token,
        "{locations{pageInfo{hasNextPage}}}",
        json!({}),
    )
    .await;
    assert_eq!(
        (answer.status, answer.json()),
        (429, json!({"error": "rate_limited"}))
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        token_answer(&handle, "one-standin-secret").await.status,
        429
    );
    assert_eq!(stats(&handle).await["limit_violations"], 2);
}
