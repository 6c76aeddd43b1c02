//! How far a cursor has come: a time or a number.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;

use crate::source::time::{self, Moment};

/// A place on a cursor's scale. All marks of one stream are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    Count(i64),
    Time(Moment),
}

/// Stored as a number, or as RFC 3339 text with microseconds.
impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_i64(*count),
            Self::Time(moment) => serializer
                .serialize_str(&moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        }
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mark = match Value::deserialize(deserializer)? {
            Value::String(text) => time::parse_iso(&text).map(Self::Time),
            other => other.as_i64().map(Self::Count),
        };
        mark.ok_or_else(|| D::Error::custom("neither a time nor a whole number"))
    }
}
