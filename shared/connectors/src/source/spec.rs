//! Checking a connection's settings against the manifest's `spec`.

use serde_json::Value;
use sluice_core::{Error, Result};

/// Every required setting must be there; texts name the setting, never its value. Defaults of the
/// spec are not applied, as in the reference runtime.
///
/// # Errors
/// `setting_missing`, `setting_type_wrong`.
pub fn check(specification: &Value, config: &Value) -> Result<()> {
    check_at(specification, config, "")
}

fn check_at(schema: &Value, value: &Value, path: &str) -> Result<()> {
    if let Some(expected) = schema.get("type")
        && !fits(expected, value)
    {
        return Err(Error::config(
            "setting_type_wrong",
            format!(
                "the connection's setting `{}` must be of type {expected}",
                path.trim_start_matches('.')
            ),
        ));
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return Err(Error::config(
                "setting_missing",
                format!(
                    "the connection's setting `{}` is missing",
                    format!("{path}.{name}").trim_start_matches('.')
                ),
            ));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, inner) in properties.into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check_at(inner, value, &format!("{path}.{name}"))?;
        }
    }
    Ok(())
}

fn fits(expected: &Value, value: &Value) -> bool {
    match expected {
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => true,
        },
        Value::Array(several) => several.iter().any(|one| fits(one, value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_settings_are_named_and_values_never_shown() {
        let spec = json!({"type": "object", "required": ["url", "login"], "properties": {
            "url": {"type": "string"}, "login": {"type": "object", "required": ["password"], "properties": {"password": {"type": "string"}}}}});
        assert!(check(&spec, &json!({"url": "x", "login": {"password": "y"}})).is_ok());
        let error = check(&spec, &json!({"url": "x", "login": {}})).unwrap_err();
        assert_eq!(error.code(), "setting_missing");
        assert!(error.message().contains("`login.password`"));
        let error = check(&spec, &json!({"url": "x", "login": {"password": 12345}})).unwrap_err();
        assert_eq!(error.code(), "setting_type_wrong");
        assert!(!error.chain().contains("12345"));
    }
}
