//! Canonical records: what a mapping makes of a raw record.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    EntityType, Hash, Priority, Timestamp,
    fingerprint::{write_canonical, write_text},
};

/// One entity in Sluice's own form, as one connection describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanonicalRecord {
    pub entity_type: EntityType,
    /// The record's id at its source, trimmed, in the vendor's own letters. Unique per connection
    /// and entity type.
    pub source_id: String,
    /// The content; follows the entity type's JSON Schema.
    pub data: Value,
    /// Records that must exist at a target before this one (promise O7).
    #[serde(default)]
    pub parents: Vec<RecordRef>,
    /// When the source says it last changed; `None` when the source does not say.
    #[serde(default)]
    pub modified_at: Option<Timestamp>,
    #[serde(default)]
    pub deleted: bool,
    /// Overrides the flow's priority for this record.
    #[serde(default)]
    pub priority: Option<Priority>,
}

impl CanonicalRecord {
    /// Hash of everything that counts as content: data, parents and the deletion mark. Times and
    /// priorities do not: a source that touches a time stamp alone changed nothing.
    pub fn hash(&self) -> Hash {
        // Canonical JSON of an object with these three, its keys in order already.
        let mut text = String::with_capacity(1024);
        text.push_str(r#"{"data":"#);
        write_canonical(&self.data, &mut text);
        text.push_str(if self.deleted {
            r#","deleted":true,"parents":["#
        } else {
            r#","deleted":false,"parents":["#
        });
        for (place, parent) in self.parents.iter().enumerate() {
            text.push_str(if place > 0 { "," } else { "" });
            text.push_str(r#"{"entity_type":"#);
            write_text(parent.entity_type.as_str(), &mut text);
            text.push_str(r#","source_id":"#);
            write_text(&parent.source_id, &mut text);
            text.push('}');
        }
        text.push_str("]}");
        Hash::of_bytes(text.as_bytes())
    }
}

/// Names another record of the same source connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordRef {
    pub entity_type: EntityType,
    pub source_id: String,
}

impl std::fmt::Display for RecordRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.entity_type, self.source_id)
    }
}

/// Our stable reference for a record, unique within an organization and entity type. It is
/// planted at targets so that a record can be found again when an answer was lost (promise O1).
pub fn entity_id(source_connection: &str, source_id: &str) -> String {
    format!("{source_connection}:{source_id}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_covers_content_alone() {
        let record: CanonicalRecord = serde_json::from_value(json!({
            "entity_type": "Location", "source_id": "1", "data": {"b": 1.0, "a": "é"},
            "parents": [{"entity_type": "Location", "source_id": "0"}],
        }))
        .unwrap();
        let content = json!({"data": record.data, "deleted": false, "parents": record.parents});
        assert_eq!(record.hash(), Hash::of_json(&content));
        let later = CanonicalRecord {
            modified_at: Some(Timestamp::UNIX_EPOCH),
            priority: Some(Priority::HIGHEST),
            ..record.clone()
        };
        assert_eq!(record.hash(), later.hash());
        let gone = CanonicalRecord {
            deleted: true,
            ..record.clone()
        };
        assert_ne!(record.hash(), gone.hash());
    }
}
