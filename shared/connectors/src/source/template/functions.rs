//! Macros and filters of the manifest format.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use fancy_regex::Regex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use minijinja::{
    Environment, Error, ErrorKind, State,
    value::{Kwargs, Rest, Value, ValueKind},
};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::{moment::DateValue, numbers, python};
use crate::source::time::{self, Duration, Moment};

/// Hidden name of the run's time, so that "now" can be handed in.
pub const NOW: &str = "__now";

/// What Python calls a value error: it fails the template. Texts must hold no values.
fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::CannotDeserialize, detail)
}

/// What Python calls a type error: the template's text is the value.
fn mismatch(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

fn now(state: &State<'_, '_>) -> Moment {
    state
        .lookup(NOW)
        .and_then(|value| value.downcast_object_ref::<DateValue>().map(|d| d.moment))
        .unwrap_or_else(|| time::utc(Utc::now()))
}

/// The value of [`NOW`] in a scope.
pub fn now_value(moment: Moment) -> Value {
    DateValue::value(moment)
}

pub(super) fn add(env: &mut Environment<'_>) {
    add_time(env);
    add_text(env);
    numbers::add(env);
    env.add_function("max", |items: Rest<Value>| extreme(items, true));
    env.add_function("min", |items: Rest<Value>| extreme(items, false));
    env.add_filter("wordcount", |text: &str| {
        // Python's `\w+`.
        text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .count()
    });
    env.add_filter("truncate", truncate);
    env.add_filter("forceescape", |text: Value| {
        minijinja::HtmlEscape(&python::jinja_text(&text)).to_string()
    });
    env.add_function("generate_uuid", || uuid::Uuid::new_v4().to_string());
}

/// As Jinja does: a little too long is left as it is.
fn truncate(text: &str, given: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let option = |index: usize, name: &'static str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(given.get(index).cloned().or(named))
    };
    let number = |value: Option<Value>, default: usize| {
        value.map_or(Some(default), |value| value.as_usize())
    };
    let wrong = || mismatch("a length is a number");
    let length = number(option(0, "length")?, 255).ok_or_else(wrong)?;
    let anywhere = option(1, "killwords")?.is_some_and(|value| value.is_true());
    let end = option(2, "end")?.map_or_else(|| "...".to_owned(), |end| python::jinja_text(&end));
    let leeway = number(option(3, "leeway")?, 5).ok_or_else(wrong)?;
    options.assert_all_used()?;
    let size = end.chars().count();
    if length < size {
        return Err(invalid("shorter than its own end"));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(length - size).collect();
    let kept = match cut.rsplit_once(' ') {
        Some((words, _)) if !anywhere => words,
        _ => &cut,
    };
    Ok(format!("{kept}{end}"))
}

fn add_time(env: &mut Environment<'_>) {
    env.add_function("now_utc", |state: &State<'_, '_>| {
        DateValue::value(now(state))
    });
    env.add_function("today_utc", |state: &State<'_, '_>| {
        DateValue::date(now(state))
    });
    env.add_function(
        "today_with_timezone",
        |state: &State<'_, '_>, zone: &str| {
            let zone: chrono_tz::Tz = zone.parse().map_err(|_| invalid("not a time zone"))?;
            let there = now(state).with_timezone(&zone);
            Ok::<_, Error>(DateValue::date(there.fixed_offset()))
        },
    );
    env.add_function("timestamp", timestamp);
    env.add_function("str_to_datetime", |value: Value| {
        iso(&value).map(DateValue::value)
    });
    env.add_function(
        "day_delta",
        |state: &State<'_, '_>, days: i64, format: Option<&str>, options: Kwargs| {
            let named: Option<String> = options.get("format")?;
            let format = format
                .map(str::to_owned)
                .or(named)
                .unwrap_or_else(|| "%Y-%m-%dT%H:%M:%S.%f%z".to_owned());
            Duration::days(days)
                .and_then(|duration| duration.after(now(state)))
                .map(|moment| time::format(&moment, &format))
                .ok_or_else(|| invalid("outside the calendar"))
        },
    );
    env.add_function("format_datetime", format_datetime);
}

/// Seconds since 1970: of a number itself, of a text its ISO reading as a float.
fn timestamp(value: Value) -> Result<Value, Error> {
    if value.is_number() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "Python's int() truncates too; out of range saturates"
        )]
        return f64::try_from(value).map(|number| Value::from(number as i64));
    }
    let moment = match value.downcast_object_ref::<DateValue>() {
        Some(date) => date.moment,
        None => iso(&value)?,
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "Python gives a float here, with the same loss"
    )]
    let seconds = moment.timestamp_micros() as f64 / 1e6;
    Ok(seconds.into())
}

