//! Structures of the manifest with templates in them.

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{Literal, Scope, Template, Templates, python};

/// A mapping of the manifest whose keys and values are templates, or one template for all of it.
#[derive(Debug, Clone)]
pub enum Mapping {
    Entries(Vec<(Template, Template)>),
    Whole(Template),
}

impl Mapping {
    /// The evaluated entries; values keep their literal type where `accept` agrees.
    pub fn entries(
        &self,
        scope: &Scope<'_>,
        accept: impl Fn(&Literal) -> bool,
    ) -> Result<Map<String, Value>> {
        match self {
            Self::Entries(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let Some(value) = value.optional(scope, &accept)? else {
                        continue;
                    };
                    let key = key.value_if(scope, |literal| literal.value.is_string())?;
                    map.insert(python::text(&key), value);
                }
                Ok(map)
            }
            Self::Whole(template) => match template.value(scope)? {
                Value::Object(map) => Ok(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
                Value::String(text) => match serde_json::from_str(&text) {
                    Ok(Value::Object(map)) => Ok(map),
                    _ if text.trim().is_empty() => Ok(Map::new()),
                    _ => Err(no_mapping()),
                },
                Value::Null => Ok(Map::new()),
                _ => Err(no_mapping()),
            },
        }
    }
}

fn no_mapping() -> Error {
    Error::config(
        "template_no_mapping",
        "a template that stands for a mapping gives something else",
    )
}

/// A nested structure of the manifest with templates at its leaves and keys.
#[derive(Debug, Clone)]
pub enum Nested {
    Leaf(Template),
    Fixed(Value),
    List(Vec<Nested>),
    Map(Vec<(Template, Nested)>),
}

impl Nested {
    /// Compiles a JSON value of the manifest.
    pub fn compile(value: &Value, templates: &mut Templates, parameters: &Jinja) -> Result<Self> {
        Ok(match value {
            Value::String(text) => Self::Leaf(templates.compile(text, parameters)?),
            Value::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::compile(item, templates, parameters))
                    .collect::<Result<_>>()?,
            ),
            Value::Object(map) => Self::Map(
                map.iter()
                    .map(|(key, item)| {
                        Ok((
                            templates.compile(key, parameters)?,
                            Self::compile(item, templates, parameters)?,
                        ))
                    })
                    .collect::<Result<_>>()?,
            ),
            other => Self::Fixed(other.clone()),
        })
    }

    /// The evaluated value; keys with nothing in them vanish, list items with nothing become null.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Leaf(template) => Ok(template.optional(scope, |_| true)?.unwrap_or(Value::Null)),
            Self::List(items) => items
                .iter()
                .map(|item| item.value(scope))
                .collect::<Result<Vec<_>>>()
                .map(Value::Array),
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, item) in entries {
                    let value = item.value(scope)?;
                    if !value.is_null() {
                        map.insert(key.text(scope)?, value);
                    }
                }
                Ok(Value::Object(map))
            }
        }
    }
}
