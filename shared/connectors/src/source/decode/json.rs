//! JSON bodies.

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, ErrorClass, Result};

use super::{Decoded, Place, lenient};
use crate::source::record::{self, Record};

/// Keys under which error texts are looked for, in this order.
const ERROR_KEYS: [&str; 12] = [
    "message",
    "messages",
    "error",
    "errors",
    "failure",
    "failures",
    "detail",
    "err",
    "error_message",
    "msg",
    "reason",
    "status_message",
];

/// A list is several bodies, nothing is one empty body. Unlike the reference runtime, a body that
/// is no JSON is an error: a cut-off page must not pass for an empty one.
pub(super) fn decode(text: &str, records: Option<Place<'_>>) -> Result<Decoded> {
    strict(text, records).or_else(|error| {
        let text = lenient::standard(text).ok_or_else(|| error.clone())?;
        strict(&text, records).map_err(|_| error)
    })
}

fn strict(text: &str, records: Option<Place<'_>>) -> Result<Decoded> {
    let rows = records.filter(|records| records.as_text);
    if let Some(rows) = rows.and_then(|records| record::read(text, records.path)) {
        return Ok(Decoded {
            text: Some(Text {
                body: Record::Row(rows.body),
                is_list: rows.is_list,
            }),
            streamed: Some(rows.records.into_iter().map(Record::Row).collect()),
            ..Decoded::default()
        });
    }
    let value = if text.trim().is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_str(text).map_err(|error| {
            Error::new(
                ErrorClass::TargetError,
                "json_invalid",
                format!(
                    "the body is not JSON, as seen at line {} column {}",
                    error.line(),
                    error.column()
                ),
            )
        })?
    };
    let error_text = error_text(&value, 0).unwrap_or_default();
    let bodies = match value {
        Value::Array(items) if items.is_empty() => vec![Value::Object(Map::new())],
        Value::Array(items) => items,
        other => vec![other],
    };
    Ok(Decoded {
        error_text,
        bodies,
        ..Decoded::default()
    })
}

/// A body that stayed text.
#[derive(Debug)]
pub(super) struct Text {
    /// The first of a list.
    body: Record,
    is_list: bool,
}

impl Text {
    pub(super) fn response(&self) -> Jinja {
        self.body.to_jinja()
    }

    /// What [`error_text`] finds in the whole body. The items of a list are its records.
    pub(super) fn error_text(&self, records: Option<&[Record]>) -> String {
        let of = |record: &Record, depth: usize| {
            let mut found = ERROR_KEYS.iter().filter_map(|key| record.get(key));
            found.find_map(|value| error_text(&value, depth + 1))
        };
        if !self.is_list {
            return of(&self.body, 0).unwrap_or_default();
        }
        let items = records.into_iter().flatten().take(100);
        let texts: Vec<_> = items.filter_map(|record| of(record, 1)).collect();
        texts.join(", ")
    }
}

/// The first non-empty text under one of the keys, recursively; lists are joined.
fn error_text(value: &Value, depth: usize) -> Option<String> {
    if depth > 8 {
        return None;
    }
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(items) => {
            let texts: Vec<_> = items
                .iter()
                .take(100)
                .filter_map(|item| error_text(item, depth + 1))
                .collect();
            (!texts.is_empty()).then(|| texts.join(", "))
        }
        Value::Object(map) => ERROR_KEYS
            .iter()
            .filter_map(|key| map.get(*key))
            .find_map(|value| error_text(value, depth + 1)),
        _ => None,
    }
}
