//! Finding values in an answer: the paths of `DpathExtractor`.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// A way into a JSON value: keys, positions, and `*` for every entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Path(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Segment {
    Position(usize),
    Key(String),
}

impl Path {
    /// Everything the path leads to, in order.
    pub(super) fn all<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for segment in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| segment.step(value))
                .collect();
        }
        found
    }

    /// The first thing that is not null.
    pub(super) fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.all(value).into_iter().find(|found| !found.is_null())
    }

    /// Texts (and numbers as text), without the rest.
    pub(super) fn texts(&self, value: &Value) -> Vec<String> {
        self.all(value)
            .into_iter()
            .filter_map(super::template::scalar_text)
            .collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("its top");
        }
        let words: Vec<_> = self.0.iter().map(Segment::to_string).collect();
        write!(f, "`{}`", words.join("."))
    }
}

/// The way to a list of records, and from each entry to its record. `[items]` and `[items, "*"]`
/// say the same, as on the read side; what stands behind the last `*` leads into each entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Path")]
pub(super) struct ListPath {
    pub(super) list: Path,
    entry: Path,
}

impl From<Path> for ListPath {
    fn from(path: Path) -> Self {
        let Path(mut list) = path;
        let star = list.iter().rposition(Segment::is_star);
        let entry = star.map_or_else(Vec::new, |star| list.split_off(star));
        Self {
            list: Path(list),
            entry: Path(entry.into_iter().skip(1).collect()),
        }
    }
}

impl ListPath {
    /// Whether it leads to one list, and not to several.
    pub(super) fn is_one(&self) -> bool {
        !self.list.0.iter().any(Segment::is_star)
    }

    /// The first list, when there is one.
    pub(super) fn first<'a>(&self, value: &'a Value) -> Option<&'a [Value]> {
        self.list.first(value)?.as_array().map(Vec::as_slice)
    }

    /// What an entry of the list holds.
    pub(super) fn record<'a>(&self, entry: &'a Value) -> Option<&'a Value> {
        self.entry.first(entry)
    }

    /// What all entries of all lists hold.
    pub(super) fn records<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let lists = self.list.all(value).into_iter();
        let entries = lists.filter_map(Value::as_array).flatten();
        entries.flat_map(|entry| self.entry.all(entry)).collect()
    }
}

/// What a value is, for people who look for another one; never the value itself.
pub(super) fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "nothing",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Key(key) => f.write_str(key),
        }
    }
}

impl Segment {
    fn is_star(&self) -> bool {
        matches!(self, Self::Key(key) if key == "*")
    }

    fn step<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Key(key), Value::Array(items)) if key == "*" => items.iter().collect(),
            (Self::Key(key), Value::Object(map)) if key == "*" => map.values().collect(),
            (Self::Key(key), value) => value.get(key).into_iter().collect(),
            (Self::Position(position), value) => value.get(position).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_follow_keys_positions_and_stars() {
        let value =
            json!({"errors": [{"path": ["a", 3], "code": "X"}, {"code": null}, {"code": 7}]});
        let path = |path: Value| serde_json::from_value::<Path>(path).unwrap();
        assert_eq!(
            path(json!(["errors", "*", "code"])).texts(&value),
            ["X", "7"]
        );
        assert_eq!(
            path(json!(["errors", 0, "path", 1])).first(&value),
            Some(&json!(3))
        );
        assert_eq!(path(json!(["errors", 1, "code"])).first(&value), None);
        assert!(path(json!(["x", "*", "y"])).all(&value).is_empty());
        assert_eq!(path(json!([])).all(&value), [&value]);
        assert_eq!(path(json!(["errors", 0])).to_string(), "`errors.0`");
        assert_eq!(path(json!([])).to_string(), "its top");
    }

    #[test]
    fn a_list_is_named_with_or_without_a_star() {
        let value =
            json!({"a": [{"n": 1}, {"n": null}], "b": [{"a": [2]}, {"a": [3, 4]}], "c": {}});
        for (path, records, one) in [
            (
                json!(["a"]),
                vec![json!({"n": 1}), json!({"n": null})],
                true,
            ),
            (
                json!(["a", "*"]),
                vec![json!({"n": 1}), json!({"n": null})],
                true,
            ),
            (json!(["a", "*", "n"]), vec![json!(1), json!(null)], true),
            (
                json!(["b", "*", "a", "*"]),
                vec![json!(2), json!(3), json!(4)],
                false,
            ),
            (json!(["c"]), vec![], true),
        ] {
            let list: ListPath = serde_json::from_value(path.clone()).unwrap();
            let found: Vec<_> = list.records(&value).into_iter().cloned().collect();
            assert_eq!((found, list.is_one()), (records, one), "{path}");
        }
        let all: ListPath = serde_json::from_value(json!(["*"])).unwrap();
        assert_eq!(all.first(&json!([1])), Some(&[json!(1)][..]));
        assert_eq!(all.first(&value), None);
    }
}
