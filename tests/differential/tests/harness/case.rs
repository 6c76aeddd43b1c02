//! Cases: files of two YAML documents, the scene and, unchanged, the manifest.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::mock::Rule;

/// The first document of a case's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// What the case shows.
    pub about: String,
    /// Settings; `{{mock}}` stands for the server's address.
    pub config: Value,
    #[serde(default)]
    pub command: Command,
    /// Streams to read; all when empty.
    #[serde(default)]
    pub streams: Vec<String>,
    /// State by stream.
    #[serde(default)]
    pub state: Map<String, Value>,
    /// How the server answers: the first rule that fits.
    #[serde(default)]
    pub mock: Vec<Rule>,
    /// A record's field that tells its slice. With it, order counts within a slice only, and
    /// requests are compared as a multiset; without, both are compared in order.
    #[serde(default)]
    pub slice_field: Option<String>,
    /// Several streams: requests are compared as a multiset.
    #[serde(default)]
    pub any_order: bool,
    /// Waits come from chance in the reference runtime and are not compared.
    #[serde(default)]
    pub random_waits: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    #[default]
    Read,
    Check,
    Discover,
    Spec,
}

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Check => "check",
            Self::Discover => "discover",
            Self::Spec => "spec",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub scene: Scene,
    pub manifest: String,
}

/// All cases below a folder, by name.
pub fn load(folder: &Path) -> BTreeMap<String, Case> {
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("a case").path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("a case's text");
        let (scene, manifest) = text
            .split_once("\n---\n")
            .unwrap_or_else(|| panic!("{name}: no manifest after a line with ---"));
        let scene = yaml_serde::from_str(scene).unwrap_or_else(|error| panic!("{name}: {error}"));
        cases.insert(
            name.clone(),
            Case {
                name,
                scene,
                manifest: manifest.to_owned(),
            },
        );
    }
    cases
}

/// Settings with the server's address filled in.
pub fn filled(value: &Value, address: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("{{mock}}", address)),
        Value::Array(items) => items.iter().map(|item| filled(item, address)).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| (key.clone(), filled(item, address)))
                .collect(),
        ),
        other => other.clone(),
    }
}
