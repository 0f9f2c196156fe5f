//! Whom we trust in TLS, and as whom we appear.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// TLS sessions kept for the one receiver that a client certificate is for.
const SESSIONS: usize = 8;

/// Certificates of a PEM file (`--trust`), to be trusted beside the system's.
///
/// # Errors
/// A file that cannot be read, or holds no certificate that can be trusted.
pub fn roots_in(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not PEM", path.display()))?;
    anyhow::ensure!(!found.is_empty(), "{} holds no certificate", path.display());
    let mut store = RootCertStore::empty();
    for (index, certificate) in found.iter().enumerate() {
        let named = || format!("certificate {} of {} cannot be trusted", index + 1, path.display());
        store.add(certificate.clone()).with_context(named)?;
    }
    Ok(found)
}

/// The system's certificates and `extra` ones.
pub(super) fn roots(extra: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs.into_iter().chain(extra.iter().cloned()));
    if usable == 0 {
        tracing::warn!("no trusted certificates on this system: deliveries to https targets will fail");
    }
    Arc::new(roots)
}

/// TLS without a certificate of ours.
///
/// # Errors
/// Where TLS cannot be set up.
pub(super) fn anonymous(roots: Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// TLS in which we show a certificate where the receiver asks for one. Its sessions are its own: to resume another's
/// would be to appear as someone else.
///
/// # Errors
/// Where TLS cannot be set up.
pub(super) fn certified(
    roots: Arc<RootCertStore>,
    ours: CertifiedKey,
) -> Result<ClientConfig, rustls::Error> {
    let ours = Arc::new(SingleCertAndKey::from(ours));
    let mut config = builder()?.with_root_certificates(roots).with_client_cert_resolver(ours);
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}
