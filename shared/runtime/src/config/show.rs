//! Settings as shown to people: values masked, each with its origin.

use config::{Value, ValueKind};

use super::{catalogue, read, sections::StoreUrl};
use crate::secret;

/// One setting, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Origin {
    /// Dotted key, such as `services.lease` or `connections[0].config.host`.
    pub key: String,
    /// The value with secrets masked. References to secrets are shown: they are no secrets.
    pub value: serde_json::Value,
    /// `default`, `<file> line <number>`, or the name of the variable.
    pub source: String,
}

/// What stands for a hidden value.
const MASK: &str = "***";

/// Every leaf of the tree, sorted by key.
pub(super) fn origins(tree: &Value) -> Vec<Origin> {
    let mut list = Vec::new();
    leaves("", "", tree, None, &mut list);
    list.sort_by(|a, b| a.key.cmp(&b.key));
    list
}

fn leaves(key: &str, name: &str, value: &Value, above: Option<&str>, list: &mut Vec<Origin>) {
    let origin = value.origin().or(above);
    match &value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (name, value) in read::sorted(table) {
                leaves(&read::join(key, name), name, value, origin, list);
            }
        }
        ValueKind::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                leaves(&format!("{key}[{index}]"), name, item, origin, list);
            }
        }
        _ => list.push(Origin {
            key: key.to_owned(),
            value: masked(key, name, read::json(value)),
            source: origin.unwrap_or("default").to_owned(),
        }),
    }
}

fn masked(key: &str, name: &str, value: serde_json::Value) -> serde_json::Value {
    let Some(text) = value.as_str() else {
        return value;
    };
    if text.is_empty() || secret::is_reference(text) {
        value
    } else if key == "store.credential_keys" {
        MASK.into()
    } else if ["store.raw", "store.master", "store.broker"].contains(&key) {
        StoreUrl::new(text).masked().into()
    } else if catalogue::names_a_secret(name) {
        MASK.into()
    } else if url::Url::parse(text).is_ok_and(|url| url.password().is_some()) {
        StoreUrl::new(text).masked().into()
    } else {
        value
    }
}

/// The whole tree as JSON, secrets masked.
pub(super) fn tree(key: &str, name: &str, value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Table(table) => read::sorted(table)
            .into_iter()
            .map(|(name, value)| (name.clone(), tree(&read::join(key, name), name, value)))
            .collect(),
        ValueKind::Array(items) => items
            .iter()
            .map(|item| tree(&format!("{key}[]"), name, item))
            .collect(),
        _ => masked(key, name, read::json(value)),
    }
}
