//! Reads records out of bodies that come from files and webhooks, in plain formats.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sluice_core::{Error, ErrorClass, Result};

use crate::prepare::Rejection;

/// The code of a line or row that is no record.
pub(crate) const LINE_UNREADABLE: &str = "line_unreadable";

/// Most of a broken line that its raw record shows, in bytes; the payload keeps all of it.
const LINE_SHOWN: usize = 10_000;

/// A line or row that could not be read. The others go on without it.
#[derive(Debug, PartialEq)]
pub(crate) struct Broken {
    /// Its number and its text.
    pub(crate) raw: Value,
    pub(crate) rejection: Rejection,
}

impl Broken {
    fn new(line: u64, text: &[u8], fault: &str) -> Box<Self> {
        let shown = text.get(..LINE_SHOWN).unwrap_or(text);
        Box::new(Self {
            raw: json!({ "line": line, "text": String::from_utf8_lossy(shown).trim_end() }),
            rejection: Rejection {
                class: ErrorClass::Validation,
                code: LINE_UNREADABLE.to_owned(),
                message: format!("line {line} is no record: {fault}"),
            },
        })
    }
}

/// A record, or what stands where one was expected.
pub(crate) type Piece = Result<Value, Box<Broken>>;

/// What some editors put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Formats told apart by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    NdJson,
    Csv,
    /// XML, and what the content type leaves open: only the source's own decoder knows.
    OfSource,
    /// Pictures, forms and the like.
    Other,
}

/// Whether records can be in a body of this content type at all.
pub(crate) fn may_hold_records(content_type: Option<&str>) -> bool {
    format(content_type) != Format::Other
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
        other if other.ends_with("+xml") => Format::OfSource,
        ""
        | "application/xml"
        | "text/xml"
        | "text/plain"
        | "application/octet-stream"
        | "application/gzip"
        | "application/zip" => Format::OfSource,
        _ => Format::Other,
    }
}

/// The records of a body. JSON is read as the source's own answers are, when records are found
/// that way; else a list is its elements, and an object one record. Of lines and rows the broken
/// ones are told apart; a body without a single good one is of another format.
///
/// # Errors
/// `payload_unreadable`, with line and column but no content; `by_source`'s own.
pub(crate) fn records(
    content_type: Option<&str>,
    body: &Bytes,
    by_source: impl FnOnce(&Bytes) -> Result<Vec<Value>>,
) -> Result<Vec<Piece>> {
    let body = match body.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => &body.slice_ref(text),
        None => body,
    };
    let whole = |records: Vec<Value>| records.into_iter().map(Ok).collect();
    match format(content_type) {
        Format::OfSource | Format::Other => by_source(body).map(whole),
        Format::NdJson => some_good("NDJSON", nd_json(body)),
        Format::Csv => some_good("CSV", csv(body)?),
        Format::Json => match by_source(body) {
            Ok(records) if !records.is_empty() => Ok(whole(records)),
            _ => json_list(body).map(whole),
        },
    }
}

fn some_good(format: &str, pieces: Vec<Piece>) -> Result<Vec<Piece>> {
    match pieces.first() {
        Some(Err(first)) if pieces.iter().all(Result::is_err) => {
            Err(unreadable(format, &first.rejection.message))
        }
        _ => Ok(pieces),
    }
}

fn json_list(body: &[u8]) -> Result<Vec<Value>> {
    let fault = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        let fault = format!("{} at line {line}, column {column}", kind(&error));
        unreadable("JSON", &fault)
    };
    match serde_json::from_slice(body).map_err(fault)? {
        Value::Array(records) => Ok(records),
        record @ Value::Object(_) => Ok(vec![record]),
        _ => Err(unreadable(
            "JSON",
            "neither an object nor a list of objects",
        )),
    }
}

fn nd_json(body: &[u8]) -> Vec<Piece> {
    let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
    lines
        .filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace))
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let fault = format!("{} at column {}", kind(&error), error.column());
                Broken::new(number, line, &fault)
            })
        })
        .collect()
}

/// How JSON is broken; serde's own text may quote the content.
fn kind(error: &serde_json::Error) -> String {
    format!("{:?} error", error.classify())
}

fn csv(body: &[u8]) -> Result<Vec<Piece>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .flexible(true)
        .from_reader(body);
    let headers = reader.headers().map_err(|error| csv_fault(&error))?.clone();
    let (mut pieces, mut row) = (Vec::new(), csv::ByteRecord::new());
    let place = |byte| usize::try_from(byte).unwrap_or(usize::MAX);
    while reader
        .read_byte_record(&mut row)
        .map_err(|error| csv_fault(&error))?
    {
        let (line, from) = row.position().map_or((0, 0), |at| (at.line(), at.byte()));
        let to = place(reader.position().byte());
        let text = body.get(place(from)..to).unwrap_or_default();
        let piece = match to >= body.len() && is_open(text) {
            // Whether the lines behind it are rows or a part of its text, nobody can say.
            true => Err("a quote is not closed up to the end of the body"),
            false => csv_row(&headers, &row),
        };
        pieces.push(piece.map_err(|fault| Broken::new(line, text, fault)));
    }
    Ok(pieces)
}

