//! Test certificates, made anew for every run in its temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::outcome::{Failure, Outcome};

/// One authority and two server certificates under it.
#[derive(Debug)]
pub struct Certs {
    /// `server.pem`, `server.key`, `other.pem`, `other.key`.
    pub dir: PathBuf,
    /// A client that trusts the authority and resumes no session.
    pub client: Arc<ClientConfig>,
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
        for name in ["server", "other"] {
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).map_err(explained)?;
            let key = KeyPair::generate().map_err(explained)?;
            let cert = params.signed_by(&key, &ca).map_err(explained)?;
            fs::write(dir.join(format!("{name}.pem")), cert.pem())?;
            fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).map_err(explained)?;
        let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { dir: dir.to_owned(), client: Arc::new(client) })
    }

    /// The path of a file, as an option wants it.
    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    /// The certificate that was written as `name`.
    pub fn certificate(&self, name: &str) -> Outcome<CertificateDer<'static>> {
        CertificateDer::from_pem_file(self.dir.join(format!("{name}.pem"))).map_err(explained)
    }
}
