//! Bounds of a connection's calls.

use std::time::Duration;

use serde::Deserialize;
use sluice_core::{Error, Result, catalogue::ConnectionSpec, secret::SecretConfig};

/// No call may take longer, whatever the settings say: leases are built around it.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(120);
/// 1 GiB: pages are held in memory.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024 * 1024;

/// Bounds of a connection's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// From the start until a connection stands, TLS included. Default 10 s.
    pub connect_timeout: Duration,
    /// From the start until the body is read. Default 30 s, at most 120 s.
    pub timeout: Duration,
    /// Bytes of an answer's body, counted after unpacking. Default 64 MiB.
    pub max_response_bytes: usize,
    /// Calls at once, at most. Default 4.
    pub concurrency: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            max_response_bytes: 64 * 1024 * 1024,
            concurrency: 4,
        }
    }
}

/// The `http` section of a connection's settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    connect_timeout_seconds: Option<u64>,
    timeout_seconds: Option<u64>,
    max_response_bytes: Option<usize>,
}

impl HttpOptions {
    /// The bounds of a configured connection.
    ///
    /// # Errors
    /// As [`Self::from_config`].
    pub fn of_connection(spec: &ConnectionSpec, config: &SecretConfig) -> Result<Self> {
        let options = Self::from_config(config).map_err(|error| error.connection(&spec.name))?;
        Ok(Self {
            concurrency: spec.concurrency,
            ..options
        })
    }

    /// Reads `http: {connect_timeout_seconds, timeout_seconds, max_response_bytes}` of the
    /// settings; what is missing keeps its default.
    ///
    /// # Errors
    /// `http_settings_invalid` for unknown keys and for values outside their bounds.
    pub fn from_config(config: &SecretConfig) -> Result<Self> {
        let mut options = Self::default();
        let Some(section) = config.expose().get("http") else {
            return Ok(options);
        };
        let section = Section::deserialize(section).map_err(|error| invalid(error.to_string()))?;
        if let Some(seconds) = section.connect_timeout_seconds {
            options.connect_timeout = within("connect_timeout_seconds", seconds)?;
        }
        if let Some(seconds) = section.timeout_seconds {
            options.timeout = within("timeout_seconds", seconds)?;
        }
        if let Some(bytes) = section.max_response_bytes {
            if !(1..=MAX_RESPONSE_BYTES).contains(&bytes) {
                return Err(invalid(format!(
                    "max_response_bytes must be 1 to {MAX_RESPONSE_BYTES}"
                )));
            }
            options.max_response_bytes = bytes;
        }
        Ok(options)
    }
}

fn within(name: &str, seconds: u64) -> Result<Duration> {
    let value = Duration::from_secs(seconds);
    if value.is_zero() || value > MAX_TIMEOUT {
        return Err(invalid(format!(
            "{name} must be 1 to {}",
            MAX_TIMEOUT.as_secs()
        )));
    }
    Ok(value)
}

fn invalid(detail: String) -> Error {
    Error::config(
        "http_settings_invalid",
        format!("the connection's `http` settings are wrong: {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(http: serde_json::Value) -> Result<HttpOptions> {
        HttpOptions::from_config(&SecretConfig::new(json!({ "http": http })))
    }

    #[test]
    fn settings_override_defaults_within_bounds() {
        assert_eq!(
            read(json!({"timeout_seconds": 120})).unwrap(),
            HttpOptions {
                timeout: Duration::from_secs(120),
                ..HttpOptions::default()
            }
        );
        for wrong in [
            json!({"timeout_seconds": 121}),
            json!({"connect_timeout_seconds": 0}),
            json!({"max_response_bytes": 0}),
            json!({"timeout": 5}),
        ] {
            assert_eq!(read(wrong).unwrap_err().code(), "http_settings_invalid");
        }
    }
}
