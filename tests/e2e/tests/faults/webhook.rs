//! A sender of webhooks that delivers again until it hears that the payload arrived (I1, I2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    harness::{ORGANIZATION, WEBHOOK_SECRET},
    world::{Backend, World},
};

/// The field that marks a property as gone, for the mapping rules of this suite.
pub const DELETED: &str = "Deleted";

/// What a webhook says, the same at each delivery.
pub struct Hook {
    id: String,
    property: Value,
}

impl Hook {
    /// There is a property of this code.
    pub fn new(code: &str) -> Self {
        Self {
            id: code.to_owned(),
            property: json!({
                "Code": code, "MarketingName": format!("Court of {code}"), "AddressLine1": "1 Main St",
                "City": "Springfield", "State": "IL", "PostalCode": "62701",
            }),
        }
    }

    /// There is none any more.
    pub fn gone(code: &str) -> Self {
        let Self { id, mut property } = Self::new(code);
        property[DELETED] = true.into();
        Self {
            id: format!("{id}-gone"),
            property,
        }
    }

    /// Delivers it once; whether its sender heard that it arrived.
    pub async fn send(&self, world: &World) -> bool {
        deliver(world, &self.id, &self.property).await
    }
}

async fn deliver(world: &World, id: &str, property: &Value) -> bool {
    let body = property.to_string().into_bytes();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let stamp = now.as_secs().to_string();
    let secret = WEBHOOK_SECRET.strip_prefix("whsec_").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(secret).unwrap()).unwrap();
    mac.update(format!("{id}.{stamp}.").as_bytes());
    mac.update(&body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let role = match world.backend {
        Backend::Servers => "api",
        Backend::Embedded => "up",
    };
    let url = format!(
        "{}/webhooks/{ORGANIZATION}/yardi/properties",
        world.url(role)
    );
    let request = world
        .http
        .post(url)
        .timeout(Duration::from_secs(10))
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", stamp)
        .header("webhook-signature", signature)
        .body(body);
    let answer = request.send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
