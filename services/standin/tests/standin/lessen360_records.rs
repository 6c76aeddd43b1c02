//! What Lessen360 does with records.

use serde_json::{Value, json};

use crate::support::lessen360::{begin, call, keyed, order, property, signed};
use crate::support::{fault, ledger, records, stats};

fn form(boundary: &str, metadata: &Value, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"sink.jpg\"\r\nContent-Type: {kind}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

#[tokio::test]
async fn create_change_delete_and_revive() {
    let handle = begin().await;
    let created = call(&handle, "POST", "/v1/properties", property("y:a")).await;
    assert_eq!(created.status, 201);
    let created = created.json();
    assert_eq!(
        (&created["id"], &created["version"], &created["status"]),
        (&json!("p_1"), &json!(1), &json!("ACTIVE"))
    );
    let again = call(&handle, "POST", "/v1/properties", property("y:a")).await;
    assert_eq!(
        (again.status, again.json()["error"]["existingId"].clone()),
        (409, json!("p_1"))
    );
    assert_eq!(again.json()["error"]["code"], "duplicate_external_id");

    let source = |version: u64| json!({"system": "Yardi", "id": "y:a", "version": version});
    let changed = call(
        &handle,
        "PATCH",
        "/v1/properties/p_1",
        json!({"name": "New", "source": source(5)}),
    )
    .await;
    assert_eq!(
        (changed.status, changed.json()["version"].clone()),
        (200, json!(2))
    );
    let old = call(
        &handle,
        "PATCH",
        "/v1/properties/p_1",
        json!({"name": "Old", "source": source(4)}),
    )
    .await;
    assert_eq!(
        (
            old.status,
            old.json()["error"]["code"].clone(),
            old.json()["error"]["currentVersion"].clone()
        ),
        (409, json!("version_conflict"), json!(5))
    );
    let same = call(
        &handle,
        "PATCH",
        "/v1/properties/p_1",
        json!({"name": "Newer", "source": source(5)}),
    )
    .await;
    assert_eq!(same.status, 200);
    let single = call(&handle, "GET", "/v1/properties/p_1", Value::Null)
        .await
        .json();
    assert_eq!(
        (&single["name"], &single["kind"]),
        (&json!("Newer"), &json!("property"))
    );

    for _ in 0..2 {
        let gone = call(&handle, "DELETE", "/v1/properties/p_1", Value::Null).await;
        assert_eq!((gone.status, gone.body.len()), (204, 0));
    }
    assert_eq!(records(&handle, "property").await[0]["active"], false);
    assert_eq!(
        call(&handle, "POST", "/v1/properties", property("y:a"))
            .await
            .status,
        409
    );
    let revived = call(
        &handle,
        "PATCH",
        "/v1/properties/p_1",
        json!({"active": true, "source": source(6)}),
    )
    .await;
    assert_eq!(revived.json()["status"], "ACTIVE");
    for (method, path) in [
        ("PATCH", "/v1/properties/p_9"),
        ("DELETE", "/v1/residents/r_9"),
        ("GET", "/v1/work-orders/wo_9"),
        ("GET", "/v1/what"),
    ] {
        let body = if method == "PATCH" {
            json!({"source": source(1)})
        } else {
            Value::Null
        };
        let answer = call(&handle, method, path, body).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].clone()),
            (404, json!("not_found")),
            "{path}"
        );
    }
    let stats = stats(&handle).await;
    assert_eq!(
        [
            &stats["created"],
            &stats["updated"],
            &stats["deleted"],
            &stats["duplicates_refused"]
        ],
        [&json!(1), &json!(3), &json!(1), &json!(2)]
    );
}

