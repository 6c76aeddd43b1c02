//! Interpolation: manifest strings are Jinja templates whose output is read as a Python literal.
//!
//! Rendering is bounded (fuel, output size, recursion), sees nothing but the names given to it,
//! and can reach no file, network or environment variable.

mod dates;
mod environment;
pub mod functions;
pub mod json;
pub mod literal;
mod methods;
mod moment;
pub mod python;
mod texts;

use std::{collections::BTreeSet, io, sync::Arc};

use minijinja::{Environment, ErrorKind, value::Value as Jinja};
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use literal::Literal;
pub use texts::Texts;

/// Instructions one rendering may use. A body template of fifty lines uses a few hundred.
const FUEL: u64 = 200_000;
/// Bytes one rendering may produce. Attachments travel through templates as base64 text.
const MAX_OUTPUT: usize = 32 << 20;

/// The compiled templates of one manifest.
pub struct Templates {
    environment: Environment<'static>,
    globals: BTreeSet<String>,
    count: usize,
}

impl Templates {
    pub fn new() -> Self {
        let mut environment = environment::environment();
        environment.set_fuel(Some(FUEL));
        let globals = environment
            .globals()
            .map(|(name, _)| name.to_owned())
            .collect();
        Self {
            environment,
            globals,
            count: 0,
        }
    }

    /// Compiles a string of the manifest. `parameters` are those of the component it stands in.
    ///
    /// # Errors
    /// `template_invalid`.
    pub fn compile(&mut self, source: &str, parameters: &Jinja) -> Result<Template> {
        let kind = if ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
            self.count += 1;
            let name = format!("t{}", self.count);
            let invalid = |detail: &str| {
                Error::config(
                    "template_invalid",
                    format!("a template is invalid: {detail}"),
                )
            };
            if source.contains("stream_state") {
                return Err(invalid("`stream_state` is not available"));
            }
            self.environment
                .add_template_owned(name.clone(), dates::rewrite(source))
                .map_err(|error| invalid(&error.to_string()))?;
            let needs: Vec<String> = self
                .environment
                .get_template(&name)
                .map_err(|error| invalid(&error.to_string()))?
                .undeclared_variables(false)
                .into_iter()
                .filter(|name| !self.globals.contains(name))
                .collect();
            Kind::Rendered {
                name,
                mentions: mentions(source, &needs),
                needs,
            }
        } else {
            Kind::Plain(literal::read(source).unwrap_or_else(|| Value::from(source)))
        };
        Ok(Template(Arc::new(Compiled {
            source: source.into(),
            parameters: parameters.clone(),
            kind,
        })))
    }
}

/// A string of the manifest, compiled.
#[derive(Debug, Clone)]
pub struct Template(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    source: Box<str>,
    parameters: Jinja,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// No template inside: the value after literal reading.
    Plain(Value),
    Rendered {
        name: String,
        /// Names it uses that are no macros.
        needs: Vec<String>,
        /// Other words in it: the engine's analysis does not look into slices (`x[:3]`).
        mentions: Vec<String>,
    },
}

/// What a template sees.
#[derive(Clone)]
pub struct Scope<'a> {
    templates: &'a Templates,
    names: Vec<(&'a str, Jinja)>,
}

impl<'a> Scope<'a> {
    /// A scope with `config` only; templates bring their own `parameters`.
    pub fn new(templates: &'a Templates, config: &Jinja) -> Self {
        Self {
            templates,
            names: vec![("config", config.clone())],
        }
    }

    /// One more name; a later one hides an earlier one.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Jinja) -> Self {
        self.names.push((name, value));
        self
    }

    fn get(&self, name: &str) -> Option<&Jinja> {
        self.names
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }
}

/// How a rendering ended.
enum Rendered {
    Text(String),
    /// An undefined value was used for more than output or truth.
    Undefined,
    /// Types did not fit: the unrendered text is the value.
    TypeMismatch,
}

impl Template {
    /// Whether it uses a name, such as `record`.
    pub fn uses(&self, name: &str) -> bool {
        match &self.0.kind {
            Kind::Plain(_) => false,
            Kind::Rendered {
                needs, mentions, ..
            } => needs.iter().chain(mentions).any(|need| need == name),
        }
    }

