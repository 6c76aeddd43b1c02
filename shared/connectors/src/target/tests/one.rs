use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::test_server::{Reply, TestServer};

fn token(seen: &Seen) -> Option<Reply> {
    seen.is("POST", "/oauth/token").then(|| {
        Reply::json(
            200,
            json!({"access_token": format!("{CANARY}-t"), "expires_in": 3600}),
        )
    })
}

/// The first name inside the first brace.
fn root_field(seen: &Seen) -> String {
    let query = seen.json()["query"].as_str().unwrap().to_owned();
    let inner = query.split_once('{').unwrap().1;
    inner.split('(').next().unwrap().to_owned()
}

fn inputs(seen: &Seen) -> Vec<Value> {
    seen.json()["variables"]["in"].as_array().unwrap().clone()
}

fn results(field: &str, results: Vec<Value>) -> Reply {
    Reply::json(200, json!({"data": {field: {"results": results}}}))
}

fn locations(n: usize) -> Vec<PushItem> {
    (0..n)
        .map(|i| {
            item(
                &i.to_string(),
                json!({"locationNumber": format!("yardi:{i}"), "status": 1}),
            )
        })
        .collect()
}

fn all_good(seen: &Seen, key: &str) -> Reply {
    let items = inputs(seen).into_iter().enumerate();
    let items = items.map(|(index, input)| json!({"index": index, key: input[key], "id": "x", "success": true, "validationMessages": []}));
    results(&root_field(seen), items.collect())
}

fn graphql_error(code: &str) -> Reply {
    Reply::json(
        200,
        json!({"data": null, "errors": [{"message": "Dana Poe", "path": ["x"], "extensions": {"code": code}}]}),
    )
}

#[tokio::test]
async fn a_mixed_batch_settles_each_record_on_its_own() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| {
            results(
                "createLocation",
                vec![
                    json!({"index": 2, "success": false, "id": null, "validationMessages": [{"code": "REQUIRED", "field": "city", "message": "Dana Poe"}]}),
                    json!({"index": 0, "success": true, "id": "x1", "locationNumber": "yardi:0", "validationMessages": []}),
                ],
            )
        })
    })
    .await;
    let target = target("one", &server.url());
    let batch = target
        .push(&entity("Location"), PushOperation::Create, locations(3))
        .await;
    assert_eq!(
        short(&batch),
        [
            "created yardi:0",
            "target_error target_result_missing",
            "validation target_refused"
        ]
    );
    let error = batch.results[2].as_ref().unwrap_err();
    assert_eq!(
        error.message(),
        "the target refused the record: REQUIRED on city"
    );
    assert_eq!(error.scope().record.as_deref(), Some("yardi:2"));
    assert_eq!(batch.calls, 2);
    let seen = server.seen();
    assert_eq!(
        String::from_utf8_lossy(&seen[0].body),
        format!("grant_type=client_credentials&client_id=id-1&client_secret={CANARY}")
    );
    assert_eq!(
        seen[1].header("authorization"),
        format!("Bearer {CANARY}-t")
    );
    assert_eq!(
        inputs(&seen[1])[1],
        json!({"locationNumber": "yardi:1", "status": 1})
    );
}

/// A duplicate is linked and updated, not skipped: the newest content must arrive.
#[tokio::test]
async fn duplicates_are_looked_up_linked_and_updated() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| match root_field(seen).as_str() {
            "createServiceRequest" => results(
                "createServiceRequest",
                vec![
                    json!({"index": 0, "success": false, "validationMessages": [{"code": "DUPLICATE", "field": "referWONum"}]}),
                    json!({"index": 1, "success": true, "id": "x1", "referWONum": "yardi:1"}),
                    json!({"index": 2, "success": false, "validationMessages": [{"code": "DUPLICATE", "field": "referWONum"}]}),
                ],
            ),
            "reactiveWorkOrderList" => {
                assert_eq!(seen.json()["variables"]["filter"], json!({"woRefNums": ["yardi:0", "yardi:2"]}));
                Reply::json(200, json!({"data": {"reactiveWorkOrderList": {"edges": [{"node": {"id": "wo_1", "referWONum": "yardi:0"}}]}}}))
            }
            "updateServiceRequest" => all_good(seen, "referWONum"),
            other => panic!("{other}"),
        })
    })
    .await;
    let target = target("one", &server.url());
    let items = (0..3).map(|i| item(&i.to_string(), json!({"referWONum": format!("yardi:{i}")})));
    let batch = target
        .push(
            &entity("ServiceRequest"),
            PushOperation::Create,
            items.collect(),
        )
        .await;
    assert_eq!(
        short(&batch),
        [
            "updated yardi:0",
            "created yardi:1",
            "conflict target_record_not_found_again"
        ]
    );
    assert_eq!(batch.calls, 4);
}

