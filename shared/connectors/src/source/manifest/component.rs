//! Reading components: typed access to fields, with the path for error texts.

use std::collections::HashSet;

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{
    propagate::{PARAMETERS, falsy},
    vocabulary::meant_type,
};
use crate::source::template::{Mapping, Nested, Template, Templates, json};

/// One component of a propagated manifest.
#[derive(Clone)]
pub struct Component<'a> {
    map: &'a Map<String, Value>,
    /// Such as `streams[orders].retriever.requester`.
    path: String,
    parameters: Jinja,
}

impl<'a> Component<'a> {
    /// Wraps a mapping.
    ///
    /// # Errors
    /// `manifest_invalid` when it is something else.
    pub fn new(value: &'a Value, path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        let map = value
            .as_object()
            .ok_or_else(|| invalid(&path, "a component must be a mapping"))?;
        let parameters = match map.get(PARAMETERS) {
            Some(parameters) => json::of(parameters),
            None => json::of(&Value::Object(Map::new())),
        };
        Ok(Self {
            map,
            path,
            parameters,
        })
    }

    /// Its type; empty when it has none.
    pub fn kind(&self) -> &'a str {
        self.map.get("type").and_then(Value::as_str).unwrap_or("")
    }

    /// All of it.
    pub(super) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    /// Where it stands in the manifest.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is code of the connector's own.
    pub fn is_custom(&self) -> bool {
        self.map.contains_key("class_name")
    }

    /// The refusal of this component, naming its place.
    pub fn unsupported(&self) -> Error {
        let what = match self.map.get("class_name").and_then(Value::as_str) {
            Some(class) => format!("custom code ({class})"),
            None if self.kind().is_empty() => "a component without a type".to_owned(),
            None => format!("the component type `{}`", self.kind()),
        };
        let error = Error::config(
            "component_unsupported",
            format!("{what} at {} is not supported", self.path),
        );
        match meant_type(self.kind()).filter(|_| !self.is_custom()) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint("this stream cannot be read; the others of the connector can"),
        }
    }

    /// The refusal of a field this engine does not know what to do with.
    pub fn unsupported_field(&self, field: &str) -> Error {
        Error::config(
            "component_unsupported",
            format!(
                "`{field}` of {} at {} is not supported",
                self.kind(),
                self.path
            ),
        )
        .hint("this stream cannot be read; the others of the connector can")
    }

    /// The refusal of a field's value.
    pub fn invalid(&self, field: &str, detail: &str) -> Error {
        invalid(&format!("{}.{field}", self.path), detail)
    }

    /// Refuses custom code hidden behind a known type.
    pub fn without_class(&self) -> Result<()> {
        if self.is_custom() {
            return Err(self.unsupported());
        }
        Ok(())
    }

    /// A field that is there and not null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// Names that `extra_fields` anywhere in it give to templates.
    pub fn extra_names(&self, names: &mut HashSet<&'a str>) {
        fn walk<'v>(value: &'v Value, names: &mut HashSet<&'v str>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| match value {
                    Value::Array(paths) if key == "extra_fields" => {
                        let single = |path: &'v Value| path.as_array()?.first()?.as_str();
                        names.extend(paths.iter().filter_map(single));
                    }
                    value => walk(value, names),
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(item, names)),
                _ => {}
            }
        }
        self.map.values().for_each(|value| walk(value, names));
    }

    /// A component in a field.
    pub fn child(&self, field: &str) -> Result<Option<Component<'a>>> {
        self.get(field)
            .map(|value| Self::new(value, format!("{}.{field}", self.path)))
            .transpose()
    }

    /// A component in a field that must be there.
    pub fn required(&self, field: &str) -> Result<Component<'a>> {
        self.child(field)?
            .ok_or_else(|| self.invalid(field, "is missing"))
    }

    /// Components in a list; a single component counts as a list of one.
    pub fn children(&self, field: &str) -> Result<Vec<Component<'a>>> {
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| Self::new(item, format!("{}.{field}[{index}]", self.path)))
                .collect(),
            Some(value) => Ok(vec![Self::new(value, format!("{}.{field}", self.path))?]),
        }
    }

    /// A text that is no template.
    pub fn text(&self, field: &str) -> Option<&'a str> {
        self.get(field).and_then(Value::as_str)
    }

    /// Texts in a list; one alone counts as a list of one.
    pub fn texts(&self, field: &str) -> Vec<String> {
        match self.get(field) {
            Some(Value::Array(items)) => items
                .iter()
                .map(crate::source::template::python::text)
                .collect(),
            Some(value) => vec![crate::source::template::python::text(value)],
            None => Vec::new(),
        }
    }

    pub fn flag(&self, field: &str) -> bool {
        self.get(field).is_some_and(|value| match value {
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            other => !falsy(other),
        })
    }

    /// A whole number, also written as digits.
    pub fn integer(&self, field: &str) -> Option<i64> {
        match self.get(field)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A template; scalars of other types count as their Python text.
    pub fn template(&self, field: &str, templates: &mut Templates) -> Result<Option<Template>> {
        templates.at(format!("{}.{field}", self.path));
        self.get(field)
            .map(|value| self.compile(value, templates))
            .transpose()
    }

    /// Compiles a value of this component with its parameters.
    pub fn compile(&self, value: &Value, templates: &mut Templates) -> Result<Template> {
        let text = crate::source::template::python::text(value);
        templates.compile(&text, &self.parameters)
    }

    /// A list of templates.
    pub fn template_list(&self, field: &str, templates: &mut Templates) -> Result<Vec<Template>> {
        templates.at(format!("{}.{field}", self.path));
        let items = match self.get(field) {
            None => &[],
            Some(Value::Array(items)) => items.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        (items.iter())
            .map(|item| self.compile(item, templates))
            .collect()
    }

    /// A mapping of templates, or one template for all of it.
    pub fn mapping(&self, field: &str, templates: &mut Templates) -> Result<Option<Mapping>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(_)) => Ok(self.template(field, templates)?.map(Mapping::Whole)),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| {
                    templates.at(format!("{}.{field}.{key}", self.path));
                    Ok((
                        templates.compile(key, &self.parameters)?,
                        self.compile(value, templates)?,
                    ))
                })
                .collect::<Result<Vec<_>>>()
                .map(|entries| Some(Mapping::Entries(entries))),
            Some(_) => Err(self.invalid(field, "must be a mapping or a template")),
        }
    }

    /// A nested structure of templates.
    pub fn nested(&self, field: &str, templates: &mut Templates) -> Result<Option<Nested>> {
        templates.at(format!("{}.{field}", self.path));
        self.get(field)
            .map(|value| Nested::compile(value, templates, &self.parameters))
            .transpose()
    }
}

fn invalid(path: &str, detail: &str) -> Error {
    Error::config("manifest_invalid", format!("{path}: {detail}"))
}
