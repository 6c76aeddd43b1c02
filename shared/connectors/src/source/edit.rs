//! Changing values at paths: what transformations of records and of settings have in common.

use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{extract::glob, manifest::Component, template::python};

/// What a value must be to be taken as one instead of as its text.
#[derive(Debug, Clone, Copy)]
pub enum ValueType {
    Text,
    Number,
    Integer,
    Boolean,
}

impl ValueType {
    /// The `value_type` of an added field.
    pub fn build(field: &Component<'_>) -> Result<Option<Self>> {
        Ok(match field.text("value_type") {
            None => None,
            Some("string") => Some(Self::Text),
            Some("number") => Some(Self::Number),
            Some("integer") => Some(Self::Integer),
            Some("boolean") => Some(Self::Boolean),
            Some(_) => return Err(field.invalid("value_type", "is unknown")),
        })
    }

    /// `number` takes floats only, `integer` whole numbers and booleans, as in the reference.
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_f64(),
            Self::Integer => value.is_i64() || value.is_u64() || value.is_boolean(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

/// A path as the manifest writes it: a list, or one name.
pub fn pointer(value: &Value) -> Vec<String> {
    match value {
        Value::Array(parts) => parts.iter().map(python::text).collect(),
        other => vec![python::text(other)],
    }
}

/// Missing is ignored; a list element becomes null instead of vanishing.
pub fn remove_at(
    value: &mut Value,
    pointer: &[String],
    remove: &impl Fn(&Value) -> Result<bool>,
) -> Result<()> {
    let Some((first, rest)) = pointer.split_first() else {
        return Ok(());
    };
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().filter(|key| glob(first, key)).cloned().collect();
            for key in keys {
                let Some(child) = map.get_mut(&key) else {
                    continue;
                };
                if rest.is_empty() {
                    if remove(child)? {
                        map.shift_remove(&key);
                    }
                } else {
                    remove_at(child, rest, remove)?;
                }
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter_mut().enumerate() {
                if !glob(first, &index.to_string()) {
                    continue;
                }
                if rest.is_empty() {
                    if remove(child)? {
                        *child = Value::Null;
                    }
                } else {
                    remove_at(child, rest, remove)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Longest list a path may create by naming a large index.
const MAX_INDEX: usize = 10_000;

/// Sets a value, making the mappings and list elements on the way.
pub fn set(target: &mut Value, path: &[String], value: Value) -> Result<()> {
    let in_the_way = || {
        Error::validation(
            "field_in_the_way",
            "a field to be added lies below a plain value",
        )
    };
    let Some((first, rest)) = path.split_first() else {
        *target = value;
        return Ok(());
    };
    match target {
        Value::Object(map) => {
            let child = map.entry(first.clone()).or_insert(Value::Null);
            if child.is_null() && !rest.is_empty() {
                *child = Value::Object(Map::new());
            }
            set(child, rest, value)
        }
        Value::Array(items) => {
            let index: usize = first.parse().map_err(|_| in_the_way())?;
            if index > MAX_INDEX {
                return Err(in_the_way());
            }
            while items.len() <= index {
                items.push(Value::Null);
            }
            let child = items.get_mut(index).ok_or_else(in_the_way)?;
            if child.is_null() && !rest.is_empty() {
                *child = Value::Object(Map::new());
            }
            set(child, rest, value)
        }
        _ => Err(in_the_way()),
    }
}
