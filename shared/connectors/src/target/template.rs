//! Placeholders of `operations.yaml`: `{{ config['base_url'] }}`, `{{ external_id }}`,
//! `{{ body.fileName }}`.
//!
//! The syntax is that of the read side's templates, reduced to references: on the way out, data
//! must arrive as it is. Nothing is read as a literal (`007` stays text), nothing is computed;
//! logic belongs in the mapping. What is more than a reference is refused when the file is loaded.

use std::borrow::Cow;

use serde_json::Value;

/// Text with references in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(Reference),
}

/// A name and the way from there: `config['a'].b` is `config`, `a`, `b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) root: String,
    pub(super) steps: Vec<String>,
}

/// What references can name at one place: roots and their values.
#[derive(Clone, Default)]
pub(super) struct Scope<'a> {
    roots: Vec<(&'static str, Cow<'a, Value>)>,
}

impl<'a> Scope<'a> {
    pub(super) fn with(mut self, root: &'static str, value: &'a Value) -> Self {
        self.roots.push((root, Cow::Borrowed(value)));
        self
    }

    pub(super) fn with_owned(mut self, root: &'static str, value: impl Into<Value>) -> Self {
        self.roots.push((root, Cow::Owned(value.into())));
        self
    }

    fn find(&self, reference: &Reference) -> Option<&Value> {
        let (_, root) = self
            .roots
            .iter()
            .find(|(name, _)| *name == reference.root)?;
        reference
            .steps
            .iter()
            .try_fold(&**root, |value, step| value.get(step))
            .filter(|value| !value.is_null())
    }
}

/// A reference that could not be filled in: its name, never a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfilled(pub(super) String);

impl Template {
    /// Reads a text. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (inside, behind) = after
                .split_once("}}")
                .ok_or_else(|| "`{{` without `}}`".to_owned())?;
            parts.push(Part::Reference(Reference::parse(inside.trim())?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reference(reference) => Some(reference),
            Part::Text(_) => None,
        })
    }

    /// The value: that of the reference when there is nothing else, otherwise text. `None` when
    /// the only reference leads to nothing.
    pub(super) fn value(&self, scope: &Scope<'_>) -> Result<Option<Value>, Unfilled> {
        match self.parts.as_slice() {
            [Part::Reference(reference)] => Ok(scope.find(reference).cloned()),
            _ => self.text(scope).map(|text| Some(Value::String(text))),
        }
    }

    /// The text. Every reference must lead to text, a number or a boolean.
    pub(super) fn text(&self, scope: &Scope<'_>) -> Result<String, Unfilled> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Reference(reference) => {
                    let value = scope.find(reference).and_then(scalar_text);
                    text.push_str(&value.ok_or_else(|| Unfilled(reference.to_string()))?);
                }
            }
        }
        Ok(text)
    }

    /// Cuts a path at its slashes. Slashes inside of filled-in values do not count, because
    /// they are not known yet: such a value always stays one segment.
    pub(super) fn segments(&self) -> Vec<Self> {
        let mut segments = vec![Vec::new()];
        for part in &self.parts {
            match part {
                Part::Reference(_) => push_last(&mut segments, part.clone()),
                Part::Text(text) => {
                    for (index, piece) in text.split('/').enumerate() {
                        if index > 0 {
                            segments.push(Vec::new());
                        }
                        if !piece.is_empty() {
                            push_last(&mut segments, Part::Text(piece.to_owned()));
                        }
                    }
                }
            }
        }
        segments
            .into_iter()
            .filter(|parts| !parts.is_empty())
            .map(|parts| Self { parts })
            .collect()
    }
}

fn push_last(segments: &mut [Vec<Part>], part: Part) {
    if let Some(last) = segments.last_mut() {
        last.push(part);
    }
}

/// Text, number or boolean as JSON prints it, without quotes.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "`{{{{ {text} }}}}` is not a plain reference such as `config['key']` or `body.key`"
            )
        };
        let root_end = text.find(['.', '[']).unwrap_or(text.len());
        let (root, mut rest) = text.split_at(root_end);
        if !is_name(root) {
            return Err(refused());
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let step;
            (step, rest) = if let Some(inner) = rest.strip_prefix('[') {
                let (key, behind) = inner.split_once(']').ok_or_else(refused)?;
                let key = key.trim();
                let key = ['\'', '"']
                    .into_iter()
                    .find_map(|quote| key.strip_prefix(quote)?.strip_suffix(quote))
                    .ok_or_else(refused)?;
                (key, behind)
            } else {
                let inner = rest.strip_prefix('.').ok_or_else(refused)?;
                let end = inner.find(['.', '[']).unwrap_or(inner.len());
                let (key, behind) = inner.split_at(end);
                if !is_name(key) {
                    return Err(refused());
                }
                (key, behind)
            };
            steps.push(step.to_owned());
        }
        Ok(Self {
            root: root.to_owned(),
            steps,
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)?;
        self.steps.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// JSON with templates in its strings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum JsonTemplate {
    Fixed(Value),
    Template(Template),
    List(Vec<Self>),
    Mapping(Vec<(String, Self)>),
}

