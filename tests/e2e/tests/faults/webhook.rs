//! A sender of webhooks that delivers again until it hears that the payload arrived (I1, I2).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    harness::webhook::Delivery,
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
    let role = match world.backend {
        Backend::Servers => "api",
        Backend::Embedded => "up",
    };
    let request = Delivery::new(id, body).to(&world.http, &world.url(role));
    let answer = request.timeout(Duration::from_secs(10)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}
