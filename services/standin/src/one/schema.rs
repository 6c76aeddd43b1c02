//! The entities of ONE: fields, keys, root fields.

use crate::fields::{Field, Holds, needed, optional};

/// An entity of ONE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entity {
    Location,
    Resident,
    ServiceRequest,
    Attachment,
}

impl Entity {
    pub(crate) const ALL: [Self; 4] = [
        Self::Location,
        Self::Resident,
        Self::ServiceRequest,
        Self::Attachment,
    ];

    /// The kind in ledgers and truth.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Resident => "resident",
            Self::ServiceRequest => "service_request",
            Self::Attachment => "attachment",
        }
    }

    /// The field that names a record.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Location => "locationNumber",
            Self::Resident => "residentNumber",
            Self::ServiceRequest => "referWONum",
            Self::Attachment => "attachmentNumber",
        }
    }

    /// The start of the ids ONE gives.
    pub(crate) fn id_prefix(self) -> &'static str {
        match self {
            Self::Location => "loc",
            Self::Resident => "res",
            Self::ServiceRequest => "wo",
            Self::Attachment => "att",
        }
    }

    /// The record a record hangs on: its entity, and the code of the refusal when missing.
    pub(crate) fn parent(self) -> Option<(Self, &'static str)> {
        match self {
            Self::Location => None,
            Self::Resident | Self::ServiceRequest => Some((Self::Location, "LOCATION_NOT_FOUND")),
            Self::Attachment => Some((Self::ServiceRequest, "WORK_ORDER_NOT_FOUND")),
        }
    }

    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Self::Location => LOCATION,
            Self::Resident => RESIDENT,
            Self::ServiceRequest => SERVICE_REQUEST,
            Self::Attachment => ATTACHMENT,
        }
    }

    /// What a result item offers.
    pub(crate) fn result_fields(self) -> Vec<&'static str> {
        let mut fields = vec!["index", self.key(), "id", "success", "validationMessages"];
        if self == Self::Attachment {
            fields.push("fileName");
        }
        fields
    }

    /// The root field of the list, the key list of its filter and the filter's type.
    pub(crate) fn list(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Location => ("locations", "locationNumbers", "LocationFilter"),
            Self::Resident => ("residents", "residentNumbers", "ResidentFilter"),
            Self::ServiceRequest => ("reactiveWorkOrderList", "woRefNums", "WorkOrderFilter"),
            Self::Attachment => ("attachments", "attachmentNumbers", "AttachmentFilter"),
        }
    }
}

/// What a mutation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Update,
}

/// The mutations: root field, entity, change, type of the input.
pub(crate) const MUTATIONS: &[(&str, Entity, Change, &str)] = &[
    (
        "createLocation",
        Entity::Location,
        Change::Create,
        "[CreateLocationInput!]!",
    ),
    (
        "updateLocation",
        Entity::Location,
        Change::Update,
        "[UpdateLocationInput!]!",
    ),
    (
        "createResident",
        Entity::Resident,
        Change::Create,
        "[CreateResidentInput!]!",
    ),
    (
        "updateResident",
        Entity::Resident,
        Change::Update,
        "[UpdateResidentInput!]!",
    ),
    (
        "createServiceRequest",
        Entity::ServiceRequest,
        Change::Create,
        "[CreateServiceRequestInput!]!",
    ),
    (
        "updateServiceRequest",
        Entity::ServiceRequest,
        Change::Update,
        "[UpdateServiceRequestInput!]!",
    ),
    (
        "uploadAttachment",
        Entity::Attachment,
        Change::Create,
        "[UploadAttachmentInput!]!",
    ),
];

/// Longest key: an entity id of the caller.
const KEY: Holds = Holds::Name(255);

const LOCATION: &[Field] = &[
    needed("locationNumber", KEY),
    needed("locationName", Holds::Name(200)),
    optional("addressLine1", Holds::Text(200)),
    optional("addressLine2", Holds::Text(200)),
    needed("city", Holds::Name(100)),
    needed("state", Holds::Name(50)),
    needed("zipCode", Holds::Name(20)),
    optional("country", Holds::Text(60)),
    needed("status", Holds::Flag),
    optional("firstMoveInReadyDate", Holds::DateOrInstant),
    optional("unitStatus", Holds::Text(100)),
    optional("bedRooms", Holds::Number),
    optional("bathRooms", Holds::Number),
    optional("ttsqft", Holds::Number),
    optional("propertyCode", Holds::Text(100)),
    optional("floorPlan", Holds::Text(100)),
    optional("propertyTypeId", Holds::Int(0)),
    optional("region", Holds::Text(100)),
    optional("district", Holds::Text(100)),
    optional("group", Holds::Text(100)),
    optional("isHOA", Holds::Bool),
    optional("acquiredDate", Holds::DateOrInstant),
    optional("enableFacilitiesUnit", Holds::Bool),
];

const RESIDENT: &[Field] = &[
    needed("residentNumber", KEY),
    needed("locationNumber", KEY),
    needed("name", Holds::Name(200)),
    optional("email", Holds::Text(200)),
    optional("phone", Holds::Text(50)),
    needed("isPrimaryResident", Holds::Bool),
    needed("status", Holds::Flag),
];

const SERVICE_REQUEST: &[Field] = &[
    needed("referWONum", KEY),
    needed("locationNumber", KEY),
    needed("serviceRequestCategory", Holds::Name(100)),
    optional("description", Holds::Text(4_000)),
    needed("callTime", Holds::Instant),
    optional("accessInformation", Holds::Text(1_000)),
    needed("caller", Holds::Name(200)),
    optional("callerPhoneNumber", Holds::Text(50)),
    optional("callerEmail", Holds::Text(200)),
    optional("dueDate", Holds::DateOrInstant),
    needed("priority", Holds::OneOf(&["Med", "High", "Emergency"])),
    optional("priorityId", Holds::Int(0)),
    optional("propertyType", Holds::Text(100)),
    optional(
        "statusId",
        Holds::OneOf(&[
            "PendingSchedule",
            "ReturnTripNeeded",
            "WorkCompletePendingVendorInvoice",
            "Cancelled",
            "Undefined",
        ]),
    ),
];

const ATTACHMENT: &[Field] = &[
    needed("attachmentNumber", KEY),
    needed("referWONum", KEY),
    needed("fileName", Holds::Name(255)),
    optional("contentType", Holds::Text(100)),
    optional("description", Holds::Text(1_000)),
    needed("content", Holds::Name(usize::MAX)),
];
