//! The layers settings come from, and their merging by the `config` crate.

use std::{ffi::OsString, path::Path};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use sluice_core::{Error, Result};
use toml::de::{DeTable, DeValue};

use super::DEFAULTS;

/// What separates section and key in a variable's name.
const SEPARATOR: &str = "__";
const PREFIX: &str = "SLUICE_";

/// A text in TOML and where it came from.
#[derive(Debug, Clone)]
pub(super) struct File {
    name: Option<String>,
    text: String,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::config(
                "config_unreadable",
                format!("cannot read the settings file {name}: {}", error.kind()),
            )
            .hint("check the path, its permissions and that the text is UTF-8")
        })?;
        Ok(Self::text(&name, &text))
    }

    pub(super) fn text(name: &str, text: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            text: text.to_owned(),
        }
    }

    /// The text's tree; every value's origin is `<file> line <number>`.
    fn tree(&self) -> Result<Map<String, Value>> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            // The error's own text quotes the line, which may hold a secret.
            let line = error.span().map_or(0, |span| self.line(span.start));
            Error::config(
                "config_unreadable",
                format!(
                    "{} line {line} is no TOML: {}",
                    self.name.as_deref().unwrap_or("default"),
                    error.message()
                ),
            )
        })?;
        Ok(self.table(table.get_ref()))
    }

    fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
    }

    fn table(&self, table: &DeTable<'_>) -> Map<String, Value> {
        table
            .iter()
            .map(|(key, value)| {
                let kind = self.kind(value.get_ref());
                let origin = self
                    .name
                    .as_ref()
                    .map(|name| format!("{name} line {}", self.line(key.span().start)));
                (key.get_ref().to_string(), Value::new(origin.as_ref(), kind))
            })
            .collect()
    }

    fn kind(&self, value: &DeValue<'_>) -> ValueKind {
        match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => ValueKind::I64(number),
                    Err(_) => ValueKind::String(number.as_str().to_owned()),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => ValueKind::Float(number),
                Err(_) => ValueKind::String(number.as_str().to_owned()),
            },
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Table(table) => ValueKind::Table(self.table(table)),
            DeValue::Array(items) => ValueKind::Array(
                items
                    .iter()
                    .map(|item| {
                        let origin = self
                            .name
                            .as_ref()
                            .map(|name| format!("{name} line {}", self.line(item.span().start)));
                        Value::new(origin.as_ref(), self.kind(item.get_ref()))
                    })
                    .collect(),
            ),
        }
    }
}

/// A layer that is read already.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The variables that begin with `SLUICE_`. Those with two underscores are settings
/// (`SLUICE_SECTION__KEY`); others, such as `SLUICE_LOG`, have meanings of their own.
pub(super) fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(String, String)> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// Variables that would be a setting if their underscore were two: nobody reads them.
pub(super) fn one_underscore<'a>(
    keys: impl Iterator<Item = &'a str>,
    environment: &[(String, String)],
) -> Vec<(&str, String)> {
    let names = keys.map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase()));
    let known: Vec<String> = names.filter(|name| name.contains('.')).collect();
    let meant = |name: &str| known.iter().find(|known| known.replace('.', "_") == name);
    (environment.iter())
        .filter(|(name, _)| !name.contains(SEPARATOR))
        .filter_map(|(name, _)| Some((name.as_str(), meant(name)?.replace('.', SEPARATOR))))
        .collect()
}

/// Defaults, file and variables as one tree whose values know their origin; `None` is a default.
pub(super) fn merge(file: Option<&File>, environment: &[(String, String)]) -> Result<Value> {
    let defaults = File {
        name: None,
        text: DEFAULTS.to_owned(),
    };
    let mut builder = Config::builder().add_source(Layer(defaults.tree()?));
    if let Some(file) = file {
        builder = builder.add_source(Layer(file.tree()?));
    }
    let settings = environment
        .iter()
        .filter(|(name, _)| name.contains(SEPARATOR));
    let variables = settings.map(|(name, value)| {
        let key = name
            .strip_prefix(PREFIX)
            .unwrap_or(name)
            .to_ascii_lowercase()
            .replace(SEPARATOR, ".");
        (key, Value::new(Some(name), value.as_str()))
    });
    builder
        .add_source(Layer(variables.collect()))
        .build()
        .map(|config| config.cache)
        .map_err(|_| Error::config("config_unreadable", "the settings cannot be merged"))
}
