//! Splits a file or a webhook's body into raw records: JSON, NDJSON, CSV, XML.
//!
//! Records come one at a time, so that memory stays near one record above the bytes given. What
//! is wrong with one line or row is an error in its place and the rest goes on; what makes the
//! rest unreadable is the last thing the iterator gives.

mod delimited;
mod json;
mod xml;

use serde_json::Value;
use sluice_core::{Error, Result};

/// How the bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One object, a list of objects, or an object with the list at [`Options::records`].
    Json,
    /// One JSON value per line.
    Ndjson,
    /// RFC 4180 with a header row; every value is text.
    Csv,
    /// Elements named [`Options::records`] anywhere in the document.
    Xml,
}

impl Format {
    /// The format a file name's ending stands for.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            "xml" => Some(Self::Xml),
            _ => None,
        }
    }

    /// The format a media type stands for; parameters such as `charset` are ignored.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        let kind = media_type.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "text/csv" => Some(Self::Csv),
            "application/xml" | "text/xml" => Some(Self::Xml),
            _ => None,
        }
    }
}

/// Where the records are, and how large they may be.
#[derive(Debug, Clone)]
pub struct Options {
    /// JSON: a pointer such as `/data/items`. XML: the local name of a record's element, needed.
    pub records: Option<String>,
    /// CSV: what separates fields.
    pub delimiter: u8,
    /// Bytes of one record.
    pub max_record: usize,
    /// Records of one file.
    pub max_records: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            records: None,
            delimiter: b',',
            max_record: 8 << 20,
            max_records: 1_000_000,
        }
    }
}

/// Splits bytes into raw records.
pub fn split<'a>(
    format: Format,
    bytes: &'a [u8],
    options: &Options,
) -> Box<dyn Iterator<Item = Result<Value>> + Send + 'a> {
    let bytes = match text(bytes) {
        Ok(bytes) => bytes,
        Err(error) => return Box::new(std::iter::once(Err(error))),
    };
    let records: Box<dyn Iterator<Item = Result<Value>> + Send + 'a> = match format {
        Format::Json => json::document(bytes, options),
        Format::Ndjson => Box::new(json::lines(bytes, options.max_record)),
        Format::Csv => Box::new(delimited::rows(bytes, options.delimiter)),
        Format::Xml => xml::elements(bytes, options),
    };
    let most = options.max_records;
    Box::new(records.enumerate().map_while(move |(index, record)| {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match index.cmp(&most) {
            Less => Some(record),
            Equal => Some(Err(Error::validation(
                "intake_too_many_records",
                format!("more than {most} records in one file"),
            )
            .hint("split the file"))),
            Greater => None,
        }
    }))
}

/// Drops a UTF-8 byte order mark and refuses what is not UTF-8.
fn text(bytes: &[u8]) -> Result<&[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Error::validation(
            "intake_encoding",
            format!("not UTF-8 at byte {}", error.valid_up_to()),
        )
        .hint("convert the file to UTF-8")),
    }
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::validation("intake_malformed", what.to_string())
}

fn too_large(place: impl std::fmt::Display, most: usize) -> Error {
    Error::validation(
        "intake_record_too_large",
        format!("{place} is larger than {most} bytes"),
    )
}

#[cfg(test)]
mod tests;
