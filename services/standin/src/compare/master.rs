//! What the master data should hold.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Master,
    checks::{Checks, Expected, Presence},
    contact::Contact,
    rules::{self, Truth, filled, text},
    times,
};

const ZONE: &str = "America/Chicago";

pub(super) fn compare(truth: &Truth<'_>, master: &[Master], checks: &mut Checks) {
    for (entity, expected) in [
        ("Location", locations(truth)),
        ("Resident", residents(truth)),
        ("ServiceRequest", requests(truth)),
        ("Attachment", attachments(truth)),
    ] {
        let held: Vec<_> = master
            .iter()
            .filter(|record| record.entity_type == entity && !record.deleted)
            .map(|record| (record.source_id.clone(), with_hash(&record.data)))
            .collect();
        let held = held.iter().map(|(id, data)| (id.clone(), data.as_ref()));
        checks.entity("master", entity, expected, held);
    }
}

/// The source tells of a file's content its hash only.
fn with_hash(data: &Value) -> Cow<'_, Value> {
    let content = data.get("content").and_then(Value::as_str);
    let Some(bytes) = content.and_then(|text| STANDARD.decode(text).ok()) else {
        return Cow::Borrowed(data);
    };
    let mut data = data.clone();
    data["sha256"] = json!(hex::encode(Sha256::digest(bytes)));
    Cow::Owned(data)
}

