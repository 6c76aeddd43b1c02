//! What a customer's people do to their records over a day.

use chrono::{Days, NaiveDateTime, TimeDelta};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::generate::{draft, full_name, person, t_code};
use super::held::Held;
use super::model::{Attachment, Content, Promotion, Resident, ServiceRequest};
use crate::control::EditRequest;
use crate::words::{TECHNICIAN, email, phone, pick, weighted};

/// The edits with their usual weights. Those of weight 0 happen only on demand.
const EDITS: &[(u32, &str)] = &[
    (52, "service_request.update"),
    (14, "service_request.create"),
    (1, "service_request.delete"),
    (0, "service_request.future"),
    (10, "resident.update"),
    (5, "resident.create"),
    (2, "resident.delete"),
    (1, "resident.promote"),
    (6, "unit.update"),
    (1, "unit.create"),
    (1, "unit.delete"),
    (5, "attachment.create"),
    (2, "attachment.delete"),
    (0, "property.rename"),
];

/// How often another record is tried when the first does not fit an edit.
const TRIES: usize = 40;

/// Makes the edits asked for; each entry of the answer names the edit and its record.
///
/// # Errors
/// A text when `only` names no known edit or no record fits.
pub(crate) fn edit(
    held: &mut Held,
    now: NaiveDateTime,
    request: &EditRequest,
) -> Result<Vec<Value>, String> {
    let choice = request.choice(EDITS)?;
    let mut done = Vec::with_capacity(request.count);
    for _ in 0..request.count {
        let mut random = held.edit_random();
        let made = (0..TRIES).find_map(|_| {
            let name = weighted(&mut random, &choice);
            one(held, now, &mut random, name).map(|key| json!({ "edit": name, "key": key }))
        });
        match made {
            Some(entry) => done.push(entry),
            None => return Err(format!("no record fits after {} edits", done.len())),
        }
    }
    Ok(done)
}

fn one(held: &mut Held, now: NaiveDateTime, random: &mut ChaCha8Rng, name: &str) -> Option<String> {
    let properties = u32::try_from(held.properties.len()).ok()?;
    let property = random.random_range(0..properties);
    match name {
        "service_request.update" => update_request(held, now, random, property),
        "service_request.create" => create_request(held, now, random, property),
        "service_request.delete" => {
            let request = any_request(held, random, property)?;
            held.remove_request(property, &request);
            Some(request.id.to_string())
        }
        "service_request.future" => {
            let mut request = any_request(held, random, property)?;
            request.updated = now + TimeDelta::days(2);
            request.technician_notes = format!("clock ahead {}", random.random_range(0..1_000));
            let id = request.id;
            held.put_request(property, request);
            Some(id.to_string())
        }
        "resident.update" => update_resident(held, random, property),
        "resident.create" => move_in(held, now, random, property),
        "resident.delete" => {
            let resident = any_resident(held, random, property)?;
            if resident.status != "Past" {
                return None;
            }
            held.remove_resident(property, &resident);
            Some(resident.t_code)
        }
        "resident.promote" => promote(held, now, random, property),
        "unit.update" => {
            let mut unit = held.unit(property, position(random, held.unit_count(property))?)?;
            unit.market_rent += random.random_range(5..60);
            if !unit.pseudo && random.random_bool(0.4) {
                (unit.economic_status, unit.status_description) = *pick(
                    random,
                    &[
                        ("residential", "Occupied No Notice"),
                        ("residential", "Notice Unrented"),
                        ("residential", "Vacant Unrented Ready"),
                        ("Down", "Down"),
                    ],
                );
            }
            let key = unit.unique_id.to_string();
            held.put_unit(property, unit);
            Some(key)
        }
        "unit.create" => {
            let mut unit = held.unit(property, position(random, held.unit_count(property))?)?;
            if unit.pseudo {
                return None;
            }
            unit.code = format!("N{}", held.next_unit);
            unit.status_description = "Vacant Unrented Ready";
            unit.economic_status = "residential";
            unit.address_line1 = format!("{} New Wing APT {}", unit.index + 1, unit.code);
            Some(held.add_unit(property, unit).unique_id.to_string())
        }
        "unit.delete" => delete_unit(held, random, property),
        "attachment.create" => {
            let request = any_request(held, random, property)?;
            let number = random.random_range(1..9_999);
            let attachment = Attachment {
                index: 0,
                id: 0,
                service_request_id: request.id,
                file_name: format!("IMG_{number:04}.jpg"),
                attachment_type: "Photo".to_owned(),
                description: format!("After the visit, {number}"),
                created: now,
                content: Content::Invented {
                    bytes: random.random_range(200..3_000),
                },
            };
            Some(held.add_attachment(property, attachment).id.to_string())
        }
        "attachment.delete" => {
            let index = position(random, held.attachment_count(property))?;
            let attachment = held.attachment(property, index)?;
            held.remove_attachment(property, index);
            Some(attachment.id.to_string())
        }
        "property.rename" => {
            let code = format!("{}x", held.property_code(property));
            held.rename(property, &code).then_some(code)
        }
        _ => None,
    }
}

