//! Finding records in a body: `DpathExtractor`.

use serde_json::Value;
use sluice_core::{Error, Result};

use super::{
    manifest::Component,
    template::{Scope, Template, Templates},
};

/// `DpathExtractor`.
#[derive(Debug)]
pub struct Extractor {
    path: Vec<Template>,
}

impl Extractor {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if component.kind() != "DpathExtractor" {
            return Err(component.unsupported());
        }
        if let Some(expander) = component.child("record_expander")? {
            return Err(expander.unsupported());
        }
        Ok(Self {
            path: component.template_list("field_path", templates)?,
        })
    }

    /// The path's segments.
    pub fn segments(&self, scope: &Scope<'_>) -> Result<Vec<String>> {
        self.path.iter().map(|part| part.text(scope)).collect()
    }
}

/// Whether a path has no wildcards, so that a decoder can follow it while reading.
pub fn is_plain(path: &[String]) -> bool {
    !path.iter().any(|part| part.contains(['*', '?', '[']))
}

/// The records at a path in a body.
///
/// # Errors
/// `record_not_a_mapping`.
pub fn records(mut body: Value, path: &[String]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    if path.iter().any(|part| part == "*") {
        let mut matches = Vec::new();
        collect(&body, path, &mut matches);
        for value in matches {
            match value {
                Value::Array(items) => found.extend(items.iter().cloned()),
                other => found.push(other.clone()),
            }
        }
    } else {
        // Without wildcards the records are taken out of the body, not copied.
        let first = if is_plain(path) {
            path.iter()
                .try_fold(&mut body, |value, part| child(value, part))
                .map(Value::take)
        } else {
            self::first(&body, path).cloned()
        };
        match first {
            Some(Value::Array(items)) => found = items,
            Some(Value::Object(map)) if !map.is_empty() => found.push(Value::Object(map)),
            _ => {}
        }
    }
    if found.iter().any(|record| !record.is_object()) {
        return Err(Error::validation(
            "record_not_a_mapping",
            "a record is a plain value where fields were expected",
        ));
    }
    Ok(found)
}

/// The first value at a path.
pub fn first<'a>(body: &'a Value, path: &[String]) -> Option<&'a Value> {
    all(body, path).into_iter().next()
}

/// All values at a path.
pub fn all<'a>(body: &'a Value, path: &[String]) -> Vec<&'a Value> {
    let mut matches = Vec::new();
    collect(body, path, &mut matches);
    matches
}

fn collect<'a>(value: &'a Value, path: &[String], found: &mut Vec<&'a Value>) {
    let Some((first, rest)) = path.split_first() else {
        found.push(value);
        return;
    };
    if first == "**" {
        collect(value, rest, found);
        each_child(value, |_, child| collect(child, path, found));
        return;
    }
    match value {
        Value::Object(map) if !first.contains(['*', '?']) => {
            if let Some(child) = map.get(first) {
                collect(child, rest, found);
            }
        }
        Value::Array(items) if !first.contains(['*', '?']) => {
            if let Some(child) = place(first, items.len()).and_then(|index| items.get(index)) {
                collect(child, rest, found);
            }
        }
        _ => each_child(value, |key, child| {
            if glob(first, key) {
                collect(child, rest, found);
            }
        }),
    }
}

/// The value under one segment without wildcards.
fn child<'a>(value: &'a mut Value, part: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(part),
        Value::Array(items) => place(part, items.len()).and_then(|index| items.get_mut(index)),
        _ => None,
    }
}

/// A segment as a place in a list; negative ones count from the end.
fn place(part: &str, length: usize) -> Option<usize> {
    match part.parse::<i64>().ok()? {
        index if index < 0 => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
        index => usize::try_from(index).ok(),
    }
}

fn each_child<'a>(value: &'a Value, mut visit: impl FnMut(&str, &'a Value)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| visit(key, child)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, child)| visit(&index.to_string(), child)),
        _ => {}
    }
}

/// Whether a segment may stand for several keys.
pub fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// `*` any letters, `?` one.
pub fn glob(pattern: &str, text: &str) -> bool {
    if !is_pattern(pattern) {
        return pattern == text;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(body: &Value, path: &str) -> Result<Vec<Value>> {
        let path: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        records(body.clone(), &path)
    }

    #[test]
    fn paths_find_records() {
        let body = json!({"data": {"a": {"id": 1}, "b": {"id": 2}}, "list": [{"id": 3}, {"id": 4}], "empty": {}, "none": null, "deep": [{"items": [{"id": 5}]}, {"items": [{"id": 6}]}]});
        for (path, expected) in [
            ("", json!([body])),
            ("data/a", json!([{"id": 1}])),
            ("data/*", json!([{"id": 1}, {"id": 2}])),
            ("list", json!([{"id": 3}, {"id": 4}])),
            ("list/*", json!([{"id": 3}, {"id": 4}])),
            ("list/-1", json!([{"id": 4}])),
            ("deep/*/items", json!([{"id": 5}, {"id": 6}])),
            ("empty", json!([])),
            ("none", json!([])),
            ("missing/x", json!([])),
        ] {
            assert_eq!(Value::Array(at(&body, path).unwrap()), expected, "{path}");
        }
        assert_eq!(
            at(&json!({"a": [1]}), "a").unwrap_err().code(),
            "record_not_a_mapping"
        );
    }

    proptest! {
        #[test]
        fn globs_match_what_they_are_made_of(text in "[a-c]{0,8}", cut in 0_usize..9) {
            let cut = cut.min(text.len());
            let pattern = format!("{}*{}", &text[..cut], &text[cut..]);
            prop_assert!(glob(&pattern, &text));
            let longer = format!("{}?", text);
            prop_assert!(!glob(&longer, &text));
        }
    }
}
