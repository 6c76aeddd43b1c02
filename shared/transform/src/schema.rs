//! JSON Schemas of the entity types.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use jsonschema::{JsonType, ValidationError, Validator, error::ValidationErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{EntityType, Error, Result as CoreResult};

static SHIPPED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/schemas");

/// Most violations told about one record; a record that breaks more is no better understood.
const MOST: usize = 20;

/// One broken rule: where, which, and what kind of value was found. Never the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// JSON Pointer into the record's data; empty for the whole.
    pub path: String,
    /// The schema keyword, such as `required`.
    pub rule: String,
    /// What was expected and what kind of value was found.
    pub detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        write!(f, "{path}: {} ({})", self.detail, self.rule)
    }
}

/// Compiled schemas by entity type.
#[derive(Debug)]
pub struct Schemas(BTreeMap<EntityType, Validator>);

impl Schemas {
    /// The schemas that are compiled in.
    ///
    /// # Errors
    /// `schema_invalid` when one is no JSON Schema.
    pub fn shipped() -> CoreResult<Self> {
        let texts = SHIPPED.files().filter_map(|file| {
            let name = file.path().file_stem()?.to_str()?;
            Some((name, file.contents_utf8()?))
        });
        Self::compile(texts)
    }

    fn compile<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> CoreResult<Self> {
        texts
            .map(|(name, text)| {
                let invalid = |why: String| {
                    Error::config("schema_invalid", format!("schema {name}.json: {why}"))
                };
                let schema: Value =
                    serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
                let validator = jsonschema::options()
                    .should_validate_formats(true)
                    .build(&schema)
                    .map_err(|error| invalid(error.to_string()))?;
                Ok((EntityType::from(name), validator))
            })
            .collect::<CoreResult<_>>()
            .map(Self)
    }

    /// Entity types with a schema.
    pub fn entities(&self) -> impl Iterator<Item = &EntityType> {
        self.0.keys()
    }

    /// The text of a shipped schema, for people and for the API.
    pub fn text(entity: &EntityType) -> Option<&'static str> {
        SHIPPED.get_file(format!("{entity}.json"))?.contents_utf8()
    }

    /// Checks a record's data against its entity type's schema.
    ///
    /// # Errors
    /// The broken rules, at most 20; an unknown entity type breaks the rule `entity_type`.
    pub fn check(&self, entity: &EntityType, data: &Value) -> Result<(), Vec<Violation>> {
        let Some(validator) = self.0.get(entity) else {
            return Err(vec![Violation {
                path: String::new(),
                rule: "entity_type".into(),
                detail: format!("there is no schema for {entity}"),
            }]);
        };
        // The quick answer first: nearly all records are sound.
        if validator.is_valid(data) {
            return Ok(());
        }
        let violations: Vec<_> = validator
            .iter_errors(data)
            .take(MOST)
            .map(|error| violation(&error))
            .collect();
        if violations.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }
}

/// Only names and numbers of the schema itself, and the kind of the value, are told.
fn violation(error: &ValidationError<'_>) -> Violation {
    let found = JsonType::from(error.instance().as_ref());
    let detail = match error.kind() {
        ValidationErrorKind::Required { property } => format!("{property} is missing"),
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            format!("{} unknown fields", unexpected.len())
        }
        ValidationErrorKind::Type { .. }
        | ValidationErrorKind::Enum { .. }
        | ValidationErrorKind::Pattern { .. }
        | ValidationErrorKind::Format { .. } => {
            format!("{}, found {found}", error.masked())
        }
        _ => error.masked().to_string(),
    };
    Violation {
        path: error.instance_path().to_string(),
        rule: error.kind().keyword().to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn location() -> Value {
        json!({"kind": "unit", "number": "oakrun-1", "name": "oakrun 1", "property_code": "oakrun",
               "unit_code": "1", "address": {"city": "Elm"}, "active": true})
    }

    #[test]
    fn sound_data_passes_and_unknown_types_do_not() {
        let schemas = Schemas::shipped().unwrap();
        assert_eq!(schemas.check(&"Location".into(), &location()), Ok(()));
        let violations = schemas.check(&"Spaceship".into(), &json!({})).unwrap_err();
        assert_eq!(violations[0].rule, "entity_type");
        assert_eq!(schemas.entities().count(), 4);
    }

    #[test]
    fn violations_name_path_and_rule_and_never_the_value() {
        let schemas = Schemas::shipped().unwrap();
        let mut data = location();
        data["address"]["city"] = json!({"hunter2": 1});
        data["kind"] = json!("hunter2");
        data["active"] = json!("hunter2");
        data["hunter2"] = json!(1);
        data.as_object_mut().unwrap().remove("name");
        let violations = schemas.check(&"Location".into(), &data).unwrap_err();
        let found: Vec<_> = violations
            .iter()
            .map(|violation| (violation.path.as_str(), violation.rule.as_str()))
            .collect();
        for expected in [
            ("/address/city", "type"),
            ("/kind", "enum"),
            ("/active", "type"),
            ("", "additionalProperties"),
            ("", "required"),
        ] {
            assert!(found.contains(&expected), "{expected:?} not in {found:?}");
        }
        assert!(
            !format!("{violations:?}").contains("hunter2"),
            "{violations:?}"
        );
    }

    #[test]
    fn impossible_dates_are_violations() {
        let schemas = Schemas::shipped().unwrap();
        let request = |created: &str| {
            json!({"number": "1", "property_code": "oakrun", "summary": "s", "created_at": created,
                   "time_zone": "UTC", "requester": {}})
        };
        let entity = EntityType::from("ServiceRequest");
        assert_eq!(
            schemas.check(&entity, &request("2025-03-04T00:00:00Z")),
            Ok(())
        );
        for bad in [
            "2025-02-31T00:00:00Z",
            "5025-01-01T00:00:00Z",
            "1800-01-01T00:00:00Z",
            "soon",
        ] {
            let violations = schemas.check(&entity, &request(bad)).unwrap_err();
            assert!(
                violations
                    .iter()
                    .all(|violation| violation.path == "/created_at"),
                "{bad}"
            );
        }
    }
}
