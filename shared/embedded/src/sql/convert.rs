//! Between the words of the tables and the types of the contracts.

use std::time::Duration;

use chrono::Utc;
use serde::{Serialize, de::DeserializeOwned};
use sluice_core::{Error, Hash, Priority, Result, Timestamp};

/// The process clock, in the unit of the tables: microseconds since 1970. All writers of one file
/// are on one machine.
pub(crate) fn now() -> i64 {
    Utc::now().timestamp_micros()
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// The time since then; none when there is no then, or it lies ahead.
pub(crate) fn since(then: Option<i64>) -> Duration {
    let passed = then.map_or(0, |then| now().saturating_sub(then));
    Duration::from_micros(u64::try_from(passed).unwrap_or_default())
}

/// A stored value that no version of Sluice wrote.
pub(crate) fn unreadable(what: &'static str) -> Error {
    Error::internal(
        "stored_value_unreadable",
        format!("the embedded database holds an unknown {what}"),
    )
}

pub(crate) fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| unreadable("time"))
}

pub(crate) fn time_option(micros: Option<i64>) -> Result<Option<Timestamp>> {
    micros.map(time).transpose()
}

pub(crate) fn hash(text: &str) -> Result<Hash> {
    Hash::from_hex(text).ok_or_else(|| unreadable("hash"))
}

pub(crate) fn hash_option(text: Option<String>) -> Result<Option<Hash>> {
    text.as_deref().map(hash).transpose()
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| unreadable("JSON document"))
}

/// The text of a value; also used for the one JSON parameter of a set-based statement.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|_| Error::internal("json_unwritable", "a value cannot be written as JSON"))
}

pub(crate) fn priority(number: i64) -> Result<Priority> {
    u8::try_from(number)
        .map_err(|_| unreadable("priority"))
        .and_then(Priority::try_from)
}

/// A count or number that the tables keep as a 64-bit integer.
pub(crate) fn number<T: TryFrom<i64>>(value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| unreadable("number"))
}

/// A word of a state column.
pub(crate) fn word<T>(parsed: Option<T>) -> Result<T> {
    parsed.ok_or_else(|| unreadable("word"))
}
