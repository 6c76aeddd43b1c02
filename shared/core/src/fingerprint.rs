//! Content hashes: SHA-256 over canonical JSON (RFC 8785), as 64 lower-case hex digits.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A SHA-256 hash, shown and stored as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a JSON value, equal for any order of keys and any white space (RFC 8785).
    pub fn of_json(value: &Value) -> Self {
        Self::of_bytes(canonical_json(value).as_bytes())
    }

    /// The hash of a value's JSON as it is written: for telling whether something repeats itself,
    /// at less cost than [`Hash::of_json`], which any order of keys leaves the same.
    pub fn of_text(value: &impl Serialize) -> Self {
        let mut digest = Digesting(Sha256::new());
        // Only values without a JSON form are refused; they have the hash of what came before.
        let _ = serde_json::to_writer(&mut digest, value);
        Self(digest.0.finalize().into())
    }

    /// The hash of bytes as they are.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hex digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// Hashes what is written to it.
struct Digesting(Sha256);

impl std::io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("expected 64 hex digits"))
    }
}

/// The canonical text of a JSON value (RFC 8785): keys sorted by UTF-16 units, shortest numbers,
/// no white space.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::with_capacity(1024);
    write_canonical(value, &mut text);
    text
}

/// Appends the canonical text of a value. Every record is hashed twice, so this copies nothing but
/// the text.
pub(crate) fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match number.as_i64().filter(|it| it.abs_diff(0) <= EXACT) {
            Some(integer) => out.push_str(&integer.to_string()),
            // Doubles have a text of their own there. A finite number is never refused.
            None => out.push_str(
                &serde_json_canonicalizer::to_string(number).unwrap_or_else(|_| number.to_string()),
            ),
        },
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by(|(one, _), (other, _)| in_utf16_order(one, other));
            out.push('{');
            for (place, (name, value)) in fields.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
    }
}

/// Largest integer up to which every one is a double (RFC 8785 knows only doubles).
const EXACT: u64 = 1 << 53;

/// Bytes of UTF-8 sort like UTF-16 units, except that surrogate pairs come before U+E000 and up.
fn in_utf16_order(one: &str, other: &str) -> std::cmp::Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    one.encode_utf16().cmp(other.encode_utf16())
}

pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (place, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x09 => "\\t",
            0x0a => "\\n",
            0x0c => "\\f",
            0x0d => "\\r",
            0..0x20 => "",
            _ => continue,
        };
        // Escaped bytes are ASCII, so both ends lie between characters.
        out.push_str(text.get(plain..place).unwrap_or_default());
        plain = place + 1;
        match short {
            "" => out.push_str(&format!("\\u{byte:04x}")),
            short => out.push_str(short),
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-9_i64..9).prop_map(|near| Value::from((1 << 53) + near)),
            (-9_i64..9).prop_map(|near| Value::from(near - (1 << 53))),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x24\\x5c\\x7f\u{20ac}]{0,6}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            "[a-z]{0,4}",
            "[a\u{e9}\u{ffff}\u{e000}\u{1f600}\"\\x01]{0,3}"
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| {
                    fields.into_iter().collect::<serde_json::Map<_, _>>().into()
                }),
            ]
        })
    }

    proptest! {
        /// Another program's canonical form is the same.
        #[test]
        fn canonical_json_is_what_others_make(value in any_json()) {
            let theirs = serde_json_canonicalizer::to_string(&value).unwrap();
            prop_assert_eq!(canonical_json(&value), theirs);
        }
    }

    /// RFC 8785 section 3.2.2 and 3.2.3: literals, numbers, escapes and key order.
    #[test]
    fn canonical_json_matches_the_rfc_example() {
        let input = r#"{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }"#;
        let value: Value = serde_json::from_str(input).unwrap();
        assert_eq!(
            canonical_json(&value),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    /// RFC 8785 section 3.2.3: keys are sorted by UTF-16 code units.
    #[test]
    fn keys_sort_by_utf16_units() {
        let input = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let value: Value = serde_json::from_str(input).unwrap();
        let text = canonical_json(&value);
        let order = [
            "Carriage Return",
            "One",
            "Control",
            "Latin",
            "Euro",
            "Emoji",
            "Hebrew",
        ]
        .map(|word| text.find(word).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    /// RFC 8785 appendix B: IEEE 754 doubles and their texts.
    #[test]
    fn numbers_match_the_rfc_table() {
        for (bits, text) in [
            (0x0000000000000000_u64, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ] {
            let value = serde_json::json!(f64::from_bits(bits));
            assert_eq!(canonical_json(&value), text, "{bits:#x}");
        }
    }

    #[test]
    fn a_hash_is_64_hex_digits_and_survives_a_round_trip() {
        let hash = Hash::of_json(&serde_json::json!({"b": 1, "a": 2}));
        assert_eq!(hash, Hash::of_json(&serde_json::json!({"a": 2, "b": 1})));
        assert_eq!(hash.to_hex().len(), 64);
        assert_eq!(Hash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(Hash::from_hex("abc"), None);
        let text = serde_json::json!({"b": 1, "a": [2, "x"]});
        assert_eq!(
            Hash::of_text(&text),
            Hash::of_bytes(text.to_string().as_bytes())
        );
        // SHA-256 of the empty string, FIPS 180-4.
        assert_eq!(
            Hash::of_bytes(b"").to_hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
