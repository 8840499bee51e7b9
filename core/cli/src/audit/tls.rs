//! TLS towards the server: a client that shakes hands with anybody, since whether the certificate is good is a check of its own.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use wsguard::binding::{certificate_parties, certificate_rsa_bits};

use super::text::shown;
use crate::outcome::Failure;
use crate::wire::{is_authority_for_server, tls_words};

/// How soon is soon.
const SOON_DAYS: u64 = 14;

/// The shortest RSA key that clients take.
const LEAST_RSA_BITS: usize = 2048;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that verifies signatures, and leaves the certificate to [`judge`].
pub(crate) fn client() -> Result<Arc<ClientConfig>, Failure> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::new(error.to_string()))?;
    let any = Arc::new(AnyCertificate(provider()));
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()))
}

/// The authorities of this machine, and those of a file.
pub(crate) fn authorities(file: Option<&std::path::Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = file {
        let failed = |error: String| Failure::new(format!("--ca {}: {error}", path.display()));
        let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.to_string()))?;
        if roots.add_parsable_certificates(found).0 == 0 {
            return Err(failed("no certificate in it".to_owned()));
        }
    }
    Ok(roots)
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    /// It is past its end, or not yet valid.
    NotValidNow,
    /// It ends within [`SOON_DAYS`].
    EndsSoon,
    /// It is for another name.
    OtherName,
    /// Its RSA key has so few bits.
    ShortKey(usize),
    /// No authority that this machine knows has signed it.
    UnknownIssuer,
    /// It is one of an authority, and that is known: OpenSSL takes it for a server, others do not. In the verifier's words.
    Authority(String),
    /// Something else, in the words of the verifier.
    Other(String),
}

impl CertificateFault {
    /// What is wrong, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::NotValidNow => "it is past its end, or not yet valid".to_owned(),
            Self::OtherName => "it is for another name: none of its alternative names is this one".to_owned(),
            Self::UnknownIssuer => "no authority known here has signed it (--ca names a private one)".to_owned(),
            Self::ShortKey(bits) => format!("its RSA key has {bits} bits, and {LEAST_RSA_BITS} are the least"),
            Self::EndsSoon => format!("it ends within {SOON_DAYS} days"),
            Self::Authority(why) | Self::Other(why) => shown(why),
        }
    }
}

/// Verifies what the server showed, now and in two weeks.
pub(crate) fn judge(
    chain: &[CertificateDer<'static>],
    name: &ServerName<'static>,
    roots: RootCertStore,
    now: UnixTime,
) -> Result<Option<CertificateFault>, String> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err("the server showed no certificate".to_owned());
    };
    if roots.is_empty() {
        return Err("this machine has no list of authorities; give one with --ca".to_owned());
    }
    if let Some(bits) = short_key(leaf) {
        return Ok(Some(CertificateFault::ShortKey(bits)));
    }
    let roots = Arc::new(roots);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let at = |time| verifier.verify_server_cert(leaf, intermediates, name, &[], time);
    Ok(match at(now) {
        Err(error) if is_authority_for_server(&error) => Some(of_authority(leaf, name, &roots, &error)),
        Err(error) => Some(match fault(error) {
            // Said before the issuer was looked for, and an unknown one is worse.
            CertificateFault::Other(_) if !may_be_signed(leaf, intermediates, &roots) => {
                CertificateFault::UnknownIssuer
            }
            fault => fault,
        }),
        Ok(_) => {
            let soon = Duration::from_secs(now.as_secs() + SOON_DAYS * 86_400);
            at(UnixTime::since_unix_epoch(soon)).is_err().then_some(CertificateFault::EndsSoon)
        }
    })
}

/// The verifier refuses a server that shows an authority's certificate before it looks at issuer and name. `openssl req -x509`
/// makes such ones by itself: whether anybody can know it counts then.
fn of_authority(
    leaf: &CertificateDer<'static>,
    name: &ServerName<'static>,
    roots: &RootCertStore,
    error: &Error,
) -> CertificateFault {
    let mut own = RootCertStore::empty();
    let known = own.add(leaf.clone()).is_ok() && own.roots.iter().all(|anchor| roots.roots.contains(anchor));
    let signs_itself = certificate_parties(leaf).is_some_and(|(issuer, subject)| issuer == subject);
    if !known && signs_itself {
        return CertificateFault::UnknownIssuer;
    }
    match ParsedCertificate::try_from(leaf).and_then(|leaf| verify_server_name(&leaf, name)) {
        Err(error) => fault(error),
        Ok(()) if known => CertificateFault::Authority(tls_words(error)),
        Ok(()) => CertificateFault::Other(tls_words(error)),
    }
}

/// Whether an authority is known of the name that the certificate gives as its issuer's, or others came along that may lead to one.
fn may_be_signed(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], roots: &RootCertStore) -> bool {
    let is_known = |issuer| roots.roots.iter().any(|anchor| anchor.subject.as_ref() == issuer);
    !intermediates.is_empty() || certificate_parties(leaf).is_none_or(|(issuer, _)| is_known(issuer))
}

