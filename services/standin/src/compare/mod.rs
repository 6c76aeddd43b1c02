//! Compares what a source holds with what two targets and the master data made of it.
//!
//! What is expected everywhere is computed here from the source's clean truth, by rules written
//! for this purpose alone, so that a fault in a connector's mapping rules shows as a mismatch.
//! Every field that is sent is compared, but for those that tell nothing of the source's record:
//! version numbers, and which of a file's texts was spelled how.
//!
//! | truth | master record | ONE | Lessen360 |
//! |---|---|---|---|
//! | property, unit (no pseudo units) | Location | location | property |
//! | leaseholder, occupant | Resident | resident | resident |
//! | service request | ServiceRequest | work order, unless Low or without unit, subcategory, requester | work order, unless closed when first seen |
//! | attachment | Attachment | attachment, where its work order is | attachment, where its work order is and the type is accepted |

mod checks;
mod contact;
mod lessen360;
mod master;
mod one;
mod rules;
#[cfg(test)]
mod tests;
mod times;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Kinds to be fetched from the stand-ins for a comparison.
pub const YARDI_KINDS: &[&str] = &[
    "property",
    "unit",
    "resident",
    "service_request",
    "attachment",
];
/// See [`YARDI_KINDS`].
pub const ONE_KINDS: &[&str] = &["location", "resident", "service_request", "attachment"];
/// See [`YARDI_KINDS`].
pub const LESSEN360_KINDS: &[&str] = &["property", "resident", "work_order", "attachment"];

/// Edits after which everything can be expected to agree. A record that vanishes from Yardi is
/// told by nobody; only a rule that infers deletions could notice.
pub const EDITS_WITHOUT_DELETION: &[&str] = &[
    "service_request.update",
    "service_request.create",
    "resident.update",
    "resident.create",
    "unit.update",
    "unit.create",
    "attachment.create",
];

/// A master record's newest version.
#[derive(Debug, Clone)]
pub struct Master {
    pub entity_type: String,
    pub source_id: String,
    pub deleted: bool,
    pub data: Value,
}

/// Records by kind.
pub type Records = BTreeMap<String, Vec<Value>>;

/// What each place holds.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Name of the source connection, the first part of every planted reference.
    pub source: &'a str,
    pub yardi: &'a Records,
    pub one: &'a Records,
    pub lessen360: &'a Records,
    pub master: &'a [Master],
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mismatch {
    /// `master`, `one` or `lessen360`.
    pub place: &'static str,
    pub entity: &'static str,
    /// Source id or planted reference.
    pub id: String,
    pub problem: String,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Records looked at in the three places.
    pub compared: u64,
    /// Sorted by place, entity and id.
    pub mismatches: Vec<Mismatch>,
}

/// Compares all places.
pub fn compare(places: &Places<'_>) -> Comparison {
    let truth = rules::Truth::read(places.yardi);
    let mut checks = checks::Checks::default();
    master::compare(&truth, places.master, &mut checks);
    one::compare(&truth, places.source, places.one, &mut checks);
    lessen360::compare(&truth, places.source, places.lessen360, &mut checks);
    checks.into_comparison()
}
