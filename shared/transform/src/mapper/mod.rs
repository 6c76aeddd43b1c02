//! Mapping rules, compiled once and run per record.

mod output;
mod program;

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::{
    EntityType, Error, Result,
    connector::ConnectorFiles,
    record::{CanonicalRecord, RecordRef},
};
use vrl::value::{ObjectMap, Value as Vrl};

use crate::convert;
use program::{Program, Source};

/// The file of a folder that runs before each of the others.
const COMMON: &str = "_common";

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
    /// The source connection's connector, such as `yardi`.
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

/// A connector's compiled mapping rules. Cheap to share behind an `Arc`: every call is
/// independent of every other.
#[derive(Debug)]
pub struct Mapper {
    connector: String,
    to_canonical: BTreeMap<String, Program>,
    from_canonical: BTreeMap<EntityType, Program>,
}

impl Mapper {
    /// Compiles `to_canonical/<stream>.vrl` and `from_canonical/<EntityType>.vrl`. A folder's
    /// `_common.vrl` runs before each of its other files and shares its variables.
    ///
    /// # Errors
    /// `mapping_invalid` with file, line and the compiler's text, for all files at once.
    pub fn load(files: &ConnectorFiles) -> Result<Self> {
        let functions = crate::functions::all();
        let mut faults = Vec::new();
        let mut folder = |folder: &str| -> BTreeMap<String, Program> {
            let place = format!("{}/{folder}", files.name);
            let common = files
                .get(&format!("{folder}/{COMMON}.vrl"))
                .unwrap_or_default();
            files
                .in_folder(folder, ".vrl")
                .filter(|(name, _)| *name != COMMON)
                .filter_map(|(name, source)| {
                    let source = Source::new(&place, name, common, source);
                    match Program::compile(source, &functions) {
                        Ok(program) => Some((name.to_owned(), program)),
                        Err(fault) => {
                            faults.push(fault);
                            None
                        }
                    }
                })
                .collect()
        };
        let to_canonical = folder("to_canonical");
        let from_canonical = folder("from_canonical")
            .into_iter()
            .map(|(name, program)| (EntityType::from(name), program))
            .collect();
        if !faults.is_empty() {
            return Err(Error::config("mapping_invalid", faults.join("\n")));
        }
        Ok(Self {
            connector: files.name.clone(),
            to_canonical,
            from_canonical,
        })
    }

    /// Maps one raw record. The program reads `.` (the record), `%slice` and `%config` (the
    /// connection's settings, as written: secrets are references there).
    ///
    /// # Errors
    /// `mapping_missing` when the connector has no rules for the stream; `mapping_failed` when
    /// they fail on this record, `record_not_object` and `source_id_missing` when there is no record or no
    /// id in it: names of fields, never values.
    pub fn to_canonical(
        &self,
        stream: &str,
        raw: &Value,
        slice: &Value,
        config: &Value,
    ) -> Result<Mapped> {
        let program = self
            .to_canonical
            .get(stream)
            .ok_or_else(|| self.missing(&format!("to_canonical/{stream}.vrl")))?;
        if !raw.is_object() {
            return Err(Error::validation(
                "record_not_object",
                format!("a record of the stream `{stream}` is no object"),
            ));
        }
        let metadata = ObjectMap::from([
            ("slice".into(), convert::from_json(slice)),
            ("config".into(), convert::from_json(config)),
        ]);
        let result = program.run(convert::from_json(raw), metadata)?;
        output::mapped(result).map_err(|fault| fault.at(program.file()))
    }

    /// Maps one master record to the target's form. The program reads `.` (the input's fields,
    /// and `.parent.<EntityType>`, the external id of the first parent of that type) and
    /// `%config`. Fields that are null are left out when the record is new to the target, and
    /// stay when it is linked: they clear what is there.
    ///
    /// # Errors
    /// As [`Mapper::to_canonical`].
    pub fn from_canonical(
        &self,
        entity: &EntityType,
        input: &OutgoingInput<'_>,
        config: &Value,
    ) -> Result<Outgoing> {
        let program = self
            .from_canonical
            .get(entity)
            .ok_or_else(|| self.missing(&format!("from_canonical/{entity}.vrl")))?;
        let metadata = ObjectMap::from([("config".into(), convert::from_json(config))]);
        let result = program.run(outgoing(input), metadata)?;
        output::outgoing(result, input.external_id.is_some())
            .map_err(|fault| fault.at(program.file()))
    }

    /// Streams with mapping rules.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.to_canonical.keys().map(String::as_str)
    }

    /// Entity types this connector can write.
    pub fn entities(&self) -> impl Iterator<Item = &EntityType> {
        self.from_canonical.keys()
    }

    fn missing(&self, file: &str) -> Error {
        Error::config(
            "mapping_missing",
            format!("the connector `{}` has no {file}", self.connector),
        )
        .hint("add the file, or leave the stream or entity type out of the flow")
    }
}

fn outgoing(input: &OutgoingInput<'_>) -> Vrl {
    let text = |text: &str| Vrl::from(text);
    let mut parent = ObjectMap::new();
    for (record, external_id) in input.parents {
        parent
            .entry(record.entity_type.as_str().into())
            .or_insert_with(|| text(external_id));
    }
    let parents = input
        .parents
        .iter()
        .map(|(record, external_id)| {
            Vrl::Object(ObjectMap::from([
                ("entity_type".into(), text(record.entity_type.as_str())),
                ("source_id".into(), text(&record.source_id)),
                ("external_id".into(), text(external_id)),
            ]))
        })
        .collect();
    Vrl::Object(ObjectMap::from([
        ("data".into(), convert::from_json(input.data)),
        ("source_system".into(), text(input.source_system)),
        ("source_id".into(), text(input.source_id)),
        ("entity_id".into(), text(input.entity_id)),
        (
            "external_id".into(),
            input.external_id.map_or(Vrl::Null, text),
        ),
        ("parents".into(), Vrl::Array(parents)),
        ("parent".into(), Vrl::Object(parent)),
        ("deleted".into(), Vrl::Boolean(input.deleted)),
        ("version".into(), Vrl::Integer(input.version)),
    ]))
}

#[cfg(test)]
mod tests;