    /// The text as written in the manifest.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The address it begins with, when the host is complete before the first template part.
    pub fn fixed_url(&self) -> Option<url::Url> {
        let text = self.source();
        let end = text.find("{{").unwrap_or(text.len());
        let fixed = text.get(..end)?;
        let url = url::Url::parse(fixed).ok()?;
        (end == text.len() || fixed.matches('/').count() >= 3).then_some(url)
    }

    /// The string form: any literal type.
    ///
    /// # Errors
    /// `template_undefined` when a part of a missing value is used; `template_failed`.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        if let Kind::Plain(value) = &self.0.kind {
            return Ok(value.clone());
        }
        Ok(read_literal(self.rendered(scope)?))
    }

    /// The string form, kept as text unless its literal type is accepted.
    pub fn value_if(&self, scope: &Scope<'_>, accept: impl Fn(&Literal) -> bool) -> Result<Value> {
        let text = match &self.0.kind {
            Kind::Plain(_) => self.0.source.to_string(),
            Kind::Rendered { .. } => self.rendered(scope)?,
        };
        Ok(match literal::read_typed(&text) {
            Some(literal) if accept(&literal) => literal.value,
            _ => Value::String(text),
        })
    }

    /// The value as text.
    pub fn text(&self, scope: &Scope<'_>) -> Result<String> {
        self.value(scope).map(|value| python::text(&value))
    }

    fn rendered(&self, scope: &Scope<'_>) -> Result<String> {
        match self.render(scope)? {
            Rendered::Text(text) => Ok(text),
            Rendered::TypeMismatch => Ok(self.0.source.to_string()),
            Rendered::Undefined => Err(Error::config(
                "template_undefined",
                "a template uses a part of a value that is not there",
            )
            .hint(format!("template: {}", self.shown()))),
        }
    }

    /// For mappings: `None` drops the entry.
    pub fn optional(
        &self,
        scope: &Scope<'_>,
        accept: impl Fn(&Literal) -> bool,
    ) -> Result<Option<Value>> {
        let text = match self.render(scope)? {
            Rendered::Text(text) => text,
            Rendered::TypeMismatch => self.0.source.to_string(),
            Rendered::Undefined => return Ok(None),
        };
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(match literal::read_typed(&text) {
            Some(literal) if accept(&literal) => literal.value,
            _ => Value::String(text),
        }))
    }

    /// The boolean form.
    pub fn truth(&self, scope: &Scope<'_>) -> Result<bool> {
        Ok(match self.render(scope)? {
            Rendered::Text(text) => truth(&read_literal(text)),
            Rendered::TypeMismatch => true,
            Rendered::Undefined => false,
        })
    }

    fn render(&self, scope: &Scope<'_>) -> Result<Rendered> {
        let Kind::Rendered {
            name,
            needs,
            mentions,
        } = &self.0.kind
        else {
            return Ok(Rendered::Text(self.0.source.to_string()));
        };
        let mut context = Vec::with_capacity(needs.len() + 1);
        for need in needs {
            let value = match need.as_str() {
                "parameters" => self.0.parameters.clone(),
                other => scope.get(other).cloned().ok_or_else(|| {
                    Error::config(
                        "template_name_unknown",
                        format!("a template uses the unknown name `{other}`"),
                    )
                    .hint(format!("template: {}", self.shown()))
                })?,
            };
            context.push((need.as_str(), value));
        }
        for word in mentions {
            let value = match word.as_str() {
                "parameters" => Some(self.0.parameters.clone()),
                other => scope.get(other).cloned(),
            };
            if let Some(value) = value {
                context.push((word.as_str(), value));
            }
        }
        if let Some(now) = scope.get(functions::NOW) {
            context.push((functions::NOW, now.clone()));
        }
        let failed = |kind: ErrorKind| {
            // The engine's own text may quote values, so only the kind of failure is told.
            Error::config("template_failed", format!("a template failed: {kind}"))
                .hint(format!("template: {}", self.shown()))
        };
        let template = scope
            .templates
            .environment
            .get_template(name)
            .map_err(|error| failed(error.kind()))?;
        let mut output = Bounded(Vec::new());
        match template.render_captured_to(Jinja::from_pairs(context), &mut output) {
            Ok(_) => {}
            Err(error) => {
                // What Python can do with dates and formats, and we cannot, must not pass for a type
                // mismatch, whose value is the template's text.
                let beyond_us = error.detail().is_some_and(|text| {
                    text.contains("plain object")
                        || text.contains("% operator on unsupported types string")
                });
                let undefined = error.kind() == ErrorKind::UndefinedError
                    || error
                        .detail()
                        .is_some_and(|text| text.contains("undefined"));
                return match error.kind() {
                    _ if undefined => Ok(Rendered::Undefined),
                    ErrorKind::InvalidOperation if !beyond_us => Ok(Rendered::TypeMismatch),
                    kind => Err(failed(kind)),
                };
            }
        }
        String::from_utf8(output.0)
            .map(Rendered::Text)
            .map_err(|_| failed(ErrorKind::WriteFailure))
    }

    /// The template for error texts, shortened.
    fn shown(&self) -> String {
        self.0.source.chars().take(120).collect()
    }
}

