//! Test certificates, made anew for every run and written to its temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::outcome::{Failure, Outcome};

/// One authority; two server certificates (for reloads) and one client certificate under it. All keys are P-256.
#[derive(Debug)]
pub struct Certs {
    /// `ca.pem`, and `server`, `other`, `client`, each with `.pem` and `.key`.
    pub dir: PathBuf,
    /// A client that trusts the authority, has no certificate and resumes no session.
    pub client: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

fn explained(error: impl std::fmt::Display) -> Failure {
    Failure(format!("test certificates: {error}"))
}

impl Certs {
    /// Writes the files into `dir`.
    pub fn create(dir: &Path) -> Outcome<Self> {
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
        let roots = Arc::new(roots);
        let client = ClientConfig::builder().with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
        Ok(Self { dir: dir.to_owned(), client: finished(client, &[]), roots })
    }

    /// The path of a file, as an option wants it.
    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    /// The certificate that was written as `name`, to compare with what a server presents.
    pub fn certificate(&self, name: &str) -> Outcome<CertificateDer<'static>> {
        CertificateDer::from_pem_file(self.dir.join(format!("{name}.pem"))).map_err(explained)
    }

    /// A client with the client certificate when asked, and with these protocols for ALPN.
    pub fn client_config(&self, with_client_cert: bool, alpn: &[String]) -> Outcome<Arc<ClientConfig>> {
        if !with_client_cert && alpn.is_empty() {
            return Ok(Arc::clone(&self.client));
        }
        let builder = ClientConfig::builder().with_root_certificates(Arc::clone(&self.roots));
        let config = if with_client_cert {
            let key = PrivateKeyDer::from_pem_file(self.dir.join("client.key")).map_err(explained)?;
            builder.with_client_auth_cert(vec![self.certificate("client")?], key).map_err(explained)?
        } else {
            builder.with_no_client_auth()
        };
        Ok(finished(config, alpn))
    }
}

fn finished(mut config: ClientConfig, alpn: &[String]) -> Arc<ClientConfig> {
    config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
