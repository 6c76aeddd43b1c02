//! What the stand-in for Lessen360 answers and sends.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_standin::{Handle, Kind, Options};
use support::{Answer, fault, ledger, options, post, records, send, start, stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const APP: &str = "sluice-app";
const SECRET: &str = "lessen360-standin-secret";

/// The documented signature, written anew.
fn authorization(
    secret: &str,
    method: &str,
    url: &str,
    body: &[u8],
    nonce: &str,
    at: i64,
) -> String {
    let message = format!(
        "{APP}{method}{url}{at}{nonce}{}",
        hex::encode(Sha256::digest(body))
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    format!(
        "HMAC {APP}:{}:{nonce}:{at}",
        STANDARD.encode(mac.finalize().into_bytes())
    )
}

fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn unix() -> i64 {
    chrono::Utc::now().timestamp()
}

async fn signed(
    handle: &Handle,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let url = format!("{}{path}", handle.url());
    let authorization = authorization(SECRET, method, &url, body, &nonce(), unix());
    let mut headers = vec![("Authorization", authorization.as_str())];
    headers.extend(more);
    send(handle.addr(), method, path, &headers, body).await
}

async fn call(handle: &Handle, method: &str, path: &str, body: Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    signed(
        handle,
        method,
        path,
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
    .await
    .unwrap()
}

async fn keyed(handle: &Handle, key: &str, path: &str, body: &Value) -> Answer {
    signed(
        handle,
        "POST",
        path,
        &[("Idempotency-Key", key)],
        body.to_string().as_bytes(),
    )
    .await
    .unwrap()
}

fn property(external: &str) -> Value {
    json!({"externalId": external, "kind": "property", "name": "Oak Run", "active": true, "source": {"system": "Yardi", "id": external, "version": 1}})
}

fn order(external: &str, property: &str) -> Value {
    json!({"externalId": external, "propertyId": property, "trade": "Plumbing", "priority": "Urgent", "summary": "Sink",
        "resident": {"name": "Dana Poe"}, "dueAt": "2025-03-07T17:00:00Z", "source": {"system": "Yardi", "id": "51877", "version": 3}})
}

async fn begin() -> Handle {
    start(options(Kind::Lessen360)).await
}

#[tokio::test]
async fn signatures_are_checked() {
    let handle = begin().await;
    let path = "/v1/properties?externalId=a%3Ab";
    let url = format!("{}{path}", handle.url());
    let get = async |authorization: &str| {
        let answer = send(
            handle.addr(),
            "GET",
            path,
            &[("Authorization", authorization)],
            b"",
        )
        .await
        .unwrap();
        (
            answer.status,
            answer.json()["error"]["code"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
        )
    };
    let once = nonce();
    let good = authorization(SECRET, "GET", &url, b"", &once, unix());
    assert_eq!(get(&good).await, (200, String::new()));
    assert_eq!(get(&good).await, (401, "nonce_reused".into()));
    assert_eq!(
        get(&authorization("wrong", "GET", &url, b"", &nonce(), unix())).await,
        (401, "bad_signature".into())
    );
    assert_eq!(
        get(&authorization(
            SECRET,
            "GET",
            &handle.url(),
            b"",
            &nonce(),
            unix()
        ))
        .await,
        (401, "bad_signature".into())
    );
    assert_eq!(
        get(&authorization(
            SECRET,
            "GET",
            &url,
            b"",
            &nonce(),
            unix() - 400
        ))
        .await,
        (401, "clock_skew".into())
    );
    assert_eq!(
        get(&authorization(SECRET, "GET", &url, b"", &nonce(), unix()).replace(APP, "other")).await,
        (401, "unknown_app".into())
    );
    assert_eq!(get("Bearer x").await, (401, "bad_signature".into()));
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

#[tokio::test]
async fn thirty_calls_a_minute() {
    let handle = start(Options::new(Kind::Lessen360)).await;
    for _ in 0..30 {
        assert_eq!(
            call(&handle, "GET", "/v1/trades", Value::Null).await.status,
            200
        );
    }
    let answer = call(&handle, "GET", "/v1/trades", Value::Null).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].clone()),
        (429, json!("rate_limited"))
    );
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            <= 60
    );
}

/// Takes `count` webhooks and answers each with 200.
async fn receiver(count: usize) -> (String, tokio::task::JoinHandle<Vec<(String, Vec<u8>)>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks?x=1", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < count {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut raw = Vec::new();
            loop {
                let mut block = [0; 4096];
                let read = stream.read(&mut block).await.unwrap();
                raw.extend_from_slice(&block[..read]);
                let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") else {
                    continue;
                };
                let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
                let length: usize = head
                    .split("content-length: ")
                    .nth(1)
                    .unwrap()
                    .split("\r\n")
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                if raw.len() >= end + 4 + length {
                    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
                    seen.push((head, raw[end + 4..].to_vec()));
                    break;
                }
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
        }
        seen
    });
    (url, task)
}

#[tokio::test]
async fn webhooks_are_sent_in_every_mode() {
    let handle = begin().await;
    call(&handle, "POST", "/v1/properties", property("y:a")).await;
    call(&handle, "POST", "/v1/work-orders", order("y:1", "p_1")).await;
    let key = STANDARD.encode([7; 32]);
    for (mode, sent) in [
        ("ok", 4),
        ("wrong_signature", 4),
        ("no_signature", 4),
        ("repeat", 8),
        ("out_of_order", 4),
        ("gaps", 2),
        ("unknown_type", 4),
    ] {
        let (url, task) = receiver(sent).await;
        let wanted =
            json!({"url": url, "count": 4, "mode": mode, "secret": format!("whsec_{key}")});
        let answer = post(&handle, "/_control/webhooks", &wanted).await.json();
        assert!(
            answer["sent"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["status"] == 200),
            "{answer}"
        );
        let seen = task.await.unwrap();
        let bodies: Vec<Value> = seen
            .iter()
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect();
        let versions: Vec<u64> = bodies
            .iter()
            .map(|one| one["data"]["version"].as_u64().unwrap())
            .collect();
        assert!(bodies.iter().all(|one| one["data"]["externalId"] == "y:1"));
        assert_eq!(
            versions.is_sorted(),
            mode != "out_of_order",
            "{mode} {versions:?}"
        );
        assert_eq!(
            bodies[0]["type"] == "work_order.status_changed",
            mode != "unknown_type"
        );
        let ids: std::collections::BTreeSet<&str> = bodies
            .iter()
            .map(|one| one["eventId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), if mode == "repeat" { sent / 2 } else { sent });

        let (head, body) = &seen[0];
        let header = |name: &str| {
            head.split("\r\n").find_map(|line| {
                line.split_once(": ")
                    .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
            })
        };
        let Some(given) = header("authorization") else {
            assert_eq!(mode, "no_signature");
            continue;
        };
        let parts: Vec<&str> = given.split(':').collect();
        let right = authorization(
            SECRET,
            "POST",
            &url,
            body,
            parts[2],
            parts[3].parse().unwrap(),
        );
        assert_eq!(given == right, mode != "wrong_signature");
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(
            format!(
                "{}.{}.",
                header("webhook-id").unwrap(),
                header("webhook-timestamp").unwrap()
            )
            .as_bytes(),
        );
        mac.update(body);
        let right = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(
            header("webhook-signature").unwrap() == right,
            mode != "wrong_signature"
        );
    }
    assert_eq!(
        post(
            &handle,
            "/_control/webhooks",
            &json!({"url": "http://127.0.0.1:1/"})
        )
        .await
        .json()["sent"][0]["status"],
        0
    );
}
