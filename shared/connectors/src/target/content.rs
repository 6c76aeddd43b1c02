//! How large the bytes behind a record's base64 text may be.

use serde_json::Value;
use sluice_core::{Error, Result};

use super::{PushItem, model::ContentLimit};

/// Refuses a record whose content the target would refuse.
///
/// # Errors
/// `attachment_too_large`, with both sizes.
pub(super) fn check(limit: Option<&ContentLimit>, item: &PushItem) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let encoded = limit.field_path.first(&item.body).and_then(Value::as_str);
    let bytes = encoded.map_or(0, decoded_len);
    if bytes <= limit.max_bytes {
        return Ok(());
    }
    Err(Error::validation(
        "attachment_too_large",
        format!(
            "the content has {bytes} bytes; the target takes at most {}",
            limit.max_bytes
        ),
    ))
}

/// Bytes behind a padded base64 text (RFC 4648 section 4).
fn decoded_len(encoded: &str) -> usize {
    let digits = encoded.trim().trim_end_matches('=').len();
    digits / 4 * 3 + (digits % 4).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    use super::*;

    #[test]
    fn the_size_is_that_of_the_bytes() {
        for size in 0..20 {
            let encoded = BASE64.encode(vec![1_u8; size]);
            assert_eq!(decoded_len(&encoded), size);
            assert_eq!(decoded_len(&format!(" {encoded}\n")), size);
        }
    }
}
