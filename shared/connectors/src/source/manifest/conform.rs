//! Whether components have the fields they must have, and values of the right kind in them. The
//! reference runtime refuses the whole manifest otherwise; here it is the stream.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sluice_core::Error;

use super::{
    component::Component,
    propagate::PARAMETERS,
    shape::{self, Kind, List, Named, Shape, Type},
    vocabulary::{meant_type, nearest, types},
};

/// Nobody reads more complaints about one stream.
const MOST: usize = 20;

/// What is wrong with a stream and what stands in it.
pub fn faults_of_stream(stream: &Component<'_>) -> Vec<Error> {
    let mut walk = Walk::default();
    let kinds = ["DeclarativeStream", "StateDelegatingStream"];
    // Anything else is refused as such.
    if !kinds.contains(&stream.kind()) {
        return Vec::new();
    }
    let shape = kinds.map(Kind::Component).into();
    walk.mapping(stream.map(), &shape, stream.path());
    walk.found
}

/// What is wrong with a manifest besides its streams: that concerns them all.
pub fn faults_of_frame(manifest: &Value) -> Vec<Error> {
    let mut walk = Walk::default();
    let Value::Object(map) = manifest else {
        return vec![wrong("manifest", "must be a mapping")];
    };
    let kind = map.get("type").and_then(Value::as_str);
    if kind != Some("DeclarativeSource") {
        let fault = wrong("manifest.type", "must be DeclarativeSource");
        return vec![fault.hint("did you mean `DeclarativeSource`?")];
    }
    let lists = ["streams", "dynamic_streams"];
    if !lists.iter().any(|field| map.contains_key(*field)) {
        walk.found.push(wrong("manifest.streams", "is missing"));
    }
    for field in lists {
        if map.get(field).is_some_and(|value| !value.is_array()) {
            let place = format!("manifest.{field}");
            walk.found.push(wrong(&place, "must be a list of streams"));
        }
    }
    if let Some(frame) = types().get("DeclarativeSource") {
        let rest: Map<String, Value> = (map.iter())
            .filter(|(field, _)| !lists.contains(&field.as_str()))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        walk.fields(&rest, "DeclarativeSource", frame, "manifest");
    }
    walk.found
}

fn wrong(path: &str, detail: &str) -> Error {
    Error::config("manifest_invalid", format!("{path}: {detail}"))
}

#[derive(Default)]
struct Walk {
    found: Vec<Error>,
}

impl Walk {
    fn value(&mut self, value: &Value, shape: &Shape, path: &str) {
        if self.found.len() >= MOST {
            return;
        }
        match value {
            Value::Object(map) => self.mapping(map, shape, path),
            Value::Array(items) => self.list(items, shape, path),
            _ if shape.iter().any(|kind| kind.takes(value)) => {}
            _ => self.mismatch(value, shape, path),
        }
    }

    fn mapping(&mut self, map: &Map<String, Value>, shape: &Shape, path: &str) {
        // Code of the connector's own is told by whoever would need it.
        if map.contains_key("class_name") {
            return;
        }
        let named = map.get("type").and_then(Value::as_str);
        let mut components = shape.iter().filter_map(|kind| match kind {
            Kind::Component(name) => Some((*name, types().get(name)?)),
            _ => None,
        });
        let fitting = components.find(|(name, known)| match named {
            Some(named) => named == *name || known.named == Named::Free,
            None => known.named != Named::Must,
        });
        if let Some((name, known)) = fitting {
            return self.fields(map, name, known, path);
        }
        for kind in shape {
            match kind {
                Kind::Any | Kind::Mapping => return,
                Kind::MappingOf(inner) => {
                    for (key, value) in map.iter().filter(|(key, _)| *key != PARAMETERS) {
                        self.value(value, inner, &format!("{path}.{key}"));
                    }
                    return;
                }
                _ => {}
            }
        }
        let wanted = shape.iter().any(|kind| matches!(kind, Kind::Component(_)));
        match named {
            Some(named) if wanted && !types().contains_key(named) => {
                self.unknown_type(named, path);
            }
            Some(named) if wanted => {
                let what = format!("a {named} cannot stand here, only {}", shape::told(shape));
                self.found.push(wrong(&format!("{path}.type"), &what));
            }
            None if wanted => {
                let what = format!("is missing; this must be {}", shape::told(shape));
                self.found.push(wrong(&format!("{path}.type"), &what));
            }
            _ => self.mismatch(&Value::Object(Map::new()), shape, path),
        }
    }