/// One token for all; an expired one is renewed once and the call repeated.
#[tokio::test]
async fn an_expired_token_is_renewed_once_for_everybody() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let counted = tokens.clone();
    let server = TestServer::start(move |seen, _| {
        if seen.is("POST", "/oauth/token") {
            let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(
                200,
                json!({"access_token": format!("t{n}"), "expires_in": 3600}),
            );
        }
        match seen.header("authorization") {
            "Bearer t1" => graphql_error("UNAUTHENTICATED"),
            "Bearer t2" => all_good(seen, "locationNumber"),
            other => panic!("{other}"),
        }
    })
    .await;
    let target = target("one", &server.url());
    let name = entity("Location");
    let pushes = (0..8).map(|_| target.push(&name, PushOperation::Update, locations(2)));
    let batches = futures::future::join_all(pushes).await;
    for batch in &batches {
        assert_eq!(short(batch), ["updated yardi:0", "updated yardi:1"]);
    }
    assert_eq!(tokens.load(Ordering::SeqCst), 2);
    let counted: u32 = batches.iter().map(|batch| batch.calls).sum();
    assert_eq!(counted as usize, server.seen().len());
}

#[tokio::test]
async fn a_token_refused_twice_is_an_operators_work() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| graphql_error("UNAUTHENTICATED"))
    })
    .await;
    let target = target("one", &server.url());
    let batch = target
        .push(&entity("Location"), PushOperation::Create, locations(30))
        .await;
    assert!(
        short(&batch)
            .iter()
            .all(|text| text == "auth target_auth_refused")
    );
    // Two tokens and two tries; the second chunk of the batch is not tried.
    assert_eq!(batch.calls, 4);
}

#[tokio::test]
async fn wrong_credentials_are_auth_and_a_silent_token_endpoint_is_network() {
    let server = TestServer::start(|_, before| match before {
        0 => Reply::json(401, json!({"error": "invalid_client"})),
        _ => Reply::Silence,
    })
    .await;
    let target = target("one", &server.url());
    let name = entity("Location");
    let push = || target.push(&name, PushOperation::Create, locations(1));
    assert_eq!(short(&push().await), ["auth token_refused"]);
    assert_eq!(short(&push().await), ["network token_unavailable"]);
}

#[tokio::test]
async fn failures_of_the_whole_call_reach_every_record_with_their_class() {
    for (reply, class) in [
        (
            Reply::text(502, "<html>Bad Gateway</html>"),
            "target_error target_failed",
        ),
        (
            Reply::text(200, "<html>Welcome</html>"),
            "target_error target_failed",
        ),
        (
            Reply::json(200, json!({"data": null})),
            "target_error target_failed",
        ),
        (
            graphql_error("INTERNAL_SERVER_ERROR"),
            "target_error target_failed",
        ),
        (graphql_error("FORBIDDEN"), "auth target_auth_refused"),
        (Reply::text(301, ""), "config target_misconfigured"),
        (Reply::Silence, "timeout no_answer"),
    ] {
        let reply = std::sync::Mutex::new(Some(reply));
        let server = TestServer::start(move |seen, _| {
            token(seen).unwrap_or_else(|| reply.lock().unwrap().take().unwrap())
        })
        .await;
        let target = target("one", &server.url());
        let batch = target
            .push(&entity("Location"), PushOperation::Create, locations(2))
            .await;
        assert_eq!(short(&batch), [class, class]);
        for result in &batch.results {
            assert!(!result.as_ref().unwrap_err().chain().contains("Dana Poe"));
        }
    }
}

#[tokio::test]
async fn a_rate_limit_carries_its_wait_and_stops_the_rest() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| {
            Reply::json(429, json!({"error": "rate_limited"})).header("retry-after", "77")
        })
    })
    .await;
    let target = target("one", &server.url());
    let batch = target
        .push(&entity("Location"), PushOperation::Create, locations(60))
        .await;
    assert_eq!(batch.calls, 2);
    assert_eq!(batch.results.len(), 60);
    for result in &batch.results {
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.class(), ErrorClass::RateLimit);
        assert_eq!(error.wait(), Some(Duration::from_secs(77)));
    }
}

