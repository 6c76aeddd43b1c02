//! JSON values as template values.

use minijinja::value::{Serde, Value as Jinja};
use serde_json::Value;

/// A template value of a JSON value, converted whole.
pub fn of(value: &Value) -> Jinja {
    Jinja::from(Serde(value))
}
