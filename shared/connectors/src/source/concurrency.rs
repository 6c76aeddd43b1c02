//! `ConcurrencyLevel`: how many slices are read at a time.

use sluice_core::{Error, Result};

use super::{
    manifest::Component,
    template::{Scope, Template, Templates},
};

/// Slices read at a time when the manifest does not say.
const DEFAULT: usize = 2;
/// More are never read at a time.
const MAX: usize = 64;

#[derive(Debug)]
pub struct Concurrency {
    level: Option<Template>,
    max: Option<Template>,
}

impl Concurrency {
    pub fn build(component: Option<Component<'_>>, templates: &mut Templates) -> Result<Self> {
        let Some(component) = component else {
            return Ok(Self {
                level: None,
                max: None,
            });
        };
        component.without_class()?;
        if component.kind() != "ConcurrencyLevel" {
            return Err(component.unsupported());
        }
        Ok(Self {
            level: component.template("default_concurrency", templates)?,
            max: component.template("max_concurrency", templates)?,
        })
    }

    /// At least one.
    pub fn level(&self, scope: &Scope<'_>) -> Result<usize> {
        let number = |template: &Option<Template>| -> Result<Option<usize>> {
            let Some(template) = template else {
                return Ok(None);
            };
            let value = template.value(scope)?;
            value
                .as_i64()
                .map(|value| Some(usize::try_from(value).unwrap_or(0)))
                .ok_or_else(|| {
                    Error::config(
                        "concurrency_invalid",
                        "the concurrency level is no whole number",
                    )
                })
        };
        let level = number(&self.level)?.unwrap_or(DEFAULT);
        let max = number(&self.max)?.unwrap_or(MAX).min(MAX);
        Ok(level.min(max).max(1))
    }
}
