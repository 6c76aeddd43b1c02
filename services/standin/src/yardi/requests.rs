//! Reading service requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::YardiState;
use super::dates::{Days, iso, parameter, stamp};
use super::held::Held;
use super::listing::{Frame, Spoil, boolean, code, listing, oddity};
use super::model::ServiceRequest;
use super::soap::Element;
use super::xml::{Reply, Xml};
use crate::fault::FaultKind;

/// Filters of the search operations; empty ones match everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestFilter {
    unit_code: String,
    resident_code: String,
    name: String,
    phone: String,
    status: String,
    open: Option<bool>,
    origin: String,
    /// `FromDate` to `ToDate`, on the update date.
    updated: Days,
    /// `CreatedFromDate` to `CreatedToDate`.
    created: Days,
}

impl RequestFilter {
    /// # Errors
    /// The fault text for a date nobody can read.
    pub(crate) fn new(call: &Element) -> Result<Self, String> {
        let lower = |name: &str| call.text_of(name).to_lowercase();
        Ok(Self {
            unit_code: lower("UnitCode"),
            resident_code: lower("ResidentCode"),
            name: lower("Name"),
            phone: call.text_of("PhoneNumber").to_owned(),
            status: lower("Status"),
            open: match lower("OpenOrClosed").as_str() {
                "open" => Some(true),
                "closed" => Some(false),
                _ => None,
            },
            origin: lower("Origin"),
            updated: days(call, "FromDate", "ToDate")?,
            created: days(call, "CreatedFromDate", "CreatedToDate")?,
        })
    }

    fn matches(&self, request: &ServiceRequest) -> bool {
        let same = |wanted: &str, value: &str| wanted.is_empty() || value.to_lowercase() == wanted;
        self.updated.contain(request.updated.date())
            && self.created.contain(request.created.date())
            && same(&self.status, &request.status)
            && self.open.is_none_or(|open| open != request.closed())
            && same(&self.unit_code, &request.unit_code)
            && same(&self.resident_code, &request.tenant_code)
            && same(&self.origin, request.origin)
            && (self.name.is_empty() || request.requestor_name.to_lowercase().contains(&self.name))
            && (self.phone.is_empty() || request.requestor_phone == self.phone)
    }
}

/// A range of whole days from two parameters.
///
/// # Errors
/// The fault text for a date nobody can read.
pub(crate) fn days(call: &Element, from: &str, to: &str) -> Result<Days, String> {
    Ok(Days {
        from: parameter(call.text_of(from))?,
        to: parameter(call.text_of(to))?,
    })
}

pub(crate) const OPEN: &str = "<ServiceRequests xmlns=\"\">";
pub(crate) const CLOSE: &str = "</ServiceRequests>";

/// A record that holds only an error.
pub(crate) fn error_record(text: &str) -> String {
    let mut xml = Xml::default();
    xml.open("ServiceRequest")
        .errors(text)
        .close("ServiceRequest");
    xml.0
}

/// An error in place of service requests.
pub(crate) fn error(text: &str) -> Reply {
    Reply::Xml(format!("{OPEN}{}{CLOSE}", error_record(text)))
}

/// GetServiceRequest_Search and GetServiceRequest_ByDateRange.
pub(crate) fn search(
    state: &Arc<YardiState>,
    property: u32,
    filter: RequestFilter,
    kind: Option<FaultKind>,
) -> Reply {
    let count = state.read().request_count(property);
    list(state, property, count, kind, move |held, index| {
        held.request(property, index)
            .filter(|request| filter.matches(request))
    })
}

/// GetServiceRequests: the array comes as `int` elements or as text with commas.
pub(crate) fn by_ids(
    state: &Arc<YardiState>,
    property: u32,
    call: &Element,
    kind: Option<FaultKind>,
) -> Reply {
    let mut texts = Vec::new();
    if let Some(array) = call.child("ServiceRequestIdArray") {
        texts.extend(array.text.split([',', ' ']).map(str::to_owned));
        texts.extend(array.children.iter().map(|child| child.text.clone()));
    }
    let positions: BTreeSet<u32> = {
        let held = state.read();
        texts
            .iter()
            .filter_map(|text| text.trim().parse().ok())
            .filter_map(|id| held.find_request(id))
            .filter(|(own, _)| *own == property)
            .map(|(_, index)| index)
            .collect()
    };
    let positions: Vec<u32> = positions.into_iter().collect();
    let count = u32::try_from(positions.len()).unwrap_or(u32::MAX);
    list(state, property, count, kind, move |held, at| {
        held.request(property, *positions.get(at as usize)?)
    })
}

fn list<F>(
    state: &Arc<YardiState>,
    property: u32,
    count: u32,
    kind: Option<FaultKind>,
    mut pick: F,
) -> Reply
where
    F: FnMut(&Held, u32) -> Option<ServiceRequest> + Send + 'static,
{
    let frame = Frame {
        open: OPEN.into(),
        close: CLOSE.into(),
        nothing: error_record("No service requests found"),
    };
    let spoil = Spoil {
        kind,
        id_element: "ServiceRequestId",
        date_element: "ServiceRequestDate",
    };
    listing(state, count, frame, spoil, move |held, at| {
        let request = pick(held, at)?;
        Some(request_xml(held, property, &request))
    })
}

/// One service request as every operation shows it.
pub(crate) fn request_xml(held: &Held, property: u32, request: &ServiceRequest) -> String {
    let id = request.id;
    let mut xml = Xml::default();
    let has_attachments = held.has_attachments(property, id);
    xml.open("ServiceRequest")
        .element("ServiceRequestId", &id.to_string())
        .element("Origin", request.origin)
        .element("PropertyCode", &code(held.property_code(property), id, 1))
        .element("UnitCode", &code(&request.unit_code, id, 2))
        .element("TenantCode", &code(&request.tenant_code, id, 3))
        .element("ServiceRequestBriefDescription", &request.brief())
        .element("ServiceRequestFullDescription", &request.description)
        .element("Priority", &request.priority)
        .element("Category", &request.category)
        .element("SubCategory", &request.sub_category)
        .element(
            "HasPermissionToEnter",
            boolean(request.permission_to_enter, id, 4),
        )
        .element("AccessNotes", &request.access_notes)
        .element("ProblemDescriptionNotes", &request.problem_notes)
        .element("TechnicianNotes", &request.technician_notes)
        .element("TenantCaused", boolean(request.tenant_caused, id, 5))
        .element("RequestorName", &request.requestor_name)
        .element("RequestorPhoneNumber", &request.requestor_phone)
        .element("RequestorEmail", &request.requestor_email);
    let date = if oddity(id, 6).is_multiple_of(50) {
        super::dates::slashes(request.created.date())
    } else {
        iso(request.created.date())
    };
    xml.element("ServiceRequestDate", &date)
        .element("DueDate", &request.due.map(iso).unwrap_or_default())
        .element("HasAttachments", boolean(has_attachments, id, 7))
        .element("CreatedBy", &request.created_by)
        .element("UpdateDate", &stamp(request.updated))
        .element("UpdatedBy", &request.updated_by)
        .element("CurrentStatus", &request.status)
        .open("StatusHistory");
    for (status, at) in &request.history {
        xml.open(&format!(
            "Status Type=\"{}\" TimeStamp=\"{}\"/",
            quick_xml::escape::escape(status.as_str()),
            stamp(*at)
        ));
    }
    xml.close("StatusHistory").close("ServiceRequest");
    xml.0
}