#[tokio::test]
async fn fields_and_dependencies_are_validated() {
    let handle = begin().await;
    let reasons = async |method: &str, path: &str, body: Value| {
        let answer = call(&handle, method, path, body).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "validation_failed");
        answer.json()["error"]["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                format!(
                    "{} {}",
                    field["path"].as_str().unwrap(),
                    field["reason"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reasons("POST", "/v1/work-orders", order("y:1", "p_81")).await,
        ["propertyId unknown"]
    );
    let mut unit = property("y:u");
    unit["kind"] = json!("unit");
    unit["parentId"] = json!("p_7");
    assert_eq!(
        reasons("POST", "/v1/properties", unit).await,
        ["parentId unknown"]
    );
    call(&handle, "POST", "/v1/properties", property("y:a")).await;
    let mut bad = order("y:1", "p_1");
    bad["priority"] = json!("Med");
    bad["dueAt"] = json!("2025-03-07");
    bad["colour"] = json!(1);
    bad["status"] = json!("SCHEDULED");
    bad["summary"] = json!("x".repeat(201));
    bad["source"] = json!({"system": "Yardi", "id": "1"});
    assert_eq!(
        reasons("POST", "/v1/work-orders", bad).await,
        [
            "colour unknown",
            "priority invalid",
            "summary too_long",
            "dueAt invalid",
            "source.version required",
            "status invalid"
        ]
    );
    assert_eq!(
        reasons("PATCH", "/v1/properties/p_1", json!({"name": "x"})).await,
        ["source required"]
    );
    assert_eq!(
        call(&handle, "POST", "/v1/properties", json!([1]))
            .await
            .status,
        400
    );

    call(&handle, "POST", "/v1/work-orders", order("y:1", "p_1")).await;
    let cancelled = call(
        &handle,
        "PATCH",
        "/v1/work-orders/wo_1",
        json!({"status": "CANCELLED"}),
    )
    .await;
    assert_eq!(
        (cancelled.status, cancelled.json()["status"].clone()),
        (200, json!("CANCELLED"))
    );
    assert_eq!(
        call(&handle, "DELETE", "/v1/work-orders/wo_1", Value::Null)
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn a_lost_answer_is_repeated_by_its_idempotency_key() {
    let handle = begin().await;
    fault(&handle, json!({"kind": "commit_then_reset"})).await;
    let body = property("y:a");
    let lost = signed(
        &handle,
        "POST",
        "/v1/properties",
        &[("Idempotency-Key", "k1")],
        body.to_string().as_bytes(),
    )
    .await;
    assert!(lost.is_none());
    let answer = keyed(&handle, "k1", "/v1/properties", &body).await;
    assert_eq!(
        (answer.status, answer.header("idempotent-replayed")),
        (201, Some("true"))
    );
    assert_eq!(answer.json()["id"], "p_1");
    let other = keyed(&handle, "k1", "/v1/properties", &property("y:b")).await;
    assert_eq!(
        (other.status, other.json()["error"]["code"].clone()),
        (422, json!("idempotency_key_reused"))
    );
    // A refusal is remembered as well, a limit or fault is not.
    let refused = keyed(&handle, "k2", "/v1/work-orders", &order("y:1", "p_9")).await;
    let again = keyed(&handle, "k2", "/v1/work-orders", &order("y:1", "p_9")).await;
    assert_eq!(
        (
            refused.status,
            again.status,
            again.header("idempotent-replayed")
        ),
        (422, 422, Some("true"))
    );
    fault(&handle, json!({"kind": "http_500_fault"})).await;
    let failed = keyed(&handle, "k3", "/v1/work-orders", &order("y:1", "p_1")).await;
    assert_eq!(failed.status, 500);
    assert!(failed.header("x-request-id").is_some());
    assert_eq!(
        keyed(&handle, "k3", "/v1/work-orders", &order("y:1", "p_1"))
            .await
            .status,
        201
    );
    assert_eq!(records(&handle, "property").await.len(), 1);
    assert_eq!(stats(&handle).await["replays"], 2);
    let entries = ledger(&handle).await;
    assert_eq!(
        (&entries[0]["idempotency_key"], &entries[0]["keys"]),
        (&json!("k1"), &json!(["property:y:a"]))
    );
}

#[tokio::test]
async fn lists_filter_page_and_their_cursors_expire() {
    let handle = begin().await;
    for n in 0..5 {
        call(
            &handle,
            "POST",
            "/v1/properties",
            property(&format!("y:{n}")),
        )
        .await;
    }
    let ids = |answer: &Value| {
        answer["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let found = call(
        &handle,
        "GET",
        "/v1/properties?externalId=y%3A3&externalId=y%3A1&externalId=none",
        Value::Null,
    )
    .await
    .json();
    assert_eq!(ids(&found), ["p_2", "p_4"]);
    assert_eq!(found["data"][0]["externalId"], "y:1");
    let first = call(&handle, "GET", "/v1/properties?limit=3", Value::Null)
        .await
        .json();
    assert_eq!(ids(&first), ["p_1", "p_2", "p_3"]);
    let next = format!(
        "/v1/properties?limit=3&cursor={}",
        first["nextCursor"].as_str().unwrap()
    );
    let second = call(&handle, "GET", &next, Value::Null).await.json();
    assert_eq!(
        (ids(&second), &second["nextCursor"]),
        (vec!["p_4".to_owned(), "p_5".to_owned()], &Value::Null)
    );
    fault(&handle, json!({"kind": "cursor_expiry"})).await;
    let expired = call(&handle, "GET", &next, Value::Null).await;
    assert_eq!(
        (expired.status, expired.json()["error"]["code"].clone()),
        (400, json!("cursor_expired"))
    );
    let since = call(
        &handle,
        "GET",
        "/v1/properties?updatedSince=2999-01-01T00%3A00%3A00Z",
        Value::Null,
    )
    .await
    .json();
    assert_eq!(since["data"], json!([]));
    for query in [
        "limit=101",
        "limit=0",
        "cursor=x",
        "updatedSince=x",
        "what=1",
    ] {
        assert_eq!(
            call(
                &handle,
                "GET",
                &format!("/v1/properties?{query}"),
                Value::Null
            )
            .await
            .status,
            400,
            "{query}"
        );
    }
    let trades = call(&handle, "GET", "/v1/trades?limit=1", Value::Null)
        .await
        .json();
    assert!(
        trades["data"]
            .as_array()
            .unwrap()
            .contains(&json!({"id": "Plumbing"}))
    );
}

#[tokio::test]
async fn files_are_taken_and_refused() {
    let handle = begin().await;
    call(&handle, "POST", "/v1/properties", property("y:a")).await;
    call(&handle, "POST", "/v1/work-orders", order("y:1", "p_1")).await;
    let path = "/v1/work-orders/wo_1/attachments";
    let upload = async |path: &str, boundary: &str, external: &str, kind: &str, bytes: &[u8]| {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let metadata = json!({"externalId": external, "fileName": "sink.jpg"});
        let headers = [
            ("Content-Type", content_type.as_str()),
            ("Idempotency-Key", external),
        ];
        signed(
            &handle,
            "POST",
            path,
            &headers,
            &form(boundary, &metadata, kind, bytes),
        )
        .await
        .unwrap()
    };
    let stored = upload(path, "aaa", "f1", "image/jpeg", b"one").await;
    assert_eq!(
        (
            stored.status,
            stored.json()["id"].clone(),
            stored.json()["status"].clone()
        ),
        (201, json!("a_1"), json!("STORED"))
    );
    // Another boundary is still the same request.
    let again = upload(path, "bbb", "f1", "image/jpeg", b"one").await;
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (201, Some("true"))
    );
    assert_eq!(
        upload(path, "a", "f2", "image/png", &vec![1; 10 * 1024 * 1024])
            .await
            .status,
        201
    );
    assert_eq!(
        upload(path, "a", "f3", "image/png", &vec![1; 10 * 1024 * 1024 + 1])
            .await
            .status,
        413
    );
    let refused = upload(path, "a", "f4", "application/zip", b"x").await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].clone()),
        (415, json!("unsupported_type"))
    );
    assert_eq!(
        upload(
            "/v1/work-orders/wo_9/attachments",
            "a",
            "f5",
            "image/png",
            b"x"
        )
        .await
        .status,
        404
    );
    assert_eq!(
        signed(&handle, "POST", path, &[], b"no form")
            .await
            .unwrap()
            .status,
        400
    );
    let list = call(&handle, "GET", "/v1/attachments?externalId=f1", Value::Null)
        .await
        .json();
    assert_eq!(
        (
            &list["data"][0]["workOrderId"],
            &list["data"][0]["fileName"],
            &list["data"][0]["bytes"]
        ),
        (&json!("wo_1"), &json!("sink.jpg"), &json!(3))
    );
    assert_eq!(
        call(&handle, "DELETE", "/v1/attachments/a_1", Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        call(&handle, "DELETE", "/v1/attachments/a_1", Value::Null)
            .await
            .status,
        404
    );
}
