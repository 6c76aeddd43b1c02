//! Checking a connection's settings against the manifest's `spec`.

use serde_json::Value;
use sluice_core::{Error, Result};

/// Every required setting must be there; texts name the setting, never its value. Defaults of the
/// spec are not applied, as in the reference runtime.
///
/// # Errors
/// `setting_missing`, `setting_type_wrong`;
/// `setting_invalid` for what breaks another rule of the spec, such as a pattern.
pub fn check(specification: &Value, config: &Value) -> Result<()> {
    check_at(specification, config, "")?;
    // A spec that is no JSON Schema says nothing more.
    let Ok(rules) = jsonschema::validator_for(specification) else {
        return Ok(());
    };
    rules.validate(config).map_err(|error| {
        let path = error.instance_path().to_string().replace('/', ".");
        // Values may be secrets.
        invalid(&path, &error.masked().to_string())
    })
}

fn invalid(path: &str, why: &str) -> Error {
    let path = path.trim_start_matches('.');
    let what = format!("the connection's setting `{path}` is refused: {why}");
    Error::config("setting_invalid", what)
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
    // Of the formats these two only: others are not looked at by the reference runtime.
    let wrong = match (schema.get("format").and_then(Value::as_str), value) {
        (Some("uri"), Value::String(text)) => url::Url::parse(text).is_err(),
        (Some("time-zone"), Value::String(text)) => text.parse::<chrono_tz::Tz>().is_err(),
        _ => false,
    };
    if wrong {
        let format = schema.get("format").and_then(Value::as_str);
        return Err(invalid(path, &format!("no {}", format.unwrap_or("value"))));
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

    #[test]
    fn patterns_and_choices_addresses_and_time_zones_are_checked() {
        let spec = json!({"type": "object", "properties": {
            "window": {"type": "string", "pattern": "^P[0-9]+[YMWD]$"}, "kind": {"enum": ["a", "b"]},
            "url": {"type": "string", "format": "uri"}, "zone": {"type": "string", "format": "time-zone"},
            "day": {"type": "string", "format": "date"}}});
        let fine = json!({"window": "P1Y", "kind": "a", "url": "http://a.test", "zone": "Europe/Bern", "day": "x"});
        assert!(check(&spec, &fine).is_err_and(|error| error.message().contains("`zone`")));
        for (name, value) in [
            ("window", "5 years"),
            ("kind", "secret"),
            ("url", "not a url"),
            ("zone", "Mars/Base"),
        ] {
            let error = check(&spec, &json!({ name: value })).unwrap_err();
            assert_eq!(error.code(), "setting_invalid");
            assert!(error.message().contains(&format!("`{name}`")), "{error:?}");
            assert!(!error.chain().contains(value), "{error:?}");
        }
        let zones =
            json!({"zone": "Europe/Zurich", "day": "x", "url": "http://a.test", "window": "P12M"});
        assert!(check(&spec, &zones).is_ok());
    }
}
