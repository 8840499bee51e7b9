//! TLS towards the server: a client that shakes hands with anybody, since whether the certificate is good is a check of its own.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::outcome::Failure;
use crate::wire::tls_words;

/// How soon is soon.
pub(crate) const SOON_DAYS: u64 = 14;

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
    /// No authority that this machine knows has signed it.
    UnknownIssuer,
    /// Something else, in the words of the verifier.
    Other(String),
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
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let at = |time| verifier.verify_server_cert(leaf, intermediates, name, &[], time);
    Ok(match at(now) {
        Err(error) => Some(fault(error)),
        Ok(_) => {
            let soon = Duration::from_secs(now.as_secs() + SOON_DAYS * 86_400);
            at(UnixTime::since_unix_epoch(soon)).is_err().then_some(CertificateFault::EndsSoon)
        }
    })
}

fn fault(error: Error) -> CertificateFault {
    use CertificateError as E;
    match error {
        Error::InvalidCertificate(error) => match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                CertificateFault::NotValidNow
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => CertificateFault::OtherName,
            // The second: an authority of a known name, and with another key.
            E::UnknownIssuer | E::BadSignature => CertificateFault::UnknownIssuer,
            other => CertificateFault::Other(tls_words(&Error::InvalidCertificate(other))),
        },
        other => CertificateFault::Other(other.to_string()),
    }
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
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
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
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2030, 6, 1), date_time_ymd(2030, 7, 1));
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        (vec![certificate.der().clone()], roots)
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

    /// As `openssl req -x509` makes one by itself, and `--ca` names it.
    #[test]
    fn one_of_an_authority_is_said_in_words() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let Some(CertificateFault::Other(words)) = judge(&[authority.der().clone()], &name, roots, day(1)).unwrap()
        else {
            panic!("it is taken");
        };
        assert!(words.contains("CA:TRUE"), "{words}");
    }

    #[test]
    fn without_authorities_nothing_is_said() {
        let (chain, _) = june();
        let name = ServerName::try_from("localhost").unwrap();
        assert!(judge(&chain, &name, RootCertStore::empty(), day(1)).is_err());
        assert!(judge(&[], &name, RootCertStore::empty(), day(1)).is_err());
    }
}
