//! Which operation does what at which interface.

use std::sync::Arc;

use super::YardiState;
use super::login::{self, Refusal};
use super::people::ResidentFilter;
use super::requests::{RequestFilter, days};
use super::soap::Element;
use super::xml::{Reply, respond};
use super::{attachments, people, places, requests, write};
use crate::fault::{FaultKind, FaultRule};
use crate::front::Outcome;
use crate::ledger::Effect;

/// The interfaces, each an `.asmx` page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    ServiceRequests,
    ResidentData,
    CommonData,
    ResidentTransactions,
}

impl Interface {
    const ALL: [Self; 4] = [
        Self::ServiceRequests,
        Self::ResidentData,
        Self::CommonData,
        Self::ResidentTransactions,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ServiceRequests => "ItfServiceRequests",
            Self::ResidentData => "ItfResidentData",
            Self::CommonData => "ItfCommonData",
            Self::ResidentTransactions => "ItfResidentTransactions20",
        }
    }

    /// The interface of a path such as `/acme/Webservices/itfServiceRequests.asmx`.
    pub(crate) fn by_path(path: &str) -> Option<Self> {
        let mut parts = path.trim_start_matches('/').split('/');
        let (_company, folder, page) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !folder.eq_ignore_ascii_case("webservices") {
            return None;
        }
        let (name, ending) = page.rsplit_once('.')?;
        if !ending.eq_ignore_ascii_case("asmx") {
            return None;
        }
        Self::ALL
            .into_iter()
            .find(|interface| interface.name().eq_ignore_ascii_case(name))
    }

    fn namespace(self) -> String {
        format!(
            "http://tempuri.org/YSI.Interfaces.WebServices/{}",
            self.name()
        )
    }

    fn offers(self, operation: &str) -> bool {
        let common = matches!(operation, "Ping" | "GetVersionNumber");
        common
            || match self {
                Self::ServiceRequests => matches!(
                    operation,
                    "GetPropertyConfigurations"
                        | "GetResident_Search"
                        | "GetServiceRequest_Search"
                        | "GetServiceRequest_ByDateRange"
                        | "GetServiceRequests"
                        | "CreateOrEditServiceRequests"
                        | "GetAttachmentTypes"
                        | "GetAttachments"
                        | "GetAttachments_DateRange"
                        | "GetServiceRequest_AttachmentSearch"
                        | "ImportWorkOrderDocumentExt"
                        | "ImportWorkOrderDocumentPDF"
                ),
                Self::ResidentData => matches!(
                    operation,
                    "GetPropertyConfigurations"
                        | "GetUnitInformation"
                        | "GetResidents"
                        | "GetRoommatePromotions"
                        | "GetAttachmentTypes"
                ),
                Self::CommonData => matches!(
                    operation,
                    "GetPropertyConfigurations" | "GetTenants" | "GetTenantsByUnit"
                ),
                Self::ResidentTransactions => matches!(
                    operation,
                    "GetPropertyConfigurations"
                        | "GetUnitInformation_Login"
                        | "GetResidentTransactions_Login"
                ),
            }
    }
}

/// Whether an operation writes.
pub(crate) fn writes(operation: &str) -> bool {
    operation.starts_with("CreateOrEdit") || operation.starts_with("Import")
}

/// The property a call is about and the records it means to change.
pub(crate) fn keys(call: &Element) -> Vec<String> {
    let property = property_parameter(call);
    let mut keys = Vec::new();
    if writes(&call.name) {
        let mut ids = Vec::new();
        call.descendants("ServiceRequestId", &mut ids);
        call.descendants("WorkOrderId", &mut ids);
        keys.extend(
            ids.iter()
                .map(|id| id.text.trim())
                .filter(|id| !matches!(*id, "" | "0"))
                .map(|id| format!("service_request:{id}")),
        );
    } else if let Some(property) = property.filter(|code| !code.is_empty()) {
        keys.push(format!("property:{property}"));
    }
    keys
}

/// The property element, which is named in four ways.
fn property_parameter(call: &Element) -> Option<&str> {
    [
        "YardiPropertyId",
        "PropertyID",
        "PropertyId",
        "PropertyCode",
    ]
    .iter()
    .find_map(|name| call.child(name))
    .map(|element| element.text.trim())
}

/// Carries out one operation.
pub(crate) fn run(
    state: &Arc<YardiState>,
    interface: Interface,
    operation: &str,
    call: &Element,
    fault: Option<&FaultRule>,
) -> Outcome {
    let (reply, effect, keys) = if interface.offers(operation) && call.name == operation {
        carry_out(state, interface, operation, call, fault)
    } else {
        let text = format!(
            "Server did not recognize the value of HTTP Header SOAPAction: {}/{operation}.",
            interface.namespace()
        );
        read(Reply::Fault { client: true, text })
    };
    Outcome {
        response: respond(&interface.namespace(), operation, reply),
        effect,
        keys,
    }
}

