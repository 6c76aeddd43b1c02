//! What the Yardi stand-in holds. Values here are clean; blanks, letter case and date
//! spellings are put on when an answer is written.

use std::sync::Arc;

use chrono::{NaiveDate, NaiveDateTime};

/// A property.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Property {
    pub index: u32,
    pub code: String,
    pub former_codes: Vec<String>,
    pub marketing_name: String,
    pub address_line1: String,
    pub city: String,
    pub state: &'static str,
    pub postal_code: String,
    pub accounting_month: String,
}

/// A unit or pseudo unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    pub index: u32,
    pub unique_id: u64,
    pub code: String,
    pub pseudo: bool,
    pub unit_type: &'static str,
    pub bedrooms: u8,
    pub half_bathrooms: u8,
    pub square_feet: u32,
    pub market_rent: u32,
    pub economic_status: &'static str,
    pub status_description: &'static str,
    pub floorplan: &'static str,
    pub building: String,
    pub address_line1: String,
    pub city: String,
    pub state: &'static str,
    pub postal_code: String,
}

/// A person's names and ways to reach them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Person {
    pub first: String,
    pub middle: String,
    pub last: String,
    pub email: String,
    pub home_phone: String,
    pub office_phone: String,
    pub mobile_phone: String,
}

/// A leaseholder, present, past or to come, or an applicant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resident {
    pub index: u32,
    pub t_code: String,
    pub p_code: String,
    pub status: &'static str,
    pub person: Person,
    /// Where a mail address or a telephone number got into the address by mistake.
    pub address_line1: String,
    pub city: String,
    pub unit_code: String,
    pub unit_square_feet: u32,
    pub rent: u32,
    pub lease_from: NaiveDate,
    pub lease_to: NaiveDate,
    pub move_in: Option<NaiveDate>,
    pub move_out: Option<NaiveDate>,
    pub notice: Option<NaiveDate>,
    pub occupants: Vec<Occupant>,
}

/// Someone living with a leaseholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Occupant {
    pub r_code: String,
    pub p_code: String,
    pub relationship: &'static str,
    pub responsible: bool,
    pub person: Person,
}

/// A roommate who became the leaseholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Promotion {
    pub prior_tenant: String,
    pub new_tenant: String,
    pub old_roommate_code: String,
    pub person_code: String,
    pub unit_code: String,
    pub move_out: NaiveDate,
}

/// A service request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceRequest {
    pub index: u32,
    pub id: u64,
    pub origin: &'static str,
    pub unit_code: String,
    pub tenant_code: String,
    pub description: String,
    pub priority: String,
    pub category: String,
    pub sub_category: String,
    pub permission_to_enter: bool,
    pub access_notes: String,
    pub problem_notes: String,
    pub technician_notes: String,
    pub tenant_caused: bool,
    pub requestor_name: String,
    pub requestor_phone: String,
    pub requestor_email: String,
    pub created: NaiveDateTime,
    pub due: Option<NaiveDate>,
    pub created_by: String,
    pub updated: NaiveDateTime,
    pub updated_by: String,
    pub status: String,
    pub history: Vec<(String, NaiveDateTime)>,
}

impl ServiceRequest {
    /// The brief description: the first 35 characters, cut without mercy.
    pub(crate) fn brief(&self) -> String {
        self.description.chars().take(35).collect()
    }

    /// Whether it counts as closed for `OpenOrClosed`.
    pub(crate) fn closed(&self) -> bool {
        matches!(
            self.status.as_str(),
            "Completed" | "Work Completed" | "Canceled"
        )
    }
}

/// A file at a service request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attachment {
    pub index: u32,
    pub id: u64,
    pub service_request_id: u64,
    pub file_name: String,
    pub attachment_type: String,
    pub description: String,
    pub created: NaiveDateTime,
    pub content: Content,
}

/// The bytes of an attachment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Made from the attachment id whenever they are wanted.
    Invented { bytes: u32 },
    /// Uploaded.
    Stored(Arc<[u8]>),
}
