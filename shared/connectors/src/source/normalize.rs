//! `schema_normalization: Default`: values cast to what the stream's schema says.

use serde_json::{Map, Value};

use super::{
    manifest::falsy,
    template::{literal, python},
};

/// Casts the fields of a record, nested ones included. What cannot be cast stays as it is.
pub fn record(record: &mut Map<String, Value>, schema: &Value) {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return;
    };
    for (name, schema) in properties {
        if let Some(value) = record.get_mut(name) {
            cast(value, schema);
            inside(value, schema);
        }
    }
}

fn inside(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => record(map, schema),
        Value::Array(items) => {
            if let Some(schema) = schema.get("items").filter(|items| items.is_object()) {
                for item in items {
                    cast(item, schema);
                    inside(item, schema);
                }
            }
        }
        _ => {}
    }
}

/// The one type a schema names besides null; two or more mean no cast.
fn target(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str);
            let mut named = names.by_ref().filter(|name| *name != "null");
            match (named.next(), named.next()) {
                (Some(name), None) => Some(name),
                _ => None,
            }
        }
        _ => None,
    }
}

fn nullable(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == "null",
        Some(Value::Array(names)) => names.iter().any(|name| name == "null"),
        _ => false,
    }
}

fn cast(value: &mut Value, schema: &Value) {
    if value.is_null() && nullable(schema) {
        return;
    }
    let cast = match target(schema) {
        Some("string") => Some(Value::String(python::text(value))),
        Some("number") => number(value).map(Value::from),
        Some("integer") => integer(value),
        Some("boolean") => boolean(value),
        Some("array") if is_simple(value) && takes_simple(schema) => {
            Some(Value::Array(vec![value.clone()]))
        }
        _ => None,
    };
    if let Some(cast) = cast {
        *value = cast;
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::String(text) => {
            let text = text.trim();
            match literal::read(text) {
                Some(Value::Number(number)) => number.as_f64(),
                // `007` is no literal, but float() takes it.
                _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
            }
        }
        _ => None,
    }
}

fn integer(value: &Value) -> Option<Value> {
    match value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "Python's int() truncates; numbers beyond 64 bits are left alone"
        )]
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .filter(|value| value.abs() < 9e18)
            .map(|value| Value::from(value as i64)),
        Value::Number(_) => Some(value.clone()),
        Value::Bool(flag) => Some(Value::from(u8::from(*flag))),
        Value::String(text) => {
            let clean = text.trim().replace('_', "");
            clean.parse::<i64>().ok().map(Value::from)
        }
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<Value> {
    let Value::String(text) = value else {
        return Some(Value::Bool(!falsy(value)));
    };
    match text.to_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Some(Value::Bool(true)),
        "n" | "no" | "f" | "false" | "off" | "0" => Some(Value::Bool(false)),
        _ => None,
    }
}

fn is_simple(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// Whether an array's items, if the schema names their types, are plain values.
fn takes_simple(schema: &Value) -> bool {
    const SIMPLE: [&str; 5] = ["string", "number", "integer", "boolean", "null"];
    match schema.pointer("/items/type") {
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .all(|name| SIMPLE.contains(&name)),
        // The reference runtime takes a name apart into its letters, which are no types.
        Some(_) => false,
        None => true,
    }
}
