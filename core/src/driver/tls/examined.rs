//! What can be told of a server's certificate before a server starts with it.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::der;
use crate::error::Error;
use wsguard_proto::config::TlsOptions;

/// The server's own certificate, the first of `tls.cert`.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// From when it is valid, in seconds since the Unix epoch; `None`: it does not say.
    pub valid_from_unix_s: Option<u64>,
    /// Until when it is valid.
    pub valid_until_unix_s: Option<u64>,
    /// It names itself as its issuer: no client believes it that was not told to.
    pub is_self_issued: bool,
    certificate: CertificateDer<'static>,
}

impl CertificateFacts {
    pub(super) fn of(certificate: CertificateDer<'static>) -> Self {
        let (from, until) = der::validity_unix_s(&certificate);
        Self {
            valid_from_unix_s: from,
            valid_until_unix_s: until,
            is_self_issued: der::parties(&certificate).is_some_and(|(issuer, subject)| issuer == subject),
            certificate,
        }
    }

    /// Whether a client that asks for `name` (a DNS name or an address) takes it for that server's.
    pub fn covers(&self, name: &str) -> bool {
        let name = ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']'));
        let parsed = ParsedCertificate::try_from(&self.certificate);
        matches!((parsed, name), (Ok(parsed), Ok(name)) if verify_server_name(&parsed, &name).is_ok())
    }
}

/// Loads `tls` as a start does, and tells what its certificate is.
///
/// # Errors
/// [`Error::Tls`], as a start would say it.
pub fn examine_tls(options: &TlsOptions) -> Result<CertificateFacts, Error> {
    super::build(options).map(|(_, own)| CertificateFacts::of(own)).map_err(Error::Tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(names: &[&str], from: i32, until: i32) -> CertificateFacts {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 2, 3);
        parameters.not_after = rcgen::date_time_ymd(until, 2, 3);
        let options = TlsOptions {
            cert: parameters.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
            ..TlsOptions::default()
        };
        examine_tls(&options).unwrap()
    }

    #[test]
    fn a_certificate_tells_its_time_and_its_names() {
        let facts = facts(&["app.example", "*.b.example", "127.0.0.1"], 2001, 2031);
        assert_eq!((facts.valid_from_unix_s, facts.valid_until_unix_s), (Some(981_158_400), Some(1_927_843_200)));
        assert!(facts.is_self_issued);
        for (name, is_covered) in [
            ("app.example", true),
            ("x.b.example", true),
            ("127.0.0.1", true),
            ("b.example", false),
            ("127.0.0.2", false),
            ("no name", false),
        ] {
            assert_eq!(facts.covers(name), is_covered, "{name}");
        }
    }

    #[test]
    fn one_that_another_has_issued_is_not_its_own() {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["app.example".to_owned()]).unwrap();
        let cert = leaf.signed_by(&key, &issuer).unwrap().pem();
        let options = TlsOptions { cert, key: key.serialize_pem(), ..TlsOptions::default() };
        assert!(!examine_tls(&options).unwrap().is_self_issued);
    }
}
