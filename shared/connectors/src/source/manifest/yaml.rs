//! YAML as PyYAML's safe loader reads it (YAML 1.1 scalar rules), which public manifests rely on:
//! `yes` is a boolean, `010` an octal number, an unquoted date stays text here (templates see the
//! same letters a Python date prints).
//!
//! Source of the rules: PyYAML `resolver.py` and `constructor.py`, and
//! <https://yaml.org/type/> (bool, int, float, null, merge).

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use sluice_core::{Error, Result};

/// Nesting deeper than this is refused; manifests stay under twenty.
const MAX_DEPTH: usize = 128;
/// Aliases may not blow a manifest up to more nodes than this ("billion laughs").
const MAX_NODES: usize = 1_000_000;

/// Parses one document.
///
/// # Errors
/// `manifest_yaml_invalid` with path and line.
pub fn parse(text: &str) -> Result<Value> {
    let mut loader = Loader {
        anchors: HashMap::new(),
        nodes: 0,
        place: Vec::new(),
        line: 1,
    };
    loader
        .document(&mut Parser::new_from_str(text))
        .map_err(|detail| {
            let path = match loader.place.concat() {
                path if path.is_empty() => "at the top".to_owned(),
                path => format!("at {}", path.trim_start_matches('.')),
            };
            Error::config(
                "manifest_yaml_invalid",
                format!(
                    "the manifest is not readable YAML: {detail} ({path}, line {})",
                    loader.line
                ),
            )
        })
}

/// What is wrong, without its place.
type Detail = Cow<'static, str>;
type Parsed<T> = std::result::Result<T, Detail>;
type Input<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

struct Loader {
    anchors: HashMap<usize, Value>,
    nodes: usize,
    /// Where it is: keys as `.key`, positions in lists as `[0]`.
    place: Vec<String>,
    line: usize,
}

impl Loader {
    fn document(&mut self, parser: &mut Input<'_>) -> Parsed<Value> {
        let mut document = None;
        loop {
            match self.next(parser)? {
                Event::StreamEnd => return Ok(document.unwrap_or(Value::Null)),
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event if document.is_none() => document = Some(self.node(event, parser, 0)?),
                _ => return Err("more than one document".into()),
            }
        }
    }

    fn next<'a>(&mut self, parser: &mut Input<'a>) -> Parsed<Event<'a>> {
        match parser.next() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => {
                self.line = error.marker().line();
                Err(error.info().to_owned().into())
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn node<'a>(
        &mut self,
        event: Event<'a>,
        parser: &mut Input<'a>,
        depth: usize,
    ) -> Parsed<Value> {
        if depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        self.count(1)?;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next(parser)? {
                        Event::SequenceEnd => break,
                        Event::StreamEnd => return Err("unfinished list".into()),
                        event => {
                            self.place.push(format!("[{}]", items.len()));
                            items.push(self.node(event, parser, depth + 1)?);
                            self.place.pop();
                        }
                    }
                }
                let value = Value::Array(items);
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::MappingStart(anchor, _) => {
                let value = self.mapping(parser, depth)?;
                self.remember(anchor, &value);
                Ok(value)
            }
            Event::Alias(anchor) => {
                let value = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or("an alias names an unknown anchor")?;
                self.count(size(&value))?;
                Ok(value)
            }
            _ => Err("unexpected structure".into()),
        }
    }

    fn mapping<'a>(&mut self, parser: &mut Input<'a>, depth: usize) -> Parsed<Value> {
        let mut own = Map::new();
        let mut merged = Map::new();
        loop {
            let plain_merge;
            let key = match self.next(parser)? {
                Event::MappingEnd => break,
                Event::StreamEnd => return Err("unfinished mapping".into()),
                event => {
                    plain_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
                    self.node(event, parser, depth + 1)?
                }
            };
            let key = key_text(key)?;
            self.place.push(format!(".{key}"));
            let event = self.next(parser)?;
            let value = self.node(event, parser, depth + 1)?;
            if plain_merge {
                merge(&mut merged, value)?;
            } else {
                own.insert(key, value);
            }
            self.place.pop();
        }
        // Own keys win over merged ones and keep their place behind them.
        for (key, value) in own {
            merged.insert(key, value);
        }
        Ok(Value::Object(merged))
    }

    fn remember(&mut self, anchor: usize, value: &Value) {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
    }

    fn count(&mut self, nodes: usize) -> Parsed<()> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err("too large".into());
        }
        Ok(())
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// `<<: *a` or `<<: [*a, *b]`; earlier mappings win.
fn merge(into: &mut Map<String, Value>, value: Value) -> Parsed<()> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                into.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(items) => items.into_iter().try_for_each(|item| merge(into, item)),
        _ => Err("a merge key needs a mapping".into()),
    }
}

fn key_text(key: Value) -> Parsed<String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(true) => Ok("True".into()),
        Value::Bool(false) => Ok("False".into()),
        Value::Null => Ok("None".into()),
        _ => Err("a mapping key must be a scalar".into()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "int" => int(text),
            "float" => float(text),
            "bool" => boolean(text),
            "null" => Some(Value::Null),
            _ => None,
        }
        .unwrap_or_else(|| Value::String(text.to_owned())),
        None if style == ScalarStyle::Plain => plain(text),
        _ => Value::String(text.to_owned()),
    }
}