/// O8: a record that makes the whole call invalid blocks only itself.
#[tokio::test]
async fn a_poison_record_is_found_by_halving() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| {
            if inputs(seen)
                .iter()
                .any(|input| input.get("poison").is_some())
            {
                graphql_error("GRAPHQL_VALIDATION_FAILED")
            } else {
                all_good(seen, "locationNumber")
            }
        })
    })
    .await;
    let target = target("one", &server.url());
    let mut items = locations(25);
    items[13].body["poison"] = json!(true);
    let batch = target
        .push(&entity("Location"), PushOperation::Create, items)
        .await;
    for (index, text) in short(&batch).iter().enumerate() {
        if index == 13 {
            assert_eq!(text, "validation target_refused");
        } else {
            assert_eq!(*text, format!("created yardi:{index}"));
        }
    }
    assert!(batch.calls < 15, "{}", batch.calls);
}

#[tokio::test]
async fn deletes_deactivate_and_a_missing_record_is_deleted() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| {
            assert_eq!(
                inputs(seen),
                [json!({"locationNumber": "L1", "status": 0}), json!({"locationNumber": "L2", "status": 0})]
            );
            results(
                "updateLocation",
                vec![
                    json!({"index": 0, "success": true, "id": "x1", "locationNumber": "L1"}),
                    json!({"index": 1, "success": false, "validationMessages": [{"code": "NOT_FOUND", "field": "locationNumber"}]}),
                ],
            )
        })
    })
    .await;
    let target = target("one", &server.url());
    let items = vec![known("1", "L1", json!({})), known("2", "L2", json!({}))];
    let batch = target
        .push(&entity("Location"), PushOperation::Delete, items)
        .await;
    assert_eq!(short(&batch), ["deleted L1", "deleted L2"]);
    let files = vec![known("9", "att_5", json!({}))];
    let batch = target
        .push(&entity("Attachment"), PushOperation::Delete, files)
        .await;
    assert_eq!(short(&batch), ["skipped att_5"]);
    assert_eq!(batch.calls, 0);
}

#[tokio::test]
async fn large_contents_are_refused_before_sending() {
    let server = TestServer::start(|seen, _| {
        token(seen).unwrap_or_else(|| {
            results(
                "uploadAttachment",
                vec![json!({"index": 0, "success": true, "id": "att_5"})],
            )
        })
    })
    .await;
    let target = target("one", &server.url());
    let file = |bytes: usize| {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(vec![7_u8; bytes]);
        item(
            "f",
            json!({"attachmentNumber": "yardi:f", "content": content}),
        )
    };
    for (bytes, expected, calls) in [
        (4_194_304, "created att_5", 2),
        (4_194_305, "validation attachment_too_large", 0),
    ] {
        let batch = target
            .push(
                &entity("Attachment"),
                PushOperation::Create,
                vec![file(bytes)],
            )
            .await;
        assert_eq!(short(&batch), [expected]);
        assert_eq!(batch.calls, calls);
    }
}

/// O1: only a complete answer may say that a record does not exist.
#[tokio::test]
async fn a_lookup_never_mistakes_a_failure_for_absence() {
    let server = TestServer::start(|seen, before| {
        let edge = json!({"node": {"id": "wo_1", "referWONum": "yardi:b"}});
        token(seen).unwrap_or_else(|| match before {
            1 => Reply::json(200, json!({"data": {"reactiveWorkOrderList": {"edges": [edge]}}})),
            2 => Reply::json(200, json!({"data": {"reactiveWorkOrderList": {"edges": []}}, "errors": [{"extensions": {"code": "INTERNAL_SERVER_ERROR"}}]})),
            3 => Reply::json(200, json!({"data": {"reactiveWorkOrderList": null}})),
            _ => Reply::text(404, "no such route"),
        })
    })
    .await;
    let target = target("one", &server.url());
    let ids = ["yardi:a".to_owned(), "yardi:b".to_owned()];
    let (found, calls) = target.lookup(&entity("ServiceRequest"), &ids).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let expected = Found {
        external_id: "yardi:b".to_owned(),
    };
    assert_eq!(found, [None, Some(expected)]);
    assert_eq!(calls, 2);
    for _ in 0..3 {
        let (found, calls) = target.lookup(&entity("ServiceRequest"), &ids).await;
        assert!(found.iter().all(Result::is_err), "{found:?}");
        assert_eq!(calls, 1);
    }
}

#[tokio::test]
async fn check_needs_a_real_answer() {
    let server = TestServer::start(|seen, before| {
        token(seen).unwrap_or_else(|| match before {
            1 => Reply::json(200, json!({"data": {"locations": {"edges": []}}})),
            _ => Reply::text(200, "<html>"),
        })
    })
    .await;
    let target = target("one", &server.url());
    target.check().await.unwrap();
    assert_eq!(
        target.check().await.unwrap_err().class(),
        ErrorClass::TargetError
    );
}