type Done = (Reply, Effect, Vec<String>);

fn read(reply: Reply) -> Done {
    (reply, Effect::default(), Vec::new())
}

fn carry_out(
    state: &Arc<YardiState>,
    interface: Interface,
    operation: &str,
    call: &Element,
    fault: Option<&FaultRule>,
) -> Done {
    match operation {
        "Ping" => return read(Reply::Text(format!("{} is alive", interface.name()))),
        "GetVersionNumber" => return read(Reply::Text("Voyager 7S stand-in 1.0".into())),
        _ => {}
    }
    let kind = fault.map(|rule| rule.kind);
    let forced = fault
        .filter(|rule| rule.kind == FaultKind::AuthForm)
        .map(|rule| Refusal::by_number(rule.form.unwrap_or(1)));
    let checked = match forced {
        Some(refusal) => Err(refusal),
        None => login::check(&state.front.options, interface.name(), call),
    };
    if let Err(refusal) = checked {
        return read(refusal.reply());
    }
    if operation == "GetPropertyConfigurations" {
        return read(places::properties(&state.read()));
    }
    let Some(code) = property_parameter(call) else {
        return read(Reply::Fault {
            client: false,
            text: "Server was unable to process request. ---> Object reference not set to an \
                   instance of an object."
                .into(),
        });
    };
    let found = state.read().property_by_code(code);
    let Some(property) = found else {
        return read(unknown_property(operation, code));
    };
    for_property(state, operation, call, property, kind).unwrap_or_else(|text| {
        read(Reply::Fault {
            client: false,
            text,
        })
    })
}

fn unknown_property(operation: &str, code: &str) -> Reply {
    let text = format!("Could not find property '{code}'");
    match operation {
        "GetResident_Search" => people::customer_error(&text),
        "GetUnitInformation" | "GetUnitInformation_Login" => places::unit_error(&text),
        operation if operation.contains("ServiceRequest") && !operation.contains("Attachment") => {
            requests::error(&text)
        }
        operation if operation.contains("Attachment") => attachments::error(&text),
        _ => super::xml::messages("Error", &[&text, ""]),
    }
}

/// # Errors
/// The text of a server fault.
fn for_property(
    state: &Arc<YardiState>,
    operation: &str,
    call: &Element,
    property: u32,
    kind: Option<FaultKind>,
) -> Result<Done, String> {
    let lie = kind == Some(FaultKind::LyingSuccess);
    Ok(match operation {
        "GetUnitInformation" | "GetUnitInformation_Login" => {
            read(places::units(state, property, kind))
        }
        "GetResident_Search" => {
            let filter = ResidentFilter::new(call);
            read(people::resident_search(state, property, filter, kind))
        }
        "GetResidents" => read(people::mits_residents(state, property, kind)),
        "GetResidentTransactions_Login" => read(people::transactions(state, property)),
        "GetTenants" => read(people::tenants(state, property, None)),
        "GetTenantsByUnit" => {
            let unit = call.text_of("UnitId").to_owned();
            read(people::tenants(state, property, Some(unit)))
        }
        "GetRoommatePromotions" => {
            let days = days(call, "MoveOutFrom", "MoveOutTo")?;
            read(people::promotions(&state.read(), property, days))
        }
        "GetServiceRequest_Search" | "GetServiceRequest_ByDateRange" => {
            let filter = RequestFilter::new(call)?;
            read(requests::search(state, property, filter, kind))
        }
        "GetServiceRequests" => read(requests::by_ids(state, property, call, kind)),
        "GetAttachmentTypes" => read(attachments::types()),
        "GetAttachments" | "GetAttachments_DateRange" => {
            let days = days(call, "FromDate", "ToDate")?;
            let request = match call.text_of("ServiceRequestId") {
                "" | "0" => None,
                text => Some(text.parse().unwrap_or(u64::MAX)),
            };
            read(attachments::list(state, property, request, days, kind))
        }
        "GetServiceRequest_AttachmentSearch" => {
            let days = days(call, "AttachmentFromDate", "AttachmentToDate")?;
            read(attachments::list(state, property, None, days, kind))
        }
        "CreateOrEditServiceRequests" => write::create_or_edit(state, property, call, lie),
        "ImportWorkOrderDocumentExt" => attachments::import(state, property, call, false, lie),
        "ImportWorkOrderDocumentPDF" => attachments::import(state, property, call, true, lie),
        _ => return Err("unknown operation".into()),
    })
}
