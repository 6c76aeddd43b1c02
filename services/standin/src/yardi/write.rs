//! CreateOrEditServiceRequests: each record of the batch is judged by itself.

use std::sync::Arc;

use chrono::NaiveDateTime;

use super::YardiState;
use super::dates::parameter;
use super::held::Held;
use super::model::ServiceRequest;
use super::requests::{CLOSE, OPEN, request_xml};
use super::soap::{Element, parse};
use super::xml::{Reply, Xml, messages};
use crate::ledger::Effect;

const PRIORITIES: &[&str] = &["Low", "Med", "High", "24 hours", "Emergency"];

/// Longest full description, in characters.
const MAX_DESCRIPTION: usize = 4_000;

/// Carries out a batch for one property.
pub(crate) fn create_or_edit(
    state: &Arc<YardiState>,
    property: u32,
    call: &Element,
    lie: bool,
) -> (Reply, Effect, Vec<String>) {
    let mut keys = Vec::new();
    let mut effect = Effect::default();
    let Some(holder) = call.child("ServiceRequestXml") else {
        let fault = Reply::Fault {
            client: false,
            text: "Object reference not set to an instance of an object.".into(),
        };
        return (fault, effect, keys);
    };
    // The document comes inline, or as escaped text.
    let escaped = if holder.children.is_empty() && !holder.text.trim().is_empty() {
        match parse(holder.text.trim()) {
            Ok(root) => Some(Element {
                children: vec![root],
                ..Element::default()
            }),
            Err(text) => {
                let text = format!("XSD Error: {text}");
                return (messages("Error", &[&text, ""]), effect, keys);
            }
        }
    } else {
        None
    };
    let mut records = Vec::new();
    escaped
        .as_ref()
        .unwrap_or(holder)
        .descendants("ServiceRequest", &mut records);
    if records.is_empty() {
        let text = "XSD Error: The element 'ServiceRequests' has incomplete content.";
        return (messages("Error", &[text, ""]), effect, keys);
    }
    if lie {
        let records: String = records
            .iter()
            .map(|_| "<ServiceRequest><ServiceRequestId/></ServiceRequest>")
            .collect();
        return (Reply::Xml(format!("{OPEN}{records}{CLOSE}")), effect, keys);
    }
    let now = state.front.options.server_now();
    let mut held = state.write();
    let mut inner = OPEN.to_owned();
    for record in records {
        match one(&mut held, property, record, now) {
            Ok((request, created, twin)) => {
                if created {
                    effect.created += 1;
                    effect.duplicates_created += u32::from(twin);
                } else {
                    effect.updated += 1;
                }
                keys.push(format!("service_request:{}", request.id));
                inner.push_str(&request_xml(&held, property, &request));
            }
            Err(text) => {
                let mut xml = Xml::default();
                xml.open("ServiceRequest")
                    .element("ServiceRequestId", record.text_of("ServiceRequestId"))
                    .errors(&text)
                    .close("ServiceRequest");
                inner.push_str(&xml.0);
            }
        }
    }
    inner.push_str(CLOSE);
    (Reply::Xml(inner), effect, keys)
}

/// Creates or edits one record; says whether it was created and whether its twin was there.
fn one(
    held: &mut Held,
    property: u32,
    record: &Element,
    now: NaiveDateTime,
) -> Result<(ServiceRequest, bool, bool), String> {
    let id: u64 = match record.text_of("ServiceRequestId") {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| "ServiceRequestId is not a number".to_owned())?,
    };
    let mut request = if id == 0 {
        blank(now)
    } else {
        held.find_request(id)
            .filter(|(own, _)| *own == property)
            .and_then(|(own, index)| held.request(own, index))
            .ok_or_else(|| format!("Could not find service request {id}"))?
    };
    let before = request.status.clone();
    fill(held, property, &mut request, record)?;
    if id == 0 {
        if request.description.is_empty() {
            return Err("ServiceRequestFullDescription is required".into());
        }
        if record.text_of("HasPermissionToEnter").is_empty() {
            return Err("HasPermissionToEnter is required".into());
        }
    }
    if request.status != before || id == 0 {
        request.history.push((request.status.clone(), now));
    }
    request.updated = now.max(request.updated);
    request.updated_by = "interface".to_owned();
    if id == 0 {
        let twin = (0..held.request_count(property))
            .rev()
            .take(2_000)
            .filter_map(|index| held.request(property, index))
            .any(|other| {
                other.unit_code == request.unit_code
                    && other.description == request.description
                    && other.created_by == request.created_by
            });
        return Ok((held.add_request(property, request), true, twin));
    }
    held.put_request(property, request.clone());
    Ok((request, false, false))
}

fn blank(now: NaiveDateTime) -> ServiceRequest {
    ServiceRequest {
        index: 0,
        id: 0,
        origin: "IN",
        unit_code: String::new(),
        tenant_code: String::new(),
        description: String::new(),
        priority: "Med".to_owned(),
        category: "Other".to_owned(),
        sub_category: String::new(),
        permission_to_enter: false,
        access_notes: String::new(),
        problem_notes: String::new(),
        technician_notes: String::new(),
        tenant_caused: false,
        requestor_name: String::new(),
        requestor_phone: String::new(),
        requestor_email: String::new(),
        created: now,
        due: None,
        created_by: "interface".to_owned(),
        updated: now,
        updated_by: "interface".to_owned(),
        status: "Call".to_owned(),
        history: Vec::new(),
    }
}

/// Takes over the elements that are present.
fn fill(
    held: &Held,
    property: u32,
    request: &mut ServiceRequest,
    record: &Element,
) -> Result<(), String> {
    let given = |name: &str| record.child(name).map(|child| child.text.trim().to_owned());
    if let Some(unit) = given("UnitCode") {
        let known = unit.is_empty()
            || (0..held.unit_count(property))
                .filter_map(|index| held.unit(property, index))
                .any(|one| one.code.eq_ignore_ascii_case(&unit));
        if !known {
            return Err("Could not find the unit".into());
        }
        request.unit_code = unit;
    }
    if let Some(text) =
        given("ServiceRequestFullDescription").or_else(|| given("ServiceRequestBriefDescription"))
    {
        if text.chars().count() > MAX_DESCRIPTION {
            return Err(format!(
                "ServiceRequestFullDescription is longer than {MAX_DESCRIPTION}"
            ));
        }
        request.description = text;
    }
    if let Some(priority) = given("Priority") {
        if !PRIORITIES.contains(&priority.as_str()) {
            return Err("Invalid Priority".into());
        }
        request.priority = priority;
    }
    if let Some(text) = given("HasPermissionToEnter") {
        request.permission_to_enter = match text.to_lowercase().as_str() {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => return Err("HasPermissionToEnter is not a boolean".into()),
        };
    }
    if let Some(text) = given("DueDate") {
        request.due = parameter(&text)?;
    }
    for (name, field) in [
        ("TenantCode", &mut request.tenant_code),
        ("Category", &mut request.category),
        ("SubCategory", &mut request.sub_category),
        ("AccessNotes", &mut request.access_notes),
        ("ProblemDescriptionNotes", &mut request.problem_notes),
        ("TechnicianNotes", &mut request.technician_notes),
        ("RequestorName", &mut request.requestor_name),
        ("RequestorPhoneNumber", &mut request.requestor_phone),
        ("RequestorEmail", &mut request.requestor_email),
        ("CurrentStatus", &mut request.status),
    ] {
        if let Some(text) = given(name) {
            *field = text;
        }
    }
    if request.status.is_empty() {
        return Err("Invalid CurrentStatus".into());
    }
    Ok(())
}
