//! The resources of Lessen360 and their fields.

use crate::fields::{Field, Holds, needed, optional};

/// A resource with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Property,
    Resident,
    WorkOrder,
    Attachment,
}

impl Resource {
    pub(crate) const ALL: [Self; 4] = [
        Self::Property,
        Self::Resident,
        Self::WorkOrder,
        Self::Attachment,
    ];

    /// The part of the path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Property => "properties",
            Self::Resident => "residents",
            Self::WorkOrder => "work-orders",
            Self::Attachment => "attachments",
        }
    }

    /// The kind in ledgers and truth.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Property => "property",
            Self::Resident => "resident",
            Self::WorkOrder => "work_order",
            Self::Attachment => "attachment",
        }
    }

    pub(crate) fn id_prefix(self) -> &'static str {
        match self {
            Self::Property => "p",
            Self::Resident => "r",
            Self::WorkOrder => "wo",
            Self::Attachment => "a",
        }
    }

    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Property => PROPERTY,
            Self::Resident => RESIDENT,
            Self::WorkOrder => WORK_ORDER,
            Self::Attachment => ATTACHMENT,
        }
    }

    /// The field that names a property the record hangs on.
    pub(crate) fn property_field(self) -> Option<&'static str> {
        match self {
            Self::Property => Some("parentId"),
            Self::Resident | Self::WorkOrder => Some("propertyId"),
            Self::Attachment => None,
        }
    }
}

/// What `GET /v1/trades` lists.
pub(crate) const TRADES: &[&str] = &["Electrical", "General", "HVAC", "Landscaping", "Plumbing"];

/// States of a work order.
pub(crate) const STATUSES: &[&str] = &[
    "PENDING_ACCEPTANCE",
    "PENDING_SCHEDULE",
    "SCHEDULED",
    "IN_PROGRESS",
    "COMPLETED",
    "CANCELLED",
];

/// File types an attachment may have; `image/*` comes on top.
pub(crate) const FILE_TYPES: &[&str] = &["application/pdf", "text/plain"];

const SOURCE: &[Field] = &[
    needed("system", Holds::Name(100)),
    needed("id", Holds::Name(255)),
    needed("version", Holds::Int(0)),
];

const ADDRESS: &[Field] = &[
    optional("line1", Holds::Text(200)),
    optional("line2", Holds::Text(200)),
    optional("city", Holds::Text(100)),
    optional("state", Holds::Text(50)),
    optional("postalCode", Holds::Text(20)),
    optional("country", Holds::Text(60)),
];

const DETAILS: &[Field] = &[
    optional("bedrooms", Holds::Number),
    optional("bathrooms", Holds::Number),
    optional("squareFeet", Holds::Number),
    optional("floorPlan", Holds::Text(100)),
    optional("unitStatus", Holds::Text(100)),
];

const PERSON: &[Field] = &[
    optional("name", Holds::Text(200)),
    optional("phone", Holds::Text(50)),
    optional("email", Holds::Text(200)),
];

const PROPERTY: &[Field] = &[
    needed("externalId", Holds::Name(255)),
    needed("kind", Holds::OneOf(&["property", "unit"])),
    optional("parentId", Holds::Text(100)),
    needed("name", Holds::Name(200)),
    optional("address", Holds::Object(ADDRESS)),
    optional("details", Holds::Object(DETAILS)),
    needed("active", Holds::Bool),
    needed("source", Holds::Object(SOURCE)),
];

const RESIDENT: &[Field] = &[
    needed("externalId", Holds::Name(255)),
    needed("propertyId", Holds::Name(100)),
    needed("name", Holds::Name(200)),
    optional("phone", Holds::Text(50)),
    optional("email", Holds::Text(200)),
    needed("primary", Holds::Bool),
    needed("active", Holds::Bool),
    optional("moveInDate", Holds::DateOrInstant),
    optional("moveOutDate", Holds::DateOrInstant),
    needed("source", Holds::Object(SOURCE)),
];

const WORK_ORDER: &[Field] = &[
    needed("externalId", Holds::Name(255)),
    needed("propertyId", Holds::Name(100)),
    needed("trade", Holds::Name(100)),
    needed(
        "priority",
        Holds::OneOf(&["Low", "Medium", "High", "Urgent", "Emergency"]),
    ),
    needed("summary", Holds::Name(200)),
    optional("description", Holds::Text(4_000)),
    optional("permissionToEnter", Holds::Bool),
    optional("resident", Holds::Object(PERSON)),
    optional("dueAt", Holds::Instant),
    optional("status", Holds::OneOf(STATUSES)),
    needed("source", Holds::Object(SOURCE)),
];

const ATTACHMENT: &[Field] = &[
    needed("externalId", Holds::Name(255)),
    needed("fileName", Holds::Name(255)),
    optional("description", Holds::Text(1_000)),
];
