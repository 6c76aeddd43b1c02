//! What is wrong with a configuration and can be found without calling anybody.

use std::collections::BTreeSet;

use serde_json::Value;
use sluice_api::{Token, signature};
use sluice_connectors::{
    library::Library,
    source::{self, Source},
    target::Target,
};
use sluice_core::{
    Error, OrganizationId, Result,
    catalogue::{CatalogueSpec, ConnectionSpec},
    connector::ConnectorFiles,
};
use sluice_runtime::{
    config::{ApiTokenSettings, nearest},
    secret,
};
use sluice_transform::Mapper;

use crate::connections::{self, can_read, can_write};

/// Settings of every connection, whatever its connector's files say.
const COMMON: [&str; 6] = [
    "http",
    "webhook_secrets",
    "host",
    "hostname",
    "domain",
    "allowed_hosts",
];

/// Everything that is wrong with a connection and the flows from and to it.
pub fn connection(
    library: &Library,
    catalogue: &CatalogueSpec,
    spec: &ConnectionSpec,
) -> Vec<Error> {
    let files = match library.get(&spec.connector) {
        Ok(files) => files,
        Err(error) => return vec![error.connection(&spec.name)],
    };
    let mut problems = unknown_settings(&files, &spec.config);
    if let Err(error) = secret::resolve(&spec.config) {
        problems.push(error);
        return scoped(problems, spec);
    }
    problems.extend(webhook_secrets(&spec.config).err());
    let (reads, writes) = uses(catalogue, spec);
    if reads || (!writes && can_read(&files)) {
        match connections::source(library, spec, None) {
            Ok(source) => problems.extend(unknown_streams(catalogue, spec, &source)),
            Err(error) => problems.push(error),
        }
    }
    if writes || (!reads && can_write(&files)) {
        match connections::target(library, spec, None) {
            Ok(target) => problems.extend(unknown_entities(catalogue, spec, &target)),
            Err(error) => problems.push(error),
        }
    }
    problems.extend(Mapper::load(&files).err());
    scoped(problems, spec)
}

/// Whether a caller's token is there and long enough.
pub fn api_token(entry: &ApiTokenSettings) -> Result<()> {
    let text = secret::reference(&entry.token)?;
    // For whom it is does not matter here.
    Token::new(&entry.name, OrganizationId(0), entry.role, &text).map(|_| ())
}

fn scoped(problems: Vec<Error>, spec: &ConnectionSpec) -> Vec<Error> {
    let scoped = |error: Error| error.connection(&spec.name);
    problems.into_iter().map(scoped).collect()
}

fn webhook_secrets(config: &Value) -> Result<()> {
    let list = config.get("webhook_secrets").and_then(Value::as_array);
    for reference in list.into_iter().flatten().filter_map(Value::as_str) {
        signature::parse_secret(&secret::reference(reference)?)?;
    }
    Ok(())
}

/// Whether some flow reads from the connection, and whether one writes to it.
fn uses(catalogue: &CatalogueSpec, spec: &ConnectionSpec) -> (bool, bool) {
    let mut flows = (catalogue.flows.iter()).filter(|flow| flow.organization == spec.organization);
    let reads = flows.clone().any(|flow| flow.source == spec.name);
    let writes = flows.any(|flow| flow.targets.iter().any(|to| to.connection == spec.name));
    (reads, writes)
}

fn unknown_streams(
    catalogue: &CatalogueSpec,
    spec: &ConnectionSpec,
    source: &Source,
) -> Vec<Error> {
    let known: Vec<&str> = (source.streams().iter())
        .map(|stream| stream.name.as_str())
        .collect();
    (catalogue.flows.iter())
        .filter(|flow| flow.organization == spec.organization && flow.source == spec.name)
        .flat_map(|flow| flow.streams.iter().map(move |stream| (flow, stream)))
        .filter(|(_, stream)| !known.contains(&stream.as_str()))
        .map(|(flow, stream)| {
            let what = format!("flow {}: the source has no stream `{stream}`", flow.name);
            Error::config("stream_unknown", what).hint(advice(stream, &known))
        })
        .collect()
}

fn unknown_entities(
    catalogue: &CatalogueSpec,
    spec: &ConnectionSpec,
    target: &Target,
) -> Vec<Error> {
    let entities = target.entities();
    let known: Vec<&str> = entities.iter().map(|entity| entity.as_str()).collect();
    (catalogue.flows.iter())
        .filter(|flow| flow.organization == spec.organization)
        .flat_map(|flow| flow.targets.iter().map(move |to| (flow, to)))
        .filter(|(_, to)| to.connection == spec.name)
        .flat_map(|(flow, to)| to.entities.iter().map(move |entity| (flow, entity)))
        .filter(|(_, entity)| !known.contains(&entity.as_str()))
        .map(|(flow, entity)| {
            let what = format!("flow {}: the target takes no entity `{entity}`", flow.name);
            Error::config("entity_unknown", what).hint(advice(entity.as_str(), &known))
        })
        .collect()
}

/// Settings that neither the manifest's specification nor any file of the connector names: nobody
/// reads them.
fn unknown_settings(files: &ConnectorFiles, config: &Value) -> Vec<Error> {
    let texts: Vec<&str> = (files.files.iter())
        .filter(|(path, _)| !path.starts_with("fixtures/") && !path.ends_with(".md"))
        .map(|(_, text)| &**text)
        .collect();
    let words: BTreeSet<&str> = (texts.iter())
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-'))
        .collect();
    let specification = source::specification(files);
    let mut problems = Vec::new();
    walk("", &specification, config, &words, &mut problems);
    problems
}

fn walk(
    path: &str,
    specification: &Value,
    config: &Value,
    words: &BTreeSet<&str>,
    problems: &mut Vec<Error>,
) {
    let properties = specification.get("properties").and_then(Value::as_object);
    for (name, value) in config.as_object().into_iter().flatten() {
        let place = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match properties.and_then(|properties| properties.get(name)) {
            // Without properties of its own an object's keys are free.
            Some(inner) if inner.get("properties").is_some() => {
                walk(&place, inner, value, words, problems);
            }
            Some(_) => {}
            None if words.contains(name.as_str()) || COMMON.contains(&name.as_str()) => {}
            None => {
                let mut known: Vec<&str> = properties
                    .into_iter()
                    .flat_map(|properties| properties.keys().map(String::as_str))
                    .collect();
                if properties.is_none() {
                    known.extend(words);
                }
                let what = format!("the connection's setting `{place}` is read by nothing");
                problems.push(Error::config("setting_unknown", what).hint(advice(name, &known)));
            }
        }
    }
}

fn advice(wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.len() > 30 => "look at the connector's README".to_owned(),
        None => format!("known are: {}", known.join(", ")),
    }
}
