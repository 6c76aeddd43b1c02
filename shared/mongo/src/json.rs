//! JSON values in documents: as BSON when that is exact, else as JSON text.
//!
//! BSON has no unsigned 64-bit integers, no NUL in keys, nests 180 levels at most, and tools read
//! meaning into `$` and `.` in keys. A field that holds text instead is listed in the document's
//! `jsonText`, so that nobody mistakes it for a string of the source.

use mongodb::bson::{
    Bson, Document, RawArrayBuf, RawBsonRef, RawDocumentBuf,
    raw::{CStr, cstr},
};
use serde_json::{Map, Number, Value};
use sluice_core::Result;
use sluice_store::raw_codec;

use crate::errors::damaged;

/// Names of the fields that hold JSON text.
const JSON_TEXT: &CStr = cstr!("jsonText");

/// Deepest nesting kept as BSON. The server refuses documents above 180 levels, some tools and
/// older drivers earlier.
const MAX_DEPTH: usize = 100;

/// Appends fields to a document in wire form, and `jsonText` with the names of those that had to
/// become text.
///
/// # Errors
/// `raw_too_deep` for a value that could not be read back.
pub(crate) fn append<'a>(
    document: &mut RawDocumentBuf,
    fields: impl IntoIterator<Item = (&'a CStr, &'a Value)>,
) -> Result<()> {
    let mut texts = RawArrayBuf::new();
    for (field, value) in fields {
        match wire(value, MAX_DEPTH) {
            Some(exact) => exact.append(document, field),
            None => {
                document.append(field, raw_codec::to_text(value)?);
                texts.push(field.as_str());
            }
        }
    }
    document.append(JSON_TEXT, texts);
    Ok(())
}

/// Takes a field that [`append`] wrote; `Null` when it is not there.
pub(crate) fn take(document: &mut Document, field: &str) -> Result<Value> {
    let Some(stored) = document.remove(field) else {
        return Ok(Value::Null);
    };
    let as_text = document
        .get_array(JSON_TEXT.as_str())
        .is_ok_and(|names| names.iter().any(|name| name.as_str() == Some(field)));
    match stored {
        Bson::String(text) if as_text => raw_codec::from_text(&text),
        other => from_bson(other).ok_or_else(|| damaged(field)),
    }
}

/// A value in wire form, or as good as.
enum Wire<'a> {
    Plain(RawBsonRef<'a>),
    Array(RawArrayBuf),
    Document(RawDocumentBuf),
}

impl Wire<'_> {
    fn append(self, document: &mut RawDocumentBuf, key: &CStr) {
        match self {
            Self::Plain(value) => document.append(key, value),
            Self::Array(values) => document.append(key, values),
            Self::Document(fields) => document.append(key, fields),
        }
    }
}

/// `None` when BSON cannot hold the value exactly.
fn wire(value: &Value, depth: usize) -> Option<Wire<'_>> {
    Some(match value {
        Value::Null => Wire::Plain(RawBsonRef::Null),
        Value::Bool(flag) => Wire::Plain(RawBsonRef::Boolean(*flag)),
        Value::String(text) => Wire::Plain(RawBsonRef::String(text)),
        Value::Number(number) => Wire::Plain(wire_number(number)?),
        Value::Array(values) => {
            let depth = depth.checked_sub(1)?;
            let mut list = RawArrayBuf::new();
            for value in values {
                match wire(value, depth)? {
                    Wire::Plain(value) => list.push(value),
                    Wire::Array(values) => list.push(values),
                    Wire::Document(fields) => list.push(fields),
                }
            }
            Wire::Array(list)
        }
        Value::Object(fields) => {
            let depth = depth.checked_sub(1)?;
            let mut document = RawDocumentBuf::new();
            for (key, value) in fields {
                if key.is_empty() || key.starts_with('$') || key.contains('.') {
                    return None;
                }
                // A key with NUL is none.
                let key = <&CStr>::try_from(key.as_str()).ok()?;
                wire(value, depth)?.append(&mut document, key);
            }
            Wire::Document(document)
        }
    })
}

fn wire_number(number: &Number) -> Option<RawBsonRef<'static>> {
    if let Some(integer) = number.as_i64() {
        return Some(match i32::try_from(integer) {
            Ok(small) => RawBsonRef::Int32(small),
            Err(_) => RawBsonRef::Int64(integer),
        });
    }
    if number.is_u64() {
        return None;
    }
    // Equal again only when the double is all there was.
    let double = number.as_f64()?;
    (Number::from_f64(double)? == *number).then_some(RawBsonRef::Double(double))
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
            let fields = [(cstr!("rawData"), &value), (cstr!("slice"), &json!(1))];
            let mut document = RawDocumentBuf::new();
            append(&mut document, fields).unwrap();
            let mut document = Document::from_reader(document.as_bytes()).unwrap();
            let back = take(&mut document, "rawData").unwrap();
            prop_assert_eq!(back.to_string(), value.to_string());
            prop_assert_eq!(take(&mut document, "slice").unwrap(), json!(1));
        }
    }

    #[test]
    fn ordinary_values_are_documents_and_odd_ones_text() {
        let kind = |value: Value| {
            let mut document = RawDocumentBuf::new();
            append(&mut document, [(cstr!("rawData"), &value)]).unwrap();
            let document = Document::try_from(&document).unwrap();
            let marked = !document.get_array(JSON_TEXT.as_str()).unwrap().is_empty();
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
