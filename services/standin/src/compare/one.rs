//! What ONE should hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Records,
    checks::{Checks, Expected, Presence},
    contact::Contact,
    rules::{self, Truth, filled, text},
    times,
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
    let file_names: Names = held
        .get("attachment")
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|record| {
            (
                text(record, "/attachmentNumber").to_owned(),
                text(record, "/fileName").to_owned(),
            )
        })
        .collect();
    entity("service_request", "/referWONum", requests);
    entity(
        "attachment",
        "/attachmentNumber",
        attachments(truth, &reference, &present, &file_names),
    );
}

/// By the attachment's number.
type Names = BTreeMap<String, String>;

fn locations(truth: &Truth<'_>, reference: &impl Fn(&str) -> String) -> BTreeMap<String, Expected> {
    let properties = truth.properties.iter().map(|property| {
        let fields = vec![
            ("/locationName", filled(property, "/marketingName")),
            ("/addressLine1", filled(property, "/addressLine1")),
            ("/city", filled(property, "/city")),
            ("/state", filled(property, "/state")),
            ("/zipCode", filled(property, "/postalCode")),
            ("/country", json!("US")),
            ("/propertyCode", filled(property, "/code")),
            ("/status", json!(1)),
        ];
        (
            reference(&rules::property_id(text(property, "/code"))),
            required(fields),
        )
    });
    let units = truth.units.iter().map(|unit| {
        let fields = vec![
            ("/locationName", rules::unit_name(unit)),
            ("/addressLine1", filled(unit, "/addressLine1")),
            ("/city", filled(unit, "/city")),
            ("/state", filled(unit, "/state")),
            ("/zipCode", filled(unit, "/postalCode")),
            ("/country", json!("US")),
            ("/propertyCode", filled(unit, "/propertyCode")),
            ("/floorPlan", filled(unit, "/floorplan")),
            ("/bedRooms", unit["bedrooms"].clone()),
            ("/bathRooms", unit["bathrooms"].clone()),
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
        let contact = Contact::of_person(one);
        let fields = vec![
            ("/locationNumber", json!(reference(&location))),
            ("/name", json!(if name.is_empty() { one.id } else { &name })),
            ("/phone", contact.dialled_or_written()),
            ("/email", contact.email),
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
    let enter = if request["permissionToEnter"] == true {
        "yes"
    } else {
        "no"
    };
    let access = match text(request, "/accessNotes").trim() {
        "" => format!("Permission to enter: {enter}"),
        notes => format!("Permission to enter: {enter}. {notes}"),
    };
    let contact = Contact::of_request(request);
    let mut fields = vec![
        ("/locationNumber", json!(reference(&location))),
        ("/description", filled(request, "/fullDescription")),
        (
            "/callTime",
            times::start_of_day_there(request, "/createdDate"),
        ),
        ("/accessInformation", json!(access)),
        ("/caller", rules::requester(request)),
        ("/callerPhoneNumber", contact.dialled_or_written()),
        ("/callerEmail", contact.email),
        ("/dueDate", times::start_of_day(request, "/dueDate")),
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
    file_names: &Names,
) -> BTreeMap<String, Expected> {
    let work_orders: std::collections::BTreeSet<_> = work_orders.iter().collect();
    let mut sharing = BTreeMap::new();
    let shared = |attachment| {
        let name = text(attachment, "/fileName");
        (text(attachment, "/serviceRequestId"), name)
    };
    for attachment in truth.attachments {
        *sharing.entry(shared(attachment)).or_default() += 1;
    }
    let expected = truth.attachments.iter().map(|attachment| {
        let number = reference(text(attachment, "/attachmentId"));
        let found = file_names.get(&number).map_or("", String::as_str);
        let sharers = sharing.get(&shared(attachment)).copied().unwrap_or(1);
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
            (
                "/fileName",
                json!(kept_name(text(attachment, "/fileName"), found, sharers)),
            ),
            ("/contentType", json!(rules::content_type(attachment))),
            ("/description", filled(attachment, "/description")),
            ("/bytes", attachment["bytes"].clone()),
            ("/sha256", attachment["sha256"].clone()),
        ];
        (number, Expected { presence, fields })
    });
    expected.collect()
}

/// ONE puts a number into names that several files of a work order share; which gets which depends
/// on the order in which they came.
fn kept_name(name: &str, found: &str, sharers: u32) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let numbered = |number| format!("{stem} ({number}).{ending}");
    (2..=sharers)
        .map(numbered)
        .find(|numbered| numbered == found)
        .unwrap_or_else(|| name.to_owned())
}

fn required(fields: Vec<(&'static str, Value)>) -> Expected {
    Expected {
        presence: Presence::Required,
        fields,
    }
}
