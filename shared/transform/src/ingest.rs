//! Text that no store should have to carry.

use serde_json::Value;

/// Removes NUL, which PostgreSQL cannot hold, from every text and key of a value, and returns how
/// many were changed. Lone surrogates cannot occur here: decoding JSON refuses them, and a Rust
/// text cannot hold them.
pub fn check_text(value: &mut Value) -> usize {
    match value {
        Value::String(text) if text.contains('\0') => {
            *text = text.replace('\0', "");
            1
        }
        Value::Array(items) => items.iter_mut().map(check_text).sum(),
        Value::Object(fields) => {
            let inside = fields.values_mut().map(check_text).sum();
            if !fields.keys().any(|name| name.contains('\0')) {
                return inside;
            }
            let mut changed = 0;
            *fields = std::mem::take(fields)
                .into_iter()
                .map(|(name, value)| {
                    changed += usize::from(name.contains('\0'));
                    (name.replace('\0', ""), value)
                })
                .collect();
            inside + changed
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_is_removed_from_texts_and_keys_at_any_depth() {
        let mut value = json!({"a\u{0}": ["x\u{0}y", {"b": "\u{0}"}], "c": "fine"});
        assert_eq!(check_text(&mut value), 3);
        assert_eq!(value, json!({"a": ["xy", {"b": ""}], "c": "fine"}));
        assert_eq!(check_text(&mut value), 0);
    }

    #[test]
    fn lone_surrogates_are_refused_by_the_decoder() {
        assert!(serde_json::from_str::<Value>(r#""\ud800""#).is_err());
    }
}
