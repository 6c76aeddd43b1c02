//! Which letters the bytes are.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use sluice_core::{Error, ErrorClass, Result};

/// The body as text: UTF-8 unless the XML declaration or the content type says ISO-8859-1 or
/// windows-1252. Nothing is guessed and nothing replaced.
pub(super) fn text<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Cow<'a, str>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let declared = declared_in_xml(body).or_else(|| content_type.and_then(declared_in_header));
    let encoding = match declared {
        None => UTF_8,
        Some(label) => Encoding::for_label(label.as_bytes())
            .filter(|encoding| *encoding == UTF_8 || *encoding == WINDOWS_1252)
            .ok_or_else(|| {
                not_utf8("the body declares a character set that is not UTF-8, ISO-8859-1 or windows-1252")
            })?,
    };
    if encoding == WINDOWS_1252 {
        let (text, _) = WINDOWS_1252.decode_without_bom_handling(body);
        return Ok(text);
    }
    match std::str::from_utf8(body) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(error) if error.error_len().is_none() => Err(Error::new(
            ErrorClass::TargetError,
            "body_truncated",
            "the body ends in the middle of a letter",
        )),
        Err(_) => Err(not_utf8("the body is not UTF-8 and declares nothing else")),
    }
}

fn not_utf8(message: &str) -> Error {
    Error::validation("body_not_utf8", message)
}

/// The `encoding` of `<?xml … ?>`, looked for in the first bytes only.
fn declared_in_xml(body: &[u8]) -> Option<&str> {
    let head = body.get(..body.len().min(200))?;
    let end = head.iter().position(|byte| *byte == b'>')?;
    let declaration = std::str::from_utf8(head.get(..end)?).ok()?;
    let rest = declaration.strip_prefix("<?xml")?;
    let (_, rest) = rest.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest.get(1..)?.split(quote).next()
}

fn declared_in_header(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    })
}
