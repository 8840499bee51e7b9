//! One who stands between the audit and its server, and lets the first connection through: no later one tells him the credential.
//! The address is 0.0.0.0, which leads to this machine, and is none of its own by the rule.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::careless::{of_old_tls, serve};
use super::{TOKEN, audit, report, word};

/// A certificate for 0.0.0.0 of a new authority, and that authority as PEM.
fn certificate() -> (Arc<ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["0.0.0.0".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(authority, key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    (Arc::new(config), pem)
}

/// What a client sends up to its end.
fn heard(stream: TcpStream, config: &Arc<ServerConfig>) -> Vec<u8> {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

#[test]
fn a_later_connection_is_not_told_the_credential() {
    let ((good, authority), (own, _)) = (certificate(), certificate());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://0.0.0.0:{}/", listener.local_addr().unwrap().port());
    let told = Arc::new(Mutex::new(Vec::new()));
    std::thread::spawn({
        let told = Arc::clone(&told);
        move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let all = heard(stream, if number == 0 { &good } else { &own });
                told.lock().unwrap().push(all);
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority).unwrap();
    let arguments = ["--i-am-responsible-for", "0.0.0.0", "--token", "env:AUDIT_TOKEN", "--only", "origin-foreign"];
    let ca = ["--ca", ca.to_str().unwrap(), "--rate", "50", "--timeout", "5", url.as_str()];
    let output = audit(&[&arguments[..], &ca[..]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && errors.contains("is not to be trusted"), "{errors}");
    let told = told.lock().unwrap();
    assert!(told.len() >= 2, "there was no later connection: {errors}");
    let spoken = told.iter().any(|all| all.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()));
    assert!(!spoken, "the credential was told: {errors}");
}

/// Where a credential is to be protected, too.
#[test]
fn a_server_of_old_tls_alone_is_found_by_who_has_a_credential() {
    let url = serve(of_old_tls).replace("ws://127.0.0.1", "wss://0.0.0.0");
    let arguments = ["--i-am-responsible-for", "0.0.0.0", "--token", "env:AUDIT_TOKEN", "--only", "tls-versions"];
    let (code, report) = report(&[&arguments[..], &["--rate", "50", &url]].concat());
    assert_eq!((code, word(&report, "tls-versions")), (2, "medium"), "{report}");
}
