//! `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{StatusCode, header::HeaderMap};

/// The longest wait another system can impose on us.
pub const MAX_PAUSE: Duration = sluice_core::retry::MAX_RETRY_AFTER;

/// What the header asks for at the time `now`, at most [`MAX_PAUSE`]; `None` when it is missing
/// or unreadable. A date in the past means no wait.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        // Fractions are not in the RFC, but some systems send them.
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(text).ok()?;
            (at.with_timezone(&Utc) - now).to_std().unwrap_or_default()
        }
    };
    Some(wait.min(MAX_PAUSE))
}

/// The pause an answer asks of every caller of the connection.
pub(super) fn pause_asked_for(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
    .then(|| retry_after(headers, Utc::now()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:27:00Z")
            .unwrap()
            .with_timezone(&Utc);
        for (text, wait) in [
            ("17", Some(17.0)),
            (" 0.5 ", Some(0.5)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60.0)),
            ("Wed, 21 Oct 2015 07:26:00 GMT", Some(0.0)),
            ("999999999", Some(3600.0)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            let expected = wait.map(Duration::from_secs_f64);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
