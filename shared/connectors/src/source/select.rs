//! From extracted records to emitted ones: filter and transformations.

use std::sync::Arc;

use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::Result;

use super::{
    edit::{ValueType, pointer, remove_at, set},
    extract::Extractor,
    keys::KeyChange,
    manifest::Component,
    normalize,
    template::{Scope, Template, Templates, json},
};

/// `RecordSelector` together with the stream's transformations.
#[derive(Debug)]
pub struct Selector {
    pub extractor: Extractor,
    filter: Option<Template>,
    transformations: Vec<Transformation>,
    transform_first: bool,
    /// Values are cast by the stream's schema.
    pub casts: bool,
}

/// A change of a record.
#[derive(Debug)]
pub enum Transformation {
    Add(Vec<AddedField>),
    Remove {
        pointers: Vec<Vec<String>>,
        condition: Option<Template>,
    },
    Keys(KeyChange),
}

/// A field that a record gets.
#[derive(Debug)]
pub struct AddedField {
    path: Vec<Template>,
    value: Template,
    kind: Option<ValueType>,
    condition: Option<Template>,
}

impl Selector {
    /// Builds from the selector component and the stream's `transformations`.
    pub fn build(
        selector: &Component<'_>,
        transformations: &[Component<'_>],
        templates: &mut Templates,
        transform_first_by_default: bool,
    ) -> Result<Self> {
        selector.without_class()?;
        if selector.kind() != "RecordSelector" {
            return Err(selector.unsupported());
        }
        let filter = match selector.child("record_filter")? {
            Some(filter) if filter.kind() == "RecordFilter" => {
                filter.without_class()?;
                // An empty condition drops everything.
                Some(match filter.template("condition", templates)? {
                    Some(condition) => condition,
                    None => templates.compile("", &Jinja::UNDEFINED)?,
                })
            }
            Some(filter) => return Err(filter.unsupported()),
            None => None,
        };
        let casts = match selector.get("schema_normalization") {
            None => false,
            Some(Value::String(kind)) if kind == "None" => false,
            Some(Value::String(kind)) if kind == "Default" => true,
            Some(Value::Object(_)) => {
                return Err(selector.required("schema_normalization")?.unsupported());
            }
            Some(_) => return Err(selector.invalid("schema_normalization", "is unknown")),
        };
        Ok(Self {
            casts,
            extractor: Extractor::build(&selector.required("extractor")?, templates)?,
            filter,
            transformations: transformations
                .iter()
                .map(|component| Transformation::build(component, templates))
                .collect::<Result<_>>()?,
            transform_first: match selector.get("transform_before_filtering") {
                Some(_) => selector.flag("transform_before_filtering"),
                None => transform_first_by_default,
            },
        })
    }

    /// The record as emitted; `None` when the filter drops it. `schema` is what it is cast by.
    pub fn apply(
        &self,
        record: Value,
        scope: &Scope<'_>,
        schema: Option<&Value>,
    ) -> Result<Option<Value>> {
        let Value::Object(mut record) = record else {
            return Ok(None);
        };
        if self.transform_first {
            record = self.transform(record, scope)?;
        }
        let Some(mut record) = self.keep(record, scope)? else {
            return Ok(None);
        };
        if !self.transform_first {
            record = self.transform(record, scope)?;
        }
        if let Some(schema) = schema {
            normalize::record(&mut record, schema);
        }
        Ok(Some(Value::Object(record)))
    }

    fn keep(
        &self,
        record: Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Option<Map<String, Value>>> {
        let Some(filter) = &self.filter else {
            return Ok(Some(record));
        };
        let (keep, record) = evaluate(filter, record, scope, |filter, scope| filter.truth(scope))?;
        Ok(keep.then_some(record))
    }

    fn transform(
        &self,
        mut record: Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Map<String, Value>> {
        for transformation in &self.transformations {
            record = transformation.apply(record, scope)?;
        }
        Ok(record)
    }
}

/// Evaluates a template over a record without copying the record.
pub fn evaluate<T>(
    template: &Template,
    record: Map<String, Value>,
    scope: &Scope<'_>,
    evaluate: impl FnOnce(&Template, &Scope<'_>) -> Result<T>,
) -> Result<(T, Map<String, Value>)> {
    if !template.uses("record") {
        return Ok((evaluate(template, scope)?, record));
    }
    let record = Arc::new(record);
    let result = evaluate(
        template,
        &scope.clone().with("record", json::shared(&record)),
    )?;
    let record = Arc::try_unwrap(record).unwrap_or_else(|shared| (*shared).clone());
    Ok((result, record))
}

impl Transformation {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        match component.kind() {
            "AddFields" => component
                .children("fields")?
                .iter()
                .map(|field| AddedField::build(field, component, templates))
                .collect::<Result<_>>()
                .map(Self::Add),
            "RemoveFields" => Ok(Self::Remove {
                pointers: match component.get("field_pointers") {
                    Some(Value::Array(pointers)) => pointers.iter().map(pointer).collect(),
                    _ => Vec::new(),
                },
                condition: component
                    .template("condition", templates)?
                    .filter(|condition| !condition.source().is_empty()),
            }),
            _ => match KeyChange::build(component, templates)? {
                Some(change) => Ok(Self::Keys(change)),
                None => Err(component.unsupported()),
            },
        }
    }

    pub fn apply(
        &self,
        mut record: Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Map<String, Value>> {
        match self {
            Self::Add(fields) => {
                for field in fields {
                    record = field.apply(record, scope)?;
                }
                Ok(record)
            }
            Self::Keys(change) => change.apply(record, scope),
            Self::Remove {
                pointers,
                condition,
            } => {
                let remove = |value: &Value| match condition {
                    None => Ok(true),
                    Some(condition) => {
                        condition.truth(&scope.clone().with("property", json::of(value)))
                    }
                };
                let mut value = Value::Object(record);
                for pointer in pointers {
                    remove_at(&mut value, pointer, &remove)?;
                }
                match value {
                    Value::Object(map) => Ok(map),
                    _ => Ok(Map::new()),
                }
            }
        }
    }
}

impl AddedField {
    fn build(
        field: &Component<'_>,
        owner: &Component<'_>,
        templates: &mut Templates,
    ) -> Result<Self> {
        let path = field.template_list("path", templates)?;
        if path.is_empty() {
            return Err(field.invalid("path", "is missing"));
        }
        let condition = match field.template("condition", templates)? {
            Some(condition) => Some(condition),
            None => owner.template("condition", templates)?,
        };
        Ok(Self {
            path,
            value: field
                .template("value", templates)?
                .ok_or_else(|| field.invalid("value", "is missing"))?,
            kind: ValueType::build(field)?,
            condition: condition.filter(|condition| !condition.source().is_empty()),
        })
    }

    fn apply(&self, record: Map<String, Value>, scope: &Scope<'_>) -> Result<Map<String, Value>> {
        let kind = self.kind;
        let (value, mut record) =
            evaluate(&self.value, record, scope, |template, scope| match kind {
                None => template.value(scope),
                Some(kind) => template.value_if(scope, |literal| kind.accepts(&literal.value)),
            })?;
        let path: Vec<String> = self
            .path
            .iter()
            .map(|part| part.text(scope))
            .collect::<Result<_>>()?;
        if let Some(condition) = &self.condition {
            let scope = scope
                .clone()
                .with("value", json::of(&value))
                .with("path", Jinja::from(path.clone()));
            let (add, back) = evaluate(condition, record, &scope, |template, scope| {
                template.truth(scope)
            })?;
            record = back;
            if !add {
                return Ok(record);
            }
        }
        let mut target = Value::Object(record);
        set(&mut target, &path, value)?;
        match target {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}
