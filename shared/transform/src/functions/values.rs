//! Texts, lists, flags and numbers as vendors write them.

use vrl::value::Value;

use crate::convert::text_of;

/// The key XML decoding gives to text beside attributes.
const XML_TEXT: &str = "#text";

pub(super) fn text(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Object(fields) => {
            return text(fields.get(XML_TEXT).filter(|inner| !inner.is_object()));
        }
        other => text_of(other)?,
    };
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| {
        if trimmed.len() == text.len() {
            text.clone()
        } else {
            trimmed.to_owned()
        }
    })
}

pub(super) fn many(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Array(Vec::new()),
        Some(list @ Value::Array(_)) => list.clone(),
        Some(one) => Value::Array(vec![one.clone()]),
    }
}

pub(super) fn flag(value: Option<&Value>) -> Option<bool> {
    if let Some(Value::Boolean(flag)) = value {
        return Some(*flag);
    }
    match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "-1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn number(value: Option<&Value>) -> Value {
    /// Above this, floats have gaps between whole numbers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some(text) = text(value) else {
        return Value::Null;
    };
    let plain = text.replace(',', "");
    // Rust also reads "inf" and "nan", which are no numbers to anyone here.
    if !plain.bytes().any(|byte| byte.is_ascii_digit()) {
        return Value::Null;
    }
    if let Ok(integer) = plain.parse::<i64>() {
        return Value::Integer(integer);
    }
    match plain.parse::<f64>() {
        Ok(float) if float.fract() == 0.0 && float.abs() < EXACT => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number below 2^53 fits exactly"
            )]
            let integer = float as i64;
            Value::Integer(integer)
        }
        Ok(float) if float.is_finite() => Value::from_f64_or_zero(float),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::from_json;
    use serde_json::json;

    #[test]
    fn texts_are_trimmed_and_found_in_xml_elements() {
        for (input, expected) in [
            (json!("  a b "), Some("a b")),
            (json!(""), None),
            (json!(" \t"), None),
            (json!(7), Some("7")),
            (json!({"@Type": "x", "#text": " t1 "}), Some("t1")),
            (json!({"#text": {"#text": "deep"}}), None),
            (json!(["a"]), None),
            (json!(null), None),
        ] {
            assert_eq!(
                text(Some(&from_json(&input))).as_deref(),
                expected,
                "{input}"
            );
        }
    }

    #[test]
    fn flags_and_numbers_are_read_in_all_spellings() {
        for (input, expected) in [
            ("true", Some(true)),
            ("True", Some(true)),
            ("F", Some(false)),
            ("maybe", None),
        ] {
            assert_eq!(flag(Some(&Value::from(input))), expected, "{input}");
        }
        for (input, expected) in [
            ("1.00", json!(1)),
            ("1,340.50", json!(1340.5)),
            ("nan", json!(null)),
            ("1e999", json!(null)),
            ("12 rooms", json!(null)),
            ("-3", json!(-3)),
        ] {
            assert_eq!(
                number(Some(&Value::from(input))),
                from_json(&expected),
                "{input}"
            );
        }
    }
}
