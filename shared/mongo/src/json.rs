//! JSON values in documents: as BSON when that is exact, else as JSON text.
//!
//! BSON has no unsigned 64-bit integers, no NUL in keys, nests 180 levels at most, and tools read
//! meaning into `$` and `.` in keys. A field that holds text instead is listed in the document's
//! `jsonText`, so that nobody mistakes it for a string of the source.

use mongodb::bson::{Bson, Document};
use serde_json::{Map, Number, Value};
use sluice_core::Result;
use sluice_store::raw_codec;

use crate::errors::damaged;

/// Names of the fields that hold JSON text.
pub(crate) const JSON_TEXT: &str = "jsonText";

/// Deepest nesting kept as BSON. The server refuses documents above 180 levels, some tools and
/// older drivers earlier.
const MAX_DEPTH: usize = 100;

/// Sets `field`, and `jsonText` when it had to become text.
///
/// # Errors
/// `raw_too_deep` for a value that could not be read back.
pub(crate) fn put(document: &mut Document, field: &str, value: &Value) -> Result<()> {
    if let Some(exact) = to_bson(value, MAX_DEPTH) {
        document.insert(field, exact);
        return Ok(());
    }
    document.insert(field, raw_codec::to_text(value)?);
    match document.get_array_mut(JSON_TEXT) {
        Ok(names) => names.push(field.into()),
        Err(_) => {
            document.insert(JSON_TEXT, vec![Bson::from(field)]);
        }
    }
    Ok(())
}

/// Takes a field that [`put`] set; `Null` when it is not there.
pub(crate) fn take(document: &mut Document, field: &str) -> Result<Value> {
    let Some(stored) = document.remove(field) else {
        return Ok(Value::Null);
    };
    let as_text = document
        .get_array(JSON_TEXT)
        .is_ok_and(|names| names.iter().any(|name| name.as_str() == Some(field)));
    match stored {
        Bson::String(text) if as_text => raw_codec::from_text(&text),
        other => from_bson(other).ok_or_else(|| damaged(field)),
    }
}

/// `None` when BSON cannot hold the value exactly.
fn to_bson(value: &Value, depth: usize) -> Option<Bson> {
    Some(match value {
        Value::Null => Bson::Null,
        Value::Bool(flag) => Bson::Boolean(*flag),
        Value::String(text) => Bson::String(text.clone()),
        Value::Number(number) => number_to_bson(number)?,
        Value::Array(values) => {
            let depth = depth.checked_sub(1)?;
            let values = values.iter().map(|value| to_bson(value, depth));
            Bson::Array(values.collect::<Option<_>>()?)
        }
        Value::Object(fields) => {
            let depth = depth.checked_sub(1)?;
            let mut document = Document::new();
            for (key, value) in fields {
                if key.is_empty() || key.starts_with('$') || key.contains(['.', '\0']) {
                    return None;
                }
                document.insert(key.clone(), to_bson(value, depth)?);
            }
            Bson::Document(document)
        }
    })
}

fn number_to_bson(number: &Number) -> Option<Bson> {
    if let Some(integer) = number.as_i64() {
        return Some(match i32::try_from(integer) {
            Ok(small) => Bson::Int32(small),
            Err(_) => Bson::Int64(integer),
        });
    }
    if number.is_u64() {
        return None;
    }
    // Equal again only when the double is all there was.
    let double = number.as_f64()?;
    (Number::from_f64(double)? == *number).then_some(Bson::Double(double))
}

fn from_bson(value: Bson) -> Option<Value> {
    Some(match value {
        Bson::Null => Value::Null,
        Bson::Boolean(flag) => Value::Bool(flag),
        Bson::String(text) => Value::String(text),
        Bson::Int32(integer) => integer.into(),
        Bson::Int64(integer) => integer.into(),
        Bson::Double(double) => Value::Number(Number::from_f64(double)?),
        Bson::Array(values) => {
            Value::Array(values.into_iter().map(from_bson).collect::<Option<_>>()?)
        }
        Bson::Document(document) => {
            let mut fields = Map::with_capacity(document.len());
            for (key, value) in document {
                fields.insert(key, from_bson(value)?);
            }
            Value::Object(fields)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let key = prop_oneof!["[a-z]{1,4}", "[a-z.$\0]{0,3}"];
        leaf.prop_recursive(6, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_back_to_the_letter(value in any_json()) {
            let mut document = Document::new();
            put(&mut document, "rawData", &value).unwrap();
            put(&mut document, "slice", &json!(1)).unwrap();
            let wire = document.to_vec().unwrap();
            let mut document = Document::from_reader(&wire[..]).unwrap();
            let back = take(&mut document, "rawData").unwrap();
            prop_assert_eq!(back.to_string(), value.to_string());
            prop_assert_eq!(take(&mut document, "slice").unwrap(), json!(1));
        }
    }

    #[test]
    fn ordinary_values_are_documents_and_odd_ones_text() {
        let kind = |value: Value| {
            let mut document = Document::new();
            put(&mut document, "rawData", &value).unwrap();
            let marked = document.contains_key(JSON_TEXT);
            (
                matches!(document.get("rawData"), Some(Bson::String(_))),
                marked,
            )
        };
        for ordinary in [json!({"a": {"b": [1, 2.5, null]}}), json!(i64::MAX)] {
            assert_eq!(kind(ordinary), (false, false));
        }
        for odd in [
            json!(u64::MAX),
            json!({"$a": 1}),
            json!([{"a.b": 1}]),
            json!({"": 1}),
        ] {
            assert_eq!(kind(odd), (true, true));
        }
        assert_eq!(kind(json!("text")), (true, false));
        let deep = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(kind(deep(MAX_DEPTH)), (false, false));
        assert_eq!(kind(deep(MAX_DEPTH + 1)), (true, true));
    }
}
