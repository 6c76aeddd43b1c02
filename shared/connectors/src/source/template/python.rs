//! How Python prints values: `True`, `None`, `2.0`, `['a', 1]`, `{'a': 1}`.

use minijinja::value::{Value as Jinja, ValueKind};
use serde_json::Value;

/// `str(value)`.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(value) => out.push_str(&float(value)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(text) => quoted(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                quoted(key, out);
                out.push_str(": ");
                write_repr(item, out);
            }
            out.push('}');
        }
    }
}

/// `json.dumps(value)`: blanks behind commas and colons, letters beyond ASCII escaped.
pub fn json(value: &Value, sort_keys: bool) -> String {
    let mut out = String::new();
    write_json(value, sort_keys, &mut out);
    out
}

fn write_json(value: &Value, sort_keys: bool, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(_) => write_repr(value, out),
        Value::String(text) => json_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_json(item, sort_keys, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if sort_keys {
                entries.sort_by_key(|(key, _)| key.as_str());
            }
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                json_text(key, out);
                out.push_str(": ");
                write_json(item, sort_keys, out);
            }
            out.push('}');
        }
    }
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// A mapping key as text: JSON has no others. `None` for lists and mappings, which Python refuses.
pub fn key(value: &Value) -> Option<String> {
    match value {
        Value::Array(_) | Value::Object(_) => None,
        other => Some(text(other)),
    }
}

/// Python's `repr(float)`: shortest digits, exponent from 1e16 on and below 1e-4.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{value:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let plain = value.to_string();
    if plain.contains('.') {
        plain
    } else {
        format!("{plain}.0")
    }
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `str(value)` of a template value. Undefined prints as nothing.
pub fn jinja_text(value: &Jinja) -> String {
    let mut out = String::new();
    write_jinja_text(value, &mut out);
    out
}

/// The same, behind other text.
pub fn write_jinja_text(value: &Jinja, out: &mut String) {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::String => out.push_str(value.as_str().unwrap_or_default()),
        ValueKind::Plain => out.push_str(&value.to_string()),
        _ => match to_json(value) {
            Value::String(text) => out.push_str(&text),
            other => write_repr(&other, out),
        },
    }
}

/// A template value as JSON. Undefined becomes null; objects such as dates become their text.
pub fn to_json(value: &Jinja) -> Value {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number => number(value),
        ValueKind::String => Value::String(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => value.try_iter().map_or(Value::Null, |items| {
            Value::Array(items.map(|item| to_json(&item)).collect())
        }),
        ValueKind::Map => value.try_iter().map_or(Value::Null, |keys| {
            Value::Object(
                keys.map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    (jinja_text(&key), to_json(&item))
                })
                .collect(),
            )
        }),
        _ => Value::String(value.to_string()),
    }
}

fn number(value: &Jinja) -> Value {
    if value.is_integer() {
        if let Some(small) = value.as_i64() {
            return Value::from(small);
        }
        if let Ok(large) = u64::try_from(value.clone()) {
            return Value::from(large);
        }
        return Value::String(value.to_string());
    }
    f64::try_from(value.clone())
        .ok()
        .and_then(serde_json::Number::from_f64)
        .map_or_else(|| Value::String(value.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_python_prints_them() {
        for (value, printed) in [
            (json!(true), "True"),
            (json!(null), "None"),
            (json!(2.0), "2.0"),
            (json!(1e5), "100000.0"),
            (json!(1e16), "1e+16"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(["a", 1]), "['a', 1]"),
            (json!({"a": 1, "b": "it's"}), "{'a': 1, 'b': \"it's\"}"),
            (json!("plain"), "plain"),
        ] {
            assert_eq!(text(&value), printed);
        }
    }
}
