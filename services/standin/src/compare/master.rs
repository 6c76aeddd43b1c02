//! What the master data should hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Master,
    checks::{Checks, Expected, Presence},
    rules::{self, Truth, filled, text},
};

pub(super) fn compare(truth: &Truth<'_>, master: &[Master], checks: &mut Checks) {
    for (entity, expected) in [
        ("Location", locations(truth)),
        ("Resident", residents(truth)),
        ("ServiceRequest", requests(truth)),
        ("Attachment", attachments(truth)),
    ] {
        let held = master
            .iter()
            .filter(|record| record.entity_type == entity && !record.deleted)
            .map(|record| (record.source_id.clone(), &record.data));
        checks.entity("master", entity, expected, held);
    }
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
            ("/name", filled(property, "/marketingName")),
            ("/address/city", filled(property, "/city")),
            ("/address/state", filled(property, "/state")),
            ("/address/postal_code", filled(property, "/postalCode")),
        ];
        (
            rules::property_id(text(property, "/code")),
            required(fields),
        )
    });
    let units = truth.units.iter().map(|unit| {
        let fields = vec![
            ("/kind", json!("unit")),
            ("/unit_code", filled(unit, "/unitCode")),
            ("/bedrooms", unit["bedrooms"].clone()),
            ("/bathrooms", unit["bathrooms"].clone()),
            ("/square_feet", unit["squareFeet"].clone()),
            ("/market_rent", unit["marketRent"].clone()),
            ("/floor_plan", filled(unit, "/floorplan")),
            ("/unit_status", filled(unit, "/statusDescription")),
            ("/address/city", filled(unit, "/city")),
            ("/address/line1", filled(unit, "/addressLine1")),
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
        let fields = vec![
            (
                "/name/full",
                if name.is_empty() {
                    Value::Null
                } else {
                    json!(name)
                },
            ),
            ("/unit_code", filled(one.lease, "/unitCode")),
            ("/active", json!(active)),
            ("/primary", json!(active && one.leads)),
        ];
        (one.id.to_owned(), required(fields))
    });
    expected.collect()
}

fn requests(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let expected = truth.requests.iter().map(|request| {
        let fields = vec![
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

fn attachments(truth: &Truth<'_>) -> BTreeMap<String, Expected> {
    let expected = truth.attachments.iter().map(|attachment| {
        let fields = vec![
            ("/file_name", filled(attachment, "/fileName")),
            ("/size", attachment["bytes"].clone()),
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
