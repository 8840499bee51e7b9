//! TLS by rustls: certificates from PEM text or files, client certificates, reload.

mod der;
mod examined;
mod server_name;
mod stream;

pub use der::{parties as certificate_parties, rsa_bits as certificate_rsa_bits};
pub use examined::{CertificateFacts, examine_tls};
pub(super) use stream::TlsStream;

use self::server_name::NotesServerName;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};

use super::caught::said;
use super::compile::Disk;
use crate::error::Error;
use der::KeyKind;
use wsguard_proto::config::{TlsOptions, TlsVersion};
use wsguard_proto::config_error::ConfigError;
use wsguard_proto::pem;

const KEYS: &str = "accepted: RSA of 2048 to 8192 bits, EC P-256, P-384 or P-521, Ed25519";

/// What the acceptor uses, and what is told of it.
#[derive(Debug)]
pub(super) struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    /// When the server's own certificate expires, in seconds since 1970; `None`: it does not say.
    pub(super) expires_at: Option<u64>,
    warnings: Vec<String>,
}

impl ServerTls {
    /// Says what is odd about it, where nothing is locked that a `tracing` subscriber of the application could wait for.
    pub(super) fn warn(&self) {
        for warning in &self.warnings {
            said(|| tracing::warn!(target: "wsguard", "{warning}"));
        }
    }
}

/// Builds what the acceptor uses. Paths are read each time, so that a reload sees new files. What is odd about it is
/// [said](ServerTls::warn) by the caller.
pub(super) fn load(options: &TlsOptions) -> Result<Arc<ServerTls>, Error> {
    build(options).map(|(tls, _)| Arc::new(tls)).map_err(Error::Tls)
}

#[cfg(test)]
pub(super) fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, Error> {
    load(options).inspect(|tls| tls.warn()).map(|tls| Arc::clone(&tls.config))
}

