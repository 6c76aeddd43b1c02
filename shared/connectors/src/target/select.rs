//! Finding values in an answer: the paths of `DpathExtractor`.

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

    /// The way to the list whose entries the last `*` takes; the path itself when it has none.
    pub(super) fn to_list(&self) -> Self {
        let star = |segment: &Segment| matches!(segment, Segment::Key(key) if key == "*");
        match self.0.iter().rposition(star) {
            Some(position) => Self(self.0.iter().take(position).cloned().collect()),
            None => self.clone(),
        }
    }

    /// Texts (and numbers as text), without the rest.
    pub(super) fn texts(&self, value: &Value) -> Vec<String> {
        self.all(value)
            .into_iter()
            .filter_map(super::template::scalar_text)
            .collect()
    }
}

impl Segment {
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
    }
}
