//! Lessen360 as a client calls it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_standin::{Handle, Kind};

use super::{Answer, options, send, start};

pub const APP: &str = "sluice-app";
pub const SECRET: &str = "lessen360-standin-secret";

/// The documented signature, written anew.
pub fn authorization(
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

pub fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

pub fn unix() -> i64 {
    chrono::Utc::now().timestamp()
}

pub async fn signed(
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

pub async fn call(handle: &Handle, method: &str, path: &str, body: Value) -> Answer {
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

pub async fn keyed(handle: &Handle, key: &str, path: &str, body: &Value) -> Answer {
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

pub fn property(external: &str) -> Value {
    json!({"externalId": external, "kind": "property", "name": "Oak Run", "active": true, "source": {"system": "Yardi", "id": external, "version": 1}})
}

pub fn order(external: &str, property: &str) -> Value {
    json!({"externalId": external, "propertyId": property, "trade": "Plumbing", "priority": "Urgent", "summary": "Sink",
        "resident": {"name": "Dana Poe"}, "dueAt": "2025-03-07T17:00:00Z", "source": {"system": "Yardi", "id": "51877", "version": 3}})
}

pub async fn begin() -> Handle {
    start(options(Kind::Lessen360)).await
}
