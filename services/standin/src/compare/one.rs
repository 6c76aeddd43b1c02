//! What ONE should hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Records,
    checks::{Checks, Expected, Presence},
    rules::{self, Truth, filled, text},
};

const LARGEST_ATTACHMENT: u64 = 4_194_304;

pub(super) fn compare(truth: &Truth<'_>, source: &str, held: &Records, checks: &mut Checks) {
    let reference = |id: &str| format!("{source}:{id}");
    let mut entity = |name: &'static str, key: &str, expected: BTreeMap<String, Expected>| {
        let records = held.get(name).map_or(&[][..], Vec::as_slice);
        let records = records
            .iter()
            .map(|record| (text(record, key).to_owned(), record));
        checks.entity("one", name, expected, records);
    };
    entity("location", "/locationNumber", locations(truth, &reference));
    entity("resident", "/residentNumber", residents(truth, &reference));
    let requests: BTreeMap<_, _> = truth
        .requests
        .iter()
        .map(|request| {
            (
                reference(text(request, "/serviceRequestId")),
                work_order(request, &reference),
            )
        })
        .collect();
    let present: Vec<String> = held
        .get("service_request")
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|record| text(record, "/referWONum").to_owned())
        .collect();
    entity("service_request", "/referWONum", requests);
    entity(
        "attachment",
        "/attachmentNumber",
        attachments(truth, &reference, &present),
    );
}

fn locations(truth: &Truth<'_>, reference: &impl Fn(&str) -> String) -> BTreeMap<String, Expected> {
    let properties = truth.properties.iter().map(|property| {
        let fields = vec![
            ("/locationName", filled(property, "/marketingName")),
            ("/city", filled(property, "/city")),
            ("/zipCode", filled(property, "/postalCode")),
            ("/status", json!(1)),
        ];
        (
            reference(&rules::property_id(text(property, "/code"))),
            required(fields),
        )
    });
    let units = truth.units.iter().map(|unit| {
        let fields = vec![
            ("/addressLine1", filled(unit, "/addressLine1")),
            ("/city", filled(unit, "/city")),
            ("/zipCode", filled(unit, "/postalCode")),
            ("/bedRooms", unit["bedrooms"].clone()),
            ("/ttsqft", unit["squareFeet"].clone()),
            ("/unitStatus", filled(unit, "/statusDescription")),
            ("/status", json!(i32::from(rules::unit_active(unit)))),
        ];
        (reference(&rules::unit_id(unit)), required(fields))
    });
    properties.chain(units).collect()
}

fn residents(truth: &Truth<'_>, reference: &impl Fn(&str) -> String) -> BTreeMap<String, Expected> {
    let expected = truth.residents.iter().map(|one| {
        let location = rules::location_id(
            text(one.lease, "/propertyCode"),
            text(one.lease, "/unitCode"),
        );
        let name = rules::full_name(one.person);
        let active = rules::lease_active(one.lease);
        let fields = vec![
            ("/locationNumber", json!(reference(&location))),
            ("/name", json!(if name.is_empty() { one.id } else { &name })),
            ("/isPrimaryResident", json!(active && one.leads)),
            ("/status", json!(i32::from(active))),
        ];
        let presence = presence_by_location(truth, &location);
        (reference(one.id), Expected { presence, fields })
    });
    expected.collect()
}

/// What hangs on a location that the source does not list can never be sent.
fn presence_by_location(truth: &Truth<'_>, location: &str) -> Presence {
    if truth.locations.contains(location) {
        Presence::Required
    } else {
        Presence::Forbidden
    }
}

fn work_order(request: &Value, reference: &impl Fn(&str) -> String) -> Expected {
    let location = rules::location_id(text(request, "/propertyCode"), text(request, "/unitCode"));
    let status = match text(request, "/status") {
        "In Progress" => "PendingSchedule",
        "Request Reassignment" => "ReturnTripNeeded",
        "Work Completed" => "WorkCompletePendingVendorInvoice",
        "Canceled" => "Cancelled",
        _ => "Undefined",
    };
    let wanted = ["Med", "High", "Emergency"].contains(&text(request, "/priority"))
        && rules::in_unit(request)
        && !text(request, "/subCategory").is_empty()
        && !rules::requester(request).is_null();
    let mut fields = vec![
        ("/locationNumber", json!(reference(&location))),
        ("/description", filled(request, "/fullDescription")),
        ("/caller", rules::requester(request)),
        ("/statusId", json!(status)),
    ];
    if wanted {
        fields.push(("/priority", filled(request, "/priority")));
        fields.push(("/serviceRequestCategory", filled(request, "/subCategory")));
    }
    Expected {
        presence: if wanted {
            Presence::Required
        } else {
            Presence::Optional
        },
        fields,
    }
}

fn attachments(
    truth: &Truth<'_>,
    reference: &impl Fn(&str) -> String,
    work_orders: &[String],
) -> BTreeMap<String, Expected> {
    let work_orders: std::collections::BTreeSet<_> = work_orders.iter().collect();
    let expected = truth.attachments.iter().map(|attachment| {
        let parent = reference(text(attachment, "/serviceRequestId"));
        let small = attachment["bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= LARGEST_ATTACHMENT);
        let presence =
            if small && work_orders.contains(&parent) && truth.request_of(attachment).is_some() {
                Presence::Required
            } else {
                Presence::Forbidden
            };
        let fields = vec![
            ("/referWONum", json!(parent)),
            ("/bytes", attachment["bytes"].clone()),
        ];
        (
            reference(text(attachment, "/attachmentId")),
            Expected { presence, fields },
        )
    });
    expected.collect()
}

fn required(fields: Vec<(&'static str, Value)>) -> Expected {
    Expected {
        presence: Presence::Required,
        fields,
    }
}
