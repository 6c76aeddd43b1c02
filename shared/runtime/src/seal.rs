//! Seals small secrets that have to be stored, with keys that are not stored beside them.
//!
//! A sealed secret is one byte for the form, four that name the key, a nonce of twelve, and what
//! AES-256-GCM makes of the secret. It opens only in the place it was sealed for.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use sluice_core::{Error, Result};

use crate::secret;

const FORM: u8 = 1;
const NAME_LEN: usize = 4;
const KEY_LEN: usize = 32;
/// What it takes beside the secret, before it.
const HEAD: usize = 1 + NAME_LEN + NONCE_LEN;

/// Keys that seal and open. Shows nothing when debugged.
#[derive(Clone)]
pub struct SealKeys(Arc<Vec<Key>>);

struct Key {
    /// Tells keys apart, and tells nothing about them.
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys(..)")
    }
}

impl SealKeys {
    /// The keys that references name, apart by spaces: 32 bytes in base64 each. The first one
    /// seals, the others open what they sealed once. `None` when there is none.
    ///
    /// # Errors
    /// `secret_missing`; `seal_key_invalid` when it is no reference, or what it names is no key.
    pub fn from_references(text: &str) -> Result<Option<Self>> {
        let keys: Vec<_> = text
            .split_whitespace()
            .map(|reference| {
                if !secret::is_reference(reference) {
                    return Err(invalid(
                        "a key",
                        "is no reference: write env:NAME or file:PATH",
                    ));
                }
                let key = secret::reference(reference)?;
                Key::of(&key).ok_or_else(|| {
                    invalid(
                        &format!("`{reference}`"),
                        "does not hold 32 bytes in base64",
                    )
                })
            })
            .collect::<Result<_>>()?;
        Ok((!keys.is_empty()).then(|| Self(Arc::new(keys))))
    }

    /// Seals for one place; it opens nowhere else.
    ///
    /// # Errors
    /// `seal_failed` when the system has no random numbers.
    pub fn seal(&self, place: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let failed = || Error::internal("seal_failed", "a secret cannot be sealed");
        let key = self.0.first().ok_or_else(failed)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = vec![FORM];
        sealed.extend(key.name);
        sealed.extend(nonce);
        let mut body = secret.to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut body,
            )
            .map_err(|_| failed())?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// `seal_key_unknown` when it was sealed with another key; `seal_broken` when it was changed,
    /// or sealed for another place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let broken = || {
            Error::config("seal_broken", "a sealed secret was changed or moved")
                .hint("it cannot be opened any more; give the connection new credentials")
        };
        if sealed.len() < HEAD || sealed[0] != FORM {
            return Err(broken());
        }
        let (head, body) = sealed.split_at(HEAD);
        let (name, nonce) = head[1..].split_at(NAME_LEN);
        let key = self.0.iter().find(|key| key.name == name).ok_or_else(|| {
            Error::config("seal_key_unknown", "a secret was sealed with another key")
                .hint("add that key to store.credential_keys, after the one that is used now")
        })?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut body = body.to_vec();
        let opened = key.key.open_in_place(nonce, Aad::from(place), &mut body);
        Ok(opened.map_err(|_| broken())?.to_vec())
    }
}

impl Key {
    fn of(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        if bytes.len() != KEY_LEN {
            return None;
        }
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..NAME_LEN]);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).ok()?;
        Some(Self {
            name,
            key: LessSafeKey::new(key),
        })
    }
}

fn invalid(what: &str, why: &str) -> Error {
    Error::config("seal_key_invalid", format!("{what} {why}"))
        .hint("make one with `openssl rand -base64 32`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(byte: u8) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), STANDARD.encode([byte; KEY_LEN]) + "\n").unwrap();
        file
    }

    fn keys(files: &[&tempfile::NamedTempFile]) -> SealKeys {
        let references: Vec<_> = files
            .iter()
            .map(|file| format!("file:{}", file.path().display()))
            .collect();
        SealKeys::from_references(&references.join(" "))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let one = file(1);
        let keys = keys(&[&one]);
        let sealed = keys.seal(b"here", b"s3cret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"s3cret"));
        assert_ne!(sealed, keys.seal(b"here", b"s3cret").unwrap());
        assert_eq!(keys.open(b"here", &sealed).unwrap(), b"s3cret");
        assert_eq!(
            keys.open(b"there", &sealed).unwrap_err().code(),
            "seal_broken"
        );
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(keys.open(b"here", &changed).is_err(), "byte {place}");
            assert!(keys.open(b"here", &sealed[..place]).is_err());
        }
        assert!(!format!("{keys:?}").contains('1'));
    }

    #[test]
    fn keys_change_one_after_the_other() {
        let (old, new) = (file(1), file(2));
        let sealed = keys(&[&old]).seal(b"here", b"s3cret").unwrap();
        assert_eq!(
            keys(&[&new, &old]).open(b"here", &sealed).unwrap(),
            b"s3cret"
        );
        let error = keys(&[&new]).open(b"here", &sealed).unwrap_err();
        assert_eq!(error.code(), "seal_key_unknown");
        let sealed = keys(&[&new, &old]).seal(b"here", b"s3cret").unwrap();
        assert_eq!(keys(&[&new]).open(b"here", &sealed).unwrap(), b"s3cret");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        assert!(SealKeys::from_references(" ").unwrap().is_none());
        let short = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(short.path(), "c2hvcnQ=").unwrap();
        for text in [
            "c2hvcnQ=".to_owned(),
            format!("file:{}", short.path().display()),
        ] {
            let error = SealKeys::from_references(&text).unwrap_err();
            assert_eq!(error.code(), "seal_key_invalid");
            assert!(!error.message().contains("c2hvcnQ="));
        }
    }
}
