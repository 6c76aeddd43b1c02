//! Runs a connector's mapping fixtures: `fixtures/mapping/*.yaml`, each a list of cases with input
//! and expected output. `docs/mapping.md` shows how to write one.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_core::{EntityType, Error, Result, connector::ConnectorFiles, record::RecordRef};

use crate::{Mapped, Mapper, Outgoing, OutgoingInput, Schemas};

/// Where fixtures are in a connector's folder.
const FOLDER: &str = "fixtures/mapping";

/// The outcome of all cases.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    pub cases: Vec<Case>,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.cases.len() - self.failed()
    }

    pub fn failed(&self) -> usize {
        self.cases
            .iter()
            .filter(|case| !case.differences.is_empty())
            .count()
    }
}

/// The outcome of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    pub file: String,
    pub name: String,
    /// Empty when the case passed. Fixtures hold invented data, so values are shown.
    pub differences: Vec<Difference>,
}

/// A place where found differs from expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// JSON Pointer.
    pub path: String,
    pub expected: Value,
    pub found: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    /// To canonical: the stream `raw` belongs to.
    stream: Option<String>,
    raw: Option<Value>,
    #[serde(default)]
    slice: Value,
    #[serde(default)]
    config: Value,
    /// From canonical: the entity type `input` is of.
    entity: Option<EntityType>,
    input: Option<Input>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    data: Value,
    #[serde(default)]
    source_system: String,
    source_id: String,
    entity_id: String,
    #[serde(default)]
    parents: Vec<Parent>,
    external_id: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default = "first_version")]
    version: i64,
}

fn first_version() -> i64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parent {
    entity_type: EntityType,
    source_id: String,
    external_id: String,
}

/// What a case expects; exactly one.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    /// Canonical records, all of whose data follow their schemas.
    Records(Value),
    /// The body for the target.
    Send(Value),
    Skip(String),
    /// The code of the error.
    Error(String),
    /// Places and rules, such as `/created_at type`, that the data break.
    Violations(Vec<String>),
}

/// Runs all mapping fixtures of a connector.
///
/// # Errors
/// `mapping_invalid` when the rules do not compile, `fixture_invalid` when a fixture cannot be
/// read.
pub fn run(files: &ConnectorFiles) -> Result<Report> {
    let mapper = Mapper::load(files)?;
    let schemas = Schemas::shipped()?;
    let mut report = Report::default();
    for (name, text) in files.in_folder(FOLDER, ".yaml") {
        let file = format!("{FOLDER}/{name}.yaml");
        let invalid = |why: &dyn std::fmt::Display| {
            Error::config("fixture_invalid", format!("{}/{file}: {why}", files.name))
        };
        // By way of JSON: YAML of its own accord would write enums as tags.
        let written: Value = yaml_serde::from_str(text).map_err(|error| invalid(&error))?;
        let cases: Vec<Written> =
            serde_json::from_value(written).map_err(|error| invalid(&error))?;
        for case in cases {
            let found = found(&mapper, &schemas, &case).map_err(|why| invalid(&why))?;
            let expected = serde_json::to_value(&case.expect).map_err(|error| invalid(&error))?;
            let mut differences = Vec::new();
            differ("", &expected, &found, &mut differences);
            report.cases.push(Case {
                file: file.clone(),
                name: case.name,
                differences,
            });
        }
    }
    Ok(report)
}

/// What a case gives, in the form of its expectation.
fn found(mapper: &Mapper, schemas: &Schemas, case: &Written) -> Result<Value, String> {
    let found = match (&case.stream, &case.raw, &case.entity, &case.input) {
        (Some(stream), Some(raw), None, None) => {
            match mapper.to_canonical(stream, raw, &case.slice, &case.config) {
                Ok(Mapped::Skipped(reason)) => json!({ "skip": reason }),
                Ok(Mapped::Records(records)) => {
                    let violations: Vec<_> = records
                        .iter()
                        .filter_map(|record| schemas.check(&record.entity_type, &record.data).err())
                        .flatten()
                        .map(|violation| format!("{} {}", violation.path, violation.rule))
                        .collect();
                    if violations.is_empty() {
                        json!({ "records": records })
                    } else {
                        json!({ "violations": violations })
                    }
                }
                Err(error) => json!({ "error": error.code() }),
            }
        }
        (None, None, Some(entity), Some(input)) => {
            let parents: Vec<_> = input
                .parents
                .iter()
                .map(|parent| {
                    let record = RecordRef {
                        entity_type: parent.entity_type.clone(),
                        source_id: parent.source_id.clone(),
                    };
                    (record, parent.external_id.clone())
                })
                .collect();
            let outgoing = OutgoingInput {
                data: &input.data,
                source_system: &input.source_system,
                source_id: &input.source_id,
                entity_id: &input.entity_id,
                parents: &parents,
                external_id: input.external_id.as_deref(),
                deleted: input.deleted,
                version: input.version,
            };
            match mapper.from_canonical(entity, &outgoing, &case.config) {
                Ok(Outgoing::Send(body)) => json!({ "send": body }),
                Ok(Outgoing::Skip(reason)) => json!({ "skip": reason }),
                Err(error) => json!({ "error": error.code() }),
            }
        }
        _ => {
            return Err(format!(
                "case `{}` needs `stream` and `raw`, or `entity` and `input`",
                case.name
            ));
        }
    };
    Ok(found)
}

/// Notes every leaf that differs. A null is as good as a missing key, and 2 is 2.0.
fn differ(path: &str, expected: &Value, found: &Value, differences: &mut Vec<Difference>) {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for name in names {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                differ(
                    &format!("{path}/{escaped}"),
                    left.get(name).unwrap_or(&Value::Null),
                    right.get(name).unwrap_or(&Value::Null),
                    differences,
                );
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differ(&format!("{path}/{index}"), left, right, differences);
            }
        }
        (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
        _ if expected == found => {}
        _ => differences.push(Difference {
            path: path.to_owned(),
            expected: expected.clone(),
            found: found.clone(),
        }),
    }
}
