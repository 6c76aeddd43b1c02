//! Checking JSON objects against a list of fields, as the JSON systems do.

use chrono::{DateTime, NaiveDate};
use serde_json::{Map, Value};

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holds {
    /// Text of at most so many characters.
    Text(usize),
    /// Text that is not blank.
    Name(usize),
    /// A whole number of at least this.
    Int(i64),
    /// A number that is not negative.
    Number,
    /// `true` or `false`.
    Bool,
    /// RFC 3339 with an offset.
    Instant,
    /// A date or an instant.
    DateOrInstant,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// 1 or 0.
    Flag,
    /// An object of these fields.
    Object(&'static [Field]),
}

/// One field of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub name: &'static str,
    pub holds: Holds,
    /// Whether a create needs it.
    pub required: bool,
}

/// A field a create needs.
pub(crate) const fn needed(name: &'static str, holds: Holds) -> Field {
    Field {
        name,
        holds,
        required: true,
    }
}

/// A field that may be absent or null.
pub(crate) const fn optional(name: &'static str, holds: Holds) -> Field {
    Field {
        name,
        holds,
        required: false,
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Absent, null or blank though needed.
    Required,
    /// Of the wrong type or not an allowed value.
    Invalid,
    /// Longer than allowed.
    TooLong,
    /// Not a field at all.
    Unknown,
}

/// One finding, with the path of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub path: String,
    pub fault: Fault,
}

/// Everything wrong with an object. `complete` asks for the needed fields too.
pub(crate) fn check(fields: &[Field], object: &Map<String, Value>, complete: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_into(fields, object, complete, "", &mut findings);
    findings
}

fn check_into(
    fields: &[Field],
    object: &Map<String, Value>,
    complete: bool,
    before: &str,
    findings: &mut Vec<Finding>,
) {
    let path = |name: &str| {
        if before.is_empty() {
            name.to_owned()
        } else {
            format!("{before}.{name}")
        }
    };
    for name in object.keys() {
        if !fields.iter().any(|field| field.name == name) {
            findings.push(Finding {
                path: path(name),
                fault: Fault::Unknown,
            });
        }
    }
    for field in fields {
        let value = object.get(field.name).filter(|value| !value.is_null());
        let Some(value) = value else {
            // A needed field may be left out of an update but not set to nothing.
            if field.required && (complete || object.contains_key(field.name)) {
                findings.push(Finding {
                    path: path(field.name),
                    fault: Fault::Required,
                });
            }
            continue;
        };
        if let (Holds::Object(inner), Value::Object(object)) = (field.holds, value) {
            check_into(inner, object, true, &path(field.name), findings);
        } else if let Some(fault) = judge(field.holds, value) {
            findings.push(Finding {
                path: path(field.name),
                fault,
            });
        }
    }
}

fn judge(holds: Holds, value: &Value) -> Option<Fault> {
    let good = match (holds, value) {
        (Holds::Text(most) | Holds::Name(most), Value::String(text)) => {
            if text.chars().count() > most {
                return Some(Fault::TooLong);
            }
            if matches!(holds, Holds::Name(_)) && text.trim().is_empty() {
                return Some(Fault::Required);
            }
            !text.contains('\0')
        }
        (Holds::Int(least), value) => value.as_i64().is_some_and(|number| number >= least),
        (Holds::Number, value) => value.as_f64().is_some_and(|number| number >= 0.0),
        (Holds::Flag, value) => matches!(value.as_i64(), Some(0 | 1)),
        (Holds::Bool, value) => value.is_boolean(),
        (Holds::Instant, Value::String(text)) => is_instant(text),
        (Holds::DateOrInstant, Value::String(text)) => is_date(text) || is_instant(text),
        (Holds::OneOf(list), Value::String(text)) => list.contains(&text.as_str()),
        _ => false,
    };
    (!good).then_some(Fault::Invalid)
}

fn is_date(text: &str) -> bool {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

fn is_instant(text: &str) -> bool {
    DateTime::parse_from_rfc3339(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INNER: &[Field] = &[needed("x", Holds::Int(1))];
    const FIELDS: &[Field] = &[
        needed("name", Holds::Name(5)),
        optional("flag", Holds::Flag),
        optional("at", Holds::Instant),
        optional("inner", Holds::Object(INNER)),
    ];

    fn found(value: Value, complete: bool) -> Vec<(String, Fault)> {
        check(FIELDS, value.as_object().unwrap(), complete)
            .into_iter()
            .map(|finding| (finding.path, finding.fault))
            .collect()
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(
            found(
                json!({"name": "a", "flag": 1, "at": "2025-03-04T05:06:07-06:00"}),
                true
            ),
            []
        );
        assert_eq!(found(json!({}), true), [("name".into(), Fault::Required)]);
        assert_eq!(found(json!({}), false), []);
        assert_eq!(
            found(json!({"name": null}), false),
            [("name".into(), Fault::Required)]
        );
        assert_eq!(
            found(json!({"name": " "}), false),
            [("name".into(), Fault::Required)]
        );
        assert_eq!(
            found(json!({"name": "abcdef"}), true),
            [("name".into(), Fault::TooLong)]
        );
        assert_eq!(
            found(json!({"name": "a", "colour": 1}), true),
            [("colour".into(), Fault::Unknown)]
        );
        assert_eq!(
            found(json!({"flag": 2}), false),
            [("flag".into(), Fault::Invalid)]
        );
        assert_eq!(
            found(json!({"at": "2025-03-04"}), false),
            [("at".into(), Fault::Invalid)]
        );
        assert_eq!(
            found(json!({"inner": {}}), false),
            [("inner.x".into(), Fault::Required)]
        );
        assert_eq!(
            found(json!({"inner": {"x": 0, "y": 0}}), false),
            [
                ("inner.y".into(), Fault::Unknown),
                ("inner.x".into(), Fault::Invalid)
            ]
        );
    }
}
