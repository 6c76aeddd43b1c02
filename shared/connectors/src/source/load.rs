//! From a connector's files and a connection's settings to a source.

use std::collections::HashSet;

use serde_json::Value;
use sluice_core::{EntityType, Error, Result, connector::ConnectorFiles, secret::SecretConfig};

use super::{
    Source,
    api::StreamInfo,
    auth::Tokens,
    budget::Budget,
    concurrency::Concurrency,
    faults,
    manifest::{self, Component, faults_of_frame},
    patience::Patience,
    settings::Rules,
    spec,
    stream::{self, Stream},
    template::{Scope, Template, Templates, json},
};
use crate::http::HttpClient;

impl Source {
    /// Reads `manifest.yaml`, checks the settings against its `spec`, and builds every stream it
    /// can; a stream with a component this engine does not know is refused when it is used.
    ///
    /// # Errors
    /// `manifest_missing`, `manifest_yaml_invalid`, `manifest_invalid`, `manifest_reference_*`,
    /// `setting_missing`, `setting_type_wrong`, `setting_invalid`; all of class Config.
    pub fn load(
        files: &ConnectorFiles,
        connection: &str,
        config: SecretConfig,
        http: HttpClient,
    ) -> Result<Self> {
        Self::build(files, connection, &config, http)
            .map_err(|error| faults::placed(error, files).connection(connection))
    }

    fn build(
        files: &ConnectorFiles,
        connection: &str,
        config: &SecretConfig,
        http: HttpClient,
    ) -> Result<Self> {
        let manifest = manifest_of(files)?;
        let root = Component::new(&manifest, "manifest")?;
        if let Some(fault) = faults_of_frame(&manifest).into_iter().next() {
            return Err(fault);
        }
        let mut templates = Templates::new();
        let rules = Rules::build(root.child("spec")?.as_ref(), &mut templates)?;
        let normalized = rules.normalize(config.expose(), &templates)?;
        if let Some(specification) = manifest.pointer("/spec/connection_specification") {
            let checked = spec::check(specification, &normalized.settings);
            checked.map_err(|error| asked_for(error, files))?;
        }
        rules.validate(&normalized.settings, &templates)?;
        let ours: Vec<Component<'_>> = match manifest.pointer("/metadata/sluice") {
            Some(ours) => Component::new(ours, "manifest.metadata.sluice")?.children("streams")?,
            None => Vec::new(),
        };
        let config = json::of(&normalized.settings);
        let components = declared(&root, &mut templates, |condition, templates| {
            condition.truth(&Scope::new(templates, &config))
        })?;
        let mut infos = Vec::new();
        let mut streams = Vec::new();
        for component in in_order(&components, &ours) {
            let name = stream::name_of(component);
            let settings = ours.iter().find(|ours| ours.text("name") == Some(&name));
            let twin = faults::of_twins(component, &components);
            let stream = match twin {
                Some(fault) => Err(fault),
                None => Stream::build(component, settings, &mut templates),
            };
            let stream = stream.map_err(|refusal| faults::placed(refusal, files));
            infos.push(match &stream {
                Ok(stream) => stream.info(),
                Err(_) => StreamInfo {
                    name,
                    entity_type: settings
                        .and_then(|ours| ours.text("entity_type"))
                        .map(EntityType::from),
                    primary_key: Vec::new(),
                    incremental: false,
                },
            });
            streams.push(stream);
        }
        let mut addresses = Vec::new();
        let mut shared: HashSet<String> = HashSet::new();
        for stream in streams.iter().flatten() {
            stream.fixed_urls(&mut addresses);
            stream.parents(&mut shared);
        }
        for stream in streams.iter_mut().flatten() {
            if shared.contains(&stream.name) {
                stream.share();
            }
        }
        let budget = root
            .child("api_budget")?
            .map(|budget| Budget::build(&budget, &mut templates))
            .transpose()?;
        let concurrency = Concurrency::build(root.child("concurrency_level")?, &mut templates)?;
        let check = match manifest.pointer("/check/stream_names") {
            Some(Value::Array(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            connection: connection.to_owned(),
            files: files.clone(),
            config,
            settings: SecretConfig::new(normalized.settings),
            migrated: normalized.migrated.map(SecretConfig::new),
            http: http.allowing(&addresses),
            templates,
            infos,
            streams,
            check,
            concurrency,
            budget,
            tokens: Tokens::default(),
            cache: None,
            patience: Patience::default(),
            keeper: None,
        })
    }
}

