//! Reads records out of bodies that come from files and webhooks, in plain formats.

use serde_json::{Map, Value};
use sluice_core::{Error, Result};

/// Formats told apart by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    NdJson,
    Csv,
    /// XML and anything else: only the source's own decoder knows.
    OfSource,
}

fn format(content_type: Option<&str>) -> Format {
    let essence = content_type
        .and_then(|text| text.split(';').next())
        .map(|text| text.trim().to_ascii_lowercase())
        .unwrap_or_default();
    match essence.as_str() {
        "application/x-ndjson" | "application/jsonl" | "application/ndjson" => Format::NdJson,
        "text/csv" => Format::Csv,
        "application/json" | "text/json" => Format::Json,
        other if other.ends_with("+json") => Format::Json,
        _ => Format::OfSource,
    }
}

/// The records of a body. JSON is read as the source's own answers are, when records are found
/// that way; else a list is its elements, and an object one record.
///
/// # Errors
/// `payload_unreadable`, with line and column but no content; `by_source`'s own.
pub(crate) fn records(
    content_type: Option<&str>,
    body: &[u8],
    by_source: impl FnOnce() -> Result<Vec<Value>>,
) -> Result<Vec<Value>> {
    match format(content_type) {
        Format::OfSource => by_source(),
        Format::NdJson => nd_json(body),
        Format::Csv => csv(body),
        Format::Json => match by_source() {
            Ok(records) if !records.is_empty() => Ok(records),
            _ => json(body),
        },
    }
}

fn json(body: &[u8]) -> Result<Vec<Value>> {
    match serde_json::from_slice(body).map_err(|error| unreadable("JSON", &json_fault(&error)))? {
        Value::Array(records) => Ok(records),
        record @ Value::Object(_) => Ok(vec![record]),
        _ => Err(unreadable(
            "JSON",
            "neither an object nor a list of objects",
        )),
    }
}

fn nd_json(body: &[u8]) -> Result<Vec<Value>> {
    body.split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace))
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let line = index + 1;
                unreadable("NDJSON", &format!("line {line}: {}", json_fault(&error)))
            })
        })
        .collect()
}

/// Where and how JSON is broken; serde's own text may quote the content.
fn json_fault(error: &serde_json::Error) -> String {
    format!(
        "{:?} error at line {}, column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

fn csv(body: &[u8]) -> Result<Vec<Value>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .from_reader(body);
    let headers = reader.headers().map_err(csv_fault)?.clone();
    reader
        .records()
        .map(|row| {
            let row = row.map_err(csv_fault)?;
            let fields: Map<_, _> = headers
                .iter()
                .zip(&row)
                .map(|(name, text)| (name.to_owned(), Value::from(text)))
                .collect();
            Ok(Value::Object(fields))
        })
        .collect()
}

fn csv_fault(error: csv::Error) -> Error {
    let at = error
        .position()
        .map_or_else(String::new, |at| format!("line {}: ", at.line()));
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "text is not UTF-8",
        csv::ErrorKind::UnequalLengths { .. } => "the number of fields differs from the header's",
        _ => "broken",
    };
    unreadable("CSV", &format!("{at}{what}"))
}

fn unreadable(format: &str, fault: &str) -> Error {
    Error::validation(
        "payload_unreadable",
        format!("the body is no readable {format}: {fault}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn not_by_source() -> Result<Vec<Value>> {
        Err(Error::validation(
            "other_format",
            "the source speaks another",
        ))
    }

    fn read(content_type: &str, body: &str) -> Result<Vec<Value>> {
        records(Some(content_type), body.as_bytes(), not_by_source)
    }

    #[test]
    fn plain_formats_become_records() {
        assert_eq!(
            read("application/json; charset=utf-8", r#"[{"a":1},{"a":2}]"#).unwrap(),
            [json!({"a": 1}), json!({"a": 2})]
        );
        assert_eq!(
            read("application/json", r#"{"a":1}"#).unwrap(),
            [json!({"a": 1})]
        );
        assert_eq!(
            read("application/x-ndjson", "{\"a\":1}\r\n\n{\"a\":2}\n").unwrap(),
            [json!({"a": 1}), json!({"a": 2})]
        );
        assert_eq!(
            read("text/csv", "\u{feff} id ,name\n1,\"Anna, B\"\n").unwrap(),
            [json!({"id": "1", "name": "Anna, B"})]
        );
    }

    #[test]
    fn the_sources_own_form_comes_first_and_is_the_only_one_for_xml() {
        let own = || Ok(vec![json!({"own": true})]);
        assert_eq!(
            records(Some("application/json"), b"{}", own).unwrap(),
            [json!({"own": true})]
        );
        assert_eq!(records(None, b"<a/>", own).unwrap(), [json!({"own": true})]);
        assert_eq!(read("text/xml", "<a/>").unwrap_err().code(), "other_format");
    }

    /// C4: what is wrong is said without the content.
    #[test]
    fn unreadable_bodies_are_named_by_place_not_by_content() {
        for (content_type, body) in [
            ("application/json", r#"{"name": "Planted Canary""#),
            ("application/json", r#""Planted Canary""#),
            ("application/x-ndjson", "{}\n{Planted Canary}"),
            ("text/csv", "a,b\nPlanted Canary\n"),
        ] {
            let error = read(content_type, body).unwrap_err();
            assert_eq!(error.code(), "payload_unreadable");
            assert!(!error.chain().contains("Canary"), "{}", error.chain());
        }
    }
}
