//! One GET of a key set: by a bounded time and size, from an issuer that its certificate proves.
//!
//! The environment is not asked for a proxy: what the options do not say decides nothing here.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, http};
use wsguard_proto::auth::{Fetched, Jwks, JwksUrl, MAX_JWKS_BYTES, max_age};
use wsguard_proto::config_error::ConfigError;

/// The time of a fetch from the look-up of the name to the last byte, redirects included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Redirects that are followed, at the same origin.
const MAX_REDIRECTS: usize = 3;
const MAX_HEADER_BYTES: usize = 16_384;

pub(super) struct Client {
    agent: Agent,
    timeout: Duration,
}

impl Client {
    /// Loads the authorities. The network is not asked.
    ///
    /// # Errors
    /// Names `jwks_ca`, if one of it is no certificate; else `jwks_url`, if the system has no authorities.
    pub(super) fn new(jwks: &Jwks) -> Result<Self, ConfigError> {
        let is_https = jwks.url().is_https();
        let roots = if is_https { roots(jwks.authorities())? } else { Vec::new() };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            // The process's default would be whatever another library installed first.
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .https_only(is_https)
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .max_response_header_size(MAX_HEADER_BYTES)
            .user_agent("wsguard")
            .accept("application/jwk-set+json, application/json")
            .build();
        Ok(Self { agent: config.new_agent(), timeout: TIMEOUT })
    }

    /// The same with less patience.
    #[cfg(test)]
    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The document at `url`, or why there is none: a clause that repeats nothing of what the issuer sent.
    pub(super) fn fetch(&self, url: &JwksUrl) -> Result<Fetched, String> {
        let ends = Instant::now() + self.timeout;
        let mut target = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut response = self.get(&target, ends)?;
            match response.status().as_u16() {
                200 => {}
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
                    let next = location.and_then(|location| target.redirected(location));
                    target = next.ok_or("the issuer redirects to another origin, which is not followed")?;
                    continue;
                }
                status => return Err(format!("the issuer answered {status}")),
            }
            let controls = response.headers().get_all("cache-control").iter();
            let max_age_s = max_age(controls.filter_map(|value| value.to_str().ok()));
            let body = response.body_mut().with_config().limit(MAX_JWKS_BYTES as u64).read_to_vec();
            return Ok(Fetched { body: body.map_err(|error| self.explain(error))?, max_age_s });
        }
        Err(format!("the issuer redirects more than {MAX_REDIRECTS} times"))
    }

    fn get(&self, target: &JwksUrl, ends: Instant) -> Result<http::Response<ureq::Body>, String> {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.too_slow());
        }
        let request = self.agent.get(target.as_str()).config().timeout_global(Some(left)).build();
        request.call().map_err(|error| self.explain(error))
    }

    fn too_slow(&self) -> String {
        format!("the issuer gave no whole answer within {} ms", self.timeout.as_millis())
    }

    /// Errors of the libraries repeat what a peer sent, such as the names in its certificate.
    fn explain(&self, error: ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => self.too_slow(),
            ureq::Error::HostNotFound => "the issuer's name does not resolve".to_owned(),
            ureq::Error::BodyExceedsLimit(_) => format!("the document is larger than {MAX_JWKS_BYTES} bytes"),
            ureq::Error::LargeResponseHeader(..) => {
                format!("the headers of the issuer's answer are larger than {MAX_HEADER_BYTES} bytes")
            }
            ureq::Error::Rustls(error) => about_tls(&error).to_owned(),
            ureq::Error::Io(error) => self.about_io(&error),
            _ => "the issuer gave no valid answer in HTTP".to_owned(),
        }
    }

    fn about_io(&self, error: &io::Error) -> String {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (inner, error.kind()) {
            (Some(inner), _) => about_tls(inner).to_owned(),
            (None, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => self.too_slow(),
            (None, io::ErrorKind::ConnectionRefused) => "the issuer refuses connections".to_owned(),
            (None, kind) => format!("the connection to the issuer failed: {kind}"),
        }
    }
}

fn about_tls(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(error) = error else {
        return "the issuer does not speak TLS as it should";
    };
    match error {
        // An authority of the same name with another key is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the issuer's certificate is of an authority that is not known here"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the issuer's certificate is for another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the issuer's certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the issuer's certificate is not valid yet"
        }
        _ => "the issuer's certificate cannot be accepted",
    }
}

/// The authorities that an issuer's certificate may be of: those stated, else the system's. These are kept up to date by who
/// keeps the system, and hold what a company adds; a list inside of this library would be as old as its release.
fn roots(stated: Option<&[Vec<u8>]>) -> Result<Vec<Certificate<'static>>, ConfigError> {
    let Some(stated) = stated else {
        let found = rustls_native_certs::load_native_certs().certs;
        if found.is_empty() {
            let message = "cannot be fetched: this system has no certificates of authorities; install them \
                           (`ca-certificates`), or give the issuer's as `jwks_ca`";
            return Err(ConfigError::invalid("auth.jwt.jwks_url", message));
        }
        return Ok(found.iter().map(|root| Certificate::from_der(root).to_owned()).collect());
    };
    let mut store = RootCertStore::empty();
    for (index, der) in stated.iter().enumerate() {
        store.add(CertificateDer::from(der.as_slice())).map_err(|_| {
            let message = format!("certificate {} cannot be used as an authority: damaged, or not X.509", index + 1);
            ConfigError::invalid("auth.jwt.jwks_ca", message)
        })?;
    }
    Ok(stated.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}
