//! TLS to Redis: by the provider of the server's own TLS, never the process's default, which another library may have set.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use wsguard_proto::config_error::ConfigError;

/// Trusts the authorities of the system. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, as for other programs: a private
/// authority is given so.
pub(super) fn connector() -> Result<TlsConnector, ConfigError> {
    trusting(rustls_native_certs::load_native_certs().certs)
}

/// Trusts these.
pub(super) fn trusting(authorities: Vec<CertificateDer<'static>>) -> Result<TlsConnector, ConfigError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(authorities);
    if usable == 0 {
        let message = "asks for TLS, and this system has no certificates of authorities: install them (`ca-certificates`), or \
                       name a PEM file by the environment variable SSL_CERT_FILE";
        return Err(ConfigError::invalid("cluster.url", message));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| ConfigError::invalid("cluster.url", "asks for TLS, which this build has not"))?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}
