//! TLS by rustls: certificates from PEM text or files, client certificates, reload.

mod stream;

pub(super) use stream::TlsStream;

use std::io;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};

use crate::config::{ConfigError, TlsOptions, TlsVersion};
use crate::error::Error;

/// Builds what the acceptor uses. Paths are read each time, so that a reload sees new files.
pub(super) fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, Error> {
    build(options).map_err(Error::Tls)
}

fn build(options: &TlsOptions) -> Result<Arc<ServerConfig>, ConfigError> {
    let certificates = certificates("tls.cert", &options.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&pem("tls.key", &options.key)?)
        .map_err(|error| ConfigError::invalid("tls.key", format!("holds no usable private key: {error}")))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| ConfigError::invalid("tls.min_version", error.to_string()))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in self::certificates("tls.client_ca", authorities)? {
                roots.add(authority).map_err(|error| ConfigError::invalid("tls.client_ca", error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| ConfigError::invalid("tls.client_ca", error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| ConfigError::invalid("tls.key", format!("does not fit tls.cert: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(option: &'static str, value: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(option, value)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ConfigError::invalid(option, "holds no PEM certificate")),
        Err(error) => Err(ConfigError::invalid(option, format!("is not PEM: {error}"))),
    }
}

/// The PEM text itself, or the file it names.
fn pem(option: &'static str, value: &str) -> Result<Vec<u8>, ConfigError> {
    if value.contains("-----BEGIN") {
        return Ok(value.as_bytes().to_vec());
    }
    std::fs::read(value).map_err(|error: io::Error| {
        ConfigError::invalid(option, format!("is neither PEM text nor a readable file ({value:?}: {error})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    fn options(min_version: TlsVersion) -> (TlsOptions, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let cert = made.cert.pem();
        let options =
            TlsOptions { cert: cert.clone(), key: made.signing_key.serialize_pem(), client_ca: None, min_version };
        (options, cert)
    }

    /// Whether a client that speaks only `version` gets through.
    fn connects(min_version: TlsVersion, version: &'static rustls::SupportedProtocolVersion) -> bool {
        let (options, cert) = options(min_version);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server_config(&options).unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }

    #[test]
    fn min_version_is_a_floor() {
        assert!(connects(TlsVersion::V1_2, &rustls::version::TLS12));
        assert!(connects(TlsVersion::V1_2, &rustls::version::TLS13));
        assert!(connects(TlsVersion::V1_3, &rustls::version::TLS13));
        assert!(!connects(TlsVersion::V1_3, &rustls::version::TLS12));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (good, _) = options(TlsVersion::V1_2);
        let (other, _) = options(TlsVersion::V1_2);
        let cases = [
            (TlsOptions { cert: "/no/such/file".into(), ..good.clone() }, "tls.cert"),
            (TlsOptions { cert: good.key.clone(), ..good.clone() }, "tls.cert"),
            (TlsOptions { key: good.cert.clone(), ..good.clone() }, "tls.key"),
            (TlsOptions { key: other.key, ..good.clone() }, "tls.key"),
            (TlsOptions { client_ca: Some("nonsense".into()), ..good.clone() }, "tls.client_ca"),
        ];
        for (options, option) in cases {
            let error = server_config(&options).expect_err(option);
            assert_eq!(error.option(), Some(option), "{error}");
            assert!(!error.to_string().contains("PRIVATE KEY"));
        }
    }
}
