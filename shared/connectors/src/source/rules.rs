//! The format's small rules by themselves, so that they can be compared with Python's.

use minijinja::value::Value as Jinja;
use serde_json::Value;
use sluice_core::Result;

use super::{
    load::declared,
    manifest::{self, Component, faults_of_frame, faults_of_stream},
    template::{Scope, Templates, json, literal},
    time::{self, Duration, Moment},
};

/// The value a text stands for as a Python literal, if it is one.
pub fn literal(text: &str) -> Option<Value> {
    literal::read(text)
}

/// The value of a template over settings.
///
/// # Errors
/// Those of templates.
pub fn evaluate(template: &str, config: &Value) -> Result<Value> {
    let mut templates = Templates::new();
    let template = templates.compile(template, &Jinja::UNDEFINED)?;
    template.value(&Scope::new(&templates, &json::of(config)))
}

/// Whether the components of a manifest have the fields they must have, with values of the right
/// kinds.
pub fn well_formed(manifest: &str) -> bool {
    let well_formed = || -> Result<bool> {
        let manifest = manifest::load(manifest)?;
        let root = Component::new(&manifest, "manifest")?;
        let frame = faults_of_frame(&manifest).is_empty();
        let streams = declared(&root, &mut Templates::new(), |_, _| Ok(true))?;
        let stream = |stream: &Component<'_>| {
            matches!(stream.kind(), "DeclarativeStream" | "StateDelegatingStream")
                && faults_of_stream(stream).is_empty()
        };
        Ok(frame && streams.iter().all(stream))
    };
    well_formed().unwrap_or(false)
}

/// The moment a text means by a format, in ISO form.
pub fn parse_time(text: &str, format: &str) -> Option<String> {
    time::parse(text, format).map(iso)
}

/// An ISO moment printed by a format.
pub fn format_time(moment: &str, format: &str) -> Option<String> {
    time::parse_iso(moment).map(|moment| time::format(&moment, format))
}

/// An ISO moment moved by an ISO duration.
pub fn add_duration(moment: &str, duration: &str) -> Option<String> {
    Duration::parse(duration)?
        .after(time::parse_iso(moment)?)
        .map(iso)
}

/// Python's `isoformat()`.
fn iso(moment: Moment) -> String {
    let fraction = match moment.timestamp_subsec_micros() {
        0 => "",
        _ => ".%6f",
    };
    moment
        .format(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z"))
        .to_string()
}