impl JsonTemplate {
    /// Reads a value; the error says where and what is wrong.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Template(Template::parse(text)?),
            Value::Array(items) => {
                let parsed = items.iter().enumerate().map(|(index, item)| {
                    Self::parse(item).map_err(|error| format!("[{index}]: {error}"))
                });
                Self::List(parsed.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let parsed = fields.iter().map(|(key, item)| {
                    Self::parse(item)
                        .map(|item| (key.clone(), item))
                        .map_err(|error| format!("{key}: {error}"))
                });
                Self::Mapping(parsed.collect::<Result<_, _>>()?)
            }
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    pub(super) fn references(&self) -> Vec<&Reference> {
        match self {
            Self::Fixed(_) => Vec::new(),
            Self::Template(template) => template.references().collect(),
            Self::List(items) => items.iter().flat_map(Self::references).collect(),
            Self::Mapping(fields) => fields.iter().flat_map(|(_, v)| v.references()).collect(),
        }
    }

    /// The value. A key or list entry whose only reference leads to nothing is left out.
    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<Option<Value>, Unfilled> {
        Ok(Some(match self {
            Self::Fixed(value) => value.clone(),
            Self::Template(template) => return template.value(scope),
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.extend(item.render(scope)?);
                }
                Value::Array(list)
            }
            Self::Mapping(fields) => {
                let mut map = serde_json::Map::with_capacity(fields.len());
                for (key, item) in fields {
                    if let Some(value) = item.render(scope)? {
                        map.insert(key.clone(), value);
                    }
                }
                Value::Object(map)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(template: &str, body: &Value) -> Result<String, Unfilled> {
        let scope = Scope::default()
            .with("body", body)
            .with_owned("external_id", "a/b");
        Template::parse(template).unwrap().text(&scope)
    }

    #[test]
    fn references_are_filled_in_and_nothing_is_read_as_a_literal() {
        let body = json!({"a": {"b-c": "007"}, "n": 5, "f": true, "none": null});
        assert_eq!(text("x{{ body.a['b-c'] }}y", &body).unwrap(), "x007y");
        assert_eq!(text("{{body.n}}{{ body.f }}", &body).unwrap(), "5true");
        assert_eq!(text("{ plain }} {", &body).unwrap(), "{ plain }} {");
        for missing in ["{{ body.none }}", "{{ body.x.y }}", "{{ body.a }}"] {
            assert!(text(missing, &body).is_err(), "{missing}");
        }
    }

    #[test]
    fn anything_but_a_reference_is_refused() {
        for wrong in [
            "{{ a + 1 }}",
            "{{ a | lower }}",
            "{{ a.get('x') }}",
            "{{ a[0] }}",
            "{{ 'a' }}",
            "{{ }}",
            "{{ a",
            "{{ a. }}",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_cut_before_its_values_are_known() {
        let template = Template::parse("/v1/work-orders/{{ external_id }}x/attachments").unwrap();
        let scope = Scope::default().with_owned("external_id", "a/b");
        let segments: Vec<_> = template
            .segments()
            .iter()
            .map(|segment| segment.text(&scope).unwrap())
            .collect();
        assert_eq!(segments, ["v1", "work-orders", "a/bx", "attachments"]);
    }

    #[test]
    fn json_keeps_types_and_leaves_out_what_is_missing() {
        let body = json!({"list": [1, {"z": null}], "name": "n"});
        let template = JsonTemplate::parse(&json!({
            "all": "{{ body.list }}", "text": "<{{ body.name }}>", "gone": "{{ body.other }}",
            "fixed": [0, null, "{{ body.other }}"],
        }))
        .unwrap();
        let scope = Scope::default().with("body", &body);
        assert_eq!(
            template.render(&scope).unwrap().unwrap(),
            json!({"all": [1, {"z": null}], "text": "<n>", "fixed": [0, null]})
        );
        let error = JsonTemplate::parse(&json!({"a": [1, "{{ x() }}"]})).unwrap_err();
        assert!(error.starts_with("a: [1]: "), "{error}");
    }
}
