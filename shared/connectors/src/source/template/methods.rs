//! Python's methods on text, mappings and lists, as far as manifests use them.

use minijinja::{
    Error, ErrorKind, State,
    value::{Value, ValueKind},
};

use super::{python, rare};

/// Calls a method the engine itself does not know.
pub(super) fn call(
    _: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => text(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => mapping(value, method, args),
        ValueKind::Seq | ValueKind::Iterable => list(value, method, args),
        ValueKind::Plain => Err(Error::from(ErrorKind::UnknownMethod)),
        _ => Err(Error::from(ErrorKind::UndefinedError)),
    }
}

/// Python's methods that are not here. Any other is undefined, as with Python: a condition may ask
/// for the field of a mapping where a system sends a text or nothing.
fn missing(method: &str, pythons: &[&str]) -> Error {
    Error::from(match pythons.contains(&method) {
        true => ErrorKind::UnknownMethod,
        false => ErrorKind::UndefinedError,
    })
}

const OF_TEXT: [&str; 12] = [
    "encode",
    "expandtabs",
    "format_map",
    "isascii",
    "isdecimal",
    "isidentifier",
    "isnumeric",
    "isprintable",
    "istitle",
    "maketrans",
    "swapcase",
    "translate",
];
const OF_MAPPINGS: [&str; 6] = [
    "clear",
    "fromkeys",
    "pop",
    "popitem",
    "setdefault",
    "update",
];
const OF_LISTS: [&str; 9] = [
    "append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse", "sort",
];

pub(super) fn word(args: &[Value], index: usize) -> Result<&str, Error> {
    args.get(index)
        .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?
        .as_str()
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "text expected"))
}

/// Whether it holds for the argument, or for one of several in a list.
fn any_word(args: &[Value], holds: impl Fn(&str) -> bool) -> Result<bool, Error> {
    match args.first() {
        Some(list) if list.kind() == ValueKind::Seq => {
            let words: Vec<Value> = list.try_iter()?.collect();
            let mut any = false;
            for index in 0..words.len() {
                any |= holds(word(&words, index)?);
            }
            Ok(any)
        }
        _ => Ok(holds(word(args, 0)?)),
    }
}

fn text(value: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let letters = |args: &[Value]| -> Result<Vec<char>, Error> {
        match args.first() {
            None => Ok(Vec::new()),
            Some(argument) if argument.is_none() => Ok(Vec::new()),
            Some(_) => Ok(word(args, 0)?.chars().collect()),
        }
    };
    let strips = |c: char, set: &[char]| {
        if set.is_empty() {
            c.is_whitespace()
        } else {
            set.contains(&c)
        }
    };
    Ok(match method {
        "lower" => value.to_lowercase().into(),
        "upper" => value.to_uppercase().into(),
        "strip" => {
            let set = letters(args)?;
            value.trim_matches(|c| strips(c, &set)).into()
        }
        "lstrip" => {
            let set = letters(args)?;
            value.trim_start_matches(|c| strips(c, &set)).into()
        }
        "rstrip" => {
            let set = letters(args)?;
            value.trim_end_matches(|c| strips(c, &set)).into()
        }
        "startswith" => any_word(args, |word| value.starts_with(word))?.into(),
        "endswith" => any_word(args, |word| value.ends_with(word))?.into(),
        "removeprefix" => value.strip_prefix(word(args, 0)?).unwrap_or(value).into(),
        "removesuffix" => value.strip_suffix(word(args, 0)?).unwrap_or(value).into(),
        "replace" => value.replace(word(args, 0)?, word(args, 1)?).into(),
        "count" => value.matches(word(args, 0)?).count().into(),
        "isdigit" => (!value.is_empty() && value.chars().all(|c| c.is_ascii_digit())).into(),
        "find" => value.find(word(args, 0)?).map_or_else(
            || Value::from(-1),
            |at| Value::from(value.get(..at).unwrap_or_default().chars().count()),
        ),
        "zfill" => {
            let width = args
                .first()
                .and_then(Value::as_usize)
                .filter(|width| *width <= 1024)
                .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            format!("{value:0>width$}").into()
        }
        "split" => {
            let most = args.get(1).and_then(Value::as_usize);
            match (args.first().filter(|argument| !argument.is_none()), most) {
                (None, _) => value.split_whitespace().map(Value::from).collect(),
                (Some(_), None) => value.split(word(args, 0)?).map(Value::from).collect(),
                (Some(_), Some(most)) => value
                    .splitn(most.saturating_add(1), word(args, 0)?)
                    .map(Value::from)
                    .collect(),
            }
        }
        "join" => {
            let items = args
                .first()
                .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            if items.is_none() {
                return Err(Error::new(ErrorKind::InvalidOperation, "a list expected"));
            }
            items
                .try_iter()?
                .map(|item| python::jinja_text(&item))
                .collect::<Vec<_>>()
                .join(value)
                .into()
        }
        _ => {
            return rare::text(value, method, args)
                .unwrap_or_else(|| Err(missing(method, &OF_TEXT)));
        }
    })
}

fn mapping(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let pairs = || -> Result<Vec<(Value, Value)>, Error> {
        value
            .try_iter()?
            .map(|key| Ok((key.clone(), value.get_item(&key)?)))
            .collect()
    };
    Ok(match method {
        "get" => {
            let key = args
                .first()
                .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let found = value.get_item(key)?;
            if found.is_undefined() {
                args.get(1).cloned().unwrap_or(Value::from(()))
            } else {
                found
            }
        }
        "copy" => value.clone(),
        "keys" => value.try_iter()?.collect(),
        "values" => pairs()?.into_iter().map(|(_, value)| value).collect(),
        "items" => pairs()?
            .into_iter()
            .map(|(key, value)| Value::from(vec![key, value]))
            .collect(),
        _ => return Err(missing(method, &OF_MAPPINGS)),
    })
}

fn list(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let wanted = args
        .first()
        .ok_or_else(|| Error::from(ErrorKind::MissingArgument));
    match method {
        "count" => {
            let wanted = wanted?;
            Ok(value
                .try_iter()?
                .filter(|item| item == wanted)
                .count()
                .into())
        }
        "index" => {
            let wanted = wanted?;
            value
                .try_iter()?
                .position(|item| item == *wanted)
                .map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "not in the list"))
        }
        _ => Err(missing(method, &OF_LISTS)),
    }
}
