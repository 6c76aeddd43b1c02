//! Request signatures: HMAC-SHA256 over application id, method, URL, time, nonce and the
//! hash of the body.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::options::Lessen360Credentials;

/// How far clocks may differ, in seconds.
pub(crate) const SKEW: u64 = 300;

/// Most nonces remembered. Older ones than twice the skew are useless anyway.
const MAX_NONCES: usize = 1_000_000;

/// Why a request was not believed; the name is the error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disbelief {
    UnknownApp,
    BadSignature,
    ClockSkew,
    NonceReused,
}

impl Disbelief {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::UnknownApp => "unknown_app",
            Self::BadSignature => "bad_signature",
            Self::ClockSkew => "clock_skew",
            Self::NonceReused => "nonce_reused",
        }
    }
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub method: &'a str,
    /// The absolute URL as requested.
    pub url: &'a str,
    pub body: &'a [u8],
}

/// The signature in base64.
pub(crate) fn sign(
    with: &Lessen360Credentials,
    what: Signed<'_>,
    timestamp: &str,
    nonce: &str,
) -> String {
    let body = hex::encode(Sha256::digest(what.body));
    let message = [&with.app_id, what.method, what.url, timestamp, nonce, &body].concat();
    hmac(with.secret.as_bytes(), message.as_bytes())
}

/// HMAC-SHA256 in base64.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> String {
    // HMAC takes keys of any length, so there is always a code.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(message);
            STANDARD.encode(mac.finalize().into_bytes())
        },
    )
}

/// Remembers nonces and checks requests.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    nonces: HashMap<String, u64>,
}

impl Guard {
    /// Checks the `Authorization` header of a request at `now` (Unix seconds).
    ///
    /// # Errors
    /// The first reason to disbelieve, in the order app, signature, clock, nonce.
    pub(crate) fn check(
        &mut self,
        with: &Lessen360Credentials,
        what: Signed<'_>,
        header: &str,
        now: u64,
    ) -> Result<(), Disbelief> {
        let value = header
            .strip_prefix("HMAC ")
            .ok_or(Disbelief::BadSignature)?;
        let mut parts = value.split(':');
        let (Some(app), Some(signature), Some(nonce), Some(timestamp), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(Disbelief::BadSignature);
        };
        if app != with.app_id {
            return Err(Disbelief::UnknownApp);
        }
        let well_formed = nonce.len() == 32
            && nonce
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !well_formed || sign(with, what, timestamp, nonce) != signature {
            return Err(Disbelief::BadSignature);
        }
        let at: u64 = timestamp.parse().map_err(|_| Disbelief::BadSignature)?;
        if at.abs_diff(now) > SKEW {
            return Err(Disbelief::ClockSkew);
        }
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.retain(|_, seen| *seen + 2 * SKEW >= now);
        }
        if self.nonces.insert(nonce.to_owned(), now).is_some() {
            return Err(Disbelief::NonceReused);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0123456789abcdef0123456789abcdef";

    fn header(with: &Lessen360Credentials, what: Signed<'_>, nonce: &str, at: u64) -> String {
        let at = at.to_string();
        format!(
            "HMAC {}:{}:{nonce}:{at}",
            with.app_id,
            sign(with, what, &at, nonce)
        )
    }

    #[test]
    fn believes_a_right_signature_once() {
        let with = Lessen360Credentials::default();
        let what = Signed {
            method: "POST",
            url: "http://h/v1/properties?a=b%3Ac",
            body: b"{}",
        };
        let mut guard = Guard::default();
        let good = header(&with, what, NONCE, 1_000);
        assert_eq!(guard.check(&with, what, &good, 1_299), Ok(()));
        assert_eq!(
            guard.check(&with, what, &good, 1_299),
            Err(Disbelief::NonceReused)
        );
    }

    #[test]
    fn disbelieves_everything_else() {
        let with = Lessen360Credentials::default();
        let what = Signed {
            method: "POST",
            url: "http://h/v1/properties",
            body: b"{}",
        };
        let good = header(&with, what, NONCE, 1_000);
        let check = |with: &Lessen360Credentials, what, header: &str, now| {
            Guard::default().check(with, what, header, now)
        };
        assert_eq!(check(&with, what, &good, 1_301), Err(Disbelief::ClockSkew));
        assert_eq!(check(&with, what, &good, 699), Err(Disbelief::ClockSkew));
        assert_eq!(
            check(
                &with,
                Signed {
                    body: b"{ }",
                    ..what
                },
                &good,
                1_000
            ),
            Err(Disbelief::BadSignature)
        );
        assert_eq!(
            check(
                &with,
                Signed {
                    method: "PATCH",
                    ..what
                },
                &good,
                1_000
            ),
            Err(Disbelief::BadSignature)
        );
        assert_eq!(
            check(
                &with,
                Signed {
                    url: "http://h/v1/residents",
                    ..what
                },
                &good,
                1_000
            ),
            Err(Disbelief::BadSignature)
        );
        let other = Lessen360Credentials {
            secret: "x".into(),
            ..with.clone()
        };
        assert_eq!(
            check(&other, what, &good, 1_000),
            Err(Disbelief::BadSignature)
        );
        let other = Lessen360Credentials {
            app_id: "x".into(),
            ..with.clone()
        };
        assert_eq!(
            check(&other, what, &good, 1_000),
            Err(Disbelief::UnknownApp)
        );
        for broken in ["", "HMAC", "Bearer x", "HMAC a:b:c", "HMAC a:b:c:d:e"] {
            assert!(check(&with, what, broken, 1_000).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_signature_is_the_documented_one() {
        let with = Lessen360Credentials {
            app_id: "app".into(),
            secret: "secret".into(),
        };
        let what = Signed {
            method: "GET",
            url: "http://127.0.0.1:1/v1/trades?limit=1",
            body: b"",
        };
        // printf 'appGEThttp://127.0.0.1:1/v1/trades?limit=11700000000<nonce><sha256 of nothing>' \
        //   | openssl dgst -sha256 -hmac secret -binary | base64
        assert_eq!(
            sign(&with, what, "1700000000", NONCE),
            "JWMmNdtobkTWHQr/vHmpF39+j+Tg3c87ESR6SawxQQs="
        );
    }
}