/// A text's ISO reading, in UTC.
fn iso(value: &Value) -> Result<Moment, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let text = value.as_str().ok_or_else(|| mismatch("a date is a text"))?;
    time::parse_iso(text)
        .map(|moment| time::utc(moment.to_utc()))
        .ok_or_else(|| invalid("not an ISO date"))
}

fn format_datetime(
    value: Value,
    format: &str,
    input: Option<&str>,
    options: Kwargs,
) -> Result<String, Error> {
    let named: Option<String> = options.get("input_format")?;
    let input = input.map(str::to_owned).or(named);
    let parsed = |text: &str, input: &str| {
        time::parse(text, input).ok_or_else(|| invalid("not a date of that format"))
    };
    let moment = if let Some(date) = value.downcast_object_ref::<DateValue>() {
        date.moment
    } else if value.is_number() {
        parsed(
            &python::jinja_text(&value),
            input.as_deref().unwrap_or("%s"),
        )?
    } else {
        match input {
            Some(input) => {
                let text = value.as_str().ok_or_else(|| mismatch("a date is a text"))?;
                parsed(text, &input)?
            }
            None => iso(&value)?,
        }
    };
    Ok(time::format(&moment, format))
}

fn extreme(items: Rest<Value>, largest: bool) -> Result<Value, Error> {
    let items: Vec<Value> = match items.first() {
        Some(only) if items.len() == 1 && only.kind() != ValueKind::String => {
            only.try_iter()?.collect()
        }
        _ => items.to_vec(),
    };
    if items.iter().any(Value::is_undefined) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let kind = |value: &Value| match value.kind() {
        ValueKind::Bool => ValueKind::Number,
        kind => kind,
    };
    if items.iter().any(|item| kind(item) != kind(&items[0])) {
        return Err(mismatch("values that have no order"));
    }
    let found = if largest {
        items.into_iter().max()
    } else {
        items.into_iter().min()
    };
    found.ok_or_else(|| mismatch("of nothing"))
}

