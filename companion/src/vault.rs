//! Secrets at rest: sealed with XChaCha20-Poly1305 under the operator's key.
//!
//! A stolen database file alone signs nothing. What a secret belongs to (a subscription's id) is bound to its seal, so it
//! cannot be moved to another row. Keys never enter the database; a check value does, so that a wrong key stops the start.
//! There may be several keys: the first seals, all open, so a new one is put in front and the old one taken away later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::Secret;

/// First byte of a value sealed by a version that knew one key only.
const ONE_KEY: u8 = 1;
/// First byte of a sealed value: the id of its key follows.
const WITH_KEY: u8 = 2;
const NONCE_BYTES: usize = 24;
const ID_BYTES: usize = 4;

/// Fresh randomness for one seal.
pub type Nonce = [u8; NONCE_BYTES];

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault {
    first: Cipher,
    others: Vec<Cipher>,
}

/// One key.
#[derive(Clone)]
struct Cipher {
    id: [u8; ID_BYTES],
    cipher: XChaCha20Poly1305,
}

/// A sealed value that no key opens: another key, another row, or damage.
#[derive(Debug, thiserror::Error)]
#[error("a secret cannot be opened with this --secret-key")]
pub struct WrongKey;

/// How a secret stands inside the sealed JSON list.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Self {
        // A few bytes of a hash say which key it was, and nothing of the key.
        let hash = Sha256::new().chain_update(b"gatehook key id").chain_update(key).finalize();
        let mut id = [0; ID_BYTES];
        id.iter_mut().zip(hash).for_each(|(own, byte)| *own = byte);
        Self { id, cipher: XChaCha20Poly1305::new(&Key::from(*key)) }
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: context.as_bytes() };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

impl Vault {
    /// A vault under a 256-bit key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { first: Cipher::new(key), others: Vec::new() }
    }

    /// The same vault, which opens what was sealed under another key too.
    #[must_use]
    pub fn opening(mut self, key: &[u8; 32]) -> Self {
        self.others.push(Cipher::new(key));
        self
    }

    /// Seals bytes for one place, its `context`.
    pub fn seal(&self, context: &str, plain: &[u8], nonce: Nonce) -> Vec<u8> {
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        // Sealing a few kilobytes cannot fail; an empty value opens nothing.
        let sealed = self.first.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        [&self.prefix()[..], &nonce, &sealed].concat()
    }

    /// Opens what [`Vault::seal`] made for the same context.
    ///
    /// # Errors
    /// [`WrongKey`] for anything else.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, WrongKey> {
        let mut keys = std::iter::once(&self.first).chain(&self.others);
        let opened = match sealed.split_first() {
            Some((&ONE_KEY, rest)) => keys.find_map(|key| key.open(context, rest)),
            Some((&WITH_KEY, rest)) => rest.split_first_chunk::<ID_BYTES>().and_then(|(id, rest)| {
                keys.filter(|key| key.id == *id).find_map(|key| key.open(context, rest))
            }),
            _ => None,
        };
        opened.ok_or(WrongKey)
    }

    /// What a value begins with that is sealed under the first key; another one is to be sealed again.
    pub fn prefix(&self) -> [u8; 1 + ID_BYTES] {
        let mut prefix = [WITH_KEY; 1 + ID_BYTES];
        prefix.iter_mut().skip(1).zip(self.first.id).for_each(|(own, byte)| *own = byte);
        prefix
    }

    /// Seals a subscription's secrets.
    pub fn seal_secrets(&self, subscription: &str, secrets: &[Secret], nonce: Nonce) -> Vec<u8> {
        let stored: Vec<Stored> = secrets
            .iter()
            .map(|secret| Stored { key: STANDARD.encode(&secret.key), expires_at: secret.expires_at })
            .collect();
        // Strings always write as JSON.
        self.seal(subscription, &serde_json::to_vec(&stored).unwrap_or_default(), nonce)
    }

    /// Opens what [`Vault::seal_secrets`] made for the same subscription.
    ///
    /// # Errors
    /// [`WrongKey`] for anything else.
    pub fn open_secrets(&self, subscription: &str, sealed: &[u8]) -> Result<Vec<Secret>, WrongKey> {
        let stored: Vec<Stored> =
            serde_json::from_slice(&self.open(subscription, sealed)?).map_err(|_| WrongKey)?;
        stored
            .into_iter()
            .map(|secret| {
                let key = STANDARD.decode(secret.key).map_err(|_| WrongKey)?;
                Ok(Secret { key, expires_at: secret.expires_at })
            })
            .collect()
    }
}

/// Reads a key: 32 bytes in base64.
///
/// # Errors
/// A sentence that does not repeat the key.
pub fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| "the secret key must be base64".to_owned())?;
    let count = bytes.len();
    bytes.try_into().map_err(|_| format!("the secret key has {count} bytes; it must have 32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_same_key_for_the_same_subscription_alone() {
        let secrets = vec![Secret { key: vec![7; 32], expires_at: Some(Timestamp::UNIX_EPOCH) }];
        let vault = Vault::new(&[1; 32]);
        let sealed = vault.seal_secrets("sub_1", &secrets, [9; 24]);
        assert_eq!(vault.open_secrets("sub_1", &sealed).unwrap(), secrets);
        assert!(vault.open_secrets("sub_2", &sealed).is_err());
        assert!(Vault::new(&[2; 32]).open_secrets("sub_1", &sealed).is_err());
        for damaged in [&sealed[..sealed.len() - 1], &sealed[1..], &sealed[..10], &[]] {
            assert!(vault.open_secrets("sub_1", damaged).is_err());
        }
        assert!(!sealed.windows(8).any(|window| window == [7; 8]), "the key stands in the sealed value");
    }

    #[test]
    fn a_new_key_in_front_opens_what_the_old_one_sealed_until_that_is_taken_away() {
        let (old, new) = (Vault::new(&[1; 32]), Vault::new(&[2; 32]));
        let both = new.clone().opening(&[1; 32]);
        let sealed = old.seal("c", b"plain", [9; 24]);
        assert_eq!(both.open("c", &sealed).unwrap(), b"plain");
        assert!(new.open("c", &sealed).is_err());
        assert!(!sealed.starts_with(&both.prefix()));
        let again = both.seal("c", b"plain", [8; 24]);
        assert!(again.starts_with(&new.prefix()) && new.open("c", &again).is_ok());
    }

    #[test]
    fn what_the_first_version_sealed_still_opens() {
        let vault = Vault::new(&[2; 32]).opening(&[1; 32]);
        let sealed = Vault::new(&[1; 32]).seal("c", b"plain", [9; 24]);
        let first = [&[ONE_KEY][..], &sealed[1 + ID_BYTES..]].concat();
        assert_eq!(vault.open("c", &first).unwrap(), b"plain");
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(parse_key(&STANDARD.encode([0; 32])).is_ok());
        for wrong in ["", "short", "AAAA", "%"] {
            assert!(parse_key(wrong).is_err(), "{wrong}");
        }
    }
}
