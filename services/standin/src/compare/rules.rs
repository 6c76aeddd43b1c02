//! The source's truth, read once, and the rules by which records are named.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Records;

const SOURCE_CLOSED: [&str; 3] = ["Completed", "Work Completed", "Canceled"];

/// The truth by what it becomes.
pub(super) struct Truth<'a> {
    pub properties: &'a [Value],
    pub units: Vec<&'a Value>,
    pub residents: Vec<Person<'a>>,
    pub requests: &'a [Value],
    pub attachments: &'a [Value],
    /// Source ids of the Locations there are.
    pub locations: std::collections::BTreeSet<String>,
    requests_by_id: BTreeMap<&'a str, &'a Value>,
}

/// A leaseholder or an occupant.
pub(super) struct Person<'a> {
    pub id: &'a str,
    /// The record of the person's own.
    pub record: &'a Value,
    pub person: &'a Value,
    /// The leaseholder's record, which has the unit and the status.
    pub lease: &'a Value,
    pub leads: bool,
}

impl<'a> Truth<'a> {
    pub(super) fn read(records: &'a Records) -> Self {
        let kind = |name: &str| records.get(name).map_or(&[][..], Vec::as_slice);
        let units: Vec<_> = kind("unit")
            .iter()
            .filter(|unit| unit["pseudo"] != Value::Bool(true))
            .collect();
        let mut residents = Vec::new();
        for lease in kind("resident") {
            residents.push(Person {
                id: text(lease, "/tCode"),
                record: lease,
                person: &lease["person"],
                lease,
                leads: true,
            });
            for occupant in lease["occupants"].as_array().map_or(&[][..], Vec::as_slice) {
                residents.push(Person {
                    id: text(occupant, "/rCode"),
                    record: occupant,
                    person: &occupant["person"],
                    lease,
                    leads: false,
                });
            }
        }
        let requests = kind("service_request");
        let locations = kind("property")
            .iter()
            .map(|property| property_id(text(property, "/code")))
            .chain(units.iter().map(|unit| unit_id(unit)))
            .collect();
        Self {
            properties: kind("property"),
            units,
            residents,
            requests,
            attachments: kind("attachment"),
            locations,
            requests_by_id: requests
                .iter()
                .map(|one| (text(one, "/serviceRequestId"), one))
                .collect(),
        }
    }

    /// The service request an attachment belongs to.
    pub(super) fn request_of(&self, attachment: &Value) -> Option<&'a Value> {
        self.requests_by_id
            .get(text(attachment, "/serviceRequestId"))
            .copied()
    }
}

/// The text at a pointer; empty when there is none.
pub(super) fn text<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// An empty text is as good as none.
pub(super) fn filled(record: &Value, pointer: &str) -> Value {
    match text(record, pointer).trim() {
        "" => Value::Null,
        found => Value::from(found),
    }
}

/// Source id of a property's Location.
pub(super) fn property_id(code: &str) -> String {
    match code.contains('-') {
        true => format!("{}//", code.to_uppercase()),
        false => code.to_uppercase(),
    }
}

/// Source id of a unit's Location.
pub(super) fn unit_id(unit: &Value) -> String {
    location_id(text(unit, "/propertyCode"), text(unit, "/unitCode"))
}

/// Source id of the Location that a unit code names: the property's where it names no real unit.
pub(super) fn location_id(property: &str, unit: &str) -> String {
    let pseudo = ["", "NONRESID", "WAIT", "WAIT_AFF", "RETAIL"];
    if pseudo.contains(&unit.to_uppercase().as_str()) {
        return property_id(property);
    }
    let separator = if property.contains('-') { "//" } else { "-" };
    format!("{property}{separator}{unit}")
}

/// First, middle and last name, without the staff's asterisks.
pub(super) fn full_name(person: &Value) -> String {
    ["/firstName", "/middleName", "/lastName"]
        .into_iter()
        .filter_map(|part| name_part(person, part).as_str().map(str::to_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Who asked, without the staff's asterisks.
pub(super) fn requester(request: &Value) -> Value {
    name_part(request, "/requestorName")
}

/// What a unit is called where it has no name of its own.
pub(super) fn unit_name(unit: &Value) -> Value {
    Value::from(format!(
        "{} {}",
        text(unit, "/propertyCode"),
        text(unit, "/unitCode")
    ))
}

/// One part of a person's name, without the staff's asterisks.
pub(super) fn name_part(person: &Value, pointer: &str) -> Value {
    match text(person, pointer).replace('*', "").trim() {
        "" => Value::Null,
        part => Value::from(part),
    }
}

/// A request in one line: the whole description, since the brief one is only its beginning.
pub(super) fn summary(request: &Value) -> Value {
    filled(request, "/fullDescription")
}

/// What a file's name tells about its content.
pub(super) fn content_type(attachment: &Value) -> &'static str {
    let name = text(attachment, "/fileName").to_lowercase();
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "mp4" => "video/mp4",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        _ => "application/octet-stream",
    }
}

/// Whether a unit can be let: the vendor marks others as Waitlist or Down.
pub(super) fn unit_active(unit: &Value) -> bool {
    let status = text(unit, "/statusDescription").to_lowercase();
    !status
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| word == "waitlist" || word == "down")
}

/// Whether a lease's people live there now.
pub(super) fn lease_active(lease: &Value) -> bool {
    let status = text(lease, "/status").to_lowercase();
    ["current", "notice", "eviction"]
        .iter()
        .any(|word| status.contains(word))
}

/// Whether the source counts a service request as over.
pub(super) fn closed(request: &Value) -> bool {
    SOURCE_CLOSED.contains(&text(request, "/status"))
}

/// Whether a request names a real unit.
pub(super) fn in_unit(request: &Value) -> bool {
    let property = text(request, "/propertyCode");
    location_id(property, text(request, "/unitCode")) != property_id(property)
}
