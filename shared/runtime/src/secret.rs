//! Secrets by reference: `env:NAME` or `file:PATH`, resolved when settings are loaded.
//!
//! Only the reference is ever stored, shown or logged.

use serde_json::Value;
use sluice_core::{Error, Result, secret::SecretConfig};

/// The references a text can hold.
const SCHEMES: [&str; 2] = ["env:", "file:"];

/// Whether a text is a reference to a secret and not a value.
pub fn is_reference(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// The value a reference names; a text that is no reference is returned as it is. One trailing
/// line break of a file is dropped.
///
/// # Errors
/// `secret_missing` when the variable is unset or the file unreadable; it names the reference only.
pub fn reference(text: &str) -> Result<String> {
    if let Some(name) = text.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| missing(text, "the variable is not set"));
    }
    if let Some(path) = text.strip_prefix("file:") {
        let mut content = std::fs::read_to_string(path).map_err(|error| {
            missing(text, &format!("the file cannot be read ({})", error.kind()))
        })?;
        if content.ends_with('\n') {
            content.pop();
            if content.ends_with('\r') {
                content.pop();
            }
        }
        return Ok(content);
    }
    Ok(text.to_owned())
}

/// A connection's settings with every reference in them, at any depth, replaced by its value.
///
/// # Errors
/// `secret_missing`, as [`reference()`].
pub fn resolve(config: &Value) -> Result<SecretConfig> {
    Ok(SecretConfig::new(resolved(config)?))
}

fn resolved(value: &Value) -> Result<Value> {
    Ok(match value {
        Value::String(text) => Value::String(reference(text)?),
        Value::Array(items) => Value::Array(items.iter().map(resolved).collect::<Result<_>>()?),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), resolved(value)?)))
                .collect::<Result<_>>()?,
        ),
        other => other.clone(),
    })
}

fn missing(reference: &str, why: &str) -> Error {
    Error::config(
        "secret_missing",
        format!("the secret `{reference}` is missing: {why}"),
    )
    .hint("set it, or change the reference in the settings")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_at_any_depth_become_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\r\n").unwrap();
        let reference = format!("file:{}", file.path().display());
        let config = resolve(&json!({"a": [{"b": reference}], "plain": "x", "n": 1})).unwrap();
        assert_eq!(
            config.expose(),
            &json!({"a": [{"b": "s3cret"}], "plain": "x", "n": 1})
        );
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_missing_secret_is_named_by_its_reference_only() {
        for text in ["env:SLUICE_NO_SUCH_VARIABLE", "file:/no/such/file"] {
            let error = resolve(&json!({ "password": text })).unwrap_err();
            assert_eq!(error.code(), "secret_missing");
            assert!(error.message().contains(text));
        }
    }
}
