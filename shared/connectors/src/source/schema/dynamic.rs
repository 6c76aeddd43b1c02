//! `DynamicSchemaLoader`: a schema made from what the system says about its fields.

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value, json};
use sluice_core::{Error, Result};

use crate::source::{
    Source, extract,
    manifest::Component,
    record::{Form, Record},
    select::{Transformation, evaluate},
    slice::{Progress, Slice},
    stream::Stream,
    template::{Scope, Template, Templates, json},
};

/// Nesting of list types.
const MAX_DEPTH: usize = 16;

#[derive(Debug)]
pub(super) struct Dynamic {
    /// Its first record describes the fields.
    pub stream: Box<Stream>,
    descriptions: Vec<Template>,
    key: Vec<Template>,
    kind: Option<Vec<Template>>,
    mapping: Vec<Mapped>,
    filter: Option<Template>,
    transformations: Vec<Transformation>,
}

/// A type of the system's and what it means.
#[derive(Debug)]
struct Mapped {
    from: Value,
    to: Value,
    condition: Option<Template>,
}

impl Dynamic {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let identifier = component.required("schema_type_identifier")?;
        let key = identifier.template_list("key_pointer", templates)?;
        if key.is_empty() {
            return Err(identifier.invalid("key_pointer", "is missing"));
        }
        let mut mapping = Vec::new();
        for entry in identifier.children("types_mapping")? {
            let required = |field: &str| -> Result<Value> {
                entry
                    .get(field)
                    .cloned()
                    .ok_or_else(|| entry.invalid(field, "is missing"))
            };
            let to = required("target_type")?;
            property(&to, 0).ok_or_else(|| entry.invalid("target_type", "is no known type"))?;
            mapping.push(Mapped {
                from: required("current_type")?,
                to,
                condition: entry.template("condition", templates)?,
            });
        }
        let kind = identifier.template_list("type_pointer", templates)?;
        Ok(Self {
            stream: Box::new(Stream::build_one(component, None, templates)?),
            descriptions: identifier.template_list("schema_pointer", templates)?,
            key,
            kind: (!kind.is_empty()).then_some(kind),
            mapping,
            filter: match component.child("schema_filter")? {
                Some(filter) if filter.kind() == "RecordFilter" => {
                    filter.template("condition", templates)?
                }
                Some(filter) => return Err(filter.unsupported()),
                None => None,
            },
            transformations: component
                .children("schema_transformations")?
                .iter()
                .map(|one| Transformation::build(one, templates))
                .collect::<Result<_>>()?,
        })
    }

    pub(super) async fn schema(&self, source: &Source) -> Result<Value> {
        let described = self.described(source).await?;
        self.made(described.as_ref(), &source.scope())
    }

    /// The first record.
    async fn described(&self, source: &Source) -> Result<Option<Value>> {
        let slice = Slice::default();
        let mut progress = Progress::default();
        // In a future of its own size: pages may ask for schemas too.
        while let Some(taken) =
            Box::pin(source.page(&self.stream, &slice, &progress, Form::Values)).await?
        {
            let taken = taken.whole()?;
            if let Some(record) = taken.records.into_iter().next() {
                return Ok(Some(record.into_value()));
            }
            progress = taken.next;
        }
        Ok(None)
    }

    fn made(&self, described: Option<&Value>, scope: &Scope<'_>) -> Result<Value> {
        let mut properties = Map::new();
        if let Some(described) = described {
            let list = at(described, &self.descriptions, scope)?.and_then(Value::as_array);
            let list = list.ok_or_else(|| wrong("no list of fields at `schema_pointer`"))?;
            for field in list {
                let key = at(field, &self.key, scope)?.and_then(Value::as_str);
                let key = key.ok_or_else(|| wrong("no text at `key_pointer`"))?;
                properties.insert(key.to_owned(), self.property(field, scope)?);
            }
        }
        // What templates of records see besides the record.
        let nothing = Jinja::from(());
        let scope = ["stream_slice", "stream_partition", "stream_interval"]
            .into_iter()
            .fold(scope.clone(), |scope, name| {
                scope.with(name, nothing.clone())
            });
        if let Some(filter) = &self.filter {
            let mut kept = Map::new();
            for (key, property) in properties {
                let record = Record::from(Map::from_iter([(key, property)]));
                let (keep, record) =
                    evaluate(filter, record, &scope, |filter, scope| filter.truth(scope))?;
                if keep {
                    kept.extend(record.into_map());
                }
            }
            properties = kept;
        }
        let mut properties = Record::from(properties);
        for transformation in &self.transformations {
            properties = transformation.apply(properties, &scope)?;
        }
        let properties = properties.into_value();
        Ok(json!({
            "$schema": "https://json-schema.org/draft-07/schema#",
            "type": "object",
            "additionalProperties": true,
            "properties": properties,
        }))
    }

    fn property(&self, field: &Value, scope: &Scope<'_>) -> Result<Value> {
        let text = Value::from("string");
        let found = match &self.kind {
            Some(path) => at(field, path, scope)?.unwrap_or(&text),
            None => &text,
        };
        let mut kind = found;
        let scope = scope.clone().with("raw_schema", json::of(field));
        for mapped in &self.mapping {
            let holds = match &mapped.condition {
                Some(condition) => condition.truth(&scope)?,
                None => true,
            };
            if holds && *found == mapped.from {
                kind = &mapped.to;
                break;
            }
        }
        property(kind, 0).ok_or_else(|| wrong("a type that `types_mapping` does not name"))
    }
}

