//! Reading text as a Python literal, which is what the manifest format does to every evaluated
//! string: `123` becomes a number, `'x'` loses its quotes, `00123` stays text.
//!
//! Source: Python's `ast.literal_eval` and the observed rules of the manifest format.

use serde_json::{Map, Number, Value};

/// Nesting deeper than this is no literal.
const MAX_DEPTH: usize = 64;

/// What a text stands for.
#[derive(Debug)]
pub struct Literal {
    pub value: Value,
    /// A tuple such as `1,2`, whose value is a list; fields that take lists do not take tuples.
    pub is_tuple: bool,
}

/// The value a text stands for, or `None` when it is no Python literal (the text itself is meant).
/// Sets, bytes, complex numbers, `...` and integers beyond 64 bits count as text.
pub fn read(text: &str) -> Option<Value> {
    read_typed(text).map(|literal| literal.value)
}

/// The same with what JSON does not tell.
pub fn read_typed(text: &str) -> Option<Literal> {
    // Most evaluated texts are words or documents; this looks at one character.
    let first = text.trim_start_matches([' ', '\t']).chars().next()?;
    if !(first.is_ascii_digit()
        || matches!(
            first,
            '\'' | '"'
                | '['
                | '('
                | '{'
                | '-'
                | '+'
                | '.'
                | 'T'
                | 'F'
                | 'N'
                | 'r'
                | 'R'
                | 'u'
                | 'U'
        ))
    {
        return None;
    }
    // Python takes leading blanks from the source, but not other white space.
    let mut reader = Reader {
        rest: text.trim_start_matches([' ', '\t']),
        brackets: 0,
        is_tuple: false,
    };
    let value = reader.tuple_or_value()?;
    reader.blank();
    // A newline or a comment may follow.
    let rest = reader.rest.trim_start();
    let complete = rest.is_empty() || (rest.starts_with('#') && !rest.contains('\n'));
    complete.then_some(Literal {
        value,
        is_tuple: reader.is_tuple,
    })
}

struct Reader<'a> {
    rest: &'a str,
    brackets: usize,
    /// The value read last is a tuple.
    is_tuple: bool,
}

