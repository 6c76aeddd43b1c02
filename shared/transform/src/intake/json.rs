//! JSON documents and lines.

use serde_json::Value;
use sluice_core::{Error, Result};

use super::{Options, malformed, too_large};

type Records<'a> = Box<dyn Iterator<Item = Result<Value>> + Send + 'a>;

pub(super) fn document<'a>(bytes: &'a [u8], options: &Options) -> Records<'a> {
    if let Some(pointer) = &options.records {
        return at_pointer(bytes, pointer);
    }
    let start = bytes.trim_ascii_start();
    match start.strip_prefix(b"[") {
        Some(items) => Box::new(Items {
            rest: items,
            position: 0,
            most: options.max_record,
            done: false,
        }),
        None => Box::new(std::iter::once(
            serde_json::from_slice(start).map_err(|error| parse_error("the document", &error)),
        )),
    }
}

fn at_pointer(bytes: &[u8], pointer: &str) -> Records<'static> {
    let mut document: Value = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) => return once(parse_error("the document", &error)),
    };
    match document.pointer_mut(pointer).map(Value::take) {
        Some(Value::Array(items)) => Box::new(items.into_iter().map(Ok)),
        Some(Value::Null) | None => once(malformed(format!("nothing is at {pointer}"))),
        Some(one) => Box::new(std::iter::once(Ok(one))),
    }
}

fn once(error: Error) -> Records<'static> {
    Box::new(std::iter::once(Err(error)))
}

/// The items of a list, one at a time; the list itself is never built.
struct Items<'a> {
    rest: &'a [u8],
    position: usize,
    most: usize,
    done: bool,
}

impl Items<'_> {
    fn advance(&mut self) -> Result<Option<Value>> {
        let mut rest = self.rest.trim_ascii_start();
        if self.position > 0 {
            rest = match rest.first() {
                Some(b',') => rest.get(1..).unwrap_or_default(),
                Some(b']') => return self.end(rest),
                _ => {
                    return Err(malformed(format!(
                        "record {}: expected , or ]",
                        self.position
                    )));
                }
            };
        } else if rest.first() == Some(&b']') {
            return self.end(rest);
        }
        self.position += 1;
        let place = format!("record {}", self.position);
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                if length > self.most {
                    return Err(too_large(place, self.most));
                }
                self.rest = rest.get(length..).unwrap_or_default();
                Ok(Some(value))
            }
            Some(Err(error)) => Err(parse_error(&place, &error)),
            None => Err(malformed(format!("{place}: the document ends here"))),
        }
    }

    fn end(&mut self, rest: &[u8]) -> Result<Option<Value>> {
        let after = rest.get(1..).unwrap_or_default();
        if after.trim_ascii().is_empty() {
            Ok(None)
        } else {
            Err(malformed("there is something after the list"))
        }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        // Where a list breaks, nothing tells where the next item begins.
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

pub(super) fn lines(bytes: &[u8], most: usize) -> impl Iterator<Item = Result<Value>> + Send + '_ {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(move |(index, line)| {
            let place = format!("line {}", index + 1);
            if line.len() > most {
                return Err(too_large(place, most));
            }
            serde_json::from_slice(line).map_err(|error| parse_error(&place, &error))
        })
}

/// Where and of which kind, without the parser's words, which may quote the data.
fn parse_error(place: &str, error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        _ => "is no JSON",
    };
    malformed(format!(
        "{place} {what} (line {}, column {})",
        error.line(),
        error.column()
    ))
}
