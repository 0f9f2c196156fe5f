//! The companion's own signing keys: Ed25519 (RFC 8032), for subscriptions whose receivers share no secret with it.
//!
//! One is current, older ones sign along until their overlap ends. The public halves are published as a JWK set (RFC 7517,
//! RFC 8037); the private ones are sealed at rest. `ring` signs: it is here already, under the TLS of every delivery.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;
use crate::retry::later;
use crate::store::{Note, Store, StoreError};
use crate::vault::{Nonce, Vault};

/// Where the keys stand in the store, and what binds their seal to that place.
const NAME: &str = "signing_keys";
/// Prefix of a public key in text (Standard Webhooks 1.0).
const PREFIX: &str = "whpk_";

/// One key pair.
pub struct KeyPair {
    pair: Ed25519KeyPair,
    stored: Stored,
}

/// How a key pair stands inside the sealed JSON list.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    /// The 32 bytes that the pair is made of, in base64.
    seed: String,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// All keys that sign, newest first.
pub struct SigningKeys {
    vault: Vault,
    pairs: RwLock<Arc<[KeyPair]>>,
    changes: tokio::sync::Mutex<()>,
}

impl KeyPair {
    fn of(stored: Stored) -> anyhow::Result<Self> {
        let seed = STANDARD.decode(&stored.seed).context("a signing key is damaged")?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|error| anyhow::anyhow!("a signing key is damaged: {error}"))?;
        Ok(Self { pair, stored })
    }

    /// A key pair made of 32 random bytes.
    ///
    /// # Errors
    /// Never, for 32 bytes.
    pub fn new(seed: &[u8; 32], created_at: Timestamp) -> anyhow::Result<Self> {
        Self::of(Stored { seed: STANDARD.encode(seed), created_at, expires_at: None })
    }

    /// Signs a message; 64 bytes.
    pub fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> {
        self.pair.sign(message)
    }

    /// Whether it signs at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.stored.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.stored.created_at
    }

    /// When it stops signing; `None` is the current one.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.stored.expires_at
    }

    /// The public key.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public key as Standard Webhooks writes it: `whpk_` and base64.
    pub fn public_text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.public()))
    }

    /// Names the key (`kid`): the beginning of the public key's SHA-256.
    pub fn id(&self) -> String {
        let hash = Sha256::digest(self.public());
        URL_SAFE_NO_PAD.encode(hash.get(..12).unwrap_or_default())
    }

    /// The public key as a JWK (RFC 8037 §2) with its `whpk`.
    pub fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": self.id(),
            "x": URL_SAFE_NO_PAD.encode(self.public()),
            "whpk": self.public_text(),
        })
    }
}

impl SigningKeys {
    /// The keys of the store, or a first one.
    ///
    /// # Errors
    /// A store that does not answer, a key that does not open them.
    pub async fn load(store: &dyn Store, vault: Vault, now: Timestamp) -> anyhow::Result<Self> {
        let keys = Self { vault, pairs: RwLock::new(Arc::new([])), changes: tokio::sync::Mutex::default() };
        let first = vec![KeyPair::new(&random()?, now)?.stored];
        let sealed = store.meta(NAME, Some(keys.sealed(&first)?.into())).await?.unwrap_or_default();
        let plain = keys.vault.open(NAME, &sealed)?;
        let stored: Vec<Stored> = serde_json::from_slice(&plain).context("the signing keys are damaged")?;
        if !sealed.starts_with(&keys.vault.prefix()) {
            let again = keys.sealed(&stored)?.into();
            match store.replace_meta(NAME, sealed, again, Note::default()).await {
                // Another process, started with the same keys, came first; what it wrote is read with its version.
                Err(StoreError::Conflict) => {}
                done => done.context("the signing keys were not sealed again")?,
            }
        }
        keys.put(stored)?;
        Ok(keys)
    }

    /// Reads the keys of the store again.
    ///
    /// # Errors
    /// A store that does not answer, a key that does not open them.
    pub async fn reload(&self, store: &dyn Store) -> anyhow::Result<()> {
        let _change = self.changes.lock().await;
        let sealed = store.meta(NAME, None).await?.unwrap_or_default();
        let plain = self.vault.open(NAME, &sealed)?;
        self.put(serde_json::from_slice(&plain).context("the signing keys are damaged")?)
    }

    /// The keys, newest first; some may have expired.
    pub fn all(&self) -> Arc<[KeyPair]> {
        self.pairs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a new key the current one; no other signs longer than `overlap`.
    ///
    /// # Errors
    /// Where the store does not take it.
    pub async fn rotate(
        &self,
        store: &dyn Store,
        overlap: Duration,
        note: Note,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let _change = self.changes.lock().await;
        let failed = StoreError::Unavailable;
        let overlap_ends_at = later(now, overlap);
        let mut next = vec![KeyPair::new(&random().map_err(failed)?, now).map_err(failed)?.stored];
        let pairs = self.all();
        let active = pairs.iter().filter(|pair| pair.is_active(now)).map(|pair| pair.stored.clone());
        next.extend(
            active
                .map(|key| Stored { expires_at: Some(ends_within(key.expires_at, overlap_ends_at)), ..key })
                .filter(|key| key.expires_at > Some(now)),
        );
        next.truncate(limits::ACTIVE_SECRETS);
        let known = store.meta(NAME, None).await?.unwrap_or_default();
        store.replace_meta(NAME, known, self.sealed(&next).map_err(failed)?.into(), note).await?;
        self.put(next).map_err(failed)
    }

    fn sealed(&self, stored: &[Stored]) -> anyhow::Result<Vec<u8>> {
        let mut nonce: Nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(self.vault.seal(NAME, &serde_json::to_vec(stored)?, nonce))
    }

    fn put(&self, stored: Vec<Stored>) -> anyhow::Result<()> {
        let pairs: Vec<KeyPair> = stored.into_iter().map(KeyPair::of).collect::<Result<_, _>>()?;
        *self.pairs.write().unwrap_or_else(PoisonError::into_inner) = pairs.into();
        Ok(())
    }
}

/// When what a rotation replaces stops signing: with the overlap, or at its own end where that is earlier.
pub fn ends_within(expires_at: Option<Timestamp>, overlap_ends_at: Timestamp) -> Timestamp {
    expires_at.map_or(overlap_ends_at, |own| own.min(overlap_ends_at))
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness for a key: {error}"))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032 §7.1.
    #[test]
    fn the_example_of_the_specification_is_signed_as_printed() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let pair = KeyPair::new(&seed.try_into().unwrap(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(pair.public(), hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                        d25bf5f0595bbe24655141438e7a100b";
        assert_eq!(pair.sign(b"").as_ref(), hex(expected));
        assert_eq!(
            pair.jwk()["x"],
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "as RFC 8037 A.2 prints it"
        );
    }
}
