//! How raw stores keep bodies and JSON: shared by the backends, so that they keep alike.

use bytes::Bytes;
use serde_json::Value;
use sluice_core::{Error, Result};

/// The deepest nesting that the JSON reader accepts back (`serde_json`'s recursion limit).
pub const MAX_DEPTH: usize = 127;

/// Fast, and within a few percent of the slower levels on XML and JSON.
const LEVEL: i32 = 3;

/// From this size on a body is (de)compressed beside the async threads, not on them.
const LARGE: usize = 256 * 1024;

/// Compresses a body (Zstandard).
///
/// # Errors
/// `body_compression` when there is no memory for it.
pub async fn pack(body: Bytes) -> Result<Vec<u8>> {
    let failed = || Error::internal("body_compression", "a raw body could not be compressed");
    let large = body.len() >= LARGE;
    let compress =
        move || zstd::bulk::compress(&body, LEVEL).map_err(|error| failed().caused_by(error));
    if !large {
        return compress();
    }
    tokio::task::spawn_blocking(compress)
        .await
        .map_err(|error| failed().caused_by(error))?
}

/// Reverses [`pack`]; `size` is the number of bytes that went in.
///
/// # Errors
/// `body_damaged` when the stored bytes are not those of a body of that size.
pub async fn unpack(packed: Vec<u8>, size: usize) -> Result<Bytes> {
    let failed = || Error::internal("body_damaged", "a stored raw body cannot be read back");
    let decompress = move || {
        let body =
            zstd::bulk::decompress(&packed, size).map_err(|error| failed().caused_by(error))?;
        match body.len() == size {
            true => Ok(Bytes::from(body)),
            false => Err(failed()),
        }
    };
    if size < LARGE {
        return decompress();
    }
    tokio::task::spawn_blocking(decompress)
        .await
        .map_err(|error| failed().caused_by(error))?
}

/// A JSON value as text that [`from_text`] reads back equal.
///
/// # Errors
/// `raw_too_deep` for values nested deeper than [`MAX_DEPTH`].
pub fn to_text(value: &Value) -> Result<String> {
    if !within(value, MAX_DEPTH) {
        return Err(Error::validation(
            "raw_too_deep",
            format!("a raw value is nested deeper than {MAX_DEPTH} levels"),
        ));
    }
    Ok(value.to_string())
}

/// Reads what [`to_text`] wrote.
///
/// # Errors
/// `raw_damaged` when the stored text is no JSON.
pub fn from_text(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        Error::internal(
            "raw_damaged",
            format!(
                "a stored raw value is no JSON: {:?} error",
                error.classify()
            ),
        )
    })
}

/// Whether a value has at most `depth` levels of lists and objects.
fn within(value: &Value, depth: usize) -> bool {
    let inner = |mut values: &mut dyn Iterator<Item = &Value>| match depth.checked_sub(1) {
        Some(depth) => (&mut values).all(|value| within(value, depth)),
        None => false,
    };
    match value {
        Value::Array(values) => inner(&mut values.iter()),
        Value::Object(fields) => inner(&mut fields.values()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn the_deepest_value_that_is_taken_can_be_read_back() {
        let deepest = nested(MAX_DEPTH);
        let text = to_text(&deepest).unwrap();
        assert_eq!(from_text(&text).unwrap(), deepest);
        let error = to_text(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error.code(), "raw_too_deep");
    }

    #[tokio::test]
    async fn damaged_bodies_are_errors() {
        for size in [0, 10, LARGE] {
            let body = Bytes::from(vec![7; size]);
            let packed = pack(body.clone()).await.unwrap();
            assert_eq!(unpack(packed.clone(), size).await.unwrap(), body);
            let short = unpack(packed.clone(), size + 1).await.unwrap_err();
            assert_eq!(short.code(), "body_damaged");
            let cut = packed[..packed.len() - 1].to_vec();
            assert_eq!(unpack(cut, size).await.unwrap_err().code(), "body_damaged");
        }
    }
}
