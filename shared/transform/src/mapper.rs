//! Mapping rules, compiled once and run per record.

use serde_json::Value;
use sluice_core::{
    EntityType, Error, Result,
    connector::ConnectorFiles,
    record::{CanonicalRecord, RecordRef},
};

/// What became of a raw record.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped {
    Records(Vec<CanonicalRecord>),
    /// Deliberately left out, for a reason that names no values.
    Skipped(String),
}

/// What a target shall receive.
#[derive(Debug, Clone, PartialEq)]
pub enum Outgoing {
    Send(Value),
    /// Deliberately not sent, for a reason that names no values.
    Skip(String),
}

/// A master record on its way to a target.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingInput<'a> {
    pub data: &'a Value,
    /// Name of the source connection's connector, such as `yardi`.
    pub source_system: &'a str,
    pub source_id: &'a str,
    /// Our stable reference, planted at the target.
    pub entity_id: &'a str,
    /// The record's parents and their external ids at the target.
    pub parents: &'a [(RecordRef, String)],
    /// The record's own external id, when it is linked.
    pub external_id: Option<&'a str>,
    pub deleted: bool,
    pub version: i64,
}

/// A connector's compiled mapping rules. Cheap to share behind an `Arc`; every call is
/// independent.
#[derive(Debug)]
pub struct Mapper {}

impl Mapper {
    /// Compiles `to_canonical/<stream>.vrl` and `from_canonical/<EntityType>.vrl`.
    ///
    /// # Errors
    /// `mapping_invalid` with file, line and the compiler's text.
    pub fn load(_files: &ConnectorFiles) -> Result<Self> {
        Ok(Self {})
    }

    /// Maps one raw record. The program reads `.` (the record), `%slice` and `%config`.
    ///
    /// # Errors
    /// `mapping_missing` when the connector has no rules for the stream, `mapping_failed` when
    /// they fail on this record; names of fields, never values.
    pub fn to_canonical(
        &self,
        stream: &str,
        _raw: &Value,
        _slice: &Value,
        _config: &Value,
    ) -> Result<Mapped> {
        Err(Error::config(
            "mapping_missing",
            format!("no mapping rules for the stream `{stream}`"),
        ))
    }

    /// Maps one master record to the target's form.
    ///
    /// # Errors
    /// As [`Mapper::to_canonical`].
    pub fn from_canonical(
        &self,
        entity: &EntityType,
        _input: &OutgoingInput<'_>,
        _config: &Value,
    ) -> Result<Outgoing> {
        Err(Error::config(
            "mapping_missing",
            format!("no mapping rules for {entity}"),
        ))
    }

    /// Entity types this connector can write.
    pub fn entities(&self) -> impl Iterator<Item = EntityType> {
        std::iter::empty()
    }
}
