//! Transformations of a record's keys.

use serde_json::{Map, Value};
use sluice_core::Result;

use super::{
    extract,
    manifest::Component,
    template::{Scope, Template, Templates},
};

/// `KeysToLower`, `KeysToSnakeCase`, `KeysReplace`, `FlattenFields`, `DpathFlattenFields`.
#[derive(Debug)]
pub enum KeyChange {
    /// At the top level only.
    Lower,
    /// In mappings within mappings, not within lists.
    Snake,
    /// Likewise.
    Replace {
        old: Template,
        new: Template,
    },
    Flatten {
        lists: bool,
    },
    /// The mapping at a path joins the record, unless a key is taken.
    FlattenAt {
        path: Vec<Template>,
        delete: bool,
        replace: bool,
        prefix: Option<Template>,
        suffix: Option<Template>,
    },
}

impl KeyChange {
    /// `None` when the component is none of these.
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Option<Self>> {
        let required = |found: Option<Template>, field: &str| {
            found.ok_or_else(|| component.invalid(field, "is missing"))
        };
        Ok(Some(match component.kind() {
            "KeysToLower" => Self::Lower,
            "KeysToSnakeCase" => Self::Snake,
            "KeysReplace" => Self::Replace {
                old: required(component.template("old", templates)?, "old")?,
                new: required(component.template("new", templates)?, "new")?,
            },
            "FlattenFields" => Self::Flatten {
                lists: component.get("flatten_lists").is_none() || component.flag("flatten_lists"),
            },
            "DpathFlattenFields" => {
                let keys = component.child("key_transformation")?;
                let mut text = |field: &str| match &keys {
                    Some(keys) => keys.template(field, templates),
                    None => Ok(None),
                };
                let (prefix, suffix) = (text("prefix")?, text("suffix")?);
                Self::FlattenAt {
                    path: component.template_list("field_path", templates)?,
                    delete: component.flag("delete_origin_value"),
                    replace: component.flag("replace_record"),
                    prefix,
                    suffix,
                }
            }
            _ => return Ok(None),
        }))
    }

    pub fn apply(
        &self,
        record: Map<String, Value>,
        scope: &Scope<'_>,
    ) -> Result<Map<String, Value>> {
        Ok(match self {
            Self::Lower => record
                .into_iter()
                .map(|(key, value)| (key.to_lowercase(), value))
                .collect(),
            Self::Snake => renamed(record, &snake_case),
            Self::Replace { old, new } => {
                let (old, new) = (old.text(scope)?, new.text(scope)?);
                renamed(record, &|key| key.replace(&old, &new))
            }
            Self::Flatten { lists } => flatten(record, *lists),
            Self::FlattenAt {
                path,
                delete,
                replace,
                prefix,
                suffix,
            } => {
                let path: Vec<String> = path
                    .iter()
                    .map(|part| part.text(scope))
                    .collect::<Result<_>>()?;
                let affix = |affix: &Option<Template>| match affix {
                    Some(affix) => affix.text(scope),
                    None => Ok(String::new()),
                };
                let (prefix, suffix) = (affix(prefix)?, affix(suffix)?);
                let whole = Value::Object(record);
                let found = extract::first(&whole, &path).and_then(Value::as_object);
                let found: Option<Map<String, Value>> = found.map(|found| {
                    found
                        .iter()
                        .map(|(key, value)| (format!("{prefix}{key}{suffix}"), value.clone()))
                        .collect()
                });
                let Value::Object(mut record) = whole else {
                    return Ok(Map::new());
                };
                match found {
                    Some(found) if *replace && !found.is_empty() => found,
                    Some(found) if !found.keys().any(|key| record.contains_key(key)) => {
                        if *delete {
                            remove(&mut record, &path);
                        }
                        record.extend(found);
                        record
                    }
                    _ => record,
                }
            }
        })
    }
}

fn renamed(record: Map<String, Value>, rename: &impl Fn(&str) -> String) -> Map<String, Value> {
    record
        .into_iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Object(inner) => Value::Object(renamed(inner, rename)),
                other => other,
            };
            (rename(&key), value)
        })
        .collect()
}

/// Words are capitals with the small letters behind them, small letters, or digits; everything else
/// stands between words. Other scripts are written in ASCII first.
fn snake_case(key: &str) -> String {
    let key = any_ascii::any_ascii(key);
    let mut words: Vec<String> = Vec::new();
    let mut rest = key.as_str();
    while let Some(first) = rest.chars().next() {
        let length = |class: &dyn Fn(char) -> bool, from: &str| {
            from.find(|c| !class(c)).unwrap_or(from.len())
        };
        let (taken, is_word) = if first.is_ascii_uppercase() {
            let capitals = length(&|c| c.is_ascii_uppercase(), rest);
            let small = length(
                &|c| c.is_ascii_lowercase(),
                rest.get(capitals..).unwrap_or_default(),
            );
            (capitals + small, true)
        } else if first.is_ascii_lowercase() {
            (length(&|c| c.is_ascii_lowercase(), rest), true)
        } else if first.is_ascii_digit() {
            (length(&|c| c.is_ascii_digit(), rest), true)
        } else {
            (length(&|c| !c.is_ascii_alphanumeric(), rest), false)
        };
        let word = rest.get(..taken).unwrap_or_default();
        words.push(if is_word {
            word.to_ascii_lowercase()
        } else {
            String::new()
        });
        rest = rest.get(taken..).unwrap_or_default();
    }
    // A gap at either end shows as `_`, one in between does not.
    if words.len() >= 3 {
        let last = words.len() - 1;
        let mut index = 0;
        words.retain(|word| {
            let keep = index == 0 || index == last || !word.is_empty();
            index += 1;
            keep
        });
    }
    let starts_with_digit = words
        .first()
        .is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    if starts_with_digit {
        words.insert(0, String::new());
    }
    words.join("_")
}

/// Leaves under their own names, under their parent's as well where a name is taken or a list was
/// met before. The last ones come first, as in the reference runtime, which decides whose name is
/// taken.
fn flatten(record: Map<String, Value>, lists: bool) -> Map<String, Value> {
    let mut flat = Map::new();
    let mut in_list = false;
    let mut open = vec![("_".to_owned(), Value::Object(record))];
    while let Some((name, value)) = open.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let name = if in_list || flat.contains_key(&key) {
                        format!("{name}.{key}")
                    } else {
                        key
                    };
                    open.push((name, value));
                }
            }
            Value::Array(items) if lists => {
                for (index, item) in items.into_iter().enumerate() {
                    in_list = true;
                    open.push((format!("{name}.{index}"), item));
                }
            }
            leaf => {
                flat.insert(name, leaf);
            }
        }
    }
    flat
}

fn remove(record: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            record.shift_remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = record.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (name, snake) in [
            ("orderId", "order_id"),
            ("HTTPServer", "httpserver"),
            ("Créé le", "cree_le"),
            ("2nd Name", "_2_nd_name"),
            (" a b ", "_a_b_"),
            ("a--b", "a_b"),
            ("", ""),
        ] {
            assert_eq!(snake_case(name), snake, "{name}");
        }
    }
}
