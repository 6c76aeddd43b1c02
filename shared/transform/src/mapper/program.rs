//! One compiled program.

use sluice_core::{Error, Result};
use vrl::{
    compiler::{
        self, CompileConfig, ExpressionError, Function, TargetValueRef, TimeZone,
        runtime::{Runtime, Terminate},
        state::{ExternalEnv, RuntimeState},
    },
    diagnostic::{DiagnosticList, Span},
    value::{ObjectMap, Secrets, Value},
};

/// Expressions one record may take: far above any mapping, far below a stuck worker.
const MOST_STEPS: u64 = 1_000_000;

/// Faults told about one file: a syntax error makes the parser stumble over all that follows.
const MOST_FAULTS: usize = 3;

/// A mapping file with the common file before it.
#[derive(Debug)]
pub(super) struct Source {
    file: String,
    common_file: String,
    /// Lines of the common file.
    common_lines: usize,
    text: String,
}

impl Source {
    /// `place` is the folder's name in messages.
    pub(super) fn new(place: &str, name: &str, common: &str, text: &str) -> Self {
        Self {
            file: format!("{place}/{name}.vrl"),
            common_file: format!("{place}/{}.vrl", super::COMMON),
            common_lines: common.lines().count(),
            text: if common.is_empty() {
                text.to_owned()
            } else {
                format!("{}\n{text}", common.trim_end_matches('\n'))
            },
        }
    }

    /// File, line and text of the line at an offset.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = 1 + before.matches('\n').count();
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        if line <= self.common_lines {
            format!("{} line {line}: `{text}`", self.common_file)
        } else {
            format!("{} line {}: `{text}`", self.file, line - self.common_lines)
        }
    }
}

/// A mapping file, compiled.
#[derive(Debug)]
pub(super) struct Program {
    source: Source,
    program: compiler::Program,
}

impl Program {
    /// Compiles; the error names file, line and cause.
    pub(super) fn compile(source: Source, functions: &[Box<dyn Function>]) -> Result<Self, String> {
        let environment = ExternalEnv::default();
        match compiler::compile_with_external(
            &source.text,
            functions,
            &environment,
            CompileConfig::default(),
        ) {
            Ok(result) => Ok(Self {
                source,
                program: result.program,
            }),
            Err(diagnostics) => Err(faults(&source, &diagnostics)),
        }
    }

    pub(super) fn file(&self) -> &str {
        &self.source.file
    }

    /// Runs on one record.
    pub(super) fn run(&self, mut record: Value, metadata: ObjectMap) -> Result<Value> {
        let mut metadata = Value::Object(metadata);
        let mut secrets = Secrets::new();
        let mut target = TargetValueRef {
            value: &mut record,
            metadata: &mut metadata,
            secrets: &mut secrets,
        };
        let mut steps = 0_u64;
        let mut bound = || {
            steps += 1;
            if steps > MOST_STEPS {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        Runtime::new(RuntimeState::default())
            .resolve_with_control(
                &mut target,
                &self.program,
                // Mappings name their zones; nothing depends on the machine's.
                &TimeZone::Named(chrono_tz::UTC),
                &mut bound,
            )
            .map_err(|ended| self.failure(ended))
    }

    /// A runtime error's own text quotes values, so only its place and the program's own words
    /// are told.
    fn failure(&self, ended: Terminate) -> Error {
        let (what, span) = match ended {
            Terminate::Interrupted => ("took too many steps".to_owned(), None),
            Terminate::Abort(ExpressionError::Abort { span, message }) => {
                (message.unwrap_or_else(|| "aborted".into()), Some(span))
            }
            Terminate::Abort(error) | Terminate::Error(error) => place(&error),
        };
        let place = span.map_or_else(
            || self.source.file.clone(),
            |span| self.source.place(span.start()),
        );
        Error::validation("mapping_failed", format!("{place}: {what}"))
    }
}

fn place(error: &ExpressionError) -> (String, Option<Span>) {
    match error {
        ExpressionError::Error {
            message, labels, ..
        } => {
            // `function call error for "to_int" at (12:30): Invalid integer "..."`
            let function = message
                .strip_prefix("function call error for \"")
                .and_then(|rest| rest.split_once('"'))
                .map(|(name, _)| name);
            let span = labels
                .first()
                .map(|label| label.span)
                .or_else(|| span_in(message));
            let what = function.map_or_else(
                || "an expression failed".to_owned(),
                |name| format!("`{name}` failed"),
            );
            (what, span)
        }
        ExpressionError::Fallible { span } | ExpressionError::Missing { span, .. } => {
            ("an expression failed".to_owned(), Some(*span))
        }
        _ => ("an expression failed".to_owned(), None),
    }
}

/// The `(start:end)` in a function's error message.
fn span_in(message: &str) -> Option<Span> {
    let (_, rest) = message.split_once(" at (")?;
    let (range, _) = rest.split_once(')')?;
    let (start, end) = range.split_once(':')?;
    Some(Span::new(start.parse().ok()?, end.parse().ok()?))
}

fn faults(source: &Source, diagnostics: &DiagnosticList) -> String {
    diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_problem())
        .take(MOST_FAULTS)
        .map(|diagnostic| {
            let offset = diagnostic
                .labels()
                .first()
                .map_or(0, |label| label.span.start());
            let labels: Vec<_> = diagnostic
                .labels()
                .iter()
                .map(|label| label.message.as_str())
                .collect();
            format!(
                "{}: {}: {}",
                source.place(offset),
                diagnostic.message(),
                labels.join(", ")
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}
