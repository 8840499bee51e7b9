//! Test certificates, made anew for every run and written to its temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::failure::{Failure, Outcome};

/// One authority; two server certificates (for reloads) and one client certificate under it.
#[derive(Debug)]
pub(crate) struct Certs {
    pub(crate) dir: PathBuf,
    roots: Arc<RootCertStore>,
    client: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

fn explained(error: impl std::fmt::Display) -> Failure {
    Failure(format!("test certificates: {error}"))
}

impl Certs {
    /// Writes `ca.pem`, `server.pem`/`.key`, `other.pem`/`.key`, `client.pem`/`.key` into `dir`.
    pub(crate) fn create(dir: &Path) -> Outcome<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(explained)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "wsguard test authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(explained)?).map_err(explained)?;
        fs::write(dir.join("ca.pem"), ca.pem())?;
        for name in ["server", "other", "client"] {
            let names = vec!["localhost".to_owned(), "app.example.com".to_owned(), "127.0.0.1".to_owned()];
            let mut params = CertificateParams::new(names).map_err(explained)?;
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().map_err(explained)?;
            let cert = params.signed_by(&key, &ca).map_err(explained)?;
            fs::write(dir.join(format!("{name}.pem")), cert.pem())?;
            fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).map_err(explained)?;
        let client = (
            CertificateDer::from_pem_file(dir.join("client.pem")).map_err(explained)?,
            PrivateKeyDer::from_pem_file(dir.join("client.key")).map_err(explained)?,
        );
        Ok(Self { dir: dir.to_owned(), roots: Arc::new(roots), client })
    }

    /// The certificate written under `name`, to compare with what a server presents.
    pub(crate) fn certificate(&self, name: &str) -> Outcome<CertificateDer<'static>> {
        CertificateDer::from_pem_file(self.dir.join(format!("{name}.pem"))).map_err(explained)
    }

    /// A verifying client; `with_client_cert` presents the client certificate when asked.
    pub(crate) fn client_config(&self, with_client_cert: bool, alpn: &[String]) -> Outcome<Arc<ClientConfig>> {
        let verifier = WebPkiServerVerifier::builder(self.roots.clone()).build().map_err(explained)?;
        let builder = ClientConfig::builder().with_webpki_verifier(verifier);
        let mut config = if with_client_cert {
            let (cert, key) = &self.client;
            builder.with_client_auth_cert(vec![cert.clone()], key.clone_key()).map_err(explained)?
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}
