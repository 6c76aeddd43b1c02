//! What becomes of a raw record before the SQL store sees it: mapped, checked, or left out.
//! Computation only.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;
use sluice_connectors::source::StreamInfo;
use sluice_core::{
    EntityType, Error, ErrorClass, Hash, Timestamp,
    record::{CanonicalRecord, RecordRef},
};
use sluice_store::{master::ApplyRecord, raw::PayloadId};
use sluice_transform::{Mapped, Violation};

use crate::{SourceConnection, identify};

/// Violations named in a rejected record's error; the rest is counted.
const VIOLATIONS_SHOWN: usize = 5;

/// A raw record and where it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub raw: Value,
    /// Why it is no record: a line or row of its payload that could not be read.
    pub broken: Option<Rejection>,
    pub slice: Arc<Value>,
    pub payload: PayloadId,
    /// When the source last said so.
    pub received_at: Timestamp,
}

/// A raw record, understood as far as possible.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub found: Found,
    /// Hash of the raw record.
    pub hash: Hash,
    pub entity_type: EntityType,
    pub source_id: String,
    /// What goes to the SQL store; empty when the record is left out or rejected as a whole.
    pub records: Vec<ApplyRecord>,
    /// Why the mapping left it out, or that a later record of the page has the same id.
    pub skipped: Option<String>,
    /// What is wrong with it. A record that maps to several may have good parts all the same.
    pub rejected: Vec<Rejection>,
}

/// One reason for review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub class: ErrorClass,
    pub code: String,
    pub message: String,
}

impl From<&Error> for Rejection {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class(),
            code: error.code().to_owned(),
            message: error.message().to_owned(),
        }
    }
}

/// Maps and checks the records of one page, and keeps one of each id (promise I2).
pub fn page(source: &SourceConnection, stream: &StreamInfo, found: Vec<Found>) -> Vec<Prepared> {
    let mut prepared: Vec<_> = found
        .into_iter()
        .map(|found| record(source, stream, found))
        .collect();
    drop_superseded(&mut prepared);
    for prepared in &mut prepared {
        for ApplyRecord { record, .. } in &mut prepared.records {
            record.modified_at = plausible(record.modified_at, prepared.found.received_at);
        }
    }
    prepared
}

/// How far a source's clock may be ahead of ours.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(10);

/// A modification time that lies ahead (a planned date, a clock that is quite wrong) would make
/// every edit before it look outdated. What was received was there already, so that is its time at
/// the latest (promise I6). A clock that is a little ahead orders its own edits well.
fn plausible(modified_at: Option<Timestamp>, received_at: Timestamp) -> Option<Timestamp> {
    modified_at.map(|at| {
        if at > received_at + CLOCK_SKEW {
            received_at
        } else {
            at
        }
    })
}

fn record(source: &SourceConnection, stream: &StreamInfo, mut found: Found) -> Prepared {
    // The payload keeps the bytes as received; the record must fit into every store.
    sluice_transform::ingest::check_text(&mut found.raw);
    let hash = Hash::of_json(&found.raw);
    let (mut records, mut skipped, mut rejected) = (Vec::new(), None, Vec::new());
    match mapped(source, stream, &found) {
        Ok(Mapped::Records(mapped)) => {
            for record in mapped {
                match check(source, record) {
                    Ok(record) => records.push(ApplyRecord {
                        hash: record.hash(),
                        record,
                    }),
                    Err(rejection) => rejected.push(rejection),
                }
            }
            if records.is_empty() && rejected.is_empty() {
                skipped = Some("the mapping made no record of it".to_owned());
            }
        }
        Ok(Mapped::Skipped(reason)) => skipped = Some(reason),
        Err(rejection) => rejected.push(rejection),
    }
    let entity_type = stream
        .entity_type
        .clone()
        .or_else(|| records.first().map(|one| one.record.entity_type.clone()))
        .unwrap_or_else(|| EntityType::from(stream.name.as_str()));
    let source_id = records
        .iter()
        .find(|one| one.record.entity_type == entity_type)
        .map(|one| one.record.source_id.clone())
        .or_else(|| match found.broken {
            Some(_) => None,
            None => identify::by_primary_key(&found.raw, &stream.primary_key),
        })
        .unwrap_or_else(|| identify::unidentified(hash));
    Prepared {
        found,
        hash,
        entity_type,
        source_id,
        records,
        skipped,
        rejected,
    }
}

fn mapped(
    source: &SourceConnection,
    stream: &StreamInfo,
    found: &Found,
) -> Result<Mapped, Rejection> {
    if let Some(broken) = &found.broken {
        return Err(broken.clone());
    }
    let config = &source.connection.spec.config;
    let mapped = source
        .mapper
        .to_canonical(&stream.name, &found.raw, &found.slice, config);
    mapped.map_err(|error| Rejection::from(&error))
}

fn check(
    source: &SourceConnection,
    mut record: CanonicalRecord,
) -> Result<CanonicalRecord, Rejection> {
    let id = record.source_id.trim();
    if id.is_empty() {
        return Err(Rejection {
            class: ErrorClass::Validation,
            code: "source_id_missing".to_owned(),
            message: format!("the {} has no id", record.entity_type),
        });
    }
    if id.len() != record.source_id.len() {
        record.source_id = id.to_owned();
    }
    match source.schemas.check(&record.entity_type, &record.data) {
        Ok(()) => Ok(record),
        Err(violations) => Err(schema_rejection(&record.entity_type, &violations)),
    }
}

fn schema_rejection(entity: &EntityType, violations: &[Violation]) -> Rejection {
    let mut message = format!("the {entity} breaks its schema: ");
    for (index, violation) in violations.iter().take(VIOLATIONS_SHOWN).enumerate() {
        if index > 0 {
            message.push_str("; ");
        }
        message.push_str(&format!(
            "{} {}: {}",
            violation.path, violation.rule, violation.detail
        ));
    }
    if let Some(more) = violations.len().checked_sub(VIOLATIONS_SHOWN)
        && more > 0
    {
        message.push_str(&format!("; and {more} more"));
    }
    Rejection {
        class: ErrorClass::Validation,
        code: "schema_violation".to_owned(),
        message,
    }
}

fn drop_superseded(prepared: &mut [Prepared]) {
    let ids: Vec<_> = prepared
        .iter()
        .flat_map(|prepared| &prepared.records)
        .map(|ApplyRecord { record, .. }| {
            let id = RecordRef {
                entity_type: record.entity_type.clone(),
                source_id: record.source_id.clone(),
            };
            (id, record.modified_at)
        })
        .collect();
    let mut lost = identify::superseded(&ids).into_iter();
    for prepared in prepared {
        let before = prepared.records.len();
        prepared
            .records
            .retain(|_| !lost.next().unwrap_or_default());
        if before > 0 && prepared.records.is_empty() {
            prepared.skipped = Some("a later record of the page has the same id".to_owned());
        }
    }
}
