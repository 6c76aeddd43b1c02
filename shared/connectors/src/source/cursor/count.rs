//! `IncrementingCountCursor`: a number that only grows.

use serde_json::Value;
use sluice_core::{Error, Result};

use crate::source::{
    manifest::Component,
    template::{Scope, Template, Templates},
};

#[derive(Debug)]
pub(super) struct Count {
    start: Option<Template>,
}

impl Count {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        Ok(Self {
            start: component.template("start_value", templates)?,
        })
    }

    /// The configured start; zero when there is none.
    pub(super) fn start(&self, scope: &Scope<'_>) -> Result<i64> {
        let Some(start) = &self.start else {
            return Ok(0);
        };
        number(&start.value(scope)?).ok_or_else(|| {
            Error::config(
                "cursor_start_invalid",
                "the start of a counting cursor is no whole number",
            )
            .hint("look at `start_value` of the manifest and at the connection's settings")
        })
    }
}

/// A whole number, also written as digits; of a fraction the part below, so that nothing is passed
/// over.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?.floor();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within the whole numbers that floats hold exactly"
            )]
            (float.abs() < 9e15).then_some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_read_and_nothing_else() {
        for (value, expected) in [
            (json!(5), Some(5)),
            (json!(-5.5), Some(-6)),
            (json!("17"), Some(17)),
            (json!("17x"), None),
            (json!(1e300), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }
}
