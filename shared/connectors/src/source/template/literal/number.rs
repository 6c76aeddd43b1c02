//! Numbers.

use serde_json::{Number, Value};

use super::Reader;

impl Reader<'_> {
    /// `literal_eval` takes one sign in front of a number.
    pub(super) fn signed_number(&mut self) -> Option<Value> {
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
