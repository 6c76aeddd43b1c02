//! A mapping whose keys and texts are templates, with everything else as it is.

use serde_json::Value;
use sluice_core::Result;

use super::{Scope, Template, python};
use crate::source::{manifest::Component, template::Templates};

/// What the reference runtime calls an interpolated mapping; nothing is dropped from it, and what
/// evaluates to nothing is null.
#[derive(Debug, Default)]
pub struct Texts(Vec<(Template, Entry)>);

#[derive(Debug)]
enum Entry {
    Evaluated(Template),
    Fixed(Value),
}

impl Texts {
    /// The mapping in a field; empty when there is none.
    pub fn build(owner: &Component<'_>, field: &str, templates: &mut Templates) -> Result<Self> {
        let entries = match owner.get(field) {
            None => return Ok(Self::default()),
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(owner.invalid(field, "must be a mapping")),
        };
        let compiled = entries.iter().map(|(key, value)| {
            let key = owner.compile(&Value::from(key.as_str()), templates)?;
            let value = match value {
                Value::String(_) => Entry::Evaluated(owner.compile(value, templates)?),
                other => Entry::Fixed(other.clone()),
            };
            Ok((key, value))
        });
        compiled.collect::<Result<_>>().map(Self)
    }

    /// The evaluated entries, in order.
    pub fn entries(&self, scope: &Scope<'_>) -> Result<Vec<(String, Value)>> {
        let entries = self.0.iter().map(|(key, value)| {
            let key = key.value_if(scope, |literal| literal.value.is_string())?;
            let value = match value {
                Entry::Evaluated(template) => {
                    template.optional(scope, |_| true)?.unwrap_or_default()
                }
                Entry::Fixed(value) => value.clone(),
            };
            Ok((python::text(&key), value))
        });
        entries.collect()
    }
}
