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

/// The pause an answer asks of every caller of the connection: `Retry-After` of a refusal, or
/// quota headers of any answer that say that nothing remains until a reset.
pub(super) fn pause_asked_for(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let refused = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let now = Utc::now();
    let asked = refused.then(|| retry_after(headers, now)).flatten();
    asked.max(quota_reset(headers, now))
}

/// When nothing remains of a quota: the time until there is a new one, at most [`MAX_PAUSE`].
/// Reads `RateLimit` (draft-ietf-httpapi-ratelimit-headers), the `RateLimit-*` of its earlier
/// drafts, and the common `X-RateLimit-*` and `X-Rate-Limit-*`, whose reset is seconds or a Unix time.
fn quota_reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number >= 0.0);
    let of_pair = |remaining: &str, reset: &str| {
        let remaining = number(text(remaining)?)?;
        let reset = number(text(reset)?)?;
        (remaining < 1.0).then_some(reset)
    };
    let of_item = || {
        let parts: Vec<_> = text("ratelimit")?.split(';').map(str::trim).collect();
        let part = |key: &str| {
            parts
                .iter()
                .find_map(|part| number(part.strip_prefix(key)?))
        };
        (part("r=")? < 1.0).then(|| part("t="))?
    };
    let reset = of_item()
        .or_else(|| of_pair("ratelimit-remaining", "ratelimit-reset"))
        .or_else(|| of_pair("x-ratelimit-remaining", "x-ratelimit-reset"))
        .or_else(|| of_pair("x-rate-limit-remaining", "x-rate-limit-reset"))?;
    // No quota lasts 30 years: a larger number is a point in time.
    let unix = now.timestamp_millis() as f64 / 1_000.0;
    let wait = if reset > 1e9 { reset - unix } else { reset };
    Duration::try_from_secs_f64(wait.max(0.0))
        .ok()
        .map(|wait| wait.min(MAX_PAUSE))
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

    #[test]
    fn an_empty_quota_pauses_until_its_reset() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (pairs, wait) in [
            (vec![("ratelimit", "\"default\";r=0;t=30")], Some(30.0)),
            (vec![("ratelimit", "\"default\";r=5;t=30")], None),
            (
                vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "12")],
                Some(12.0),
            ),
            (
                vec![("ratelimit-remaining", "3"), ("ratelimit-reset", "12")],
                None,
            ),
            (
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1700000045"),
                ],
                Some(45.0),
            ),
            (
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1600000000"),
                ],
                Some(0.0),
            ),
            (
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "99999"),
                ],
                Some(3600.0),
            ),
            (
                vec![
                    ("x-rate-limit-remaining", "0"),
                    ("x-rate-limit-reset", "1700000007"),
                ],
                Some(7.0),
            ),
            (vec![("x-ratelimit-remaining", "0")], None),
            (
                vec![
                    ("x-ratelimit-remaining", "none"),
                    ("x-ratelimit-reset", "5"),
                ],
                None,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let expected = wait.map(Duration::from_secs_f64);
            assert_eq!(quota_reset(&headers, now), expected, "{pairs:?}");
        }
    }
}
