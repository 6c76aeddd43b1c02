//! The records as they are, for comparers: clean values under stable keys.

use std::sync::Arc;

use serde_json::{Value, json};

use super::YardiState;
use super::dates::{iso, stamp};
use super::held::Held;
use super::model::{Person, Resident, ServiceRequest, Unit};
use crate::control::Truth;

/// Kinds of records.
pub(crate) const KINDS: &[&str] = &[
    "property",
    "unit",
    "resident",
    "service_request",
    "attachment",
    "roommate_promotion",
];

/// The records of one kind, made one after the other.
pub(crate) fn records(state: Arc<YardiState>, kind: &str) -> Option<Truth> {
    type Count = fn(&Held, u32) -> u32;
    type Record = fn(&Held, u32, u32) -> Option<Value>;
    let (count, record): (Count, Record) = match kind {
        "property" => (|_, _| 1, property),
        "unit" => (Held::unit_count, |held, p, i| {
            held.unit(p, i).map(|one| unit(held, p, &one))
        }),
        "resident" => (Held::resident_count, |held, p, i| {
            held.resident(p, i).map(|one| resident(held, p, &one))
        }),
        "service_request" => (Held::request_count, |held, p, i| {
            held.request(p, i).map(|one| request(held, p, &one))
        }),
        "attachment" => (Held::attachment_count, |held, p, i| {
            held.attachment(p, i)
                .map(|one| super::attachments::truth(held.property_code(p), &one))
        }),
        "roommate_promotion" => (
            |held, p| u32::try_from(held.promotions(p).len()).unwrap_or(0),
            promotion,
        ),
        _ => return None,
    };
    let properties = state.read().seeded.properties();
    let places = (0..properties).flat_map({
        let state = Arc::clone(&state);
        move |p| {
            let count = count(&state.read(), p);
            (0..count).map(move |i| (p, i))
        }
    });
    Some(Box::new(
        places.filter_map(move |(p, i)| record(&state.read(), p, i)),
    ))
}

fn property(held: &Held, index: u32, _: u32) -> Option<Value> {
    let one = held.properties.get(index as usize)?;
    Some(json!({
        "key": format!("property:{}", one.index),
        "code": one.code,
        "formerCodes": one.former_codes,
        "marketingName": one.marketing_name,
        "addressLine1": one.address_line1,
        "city": one.city,
        "state": one.state,
        "postalCode": one.postal_code,
        "units": held.unit_count(index),
    }))
}

fn unit(held: &Held, property: u32, one: &Unit) -> Value {
    json!({
        "key": format!("unit:{}", one.unique_id),
        "uniqueId": one.unique_id.to_string(),
        "propertyKey": format!("property:{property}"),
        "propertyCode": held.property_code(property),
        "unitCode": one.code,
        "pseudo": one.pseudo,
        "unitType": one.unit_type,
        "bedrooms": one.bedrooms,
        "bathrooms": f64::from(one.half_bathrooms) / 2.0,
        "squareFeet": one.square_feet,
        "marketRent": one.market_rent,
        "economicStatus": one.economic_status,
        "statusDescription": one.status_description,
        "floorplan": one.floorplan,
        "building": one.building,
        "addressLine1": one.address_line1,
        "city": one.city,
        "state": one.state,
        "postalCode": one.postal_code,
        "currentTenant": held.lives_in(property, &one.code, one.index),
    })
}

fn person(one: &Person) -> Value {
    json!({
        "firstName": one.first,
        "middleName": one.middle,
        "lastName": one.last,
        "email": one.email,
        "homePhone": one.home_phone,
        "officePhone": one.office_phone,
        "mobilePhone": one.mobile_phone,
    })
}

fn resident(held: &Held, property: u32, one: &Resident) -> Value {
    let occupants: Vec<Value> = one
        .occupants
        .iter()
        .map(|occupant| {
            json!({
                "rCode": occupant.r_code,
                "pCode": occupant.p_code,
                "relationship": occupant.relationship,
                "responsibleForLease": occupant.responsible,
                "person": person(&occupant.person),
            })
        })
        .collect();
    json!({
        "key": format!("resident:{}", one.t_code),
        "tCode": one.t_code,
        "pCode": one.p_code,
        "propertyKey": format!("property:{property}"),
        "propertyCode": held.property_code(property),
        "unitCode": one.unit_code,
        "status": one.status,
        "person": person(&one.person),
        "addressLine1": one.address_line1,
        "addressCity": one.city,
        "unitSqFt": one.unit_square_feet,
        "rent": one.rent,
        "leaseFrom": iso(one.lease_from),
        "leaseTo": iso(one.lease_to),
        "moveIn": one.move_in.map(iso),
        "moveOut": one.move_out.map(iso),
        "notice": one.notice.map(iso),
        "occupants": occupants,
    })
}

fn request(held: &Held, property: u32, one: &ServiceRequest) -> Value {
    let history: Vec<Value> = one
        .history
        .iter()
        .map(|(status, at)| json!({ "type": status, "timeStamp": stamp(*at) }))
        .collect();
    json!({
        "key": format!("service_request:{}", one.id),
        "serviceRequestId": one.id.to_string(),
        "propertyKey": format!("property:{property}"),
        "propertyCode": held.property_code(property),
        "unitCode": one.unit_code,
        "tenantCode": one.tenant_code,
        "origin": one.origin,
        "briefDescription": one.brief(),
        "fullDescription": one.description,
        "priority": one.priority,
        "category": one.category,
        "subCategory": one.sub_category,
        "permissionToEnter": one.permission_to_enter,
        "accessNotes": one.access_notes,
        "problemNotes": one.problem_notes,
        "technicianNotes": one.technician_notes,
        "tenantCaused": one.tenant_caused,
        "requestorName": one.requestor_name,
        "requestorPhone": one.requestor_phone,
        "requestorEmail": one.requestor_email,
        "createdDate": stamp(one.created),
        "dueDate": one.due.map(iso),
        "hasAttachments": held.has_attachments(property, one.id),
        "createdBy": one.created_by,
        "updateDate": stamp(one.updated),
        "updatedBy": one.updated_by,
        "status": one.status,
        "statusHistory": history,
    })
}

fn promotion(held: &Held, property: u32, index: u32) -> Option<Value> {
    let all = held.promotions(property);
    let one = all.get(index as usize)?;
    Some(json!({
        "key": format!("roommate_promotion:{}", one.new_tenant),
        "propertyCode": held.property_code(property),
        "priorTenant": one.prior_tenant,
        "newTenant": one.new_tenant,
        "oldRoomateCode": one.old_roommate_code,
        "pCode": one.person_code,
        "unitCode": one.unit_code,
        "moveOut": iso(one.move_out),
    }))
}
