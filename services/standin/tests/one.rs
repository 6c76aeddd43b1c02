//! What the stand-in for ONE answers.

mod support;

use serde_json::{Value, json};
use sluice_standin::{Handle, Kind, Options};
use support::{Answer, fault, ledger, options, post, records, send, start, stats};

async fn token_answer(handle: &Handle, secret: &str) -> Answer {
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

async fn token(handle: &Handle) -> String {
    let answer = token_answer(handle, "one-standin-secret").await.json();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3600);
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn graphql(handle: &Handle, token: &str, query: &str, variables: Value) -> Answer {
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
async fn mutate(handle: &Handle, token: &str, field: &str, key: &str, items: Value) -> Vec<Value> {
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

fn query(field: &str, key: &str) -> String {
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

fn location(number: &str) -> Value {
    json!({"locationNumber": number, "locationName": "Oak Run", "city": "Elm", "state": "TX", "zipCode": "75001", "status": 1})
}

fn request(number: &str, location: &str) -> Value {
    json!({"referWONum": number, "locationNumber": location, "serviceRequestCategory": "Plumbing", "callTime": "2025-03-04T09:10:02-06:00", "caller": "Dana Poe", "priority": "High"})
}

fn codes(result: &Value) -> Vec<&str> {
    result["validationMessages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect()
}

async fn begin() -> (Handle, String) {
    let handle = start(options(Kind::One)).await;
    let token = token(&handle).await;
    (handle, token)
}

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
async fn the_reference_example_works_and_repeats_are_duplicates() {
    let (handle, token) = begin().await;
    let text = "mutation($in:[CreateLocationInput!]!){createLocation(input:$in){results{index locationNumber id success validationMessages{code field message}}}}";
    let input = json!({"in": [location("oakrun-12-304")]});
    let answer = graphql(&handle, &token, text, input.clone()).await.json();
    assert_eq!(
        answer,
        json!({"data":{"createLocation":{"results":[{"index":0,"locationNumber":"oakrun-12-304","id":"loc_1","success":true,"validationMessages":[]}]}}})
    );
    let answer = graphql(&handle, &token, text, input).await.json();
    assert_eq!(
        answer,
        json!({"data":{"createLocation":{"results":[{"index":0,"locationNumber":"oakrun-12-304","id":null,"success":false,
        "validationMessages":[{"code":"DUPLICATE","field":"locationNumber","message":"already exists"}]}]}}})
    );
    assert_eq!(records(&handle, "location").await.len(), 1);
    let stats = stats(&handle).await;
    assert_eq!(
        (
            &stats["created"],
            &stats["duplicates_refused"],
            &stats["duplicates_created"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn mixed_batches_are_judged_item_by_item() {
    let (handle, token) = begin().await;
    let mut bad = location("bad");
    bad["zipCode"] = json!(" ");
    bad["status"] = json!(2);
    let mut long = location("long");
    long["locationName"] = json!("x".repeat(201));
    let results = mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a"), bad, location("a"), long]),
    )
    .await;
    assert_eq!(results[0]["success"], true);
    assert_eq!(codes(&results[1]), ["REQUIRED", "INVALID"]);
    assert_eq!(codes(&results[2]), ["DUPLICATE"]);
    assert_eq!(codes(&results[3]), ["TOO_LONG"]);

    let results = mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([
            request("r1", "a"),
            request("r2", "nowhere"),
            request("r1", "a")
        ]),
    )
    .await;
    assert_eq!(results[0]["id"], "wo_1");
    assert_eq!(codes(&results[1]), ["LOCATION_NOT_FOUND"]);
    assert_eq!(
        results[1]["validationMessages"][0]["field"],
        "locationNumber"
    );
    assert_eq!(codes(&results[2]), ["DUPLICATE"]);
    let resident = json!({"residentNumber": "t1", "locationNumber": "nowhere", "name": "Dana", "isPrimaryResident": true, "status": 1});
    let results = mutate(
        &handle,
        &token,
        "createResident",
        "residentNumber",
        json!([resident]),
    )
    .await;
    assert_eq!(codes(&results[0]), ["LOCATION_NOT_FOUND"]);
    let mut low = request("r3", "a");
    low["priority"] = json!("Low");
    low["callTime"] = json!("2025-03-04");
    let results = mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([low]),
    )
    .await;
    assert_eq!(codes(&results[0]), ["INVALID", "INVALID"]);

    let results = mutate(&handle, &token, "updateLocation", "locationNumber", json!([{"locationNumber": "a", "district": "North"}, {"locationNumber": "zz", "status": 0}, {"locationNumber": "a", "city": null}, {"locationNumber": "a", "region": "West"}, {"locationNumber": "a", "region": null}])).await;
    assert_eq!(
        (results[0]["success"].clone(), codes(&results[1])),
        (json!(true), vec!["NOT_FOUND"])
    );
    // Null clears a field of a record that is there, but not a needed one.
    assert_eq!(codes(&results[2]), ["REQUIRED"]);
    assert_eq!(
        (&results[3]["success"], &results[4]["success"]),
        (&json!(true), &json!(true))
    );
    let held = records(&handle, "location").await;
    assert_eq!(
        (&held[0]["district"], &held[0]["city"], &held[0]["writes"]),
        (&json!("North"), &json!("Elm"), &json!(4))
    );
    assert!(held[0].get("region").is_none());
    assert_eq!(held[0]["key"], "location:a");
    let keys = &ledger(&handle).await[1]["keys"];
    assert_eq!(
        *keys,
        json!(["location:a", "location:bad", "location:a", "location:long"])
    );
}

#[tokio::test]
async fn results_come_in_any_order() {
    let (handle, token) = begin().await;
    let mut turned = 0;
    for round in 0..6 {
        let items = json!([
            location(&format!("a{round}")),
            location(&format!("b{round}"))
        ]);
        let answer = graphql(
            &handle,
            &token,
            &query("createLocation", "locationNumber"),
            json!({"in": items}),
        )
        .await
        .json();
        turned += u32::from(answer["data"]["createLocation"]["results"][0]["index"] == 1);
    }
    assert_eq!(turned, 2);
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
async fn lists_find_by_keys_and_page_with_cursors() {
    let (handle, token) = begin().await;
    for start in [0, 25] {
        let items: Vec<Value> = (start..start + 25)
            .map(|n| location(&format!("k{n}")))
            .collect();
        mutate(
            &handle,
            &token,
            "createLocation",
            "locationNumber",
            json!(items),
        )
        .await;
    }
    let text = "query($filter:LocationFilter!,$first:Int!,$after:String){locations(filter:$filter,first:$first,after:$after){edges{node{id locationNumber}} pageInfo{hasNextPage endCursor}}}";
    let answer = graphql(
        &handle,
        &token,
        text,
        json!({"filter": {"locationNumbers": ["k3", "none", "k1"]}, "first": 3, "after": null}),
    )
    .await
    .json();
    assert_eq!(
        answer["data"]["locations"]["edges"],
        json!([{"node": {"id": "loc_2", "locationNumber": "k1"}}, {"node": {"id": "loc_4", "locationNumber": "k3"}}])
    );
    assert_eq!(
        answer["data"]["locations"]["pageInfo"],
        json!({"hasNextPage": false, "endCursor": null})
    );

    let mut after = Value::Null;
    let mut seen = Vec::new();
    loop {
        let answer = graphql(
            &handle,
            &token,
            text,
            json!({"filter": {"locationNumbers": []}, "first": 20, "after": after}),
        )
        .await
        .json();
        let page = &answer["data"]["locations"];
        seen.extend(
            page["edges"]
                .as_array()
                .unwrap()
                .iter()
                .map(|edge| edge["node"]["locationNumber"].clone()),
        );
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(
        seen,
        (0..50).map(|n| json!(format!("k{n}"))).collect::<Vec<_>>()
    );
    let later = json!({"filter": {"updatedFrom": "2999-01-01T00:00:00Z", "clientId": "x"}, "first": 5, "after": null});
    let answer = graphql(&handle, &token, text, later).await.json();
    assert_eq!(answer["data"]["locations"]["edges"], json!([]));
    for variables in [
        json!({"filter": {"name": "x"}, "first": 1}),
        json!({"filter": {}, "first": 0}),
        json!({"filter": {}, "first": 1, "after": "x"}),
    ] {
        let answer = graphql(&handle, &token, text, variables).await.json();
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    }
}

#[tokio::test]
async fn files_have_a_size_limit_and_repeated_names_are_numbered() {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let (handle, token) = begin().await;
    mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a")]),
    )
    .await;
    mutate(
        &handle,
        &token,
        "createServiceRequest",
        "referWONum",
        json!([request("r1", "a")]),
    )
    .await;
    let file = |number: &str, order: &str, bytes: &[u8]| json!([{"attachmentNumber": number, "referWONum": order, "fileName": "sink.jpg", "content": encode(bytes)}]);
    let upload = async |items: Value| {
        mutate(
            &handle,
            &token,
            "uploadAttachment",
            "attachmentNumber",
            items,
        )
        .await
        .swap_remove(0)
    };
    let first = upload(file("f1", "r1", b"one")).await;
    assert_eq!(
        (&first["id"], &first["fileName"]),
        (&json!("att_1"), &json!("sink.jpg"))
    );
    assert_eq!(
        upload(file("f2", "r1", b"two")).await["fileName"],
        "sink (2).jpg"
    );
    assert_eq!(
        codes(&upload(file("f1", "r1", b"one")).await),
        ["DUPLICATE"]
    );
    assert_eq!(
        codes(&upload(file("f3", "r9", b"x")).await),
        ["WORK_ORDER_NOT_FOUND"]
    );
    assert_eq!(
        upload(file("f4", "r1", &vec![0; 4_194_304])).await["success"],
        true
    );
    assert_eq!(
        codes(&upload(file("f5", "r1", &vec![0; 4_194_305])).await),
        ["TOO_LARGE"]
    );
    let held = records(&handle, "attachment").await;
    assert_eq!((held.len(), &held[0]["bytes"]), (3, &json!(3)));
    assert_eq!(
        held[0]["sha256"],
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    );
    let huge = vec![b' '; 8 * 1024 * 1024 + 1];
    let answer = send(handle.addr(), "POST", "/graphql", &[], &huge).await;
    assert!(answer.is_none_or(|answer| answer.status == 413));
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

#[tokio::test]
async fn people_edit_their_records() {
    let (handle, token) = begin().await;
    assert_eq!(
        post(&handle, "/_control/edits", &json!({"count": 1}))
            .await
            .status,
        400
    );
    mutate(
        &handle,
        &token,
        "createLocation",
        "locationNumber",
        json!([location("a")]),
    )
    .await;
    let order = json!({"count": 1, "only": ["location.update"]});
    assert_eq!(
        post(&handle, "/_control/edits", &order).await.json()["applied"],
        1
    );
    assert!(records(&handle, "location").await[0]["district"].is_string());
    let order = json!({"count": 1, "only": ["location.delete"]});
    assert_eq!(
        post(&handle, "/_control/edits", &order).await.json()["edits"][0]["key"],
        "location:a"
    );
    assert!(records(&handle, "location").await.is_empty());
}
