//! Rendering with the engine, within bounds.

use std::io;

use minijinja::{ErrorKind, value::Value as Jinja};
use sluice_core::{Error, Result};

use super::{Kind, MAX_OUTPUT, Scope, Template, functions};

/// How a rendering ended.
pub(super) enum Rendered {
    Text(String),
    /// An undefined value was used for more than output or truth.
    Undefined,
    /// Types did not fit: the unrendered text is the value.
    TypeMismatch,
}

impl Template {
    /// Renders with the engine.
    pub(super) fn engine(&self, scope: &Scope<'_>) -> Result<Rendered> {
        let Kind::Rendered {
            name,
            needs,
            mentions,
            ..
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
                        self.placed(&format!("a template uses the unknown name `{other}`")),
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
        let failed = |what: &str| {
            // The engine's own text may quote values, so as a rule only the kind of failure is told.
            Error::config(
                "template_failed",
                self.placed(&format!("a template failed: {what}")),
            )
            .hint(format!("template: {}", self.shown()))
        };
        let template = scope
            .templates
            .environment
            .get_template(name)
            .map_err(|error| failed(&error.kind().to_string()))?;
        let mut output = Bounded(Vec::new());
        match template.render_captured_to(Jinja::from_pairs(context), &mut output) {
            Ok(_) => {}
            Err(error) => {
                // What Python can do with dates and formats, and we cannot, must not pass for a type
                // mismatch, whose value is the template's text.
                let beyond_us = error.detail().is_some_and(|text| {
                    text.contains("plain object")
                        || text.contains("unable to calculate")
                        || text.contains("% operator on unsupported types string")
                });
                let undefined = error.kind() == ErrorKind::UndefinedError
                    || error
                        .detail()
                        .is_some_and(|text| text.contains("undefined"));
                return match error.kind() {
                    _ if undefined => Ok(Rendered::Undefined),
                    ErrorKind::InvalidOperation if !beyond_us => Ok(Rendered::TypeMismatch),
                    // A text of our own functions, without values.
                    ErrorKind::CannotDeserialize => {
                        Err(failed(error.detail().unwrap_or("not a value of that kind")))
                    }
                    kind => Err(failed(&kind.to_string())),
                };
            }
        }
        String::from_utf8(output.0)
            .map(Rendered::Text)
            .map_err(|_| failed(&ErrorKind::WriteFailure.to_string()))
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
