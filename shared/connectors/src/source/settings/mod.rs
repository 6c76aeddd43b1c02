//! `config_normalization_rules` of a manifest's `spec`: what it does to a connection's settings
//! before anything else looks at them.

mod validate;

use serde_json::Value;
use sluice_core::Result;

use super::{
    edit::{self, ValueType, pointer, remove_at},
    manifest::Component,
    template::{Scope, Template, Templates, Texts, json},
};
use validate::Validation;

/// The rules, in their order. Components that are code of the connector's own are passed over.
#[derive(Debug, Default)]
pub struct Rules {
    migrations: Vec<Change>,
    transformations: Vec<Change>,
    validations: Vec<Validation>,
}

/// Settings after the rules.
#[derive(Debug, PartialEq)]
pub struct Normalized {
    /// To be used.
    pub settings: Value,
    /// To be kept in place of the given ones, if the manifest has migrated them.
    pub migrated: Option<Value>,
}

#[derive(Debug)]
enum Change {
    Add {
        fields: Vec<Added>,
        condition: Option<Template>,
    },
    Remap {
        path: Vec<Template>,
        map: Texts,
    },
    Remove {
        pointers: Vec<Vec<String>>,
        condition: Option<Template>,
    },
}

#[derive(Debug)]
struct Added {
    path: Vec<String>,
    value: Template,
    kind: Option<ValueType>,
}

impl Rules {
    /// From a manifest's `spec`.
    pub fn build(spec: Option<&Component<'_>>, templates: &mut Templates) -> Result<Self> {
        let Some(rules) = spec
            .map(|spec| spec.child("config_normalization_rules"))
            .transpose()?
            .flatten()
        else {
            return Ok(Self::default());
        };
        let mut migrations = Vec::new();
        for migration in rules.children("config_migrations")? {
            if migration.kind() != "ConfigMigration" {
                return Err(migration.unsupported());
            }
            migrations.extend(changes(&migration, templates)?);
        }
        Ok(Self {
            migrations,
            transformations: changes(&rules, templates)?,
            validations: rules
                .children("validations")?
                .iter()
                .map(|validation| Validation::build(validation, templates))
                .filter_map(Result::transpose)
                .collect::<Result<_>>()?,
        })
    }

    /// The settings as the manifest's other parts see them.
    ///
    /// # Errors
    /// Those of templates, and `field_in_the_way`.
    pub fn normalize(&self, given: &Value, templates: &Templates) -> Result<Normalized> {
        let mut settings = given.clone();
        for change in &self.migrations {
            change.apply(&mut settings, given, templates)?;
        }
        let migrated = (settings != *given).then(|| settings.clone());
        for change in &self.transformations {
            change.apply(&mut settings, given, templates)?;
        }
        Ok(Normalized { settings, migrated })
    }

    /// Whether the manifest accepts normalized settings.
    ///
    /// # Errors
    /// `setting_invalid`; texts name the place and the rule, never a value.
    pub fn validate(&self, settings: &Value, templates: &Templates) -> Result<()> {
        let config = json::of(settings);
        let scope = Scope::new(templates, &config);
        self.validations
            .iter()
            .try_for_each(|validation| validation.check(settings, &scope))
    }
}

fn changes(owner: &Component<'_>, templates: &mut Templates) -> Result<Vec<Change>> {
    owner
        .children("transformations")?
        .iter()
        .filter(|component| !component.is_custom())
        .map(|component| Change::build(component, templates))
        .collect()
}

impl Change {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let mut condition = || -> Result<Option<Template>> {
            Ok(component
                .template("condition", templates)?
                .filter(|condition| !condition.source().is_empty()))
        };
        Ok(match component.kind() {
            "ConfigAddFields" => Self::Add {
                condition: condition()?,
                fields: component
                    .children("fields")?
                    .iter()
                    .map(|field| Added::build(field, templates))
                    .collect::<Result<_>>()?,
            },
            "ConfigRemoveFields" => Self::Remove {
                condition: condition()?,
                pointers: match component.get("field_pointers") {
                    Some(Value::Array(pointers)) => pointers.iter().map(pointer).collect(),
                    _ => Vec::new(),
                },
            },
            "ConfigRemapField" => {
                let path = component.template_list("field_path", templates)?;
                if path.is_empty() {
                    return Err(component.invalid("field_path", "is missing"));
                }
                Self::Remap {
                    path,
                    map: Texts::build(component, "map", templates)?,
                }
            }
            _ => return Err(component.unsupported()),
        })
    }

    /// Changes settings; `given` are those before any change.
    fn apply(&self, settings: &mut Value, given: &Value, templates: &Templates) -> Result<()> {
        let config = json::of(settings);
        match self {
            Self::Add { fields, condition } => {
                for field in fields {
                    // Each one sees those before it.
                    let config = json::of(settings);
                    let scope = Scope::new(templates, &config);
                    let value = field.value(&scope)?;
                    let scope = scope
                        .with("value", json::of(&value))
                        .with("path", field.path.clone().into());
                    if holds(condition.as_ref(), &scope)? {
                        edit::set(settings, &field.path, value)?;
                    }
                }
                Ok(())
            }
            Self::Remove {
                pointers,
                condition,
            } => {
                let scope = Scope::new(templates, &config);
                if !holds(condition.as_ref(), &scope)? {
                    return Ok(());
                }
                pointers
                    .iter()
                    .try_for_each(|pointer| remove_at(settings, pointer, &|_| Ok(true)))
            }
            Self::Remap { path, map } => {
                let scope = Scope::new(templates, &config);
                let mut place = settings;
                for part in path {
                    let key = part.text(&scope)?;
                    match place.get_mut(&key) {
                        Some(inner) => place = inner,
                        None => return Ok(()),
                    }
                }
                let Value::String(value) = &*place else {
                    return Ok(());
                };
                let given = json::of(given);
                let scope = Scope::new(templates, &given);
                let entries = map.entries(&scope)?;
                if let Some((_, to)) = entries.into_iter().find(|(from, _)| from == value) {
                    *place = to;
                }
                Ok(())
            }
        }
    }
}

fn holds(condition: Option<&Template>, scope: &Scope<'_>) -> Result<bool> {
    condition.map_or(Ok(true), |condition| condition.truth(scope))
}

impl Added {
    fn build(field: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let path = field.texts("path");
        if path.is_empty() {
            return Err(field.invalid("path", "is missing"));
        }
        Ok(Self {
            path,
            value: field
                .template("value", templates)?
                .ok_or_else(|| field.invalid("value", "is missing"))?,
            kind: ValueType::build(field)?,
        })
    }

    fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        match self.kind {
            None => self.value.value(scope),
            Some(kind) => self
                .value
                .value_if(scope, |literal| kind.accepts(&literal.value)),
        }
    }
}

#[cfg(test)]
mod tests;
