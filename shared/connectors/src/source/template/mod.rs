//! Interpolation: manifest strings are Jinja templates whose output is read as a Python literal.
//!
//! Rendering is bounded (fuel, output size, recursion), sees nothing but the names given to it,
//! and can reach no file, network or environment variable.

mod dates;
mod direct;
mod engine;
mod environment;
pub mod functions;
pub mod json;
pub mod literal;
mod mapping;
mod methods;
mod moment;
mod numbers;
pub mod python;
mod rare;
mod strange;
mod texts;

use std::{collections::BTreeSet, sync::Arc};

use minijinja::{
    Environment,
    value::{Value as Jinja, ValueKind},
};
use serde_json::Value;
use sluice_core::{Error, Result};

use direct::{Direct, Given, Stop};
use engine::Rendered;
use literal::Literal;
pub use mapping::{Mapping, Nested};
pub use texts::Texts;

/// Instructions one rendering may use. A body template of fifty lines uses a few hundred.
const FUEL: u64 = 200_000;
/// Bytes one rendering may produce. Attachments travel through templates as base64 text.
const MAX_OUTPUT: usize = 32 << 20;

impl Strange {
    pub fn refusal(&self) -> Error {
        let Self {
            name,
            path,
            is_filter,
        } = self;
        if *is_filter {
            let what = format!("{path}: a template uses the unknown filter `{name}`");
            return Error::config("template_filter_unknown", what);
        }
        let what = format!("{path}: a template uses the unknown name `{name}`");
        let error = Error::config("template_name_unknown", what);
        let alike = |known: &&str| strsim::jaro_winkler(known, name);
        let meant = strange::NAMES
            .iter()
            .max_by(|a, b| alike(a).total_cmp(&alike(b)));
        match meant.filter(|meant| alike(meant) > 0.8) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error,
        }
    }
}

/// The compiled templates of one manifest.
pub struct Templates {
    environment: Environment<'static>,
    globals: BTreeSet<String>,
    count: usize,
    /// What templates use and nobody has.
    strange: Vec<Strange>,
    /// Where the template stands that is compiled.
    place: Arc<str>,
}