/// That, and the server's own certificate: each file is read once, since a pipe is empty the second time. What the libraries say of
/// an error is not passed on: some of it repeats a key.
fn build(options: &TlsOptions) -> Result<(ServerTls, CertificateDer<'static>), ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut warnings = Vec::new();
    let certificates = certificates("tls.cert", &options.cert, &mut warnings)?;
    let own = certificates.first().cloned();
    let own = own.ok_or_else(|| ConfigError::invalid("tls.cert", "holds no PEM certificate"))?;
    let key = private_key(&options.key, &provider)?;
    let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|_| ConfigError::invalid("tls.min_version", "is not supported by this build"))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => builder.with_client_cert_verifier(client_verifier(authorities, provider, &mut warnings)?),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => ConfigError::invalid(
            "tls.key",
            "does not fit tls.cert: it is the key of another certificate (the chain in tls.cert begins with the server's)",
        ),
        _ => ConfigError::invalid("tls.cert", "cannot be used: its first certificate is damaged, or not X.509"),
    })?;
    config.cert_resolver = Arc::new(NotesServerName(Arc::clone(&config.cert_resolver)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((ServerTls { config: Arc::new(config), expires_at: der::expires_at(&own), warnings }, own))
}

fn client_verifier(
    authorities: &str,
    provider: Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, ConfigError> {
    let invalid = |what: String| ConfigError::invalid("tls.client_ca", what);
    let mut roots = RootCertStore::empty();
    for (index, authority) in certificates("tls.client_ca", authorities, warnings)?.into_iter().enumerate() {
        roots.add(authority).map_err(|_| {
            invalid(format!("certificate {} cannot be used as an authority: damaged, or not X.509", index + 1))
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| invalid("holds no authority that can be used".to_owned()))
}

/// The certificates of a PEM text. One that is too old or too new is a warning: clocks may be wrong, and a server that
/// does not start helps nobody.
fn certificates(
    option: &'static str,
    value: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let blocks = pem::load(option, value, &Disk)?;
    let is_certificate = |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE");
    let other = blocks.iter().find(|block| !is_certificate(&block.label)).map(|block| block.label.clone());
    let found: Vec<_> =
        blocks.into_iter().filter(|block| is_certificate(&block.label)).map(|block| block.der).collect();
    if found.is_empty() {
        return Err(ConfigError::invalid(
            option,
            match other.as_deref() {
                Some(label) if label.ends_with("PRIVATE KEY") => "holds no PEM certificate, but a private key",
                Some(label) if label.ends_with("PUBLIC KEY") => "holds no PEM certificate, but a public key",
                Some(label) if label.ends_with("REQUEST") => "holds no PEM certificate, but a request for one",
                Some("TRUSTED CERTIFICATE") => {
                    "holds a certificate in a form of OpenSSL's own: convert it with `openssl x509`"
                }
                _ => "holds no PEM certificate",
            },
        ));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for (index, certificate) in found.iter().enumerate() {
        if let Some(what) = der::untimely(certificate, &der::stamp(now)) {
            warnings.push(format!("{option}: certificate {} {what}: peers will refuse it", index + 1));
        }
    }
    Ok(found.into_iter().map(CertificateDer::from).collect())
}

/// The first private key of a PEM text.
fn private_key(value: &str, provider: &CryptoProvider) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let invalid = |what: &str| ConfigError::invalid("tls.key", what);
    let blocks = pem::load("tls.key", value, &Disk)?;
    let first = blocks.iter().map(|block| block.label.clone()).next().unwrap_or_default();
    let block = blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(block) = block else {
        return Err(invalid(match first.as_str() {
            "CERTIFICATE" => "holds no private key, but a certificate",
            label if label.ends_with("PUBLIC KEY") => "holds no private key, but a public one",
            _ => "holds no private key",
        }));
    };
    let kind = match block.label.as_str() {
        "PRIVATE KEY" => der::pkcs8(&block.der),
        "RSA PRIVATE KEY" => der::pkcs1(&block.der),
        "EC PRIVATE KEY" => der::sec1(&block.der),
        "OPENSSH PRIVATE KEY" => {
            return Err(invalid("is in a form of OpenSSH's own: convert it with `ssh-keygen -p -m PKCS8`"));
        }
        _ => return Err(invalid(&format!("is of a kind that TLS does not use; {KEYS}"))),
    };
    let key = match block.label.as_str() {
        "PRIVATE KEY" => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(block.der)),
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(block.der).into(),
        _ => PrivateSec1KeyDer::from(block.der).into(),
    };
    match provider.key_provider.load_private_key(key.clone_key()) {
        Ok(_) => Ok(key),
        Err(_) => Err(invalid(&why_not(kind.as_ref()))),
    }
}

/// Why a key of this kind cannot be used.
fn why_not(kind: Option<&KeyKind>) -> String {
    match kind {
        Some(KeyKind::Rsa(bits)) if !(2048..=8192).contains(bits) => format!("is an RSA key of {bits} bits; {KEYS}"),
        Some(KeyKind::Ec(curve)) if !matches!(curve, Some("P-256" | "P-384" | "P-521")) => {
            format!("is an EC key of the curve {}; {KEYS}", curve.unwrap_or("that has no name here"))
        }
        Some(KeyKind::Other) => format!("is of a kind that TLS does not use; {KEYS}"),
        _ => format!("is damaged, or not a private key; {KEYS}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
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
        let key = good.key.clone();
        let lost_begin = key.replacen("-----BEGIN PRIVATE KEY-----\n", "", 1);
        let bare: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        let with_key = |key: &str| TlsOptions { key: key.to_owned(), ..good.clone() };
        let with_cert = |cert: &str| TlsOptions { cert: cert.to_owned(), ..good.clone() };
        let cases = [
            (with_cert("/no/such/file.pem"), "tls.cert", "/no/such/file.pem cannot be read: there is no such file"),
            (with_cert(&key), "tls.cert", "holds no PEM certificate, but a private key"),
            (with_cert(&good.cert.replace("CERTIFICATE", "CERTIFICATE REQUEST")), "tls.cert", "a request for one"),
            (with_cert(&good.cert.replace("MII", "MIJ")), "tls.cert", "its first certificate is damaged"),
            (with_key(&good.cert), "tls.key", "holds no private key, but a certificate"),
            (with_key(&other.key), "tls.key", "does not fit tls.cert"),
            (with_key(&lost_begin), "tls.key", "lost its BEGIN line"),
            (with_key(&bare), "tls.key", "base64 without its BEGIN and END lines"),
            (with_key(&key.replace("PRIVATE", "ENCRYPTED PRIVATE")), "tls.key", "is encrypted: decrypt it first"),
            (with_key(&key.replace("PRIVATE", "OPENSSH PRIVATE")), "tls.key", "OpenSSH"),
            (with_key(&key.replace("PRIVATE", "DSA PRIVATE")), "tls.key", "that TLS does not use"),
            (with_key(&key.replace("MIG", "MIH")), "tls.key", "is damaged"),
            (TlsOptions { client_ca: Some("nonsense".into()), ..good.clone() }, "tls.client_ca", "neither PEM text"),
            (TlsOptions { client_ca: Some(key.clone()), ..good.clone() }, "tls.client_ca", "but a private key"),
        ];
        for (options, option, words) in cases {
            let error = server_config(&options).expect_err(option);
            assert_eq!(error.option(), Some(option), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(words), "{words}: {error}");
            for part in bare.as_bytes().chunks(12) {
                assert!(!shown.contains(str::from_utf8(part).unwrap()), "{shown}");
            }
            assert!(!shown.contains("45, 45") && !shown.contains("PRIVATE KEY"), "{shown}");
        }
    }

    #[test]
    fn pairs_are_taken_as_people_give_them() {
        let (good, _) = options(TlsVersion::V1_2);
        for spelled in [
            |text: &str| text.replace('\n', "\\n"),
            |text: &str| text.replace('\n', "\r\n"),
            |text: &str| text.replace('\n', " "),
            |text: &str| format!("\u{feff}{text}"),
            |text: &str| text.replace('\n', "\n  "),
        ] {
            let options = TlsOptions { cert: spelled(&good.cert), key: spelled(&good.key), ..good.clone() };
            server_config(&options).unwrap();
        }
        // The order of a chain is kept: a mark before the first certificate must not make it vanish.
        let (other, _) = options(TlsVersion::V1_2);
        let chain = format!("\u{feff}{}{}", good.cert, other.cert);
        server_config(&TlsOptions { cert: chain, ..good.clone() }).unwrap();
        let both = format!("{}{}", good.cert, good.key);
        server_config(&TlsOptions { cert: both.clone(), key: both, ..good }).unwrap();
    }

    /// What the server logs while it loads this pair.
    fn logged(options: &TlsOptions) -> String {
        use std::sync::Mutex;
        let log = Arc::new(Mutex::new(Vec::new()));
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(Sink(Arc::clone(&log)))).finish();
        tracing::subscriber::with_default(subscriber, || server_config(options).unwrap());
        String::from_utf8(log.lock().unwrap().clone()).unwrap()
    }

    struct Sink(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for &Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_certificate_out_of_its_time_is_a_warning_with_the_date() {
        for (from, until, words) in [
            (2001, 2002, "tls.cert: certificate 1 expired on 2002-02-03"),
            (2101, 2102, "tls.cert: certificate 1 is not valid before 2101-02-03"),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(from, 2, 3);
            parameters.not_after = rcgen::date_time_ymd(until, 2, 3);
            let cert = parameters.self_signed(&key).unwrap().pem();
            let (good, _) = options(TlsVersion::V1_2);
            let log = logged(&TlsOptions { cert, key: key.serialize_pem(), ..good.clone() });
            assert!(log.contains("WARN") && log.contains(words), "{log}");
            assert_eq!(logged(&good), "");
        }
    }

    #[test]
    fn the_kind_of_a_key_that_is_not_used_is_told() {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let text = |label: &str, der: &[u8]| ::pem::encode(&::pem::Pem::new(label, der));
        let (good, _) = options(TlsVersion::V1_2);
        let ec = |curve: &[u8]| {
            let algorithm =
                [&[0x30, 9 + curve.len() as u8, 6, 7][..], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], curve].concat();
            let key = [&[2, 1, 0][..], &algorithm, &[4, 2, 0x30, 0]].concat();
            [&[0x30, key.len() as u8][..], &key].concat()
        };
        let small = rsa_1024();
        let strong = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        for (key, words) in [
            (text("PRIVATE KEY", &ec(&[6, 5, 0x2b, 0x81, 4, 0, 0x0a])), "an EC key of the curve secp256k1"),
            (text("PRIVATE KEY", &ec(&[6, 3, 0x2b, 1, 1])), "an EC key of the curve that has no name here"),
            (text("RSA PRIVATE KEY", &small), "an RSA key of 1024 bits"),
            (text("PRIVATE KEY", AsDer::<Pkcs8V1Der>::as_der(&strong).unwrap().as_ref()), "does not fit tls.cert"),
        ] {
            let error = server_config(&TlsOptions { key, ..good.clone() }).unwrap_err();
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }

    /// The beginning of a PKCS #1 key with a modulus of 1024 bits: enough to be told what it is.
    fn rsa_1024() -> Vec<u8> {
        let parts = [&[2, 1, 0, 2, 0x81, 0x81, 0][..], &[0xc5; 128], &[2, 3, 1, 0, 1]].concat();
        [&[0x30, 0x81, parts.len() as u8][..], &parts].concat()
    }
}
