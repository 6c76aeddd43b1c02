//! Residents, tenants, roommate promotions.

use std::sync::Arc;

use super::YardiState;
use super::dates::{Days, iso, midnight, slashes};
use super::generate::full_name;
use super::held::Held;
use super::listing::{Frame, Spoil, boolean, code, listing};
use super::model::{Person, Resident};
use super::soap::Element;
use super::xml::{Reply, Xml};
use crate::fault::FaultKind;

/// Filters of GetResident_Search; empty ones match everything.
#[derive(Debug, Clone)]
pub(crate) struct ResidentFilter {
    unit_code: String,
    resident_code: String,
    name: String,
    digits: String,
    address: String,
}

impl ResidentFilter {
    pub(crate) fn new(call: &Element) -> Self {
        Self {
            unit_code: call.text_of("UnitCode").to_lowercase(),
            resident_code: call.text_of("ResidentCode").to_lowercase(),
            name: call.text_of("Name").to_lowercase(),
            digits: digits(call.text_of("PhoneNumber")),
            address: call.text_of("Address").to_lowercase(),
        }
    }

    fn matches(&self, resident: &Resident) -> bool {
        let person = &resident.person;
        (self.unit_code.is_empty() || resident.unit_code.to_lowercase() == self.unit_code)
            && (self.resident_code.is_empty() || resident.t_code == self.resident_code)
            && (self.name.is_empty() || full_name(person).to_lowercase().contains(&self.name))
            && (self.digits.is_empty()
                || [
                    &person.home_phone,
                    &person.mobile_phone,
                    &person.office_phone,
                ]
                .iter()
                .any(|phone| digits(phone).ends_with(&self.digits)))
            && (self.address.is_empty()
                || resident
                    .address_line1
                    .to_lowercase()
                    .contains(&self.address))
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

const SEARCH_OPEN: &str = "<CustomerSearch xmlns=\"\"><Response><Customers>";
const SEARCH_CLOSE: &str = "</Customers></Response></CustomerSearch>";

/// An error record in place of customers.
pub(crate) fn customer_error(text: &str) -> Reply {
    Reply::Xml(format!(
        "{SEARCH_OPEN}{}{SEARCH_CLOSE}",
        error_record("Customer", text)
    ))
}

fn error_record(name: &str, text: &str) -> String {
    let mut xml = Xml::default();
    xml.open(name).errors(text).close(name);
    xml.0
}

/// GetResident_Search.
pub(crate) fn resident_search(
    state: &Arc<YardiState>,
    property: u32,
    filter: ResidentFilter,
    kind: Option<FaultKind>,
) -> Reply {
    let count = state.read().resident_count(property);
    let frame = Frame {
        open: SEARCH_OPEN.into(),
        close: SEARCH_CLOSE.into(),
        nothing: error_record("Customer", "No residents found"),
    };
    let spoil = Spoil {
        kind,
        id_element: "IDValue",
        date_element: "LeaseFromDate",
    };
    listing(state, count, frame, spoil, move |held, index| {
        held.resident(property, index)
            .filter(|resident| filter.matches(resident))
            .map(|resident| customer_xml(&resident))
    })
}

fn number(resident: &Resident) -> u64 {
    resident.t_code.trim_start_matches('t').parse().unwrap_or(0)
}

fn names(xml: &mut Xml, person: &Person) {
    xml.open("Name")
        .element("FirstName", &person.first)
        .element("MiddleName", &person.middle)
        .element("LastName", &person.last)
        .close("Name");
}

fn phones(xml: &mut Xml, person: &Person) {
    xml.open("Phone")
        .element("OfficeNumber", &person.office_phone)
        .element("HomeNumber", &person.home_phone)
        .element("MobileNumber", &person.mobile_phone)
        .close("Phone");
}

fn customer_xml(resident: &Resident) -> String {
    let id = number(resident);
    let mut xml = Xml::default();
    xml.open("Customer")
        .open("Identification")
        .element("IDValue", &code(&resident.t_code, id, 110))
        .element("Status", &format!("{} Resident", resident.status))
        .element("YardiStatus", resident.status)
        .close("Identification");
    names(&mut xml, &resident.person);
    xml.open("Address");
    if !resident.address_line1.is_empty() || !resident.city.is_empty() {
        xml.element("Address1", &resident.address_line1)
            .element("City", &resident.city);
    }
    xml.element("Email", &resident.person.email)
        .close("Address");
    phones(&mut xml, &resident.person);
    xml.open("Lease")
        .open("Identification")
        .element("IDValue", &code(&resident.unit_code, id, 111))
        .close("Identification")
        .element("UnitSqFt", &resident.unit_square_feet.to_string())
        .element("LeaseFromDate", &iso(resident.lease_from))
        .element("LeaseToDate", &iso(resident.lease_to))
        .element(
            "ActualMoveIn",
            &resident.move_in.map(iso).unwrap_or_default(),
        )
        .element(
            "ActualMoveOut",
            &resident.move_out.map(iso).unwrap_or_default(),
        )
        .close("Lease");
    for occupant in &resident.occupants {
        xml.open("OtherOccupants")
            .open("Identification")
            .element("IDValue", &occupant.r_code)
            .element("Relationship", occupant.relationship)
            .close("Identification")
            .element(
                "ResponsibleForLease",
                boolean(occupant.responsible, id, 112),
            );
        names(&mut xml, &occupant.person);
        xml.open("Address")
            .element("Email", &occupant.person.email)
            .close("Address");
        phones(&mut xml, &occupant.person);
        xml.close("OtherOccupants");
    }
    xml.close("Customer");
    xml.0
}

/// GetTenants (dates with slashes) and GetTenantsByUnit (ISO dates).
pub(crate) fn tenants(state: &Arc<YardiState>, property: u32, unit: Option<String>) -> Reply {
    let (count, property_code) = {
        let held = state.read();
        (
            held.resident_count(property),
            held.property_code(property).to_owned(),
        )
    };
    let by_unit = unit.is_some();
    let mut head = Xml::default();
    head.open("CommonTenantsData xmlns=\"\"");
    // An empty property has its code and no children.
    if count == 0 {
        head.with_attribute("PropertyTenants", ("Code", &property_code), "")
            .close("CommonTenantsData");
        return Reply::Xml(head.0);
    }
    let mut open = head.0;
    let mut tag = Xml::default();
    tag.with_attribute("PropertyTenants", ("Code", &property_code), "");
    open.push_str(tag.0.trim_end_matches("</PropertyTenants>"));
    open.push_str("<Tenants>");
    let frame = Frame {
        open,
        close: "</Tenants></PropertyTenants></CommonTenantsData>".into(),
        nothing: String::new(),
    };
    let spoil = Spoil {
        kind: None,
        id_element: "",
        date_element: "",
    };
    listing(state, count, frame, spoil, move |held, index| {
        held.resident(property, index)
            .filter(|one| {
                unit.as_ref()
                    .is_none_or(|unit| one.unit_code.eq_ignore_ascii_case(unit))
            })
            .map(|one| tenant_xml(&one, if by_unit { iso } else { slashes }))
    })
}

fn tenant_xml(resident: &Resident, date: fn(chrono::NaiveDate) -> String) -> String {
    let optional = |day: Option<chrono::NaiveDate>| day.map(date).unwrap_or_default();
    let mut xml = Xml::default();
    xml.open(&format!(
        "Tenant tCode=\"{}\" pCode=\"{}\"",
        resident.t_code, resident.p_code
    ))
    .element("Status", resident.status)
    .element("FirstName", &resident.person.first)
    .element("LastName", &resident.person.last)
    .element("Email", &resident.person.email);
    let person = &resident.person;
    for (kind, phone) in [
        ("cell", &person.mobile_phone),
        ("home", &person.home_phone),
        ("office", &person.office_phone),
    ] {
        if !phone.is_empty() {
            xml.open(&format!("Phone PhoneType=\"{kind}\""))
                .element("PhoneDescription", kind)
                .element("PhoneNumber", phone)
                .close("Phone");
        }
    }
    xml.element("Rent", &format!("{}.00", resident.rent))
        .element("UnitCode", &resident.unit_code)
        .element("UnitRent", &format!("{}.00", resident.rent))
        .element("UnitSqFt", &resident.unit_square_feet.to_string())
        .element("UnitEconomicStatus", "residential")
        .element("LeaseFromDate", &date(resident.lease_from))
        .element("LeaseToDate", &date(resident.lease_to))
        .element("MoveInDate", &optional(resident.move_in))
        .element("MoveOutDate", &optional(resident.move_out))
        .element("NoticeDate", &optional(resident.notice))
        .close("Tenant");
    xml.0
}

/// GetResidents, the MITS form.
pub(crate) fn mits_residents(
    state: &Arc<YardiState>,
    property: u32,
    kind: Option<FaultKind>,
) -> Reply {
    let (count, property_code) = {
        let held = state.read();
        (
            held.resident_count(property),
            held.property_code(property).to_owned(),
        )
    };
    let mut open = Xml::default();
    open.open("MITS-ResidentData xmlns=\"\"")
        .open("PropertyResidents")
        .element("PropertyCode", &property_code)
        .open("Residents");
    let frame = Frame {
        open: open.0,
        close: "</Residents></PropertyResidents></MITS-ResidentData>".into(),
        nothing: String::new(),
    };
    let spoil = Spoil {
        kind,
        id_element: "TenantCode",
        date_element: "LeaseFromDate",
    };
    listing(state, count, frame, spoil, move |held, index| {
        let one = held.resident(property, index)?;
        let mut xml = Xml::default();
        xml.open("Resident")
            .element("TenantCode", &one.t_code)
            .element("PersonCode", &one.p_code)
            .element("Status", one.status)
            .element("FirstName", &one.person.first)
            .element("LastName", &one.person.last)
            .element("Email", &one.person.email)
            .element("Phone", &one.person.mobile_phone)
            .element("UnitCode", &one.unit_code)
            .element("LeaseFromDate", &midnight(one.lease_from))
            .element("LeaseToDate", &midnight(one.lease_to))
            .element("MoveInDate", &one.move_in.map(midnight).unwrap_or_default())
            .element(
                "MoveOutDate",
                &one.move_out.map(midnight).unwrap_or_default(),
            )
            .close("Resident");
        Some(xml.0)
    })
}

/// GetResidentTransactions_Login: the customers, without their ledgers.
pub(crate) fn transactions(state: &Arc<YardiState>, property: u32) -> Reply {
    let count = state.read().resident_count(property);
    let frame = Frame {
        open: "<ResidentTransactions xmlns=\"http://yardi.com/ResidentTransactions20\" \
               xmlns:MITS=\"http://my-company.com/namespace\"><Property>"
            .into(),
        close: "</Property></ResidentTransactions>".into(),
        nothing: String::new(),
    };
    let spoil = Spoil {
        kind: None,
        id_element: "",
        date_element: "",
    };
    listing(state, count, frame, spoil, move |held, index| {
        let one = held.resident(property, index)?;
        let mut xml = Xml::default();
        xml.open("RT_Customer")
            .element("CustomerID", &one.t_code)
            .open("Customers")
            .open(&format!(
                "MITS:Customer Type=\"{} resident\"",
                one.status.to_lowercase()
            ))
            .element("MITS:CustomerID", &one.p_code)
            .open("MITS:Name")
            .element("MITS:FirstName", &one.person.first)
            .element("MITS:LastName", &one.person.last)
            .close("MITS:Name")
            .close("MITS:Customer")
            .close("Customers")
            .open("RT_Unit")
            .element("UnitID", &one.unit_code)
            .close("RT_Unit")
            .element("PaymentAccepted", "0")
            .open("RTServiceTransactions/")
            .close("RT_Customer");
        Some(xml.0)
    })
}

/// GetRoommatePromotions, by the day the leaseholder left.
pub(crate) fn promotions(held: &Held, property: u32, days: Days) -> Reply {
    let mut xml = Xml::default();
    xml.open("RoommatePromotions xmlns=\"\"");
    let mut any = false;
    for promotion in held.promotions(property) {
        if !days.contain(promotion.move_out) {
            continue;
        }
        any = true;
        xml.open("RoommatePromotion")
            .element("PriorTenant", &promotion.prior_tenant)
            .element("NewTenant", &promotion.new_tenant)
            .element("OldRoomateCode", &promotion.old_roommate_code)
            .element("PersonCode", &promotion.person_code)
            .element("UnitCode", &promotion.unit_code)
            .element("MoveOutDate", &slashes(promotion.move_out))
            .close("RoommatePromotion");
    }
    if !any {
        return Reply::Text("No roommate promotions found".into());
    }
    xml.close("RoommatePromotions");
    Reply::Xml(xml.0)
}
