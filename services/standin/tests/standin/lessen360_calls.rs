//! How Lessen360 believes its callers, and what it sends by itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sluice_standin::{Kind, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::lessen360::{
    APP, SECRET, authorization, begin, call, nonce, order, property, unix,
};
use crate::support::{post, send, start};

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
