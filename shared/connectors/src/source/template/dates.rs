//! `date + duration('P1D')`: the template engine has no arithmetic on dates, so a sum or difference
//! with a duration is rewritten as a filter before it is compiled.
//!
//! Filters bind tighter than `+` and `-`; since a date stands on the left of them, and chains go from
//! left to right, the meaning stays.

use minijinja::{Environment, Error, ErrorKind, value::Value};

use super::moment::DateValue;
use crate::source::time::Duration;

const PLUS: &str = "__plus_duration";
const MINUS: &str = "__minus_duration";

pub(super) fn add(env: &mut Environment<'_>) {
    // By itself a duration is its text; in sums it is rewritten.
    env.add_function("duration", |text: &str| {
        Duration::parse(text)
            .map(|duration| duration.python_text())
            .ok_or_else(|| Error::new(ErrorKind::SyntaxError, "not an ISO duration"))
    });
    env.add_filter(PLUS, |date: Value, text: &str| moved(&date, text, false));
    env.add_filter(MINUS, |date: Value, text: &str| moved(&date, text, true));
}

fn moved(date: &Value, text: &str, back: bool) -> Result<Value, Error> {
    if date.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    // Python's type error, after which the template's text is the value.
    let date = date
        .downcast_object_ref::<DateValue>()
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a duration moves dates only"))?;
    let invalid = |detail: &'static str| Error::new(ErrorKind::SyntaxError, detail);
    let duration = Duration::parse(text).ok_or_else(|| invalid("not an ISO duration"))?;
    let duration = if back { duration.negated() } else { duration };
    let moment = duration
        .after(date.moment)
        .ok_or_else(|| invalid("outside the calendar"))?;
    Ok(if date.date_only {
        DateValue::date(moment)
    } else {
        DateValue::value(moment)
    })
}

/// The source with every `+ duration(` and `- duration(` inside `{{ }}` and `{% %}` as a filter.
pub(super) fn rewrite(source: &str) -> String {
    if !source.contains("duration") {
        return source.to_owned();
    }
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    let mut inside = false;
    let mut quote = None;
    while let Some(c) = rest.chars().next() {
        let opens = rest.starts_with("{{") || rest.starts_with("{%");
        let closes = rest.starts_with("}}") || rest.starts_with("%}");
        let (done, replacement) = match quote {
            Some(open) => {
                let escaped = c == '\\' && rest.len() > 1;
                let taken = if escaped {
                    1 + rest.chars().nth(1).map_or(0, char::len_utf8)
                } else {
                    c.len_utf8()
                };
                if !escaped && c == open {
                    quote = None;
                }
                (taken, None)
            }
            None if !inside && opens => {
                inside = true;
                // `{{-` trims white space; its sign is no operator.
                let trims = rest.get(2..3).is_some_and(|sign| matches!(sign, "-" | "+"));
                (if trims { 3 } else { 2 }, None)
            }
            None if inside && closes => {
                inside = false;
                (2, None)
            }
            None if inside && matches!(c, '\'' | '"') => {
                quote = Some(c);
                (1, None)
            }
            None if inside && matches!(c, '+' | '-') => match before_call(rest) {
                Some(taken) => {
                    let filter = if c == '+' { PLUS } else { MINUS };
                    (taken, Some(format!("| {filter}")))
                }
                None => (1, None),
            },
            None => (c.len_utf8(), None),
        };
        match replacement {
            Some(text) => out.push_str(&text),
            None => out.push_str(rest.get(..done).unwrap_or_default()),
        }
        rest = rest.get(done..).unwrap_or_default();
    }
    out
}

/// The length of `+ duration` when a call follows.
fn before_call(text: &str) -> Option<usize> {
    let after_sign = text.get(1..)?;
    let name = after_sign.trim_start();
    let call = name.strip_prefix("duration")?;
    call.trim_start()
        .starts_with('(')
        .then(|| text.len() - call.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_operators_in_front_of_the_call_are_rewritten() {
        for (source, rewritten) in [
            (
                "{{ now_utc() - duration('P1D') + duration ('PT1H') }} - duration('x')",
                "{{ now_utc() | __minus_duration('P1D') | __plus_duration ('PT1H') }} - duration('x')",
            ),
            ("{{- duration('P1D') }}", "{{- duration('P1D') }}"),
            (
                "{{ 'a - duration(1)' ~ \"it's + duration(2)\" }}",
                "{{ 'a - duration(1)' ~ \"it's + duration(2)\" }}",
            ),
            ("{{ a - durations(1) }}", "{{ a - durations(1) }}"),
        ] {
            assert_eq!(rewrite(source), rewritten);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_rewritten_without_panic(text in "[-+{}% '\"\\\\a(ü)]{0,20}(duration\\()?[-+{}% '\"\\\\a(ü)]{0,20}") {
            let _ = rewrite(&text);
        }
    }
}