/// Words of a template with a slice in it, besides the known names.
fn mentions(source: &str, needs: &[String]) -> Vec<String> {
    if !(source.contains('[') && source.contains(':')) {
        return Vec::new();
    }
    let words: BTreeSet<&str> = source
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .collect();
    words
        .into_iter()
        .filter(|word| !needs.iter().any(|need| need == word))
        .map(str::to_owned)
        .collect()
}

fn read_literal(text: String) -> Value {
    literal::read(&text).unwrap_or(Value::String(text))
}

/// The boolean form's idea of false; everything else is true, `"no"` too.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(
            text.as_str(),
            "" | "0" | "0.0" | "False" | "false" | "{}" | "[]" | "()"
        ),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Output that refuses to grow without bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too much output"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mapping of the manifest whose keys and values are templates, or one template for all of it.
#[derive(Debug, Clone)]
pub enum Mapping {
    Entries(Vec<(Template, Template)>),
    Whole(Template),
}

impl Mapping {
    /// The evaluated entries; values keep their literal type where `accept` agrees.
    pub fn entries(
        &self,
        scope: &Scope<'_>,
        accept: impl Fn(&Literal) -> bool,
    ) -> Result<Map<String, Value>> {
        match self {
            Self::Entries(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let Some(value) = value.optional(scope, &accept)? else {
                        continue;
                    };
                    let key = key.value_if(scope, |literal| literal.value.is_string())?;
                    map.insert(python::text(&key), value);
                }
                Ok(map)
            }
            Self::Whole(template) => match template.value(scope)? {
                Value::Object(map) => Ok(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
                Value::String(text) => match serde_json::from_str(&text) {
                    Ok(Value::Object(map)) => Ok(map),
                    _ if text.trim().is_empty() => Ok(Map::new()),
                    _ => Err(no_mapping()),
                },
                Value::Null => Ok(Map::new()),
                _ => Err(no_mapping()),
            },
        }
    }
}

fn no_mapping() -> Error {
    Error::config(
        "template_no_mapping",
        "a template that stands for a mapping gives something else",
    )
}

/// A nested structure of the manifest with templates at its leaves and keys.
#[derive(Debug, Clone)]
pub enum Nested {
    Leaf(Template),
    Fixed(Value),
    List(Vec<Nested>),
    Map(Vec<(Template, Nested)>),
}

impl Nested {
    /// Compiles a JSON value of the manifest.
    pub fn compile(value: &Value, templates: &mut Templates, parameters: &Jinja) -> Result<Self> {
        Ok(match value {
            Value::String(text) => Self::Leaf(templates.compile(text, parameters)?),
            Value::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::compile(item, templates, parameters))
                    .collect::<Result<_>>()?,
            ),
            Value::Object(map) => Self::Map(
                map.iter()
                    .map(|(key, item)| {
                        Ok((
                            templates.compile(key, parameters)?,
                            Self::compile(item, templates, parameters)?,
                        ))
                    })
                    .collect::<Result<_>>()?,
            ),
            other => Self::Fixed(other.clone()),
        })
    }

    /// The evaluated value; keys with nothing in them vanish, list items with nothing become null.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Leaf(template) => Ok(template.optional(scope, |_| true)?.unwrap_or(Value::Null)),
            Self::List(items) => items
                .iter()
                .map(|item| item.value(scope))
                .collect::<Result<Vec<_>>>()
                .map(Value::Array),
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, item) in entries {
                    let value = item.value(scope)?;
                    if !value.is_null() {
                        map.insert(key.text(scope)?, value);
                    }
                }
                Ok(Value::Object(map))
            }
        }
    }
}

#[cfg(test)]
mod tests;