fn add_text(env: &mut Environment<'_>) {
    env.add_function("sanitize_url", |text: &str| {
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
    });
    env.add_function("camel_case_to_snake_case", snake_case);
    env.add_filter("string", |value: Value| match value.kind() {
        ValueKind::String => python::jinja_text(&value),
        // Quoted, so that literal reading gives the text back.
        _ => python::repr(&serde_json::Value::String(python::json(
            &python::to_json(&value),
            false,
        ))),
    });
    // As Jinja2 does it: keys in order, and safe inside HTML.
    env.add_filter("tojson", |value: Value| {
        python::json(&python::to_json(&value), true)
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .replace('\'', "\\u0027")
    });
    env.add_filter("urlencode", |value: Value| url_encode(&value));
    env.add_filter("join", |items: Value, separator: Option<&str>| {
        Ok::<_, Error>(
            items
                .try_iter()?
                .map(|item| python::jinja_text(&item))
                .collect::<Vec<_>>()
                .join(separator.unwrap_or_default()),
        )
    });
    for name in ["e", "escape"] {
        env.add_filter(name, |value: Value| escape(&python::jinja_text(&value)));
    }
    env.add_filter("base64encode", |value: Value| match value.as_str() {
        Some(text) => Ok(STANDARD.encode(text)),
        None if value.is_undefined() => Err(Error::from(ErrorKind::UndefinedError)),
        None => Err(invalid("not a text")),
    });
    // The reference runtime encodes here too, whatever the name says.
    env.add_filter("base64binascii_decode", |text: &str| STANDARD.encode(text));
    env.add_filter("base64decode", |text: &str| {
        STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| invalid("not base64 of UTF-8"))
    });
    env.add_filter("hash", hash);
    env.add_filter("hmac", hmac);
    env.add_filter("regex_search", |value: Value, pattern: &str| {
        let found = regex(pattern)?
            .captures(&python::jinja_text(&value))
            .ok()
            .flatten()
            .and_then(|captures| captures.get(1).map(|group| group.as_str().to_owned()));
        Ok::<_, Error>(found.unwrap_or_default())
    });
    env.add_filter(
        "regex_replace",
        |value: Value, pattern: &str, replacement: &str| {
            // Python writes groups as \1 and \g<name>, the library as ${1} and ${name}.
            let groups = regex(r"\\(\d+)|\\g<(\w+)>")?;
            let escaped = replacement.replace('$', "$$");
            let replacement = groups.replace_all(&escaped, "$${$1$2}");
            Ok::<_, Error>(
                regex(pattern)?
                    .replace_all(&python::jinja_text(&value), replacement.as_ref())
                    .into_owned(),
            )
        },
    );
}

/// `orderId` becomes `order_id`, and `HTTP` `h_t_t_p`: every capital begins a word.
fn snake_case(text: &str) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// A mapping or pairs as a query, with `+` for a space; a text with its `/` kept, with `%20`.
fn url_encode(value: &Value) -> Result<String, Error> {
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    match value.kind() {
        ValueKind::Map => {
            let pairs: Result<Vec<_>, Error> = value
                .try_iter()?
                .map(|key| {
                    let item = value.get_item(&key)?;
                    let (key, item) = (python::jinja_text(&key), python::jinja_text(&item));
                    Ok(format!("{}={}", encode(&key), encode(&item)))
                })
                .collect();
            Ok(pairs?.join("&"))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let pairs: Result<Vec<_>, Error> = value
                .try_iter()?
                .map(|pair| {
                    let side = |index: usize| {
                        let side = pair.get_item(&Value::from(index))?;
                        Ok::<_, Error>(encode(&python::jinja_text(&side)))
                    };
                    Ok(format!("{}={}", side(0)?, side(1)?))
                })
                .collect();
            Ok(pairs?.join("&"))
        }
        _ => Ok(encode(&python::jinja_text(value))
            .replace('+', "%20")
            .replace("%2F", "/")
            .replace("%7E", "~")
            .replace('*', "%2A")),
    }
}

/// Patterns stand in manifests, values come from outside; back-tracking is bounded by the library.
fn regex(pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|_| invalid("not a regular expression"))
}

/// XML and HTML escaping as Jinja2 does it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn hash(value: Value, kind: Option<&str>, salt: Option<&str>) -> Result<String, Error> {
    let mut text = python::jinja_text(&value);
    text.push_str(salt.unwrap_or_default());
    match kind.unwrap_or("md5") {
        "md5" => Ok(hex::encode(Md5::digest(text.as_bytes()))),
        "sha1" => Ok(hex::encode(Sha1::digest(text.as_bytes()))),
        "sha256" => Ok(hex::encode(Sha256::digest(text.as_bytes()))),
        "sha512" => Ok(hex::encode(Sha512::digest(text.as_bytes()))),
        _ => Err(invalid("only md5, sha1, sha256 and sha512 are available")),
    }
}

fn hmac(value: Value, key: &str, kind: Option<&str>) -> Result<String, Error> {
    if kind.is_some_and(|kind| kind != "sha256") {
        return Err(invalid("only sha256 is available"));
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .map_err(|_| invalid("the key cannot be used"))?;
    mac.update(python::jinja_text(&value).as_bytes());
    Ok(hex::encode(mac.finalize().into_bytes()))
}
