//! The certificate that we show to a receiver that asks for one (mutual TLS, RFC 8446 §4.4.2).

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use x509_cert::der::Decode;

use super::SecretText;
use crate::limits;
use crate::members::Fault;

/// `{"certificate": "-----BEGIN CERTIFICATE-----…", "private_key": "-----BEGIN PRIVATE KEY-----…"}`, both PEM
/// (RFC 7468): a chain whose first certificate is ours, and its key as PKCS#8, PKCS#1 or SEC1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The chain; no secret.
    pub certificate: String,
    /// The key of its first certificate.
    pub private_key: SecretText,
}

impl ClientCertificate {
    /// Checks that the chain and the key can be used at `now`.
    ///
    /// # Errors
    /// What is wrong, at `/certificate` or `/private_key`: not PEM, too many, expired, a key of another certificate or
    /// of a kind that TLS libraries do not take.
    pub fn check(&self, now: Timestamp) -> Result<(), Fault> {
        for (index, der) in self.chain()?.iter().enumerate() {
            let unreadable =
                |_| Fault::new("/certificate", format!("its certificate {} cannot be read", index + 1));
            let certificate = x509_cert::Certificate::from_der(der).map_err(unreadable)?;
            let not_after = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
            if i64::try_from(not_after).is_ok_and(|not_after| not_after < now.as_second()) {
                return Err(Fault::new("/certificate", format!("its certificate {} has expired", index + 1)));
            }
        }
        self.certified_key().map(drop)
    }

    /// The chain with its key, as TLS takes them.
    ///
    /// # Errors
    /// As [`ClientCertificate::check`], but for the expiry.
    pub fn certified_key(&self) -> Result<CertifiedKey, Fault> {
        let chain = self.chain()?;
        let key = PrivateKeyDer::from_pem_slice(self.private_key.reveal().as_bytes()).map_err(|_| {
            Fault::new("/private_key", "must be an unencrypted key in PEM: PKCS#8, PKCS#1 or SEC1")
        })?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| {
            Fault::new("/private_key", "must be RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, or Ed25519")
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(_) => Err(Fault::new("/private_key", "must be the key of the first certificate")),
        }
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let most = limits::CERTIFICATE_CHAIN;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).take(most + 1).collect();
        let wrong =
            || Fault::new("/certificate", format!("must be 1 to {most} certificates in PEM, ours first"));
        chain.ok().filter(|chain| (1..=most).contains(&chain.len())).ok_or_else(wrong)
    }
}
