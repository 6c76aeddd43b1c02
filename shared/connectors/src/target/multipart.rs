//! Multipart forms as bytes (RFC 7578). They are built here, not by the HTTP library, because
//! signatures cover the body's bytes.

use bytes::{BufMut, Bytes, BytesMut};
use reqwest::header::HeaderValue;
use sluice_core::{Error, Result};

use super::requester::unfit;

/// One part, filled in.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: String,
    pub(super) content: Bytes,
}

/// The content type of the whole, and the bytes.
pub(super) fn encode(pieces: &[Piece]) -> Result<(HeaderValue, Bytes)> {
    // Random, so that no content can hold it on purpose.
    let boundary = format!("sluice-{}", uuid::Uuid::new_v4().simple());
    let mut bytes = BytesMut::new();
    for piece in pieces {
        // Line breaks would let a value write headers of its own.
        if HeaderValue::from_str(&piece.content_type).is_err() {
            return Err(unfit("content_type"));
        }
        let mut head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"",
            quotable(&piece.name)
        );
        if let Some(filename) = &piece.filename {
            head.push_str(&format!("; filename=\"{}\"", quotable(filename)));
        }
        head.push_str(&format!("\r\nContent-Type: {}\r\n\r\n", piece.content_type));
        bytes.put_slice(head.as_bytes());
        bytes.put_slice(&piece.content);
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(format!("--{boundary}--\r\n").as_bytes());
    let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
        .map_err(|error| {
            Error::internal("multipart_failed", "the multipart form cannot be described")
                .caused_by(error)
        })?;
    Ok((content_type, bytes.freeze()))
}

/// Escapes as browsers do (WHATWG HTML, "multipart/form-data encoding algorithm").
fn quotable(text: &str) -> String {
    text.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(filename: &str, content_type: &str) -> Piece {
        Piece {
            name: "file".into(),
            filename: Some(filename.into()),
            content_type: content_type.into(),
            content: Bytes::from_static(b"\x00bytes"),
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_header() {
        let (content_type, bytes) = encode(&[piece("a\"\r\nX-Evil: 1.png", "image/png")]).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let boundary = content_type.to_str().unwrap().split_once('=').unwrap().1;
        assert_eq!(
            text,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
                 filename=\"a%22%0D%0AX-Evil: 1.png\"\r\nContent-Type: image/png\r\n\r\n\
                 \x00bytes\r\n--{boundary}--\r\n"
            )
        );
        assert!(encode(&[piece("a", "x\r\nY: 1")]).is_err());
    }
}
