//! Between the words of the tables and the types of the contracts.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Hash, Priority, Result};

/// A stored value that no version of Sluice wrote.
pub(crate) fn unreadable(what: &'static str) -> Error {
    Error::internal(
        "stored_value_unreadable",
        format!("PostgreSQL holds an unknown {what}"),
    )
}

pub(crate) fn hash(text: &str) -> Result<Hash> {
    Hash::from_hex(text).ok_or_else(|| unreadable("hash"))
}

pub(crate) fn hash_option(text: Option<String>) -> Result<Option<Hash>> {
    text.as_deref().map(hash).transpose()
}

pub(crate) fn priority(number: i16) -> Result<Priority> {
    u8::try_from(number)
        .map_err(|_| unreadable("priority"))
        .and_then(Priority::try_from)
}

/// A stored count that is never negative.
pub(crate) fn count<T: TryFrom<i64>>(value: impl Into<i64>) -> Result<T> {
    T::try_from(value.into()).map_err(|_| unreadable("count"))
}

/// A word of a state column.
pub(crate) fn word<T>(parsed: Option<T>) -> Result<T> {
    parsed.ok_or_else(|| unreadable("word"))
}

pub(crate) fn class(text: &str) -> Result<ErrorClass> {
    word(ErrorClass::parse(text))
}

pub(crate) fn from_json<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|_| unreadable("JSON document"))
}

/// The text of a value, which `json` columns keep as it is.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|_| Error::internal("json_unwritable", "a value cannot be written as JSON"))
}

/// Seconds, as `make_interval` takes them; ten years stand for "never".
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().min(315_360_000.0)
}

/// Seconds since a time that may be missing, or lie a moment ahead.
pub(crate) fn duration(seconds: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

/// A count for an `integer` column; more than it can hold is as good as its greatest value.
pub(crate) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn big(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
