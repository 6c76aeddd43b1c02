//! Strings.

use serde_json::Value;

use super::Reader;

impl Reader<'_> {
    /// One or more adjacent string literals.
    pub(super) fn strings(&mut self) -> Option<Value> {
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
