//! Properties and units.

use std::sync::Arc;

use super::YardiState;
use super::held::Held;
use super::listing::{Frame, Spoil, code, listing};
use super::model::Unit;
use super::xml::{Reply, Xml};
use crate::fault::FaultKind;

/// GetPropertyConfigurations.
pub(crate) fn properties(held: &Held) -> Reply {
    let mut xml = Xml::default();
    xml.open("Properties xmlns=\"\"");
    for property in &held.properties {
        let id = u64::from(property.index);
        xml.open("Property")
            .element("Code", &code(&property.code, id, 100))
            .element("MarketingName", &property.marketing_name)
            .element("AddressLine1", &property.address_line1)
            .element("AddressLine2", "")
            .element("AddressLine3", "")
            .element("City", &property.city)
            .element("State", property.state)
            .element("PostalCode", &property.postal_code)
            .element("AccountsReceivable", &property.accounting_month)
            .element("AccountsPayable", &property.accounting_month)
            .close("Property");
    }
    xml.close("Properties");
    Reply::Xml(xml.0)
}

/// An error in place of a property's units.
pub(crate) fn unit_error(text: &str) -> Reply {
    let mut xml = Xml::default();
    xml.open("UnitInformation xmlns=\"\"")
        .open("Property")
        .errors(text)
        .close("Property")
        .close("UnitInformation");
    Reply::Xml(xml.0)
}

/// GetUnitInformation.
pub(crate) fn units(state: &Arc<YardiState>, property: u32, kind: Option<FaultKind>) -> Reply {
    let count = state.read().unit_count(property);
    let frame = Frame {
        open: "<UnitInformation xmlns=\"\"><Property><Units>".into(),
        close: "</Units></Property></UnitInformation>".into(),
        nothing: String::new(),
    };
    let spoil = Spoil {
        kind,
        id_element: "UnitID",
        date_element: "MarketRent",
    };
    listing(state, count, frame, spoil, move |held, index| {
        held.unit(property, index)
            .map(|unit| unit_xml(held, property, &unit))
    })
}

fn unit_xml(held: &Held, property: u32, unit: &Unit) -> String {
    let id = unit.unique_id;
    let mut xml = Xml::default();
    xml.open("UnitInfo");
    xml.with_attribute(
        "UnitID",
        ("UniqueID", &id.to_string()),
        &code(&unit.code, id, 101),
    );
    if !unit.pseudo {
        match held.lives_in(property, &unit.code, unit.index) {
            Some(tenant) => {
                xml.with_attribute("PersonID", ("Type", "Current Resident"), &tenant);
            }
            None => {
                if let Some(past) = held
                    .resident(property, unit.index)
                    .filter(|one| one.unit_code == unit.code)
                {
                    xml.with_attribute("PersonID", ("Type", "Past Resident"), &past.t_code);
                }
            }
        }
        if unit.index == 0
            && let Some(promotion) = held.promotions(property).first()
        {
            xml.with_attribute(
                "PersonID",
                ("Type", "Past Resident"),
                &promotion.prior_tenant,
            );
        }
    }
    let bathrooms = format!(
        "{}.{}0",
        unit.half_bathrooms / 2,
        unit.half_bathrooms % 2 * 5
    );
    xml.open("Unit")
        .open("Identification IDType=\"RentalType\" IDValue=\"Residential\"/")
        .element("UnitType", unit.unit_type)
        .element("UnitBedrooms", &unit.bedrooms.to_string())
        .element("UnitBathrooms", &bathrooms)
        .element("MinSquareFeet", &unit.square_feet.to_string())
        .element("MarketRent", &format!("{}.00", unit.market_rent))
        .element("UnitEconomicStatus", unit.economic_status)
        .element("UnitEconomicStatusDescription", unit.status_description)
        .element("FloorplanName", unit.floorplan)
        .element("BuildingName", &unit.building)
        .open("Address AddressType=\"property\"")
        .element("AddressLine1", &unit.address_line1)
        .element("City", &unit.city)
        .element("State", unit.state)
        .element("PostalCode", &unit.postal_code)
        .close("Address")
        .close("Unit")
        .close("UnitInfo");
    xml.0
}
