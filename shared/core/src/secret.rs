//! A connection's settings with its secrets filled in, kept out of logs by their type.

use serde_json::Value;

/// Settings whose secret references were replaced by values. Shows nothing when debugged.
#[derive(Clone, PartialEq)]
pub struct SecretConfig(Value);

impl SecretConfig {
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// For templates and requests only; never log or store what this returns.
    pub fn expose(&self) -> &Value {
        &self.0
    }
}

impl std::fmt::Debug for SecretConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretConfig(..)")
    }
}