fn at<'v>(value: &'v Value, path: &[Template], scope: &Scope<'_>) -> Result<Option<&'v Value>> {
    let path = path
        .iter()
        .map(|part| part.text(scope))
        .collect::<Result<Vec<_>>>()?;
    Ok(extract::first(value, &path))
}

fn wrong(what: &str) -> Error {
    Error::config(
        "schema_not_described",
        format!("the system's description of its fields holds {what}"),
    )
    .hint("look at `schema_type_identifier` of the connector's manifest")
}

/// A type's name, two of them, or a list's type, as a JSON Schema.
fn property(kind: &Value, depth: usize) -> Option<Value> {
    match kind {
        Value::String(name) => of_name(name),
        Value::Array(names) => match names.as_slice() {
            [Value::String(one), Value::String(other)] => {
                Some(json!({"oneOf": [of_name(one)?, of_name(other)?]}))
            }
            _ => None,
        },
        Value::Object(complex) if depth < MAX_DEPTH => {
            let name = complex.get("field_type")?.as_str()?;
            let mut schema = of_name(name)?;
            if let Some(items) = complex.get("items").filter(|items| !items.is_null()) {
                if name != "array" || items.is_array() {
                    return None;
                }
                let items = property(items, depth + 1)?;
                schema.as_object_mut()?.insert("items".into(), items);
            }
            Some(schema)
        }
        _ => None,
    }
}

fn of_name(name: &str) -> Option<Value> {
    let text = |format: &str, more: &str| {
        let mut schema = json!({"type": ["null", "string"], "format": format});
        if let (false, Some(map)) = (more.is_empty(), schema.as_object_mut()) {
            map.insert("airbyte_type".into(), more.into());
        }
        schema
    };
    Some(match name {
        "string" | "boolean" | "integer" | "number" | "array" | "object" => {
            json!({"type": ["null", name]})
        }
        "date" => text("date", ""),
        "timestamp_without_timezone" => text("date-time", name),
        "timestamp_with_timezone" => text("date-time", ""),
        "time_without_timezone" | "time_with_timezone" => text("time", name),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::manifest;

    fn dynamic(identifier: &str) -> (Result<Dynamic>, Templates) {
        let manifest = manifest::load(&format!(
            "streams: [{{schema_loader: {{type: DynamicSchemaLoader, retriever: {{requester: {{url_base: 'http://x.test'}}, record_selector: {{extractor: {{field_path: []}}}}}}, schema_type_identifier: {{type: SchemaTypeIdentifier, {identifier}}}}}}}]"
        ))
        .unwrap();
        let component =
            Component::new(&manifest["streams"][0]["schema_loader"], "manifest.loader").unwrap();
        let mut templates = Templates::new();
        (Dynamic::build(&component, &mut templates), templates)
    }

    #[test]
    fn descriptions_that_say_something_else_are_told() {
        let (dynamic, templates) = dynamic(
            "schema_pointer: [fields], key_pointer: [name], type_pointer: [kind], types_mapping: [{current_type: num, target_type: number}]",
        );
        let dynamic = dynamic.unwrap();
        let config = Jinja::UNDEFINED;
        let scope = Scope::new(&templates, &config);
        let made = dynamic
            .made(
                Some(&json!({"fields": [{"name": "a", "kind": "num"}, {"name": "b"}]})),
                &scope,
            )
            .unwrap();
        assert_eq!(
            made["properties"],
            json!({"a": {"type": ["null", "number"]}, "b": {"type": ["null", "string"]}})
        );
        for described in [
            json!({}),
            json!({"fields": {"a": 1}}),
            json!({"fields": [{"name": 5}]}),
            json!({"fields": [7]}),
            json!({"fields": [{"name": "a", "kind": "planted"}]}),
            json!({"fields": [{"name": "a", "kind": ["string"]}]}),
        ] {
            let error = dynamic.made(Some(&described), &scope).unwrap_err();
            assert_eq!(error.code(), "schema_not_described", "{described}");
            assert!(!error.chain().contains("planted"));
        }
    }

    #[test]
    fn wrong_loaders_are_refused_with_their_place() {
        for (identifier, place) in [
            ("schema_pointer: [a]", "schema_type_identifier.key_pointer"),
            (
                "key_pointer: [a], types_mapping: [{current_type: x, target_type: y}]",
                "types_mapping[0].target_type",
            ),
            (
                "key_pointer: [a], types_mapping: [{current_type: x, target_type: {field_type: string, items: string}}]",
                "types_mapping[0].target_type",
            ),
        ] {
            let error = dynamic(identifier).0.unwrap_err();
            assert!(error.message().contains(place), "{error}");
        }
    }
}