fn required(fields: Vec<(&'static str, Value)>) -> Expected {
    Expected {
        presence: Presence::Required,
        fields,
    }
}

fn locations(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let properties = truth.properties.iter().map(|property| {
        let fields = vec![
            ("/kind", json!("property")),
            (
                "/number",
                json!(rules::property_id(text(property, "/code"))),
            ),
            ("/name", filled(property, "/marketingName")),
            ("/property_code", filled(property, "/code")),
            ("/active", json!(true)),
            ("/address/line1", filled(property, "/addressLine1")),
            ("/address/city", filled(property, "/city")),
            ("/address/state", filled(property, "/state")),
            ("/address/postal_code", filled(property, "/postalCode")),
            ("/address/country", json!("US")),
        ];
        (
            rules::property_id(text(property, "/code")),
            required(fields),
        )
    });
    let units = truth.units.iter().map(|unit| {
        let fields = vec![
            ("/kind", json!("unit")),
            ("/number", json!(rules::unit_id(unit))),
            ("/name", rules::unit_name(unit)),
            ("/property_code", filled(unit, "/propertyCode")),
            ("/building", filled(unit, "/building")),
            ("/rental_type", json!("Residential")),
            ("/unit_type", filled(unit, "/unitType")),
            ("/unit_code", filled(unit, "/unitCode")),
            ("/bedrooms", unit["bedrooms"].clone()),
            ("/bathrooms", unit["bathrooms"].clone()),
            ("/square_feet", unit["squareFeet"].clone()),
            ("/market_rent", unit["marketRent"].clone()),
            ("/floor_plan", filled(unit, "/floorplan")),
            ("/unit_status", filled(unit, "/statusDescription")),
            ("/address/city", filled(unit, "/city")),
            ("/address/line1", filled(unit, "/addressLine1")),
            ("/address/state", filled(unit, "/state")),
            ("/address/postal_code", filled(unit, "/postalCode")),
            ("/address/country", json!("US")),
            ("/active", json!(rules::unit_active(unit))),
        ];
        (rules::unit_id(unit), required(fields))
    });
    properties.chain(units).collect()
}

fn residents(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let expected = truth.residents.iter().map(|one| {
        let name = rules::full_name(one.person);
        let active = rules::lease_active(one.lease);
        let contact = Contact::of_person(one);
        let dropped: Vec<_> = [
            ("lease_from", "/leaseFrom"),
            ("lease_to", "/leaseTo"),
            ("move_in", "/moveIn"),
            ("move_out", "/moveOut"),
        ]
        .into_iter()
        .filter(|(_, pointer)| times::absurd(one.lease, pointer))
        .map(|(name, _)| name)
        .collect();
        let fields = vec![
            (
                "/name/full",
                if name.is_empty() {
                    Value::Null
                } else {
                    json!(name)
                },
            ),
            ("/name/first", rules::name_part(one.person, "/firstName")),
            ("/name/middle", rules::name_part(one.person, "/middleName")),
            ("/name/last", rules::name_part(one.person, "/lastName")),
            ("/code", json!(one.id)),
            (
                "/role",
                json!(if one.leads { "leaseholder" } else { "occupant" }),
            ),
            ("/relationship", filled(one.record, "/relationship")),
            (
                "/responsible_for_lease",
                match one.leads {
                    true => json!(true),
                    false => one.record["responsibleForLease"].clone(),
                },
            ),
            ("/household_id", filled(one.lease, "/tCode")),
            ("/property_code", filled(one.lease, "/propertyCode")),
            ("/unit_code", filled(one.lease, "/unitCode")),
            ("/email", contact.email),
            ("/phone", contact.phone),
            ("/status", json!(text(one.lease, "/status").to_lowercase())),
            ("/active", json!(active)),
            ("/primary", json!(active && one.leads)),
            ("/lease_from", times::day(one.lease, "/leaseFrom")),
            ("/lease_to", times::day(one.lease, "/leaseTo")),
            ("/move_in", times::day(one.lease, "/moveIn")),
            ("/move_out", times::day(one.lease, "/moveOut")),
            ("/dropped", json!(dropped)),
        ];
        (one.id.to_owned(), required(fields))
    });
    expected.collect()
}

fn requests(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let expected = truth.requests.iter().map(|request| {
        let unit = match rules::in_unit(request) {
            true => filled(request, "/unitCode"),
            false => Value::Null,
        };
        let contact = Contact::of_request(request);
        let dropped = match times::absurd(request, "/dueDate") {
            true => json!(["due_at"]),
            false => json!([]),
        };
        // That it has files is not compared: a file that is added does not touch the request.
        let fields = vec![
            ("/number", filled(request, "/serviceRequestId")),
            ("/property_code", filled(request, "/propertyCode")),
            ("/unit_code", unit),
            ("/resident_id", filled(request, "/tenantCode")),
            ("/origin", filled(request, "/origin")),
            ("/summary", rules::summary(request)),
            ("/history", history(request)),
            ("/access_notes", filled(request, "/accessNotes")),
            ("/problem_notes", filled(request, "/problemNotes")),
            ("/tenant_caused", request["tenantCaused"].clone()),
            ("/requester/phone", contact.phone),
            ("/requester/email", contact.email),
            ("/created_at", times::start_of_day(request, "/createdDate")),
            ("/created_by", filled(request, "/createdBy")),
            ("/due_at", times::start_of_day(request, "/dueDate")),
            ("/due_text", filled(request, "/dueDate")),
            ("/time_zone", json!(ZONE)),
            ("/dropped", dropped),
            ("/description", filled(request, "/fullDescription")),
            ("/category", filled(request, "/category")),
            ("/subcategory", filled(request, "/subCategory")),
            ("/priority", filled(request, "/priority")),
            ("/status", filled(request, "/status")),
            ("/permission_to_enter", request["permissionToEnter"].clone()),
            ("/technician_notes", filled(request, "/technicianNotes")),
            ("/requester/name", rules::requester(request)),
        ];
        (
            text(request, "/serviceRequestId").to_owned(),
            required(fields),
        )
    });
    expected.collect()
}

fn history(request: &Value) -> Value {
    let entries = request["statusHistory"].as_array();
    let entries = entries.map_or(&[][..], Vec::as_slice).iter().map(|entry| {
        json!({
            "status": filled(entry, "/type"),
            "at": times::moment(entry, "/timeStamp"),
            "text": entry["timeStamp"],
        })
    });
    entries.collect()
}

fn attachments(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let expected = truth.attachments.iter().map(|attachment| {
        let fields = vec![
            ("/file_name", filled(attachment, "/fileName")),
            ("/content_type", json!(rules::content_type(attachment))),
            ("/type", filled(attachment, "/attachmentType")),
            ("/description", filled(attachment, "/description")),
            ("/property_code", filled(attachment, "/propertyCode")),
            ("/created_at", times::moment(attachment, "/createdDate")),
            ("/created_text", filled(attachment, "/createdDate")),
            ("/time_zone", json!(ZONE)),
            ("/size", attachment["bytes"].clone()),
            ("/sha256", attachment["sha256"].clone()),
            ("/dropped", json!([])),
            (
                "/service_request_id",
                filled(attachment, "/serviceRequestId"),
            ),
        ];
        (
            text(attachment, "/attachmentId").to_owned(),
            required(fields),
        )
    });
    expected.collect()
}