/// Whether the body's last row goes over several lines because nobody closed a quote.
fn is_open(text: &[u8]) -> bool {
    let quotes = text.iter().filter(|byte| **byte == b'"').count();
    quotes % 2 == 1 && text.trim_ascii_end().contains(&b'\n')
}

fn csv_row(headers: &csv::StringRecord, row: &csv::ByteRecord) -> Result<Value, &'static str> {
    if row.len() != headers.len() {
        return Err("the number of fields differs from the header's");
    }
    let mut fields = Map::new();
    for (name, text) in headers.iter().zip(row) {
        let text = std::str::from_utf8(text).map_err(|_| "text is not UTF-8")?;
        fields.insert(name.to_owned(), text.into());
    }
    Ok(Value::Object(fields))
}

fn csv_fault(error: &csv::Error) -> Error {
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "the header is not UTF-8",
        _ => "broken",
    };
    unreadable("CSV", what)
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

    fn not_by_source(_: &Bytes) -> Result<Vec<Value>> {
        Err(Error::validation(
            "other_format",
            "the source speaks another",
        ))
    }

    fn read(content_type: &str, body: impl Into<Bytes>) -> Result<Vec<Piece>> {
        records(Some(content_type), &body.into(), not_by_source)
    }

    fn good(content_type: &str, body: &'static str) -> Vec<Value> {
        let pieces = read(content_type, body).unwrap();
        pieces.into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn plain_formats_become_records() {
        assert_eq!(
            good("application/json; charset=utf-8", r#"[{"a":1},{"a":2}]"#),
            [json!({"a": 1}), json!({"a": 2})]
        );
        assert_eq!(
            good("application/json", "\u{feff}{\"a\":1}"),
            [json!({"a": 1})]
        );
        assert_eq!(
            good("application/x-ndjson", "\u{feff}{\"a\":1}\r\n\n{\"a\":2}\n"),
            [json!({"a": 1}), json!({"a": 2})]
        );
        assert_eq!(
            good("text/csv", "\u{feff} id ,name\n1,\"Anna, B\"\n"),
            [json!({"id": "1", "name": "Anna, B"})]
        );
    }

    #[test]
    fn the_sources_own_form_comes_first_and_is_the_only_one_for_xml() {
        let own = |body: &Bytes| Ok(vec![json!({ "own": body.len() })]);
        let read_by_source =
            |content_type, body: &'static str| records(content_type, &body.into(), own).unwrap();
        let expected = [Ok(json!({ "own": 2 }))];
        assert_eq!(read_by_source(Some("application/json"), "{}"), expected);
        let expected = [Ok(json!({ "own": 4 }))];
        assert_eq!(read_by_source(None, "\u{feff}<a/>"), expected);
        assert_eq!(read("text/xml", "<a/>").unwrap_err().code(), "other_format");
    }

    #[test]
    fn a_broken_line_keeps_none_of_the_others_out() {
        let ndjson = read("application/jsonl", "{\"a\":1}\n\n{\"a\":\n{\"a\":2}").unwrap();
        assert_eq!(ndjson.len(), 3);
        let broken = ndjson[1].as_ref().unwrap_err();
        assert_eq!(broken.raw, json!({ "line": 3, "text": "{\"a\":" }));
        assert_eq!(
            broken.rejection.message,
            "line 3 is no record: Eof error at column 5"
        );
        let csv = Bytes::from_static(b"a,b\n1,2\n3\n\"4\n\",\xff\n5,6\n");
        let csv = read("text/csv", csv).unwrap();
        assert_eq!(csv.len(), 4);
        let raws: Vec<_> = csv[1..3]
            .iter()
            .map(|one| &one.as_ref().unwrap_err().raw)
            .collect();
        assert_eq!(raws[0], &json!({ "line": 3, "text": "3" }));
        assert_eq!(raws[1], &json!({ "line": 4, "text": "\"4\n\",\u{fffd}" }));
        assert_eq!(csv[3], Ok(json!({ "a": "5", "b": "6" })));
    }

    #[test]
    fn a_quote_that_nobody_closes_is_told() {
        let csv = "a,b\n1,2\n3,\"open\n4,5\n";
        let pieces = read("text/csv", csv).unwrap();
        assert_eq!(pieces.len(), 2);
        let broken = pieces[1].as_ref().unwrap_err();
        let raw = json!({ "line": 3, "text": "3,\"open\n4,5" });
        assert_eq!(broken.raw, raw);
        let told = &broken.rejection.message;
        assert!(told.contains("a quote is not closed"), "{told}");
        let whole = [
            json!({"a": "1", "b": "8\n"}),
            json!({"a": "9", "b": "5\" pipe"}),
        ];
        assert_eq!(good("text/csv", "a,b\n1,\"8\n\"\n9,5\" pipe\n"), whole);
    }

    /// C4: what is wrong is said without the content.
    #[test]
    fn unreadable_bodies_are_named_by_place_not_by_content() {
        for (content_type, body) in [
            ("application/json", r#"{"name": "Planted Canary""#),
            ("application/json", r#""Planted Canary""#),
            ("application/x-ndjson", "{Planted Canary}\nCanary"),
            ("text/csv", "a,b\nPlanted Canary\n"),
        ] {
            let error = read(content_type, body).unwrap_err();
            assert_eq!(error.code(), "payload_unreadable");
            assert!(!error.chain().contains("Canary"), "{}", error.chain());
        }
    }
}
