//! Python's methods on text that few manifests use.

use minijinja::{
    Error, ErrorKind,
    value::{Kwargs, Value, from_args},
};

use super::methods::word;

/// Wider texts are never made.
const MAX_WIDTH: usize = 1024;

/// Calls a method; `None` when it is not here.
pub(super) fn text(value: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "title" => Ok(title(value).into()),
        "capitalize" => Ok(capitalized(value).into()),
        "casefold" => Ok(value.to_lowercase().into()),
        "isalpha" => Ok(all(value, char::is_alphabetic).into()),
        "isalnum" => Ok(all(value, char::is_alphanumeric).into()),
        "isspace" => Ok(all(value, char::is_whitespace).into()),
        "isupper" => Ok((value.chars().any(char::is_uppercase)
            && !value.chars().any(char::is_lowercase))
        .into()),
        "islower" => Ok((value.chars().any(char::is_lowercase)
            && !value.chars().any(char::is_uppercase))
        .into()),
        "splitlines" => Ok(value.lines().map(Value::from).collect()),
        "rsplit" => rsplit(value, args),
        "partition" => word(args, 0).and_then(|by| parted(value, by, value.split_once(by), false)),
        "rpartition" => word(args, 0).and_then(|by| parted(value, by, value.rsplit_once(by), true)),
        "rfind" => word(args, 0).map(|part| match value.rfind(part) {
            Some(at) => letters(value, at).into(),
            None => Value::from(-1),
        }),
        "index" => word(args, 0).and_then(|part| found(value, value.find(part))),
        "rindex" => word(args, 0).and_then(|part| found(value, value.rfind(part))),
        "ljust" | "rjust" | "center" => padded(value, method, args),
        "format" => format(value, args),
        _ => return None,
    })
}

/// What Python calls a value error.
fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::CannotDeserialize, detail)
}

fn all(value: &str, is: impl Fn(char) -> bool) -> bool {
    !value.is_empty() && value.chars().all(is)
}

/// How many letters stand before a byte.
fn letters(value: &str, at: usize) -> usize {
    value.get(..at).unwrap_or_default().chars().count()
}

fn found(value: &str, at: Option<usize>) -> Result<Value, Error> {
    at.map(|at| letters(value, at).into())
        .ok_or_else(|| invalid("the part is not in the text"))
}

fn title(value: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphabetic();
    }
    out
}

fn capitalized(value: &str) -> String {
    let mut rest = value.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    first.chain(rest.flat_map(char::to_lowercase)).collect()
}

fn rsplit(value: &str, args: &[Value]) -> Result<Value, Error> {
    let most = args.get(1).and_then(Value::as_usize);
    let mut parts: Vec<&str> = match (args.first().filter(|by| !by.is_none()), most) {
        (None, None) => return Ok(value.split_whitespace().map(Value::from).collect()),
        (None, Some(_)) => return Err(Error::from(ErrorKind::UnknownMethod)),
        (Some(_), None) => value.rsplit(word(args, 0)?).collect(),
        (Some(_), Some(most)) => value
            .rsplitn(most.saturating_add(1), word(args, 0)?)
            .collect(),
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn parted(
    value: &str,
    by: &str,
    parts: Option<(&str, &str)>,
    from_behind: bool,
) -> Result<Value, Error> {
    if by.is_empty() {
        return Err(invalid("an empty separator"));
    }
    let parts = match parts {
        Some((before, behind)) => [before, by, behind],
        None if from_behind => ["", "", value],
        None => [value, "", ""],
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn padded(value: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let width = args.first().and_then(Value::as_usize);
    let width = width
        .filter(|width| *width <= MAX_WIDTH)
        .ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    let fill = match args.get(1) {
        Some(_) => word(args, 1)?,
        None => " ",
    };
    let missing = width.saturating_sub(value.chars().count());
    let before = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Python's: the odd one goes before when the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    let behind = missing - before;
    Ok(format!("{}{value}{}", fill.repeat(before), fill.repeat(behind)).into())
}

/// `'{} {0} {name}'.format(…)`; what is behind a colon or a point is not known.
fn format(value: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, "this format is not known");
    let (given, named): (&[Value], Kwargs) = from_args(args)?;
    let mut out = String::with_capacity(value.len());
    let mut next = 0;
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                out.push(c);
            }
            '}' => return Err(invalid("a single brace in a format")),
            '{' => {
                let field: String = rest.by_ref().take_while(|c| *c != '}').collect();
                if field.contains([':', '.', '[', '!', '{']) {
                    return Err(unknown());
                }
                let found = match field.parse::<usize>() {
                    _ if field.is_empty() => {
                        next += 1;
                        given.get(next - 1).cloned()
                    }
                    Ok(index) => given.get(index).cloned(),
                    Err(_) => named.get(&field).ok(),
                };
                let found = found.ok_or_else(|| invalid("a format has too few values"))?;
                out.push_str(&super::python::jinja_text(&found));
            }
            c => out.push(c),
        }
    }
    Ok(out.into())
}
