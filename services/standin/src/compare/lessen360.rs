//! What Lessen360 should hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Records,
    checks::{Checks, Expected, Presence},
    contact::Contact,
    rules::{self, Truth, filled, text},
    times,
};

const LARGEST_ATTACHMENT: u64 = 10 * 1024 * 1024;
const LONGEST_SUMMARY: usize = 120;
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
    let created_only: BTreeSet<&str> = held
        .get("work_order")
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter(|record| record["writes"] == 1)
        .map(|record| text(record, "/externalId"))
        .collect();
    let mut entity = |name: &'static str, expected: BTreeMap<String, Expected>| {
        let records = held.get(name).map_or(&[][..], Vec::as_slice);
        let records = records
            .iter()
            .map(|record| (text(record, "/externalId").to_owned(), record));
        checks.entity("lessen360", name, expected, records);
    };
    entity("property", locations(truth, &reference, &properties));
    entity("resident", residents(truth, &reference, &properties));
    entity(
        "work_order",
        requests(truth, &reference, &properties, &created_only),
    );
    entity("attachment", attachments(truth, &reference, &work_orders));
}

type Ids = BTreeMap<String, String>;

fn id_of(ids: &Ids, reference: &str) -> Value {
    ids.get(reference).map_or(Value::Null, |id| json!(id))
}

/// Adds what every record tells of where it comes from.
fn with_source(
    mut fields: Vec<(&'static str, Value)>,
    source_id: &str,
) -> Vec<(&'static str, Value)> {
    fields.push(("/source/system", json!("yardi")));
    fields.push(("/source/id", json!(source_id)));
    fields
}

fn activity(active: bool) -> &'static str {
    if active { "ACTIVE" } else { "INACTIVE" }
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
            ("/address/line1", filled(property, "/addressLine1")),
            ("/address/city", filled(property, "/city")),
            ("/address/state", filled(property, "/state")),
            ("/address/postalCode", filled(property, "/postalCode")),
            ("/address/country", json!("US")),
            ("/active", json!(true)),
            ("/status", json!("ACTIVE")),
        ];
        let source_id = rules::property_id(text(property, "/code"));
        let fields = with_source(fields, &source_id);
        let id = reference(&source_id);
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
            ("/name", rules::unit_name(unit)),
            ("/address/line1", filled(unit, "/addressLine1")),
            ("/address/city", filled(unit, "/city")),
            ("/address/state", filled(unit, "/state")),
            ("/address/postalCode", filled(unit, "/postalCode")),
            ("/address/country", json!("US")),
            ("/details/bedrooms", unit["bedrooms"].clone()),
            ("/details/bathrooms", unit["bathrooms"].clone()),
            ("/details/floorPlan", filled(unit, "/floorplan")),
            ("/details/squareFeet", unit["squareFeet"].clone()),
            ("/details/unitStatus", filled(unit, "/statusDescription")),
            ("/active", json!(rules::unit_active(unit))),
            ("/status", json!(activity(rules::unit_active(unit)))),
        ];
        let source_id = rules::unit_id(unit);
        (
            reference(&source_id),
            Expected {
                presence: Presence::Required,
                fields: with_source(fields, &source_id),
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
        let contact = Contact::of_person(one);
        let fields = vec![
            ("/propertyId", id_of(ids, &reference(&location))),
            ("/name", json!(if name.is_empty() { one.id } else { &name })),
            ("/phone", contact.dialled()),
            ("/email", contact.email),
            ("/primary", json!(active && one.leads)),
            ("/active", json!(active)),
            ("/status", json!(activity(active))),
            ("/moveInDate", times::day(one.lease, "/moveIn")),
            ("/moveOutDate", times::day(one.lease, "/moveOut")),
        ];
        let fields = with_source(fields, one.id);
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
    created_only: &BTreeSet<&str>,
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
        let source_id = text(request, "/serviceRequestId");
        let id = reference(source_id);
        let summary = match rules::summary(request).as_str() {
            Some(whole) => whole.chars().take(LONGEST_SUMMARY).collect(),
            None => "Service request".to_owned(),
        };
        // A new work order cannot be given a status; the first change brings it.
        let status = match text(request, "/status") {
            _ if created_only.contains(id.as_str()) => "PENDING_ACCEPTANCE",
            "Scheduled" => "SCHEDULED",
            "In Progress" => "IN_PROGRESS",
            "Completed" | "Work Completed" => "COMPLETED",
            "Canceled" => "CANCELLED",
            "On Hold" | "Request Reassignment" => "PENDING_SCHEDULE",
            _ => "PENDING_ACCEPTANCE",
        };
        let contact = Contact::of_request(request);
        let fields = vec![
            ("/propertyId", id_of(ids, &reference(&location))),
            ("/status", json!(status)),
            ("/summary", json!(summary)),
            ("/resident/phone", contact.dialled()),
            ("/resident/email", contact.email),
            ("/dueAt", times::start_of_day(request, "/dueDate")),
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
        let fields = with_source(fields, source_id);
        (id, Expected { presence, fields })
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
            ("/fileName", filled(attachment, "/fileName")),
            ("/contentType", json!(rules::content_type(attachment))),
            ("/description", filled(attachment, "/description")),
            ("/bytes", attachment["bytes"].clone()),
            ("/sha256", attachment["sha256"].clone()),
        ];
        (
            reference(text(attachment, "/attachmentId")),
            Expected { presence, fields },
        )
    });
    expected.collect()
}
