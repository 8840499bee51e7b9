//! The certificate of a run: P-256, made anew, in a folder that goes with the run.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

/// A key and its certificate, as files that are there as long as this is.
#[derive(Debug)]
pub struct TlsFiles {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    _folder: TempDir,
}

impl TlsFiles {
    /// Makes a key and a self-signed certificate for `localhost`.
    pub fn make() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        let folder = tempfile::tempdir()?;
        let files = Self { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem"), _folder: folder };
        fs::write(&files.cert, cert.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}
