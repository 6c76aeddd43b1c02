//! Webhooks as a vendor would deliver them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use sha2::Sha256;

use super::{ORGANIZATION, WEBHOOK_SECRET};

/// A delivery to the source connection.
pub struct Delivery<'a> {
    pub id: &'a str,
    pub stream: &'a str,
    pub content_type: &'a str,
    pub secret: &'a str,
    pub body: Vec<u8>,
}

impl<'a> Delivery<'a> {
    /// A property as JSON, signed as agreed.
    pub fn new(id: &'a str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            id,
            stream: "properties",
            content_type: "application/json",
            secret: WEBHOOK_SECRET,
            body: body.into(),
        }
    }

    /// The request, signed now.
    pub fn to(self, http: &reqwest::Client, api: &str) -> RequestBuilder {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (id, stamp) = (self.id, now.as_secs().to_string());
        let secret = self.secret.strip_prefix("whsec_").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret).unwrap()).unwrap();
        mac.update(format!("{id}.{stamp}.").as_bytes());
        mac.update(&self.body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let stream = self.stream;
        http.post(format!("{api}/webhooks/{ORGANIZATION}/yardi/{stream}"))
            .header("content-type", self.content_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", stamp)
            .header("webhook-signature", signature)
            .body(self.body)
    }
}
