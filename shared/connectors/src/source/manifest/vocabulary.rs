//! The words of the manifest format: its component types and their fields. Reading passes over
//! fields it does not know; whoever writes a manifest wants to hear of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use serde_json::{Map, Value};
use sluice_core::Error;

use super::{
    propagate::PARAMETERS,
    shape::{self, Field, Type},
};

/// A line per type. Taken from the component schema of `airbyte-cdk` 7.39.1 (MIT), with the fields
/// that are ours.
static TEXT: &str = include_str!("vocabulary.txt");

static TYPES: LazyLock<BTreeMap<&'static str, Type>> =
    LazyLock::new(|| TEXT.lines().filter_map(shape::read).collect());

/// Fields of every component.
const COMMON: [&str; 4] = ["type", PARAMETERS, "class_name", "name"];
/// Fields that hold what the author likes: nothing below them is a component.
const FREE: [&str; 18] = [
    "additional_jwt_headers",
    "additional_jwt_payload",
    "advanced_auth",
    "base_schema",
    "connection_specification",
    "definitions",
    "map",
    "metadata",
    "refresh_request_body",
    "refresh_request_headers",
    "request_body_data",
    "request_body_json",
    "request_headers",
    "request_parameters",
    "schema",
    "schemas",
    "target_details",
    "value",
];
/// Texts less alike than this are no slips of the pen.
const ALIKE: f64 = 0.8;
/// Nobody reads more complaints.
const MOST: usize = 50;

/// What each known type is made of.
pub(super) fn types() -> &'static BTreeMap<&'static str, Type> {
    &TYPES
}

/// The known type that a name may have been meant for; `None` when it is known itself, or like none.
pub(super) fn meant_type(name: &str) -> Option<&'static str> {
    (!TYPES.contains_key(name)).then(|| nearest(name, TYPES.keys().copied()))?
}

/// Fields of a propagated manifest that their component does not have, each once.
pub fn unknown_fields(manifest: &Value) -> Vec<Error> {
    let mut walk = Walk {
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    walk.value(manifest, "manifest");
    walk.found
}

struct Walk {
    /// Shared definitions stand at many places.
    seen: BTreeSet<(String, String)>,
    found: Vec<Error>,
}

impl Walk {
    fn value(&mut self, value: &Value, path: &str) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &format!("{path}[{index}]"));
                }
            }
            Value::Object(map) => self.component(map, path),
            _ => {}
        }
    }

    fn component(&mut self, map: &Map<String, Value>, path: &str) {
        let kind = map.get("type").and_then(Value::as_str);
        let fields = kind
            .and_then(|kind| TYPES.get(kind))
            .map(|kind| &kind.fields);
        if let (Some(kind), Some(fields), false) = (kind, fields, map.contains_key("class_name")) {
            for field in map.keys() {
                let known = COMMON.contains(&field.as_str()) || fields.contains_key(field.as_str());
                // A parameter becomes a field of every component below it.
                let inherited = map.get(PARAMETERS).and_then(|own| own.get(field)).is_some();
                if known || inherited || self.found.len() >= MOST {
                    continue;
                }
                if self.seen.insert((kind.to_owned(), field.clone())) {
                    self.found.push(unknown(kind, field, fields, path));
                }
            }
        }
        for (field, value) in map {
            if field != PARAMETERS && !FREE.contains(&field.as_str()) {
                self.value(value, &format!("{path}.{field}"));
            }
        }
    }
}

fn unknown(kind: &str, field: &str, fields: &BTreeMap<&'static str, Field>, path: &str) -> Error {
    let error = Error::config(
        "manifest_field_unknown",
        format!("{path}.{field}: {kind} has no field `{field}`, so it means nothing"),
    );
    match nearest(field, fields.keys().copied()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error,
    }
}

/// The one most like a name, if one is like it.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest;

    #[test]
    fn slips_of_the_pen_are_found_once_with_what_was_meant() {
        let manifest = manifest::load(
            "definitions: {r: {record_filtr: {}, extractor: {field_path: [], odd_one: 1}}}
metadata: {type: RecordSelector, anything: 1}
streams:
  - {name: a, $parameters: {path: x, own: 1}, retriever: {requester: {url_base: u, request_parameters: {type: RecordSelector, a: b}}, record_selector: '#/definitions/r'}}
  - {name: b, retriever: {requester: {url_bas: u}, record_selector: '#/definitions/r'}}
  - {name: c, retriever: {class_name: x.Y, whatever: 1}}",
        )
        .unwrap();
        let found = unknown_fields(&manifest);
        let told: Vec<(&str, Option<&str>)> = found
            .iter()
            .map(|error| (error.message(), error.advice()))
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        for (part, hint) in [
            (
                "manifest.streams[0].retriever.record_selector.record_filtr",
                Some("did you mean `record_filter`?"),
            ),
            ("DpathExtractor has no field `odd_one`", None),
            (
                "manifest.streams[1].retriever.requester.url_bas",
                Some("did you mean `url_base`?"),
            ),
        ] {
            let one = told.iter().find(|(text, _)| text.contains(part));
            assert_eq!(one.map(|(_, hint)| *hint), Some(hint), "{part}: {told:?}");
        }
    }

    #[test]
    fn types_are_suggested_when_they_are_like_one() {
        for (name, meant) in [
            ("DpathExtractr", Some("DpathExtractor")),
            ("BearerAuthenticater", Some("BearerAuthenticator")),
            ("DpathExtractor", None),
            ("Qq", None),
            ("", None),
        ] {
            assert_eq!(meant_type(name), meant, "{name}");
        }
    }
}
