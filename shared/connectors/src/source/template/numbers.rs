//! Filters that make numbers, as Jinja2 has them: what is none becomes the default.

use minijinja::{
    Environment, Error, ErrorKind,
    value::{Kwargs, Value},
};

pub(super) fn add(env: &mut Environment<'_>) {
    env.add_filter(
        "int",
        |value: Value, default: Option<Value>, options: Kwargs| {
            let given = default_of(default, &options)?;
            let made = whole(&value)?;
            Ok::<_, Error>(made.or(given).unwrap_or_else(|| Value::from(0)))
        },
    );
    env.add_filter(
        "float",
        |value: Value, default: Option<Value>, options: Kwargs| {
            let given = default_of(default, &options)?;
            let made = float(&value)?.map(Value::from);
            Ok::<_, Error>(made.or(given).unwrap_or_else(|| Value::from(0.0)))
        },
    );
    for name in ["length", "count"] {
        env.add_filter(name, |value: Value| match value.len() {
            Some(length) => Ok(length),
            None if value.is_undefined() => Ok(0),
            None => Err(Error::new(ErrorKind::InvalidOperation, "it has no length")),
        });
    }
}

fn default_of(default: Option<Value>, options: &Kwargs) -> Result<Option<Value>, Error> {
    Ok(match default {
        Some(default) => Some(default),
        None => options.get("default")?,
    })
}

fn whole(value: &Value) -> Result<Option<Value>, Error> {
    if value.is_integer() {
        return Ok(Some(value.clone()));
    }
    if let Some(text) = value.as_str()
        && let Ok(whole) = text.trim().parse::<i128>()
    {
        return Ok(Some(Value::from(whole)));
    }
    let float = float(value)?.filter(|float| float.is_finite());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "Python's int() truncates too; out of range saturates"
    )]
    let whole = float.map(|float| Value::from(float as i128));
    Ok(whole)
}

fn float(value: &Value) -> Result<Option<f64>, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.is_number() => f64::try_from(value.clone()).ok(),
        None => bool::try_from(value.clone())
            .ok()
            .map(|flag| f64::from(u8::from(flag))),
    })
}
