//! Signatures of JSON Web Tokens (RFC 7515, RFC 7518).

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use sluice_core::{Error, Result};

/// How a token is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Algorithm {
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// With a shared secret.
    Hmac(fn() -> hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm),
    EdDsa,
}

const ALGORITHMS: [Algorithm; 12] = [
    of("HS256", Kind::Hmac(|| hmac::HMAC_SHA256)),
    of("HS384", Kind::Hmac(|| hmac::HMAC_SHA384)),
    of("HS512", Kind::Hmac(|| hmac::HMAC_SHA512)),
    of("RS256", Kind::Rsa(&signature::RSA_PKCS1_SHA256)),
    of("RS384", Kind::Rsa(&signature::RSA_PKCS1_SHA384)),
    of("RS512", Kind::Rsa(&signature::RSA_PKCS1_SHA512)),
    of("PS256", Kind::Rsa(&signature::RSA_PSS_SHA256)),
    of("PS384", Kind::Rsa(&signature::RSA_PSS_SHA384)),
    of("PS512", Kind::Rsa(&signature::RSA_PSS_SHA512)),
    of("ES256", Kind::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
    of("ES384", Kind::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
    of("EdDSA", Kind::EdDsa),
];

const fn of(name: &'static str, kind: Kind) -> Algorithm {
    Algorithm { name, kind }
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        ALGORITHMS.into_iter().find(|known| known.name == name)
    }

    /// Signs a message. The key is a secret's text, or a private key in PEM form.
    ///
    /// # Errors
    /// `signing_key_invalid`; texts never hold parts of the key.
    pub(super) fn sign(self, key: &str, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self.kind {
            Kind::Hmac(algorithm) => {
                let key = hmac::Key::new(algorithm(), key.as_bytes());
                Ok(hmac::sign(&key, message).as_ref().to_vec())
            }
            Kind::Rsa(encoding) => {
                let key = match private(key)? {
                    PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                    PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                    _ => return Err(invalid("is no RSA key")),
                };
                let key = key.map_err(|_| invalid("is no RSA key of 2048 to 4096 bits"))?;
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(encoding, &random, message, &mut signed)
                    .map_err(|_| invalid("is too short for the algorithm"))?;
                Ok(signed)
            }
            Kind::Ecdsa(algorithm) => {
                let der = pkcs8(key)?;
                let key = EcdsaKeyPair::from_pkcs8(algorithm, &der, &random)
                    .map_err(|_| invalid("is no key of the algorithm's curve"))?;
                let signed = key
                    .sign(&random, message)
                    .map_err(|_| invalid("cannot be used"))?;
                Ok(signed.as_ref().to_vec())
            }
            Kind::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8(key)?)
                    .map_err(|_| invalid("is no Ed25519 key"))?;
                Ok(key.sign(message).as_ref().to_vec())
            }
        }
    }
}

fn private(pem: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        invalid("is no private key in PEM form").hint(
            "the setting must hold the whole file, from -----BEGIN to -----END with its line breaks, without a passphrase",
        )
    })
}

fn pkcs8(pem: &str) -> Result<Vec<u8>> {
    match private(pem)? {
        PrivateKeyDer::Pkcs8(der) => Ok(der.secret_pkcs8_der().to_vec()),
        _ => Err(invalid("is not in the form PKCS #8")
            .hint("`openssl pkcs8 -topk8 -nocrypt` makes it from one that begins with BEGIN EC PRIVATE KEY")),
    }
}

fn invalid(detail: &str) -> Error {
    Error::config(
        "signing_key_invalid",
        format!("the key that signs the connection's tokens {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use ring::signature::{KeyPair as _, UnparsedPublicKey};

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// RFC 7515, appendix A.1, whose key is not text; so the signature is compared with another
    /// implementation's of the same algorithm.
    #[test]
    fn shared_secrets_sign_as_another_implementation_does() {
        use ::hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"planted").unwrap();
        mac.update(b"message");
        let expected = mac.finalize().into_bytes().to_vec();
        let algorithm = Algorithm::named("HS256").unwrap();
        assert_eq!(algorithm.sign("planted", b"message").unwrap(), expected);
    }

    #[test]
    fn signatures_of_private_keys_hold() {
        let random = SystemRandom::new();
        for (name, signing, verifying) in [
            (
                "ES256",
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &signature::ECDSA_P256_SHA256_FIXED,
            ),
            (
                "ES384",
                &ECDSA_P384_SHA384_FIXED_SIGNING,
                &signature::ECDSA_P384_SHA384_FIXED,
            ),
        ] {
            let der = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            let key = EcdsaKeyPair::from_pkcs8(signing, der.as_ref(), &random).unwrap();
            let algorithm = Algorithm::named(name).unwrap();
            let signed = algorithm
                .sign(&pem("PRIVATE KEY", der.as_ref()), b"message")
                .unwrap();
            UnparsedPublicKey::new(verifying, key.public_key().as_ref())
                .verify(b"message", &signed)
                .unwrap();
        }
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        let signed = Algorithm::named("EdDSA")
            .unwrap()
            .sign(&pem("PRIVATE KEY", der.as_ref()), b"message")
            .unwrap();
        UnparsedPublicKey::new(&signature::ED25519, key.public_key().as_ref())
            .verify(b"message", &signed)
            .unwrap();
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_without_showing_them() {
        let random = SystemRandom::new();
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let wrong = pem("PRIVATE KEY", der.as_ref());
        let ec = pem("EC PRIVATE KEY", b"planted-secret");
        let secret = URL_SAFE_NO_PAD.encode("planted-secret");
        for (name, key) in [
            ("RS256", "planted-secret"),
            ("RS256", wrong.as_str()),
            ("ES256", wrong.as_str()),
            ("ES256", ec.as_str()),
            ("EdDSA", ec.as_str()),
            ("PS512", ec.as_str()),
        ] {
            let error = Algorithm::named(name).unwrap().sign(key, b"x").unwrap_err();
            assert_eq!(error.code(), "signing_key_invalid");
            assert!(!error.chain().contains("planted") && !error.chain().contains(&secret));
        }
        assert!(Algorithm::named("none").is_none());
    }
}
