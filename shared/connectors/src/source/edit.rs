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

/// Missing is ignored; a list element becomes null instead of vanishing, unless it is the last. `**` stands for any number
/// of segments, none among them.
pub fn remove_at(
    value: &mut Value,
    pointer: &[String],
    remove: &impl Fn(&Value) -> Result<bool>,
) -> Result<()> {
    let Some((first, rest)) = pointer.split_first() else {
        return Ok(());
    };
    if first == "**" {
        if !rest.is_empty() {
            remove_at(value, rest, remove)?;
        }
        return match rest.first() {
            // Twice is as often as once.
            Some(next) if next == "**" => Ok(()),
            _ => remove_below(value, pointer, remove),
        };
    }
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().filter(|key| glob(first, key)).cloned().collect();
            for key in keys {
                let Some(child) = map.get_mut(&key) else {
                    continue;
                };
                if ends(rest) && remove(child)? {
                    map.shift_remove(&key);
                } else if !rest.is_empty() {
                    remove_at(child, rest, remove)?;
                }
            }
        }
        Value::Array(items) => {
            for index in 0..items.len() {
                if glob(first, &index.to_string()) {
                    remove_item(items, index, rest, remove)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a path may end before these segments.
pub fn ends(rest: &[String]) -> bool {
    rest.iter().all(|part| part == "**")
}

/// Goes on with a path that begins with `**` in all there is below.
fn remove_below(
    value: &mut Value,
    pointer: &[String],
    remove: &impl Fn(&Value) -> Result<bool>,
) -> Result<()> {
    match value {
        Value::Object(map) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            for key in keys {
                let Some(child) = map.get_mut(&key) else {
                    continue;
                };
                if ends(pointer) && remove(child)? {
                    map.shift_remove(&key);
                } else {
                    remove_at(child, pointer, remove)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            (0..items.len()).try_for_each(|index| remove_item(items, index, pointer, remove))
        }
        _ => Ok(()),
    }
}

/// The last item vanishes, as in the reference runtime.
fn remove_item(
    items: &mut Vec<Value>,
    index: usize,
    rest: &[String],
    remove: &impl Fn(&Value) -> Result<bool>,
) -> Result<()> {
    let last = index + 1 == items.len();
    let Some(item) = items.get_mut(index) else {
        return Ok(());
    };
    if !(ends(rest) && remove(item)?) {
        return match rest {
            [] => Ok(()),
            rest => remove_at(item, rest, remove),
        };
    }
    if last {
        items.pop();
    } else {
        *item = Value::Null;
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
