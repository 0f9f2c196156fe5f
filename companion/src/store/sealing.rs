//! What of a subscription is sealed before it reaches a database: a stolen one must not show it.

use super::StoreError;
use crate::credentials::Credentials;
use crate::model::Subscription;
use crate::vault::Vault;

/// What of a subscription is sealed on disk.
pub(super) struct Sealed {
    pub(super) secrets: Vec<u8>,
    pub(super) credentials: Option<Vec<u8>>,
}

/// Seals a subscription's secrets and credentials.
pub(super) fn seal(vault: &Vault, subscription: &Subscription) -> Result<Sealed, StoreError> {
    let id = subscription.id.as_str();
    let secrets = vault.seal_secrets(id, &subscription.secrets, nonce()?);
    let credentials = match subscription.credentials.is_empty() {
        true => None,
        false => {
            let plain = serde_json::to_string(&subscription.credentials)
                .map_err(|error| StoreError::Unavailable(error.into()))?;
            Some(vault.seal(&credentials_of(id), plain.as_bytes(), nonce()?))
        }
    };
    Ok(Sealed { secrets, credentials })
}

/// Seals something again, under the vault's first key.
pub(super) fn again(vault: &Vault, context: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    let plain = vault.open(context, sealed).map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(vault.seal(context, &plain, nonce()?))
}

/// Opens a subscription's credentials.
pub(super) fn open_credentials(vault: &Vault, id: &str, sealed: &[u8]) -> Result<Credentials, StoreError> {
    let plain = vault.open(&credentials_of(id), sealed);
    let plain = plain.map_err(|error| StoreError::Unavailable(error.into()))?;
    serde_json::from_slice(&plain).map_err(|error| StoreError::Unavailable(error.into()))
}

/// What binds the seal of a subscription's credentials to it, and to being credentials.
pub(super) fn credentials_of(id: &str) -> String {
    format!("{id} credentials")
}

fn nonce() -> Result<[u8; 24], StoreError> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce)
        .map_err(|error| StoreError::Unavailable(anyhow::anyhow!("no randomness: {error}")))?;
    Ok(nonce)
}