/// The implicit types of a plain scalar.
fn plain(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    boolean(text)
        .or_else(|| int(text))
        .or_else(|| float(text))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Value::Bool(true))
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Value::Bool(false))
        }
        _ => None,
    }
}

/// `[-+]?(0b[01_]+ | 0[0-7_]+ | 0 | [1-9][0-9_]* | 0x[0-9a-fA-F_]+ | [1-9][0-9_]*(:[0-5]?[0-9])+)`
fn int(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.starts_with('_') {
        return None;
    }
    let clean: String = digits.chars().filter(|c| *c != '_').collect();
    let number = if let Some(binary) = clean.strip_prefix("0b") {
        i128::from_str_radix(unsigned(binary)?, 2).ok()?
    } else if let Some(hex) = clean.strip_prefix("0x") {
        i128::from_str_radix(unsigned(hex)?, 16).ok()?
    } else if clean == "0" {
        0
    } else if let Some(octal) = clean.strip_prefix('0') {
        i128::from_str_radix(unsigned(octal)?, 8).ok()?
    } else if clean.contains(':') {
        sexagesimal(&clean)?
    } else {
        unsigned(&clean)?.parse().ok()?
    };
    let number = if negative { -number } else { number };
    Some(match i64::try_from(number) {
        Ok(small) => Value::from(small),
        Err(_) => match u64::try_from(number) {
            Ok(large) => Value::from(large),
            // Beyond 64 bits the digits are kept as text rather than rounded.
            Err(_) => Value::String(text.to_owned()),
        },
    })
}

fn unsigned(digits: &str) -> Option<&str> {
    digits
        .starts_with(|c: char| c.is_ascii_hexdigit())
        .then_some(digits)
}

/// Base 60 as in `190:20:30`, an oddity of YAML 1.1.
fn sexagesimal(text: &str) -> Option<i128> {
    let mut total: i128 = 0;
    for (index, part) in text.split(':').enumerate() {
        let digit: i128 = unsigned(part)?.parse().ok()?;
        if index > 0 && (digit > 59 || part.len() > 2) {
            return None;
        }
        total = total.checked_mul(60)?.checked_add(digit)?;
    }
    Some(total)
}

/// Needs a dot and, with an exponent, its sign: `1e3` is text, `1.5e+3` a number.
fn float(text: &str) -> Option<Value> {
    if matches!(
        text.trim_start_matches(['-', '+']),
        ".inf" | ".Inf" | ".INF"
    ) || matches!(text, ".nan" | ".NaN" | ".NAN")
    {
        // JSON has neither; kept as text.
        return Some(Value::String(text.to_owned()));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (unsigned.get(..at)?, unsigned.get(at + 1..)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let starts_well = whole.starts_with(|c: char| c.is_ascii_digit())
        || (whole.is_empty() && fraction.starts_with(|c: char| c.is_ascii_digit()));
    let exponent_ok = exponent.is_none_or(|exponent| {
        exponent
            .strip_prefix(['-', '+'])
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
    });
    if !starts_well || !digits(whole) || !digits(fraction) || !exponent_ok {
        return None;
    }
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    Number::from_f64(clean.parse().ok()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_follow_yaml_1_1() {
        for (text, value) in [
            ("yes", json!(true)),
            ("off", json!(false)),
            ("y", json!("y")),
            ("010", json!(8)),
            ("0o10", json!("0o10")),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("190:20:30", json!(685_230)),
            ("1e3", json!("1e3")),
            ("1.5", json!(1.5)),
            ("1.5e+3", json!(1500.0)),
            ("~", json!(null)),
            ("2024-01-01", json!("2024-01-01")),
            ("09", json!("09")),
            ("-5", json!(-5)),
            ("99999999999999999999999", json!("99999999999999999999999")),
        ] {
            assert_eq!(
                parse(&format!("a: {text}")).unwrap(),
                json!({"a": value}),
                "{text}"
            );
        }
    }

    #[test]
    fn quotes_protect_and_blocks_are_text() {
        assert_eq!(
            parse("a: 'yes'\nb: \"010\"\nc: |\n  1\n").unwrap(),
            json!({"a": "yes", "b": "010", "c": "1\n"})
        );
    }

    #[test]
    fn anchors_and_merge_keys_work_and_own_keys_win() {
        let text = "base: &b {x: 1, y: 2}\nother: &o {y: 5, z: 6}\nall:\n  <<: [*b, *o]\n  x: 9\n";
        assert_eq!(parse(text).unwrap()["all"], json!({"x": 9, "y": 2, "z": 6}));
    }

    #[test]
    fn aliases_cannot_blow_it_up() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let previous = level - 1;
            text.push_str(&format!("a{level}: &a{level} ["));
            text.push_str(&vec![format!("*a{previous}"); 10].join(","));
            text.push_str("]\n");
        }
        assert_eq!(parse(&text).unwrap_err().code(), "manifest_yaml_invalid");
    }

    #[test]
    fn broken_yaml_is_an_error() {
        for text in ["a: [1", "a: {b", "a: *missing", "a: 'x"] {
            assert_eq!(
                parse(text).unwrap_err().code(),
                "manifest_yaml_invalid",
                "{text}"
            );
        }
    }
}
