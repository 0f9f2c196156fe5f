//! Signing secrets at rest: sealed with XChaCha20-Poly1305 under the operator's key.
//!
//! A stolen database file alone signs nothing. The subscription's id is bound to the seal, so a secret cannot be moved
//! to another row. The key never enters the database; a check value does, so that a wrong key stops the start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Secret;

/// First byte of a sealed value; another scheme would get another.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Vault(XChaCha20Poly1305);

/// A sealed value that this key does not open: another key, another row, or damage.
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

impl Vault {
    /// A vault under a 256-bit key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    /// Seals a subscription's secrets; `nonce` is fresh randomness.
    pub fn seal(&self, subscription: &str, secrets: &[Secret], nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let stored: Vec<Stored> = secrets
            .iter()
            .map(|secret| Stored { key: STANDARD.encode(&secret.key), expires_at: secret.expires_at })
            .collect();
        // Neither writing strings as JSON nor sealing a few hundred bytes can fail; an empty value opens nothing.
        let plain = serde_json::to_vec(&stored).unwrap_or_default();
        let payload = Payload { msg: &plain, aad: subscription.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        [&[VERSION][..], &nonce, &sealed].concat()
    }

    /// Opens what [`Vault::seal`] made for the same subscription.
    ///
    /// # Errors
    /// [`WrongKey`] for anything else.
    pub fn open(&self, subscription: &str, sealed: &[u8]) -> Result<Vec<Secret>, WrongKey> {
        let (&VERSION, rest) = sealed.split_first().ok_or(WrongKey)? else {
            return Err(WrongKey);
        };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(WrongKey)?;
        let payload = Payload { msg: sealed, aad: subscription.as_bytes() };
        let plain = self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| WrongKey)?;
        let stored: Vec<Stored> = serde_json::from_slice(&plain).map_err(|_| WrongKey)?;
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
        let sealed = vault.seal("sub_1", &secrets, [9; 24]);
        assert_eq!(vault.open("sub_1", &sealed).unwrap(), secrets);
        assert!(vault.open("sub_2", &sealed).is_err());
        assert!(Vault::new(&[2; 32]).open("sub_1", &sealed).is_err());
        for damaged in [&sealed[..sealed.len() - 1], &sealed[1..], &sealed[..10], &[]] {
            assert!(vault.open("sub_1", damaged).is_err());
        }
        assert!(!sealed.windows(8).any(|window| window == [7; 8]), "the key stands in the sealed value");
    }

    #[test]
    fn a_key_has_32_bytes() {
        assert!(parse_key(&STANDARD.encode([0; 32])).is_ok());
        for wrong in ["", "short", "AAAA", "%"] {
            assert!(parse_key(wrong).is_err(), "{wrong}");
        }
    }
}
