//! Bodies that hold one record a line, and packed ones.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use sluice_core::{Error, ErrorClass, Result};

use super::{Decoded, lenient};

/// Bytes that a packed body may unpack to: a small one must not fill the memory.
const MAX_UNPACKED: u64 = 256 << 20;

/// Bodies of a format that has no document of its own: templates see an empty `response`.
fn streamed(bodies: Vec<Value>) -> Decoded {
    Decoded {
        bodies,
        without_response: true,
        ..Decoded::default()
    }
}

/// Each line a JSON value. Unlike in the reference runtime, a line that is none is an error: a
/// record must not vanish without a word.
pub(super) fn json_lines(text: &str) -> Result<Decoded> {
    let lines = text.lines().enumerate();
    let bodies = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let read = serde_json::from_str(line);
            let read = read.or_else(|error| match lenient::standard(line) {
                Some(line) => serde_json::from_str(&line),
                None => Err(error),
            });
            read.map_err(|_| {
                Error::new(
                    ErrorClass::TargetError,
                    "json_invalid",
                    format!("line {} of the body is not JSON", index + 1),
                )
            })
        })
        .collect::<Result<Vec<Value>>>()?;
    Ok(streamed(bodies))
}

/// Each line as `{"record": line}`.
pub(super) fn lines(text: &str) -> Decoded {
    streamed(text.lines().map(|line| json!({ "record": line })).collect())
}

/// How a table is written.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    pub delimiter: u8,
    /// Values that mean nothing.
    pub nulls: Vec<String>,
}

/// Rows with the first one's values as keys; missing values are null.
pub(super) fn csv(text: &str, options: &CsvOptions) -> Result<Decoded> {
    let invalid = |error: csv::Error| {
        let line = error.position().map_or(0, csv::Position::line);
        Error::new(
            ErrorClass::TargetError,
            "csv_invalid",
            format!("the body is not CSV, as seen at line {line}"),
        )
    };
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(options.delimiter)
        .flexible(true)
        .from_reader(text.as_bytes());
    let keys = reader.headers().map_err(invalid)?.clone();
    let mut bodies = Vec::new();
    for row in reader.records() {
        let row = row.map_err(invalid)?;
        if row.len() > keys.len() {
            return Err(Error::new(
                ErrorClass::TargetError,
                "csv_invalid",
                format!(
                    "row {} of the body has more values than the first has names",
                    bodies.len() + 2
                ),
            ));
        }
        let body = keys.iter().enumerate().map(|(index, key)| {
            let value = row.get(index);
            let value = value.filter(|value| !options.nulls.iter().any(|null| null == value));
            (key.to_owned(), value.map_or(Value::Null, Value::from))
        });
        bodies.push(Value::Object(body.collect()));
    }
    Ok(streamed(bodies))
}

/// All that comes out of a pack, or `None` as soon as it is more than `most`: what a pack says about
/// its size may be wrong, so what comes out is counted.
pub(super) fn all_of(pack: impl Read, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    pack.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// The unpacked bytes of a gzip file; others as they are.
pub(super) fn unpacked(body: &[u8]) -> Result<Option<Vec<u8>>> {
    if !body.starts_with(b"\x1f\x8b") {
        return Ok(None);
    }
    let damaged = |_| {
        Error::new(
            ErrorClass::TargetError,
            "gzip_invalid",
            "the body is packed, and the pack is damaged or cut off",
        )
    };
    let bytes = all_of(MultiGzDecoder::new(body), MAX_UNPACKED);
    let bytes = bytes.map_err(damaged)?.ok_or_else(|| {
        Error::new(
            ErrorClass::TargetError,
            "gzip_too_large",
            format!("the body unpacks to more than {MAX_UNPACKED} bytes"),
        )
    })?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_refused_and_damage_is_seen() {
        let bomb = packed(&vec![0; usize::try_from(MAX_UNPACKED).unwrap() + 1]);
        assert!(bomb.len() < 4 << 20);
        assert_eq!(unpacked(&bomb).unwrap_err().code(), "gzip_too_large");
        let mut cut = packed(b"hello hello hello");
        assert_eq!(unpacked(&cut).unwrap().unwrap(), b"hello hello hello");
        cut.truncate(cut.len() - 5);
        assert_eq!(unpacked(&cut).unwrap_err().code(), "gzip_invalid");
        assert_eq!(unpacked(b"plain").unwrap(), None);
        // Several packs are one body.
        let packs = [packed(b"hello "), packed(b"hello")].concat();
        let most = |most| all_of(MultiGzDecoder::new(&*packs), most).unwrap();
        assert_eq!(most(11).unwrap(), b"hello hello");
        assert_eq!(most(10), None);
    }

    #[test]
    fn lines_and_rows_are_records() {
        let rows = csv(
            "a,b\n1,\"x,\ny\"\n2\n",
            &CsvOptions {
                delimiter: b',',
                nulls: vec!["2".into()],
            },
        )
        .unwrap();
        assert_eq!(
            rows.bodies,
            [
                json!({"a": "1", "b": "x,\ny"}),
                json!({"a": null, "b": null})
            ]
        );
        assert_eq!(
            json_lines("{\"a\":1}\n\n2\n").unwrap().bodies,
            [json!({"a": 1}), json!(2)]
        );
        assert!(
            json_lines("{\"a\":1}\n{")
                .unwrap_err()
                .message()
                .contains("line 2")
        );
    }
}