    fn unknown_type(&mut self, named: &str, path: &str) {
        let what = format!("the component type `{named}` at {path} is not supported");
        let error = Error::config("component_unsupported", what);
        self.found.push(match meant_type(named) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("this stream cannot be read; the others of the connector can"),
        });
    }

    fn fields(&mut self, map: &Map<String, Value>, kind: &str, known: &Type, path: &str) {
        for (field, it) in &known.fields {
            match map.get(*field) {
                Some(value) => self.value(value, &it.shape, &format!("{path}.{field}")),
                None if it.required => {
                    let what = format!("is missing; a {kind} needs it");
                    let error = wrong(&format!("{path}.{field}"), &what);
                    let others = map.keys().map(String::as_str);
                    let unknown = others.filter(|other| !known.fields.contains_key(other));
                    self.found.push(match nearest(field, unknown) {
                        Some(meant) => error.hint(format!("is `{meant}` meant to be it?")),
                        None => error,
                    });
                }
                None => {}
            }
        }
        let strange = map
            .keys()
            .map(String::as_str)
            .filter(|field| known.closed && *field != "type" && !known.fields.contains_key(field));
        for field in strange {
            let what = format!("{path}.{field}: {kind} has no field `{field}`");
            let error = Error::config("manifest_field_unknown", what);
            self.found
                .push(match nearest(field, known.fields.keys().copied()) {
                    Some(meant) => error.hint(format!("did you mean `{meant}`?")),
                    None => error,
                });
        }
    }

    /// Of several kinds of lists, the one that it is most like.
    fn list(&mut self, items: &[Value], shape: &Shape, path: &str) {
        let mut best: Option<Vec<Error>> = None;
        for kind in shape {
            let mut inner = Self::default();
            match kind {
                Kind::Any => return,
                Kind::List(list) => inner.items(items, list, path),
                _ => continue,
            }
            if best
                .as_ref()
                .is_none_or(|best| inner.found.len() < best.len())
            {
                best = Some(inner.found);
            }
        }
        match best {
            Some(found) => self.found.extend(found),
            None => self.mismatch(&Value::Array(Vec::new()), shape, path),
        }
    }

    fn items(&mut self, items: &[Value], list: &List, path: &str) {
        if list.some && items.is_empty() {
            self.found.push(wrong(path, "must not be empty"));
        }
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("{path}[{index}]");
            if list.distinct && !seen.insert(item) {
                self.found.push(wrong(&place, "stands there twice"));
            }
            self.value(item, &list.of, &place);
        }
    }

    fn mismatch(&mut self, value: &Value, shape: &Shape, path: &str) {
        let found = match value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        let what = format!("must be {}, is {found}", shape::told(shape));
        let error = wrong(path, &what);
        self.found.push(match advice(value, shape) {
            Some(advice) => error.hint(advice),
            None => error,
        });
    }
}

