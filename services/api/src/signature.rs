//! Webhook signatures by Standard Webhooks 1.0: `v1,` and the base64 of HMAC-SHA256 over
//! `{id}.{timestamp}.{body}`; several signatures, separated by blanks, while a secret rotates.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use sluice_core::{Error, Result, Timestamp};
use subtle::ConstantTimeEq;

/// Shortest accepted secret, in bytes, as the specification asks for.
const MIN_SECRET: usize = 24;

/// Why a webhook was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `webhook-id`, `webhook-timestamp` or `webhook-signature` is missing or malformed.
    HeaderMissing,
    /// The time stamp is too far from now: a replay, or a wrong clock.
    OutsideWindow,
    /// No signature fits any secret.
    Signature,
}

/// Reads a secret as the specification writes it: `whsec_` and base64.
///
/// # Errors
/// `webhook_secret_invalid` when it is not base64 or shorter than 24 bytes.
pub fn parse_secret(text: &str) -> Result<SecretSlice<u8>> {
    let invalid = || {
        Error::config(
            "webhook_secret_invalid",
            "a webhook secret is not base64 of at least 24 bytes",
        )
        .hint("make one with: echo whsec_$(openssl rand -base64 32)")
    };
    let bytes = STANDARD
        .decode(text.strip_prefix("whsec_").unwrap_or(text))
        .map_err(|_| invalid())?;
    if bytes.len() < MIN_SECRET {
        return Err(invalid());
    }
    Ok(bytes.into())
}

/// Checks a webhook and returns its id. The body is not looked into.
///
/// # Errors
/// The first reason that applies.
pub fn verify<'a>(
    headers: &'a HeaderMap,
    body: &[u8],
    secrets: &[SecretSlice<u8>],
    now: Timestamp,
    window: Duration,
) -> Result<&'a str, Refused> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or(Refused::HeaderMissing)
    };
    let id = header("webhook-id")?;
    let stamp = header("webhook-timestamp")?;
    let signatures = header("webhook-signature")?;
    if id.is_empty() || id.len() > 256 {
        return Err(Refused::HeaderMissing);
    }
    let seconds: i64 = stamp.parse().map_err(|_| Refused::HeaderMissing)?;
    if now.timestamp().abs_diff(seconds) > window.as_secs() {
        return Err(Refused::OutsideWindow);
    }
    let given: Vec<Vec<u8>> = signatures
        .split_ascii_whitespace()
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let fits = secrets.iter().any(|secret| {
        let expected = sign(secret, id, stamp, body);
        given
            .iter()
            .any(|signature| bool::from(signature.as_slice().ct_eq(&expected)))
    });
    if fits {
        Ok(id)
    } else {
        Err(Refused::Signature)
    }
}

fn sign(secret: &SecretSlice<u8>, id: &str, stamp: &str, body: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret()) else {
        return Vec::new();
    };
    for part in [id.as_bytes(), b".", stamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const STAMP: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(id: &str, stamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", id),
            ("webhook-timestamp", stamp),
            ("webhook-signature", signature),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn check(headers: &HeaderMap, body: &[u8], at: i64) -> Result<String, Refused> {
        let secrets = [
            parse_secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap(),
            parse_secret(SECRET).unwrap(),
        ];
        let now = Timestamp::from_timestamp(at, 0).unwrap();
        verify(headers, body, &secrets, now, Duration::from_secs(300)).map(str::to_owned)
    }

    #[test]
    fn the_specification_example_is_accepted_with_either_secret_of_a_rotation() {
        let both = format!("v1,AAAA {SIGNATURE}");
        assert_eq!(
            check(&headers(ID, STAMP, SIGNATURE), BODY, 1_614_265_330).unwrap(),
            ID
        );
        assert_eq!(
            check(&headers(ID, STAMP, &both), BODY, 1_614_265_330).unwrap(),
            ID
        );
    }

    #[test]
    fn a_changed_byte_an_old_stamp_and_a_missing_header_are_refused() {
        let good = headers(ID, STAMP, SIGNATURE);
        assert_eq!(check(&good, b"{}", 1_614_265_330), Err(Refused::Signature));
        assert_eq!(
            check(&headers("other", STAMP, SIGNATURE), BODY, 1_614_265_330),
            Err(Refused::Signature)
        );
        assert_eq!(
            check(&good, BODY, 1_614_265_330 + 301),
            Err(Refused::OutsideWindow)
        );
        assert_eq!(
            check(&good, BODY, 1_614_265_330 - 301),
            Err(Refused::OutsideWindow)
        );
        assert_eq!(
            check(&HeaderMap::new(), BODY, 1_614_265_330),
            Err(Refused::HeaderMissing)
        );
        assert_eq!(
            check(&headers(ID, "soon", SIGNATURE), BODY, 1_614_265_330),
            Err(Refused::HeaderMissing)
        );
    }

    #[test]
    fn short_and_unreadable_secrets_are_refused() {
        for text in ["whsec_c2hvcnQ=", "whsec_%%%", ""] {
            assert_eq!(
                parse_secret(text).unwrap_err().code(),
                "webhook_secret_invalid"
            );
        }
    }
}
