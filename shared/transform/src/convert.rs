//! JSON to the mapping language's values and back, without text in between.

use serde_json::{Map, Number, Value as Json};
use vrl::value::{ObjectMap, Value};

/// A value as the mapping language sees it. Integers beyond 64 signed bits become text, so that
/// no digit is lost.
pub(crate) fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => from_number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().map(from_json).collect()),
        Json::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.as_str().into(), from_json(value)))
                .collect::<ObjectMap>(),
        ),
    }
}

fn from_number(number: &Number) -> Value {
    if let Some(integer) = number.as_i64() {
        return Value::Integer(integer);
    }
    match number.as_f64() {
        Some(float) if number.is_f64() => Value::from_f64_or_zero(float),
        _ => Value::from(number.to_string()),
    }
}

/// A program's value as JSON. NUL, which no SQL database holds in text, is dropped; a number that
/// JSON cannot hold becomes null.
pub(crate) fn into_json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(flag) => Json::Bool(flag),
        Value::Integer(number) => Json::Number(number.into()),
        Value::Float(number) => {
            Number::from_f64(number.into_inner()).map_or(Json::Null, Json::Number)
        }
        Value::Array(items) => Json::Array(items.into_iter().map(into_json).collect()),
        Value::Object(fields) => Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| (without_nul(name.into()), into_json(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Timestamp(time) => {
            Json::String(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Value::Regex(pattern) => Json::String(pattern.as_str().to_owned()),
        text => Json::String(without_nul(text_of(&text).unwrap_or_default())),
    }
}

/// The text of a text value; `None` for other kinds. Bytes that are no UTF-8 are replaced.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    value.to_str_lossy().map(|text| text.into_owned())
}

fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "")
    } else {
        text
    }
}
