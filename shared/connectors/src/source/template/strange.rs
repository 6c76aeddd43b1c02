//! Names and filters that exist nowhere: whoever writes a manifest wants to hear of them at once.

use std::sync::Arc;

use minijinja::{
    Environment, ErrorKind,
    machinery::{Instruction, Instructions, get_compiled_template},
};

use super::Strange;

/// Names that some place of the format has; which place has which is seen when it is used.
pub const NAMES: [&str; 29] = [
    "components_values",
    "config",
    "creation_response",
    "download_target",
    "error_text",
    "headers",
    "json_loads",
    "last_page_size",
    "last_record",
    "next_page_token",
    "page_size",
    "parameters",
    "path",
    "polling_response",
    "property",
    "raw_schema",
    "record",
    "record_id",
    "request_url",
    "response",
    "session_token",
    "stream_interval",
    "stream_partition",
    "stream_slice",
    "stream_state",
    "stream_template_config",
    "value",
    "caller",
    "loop",
];

/// What a compiled template uses and is nowhere. `needs` are its names that are no macros.
pub(super) fn found(
    environment: &Environment<'static>,
    template: &str,
    needs: &[String],
    place: &Arc<str>,
) -> Vec<Strange> {
    let strange = |name: &str, is_filter| Strange {
        name: name.to_owned(),
        is_filter,
        path: Arc::clone(place),
    };
    let mut all: Vec<Strange> = (needs.iter())
        .filter(|name| !NAMES.contains(&name.as_str()))
        .map(|name| strange(name, false))
        .collect();
    let Ok(template) = environment.get_template(template) else {
        return all;
    };
    let compiled = get_compiled_template(&template);
    for instructions in std::iter::once(&compiled.instructions).chain(compiled.blocks.values()) {
        let unknown = filters(instructions).filter(|name| is_unknown(environment, name));
        all.extend(unknown.map(|name| strange(name, true)));
    }
    all
}

fn filters<'a>(instructions: &'a Instructions<'_>) -> impl Iterator<Item = &'a str> {
    (0..)
        .map_while(|at| instructions.get(at))
        .filter_map(|instruction| match instruction {
            Instruction::ApplyFilter(name, ..) => Some(*name),
            _ => None,
        })
}

/// The engine tells by itself only when it uses a filter.
fn is_unknown(environment: &Environment<'static>, filter: &str) -> bool {
    let used = environment
        .compile_expression(&format!("0|{filter}"))
        .and_then(|expression| expression.eval(()));
    used.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter)
}
