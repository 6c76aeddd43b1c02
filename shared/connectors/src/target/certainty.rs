//! What can be found out about a create whose answer was lost (promise O1).

use sluice_core::EntityType;

use super::{
    Target,
    plan::{RecordWrite, Write},
    requester::{Body, Requester},
};

/// How a target keeps a repeated create from making a second record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Certainty {
    /// Records can be found there by our planted reference.
    pub by_lookup: bool,
    /// A create of what is there already is refused, naming the record that is there.
    pub by_refusal: bool,
    /// A create repeated with the same idempotency key makes no second record.
    pub by_key: bool,
}

impl Certainty {
    /// Whether only the very same request tells what became of it: then it is kept before it is sent.
    pub fn only_by_key(self) -> bool {
        self.by_key && !self.by_lookup && !self.by_refusal
    }

    /// Whether a create whose answer was lost can be repeated in some way.
    pub fn any(self) -> bool {
        self.by_lookup || self.by_refusal || self.by_key
    }
}

impl Target {
    /// What the connector's file says about creates of this entity type.
    pub fn certainty(&self, entity: &EntityType) -> Certainty {
        let Some(plan) = self.plan.entity(entity) else {
            return Certainty::default();
        };
        let (requester, by_refusal) = match &plan.create {
            Some(Write::Record(write)) => (Some(&write.requester), names_existing(write)),
            Some(Write::Batch(write)) => (Some(&write.requester), false),
            Some(Write::Nothing) | None => (None, false),
        };
        Certainty {
            by_lookup: plan.lookup.is_some(),
            by_refusal,
            by_key: requester.is_some_and(sends_key),
        }
    }
}

fn names_existing(write: &RecordWrite) -> bool {
    write.existing_id_path.is_some()
}

fn sends_key(requester: &Requester) -> bool {
    let in_headers = requester
        .headers
        .iter()
        .flat_map(|(_, template)| template.references());
    let in_body = match &requester.body {
        Body::Json(template) => template.references(),
        Body::None | Body::Multipart(_) => Vec::new(),
    };
    in_headers
        .chain(in_body)
        .any(|reference| reference.root == "idempotency_key")
}
