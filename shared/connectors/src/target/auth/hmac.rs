//! Signed requests: an HMAC over parts of the request in a header.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac as Mac, KeyInit as _, Mac as _};
use reqwest::header::HeaderName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sluice_core::{Error, Result};

use super::filled;
use crate::{
    http::Request,
    target::{
        model::{Encoding, HmacAlgorithm},
        template::{Scope, Template},
    },
};

/// What is signed and how the header looks. Templates see `config`, `request.method`,
/// `request.url`, `request.body_sha256` (lower-case hex), `timestamp` (Unix seconds), `nonce`
/// (32 hex digits); `value` also sees `signature`.
#[derive(Debug)]
pub(in crate::target) struct Hmac {
    pub(in crate::target) algorithm: HmacAlgorithm,
    pub(in crate::target) encoding: Encoding,
    pub(in crate::target) secret: Template,
    pub(in crate::target) message: Template,
    pub(in crate::target) header: HeaderName,
    pub(in crate::target) value: Template,
}

impl Hmac {
    /// The header's value for this request at this second.
    pub(super) fn header_value(
        &self,
        request: &Request,
        config: &Value,
        timestamp: i64,
        nonce: &str,
    ) -> Result<String> {
        let mut url = request.url.clone();
        url.set_fragment(None);
        let parts = json!({
            "method": request.method.as_str(),
            "url": url.as_str(),
            "body_sha256": hex::encode(Sha256::digest(&request.body)),
        });
        let scope = Scope::default()
            .with("config", config)
            .with_owned("request", parts)
            .with_owned("timestamp", timestamp)
            .with_owned("nonce", nonce);
        let secret = filled(&self.secret, &scope)?;
        let message = filled(&self.message, &scope)?;
        let signature = match self.algorithm {
            HmacAlgorithm::SHA256 => sign_sha256(secret.as_bytes(), message.as_bytes())?,
        };
        let signature = match self.encoding {
            Encoding::Base64 => BASE64.encode(signature),
            Encoding::Hex => hex::encode(signature),
        };
        filled(&self.value, &scope.with_owned("signature", signature))
    }
}

fn sign_sha256(secret: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Mac::<Sha256>::new_from_slice(secret)
        .map_err(|_| Error::config("credentials_unusable", "the signing secret is unusable"))?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, Url};

    use super::*;

    fn lessen360() -> Hmac {
        let template = |text: &str| Template::parse(text).unwrap();
        Hmac {
            algorithm: HmacAlgorithm::SHA256,
            encoding: Encoding::Base64,
            secret: template("{{ config['app_secret'] }}"),
            message: template(
                "{{ config.app_id }}{{ request.method }}{{ request.url }}{{ timestamp }}{{ nonce }}{{ request.body_sha256 }}",
            ),
            header: HeaderName::from_static("authorization"),
            value: template("HMAC {{ config.app_id }}:{{ signature }}:{{ nonce }}:{{ timestamp }}"),
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_sha256_matches_the_rfc() {
        let signature = sign_sha256(b"Jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(
            hex::encode(signature),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// The expected value was computed outside of this program, with `openssl dgst -sha256 -hmac`.
    #[test]
    fn the_signature_covers_app_method_url_time_nonce_and_body() {
        let mut request = Request::new(
            Method::POST,
            Url::parse("http://127.0.0.1:8080/v1/properties?externalId=a%3Ab#frag").unwrap(),
        );
        request.body = bytes::Bytes::from_static(b"{\"externalId\":\"a:b\"}");
        let config = json!({"app_id": "app-1", "app_secret": "s3cret"});
        let value = lessen360()
            .header_value(
                &request,
                &config,
                1_741_212_600,
                "0123456789abcdef0123456789abcdef",
            )
            .unwrap();
        assert_eq!(
            value,
            "HMAC app-1:JopbqqNf3Bvm8Mubdj+sucBsPO7CE/MN/oCduFgESpc=:0123456789abcdef0123456789abcdef:1741212600"
        );
    }
}
