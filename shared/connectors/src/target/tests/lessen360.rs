use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    http::Terms,
    test_server::{Reply, TestServer},
};

/// Verifies as the other side would, from what arrived.
fn assert_signed(seen: &Seen) {
    use hmac::{KeyInit as _, Mac as _};
    let (scheme, rest) = seen.header("authorization").split_once(' ').unwrap();
    let parts: Vec<_> = rest.split(':').collect();
    let [app, signature, nonce, timestamp] = parts[..] else {
        panic!("{rest}")
    };
    assert_eq!((scheme, app, nonce.len()), ("HMAC", "app-1", 32));
    let message = format!(
        "app-1{}http://{}{}{timestamp}{nonce}{}",
        seen.method,
        seen.header("host"),
        seen.path_and_query,
        hex::encode(Sha256::digest(&seen.body))
    );
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(CANARY.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(signature, expected);
}

fn error(code: &str) -> Value {
    json!({"error": {"code": code, "message": "Dana Poe"}})
}

#[tokio::test]
async fn creates_are_signed_idempotent_and_sent_one_by_one() {
    let server = TestServer::start(|seen, before| {
        assert_signed(seen);
        assert!(seen.is("POST", "/v1/properties"));
        match before {
            0 => Reply::json(201, json!({"id": "p_81", "version": 1})),
            1 => Reply::json(
                422,
                json!({"error": {"code": "validation_failed", "fields": [{"path": "parentId", "reason": "unknown"}]}}),
            ),
            _ => Reply::json(
                422,
                json!({"error": {"code": "validation_failed", "fields": [{"path": "name", "reason": "required"}]}}),
            ),
        }
    })
    .await;
    let target = target("lessen360", &server.url());
    assert_eq!(
        target.batch_size(&entity("Location"), PushOperation::Create),
        1
    );
    let body = json!({"externalId": "yardi:a", "details": {"x": null}, "zip": "00123"});
    let items = vec![
        item("a", body.clone()),
        item("b", json!({})),
        item("c", json!({})),
    ];
    let batch = target
        .push(&entity("Location"), PushOperation::Create, items)
        .await;
    assert_eq!(
        short(&batch),
        [
            "created p_81",
            "validation target_parent_missing",
            "validation target_refused"
        ]
    );
    assert_eq!(batch.calls, 3);
    let seen = server.seen();
    assert_eq!(seen[0].json(), body, "bodies arrive as they are");
    assert_eq!(seen[0].header("idempotency-key"), "key-a");
    let nonces: std::collections::BTreeSet<_> = seen
        .iter()
        .map(|seen| seen.header("authorization").to_owned())
        .collect();
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn a_taken_external_id_is_linked_and_updated_with_a_key_of_its_own() {
    let server = TestServer::start(|seen, _| {
        assert_signed(seen);
        if seen.is("POST", "/v1/residents") {
            let mut body = error("duplicate_external_id");
            body["error"]["existingId"] = json!("r/1 ?");
            return Reply::json(409, body);
        }
        // The id is one segment, whatever is in it.
        assert!(seen.is("PATCH", "/v1/residents/r%2F1%20%3F"), "{seen:?}");
        Reply::json(200, json!({"id": "r/1 ?"}))
    })
    .await;
    let target = target("lessen360", &server.url());
    let batch = target
        .push(
            &entity("Resident"),
            PushOperation::Create,
            vec![item("r", json!({"name": "n"}))],
        )
        .await;
    assert_eq!(short(&batch), ["updated r/1 ?"]);
    assert_eq!(batch.calls, 2);
    let keys: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(keys, ["key-r", "key-r-link"]);
}

#[tokio::test]
async fn statuses_have_their_classes() {
    for (operation, status, body, expected) in [
        (
            PushOperation::Update,
            404,
            error("not_found"),
            "not_found target_record_missing",
        ),
        (
            PushOperation::Update,
            409,
            error("version_conflict"),
            "conflict target_conflict",
        ),
        (
            PushOperation::Update,
            401,
            error("clock_skew"),
            "auth target_auth_refused",
        ),
        (
            PushOperation::Update,
            413,
            error("too_large"),
            "validation target_refused",
        ),
        (
            PushOperation::Update,
            503,
            error("internal"),
            "target_error target_failed",
        ),
        (
            PushOperation::Update,
            422,
            error("idempotency_key_reused"),
            "validation target_refused",
        ),
        (
            PushOperation::Delete,
            404,
            error("not_found"),
            "deleted p_1",
        ),
        (
            PushOperation::Delete,
            404,
            json!({"error": "no route"}),
            "target_error target_not_found_unproven",
        ),
        (PushOperation::Delete, 204, json!(null), "deleted p_1"),
    ] {
        let server = TestServer::start(move |_, _| match status {
            204 => Reply::text(204, ""),
            _ => Reply::json(status, body.clone())
                .header("retry-after", "9")
                .header("x-request-id", "8f14e45f-ea1c"),
        })
        .await;
        let target = target("lessen360", &server.url());
        let items = vec![known("p", "p_1", json!({"name": "n"}))];
        let batch = target.push(&entity("Location"), operation, items).await;
        assert_eq!(short(&batch), [expected]);
        if let Err(error) = &batch.results[0] {
            let wait = (status == 503).then(|| Duration::from_secs(9));
            assert_eq!(error.wait(), wait);
            assert!(error.chain().contains("8f14e45f-ea1c"), "{error}");
            assert!(!error.chain().contains("Dana Poe"));
        }
    }
}

#[tokio::test]
async fn attachments_are_signed_multipart_forms() {
    let server = TestServer::start(|seen, _| {
        assert_signed(seen);
        assert!(seen.is("POST", "/v1/work-orders/wo_1/attachments"));
        Reply::json(201, json!({"id": "a_3"}))
    })
    .await;
    let target = target("lessen360", &server.url());
    let body = json!({"externalId": "yardi:f", "workOrderId": "wo_1", "fileName": "leak \"1\".png",
                      "contentType": "image/png", "content": "AAECAw=="});
    let batch = target
        .push(
            &entity("Attachment"),
            PushOperation::Create,
            vec![item("f", body.clone())],
        )
        .await;
    assert_eq!(short(&batch), ["created a_3"]);
    let seen = server.seen().remove(0);
    let boundary = seen
        .header("content-type")
        .split_once("boundary=")
        .unwrap()
        .1;
    let mut expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n\
         {{\"externalId\":\"yardi:f\",\"fileName\":\"leak \\\"1\\\".png\"}}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"leak %221%22.png\"\r\nContent-Type: image/png\r\n\r\n"
    )
    .into_bytes();
    expected.extend([0, 1, 2, 3]);
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    assert_eq!(seen.body, expected);
    let mut broken = body;
    broken["content"] = json!("not base64!");
    let batch = target
        .push(
            &entity("Attachment"),
            PushOperation::Create,
            vec![item("f", broken)],
        )
        .await;
    assert_eq!(short(&batch), ["validation outgoing_field_unfit"]);
    assert_eq!(batch.calls, 0);
}

#[tokio::test]
async fn lookups_ask_for_many_references_at_once() {
    let server = TestServer::start(|seen, _| {
        assert_signed(seen);
        assert!(
            seen.is("GET", "/v1/properties?externalId=yardi%3Aa%2F1&externalId=yardi%3Ab+%26c&limit=100"),
            "{seen:?}"
        );
        Reply::json(
            200,
            json!({"data": [{"id": "p_2", "externalId": "yardi:b &c"}, {"id": "p_3", "externalId": "yardi:b &c"}], "nextCursor": null}),
        )
    })
    .await;
    let target = target("lessen360", &server.url());
    let ids = ["yardi:a/1".to_owned(), "yardi:b &c".to_owned()];
    let (found, _) = target.lookup(&entity("Location"), &ids).await;
    assert_eq!(*found[0].as_ref().unwrap(), None);
    let error = found[1].as_ref().unwrap_err();
    assert_eq!(error.code(), "target_reference_ambiguous");
}

/// Ids that would change which resource is meant are never sent.
#[tokio::test]
async fn ids_cannot_change_the_path() {
    let server = TestServer::start(|_, _| Reply::text(204, "")).await;
    let target = target("lessen360", &server.url());
    for id in ["..", ".", ""] {
        let items = vec![known("p", id, json!({}))];
        let batch = target
            .push(&entity("Location"), PushOperation::Delete, items)
            .await;
        assert_eq!(short(&batch), ["validation outgoing_field_unfit"]);
    }
    assert!(server.seen().is_empty());
}

/// What a limit, a pause or the breaker holds back was no call, and is not counted as one.
#[tokio::test]
async fn calls_held_back_are_not_counted() {
    let server = TestServer::start(|_, _| Reply::json(500, error("internal"))).await;
    let target = target("lessen360", &server.url());
    target.http.limiter().pause(Duration::from_secs(3_600));
    let terms = Terms {
        urgent: false,
        begin_by: Some(tokio::time::Instant::now()),
        ..Terms::default()
    };
    let batch = terms
        .hold(target.push(
            &entity("Location"),
            PushOperation::Create,
            vec![item("a", json!({}))],
        ))
        .await;
    assert_eq!(short(&batch), ["rate_limit no_slot_in_time"]);
    assert_eq!(batch.calls, 0);
    assert!(server.seen().is_empty());
}