impl Reader<'_> {
    /// Blanks; inside brackets, newlines too.
    fn blank(&mut self) {
        self.rest = if self.brackets > 0 {
            self.rest
                .trim_start_matches([' ', '\t', '\n', '\r', '\x0c'])
        } else {
            self.rest.trim_start_matches([' ', '\t', '\x0c'])
        };
    }

    fn eat(&mut self, token: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// `1,2` without parentheses is a tuple.
    fn tuple_or_value(&mut self) -> Option<Value> {
        let first = self.value()?;
        if !self.eat(",") {
            return Some(first);
        }
        let mut items = vec![first];
        loop {
            self.blank();
            let over = self.rest.is_empty() || self.rest.starts_with(['\n', '#']);
            if !over {
                items.push(self.value()?);
            }
            if over || !self.eat(",") {
                self.is_tuple = true;
                return Some(Value::Array(items));
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.blank();
        let mut is_tuple = false;
        let value = match self.rest.chars().next()? {
            '[' => self.list("[", "]").map(|(items, _)| Value::Array(items)),
            '(' => {
                let (mut items, comma) = self.list("(", ")")?;
                // `(1)` is 1, `()` and `(1,)` are tuples.
                if items.len() == 1 && !comma {
                    is_tuple = self.is_tuple;
                    items.pop()
                } else {
                    is_tuple = true;
                    Some(Value::Array(items))
                }
            }
            '{' => self.mapping(),
            '-' | '+' | '.' | '0'..='9' => self.signed_number(),
            '\'' | '"' | 'r' | 'R' | 'u' | 'U' => self.strings(),
            _ => self.word(),
        };
        self.is_tuple = is_tuple;
        value
    }

    fn enter(&mut self) -> Option<()> {
        self.brackets += 1;
        (self.brackets <= MAX_DEPTH).then_some(())
    }

    fn list(&mut self, open: &str, close: &str) -> Option<(Vec<Value>, bool)> {
        self.enter()?;
        self.eat(open);
        let mut items = Vec::new();
        let mut comma = false;
        while !self.eat(close) {
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value()?);
            comma = self.eat(",");
        }
        self.brackets -= 1;
        Some((items, comma))
    }

    fn mapping(&mut self) -> Option<Value> {
        self.enter()?;
        self.eat("{");
        let mut map = Map::new();
        let mut comma = true;
        while !self.eat("}") {
            if !comma {
                return None;
            }
            let key = self.value()?;
            if !self.eat(":") {
                return None;
            }
            let value = self.value()?;
            map.insert(super::python::key(&key)?, value);
            comma = self.eat(",");
        }
        self.brackets -= 1;
        Some(Value::Object(map))
    }

    fn word(&mut self) -> Option<Value> {
        for (word, value) in [
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("None", Value::Null),
        ] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                    return None;
                }
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    /// `literal_eval` takes one sign in front of a number.
    fn signed_number(&mut self) -> Option<Value> {
        let negative = self.rest.starts_with('-');
        if let Some(rest) = self.rest.strip_prefix(['-', '+']) {
            self.rest = rest;
            self.blank();
        }
        let end = self.number_end();
        let digits = self.rest.get(..end)?;
        let number = number(digits, negative)?;
        self.rest = self.rest.get(end..)?;
        Some(number)
    }

    /// The end of the longest run that could belong to a number.
    fn number_end(&self) -> usize {
        let mut previous = ' ';
        let hexadecimal = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        for (at, c) in self.rest.char_indices() {
            let sign_of_exponent =
                matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !hexadecimal;
            if !(c.is_alphanumeric() || matches!(c, '_' | '.') || sign_of_exponent) {
                return at;
            }
            previous = c;
        }
        self.rest.len()
    }

    /// One or more adjacent string literals.
    fn strings(&mut self) -> Option<Value> {
        let mut text = String::new();
        let mut any = false;
        loop {
            self.blank();
            let raw = match self.rest.as_bytes() {
                [b'\'' | b'"', ..] => false,
                [b'r' | b'R', b'\'' | b'"', ..] => {
                    self.rest = self.rest.get(1..)?;
                    true
                }
                [b'u' | b'U', b'\'' | b'"', ..] => {
                    self.rest = self.rest.get(1..)?;
                    false
                }
                _ => return any.then_some(Value::String(text)),
            };
            self.string(raw, &mut text)?;
            any = true;
        }
    }

    fn string(&mut self, raw: bool, text: &mut String) -> Option<()> {
        let quote = self.rest.chars().next()?;
        let triple = [quote; 3].iter().collect::<String>();
        let (long, close) = if self.rest.starts_with(&triple) {
            (true, triple)
        } else {
            (false, quote.to_string())
        };
        self.rest = self.rest.get(close.len()..)?;
        loop {
            if let Some(rest) = self.rest.strip_prefix(close.as_str()) {
                self.rest = rest;
                return Some(());
            }
            let c = self.rest.chars().next()?;
            self.rest = self.rest.get(c.len_utf8()..)?;
            match c {
                '\n' if !long => return None,
                '\\' if raw => {
                    text.push('\\');
                    let next = self.rest.chars().next()?;
                    text.push(next);
                    self.rest = self.rest.get(next.len_utf8()..)?;
                }
                '\\' => self.escape(text)?,
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        match c {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(c),
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\x0b'),
            'x' => self.code_point(2, text)?,
            'u' => self.code_point(4, text)?,
            'U' => self.code_point(8, text)?,
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    code = code * 8 + digit;
                    self.rest = self.rest.get(1..)?;
                }
                text.push(char::from_u32(code)?);
            }
            // Python keeps unknown escapes as they are. `\N{…}` names are refused.
            'N' => return None,
            other => {
                text.push('\\');
                text.push(other);
            }
        }
        Some(())
    }

    fn code_point(&mut self, digits: usize, text: &mut String) -> Option<()> {
        let hex = self.rest.get(..digits)?;
        if !hex.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        text.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
        self.rest = self.rest.get(digits..)?;
        Some(())
    }
}

/// An integer or float without its sign.
fn number(digits: &str, negative: bool) -> Option<Value> {
    let lower = digits.to_ascii_lowercase();
    if !underscores_between_digits(&lower) {
        return None;
    }
    let clean: String = lower.chars().filter(|c| *c != '_').collect();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(rest) = clean.strip_prefix(prefix) {
            return integer(u128::from_str_radix(rest, radix).ok()?, negative);
        }
    }
    if clean.chars().all(|c| c.is_ascii_digit()) {
        // `007` is refused, `000` is zero.
        if clean.len() > 1 && clean.starts_with('0') && clean.chars().any(|c| c != '0') {
            return None;
        }
        return integer(clean.parse().ok()?, negative);
    }
    let (mantissa, exponent) = clean.split_once('e').unwrap_or((&clean, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let exponent_digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if !all_digits(whole)
        || !all_digits(fraction)
        || (whole.is_empty() && fraction.is_empty())
        || exponent_digits.is_empty()
        || !all_digits(exponent_digits)
    {
        return None;
    }
    let value: f64 = clean.parse().ok()?;
    Number::from_f64(if negative { -value } else { value }).map(Value::Number)
}

fn underscores_between_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |byte: &u8| match bytes {
        [b'0', b'x', ..] => byte.is_ascii_hexdigit(),
        _ => byte.is_ascii_digit(),
    };
    bytes.iter().enumerate().all(|(at, byte)| {
        *byte != b'_'
            || (at > 0
                && bytes
                    .get(at - 1)
                    // `0x_1` is allowed too.
                    .is_some_and(|b| digit(b) || (at == 2 && matches!(b, b'x' | b'o' | b'b')))
                && bytes.get(at + 1).is_some_and(digit))
    })
}

fn integer(magnitude: u128, negative: bool) -> Option<Value> {
    if negative {
        let value = -(i128::try_from(magnitude).ok()?);
        return i64::try_from(value).ok().map(Value::from);
    }
    u64::try_from(magnitude).ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_become_values() {
        for (text, value) in [
            ("123", json!(123)),
            ("-5", json!(-5)),
            ("+5", json!(5)),
            (" 5", json!(5)),
            ("1_000", json!(1000)),
            ("0x10", json!(16)),
            ("0b1", json!(1)),
            ("0o7", json!(7)),
            ("1e5", json!(1e5)),
            ("1.0", json!(1.0)),
            ("2.", json!(2.0)),
            (".5", json!(0.5)),
            ("000", json!(0)),
            ("True", json!(true)),
            ("False", json!(false)),
            ("None", json!(null)),
            ("1,2", json!([1, 2])),
            ("(1,2)", json!([1, 2])),
            ("(1)", json!(1)),
            ("()", json!([])),
            ("1,", json!([1])),
            ("'x'", json!("x")),
            ("\"x\"", json!("x")),
            ("'a' 'b'", json!("ab")),
            ("'it\\'s\\n'", json!("it's\n")),
            ("r'\\d'", json!("\\d")),
            ("[1, 'a', None]", json!([1, "a", null])),
            ("{\"a\": 1}", json!({"a": 1})),
            ("{'a': True, 1: [2]}", json!({"a": true, "1": [2]})),
            ("'''a\nb'''", json!("a\nb")),
            ("[\n1,\n]", json!([1])),
        ] {
            assert_eq!(read(text), Some(value), "{text}");
        }
    }

    #[test]
    fn everything_else_stays_text() {
        for text in [
            "00123",
            "1.0.0",
            "10.0.0.1",
            "2024-10-11",
            "true",
            "null",
            "nan",
            "inf",
            "{\"a\": true}",
            "1j",
            "...",
            "b'a'",
            "{1,2}",
            "",
            " ",
            "abc",
            "a,b",
            "[1",
            "'x",
            "1_",
            "_1",
            "1__0",
            "1 2",
            "[1 2]",
            "99999999999999999999999",
            "{'a'}",
            "Trueish",
            "1e",
            "0x",
            "- ",
            "--5",
            "1_e5",
            "1e_5",
            "2024-01-01T00:00:00Z",
            "<a/>",
            "#",
            "'a' + 'b'",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_no_literal() {
        assert_eq!(read(&"[".repeat(100_000)), None);
        assert_eq!(
            read(&format!("{}{}", "[".repeat(500), "]".repeat(500))),
            None
        );
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e15_f64..1e15).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                proptest::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What Python's `repr` writes, the literal reader reads back.
        #[test]
        fn printed_values_are_read_back(value in json_value()) {
            prop_assert_eq!(read(&super::super::python::repr(&value)), Some(value));
        }

        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = read(&text);
        }

        #[test]
        fn texts_of_literal_characters_are_read_without_panic(text in "[-+0-9a-fxoe_.,'\"\\[\\](){}: TrueNon\\\\]{0,40}") {
            let _ = read(&text);
        }
    }
}