/// A name or a filter that a template uses and that is nowhere.
#[derive(Debug, Clone)]
pub struct Strange {
    pub name: String,
    pub is_filter: bool,
    /// Where the template stands.
    path: Arc<str>,
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
            strange: Vec::new(),
            place: "".into(),
        }
    }

    /// What has been found strange so far.
    pub fn strange(&self) -> &[Strange] {
        &self.strange
    }

    /// Says where the next templates stand, for error texts.
    pub fn at(&mut self, place: String) {
        self.place = place.into();
    }

    /// Compiles a string of the manifest. `parameters` are those of the component it stands in.
    ///
    /// # Errors
    /// `template_invalid`.
    pub fn compile(&mut self, source: &str, parameters: &Jinja) -> Result<Template> {
        let kind = if ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
            self.count += 1;
            let name = format!("t{}", self.count);
            let place = Arc::clone(&self.place);
            let invalid = |detail: &str| {
                let what = format!("a template is invalid: {detail}");
                Error::config("template_invalid", placed(&place, &what))
            };
            if source.contains("stream_state") {
                return Err(invalid("`stream_state` is not available"));
            }
            let source = dates::rewrite(source);
            self.environment
                .add_template_owned(name.clone(), source.clone())
                .map_err(|error| invalid(&error.to_string()))?;
            let needs: Vec<String> = self
                .environment
                .get_template(&name)
                .map_err(|error| invalid(&error.to_string()))?
                .undeclared_variables(false)
                .into_iter()
                .filter(|name| !self.globals.contains(name))
                .collect();
            // The text of an error is not needed before the error is there.
            if !self.place.ends_with(".error_message") {
                self.strange.extend(strange::found(
                    &self.environment,
                    &name,
                    &needs,
                    &self.place,
                ));
            }
            Kind::Rendered {
                name,
                mentions: mentions(&source, &needs),
                direct: Direct::compile(&source, |name| needs.iter().any(|need| need == name)),
                needs,
            }
        } else {
            Kind::Plain(literal::read(source).unwrap_or_else(|| Value::from(source)))
        };
        Ok(Template(Arc::new(Compiled {
            source: source.into(),
            parameters: parameters.clone(),
            place: Arc::clone(&self.place),
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
    place: Arc<str>,
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
        /// For those that are simple enough.
        direct: Option<Direct>,
    },
}

/// What a template sees.
#[derive(Clone)]
pub struct Scope<'a> {
    templates: &'a Templates,
    /// Has what is not among the names.
    outer: Option<&'a Scope<'a>>,
    names: Vec<(&'a str, Jinja)>,
}

impl<'a> Scope<'a> {
    /// A scope with `config` only; templates bring their own `parameters`.
    pub fn new(templates: &'a Templates, config: &Jinja) -> Self {
        Self {
            templates,
            outer: None,
            names: vec![("config", config.clone())],
        }
    }

    /// The same with room for more names, which costs less than a copy.
    pub fn inner(&self) -> Scope<'_> {
        Scope {
            templates: self.templates,
            outer: Some(self),
            names: Vec::new(),
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
            .or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
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

    /// The text it always is.
    pub fn fixed_text(&self) -> Option<String> {
        match &self.0.kind {
            Kind::Plain(value) => Some(python::text(value)),
            Kind::Rendered { .. } => None,
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
        match self.given(scope) {
            Ok(given) => Ok(read_given(given)),
            Err(_) => Ok(read_literal(self.rendered(scope)?)),
        }
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
                self.placed("a template uses a part of a value that is not there"),
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
        if let Ok(given) = self.given(scope) {
            return Ok(truth(&read_given(given)));
        }
        Ok(match self.render(scope)? {
            Rendered::Text(text) => truth(&read_literal(text)),
            Rendered::TypeMismatch => true,
            Rendered::Undefined => false,
        })
    }

    /// What the engine would give, when it is not needed for that.
    fn given(&self, scope: &Scope<'_>) -> std::result::Result<Given, Stop> {
        let Kind::Rendered { direct, needs, .. } = &self.0.kind else {
            return Err(Stop::Engine);
        };
        let value = |name: &str| match name {
            "parameters" => Some(&self.0.parameters),
            other => scope.get(other),
        };
        // An unknown name is told, also where it would not be looked at.
        let known = needs.iter().all(|need| value(need).is_some());
        let direct = direct.as_ref().filter(|_| known).ok_or(Stop::Engine)?;
        direct.given(&value)
    }

    fn render(&self, scope: &Scope<'_>) -> Result<Rendered> {
        match self.given(scope) {
            Ok(given) => Ok(Rendered::Text(given.into_text())),
            Err(Stop::Engine) => self.engine(scope),
            Err(Stop::Undefined) => Ok(Rendered::Undefined),
            Err(Stop::Mismatch) => Ok(Rendered::TypeMismatch),
        }
    }

    /// An error text with the template's place.
    pub fn placed(&self, what: &str) -> String {
        placed(&self.0.place, what)
    }

    /// The template for error texts, shortened.
    fn shown(&self) -> String {
        self.0.source.chars().take(120).collect()
    }
}

fn placed(place: &str, what: &str) -> String {
    match place {
        "" => what.to_owned(),
        place => format!("{place}: {what}"),
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

/// What [`read_literal`] makes of the text it is printed as.
fn read_given(given: Given) -> Value {
    match given {
        Given::Value(value) => match value.kind() {
            ValueKind::Bool => Value::Bool(value.is_true()),
            ValueKind::None => Value::Null,
            ValueKind::Number => match python::to_json(&value) {
                Value::String(text) => read_literal(text),
                number => number,
            },
            _ => read_literal(python::jinja_text(&value)),
        },
        Given::Text(text) => read_literal(text),
    }
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

#[cfg(test)]
mod tests;
