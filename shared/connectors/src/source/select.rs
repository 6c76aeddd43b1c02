//! From extracted records to emitted ones: filter and transformations.

use std::{borrow::Cow, sync::Arc};

use minijinja::value::Value as Jinja;
use serde_json::Value;
use sluice_core::Result;

use super::{
    edit::{ValueType, pointer},
    extract::Extractor,
    keys::KeyChange,
    manifest::Component,
    normalize,
    record::Record,
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
    /// The path when no part of it is evaluated.
    fixed_path: Option<Vec<String>>,
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
        mut record: Record,
        scope: &Scope<'_>,
        schema: Option<&Value>,
    ) -> Result<Option<Record>> {
        if !record.is_mapping() {
            return Ok(None);
        }
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
            let mut fields = record.into_map();
            normalize::record(&mut fields, schema);
            record = fields.into();
        }
        Ok(Some(record))
    }

    /// Whether records are taken apart in any case, so that they had better not be text.
    pub fn takes_apart(&self) -> bool {
        let keys = |one: &Transformation| matches!(one, Transformation::Keys(_));
        self.casts || self.transformations.iter().any(keys)
    }

    fn keep(&self, record: Record, scope: &Scope<'_>) -> Result<Option<Record>> {
        let Some(filter) = &self.filter else {
            return Ok(Some(record));
        };
        let (keep, record) = evaluate(filter, record, scope, |filter, scope| filter.truth(scope))?;
        Ok(keep.then_some(record))
    }

    fn transform(&self, mut record: Record, scope: &Scope<'_>) -> Result<Record> {
        for transformation in &self.transformations {
            record = transformation.apply(record, scope)?;
        }
        Ok(record)
    }
}

/// Evaluates a template over a record without copying the record.
pub fn evaluate<T>(
    template: &Template,
    record: Record,
    scope: &Scope<'_>,
    evaluate: impl FnOnce(&Template, &Scope<'_>) -> Result<T>,
) -> Result<(T, Record)> {
    if !template.uses("record") {
        return Ok((evaluate(template, scope)?, record));
    }
    let record = Arc::new(record);
    let shared = scope.inner().with("record", Record::shared(&record));
    let result = evaluate(template, &shared)?;
    drop(shared);
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

    pub fn apply(&self, mut record: Record, scope: &Scope<'_>) -> Result<Record> {
        match self {
            Self::Add(fields) => {
                for field in fields {
                    record = field.apply(record, scope)?;
                }
                Ok(record)
            }
            Self::Keys(change) => Ok(change.apply(record.into_map(), scope)?.into()),
            Self::Remove {
                pointers,
                condition,
            } => {
                let holds = condition.as_ref().map(|condition| {
                    |value: &Value| {
                        condition.truth(&scope.inner().with("property", json::of(value)))
                    }
                });
                for pointer in pointers {
                    record.remove(pointer, holds.as_ref())?;
                }
                Ok(record)
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
            fixed_path: path.iter().map(Template::fixed_text).collect(),
            path,
            value: field
                .template("value", templates)?
                .ok_or_else(|| field.invalid("value", "is missing"))?,
            kind: ValueType::build(field)?,
            condition: condition.filter(|condition| !condition.source().is_empty()),
        })
    }

    fn apply(&self, record: Record, scope: &Scope<'_>) -> Result<Record> {
        let kind = self.kind;
        let (value, mut record) =
            evaluate(&self.value, record, scope, |template, scope| match kind {
                None => template.value(scope),
                Some(kind) => template.value_if(scope, |literal| kind.accepts(&literal.value)),
            })?;
        let path: Cow<'_, [String]> = match &self.fixed_path {
            Some(path) => path.into(),
            None => {
                let parts = self.path.iter().map(|part| part.text(scope));
                parts.collect::<Result<Vec<_>>>()?.into()
            }
        };
        if let Some(condition) = &self.condition {
            let scope = scope
                .inner()
                .with("value", json::of(&value))
                .with("path", Jinja::from(path.to_vec()));
            let (add, back) = evaluate(condition, record, &scope, |template, scope| {
                template.truth(scope)
            })?;
            record = back;
            if !add {
                return Ok(record);
            }
        }
        record.set(&path, value)?;
        Ok(record)
    }
}
