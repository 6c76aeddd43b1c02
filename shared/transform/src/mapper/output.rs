//! Strict reading of what a program returned.

use sluice_core::{
    EntityType, Error, ErrorClass, Priority, Timestamp,
    record::{CanonicalRecord, RecordRef},
};
use vrl::value::{ObjectMap, Value};

use super::{Mapped, Outgoing};
use crate::convert;

/// Longest id a store's key holds.
const LONGEST_ID: usize = 255;

/// What is wrong with a program's output.
#[derive(Debug)]
pub(super) struct Fault {
    code: &'static str,
    text: String,
}

impl Fault {
    fn new(text: impl Into<String>) -> Self {
        Self {
            code: "mapping_failed",
            text: text.into(),
        }
    }

    /// The error, with the program's file.
    pub(super) fn at(self, file: &str) -> Error {
        Error::new(
            ErrorClass::Validation,
            self.code,
            format!("{file}: {}", self.text),
        )
    }
}

/// Reads `{skip: reason}`, one record or a list of records.
pub(super) fn mapped(result: Value) -> Result<Mapped, Fault> {
    match result {
        Value::Object(fields) => match skip(&fields)? {
            Some(reason) => Ok(Mapped::Skipped(reason)),
            None => Ok(Mapped::Records(vec![record(fields)?])),
        },
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::Object(fields) => record(fields),
                other => Err(unexpected("a record", &other)),
            })
            .collect::<Result<_, _>>()
            .map(Mapped::Records),
        other => Err(unexpected("a record, a list of records or {skip}", &other)),
    }
}

/// Reads `{skip: reason}` or the body to send.
///
/// A field that is null is left out of a new record. For one the target has, it stays at the top
/// level and tells the target to clear the field; inside of objects, which targets replace as a
/// whole, it is left out.
pub(super) fn outgoing(result: Value, linked: bool) -> Result<Outgoing, Fault> {
    let Value::Object(fields) = result else {
        return Err(unexpected("a body or {skip}", &result));
    };
    match skip(&fields)? {
        Some(reason) => Ok(Outgoing::Skip(reason)),
        None => Ok(Outgoing::Send(convert::into_json(Value::Object(body(
            fields, linked,
        ))))),
    }
}

fn body(fields: ObjectMap, keep_nulls: bool) -> ObjectMap {
    fields
        .into_iter()
        .map(|(name, value)| match value {
            Value::Object(inner) => {
                let inner = body(inner, false);
                if inner.is_empty() {
                    (name, Value::Null)
                } else {
                    (name, Value::Object(inner))
                }
            }
            other => (name, other),
        })
        .filter(|(_, value)| keep_nulls || !value.is_null())
        .collect()
}

fn skip(fields: &ObjectMap) -> Result<Option<String>, Fault> {
    let Some(reason) = fields.get("skip") else {
        return Ok(None);
    };
    if fields.len() > 1 {
        return Err(Fault::new("`skip` must be the only key"));
    }
    convert::text_of(reason)
        .map(Some)
        .ok_or_else(|| unexpected("a text in `skip`", reason))
}

fn record(mut fields: ObjectMap) -> Result<CanonicalRecord, Fault> {
    let entity_type = required_text(&mut fields, "entity_type")?;
    let source_id = id(&mut fields)?;
    let data = match fields.remove("data") {
        Some(data @ Value::Object(_)) => convert::into_json(data),
        Some(other) => return Err(unexpected("an object in `data`", &other)),
        None => return Err(Fault::new("`data` is missing")),
    };
    let parents = match fields.remove("parents") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.into_iter().map(parent).collect::<Result<_, _>>()?,
        Some(other) => return Err(unexpected("a list in `parents`", &other)),
    };
    let modified_at = fields.remove("modified_at").map_or(Ok(None), time)?;
    let deleted = match fields.remove("deleted") {
        None | Some(Value::Null) => false,
        Some(Value::Boolean(deleted)) => deleted,
        Some(other) => return Err(unexpected("true or false in `deleted`", &other)),
    };
    let priority = match fields.remove("priority") {
        None | Some(Value::Null) => None,
        Some(Value::Integer(number)) => Some(
            u8::try_from(number)
                .ok()
                .and_then(|number| Priority::try_from(number).ok())
                .ok_or_else(|| Fault::new("`priority` is outside 1 (highest) to 10 (lowest)"))?,
        ),
        Some(other) => return Err(unexpected("a number in `priority`", &other)),
    };
    nothing_left(&fields)?;
    Ok(CanonicalRecord {
        entity_type: EntityType::from(entity_type),
        source_id,
        data,
        parents,
        modified_at,
        deleted,
        priority,
    })
}

fn parent(value: Value) -> Result<RecordRef, Fault> {
    let Value::Object(mut fields) = value else {
        return Err(unexpected("an object in `parents`", &value));
    };
    let parent = RecordRef {
        entity_type: EntityType::from(required_text(&mut fields, "entity_type")?),
        source_id: id(&mut fields)?,
    };
    nothing_left(&fields)?;
    Ok(parent)
}

fn id(fields: &mut ObjectMap) -> Result<String, Fault> {
    let missing = |text: &str| Fault {
        code: "source_id_missing",
        text: text.to_owned(),
    };
    match fields.remove("source_id") {
        None | Some(Value::Null) => Err(missing("`source_id` is missing")),
        Some(value) => {
            let text = convert::text_of(&value)
                .ok_or_else(|| unexpected("a text in `source_id`", &value))?;
            let text = text.trim();
            if text.is_empty() {
                Err(missing("`source_id` is empty"))
            } else if text.len() > LONGEST_ID {
                Err(Fault::new(format!(
                    "`source_id` is longer than {LONGEST_ID} bytes"
                )))
            } else if text.contains(char::is_control) {
                Err(Fault::new("`source_id` holds control characters"))
            } else {
                Ok(text.to_owned())
            }
        }
    }
}

fn required_text(fields: &mut ObjectMap, name: &str) -> Result<String, Fault> {
    match fields.remove(name) {
        None | Some(Value::Null) => Err(Fault::new(format!("`{name}` is missing"))),
        Some(value) => convert::text_of(&value)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| unexpected(&format!("a text in `{name}`"), &value)),
    }
}

fn time(value: Value) -> Result<Option<Timestamp>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::Timestamp(time) => Ok(Some(time)),
        value => convert::text_of(&value)
            .and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok())
            .map(|time| Some(time.to_utc()))
            .ok_or_else(|| unexpected("an RFC 3339 time in `modified_at`", &value)),
    }
}

fn nothing_left(fields: &ObjectMap) -> Result<(), Fault> {
    match fields.keys().next() {
        Some(name) => Err(Fault::new(format!("unknown key `{name}`"))),
        None => Ok(()),
    }
}

fn unexpected(expected: &str, found: &Value) -> Fault {
    Fault::new(format!("expected {expected}, found {}", found.kind_str()))
}
