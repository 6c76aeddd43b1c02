//! What each place holds of a property with one unit, in agreement.

use serde_json::{Value, json};

use super::super::{Master, Records};

/// What targets and master data hold.
#[derive(Clone)]
pub(super) struct Held {
    pub one: Records,
    pub lessen360: Records,
    pub master: Vec<Master>,
}

pub(super) fn yardi() -> Records {
    Records::from([
        (
            "property".to_owned(),
            vec![json!({
                "code": "oakrun", "marketingName": "Oak Run", "addressLine1": "1 Oak Run Dr",
                "city": "Elm", "state": "TX", "postalCode": "75001",
            })],
        ),
        (
            "unit".to_owned(),
            vec![json!({
                "propertyCode": "oakrun", "unitCode": "01-101", "pseudo": false, "unitType": "a2",
                "bedrooms": 1, "bathrooms": 1.5, "squareFeet": 742, "marketRent": 1340,
                "statusDescription": "Occupied No Notice", "floorplan": "1x1.5", "building": "Building 1",
                "addressLine1": "1 Oak Run Dr APT 01-101", "city": "Elm", "state": "TX", "postalCode": "75001",
            })],
        ),
        (
            "resident".to_owned(),
            vec![json!({
                "tCode": "t0090001", "propertyCode": "oakrun", "unitCode": "01-101", "status": "Notice",
                "person": {
                    "firstName": "Dana", "middleName": "J", "lastName": "*Poe", "email": "dana@example.test",
                    "homePhone": "", "officePhone": "(512) 555-0111", "mobilePhone": "(512) 555-0142",
                },
                "addressLine1": "", "addressCity": "", "leaseFrom": "2025-01-10", "leaseTo": "5025-01-09",
                "moveIn": "2025-01-11", "moveOut": "2025-12-31",
                "occupants": [{
                    "rCode": "r0900011", "relationship": "Spouse", "responsibleForLease": false,
                    "person": { "firstName": "", "middleName": "", "lastName": "", "email": "",
                        "homePhone": "", "officePhone": "", "mobilePhone": "" },
                }],
            })],
        ),
        (
            "service_request".to_owned(),
            vec![json!({
                "serviceRequestId": "51877", "propertyCode": "oakrun", "unitCode": "01-101",
                "tenantCode": "t0090001", "origin": "OL",
                "briefDescription": "Kitchen sink drains very slowly, wa",
                "fullDescription": "Kitchen sink drains very slowly, water backs up",
                "priority": "High", "category": "Plumbing", "subCategory": "Drain",
                "permissionToEnter": true, "accessNotes": "Cat inside", "problemNotes": "Since May",
                "technicianNotes": "Part ordered", "tenantCaused": false, "requestorName": "Dana Poe",
                "requestorPhone": "(512) 555-0142", "requestorEmail": "dana@example.test",
                "createdDate": "2025-07-04T09:10:02", "dueDate": "2025-12-08", "createdBy": "portal",
                "status": "In Progress",
                "statusHistory": [
                    { "type": "", "timeStamp": "2025-07-04T09:10:02" },
                    { "type": "In Progress", "timeStamp": "2025-12-05T16:02:31" },
                ],
            })],
        ),
        (
            "attachment".to_owned(),
            vec![json!({
                "attachmentId": "700001", "serviceRequestId": "51877", "propertyCode": "oakrun",
                "fileName": "sink.JPG", "attachmentType": "Photo", "description": "Under the sink",
                "createdDate": "2025-07-04T09:12:00", "bytes": 3,
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            })],
        ),
    ])
}

