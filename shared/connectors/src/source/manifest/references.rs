//! `$ref` and `#/…` references.

use serde_json::{Map, Value};
use sluice_core::{Error, Result};

/// Keys whose content is configuration, not manifest: copied without resolution.
const OPAQUE: [&str; 1] = ["config_overrides"];
/// References may multiply content; more nodes than this is a mistake or an attack.
const MAX_NODES: usize = 2_000_000;

/// Replaces every reference by what it names.
///
/// # Errors
/// `manifest_reference_unknown`, `manifest_reference_cycle`, `manifest_too_large`.
pub fn resolve(manifest: &Value, name: &'static str) -> Result<Value> {
    Resolver {
        root: manifest,
        name,
        chain: Vec::new(),
        nodes: 0,
        place: Vec::new(),
    }
    .value(manifest)
}

struct Resolver<'a> {
    root: &'a Value,
    name: &'static str,
    chain: Vec<String>,
    nodes: usize,
    /// Where it is in the resolved manifest: keys as `.key`, positions in lists as `[0]`.
    place: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn value(&mut self, value: &'a Value) -> Result<Value> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.refused(
                "manifest_too_large",
                "references multiply the manifest beyond all bounds",
            ));
        }
        match value {
            Value::String(text) if text.starts_with("#/") => self.reference(text),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.inside(format!("[{index}]"), item))
                .collect::<Result<Vec<_>>>()
                .map(Value::Array),
            Value::Object(map) => self.mapping(map),
            other => Ok(other.clone()),
        }
    }

    /// What stands below a key or in a list; after an error the place is left as it is.
    fn inside(&mut self, step: String, value: &'a Value) -> Result<Value> {
        self.place.push(step);
        let resolved = self.value(value)?;
        self.place.pop();
        Ok(resolved)
    }

    fn refused(&self, code: &'static str, what: &str) -> Error {
        Error::config(
            code,
            format!("{}{}: {what}", self.name, self.place.concat()),
        )
    }

    /// A mapping with `$ref` is the target overlaid by its own keys, shallowly; when the target is
    /// no mapping, the own keys are dropped.
    fn mapping(&mut self, map: &'a Map<String, Value>) -> Result<Value> {
        let mut own = Map::new();
        for (key, value) in map {
            if key == "$ref" {
                continue;
            }
            let value = if OPAQUE.contains(&key.as_str()) {
                value.clone()
            } else {
                self.inside(format!(".{key}"), value)?
            };
            own.insert(key.clone(), value);
        }
        let Some(target) = map.get("$ref").and_then(Value::as_str) else {
            return Ok(Value::Object(own));
        };
        match self.reference(target)? {
            Value::Object(mut base) => {
                for (key, value) in own {
                    base.insert(key, value);
                }
                Ok(Value::Object(base))
            }
            other => Ok(other),
        }
    }

    fn reference(&mut self, reference: &str) -> Result<Value> {
        if self.chain.iter().any(|seen| seen == reference) {
            return Err(self.refused(
                "manifest_reference_cycle",
                &format!("the reference {reference} leads back to itself"),
            ));
        }
        let target = reference
            .strip_prefix("#/")
            .and_then(|path| find(self.root, path))
            .ok_or_else(|| {
                self.refused(
                    "manifest_reference_unknown",
                    &format!("the reference {reference} names nothing"),
                )
            })?;
        self.chain.push(reference.to_owned());
        let resolved = self.value(target);
        self.chain.pop();
        resolved
    }
}

/// Tries the whole remaining path as one key, then its first segment; digits index lists.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = child(value, path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('/')?;
    find(child(value, first)?, rest)
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn siblings_win_shallowly() {
        let manifest = json!({
            "definitions": {"a": {"x": {"p": 1}, "y": 2}, "list": [1, {"deep": "#/definitions/a/y"}], "n/m": 7},
            "use": {"$ref": "#/definitions/a", "x": {"q": 3}},
            "text": "#/definitions/list/1/deep",
            "slash": "#/definitions/n/m",
            "scalar": {"$ref": "#/definitions/a/y", "lost": true},
        });
        let resolved = resolve(&manifest, "manifest").unwrap();
        assert_eq!(resolved["use"], json!({"x": {"q": 3}, "y": 2}));
        assert_eq!(resolved["text"], json!(2));
        assert_eq!(resolved["slash"], json!(7));
        assert_eq!(resolved["scalar"], json!(2));
    }

    #[test]
    fn cycles_and_unknown_names_are_errors() {
        let cycle = json!({"a": {"$ref": "#/b"}, "b": {"inner": "#/a"}});
        assert_eq!(
            resolve(&cycle, "manifest").unwrap_err().code(),
            "manifest_reference_cycle"
        );
        assert_eq!(
            resolve(&json!({"a": "#/nowhere"}), "manifest")
                .unwrap_err()
                .code(),
            "manifest_reference_unknown"
        );
    }

    #[test]
    fn configuration_is_copied_as_it_is() {
        let manifest = json!({"check": {"config_overrides": {"x": "#/nowhere"}}});
        assert_eq!(resolve(&manifest, "manifest").unwrap(), manifest);
    }
}