fn position(random: &mut ChaCha8Rng, count: u32) -> Option<u32> {
    (count > 0).then(|| random.random_range(0..count))
}

fn any_request(held: &Held, random: &mut ChaCha8Rng, property: u32) -> Option<ServiceRequest> {
    held.request(property, position(random, held.request_count(property))?)
}

fn any_resident(held: &Held, random: &mut ChaCha8Rng, property: u32) -> Option<Resident> {
    held.resident(property, position(random, held.resident_count(property))?)
}

fn update_request(
    held: &mut Held,
    now: NaiveDateTime,
    random: &mut ChaCha8Rng,
    property: u32,
) -> Option<String> {
    let mut request = any_request(held, random, property)?;
    match random.random_range(0..10) {
        0..=4 => {
            let next = *pick(
                random,
                match request.status.as_str() {
                    "Work Completed" => &["Completed", "In Progress"][..],
                    "Completed" | "Canceled" => &["In Progress"][..],
                    "In Progress" => &["Work Completed", "On Hold", "Request Reassignment"][..],
                    "Scheduled" => &["In Progress", "Canceled", "Request Reassignment"][..],
                    _ => &["Scheduled", "In Progress", "Canceled"][..],
                },
            );
            request.status = next.to_owned();
            request.history.push((next.to_owned(), now));
        }
        5 | 6 => {
            let last = request.technician_notes;
            let mut note = (*pick(random, TECHNICIAN)).to_owned();
            if note == last {
                note = format!("Visit {}", random.random_range(2..1_000));
            }
            request.technician_notes = note;
        }
        7 => {
            let next = *pick(random, &["Low", "Med", "High", "Emergency"]);
            if request.priority == next {
                request.access_notes = format!("Changed: gate {}", random.random_range(1..1_000));
            }
            request.priority = next.to_owned();
        }
        8 => request.permission_to_enter = !request.permission_to_enter,
        _ => {
            request.description = format!(
                "{} (again, {})",
                request.description,
                now.format("%H:%M:%S")
            );
            // A description cannot grow for ever.
            if request.description.chars().count() > 600 {
                request.description = draft(random).description;
            }
        }
    }
    // Two edits within one second are real; an edit dated before the last one is not.
    request.updated = now.max(request.updated);
    request.updated_by = format!("mgr{}", random.random_range(1..5));
    let id = request.id;
    held.put_request(property, request);
    Some(id.to_string())
}

fn create_request(
    held: &mut Held,
    now: NaiveDateTime,
    random: &mut ChaCha8Rng,
    property: u32,
) -> Option<String> {
    let unit = held.unit(property, position(random, held.unit_count(property))?)?;
    if unit.pseudo {
        return None;
    }
    let tenant = held.lives_in(property, &unit.code, unit.index);
    let who = held
        .resident(property, unit.index)
        .filter(|resident| Some(&resident.t_code) == tenant.as_ref())
        .map(|resident| resident.person);
    let draft = draft(random);
    let request = ServiceRequest {
        index: 0,
        id: 0,
        origin: draft.origin,
        unit_code: unit.code,
        tenant_code: tenant.unwrap_or_default(),
        description: draft.description,
        priority: draft.priority.to_owned(),
        category: draft.category.to_owned(),
        sub_category: draft.sub_category,
        permission_to_enter: draft.permission_to_enter,
        access_notes: draft.access_notes,
        problem_notes: String::new(),
        technician_notes: String::new(),
        tenant_caused: false,
        requestor_name: who
            .as_ref()
            .map_or_else(|| "Front Office".to_owned(), full_name),
        requestor_phone: who
            .as_ref()
            .map_or(String::new(), |p| p.mobile_phone.clone()),
        requestor_email: who.map_or(String::new(), |p| p.email),
        created: now,
        due: None,
        created_by: "portal".to_owned(),
        updated: now,
        updated_by: "portal".to_owned(),
        status: "Call".to_owned(),
        history: vec![("Call".to_owned(), now)],
    };
    Some(held.add_request(property, request).id.to_string())
}

