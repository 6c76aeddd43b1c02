//! From the merged tree to typed sections, with every fault noted.

use config::{ConfigError, Map, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::{
    catalogue,
    problems::{Problems, unknown},
};

/// Sections whose keys are free.
const OPEN: [&str; 1] = ["connectors.limits"];

/// Notes every key that neither the defaults nor the lists know.
pub(super) fn unknown_keys(defaults: &Value, merged: &Value, problems: &mut Problems) {
    walk("", defaults, merged, problems);
}

fn walk(path: &str, known: &Value, found: &Value, problems: &mut Problems) {
    let (ValueKind::Table(known), ValueKind::Table(found)) = (&known.kind, &found.kind) else {
        return;
    };
    let lists: &[&str] = if path.is_empty() {
        &catalogue::LISTS
    } else {
        &[]
    };
    for (name, value) in sorted(found) {
        let key = join(path, name);
        match known.get(name) {
            Some(_) if OPEN.contains(&key.as_str()) => {}
            Some(inner) => walk(&key, inner, value, problems),
            None if lists.contains(&name.as_str()) => {}
            None => {
                let mut names: Vec<_> = known.keys().map(String::as_str).collect();
                names.extend(lists);
                names.sort_unstable();
                problems.add_from(origin(value), &key, unknown(name, names.iter().copied()));
            }
        }
    }
}

/// Where a value came from. Merging forgets it for tables; then it is that of a value inside.
fn origin(value: &Value) -> Option<&str> {
    value.origin().or_else(|| match &value.kind {
        ValueKind::Table(table) => sorted(table)
            .into_iter()
            .find_map(|(_, value)| origin(value)),
        _ => None,
    })
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

pub(super) fn sorted(table: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    entries
}

/// Reads typed sections out of the merged tree.
pub(super) struct Reader {
    defaults: Value,
    merged: Value,
}

impl Reader {
    pub(super) fn new(defaults: Value, merged: Value) -> Self {
        Self { defaults, merged }
    }

    /// A section. When it does not fit, every key is tried alone on top of the defaults, so that
    /// each fault is found and named.
    pub(super) fn section<T: DeserializeOwned>(
        &mut self,
        path: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let found = at(&self.merged, path)?.clone();
        if let Ok(section) = found.clone().try_deserialize() {
            return Some(section);
        }
        let defaults = at(&self.defaults, path)?;
        let (ValueKind::Table(found), ValueKind::Table(defaults)) = (found.kind, &defaults.kind)
        else {
            problems.add(path, "expected a section");
            return None;
        };
        for (name, value) in sorted(&found) {
            let mut alone = defaults.clone();
            alone.insert(name.clone(), value.clone());
            if let Err(error) = Value::new(None, alone).try_deserialize::<T>() {
                problems.add_from(value.origin(), &join(path, name), text(&error));
            }
        }
        None
    }

    /// The entries of a list of tables that can be read, with their keys (`flows[0]`) for messages.
    pub(super) fn list<T: catalogue::Entry>(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Vec<(String, T)> {
        let Some(value) = at(&self.merged, name) else {
            return Vec::new();
        };
        let ValueKind::Array(items) = &value.kind else {
            problems.add_from(value.origin(), name, format!("expected [[{name}]]"));
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                let key = format!("{name}[{index}]");
                let place = match item.origin() {
                    Some(origin) => format!("{origin}: {key}"),
                    None => key,
                };
                entry(item, &place, problems).map(|entry| (place, entry))
            })
            .collect()
    }
}

fn entry<T: catalogue::Entry>(item: &Value, place: &str, problems: &mut Problems) -> Option<T> {
    let ValueKind::Table(table) = &item.kind else {
        problems.add(place, "expected a table");
        return None;
    };
    let mut sound = true;
    for (name, value) in sorted(table) {
        if !T::KEYS.contains(&name.as_str()) {
            problems.add(
                &format!("{place}.{name}"),
                unknown(name, T::KEYS.iter().copied()),
            );
            sound = false;
            continue;
        }
        let alone = Map::from([(name.clone(), value.clone())]);
        if let Err(error) = Value::new(None, alone).try_deserialize::<T>() {
            problems.add(&format!("{place}.{name}"), text(&error));
            sound = false;
        }
    }
    // Every key fits alone, and none is required, so that all fit together.
    sound.then(|| item.clone().try_deserialize().ok()).flatten()
}

fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(tree, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            _ => None,
        })
}

/// What is wrong with a value, without the value.
fn text(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { expected, .. } => format!("expected {expected}"),
        ConfigError::At { error, .. } => text(error),
        ConfigError::NotFound(key) => format!("`{key}` is missing"),
        ConfigError::Message(text) => text.clone(),
        _ => "is not understood".to_owned(),
    }
}

/// A tree as JSON, keys sorted.
pub(super) fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::I128(number) => number.to_string().into(),
        ValueKind::U128(number) => number.to_string().into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(items) => items.iter().map(json).collect(),
        ValueKind::Table(table) => sorted(table)
            .into_iter()
            .map(|(name, value)| (name.clone(), json(value)))
            .collect(),
    }
}