/// An error of the settings, with the part of the manifest that asks for them.
fn asked_for(error: Error, files: &ConnectorFiles) -> Error {
    let beside = ["spec.yaml", "spec.json"]
        .iter()
        .find(|name| files.get(name).is_some());
    let message = match beside {
        Some(name) => format!("{} ({name})", error.message()),
        None => {
            let place = "manifest.spec.connection_specification";
            let setting = error.message().split('`').nth(1).unwrap_or_default();
            let path = setting.replace('.', ".properties.");
            format!("{}, as {place}.properties.{path} asks", error.message())
        }
    };
    let asked = Error::new(error.class(), error.code(), message);
    match error.advice() {
        Some(advice) => asked.hint(advice),
        None => asked,
    }
}

/// What a connector's manifest says about a connection's settings; null without a manifest that
/// can be read, and when it says nothing.
pub fn specification(files: &ConnectorFiles) -> Value {
    let mut manifest = manifest_of(files).unwrap_or_default();
    let specification = manifest.pointer_mut("/spec/connection_specification");
    specification.map(Value::take).unwrap_or_default()
}

/// The manifest with references, types and parameters in their places.
pub(super) fn manifest_of(files: &ConnectorFiles) -> Result<Value> {
    let text = files.get("manifest.yaml").ok_or_else(|| {
        Error::config(
            "manifest_missing",
            format!("the connector `{}` has no manifest.yaml", files.name),
        )
    })?;
    let mut manifest = manifest::load(text)?;
    if let (Value::Object(root), Some(spec)) = (&mut manifest, spec_file(files)?) {
        root.entry("spec").or_insert(spec);
    }
    Ok(manifest)
}

/// The `spec` of a manifest that has none: connectors written in Python have it in a file.
fn spec_file(files: &ConnectorFiles) -> Result<Option<Value>> {
    let names = ["spec.yaml", "spec.json"];
    let Some(text) = names.iter().find_map(|name| files.get(name)) else {
        return Ok(None);
    };
    let file = manifest::yaml::parse(text)?;
    let fields = [
        ("connectionSpecification", "connection_specification"),
        ("documentationUrl", "documentation_url"),
        ("advanced_auth", "advanced_auth"),
    ];
    let known = fields.iter().filter_map(|(theirs, ours)| {
        let value = file.get(theirs)?;
        Some(((*ours).to_owned(), value.clone()))
    });
    Ok(Some(Value::Object(known.collect())))
}

/// The manifest's streams and templates of streams; of `ConditionalStreams` those whose condition
/// holds.
pub(super) fn declared<'m>(
    root: &Component<'m>,
    templates: &mut Templates,
    holds: impl Fn(&Template, &Templates) -> Result<bool>,
) -> Result<Vec<Component<'m>>> {
    let mut all = Vec::new();
    for component in root.children("streams")? {
        if component.kind() != "ConditionalStreams" {
            all.push(component);
            continue;
        }
        let condition = component
            .template("condition", templates)?
            .ok_or_else(|| component.invalid("condition", "is missing"))?;
        if holds(&condition, templates)? {
            all.extend(component.children("streams")?);
        }
    }
    // Templates of streams are not known here: each is refused in the place of its streams.
    all.extend(root.children("dynamic_streams")?);
    Ok(all)
}

/// The manifest's streams, those with settings of ours first and in that order.
fn in_order<'a, 'm>(
    components: &'a [Component<'m>],
    ours: &[Component<'m>],
) -> Vec<&'a Component<'m>> {
    let mut ordered: Vec<&Component<'m>> = components.iter().collect();
    ordered.sort_by_key(|component| {
        let name = stream::name_of(component);
        ours.iter()
            .position(|ours| ours.text("name") == Some(&name))
            .unwrap_or(usize::MAX)
    });
    ordered
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_specification_may_stand_beside_the_manifest() {
        let spec_of = |manifest: &str, name: &str, spec: &str| {
            let files = ConnectorFiles {
                name: "test".into(),
                files: BTreeMap::from([
                    ("manifest.yaml".to_owned(), Arc::from(manifest)),
                    (name.to_owned(), Arc::from(spec)),
                ]),
            };
            manifest_of(&files).unwrap().get("spec").cloned()
        };
        let file = "{\"documentationUrl\": \"https://a.test\", \"connectionSpecification\": {\"$ref\": \"#/x\"}}";
        let expected = json!({"documentation_url": "https://a.test", "connection_specification": {"$ref": "#/x"}});
        assert_eq!(
            spec_of("streams: []", "spec.json", file),
            Some(expected.clone())
        );
        assert_eq!(spec_of("streams: []", "spec.yaml", file), Some(expected));
        assert_eq!(spec_of("streams: []", "other.yaml", file), None);
        let own = spec_of("spec: {type: Spec}", "spec.yaml", file);
        assert_eq!(own, Some(json!({"type": "Spec"})));
    }
}
