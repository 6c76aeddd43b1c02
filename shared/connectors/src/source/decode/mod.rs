//! From bytes to JSON: what a page's body says.

mod charset;
mod json;
mod lenient;
mod rows;
mod xml;
mod zip;

use std::{borrow::Cow, sync::LazyLock};

use minijinja::value::Value as Jinja;
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};

use super::{record::Record, template};
pub use rows::CsvOptions;
pub use xml::XmlOptions;

/// How bodies of a stream are read.
#[derive(Debug, Clone)]
pub enum Decoder {
    Json,
    Xml(XmlOptions),
    /// One JSON value a line.
    JsonLines,
    /// One text a line.
    Lines,
    Csv {
        options: CsvOptions,
        /// Instead of what the answer says.
        encoding: Option<String>,
    },
    /// What is packed, or not, is read by another.
    Gzip(Box<Decoder>),
    /// Each file of an archive is read by another.
    Zip(Box<Decoder>),
}

/// Where the records of a body stand: a path without wildcards.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub path: &'a [String],
    /// They may stay text.
    pub as_text: bool,
}

impl<'a> Place<'a> {
    /// Of records that are wanted as values.
    pub fn of_values(path: &'a [String]) -> Self {
        let as_text = false;
        Self { path, as_text }
    }
}

/// A decoded body.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Text to look for error messages in.
    error_text: String,
    /// Bodies to extract records from (a top-level JSON list is several); the first is the response.
    pub bodies: Vec<Value>,
    /// Instead of bodies and error text: the first body while nothing needs it as a value.
    text: Option<json::Text>,
    /// Records already taken out while reading, when the decoder could.
    pub streamed: Option<Vec<Record>>,
    /// A format without a document of its own: templates see an empty `response`.
    pub without_response: bool,
}

impl Decoded {
    /// What templates see as `response`. For XML, of the records only the first is in it.
    pub fn for_templates(&self) -> Jinja {
        match &self.text {
            Some(text) if !self.without_response => text.response(),
            _ => template::json::of(self.response()),
        }
    }

    /// The response as a value, of a body that was not left text.
    pub fn response(&self) -> &Value {
        static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));
        if self.without_response {
            return &EMPTY;
        }
        self.bodies.first().unwrap_or(&Value::Null)
    }

    /// Text to look for error messages in.
    pub fn error_text(&self) -> Cow<'_, str> {
        match &self.text {
            Some(text) => text.error_text(self.streamed.as_deref()).into(),
            None => self.error_text.as_str().into(),
        }
    }
}

impl Decoder {
    /// Reads a body, and takes its records out of it when it can.
    ///
    /// # Errors
    /// `unexpected_html`, `body_not_utf8`, `json_invalid`, `xml_invalid`, `xml_truncated`,
    /// `xml_doctype_refused`, `xml_too_deep`, `xml_too_large`, `csv_invalid`, `gzip_invalid`,
    /// `gzip_too_large`, `zip_invalid`, `zip_too_large`.
    pub fn decode(
        &self,
        body: &[u8],
        content_type: Option<&str>,
        records: Option<Place<'_>>,
    ) -> Result<Decoded> {
        if looks_like_html(body) {
            return Err(Error::new(
                ErrorClass::TargetError,
                "unexpected_html",
                "the system answered with an HTML page instead of data",
            )
            .hint("look for a login page, a maintenance notice or a proxy in between"));
        }
        if let Self::Gzip(inner) = self {
            let bytes = rows::unpacked(body)?;
            let body = bytes.as_deref().unwrap_or(body);
            // Read while it arrives in the reference runtime, so templates see no response.
            return inner
                .decode(body, content_type, records)
                .map(|decoded| Decoded {
                    without_response: true,
                    ..decoded
                });
        }
        if let Self::Zip(inner) = self {
            return zip::decode(body, inner);
        }
        let declared = match self {
            Self::Csv {
                encoding: Some(encoding),
                ..
            } => Some(format!("text/csv; charset={encoding}")),
            _ => None,
        };
        let text = charset::text(body, declared.as_deref().or(content_type))?;
        match self {
            Self::Json => json::decode(&text, records),
            Self::Xml(options) => {
                let path = records.map(|records| records.path);
                xml::decode(&text, options, path.filter(|path| !path.is_empty()))
            }
            Self::JsonLines => rows::json_lines(&text),
            Self::Lines => Ok(rows::lines(&text)),
            Self::Csv { options, .. } => rows::csv(&text, options),
            Self::Gzip(inner) | Self::Zip(inner) => inner.decode(body, content_type, records),
        }
    }

    /// The same for answers that are errors anyway: what cannot be read is an empty response.
    pub fn decode_error(&self, body: &[u8], content_type: Option<&str>) -> Decoded {
        self.decode(body, content_type, None).unwrap_or_else(|_| {
            let shown = body.get(..body.len().min(64 * 1024)).unwrap_or_default();
            Decoded {
                error_text: String::from_utf8_lossy(shown).into_owned(),
                bodies: vec![Value::Object(serde_json::Map::new())],
                ..Decoded::default()
            }
        })
    }
}

/// Whether a body is a web page: by its first bytes, because such answers often carry the content
/// type of the data.
fn looks_like_html(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let start = body
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(body.len());
    let head = body
        .get(start..body.len().min(start + 14))
        .unwrap_or_default()
        .to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html")
}

#[cfg(test)]
mod tests;
