//! Links to the portal: who has one is a tenant until it ends.
//!
//! Pure. A link is sealed under the operator's key, so nobody else can make, change or read one, and none has to be kept: it
//! ends by itself, and every process with the same key knows it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::vault::{Nonce, Vault};

/// What a link is sealed for.
const CONTEXT: &str = "portal-link";

/// Makes links, and opens them.
pub struct Links {
    vault: Vault,
}

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who its bearer is.
    pub tenant: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Why a link is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nobody here made it.
    #[error("the link is not one of ours")]
    Unknown,
    /// Its time has passed.
    #[error("the link has expired; ask for a new one")]
    Expired,
}

impl Links {
    /// Links under the operator's key.
    pub fn new(vault: Vault) -> Self {
        Self { vault }
    }

    /// The token of a link.
    pub fn seal(&self, link: &Link, nonce: Nonce) -> String {
        // Two strings always serialize.
        let json = serde_json::to_vec(link).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(self.vault.seal(CONTEXT, &json, nonce))
    }

    /// What a token says.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn open(&self, token: &str, now: Timestamp) -> Result<Link, LinkError> {
        let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| LinkError::Unknown)?;
        let json = self.vault.open(CONTEXT, &sealed).map_err(|_| LinkError::Unknown)?;
        let link: Link = serde_json::from_slice(&json).map_err(|_| LinkError::Unknown)?;
        if now < link.expires_at { Ok(link) } else { Err(LinkError::Expired) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_until_it_ends_and_only_here() {
        let link = Link { tenant: "acme".into(), expires_at: Timestamp::from_second(100).unwrap() };
        let (own, other) = (Links::new(Vault::new(&[1; 32])), Links::new(Vault::new(&[2; 32])));
        let token = own.seal(&link, [9; 24]);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(own.open(&token, at(99)), Ok(link.clone()));
        assert_eq!(own.open(&token, at(100)), Err(LinkError::Expired));
        assert_eq!(other.open(&token, at(99)), Err(LinkError::Unknown));
        let rotated = Links::new(Vault::new(&[2; 32]).opening(&[1; 32]));
        assert_eq!(rotated.open(&token, at(99)), Ok(link));
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(forged == token || own.open(&forged, at(99)).is_err(), "{index}");
        }
        // What was sealed for something else is no link.
        let vault = Vault::new(&[1; 32]);
        let sealed =
            vault.seal("sub_1", br#"{"tenant":"acme","expires_at":"1970-01-01T00:01:40Z"}"#, [9; 24]);
        assert_eq!(own.open(&URL_SAFE_NO_PAD.encode(sealed), at(1)), Err(LinkError::Unknown));
    }
}
