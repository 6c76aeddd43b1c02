//! What Lessen360 should hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Records,
    checks::{Checks, Expected, Presence},
    rules::{self, Truth, filled, text},
};

const LARGEST_ATTACHMENT: u64 = 10 * 1024 * 1024;
const ACCEPTED: [&str; 11] = [
    "jpg", "jpeg", "png", "gif", "webp", "heic", "bmp", "tif", "tiff", "pdf", "txt",
];

pub(super) fn compare(truth: &Truth<'_>, source: &str, held: &Records, checks: &mut Checks) {
    let reference = |id: &str| format!("{source}:{id}");
    // Lessen360 gives its own ids; children name their parents by them.
    let ids = |kind: &str| -> BTreeMap<String, String> {
        let records = held.get(kind).map_or(&[][..], Vec::as_slice);
        let pair = |record: &Value| {
            (
                text(record, "/externalId").to_owned(),
                text(record, "/id").to_owned(),
            )
        };
        records.iter().map(pair).collect()
    };
    let (properties, work_orders) = (ids("property"), ids("work_order"));
    let mut entity = |name: &'static str, expected: BTreeMap<String, Expected>| {
        let records = held.get(name).map_or(&[][..], Vec::as_slice);
        let records = records
            .iter()
            .map(|record| (text(record, "/externalId").to_owned(), record));
        checks.entity("lessen360", name, expected, records);
    };
    entity("property", locations(truth, &reference, &properties));
    entity("resident", residents(truth, &reference, &properties));
    entity("work_order", requests(truth, &reference, &properties));
    entity("attachment", attachments(truth, &reference, &work_orders));
}

type Ids = BTreeMap<String, String>;

fn id_of(ids: &Ids, reference: &str) -> Value {
    ids.get(reference).map_or(Value::Null, |id| json!(id))
}

fn locations(
    truth: &Truth<'_>,
    reference: &impl Fn(&str) -> String,
    ids: &Ids,
) -> BTreeMap<String, Expected> {
    let properties = truth.properties.iter().map(|property| {
        let fields = vec![
            ("/kind", json!("property")),
            ("/name", filled(property, "/marketingName")),
            ("/address/city", filled(property, "/city")),
            ("/active", json!(true)),
        ];
        let id = reference(&rules::property_id(text(property, "/code")));
        (
            id,
            Expected {
                presence: Presence::Required,
                fields,
            },
        )
    });
    let units = truth.units.iter().map(|unit| {
        let parent = reference(&rules::property_id(text(unit, "/propertyCode")));
        let fields = vec![
            ("/kind", json!("unit")),
            ("/parentId", id_of(ids, &parent)),
            ("/address/line1", filled(unit, "/addressLine1")),
            ("/address/city", filled(unit, "/city")),
            ("/details/bedrooms", unit["bedrooms"].clone()),
            ("/details/squareFeet", unit["squareFeet"].clone()),
            ("/details/unitStatus", filled(unit, "/statusDescription")),
            ("/active", json!(rules::unit_active(unit))),
        ];
        (
            reference(&rules::unit_id(unit)),
            Expected {
                presence: Presence::Required,
                fields,
            },
        )
    });
    properties.chain(units).collect()
}

fn residents(
    truth: &Truth<'_>,
    reference: &impl Fn(&str) -> String,
    ids: &Ids,
) -> BTreeMap<String, Expected> {
    let expected = truth.residents.iter().map(|one| {
        let location = rules::location_id(
            text(one.lease, "/propertyCode"),
            text(one.lease, "/unitCode"),
        );
        let name = rules::full_name(one.person);
        let active = rules::lease_active(one.lease);
        let fields = vec![
            ("/propertyId", id_of(ids, &reference(&location))),
            ("/name", json!(if name.is_empty() { one.id } else { &name })),
            ("/primary", json!(active && one.leads)),
            ("/active", json!(active)),
        ];
        let presence = if truth.locations.contains(&location) {
            Presence::Required
        } else {
            Presence::Forbidden
        };
        (reference(one.id), Expected { presence, fields })
    });
    expected.collect()
}

fn requests(
    truth: &Truth<'_>,
    reference: &impl Fn(&str) -> String,
    ids: &Ids,
) -> BTreeMap<String, Expected> {
    let expected = truth.requests.iter().map(|request| {
        let location =
            rules::location_id(text(request, "/propertyCode"), text(request, "/unitCode"));
        let priority = match text(request, "/priority") {
            "Low" => "Low",
            "High" => "High",
            "24 hours" => "Urgent",
            "Emergency" => "Emergency",
            _ => "Medium",
        };
        let trade = match text(request, "/category") {
            known @ ("Electrical" | "HVAC" | "Plumbing") => known,
            _ => "General",
        };
        let fields = vec![
            ("/propertyId", id_of(ids, &reference(&location))),
            ("/trade", json!(trade)),
            ("/priority", json!(priority)),
            ("/description", filled(request, "/fullDescription")),
            ("/permissionToEnter", request["permissionToEnter"].clone()),
            ("/resident/name", rules::requester(request)),
        ];
        let presence = match (truth.locations.contains(&location), rules::closed(request)) {
            (false, _) => Presence::Forbidden,
            // One that was closed when it was first seen is not opened there anew.
            (true, true) => Presence::Optional,
            (true, false) => Presence::Required,
        };
        (
            reference(text(request, "/serviceRequestId")),
            Expected { presence, fields },
        )
    });
    expected.collect()
}

fn attachments(
    truth: &Truth<'_>,
    reference: &impl Fn(&str) -> String,
    work_orders: &Ids,
) -> BTreeMap<String, Expected> {
    let expected = truth.attachments.iter().map(|attachment| {
        let parent = reference(text(attachment, "/serviceRequestId"));
        let ending = text(attachment, "/fileName")
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let accepted = ACCEPTED.contains(&ending.as_str())
            && attachment["bytes"]
                .as_u64()
                .is_some_and(|bytes| bytes <= LARGEST_ATTACHMENT);
        let there = work_orders.contains_key(&parent) && truth.request_of(attachment).is_some();
        let presence = if accepted && there {
            Presence::Required
        } else {
            Presence::Forbidden
        };
        let fields = vec![
            ("/workOrderId", id_of(work_orders, &parent)),
            ("/bytes", attachment["bytes"].clone()),
        ];
        (
            reference(text(attachment, "/attachmentId")),
            Expected { presence, fields },
        )
    });
    expected.collect()
}