pub(super) fn one() -> Records {
    let place = json!({
        "addressLine1": "1 Oak Run Dr", "city": "Elm", "state": "TX", "zipCode": "75001", "country": "US",
        "status": 1, "propertyCode": "oakrun",
    });
    let property = merged(
        &place,
        json!({ "locationNumber": "yardi:OAKRUN", "locationName": "Oak Run" }),
    );
    let unit = merged(
        &place,
        json!({
            "locationNumber": "yardi:oakrun-01-101", "locationName": "oakrun 01-101",
            "addressLine1": "1 Oak Run Dr APT 01-101", "unitStatus": "Occupied No Notice",
            "bedRooms": 1, "bathRooms": 1.5, "ttsqft": 742, "floorPlan": "1x1.5",
        }),
    );
    Records::from([
        ("location".to_owned(), vec![property, unit]),
        (
            "resident".to_owned(),
            vec![
                json!({
                    "residentNumber": "yardi:t0090001", "locationNumber": "yardi:oakrun-01-101",
                    "name": "Dana J Poe", "email": "dana@example.test", "phone": "+15125550142",
                    "isPrimaryResident": true, "status": 1,
                }),
                json!({
                    "residentNumber": "yardi:r0900011", "locationNumber": "yardi:oakrun-01-101",
                    "name": "r0900011", "isPrimaryResident": false, "status": 1,
                }),
            ],
        ),
        (
            "service_request".to_owned(),
            vec![json!({
                "referWONum": "yardi:51877", "locationNumber": "yardi:oakrun-01-101",
                "serviceRequestCategory": "Drain",
                "description": "Kitchen sink drains very slowly, water backs up",
                "callTime": "2025-07-04T00:00:00-05:00",
                "accessInformation": "Permission to enter: yes. Cat inside", "caller": "Dana Poe",
                "callerPhoneNumber": "+15125550142", "callerEmail": "dana@example.test",
                "dueDate": "2025-12-08T06:00:00Z", "priority": "High", "statusId": "PendingSchedule",
            })],
        ),
        (
            "attachment".to_owned(),
            vec![json!({
                "attachmentNumber": "yardi:700001", "referWONum": "yardi:51877", "fileName": "sink.JPG",
                "contentType": "image/jpeg", "description": "Under the sink", "bytes": 3,
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            })],
        ),
    ])
}

pub(super) fn lessen360() -> Records {
    let source = |id: &str| json!({ "system": "yardi", "id": id, "version": 3 });
    let address = |line1: &str| json!({ "line1": line1, "city": "Elm", "state": "TX", "postalCode": "75001", "country": "US" });
    Records::from([
        (
            "property".to_owned(),
            vec![
                json!({
                    "id": "p_1", "externalId": "yardi:OAKRUN", "kind": "property", "name": "Oak Run",
                    "address": address("1 Oak Run Dr"), "details": {}, "active": true, "status": "ACTIVE",
                    "source": source("OAKRUN"), "version": 1, "writes": 1,
                }),
                json!({
                    "id": "p_2", "externalId": "yardi:oakrun-01-101", "kind": "unit", "parentId": "p_1",
                    "name": "oakrun 01-101", "address": address("1 Oak Run Dr APT 01-101"),
                    "details": { "bedrooms": 1, "bathrooms": 1.5, "squareFeet": 742, "floorPlan": "1x1.5",
                        "unitStatus": "Occupied No Notice" },
                    "active": true, "status": "ACTIVE", "source": source("oakrun-01-101"), "writes": 1,
                }),
            ],
        ),
        (
            "resident".to_owned(),
            vec![
                json!({
                    "externalId": "yardi:t0090001", "propertyId": "p_2", "name": "Dana J Poe",
                    "phone": "+15125550142", "email": "dana@example.test", "primary": true, "active": true,
                    "moveInDate": "2025-01-11", "moveOutDate": "2025-12-31", "status": "ACTIVE",
                    "source": source("t0090001"), "writes": 1,
                }),
                json!({
                    "externalId": "yardi:r0900011", "propertyId": "p_2", "name": "r0900011",
                    "primary": false, "active": true, "moveInDate": "2025-01-11",
                    "moveOutDate": "2025-12-31", "status": "ACTIVE", "source": source("r0900011"), "writes": 1,
                }),
            ],
        ),
        (
            "work_order".to_owned(),
            vec![json!({
                "id": "wo_1", "externalId": "yardi:51877", "propertyId": "p_2", "trade": "Plumbing",
                "priority": "High", "summary": "Kitchen sink drains very slowly, water backs up",
                "description": "Kitchen sink drains very slowly, water backs up",
                "permissionToEnter": true, "dueAt": "2025-12-08T06:00:00Z", "status": "IN_PROGRESS",
                "resident": { "name": "Dana Poe", "phone": "+15125550142", "email": "dana@example.test" },
                "source": source("51877"), "writes": 2,
            })],
        ),
        (
            "attachment".to_owned(),
            vec![json!({
                "externalId": "yardi:700001", "workOrderId": "wo_1", "fileName": "sink.JPG",
                "contentType": "image/jpeg", "description": "Under the sink", "bytes": 3,
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            })],
        ),
    ])
}