fn advice(value: &Value, shape: &Shape) -> Option<String> {
    let any = |wanted: fn(&Kind) -> bool| shape.iter().any(wanted);
    match value {
        Value::Null => Some("give it a value, or leave it out".to_owned()),
        Value::Bool(_) | Value::Number(_) if any(|kind| matches!(kind, Kind::Text)) => {
            Some("put it in quotes".to_owned())
        }
        Value::String(text) => {
            let choices = shape.iter().find_map(|kind| match kind {
                Kind::OneOf(choices) => Some(choices),
                _ => None,
            });
            if let Some(choices) = choices {
                let meant = nearest(&text.to_uppercase(), choices.iter().copied())
                    .or_else(|| nearest(&text.to_lowercase(), choices.iter().copied()))?;
                return Some(format!("did you mean `{meant}`?"));
            }
            if any(|kind| matches!(kind, Kind::List(_))) {
                return Some("write it as a list, with [ and ] around it".to_owned());
            }
            any(|kind| matches!(kind, Kind::Number { .. } | Kind::Flag))
                .then(|| "write it without quotes, and without a template".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest;

    const FRAME: &str = "version: 6.0.0\ncheck: {stream_names: [a]}\n";

    /// Each fault of a manifest with one stream.
    fn told(stream: &str) -> Vec<(String, Option<String>)> {
        let manifest = manifest::load(&format!("{FRAME}streams:\n  - {stream}")).unwrap();
        assert!(faults_of_frame(&manifest).is_empty());
        let root = Component::new(&manifest, "manifest").unwrap();
        let streams = root.children("streams").unwrap();
        let faults = faults_of_stream(&streams[0]);
        let told = faults.iter().map(|error| {
            let advice = error.advice().map(str::to_owned);
            (error.message().to_owned(), advice)
        });
        told.collect()
    }

    #[test]
    fn a_stream_without_faults_has_none() {
        let told = told(
            "{name: a, primary_key: [[id]], retriever: {requester: {url: x, request_parameters: {type: open, a: b}, authenticator: {class_name: x.Y}}, paginator: {type: DefaultPaginator, pagination_strategy: {type: PageIncrement, page_size: 1.0}}, record_selector: {extractor: {field_path: []}}, partition_router: [{type: ListPartitionRouter, values: [a], cursor_field: b}]}}",
        );
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn wrong_kinds_missing_fields_and_misplaced_components_are_told_with_advice() {
        let requester = |text: &str| {
            format!(
                "{{name: a, retriever: {{requester: {{url: x, {text}}}, record_selector: {{extractor: {{field_path: []}}}}}}}}"
            )
        };
        let at = "manifest.streams[0].retriever";
        for (stream, message, hint) in [
            (
                "{name: [x], retriever: {requester: {}, record_selector: {extractor: {field_path: []}}}}".to_owned(),
                "manifest.streams[0].name: must be a text, is a list".to_owned(),
                None,
            ),
            (
                "{name: a, retriever: {requester: {}, record_selector: {extractor: {field_pth: []}}}}".to_owned(),
                format!("{at}.record_selector.extractor.field_path: is missing; a DpathExtractor needs it"),
                Some("is `field_pth` meant to be it?"),
            ),
            (
                requester("http_method: gett"),
                format!("{at}.requester.http_method: must be one of GET, POST, is a text"),
                Some("did you mean `GET`?"),
            ),
            (
                requester("request_parameters: {a: 5}"),
                format!("{at}.requester.request_parameters.a: must be a text or a QueryProperties, is a number"),
                Some("put it in quotes"),
            ),
            (
                requester("use_cache: 'yes'"),
                format!("{at}.requester.use_cache: must be true or false, is a text"),
                Some("write it without quotes, and without a template"),
            ),
            (
                requester("path:"),
                format!("{at}.requester.path: must be a text, is nothing"),
                Some("give it a value, or leave it out"),
            ),
            (
                requester("authenticator: {api_token: x}"),
                format!("{at}.requester.authenticator.type: is missing"),
                None,
            ),
            (
                requester("error_handler: {type: BearerAuthenticator, api_token: x}"),
                format!("{at}.requester.error_handler.type: a BearerAuthenticator cannot stand here"),
                None,
            ),
            (
                requester("authenticator: {type: BearerAuthenticater, api_token: x}"),
                format!("`BearerAuthenticater` at {at}.requester.authenticator is not supported"),
                Some("did you mean `BearerAuthenticator`?"),
            ),
            (
                requester("error_handler: {response_filters: [{action: FAIL, http_codes: [400, 400]}]}"),
                format!("{at}.requester.error_handler.response_filters[0].http_codes[1]: stands there twice"),
                None,
            ),
            (
                requester("read_timeout_in_seconds: 0"),
                format!("{at}.requester.read_timeout_in_seconds: must be a number above 0, is a number"),
                None,
            ),
            (
                requester("authenticator: {type: JwtAuthenticator, secret_key: x, algorithm: HS256, jwt_headers: {kidd: x}}"),
                format!("{at}.requester.authenticator.jwt_headers.kidd: JwtHeaders has no field `kidd`"),
                Some("did you mean `kid`?"),
            ),
        ] {
            let told = told(&stream);
            assert_eq!(told.len(), 1, "{stream}: {told:?}");
            assert!(told[0].0.contains(&message), "{told:?}");
            assert_eq!(told[0].1.as_deref(), hint, "{told:?}");
        }
    }

    #[test]
    fn the_frame_is_closed_and_has_its_parts() {
        for (manifest, message, hint) in [
            (
                format!("{FRAME}streams: []\ntype: DeclarativeSorce"),
                "manifest.type: must be",
                Some("did you mean `DeclarativeSource`?"),
            ),
            (
                format!("{FRAME}streams: []\nstrems: []"),
                "manifest.strems: DeclarativeSource has no field",
                Some("did you mean `streams`?"),
            ),
            (
                "check: {stream_names: [a]}\nstreams: []".to_owned(),
                "manifest.version: is missing",
                None,
            ),
            (FRAME.to_owned(), "manifest.streams: is missing", None),
            (
                format!("{FRAME}streams: {{a: b}}"),
                "manifest.streams: must be a list",
                None,
            ),
            (
                "version: 6.0.0\ncheck: {stream_names: a}\nstreams: []".to_owned(),
                "manifest.check.stream_names: must be a list (a text in each), is a text",
                Some("write it as a list, with [ and ] around it"),
            ),
        ] {
            let faults = faults_of_frame(&manifest::load(&manifest).unwrap());
            assert_eq!(faults.len(), 1, "{manifest}: {faults:?}");
            assert!(faults[0].message().contains(message), "{faults:?}");
            assert_eq!(faults[0].advice(), hint, "{faults:?}");
        }
        assert!(
            faults_of_frame(&Value::Null)[0]
                .message()
                .contains("a mapping")
        );
    }
}
