//! JSON Schemas of the entity types.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::EntityType;

/// One broken rule: where, which, and what kind of value was found. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// JSON Pointer into the record's data.
    pub path: String,
    /// The schema keyword, such as `required`.
    pub rule: String,
    pub detail: String,
}

/// Compiled schemas by entity type.
#[derive(Debug)]
pub struct Schemas {}

impl Schemas {
    /// The schemas that are compiled in.
    ///
    /// # Errors
    /// `schema_invalid` when one is no JSON Schema.
    pub fn shipped() -> sluice_core::Result<Self> {
        Ok(Self {})
    }

    /// Checks a record's data against its entity type's schema.
    ///
    /// # Errors
    /// Every broken rule.
    pub fn check(&self, _entity: &EntityType, _data: &Value) -> Result<(), Vec<Violation>> {
        Ok(())
    }
}
