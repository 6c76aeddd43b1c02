//! Reading text as a Python literal, which is what the manifest format does to every evaluated
//! string: `123` becomes a number, `'x'` loses its quotes, `00123` stays text.
//!
//! Source: Python's `ast.literal_eval` and the observed rules of the manifest format.

mod number;
mod strings;

use serde_json::{Map, Value};

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
    let text = code(text)?;
    // Most evaluated texts are words or documents; this looks at one character.
    let first = text.chars().next()?;
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
    let mut reader = Reader {
        rest: text,
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

/// What Python would read: blanks before it and empty lines above it count for nothing, but a line
/// below empty ones must not be indented.
fn code(text: &str) -> Option<&str> {
    let start = text.trim_start_matches([' ', '\t']);
    let code = start.trim_start_matches([' ', '\t', '\n', '\r']);
    let above = start.strip_suffix(code)?;
    (above.is_empty() || above.ends_with('\n')).then_some(code)
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
}

#[cfg(test)]
mod tests;
