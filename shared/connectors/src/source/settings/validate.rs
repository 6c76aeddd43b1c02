//! Validations of settings by JSON Schemas.

use jsonschema::Validator;
use serde_json::Value;
use sluice_core::{Error, Result};

use crate::source::{
    extract,
    manifest::Component,
    template::{Scope, Template, Templates},
};

/// A value and the schema it must fit.
#[derive(Debug)]
pub(super) struct Validation {
    subject: Subject,
    schema: Validator,
}

#[derive(Debug)]
enum Subject {
    /// `DpathValidator`: what stands at a path of the settings, if anything does.
    At(Vec<Template>),
    /// `PredicateValidator`: a value made from the settings.
    Made(Template),
}

impl Validation {
    /// Nothing comes of code of the connector's own: what it would refuse, the system will.
    pub(super) fn build(
        component: &Component<'_>,
        templates: &mut Templates,
    ) -> Result<Option<Self>> {
        if component.is_custom() || component.required("validation_strategy")?.is_custom() {
            return Ok(None);
        }
        let subject = match component.kind() {
            "DpathValidator" => {
                let path = component.template_list("field_path", templates)?;
                if path.is_empty() {
                    return Err(component.invalid("field_path", "is missing"));
                }
                Subject::At(path)
            }
            "PredicateValidator" => Subject::Made(
                component
                    .template("value", templates)?
                    .ok_or_else(|| component.invalid("value", "is missing"))?,
            ),
            _ => return Err(component.unsupported()),
        };
        let strategy = component.required("validation_strategy")?;
        if strategy.kind() != "ValidateAdheresToSchema" {
            return Err(strategy.unsupported());
        }
        let schema = match strategy.get("base_schema") {
            Some(Value::String(text)) => serde_json::from_str(text)
                .map_err(|_| strategy.invalid("base_schema", "is no JSON"))?,
            Some(schema) => schema.clone(),
            None => return Err(strategy.invalid("base_schema", "is missing")),
        };
        let schema = jsonschema::validator_for(&schema)
            .map_err(|_| strategy.invalid("base_schema", "is no JSON Schema"))?;
        Ok(Some(Self { subject, schema }))
    }

    pub(super) fn check(&self, settings: &Value, scope: &Scope<'_>) -> Result<()> {
        match &self.subject {
            Subject::Made(template) => self.fits(&template.value(scope)?, "a value made from"),
            Subject::At(path) => {
                let path = path
                    .iter()
                    .map(|part| part.text(scope))
                    .collect::<Result<Vec<_>>>()?;
                let place = format!("`{}` of", path.join("."));
                let found = extract::all(settings, &path);
                found.into_iter().try_for_each(|one| self.fits(one, &place))
            }
        }
    }

    /// Texts are read as JSON first, as in the reference runtime.
    fn fits(&self, value: &Value, place: &str) -> Result<()> {
        let invalid = |detail: &str| {
            Error::config(
                "setting_invalid",
                format!("{place} the connection's settings is refused: {detail}"),
            )
        };
        let parsed;
        let value = match value {
            Value::String(text) => {
                parsed = serde_json::from_str(text).map_err(|_| invalid("it is no JSON"))?;
                &parsed
            }
            other => other,
        };
        self.schema.validate(value).map_err(|error| {
            // Values may be secrets.
            invalid(&format!("{} {}", error.instance_path(), error.masked()))
        })
    }
}
