//! The certificate of a run: P-256, made anew, in files of a folder that goes with the run.

use std::fs;

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

use crate::candidates::TlsFiles;

/// Makes a key and a self-signed certificate for `localhost`.
pub fn make_certificate(folder: &TempDir) -> Result<TlsFiles> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    fs::write(&files.cert, cert.pem())?;
    fs::write(&files.key, key.serialize_pem())?;
    Ok(files)
}