fn fault(error: Error) -> CertificateFault {
    use CertificateError as E;
    match error {
        Error::InvalidCertificate(error) => match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                CertificateFault::NotValidNow
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => CertificateFault::OtherName,
            // The others: an authority of a known name, and with another key, or one of another kind.
            E::UnknownIssuer | E::BadSignature | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                CertificateFault::UnknownIssuer
            }
            other => CertificateFault::Other(tls_words(&Error::InvalidCertificate(other))),
        },
        other => CertificateFault::Other(other.to_string()),
    }
}

/// The bits of an RSA key that nothing here verifies with.
fn short_key(certificate: &CertificateDer<'_>) -> Option<usize> {
    certificate_rsa_bits(certificate).filter(|bits| *bits < LEAST_RSA_BITS)
}

/// Whether nothing that the key of a certificate signed can be verified: the verifier cannot read it, one of X.509 version 1 for
/// instance, or its key is too short. [`judge`] refuses every such one, so that a credential goes no further for it.
fn is_unverifiable(certificate: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_err() || short_key(certificate).is_some()
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_unverifiable(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_unverifiable(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate for `localhost` that is valid in June 2030, and a store with its authority.
    fn june() -> (Vec<CertificateDer<'static>>, RootCertStore) {
        let authority = CertifiedIssuer::self_signed(authority_for(&[]), KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2030, 6, 1), date_time_ymd(2030, 7, 1));
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        (vec![certificate.der().clone()], store(authority.der().clone()))
    }

    /// What an authority's certificate says that names these hosts.
    fn authority_for(hosts: &[&str]) -> CertificateParams {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// The same of an authority with a name of its own.
    fn authority_called(name: &str) -> CertificateParams {
        let mut params = authority_for(&[]);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    }

    fn store(authority: CertificateDer<'static>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        roots
    }

    /// Days after the first of June 2030.
    fn day(days: i64) -> UnixTime {
        let seconds = 1_906_502_400 + days * 86_400;
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
    }

    #[test]
    fn a_certificate_is_judged_by_name_time_and_authority() {
        let (chain, roots) = june();
        let judge = |name: &'static str, roots: &RootCertStore, now| {
            judge(&chain, &ServerName::try_from(name).unwrap(), roots.clone(), now).unwrap()
        };
        assert_eq!(judge("localhost", &roots, day(1)), None);
        assert_eq!(judge("localhost", &roots, day(20)), Some(CertificateFault::EndsSoon));
        assert_eq!(judge("localhost", &roots, day(31)), Some(CertificateFault::NotValidNow));
        assert_eq!(judge("localhost", &roots, day(-1)), Some(CertificateFault::NotValidNow));
        assert_eq!(judge("other.example", &roots, day(1)), Some(CertificateFault::OtherName));
        assert_eq!(judge("localhost", &june().1, day(1)), Some(CertificateFault::UnknownIssuer));
    }

    /// As `openssl req -x509` makes one by itself.
    fn by_itself() -> CertificateDer<'static> {
        authority_for(&["localhost"]).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn one_of_an_authority_is_said_in_words_where_it_is_known() {
        let certificate = by_itself();
        let roots = store(certificate.clone());
        let judge = |name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            judge(std::slice::from_ref(&certificate), &name, roots.clone(), day(1)).unwrap()
        };
        let Some(CertificateFault::Authority(words)) = judge("localhost") else { panic!("it is another fault") };
        assert!(words.contains("CA:TRUE"), "{words}");
        assert_eq!(judge("other.example"), Some(CertificateFault::OtherName));
    }

    #[test]
    fn one_that_signs_itself_is_of_an_unknown_issuer_also_as_an_authority() {
        let name = ServerName::try_from("localhost").unwrap();
        // Another one's authority has the same name, and another key.
        for roots in [june().1, store(by_itself())] {
            let judged = judge(&[by_itself()], &name, roots, day(1)).unwrap();
            assert_eq!(judged, Some(CertificateFault::UnknownIssuer));
        }
    }

    /// An authority's certificate that a known authority signed is not of an unknown issuer.
    #[test]
    fn one_below_a_known_authority_is_something_else() {
        let root = CertifiedIssuer::self_signed(authority_called("the root"), KeyPair::generate().unwrap()).unwrap();
        let below = authority_for(&["localhost"]).signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let judged = judge(&[below.der().clone()], &name, store(root.der().clone()), day(1)).unwrap();
        assert!(matches!(judged, Some(CertificateFault::Other(_))), "{judged:?}");
    }

    /// Debian's `ssl-cert` puts one of RSA for the machine's own name among the authorities.
    #[test]
    fn an_authority_of_the_same_name_with_a_key_of_another_kind_has_not_signed_it() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let roots = store(authority_for(&["localhost"]).self_signed(&key).unwrap().der().clone());
        let chain = [signed_by_itself().cert.der().clone()];
        let judged = judge(&chain, &ServerName::try_from("localhost").unwrap(), roots, day(1)).unwrap();
        assert_eq!(judged, Some(CertificateFault::UnknownIssuer));
    }

    fn signed_by_itself() -> rcgen::CertifiedKey<KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    /// As `openssl x509 -req` makes one where it is given no extensions: of version 1, which the verifier cannot read.
    fn version_1_of(made: &rcgen::CertifiedKey<KeyPair>) -> CertificateDer<'static> {
        let mut der = made.cert.der().to_vec();
        let at = der.windows(5).position(|window| window == [0xA0, 3, 2, 1, 2]).unwrap();
        der[at + 4] = 0;
        der.into()
    }

    #[test]
    fn one_that_cannot_be_read_is_refused_in_words_where_its_issuer_may_be_known() {
        let judge = |roots| {
            let certificate = version_1_of(&signed_by_itself());
            judge(&[certificate], &ServerName::try_from("localhost").unwrap(), roots, day(1)).unwrap()
        };
        let judged = judge(store(signed_by_itself().cert.der().clone()));
        let Some(CertificateFault::Other(words)) = judged else { panic!("it is another fault: {judged:?}") };
        assert!(words.contains("version 1"), "{words}");
        let another = authority_called("another").self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(judge(store(another.der().clone())), Some(CertificateFault::UnknownIssuer));
    }

    #[derive(Debug)]
    struct Shows(Arc<rustls::sign::CertifiedKey>);

    impl rustls::server::ResolvesServerCert for Shows {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    /// Shakes hands in memory with a server that shows `certificate` and signs with `key`.
    fn shake_hands(
        certificate: CertificateDer<'static>,
        key: &KeyPair,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<(), Error> {
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = provider().key_provider.load_private_key(der.into()).unwrap();
        let shows = Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![certificate], key)));
        let server = rustls::ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]);
        let server = server.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(shows));
        let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = rustls::ClientConnection::new(client().unwrap(), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn one_that_cannot_be_read_does_not_end_the_handshake_and_another_key_does() {
        let (made, other) = (signed_by_itself(), KeyPair::generate().unwrap());
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            assert_eq!(shake_hands(version_1_of(&made), &made.signing_key, version), Ok(()));
            assert_eq!(shake_hands(made.cert.der().clone(), &made.signing_key, version), Ok(()));
            assert!(shake_hands(made.cert.der().clone(), &other, version).is_err());
        }
    }

    /// `openssl req -x509 -newkey rsa:1024 -noenc -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext
    /// basicConstraints=CA:FALSE`, in base64 without its lines.
    const OF_1024_BITS: &str = "MIICFjCCAX+gAwIBAgIUObkuOfD0TndL2WiH+S87ZD43LxwwDQYJKoZIhvcNAQELBQAwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODA5MDMwOFoYDzIxMjYxMTA0MDkwMzA4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAKkIPnfuRQTCilkcNIj8hjlww3nV/0a27qp7NrbiVk81+y2wKEHhteYlFTZvC/9ODvUkLwYQSpALBjSCcvvtKrvGHQdvfYIXn/MVqtLfIFVPA0kbH5EKBbNyBQKARve9rDefH9UGZ1Pf+z8Yuljhe+tG5uw9yUanPYqlVnXUHKZhAgMBAAGjYzBhMB0GA1UdDgQWBBTlT+mtUAJ9wwNYMMToDocX8wZcSDAfBgNVHSMEGDAWgBTlT+mtUAJ9wwNYMMToDocX8wZcSDAUBgNVHREEDTALgglsb2NhbGhvc3QwCQYDVR0TBAIwADANBgkqhkiG9w0BAQsFAAOBgQAMtTHE/dawVvU8ToD6ugEYasdXsKKtCnm1FZVZG91TIWb63OLeeuSSoCaW73iO/QdvREMByOExf8AD6/3AMZdw8aiRnKJWw6ER+oO9V0rNQb6O4qSjClE8eezpR/EhEOgmJZsFl7PgsM6vmHarWCAG+W7Wt6oQe4visVUG40bWiQ==";

    #[test]
    fn a_short_key_is_a_fault_and_no_end() {
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD.decode(OF_1024_BITS).unwrap();
        let certificate = CertificateDer::from(der);
        assert_eq!(short_key(&certificate), Some(1024));
        let other = KeyPair::generate().unwrap();
        assert_eq!(shake_hands(certificate.clone(), &other, &rustls::version::TLS13), Ok(()));
        // Whoever has signed it.
        let name = ServerName::try_from("localhost").unwrap();
        let judged = judge(&[certificate], &name, june().1, day(1)).unwrap();
        assert_eq!(judged, Some(CertificateFault::ShortKey(1024)));
    }

    #[test]
    fn without_authorities_nothing_is_said() {
        let (chain, _) = june();
        let name = ServerName::try_from("localhost").unwrap();
        assert!(judge(&chain, &name, RootCertStore::empty(), day(1)).is_err());
        assert!(judge(&[], &name, RootCertStore::empty(), day(1)).is_err());
    }
}
