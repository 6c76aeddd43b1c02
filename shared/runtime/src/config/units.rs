//! Values with units: `30s`, `10MiB`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Reads a time such as `500ms`, `30s`, `5m`, `12h` or `30d`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom("expected a time with its unit, such as 30s, 5m or 30d"))
}

/// The same, of a key that may be missing.
pub(super) fn duration_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads a size such as `64KiB` or `10MiB`, in bytes.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| D::Error::custom("expected a size with its unit, such as 64KiB or 10MiB"))
}