fn update_resident(held: &mut Held, random: &mut ChaCha8Rng, property: u32) -> Option<String> {
    let mut resident = any_resident(held, random, property)?;
    match random.random_range(0..3) {
        0 => resident.person.mobile_phone = phone(random),
        1 => {
            let (first, last) = (resident.person.first.clone(), resident.person.last.clone());
            resident.person.email = email(random, &first, &last);
        }
        _ if resident.status == "Current" => {
            resident.status = "Notice";
            resident.notice = resident.lease_to.checked_sub_days(Days::new(30));
        }
        _ => resident.rent += random.random_range(1..50),
    }
    let key = resident.t_code.clone();
    held.put_resident(property, resident);
    Some(key)
}

fn move_in(
    held: &mut Held,
    now: NaiveDateTime,
    random: &mut ChaCha8Rng,
    property: u32,
) -> Option<String> {
    let unit = held.unit(property, position(random, held.unit_count(property))?)?;
    if unit.pseudo {
        return None;
    }
    let free = held.lives_in(property, &unit.code, unit.index).is_none();
    let number = held.next_tenant;
    let today = now.date();
    let resident = Resident {
        index: 0,
        t_code: t_code(number),
        p_code: format!("p{number:07}"),
        status: if free { "Current" } else { "Future" },
        person: person(random),
        address_line1: String::new(),
        city: String::new(),
        unit_code: unit.code,
        unit_square_feet: unit.square_feet,
        rent: unit.market_rent,
        lease_from: today,
        lease_to: today.checked_add_days(Days::new(364))?,
        move_in: free.then_some(today),
        move_out: None,
        notice: None,
        occupants: Vec::new(),
    };
    Some(held.add_resident(property, resident).t_code)
}

/// A leaseholder leaves and the first responsible roommate takes over the lease under a new
/// tenant code.
fn promote(
    held: &mut Held,
    now: NaiveDateTime,
    random: &mut ChaCha8Rng,
    property: u32,
) -> Option<String> {
    let mut prior = any_resident(held, random, property)?;
    if prior.status != "Current" || prior.unit_code.is_empty() {
        return None;
    }
    let at = prior
        .occupants
        .iter()
        .position(|one| one.relationship != "Child")?;
    let roommate = prior.occupants.remove(at);
    let number = held.next_tenant;
    let today = now.date();
    let successor = Resident {
        index: 0,
        t_code: t_code(number),
        p_code: roommate.p_code.clone(),
        status: "Current",
        person: roommate.person,
        move_in: Some(today),
        occupants: std::mem::take(&mut prior.occupants),
        ..prior.clone()
    };
    let promotion = Promotion {
        prior_tenant: prior.t_code.clone(),
        new_tenant: successor.t_code.clone(),
        old_roommate_code: roommate.r_code,
        person_code: roommate.p_code,
        unit_code: prior.unit_code.clone(),
        move_out: today,
    };
    prior.status = "Past";
    prior.move_out = Some(today);
    held.put_resident(property, prior);
    let key = held.add_resident(property, successor).t_code;
    held.add_promotion(property, promotion);
    Some(key)
}

/// Only an empty unit without any resident or request disappears.
fn delete_unit(held: &mut Held, random: &mut ChaCha8Rng, property: u32) -> Option<String> {
    let unit = held.unit(property, position(random, held.unit_count(property))?)?;
    if unit.pseudo || held.lives_in(property, &unit.code, unit.index).is_some() {
        return None;
    }
    let has_people = (0..held.resident_count(property))
        .filter_map(|index| held.resident(property, index))
        .any(|resident| resident.unit_code == unit.code);
    let has_requests = (0..held.request_count(property))
        .filter_map(|index| held.request(property, index))
        .any(|request| request.unit_code == unit.code);
    if has_people || has_requests {
        return None;
    }
    held.remove_unit(property, unit.index);
    Some(unit.unique_id.to_string())
}
