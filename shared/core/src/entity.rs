//! Entity types: the kinds of master records.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The kind of a master record, such as `Location` or `ServiceRequest`. The list is open: an
/// entity type exists when a JSON Schema of that name exists.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityType(Arc<str>);

impl EntityType {
    pub const LOCATION: &'static str = "Location";
    pub const RESIDENT: &'static str = "Resident";
    pub const SERVICE_REQUEST: &'static str = "ServiceRequest";
    pub const ATTACHMENT: &'static str = "Attachment";

    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for EntityType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for EntityType {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for EntityType {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}