pub(super) fn master() -> Vec<Master> {
    let address = |line1: &str| json!({ "line1": line1, "city": "Elm", "state": "TX", "postal_code": "75001", "country": "US" });
    let lease = json!({
        "household_id": "t0090001", "property_code": "oakrun", "unit_code": "01-101", "status": "notice",
        "active": true, "lease_from": "2025-01-10", "move_in": "2025-01-11", "move_out": "2025-12-31",
        "dropped": ["lease_to"],
    });
    let leaseholder = merged(
        &lease,
        json!({
            "code": "t0090001", "role": "leaseholder", "responsible_for_lease": true, "primary": true,
            "name": { "first": "Dana", "middle": "J", "last": "Poe", "full": "Dana J Poe" },
            "email": "dana@example.test", "phone": "(512) 555-0142",
        }),
    );
    let occupant = merged(
        &lease,
        json!({
            "code": "r0900011", "role": "occupant", "relationship": "Spouse",
            "responsible_for_lease": false, "primary": false, "name": {},
        }),
    );
    let record = |entity_type: &str, source_id: &str, data: Value| Master {
        entity_type: entity_type.to_owned(),
        source_id: source_id.to_owned(),
        deleted: false,
        data,
    };
    vec![
        record(
            "Location",
            "OAKRUN",
            json!({
                "kind": "property", "number": "OAKRUN", "name": "Oak Run", "property_code": "oakrun",
                "address": address("1 Oak Run Dr"), "active": true,
            }),
        ),
        record(
            "Location",
            "oakrun-01-101",
            json!({
                "kind": "unit", "number": "oakrun-01-101", "name": "oakrun 01-101",
                "property_code": "oakrun", "unit_code": "01-101",
                "address": address("1 Oak Run Dr APT 01-101"), "building": "Building 1",
                "rental_type": "Residential", "unit_type": "a2", "floor_plan": "1x1.5", "bedrooms": 1,
                "bathrooms": 1.5, "square_feet": 742, "market_rent": 1340,
                "unit_status": "Occupied No Notice", "active": true,
            }),
        ),
        record("Resident", "t0090001", leaseholder),
        record("Resident", "r0900011", occupant),
        record(
            "ServiceRequest",
            "51877",
            json!({
                "number": "51877", "property_code": "oakrun", "unit_code": "01-101",
                "resident_id": "t0090001", "origin": "OL",
                "summary": "Kitchen sink drains very slowly, water backs up",
                "description": "Kitchen sink drains very slowly, water backs up",
                "category": "Plumbing", "subcategory": "Drain", "priority": "High", "status": "In Progress",
                "history": [
                    { "at": "2025-07-04T14:10:02Z", "text": "2025-07-04T09:10:02" },
                    { "status": "In Progress", "at": "2025-12-05T22:02:31Z", "text": "2025-12-05T16:02:31" },
                ],
                "permission_to_enter": true, "access_notes": "Cat inside", "problem_notes": "Since May",
                "technician_notes": "Part ordered", "tenant_caused": false,
                "requester": { "name": "Dana Poe", "phone": "(512) 555-0142", "email": "dana@example.test" },
                "created_at": "2025-07-04T05:00:00Z", "created_text": "7/4/2025",
                "due_at": "2025-12-08T06:00:00Z", "due_text": "2025-12-08",
                "time_zone": "America/Chicago", "created_by": "portal", "has_attachments": true,
                "dropped": [],
            }),
        ),
        record(
            "Attachment",
            "700001",
            json!({
                "service_request_id": "51877", "property_code": "oakrun", "file_name": "sink.JPG",
                "content_type": "image/jpeg", "type": "Photo", "description": "Under the sink",
                "created_at": "2025-07-04T14:12:00Z", "created_text": "2025-07-04T09:12:00",
                "time_zone": "America/Chicago", "size": 3, "content": "YWJj", "dropped": [],
            }),
        ),
    ]
}

pub(super) fn merged(base: &Value, more: Value) -> Value {
    let mut merged = base.clone();
    if let (Value::Object(merged), Value::Object(more)) = (&mut merged, more) {
        merged.extend(more);
    }
    merged
}

pub(super) fn world() -> Held {
    Held {
        one: one(),
        lessen360: lessen360(),
        master: master(),
    }
}
