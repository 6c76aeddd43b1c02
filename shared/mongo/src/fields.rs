//! Typed reading and writing of document fields.

use mongodb::bson::{Bson, DateTime, Document, oid::ObjectId};
use serde::de::DeserializeOwned;
use sluice_core::{Result, Timestamp};
use sluice_store::raw::RawError;

use crate::errors::damaged;

/// A BSON date: milliseconds. Expiry works on dates only.
pub(crate) fn date(time: Timestamp) -> Bson {
    Bson::DateTime(DateTime::from_millis(time.timestamp_millis()))
}

pub(crate) fn optional_date(time: Option<Timestamp>) -> Bson {
    time.map_or(Bson::Null, date)
}

pub(crate) fn text(document: &Document, field: &str) -> Result<String> {
    document
        .get_str(field)
        .map(str::to_owned)
        .map_err(|_| damaged(field))
}

pub(crate) fn optional_text(document: &Document, field: &str) -> Result<Option<String>> {
    match document.get(field) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(damaged(field)),
    }
}

/// An integer, whichever size somebody's tool gave it.
pub(crate) fn integer(document: &Document, field: &str) -> Result<i64> {
    optional_integer(document, field)?.ok_or_else(|| damaged(field))
}

pub(crate) fn optional_integer(document: &Document, field: &str) -> Result<Option<i64>> {
    match document.get(field) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::Int32(number)) => Ok(Some((*number).into())),
        Some(Bson::Int64(number)) => Ok(Some(*number)),
        Some(_) => Err(damaged(field)),
    }
}

pub(crate) fn time(document: &Document, field: &str) -> Result<Timestamp> {
    optional_time(document, field)?.ok_or_else(|| damaged(field))
}

pub(crate) fn optional_time(document: &Document, field: &str) -> Result<Option<Timestamp>> {
    match document.get(field) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::DateTime(date)) => Timestamp::from_timestamp_millis(date.timestamp_millis())
            .map(Some)
            .ok_or_else(|| damaged(field)),
        Some(_) => Err(damaged(field)),
    }
}

pub(crate) fn object_id(document: &Document, field: &str) -> Result<ObjectId> {
    document.get_object_id(field).map_err(|_| damaged(field))
}

pub(crate) fn part<'a>(document: &'a Document, field: &str) -> Result<&'a Document> {
    document.get_document(field).map_err(|_| damaged(field))
}

/// An enum in its stored spelling, which is that of its JSON form.
pub(crate) fn word<T: DeserializeOwned>(text: &str, field: &str) -> Result<T> {
    serde_json::from_value(text.into()).map_err(|_| damaged(field))
}

/// One entry of `errorLog`.
pub(crate) fn error_entry(error: &RawError) -> Document {
    mongodb::bson::doc! {
        "timestamp": date(error.timestamp),
        "class": error.class.as_str(),
        "code": &error.code,
        "error": &error.error,
        "retryCount": i64::from(error.retry_count),
    }
}

pub(crate) fn error_log(document: &Document) -> Result<Vec<RawError>> {
    let entries = document
        .get_array("errorLog")
        .map_err(|_| damaged("errorLog"))?;
    let entry = |entry: &Bson| {
        let entry = entry.as_document().ok_or_else(|| damaged("errorLog"))?;
        Ok(RawError {
            timestamp: time(entry, "timestamp")?,
            class: word(&text(entry, "class")?, "class")?,
            code: text(entry, "code")?,
            error: text(entry, "error")?,
            retry_count: u32::try_from(integer(entry, "retryCount")?)
                .map_err(|_| damaged("retryCount"))?,
        })
    };
    entries.iter().map(entry).collect()
}
