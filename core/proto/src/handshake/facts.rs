//! What a connection's open tells of its handshake, and of its TLS.

use core::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::Request;
use super::request::text;
use crate::auth::{RequestView, cookie_pairs};
use crate::config::Policy;

/// Bytes of the values of kept headers and cookies together.
const MAX_VALUE_BYTES: usize = 8192;
/// Kept headers and cookies: one name may come many times.
const MAX_VALUES: usize = 128;

/// Names and values.
pub type Pairs = Box<[(Box<str>, Box<str>)]>;

/// What is kept of a request until its open is told.
#[derive(Default)]
pub struct Facts {
    /// The query without `?`, and without the parameters that `token_sources` names.
    pub query: Option<Box<str>>,
    /// Headers that `keep_headers` names, in lower case, in the order received.
    pub headers: Pairs,
    /// Cookies that `keep_cookies` names, in the order received.
    pub cookies: Pairs,
    /// The `Origin`.
    pub origin: Option<Box<str>>,
    /// Some headers or cookies were too large to be kept, or a cookie is not UTF-8.
    pub left_out: bool,
}

impl fmt::Debug for Facts {
    /// Without what the peer sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

/// What is left for values.
struct Room {
    bytes: usize,
    values: usize,
    left_out: bool,
}

impl Room {
    fn takes(&mut self, value: &str) -> bool {
        if self.values == 0 || value.len() > self.bytes {
            self.left_out = true;
            return false;
        }
        self.bytes -= value.len();
        self.values -= 1;
        true
    }
}

impl Facts {
    /// What `policy` keeps of `request`. A value is text as in [`UpgradeRequest`](super::UpgradeRequest).
    pub fn of(policy: &Policy, request: &Request<'_>) -> Self {
        let kept = &policy.kept;
        let mut room = Room { bytes: MAX_VALUE_BYTES, values: MAX_VALUES, left_out: false };
        let mut headers: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in request.headers().filter(|_| !kept.headers.is_empty()) {
            let Some(name) = kept.headers.iter().find(|known| known.eq_ignore_ascii_case(name)) else { continue };
            let value = text(value);
            if room.takes(&value) {
                headers.push((name.as_str().into(), value.into()));
            }
        }
        let mut crumbs: Vec<(Box<str>, Box<str>)> = Vec::new();
        if !kept.cookies.is_empty() {
            for (name, value) in request.header_values("cookie").flat_map(cookie_pairs) {
                let Some(name) = kept.cookies.iter().find(|known| known.as_bytes() == name) else { continue };
                match str::from_utf8(value) {
                    Ok(value) if room.takes(value) => crumbs.push((name.as_str().into(), value.into())),
                    Ok(_) => {}
                    Err(_) => room.left_out = true,
                }
            }
        }
        let origin = request.header_values("origin").next().map(|origin| text(origin).into());
        let query = request.query().map(|query| policy.token_sources.without_tokens(query).into());
        Self { query, headers: headers.into(), cookies: crumbs.into(), origin, left_out: room.left_out }
    }
}

/// The TLS of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The version, such as `TLSv1.3`.
    pub version: Box<str>,
    /// The cipher suite by its name at IANA, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: Box<str>,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The SHA-256 of the client's certificate (DER), in lower-case hexadecimal digits.
    pub client_certificate_sha256: Option<Box<str>>,
}

impl TlsFacts {
    /// The facts, with the digest of the client's `certificate` (DER).
    pub fn new(version: &str, cipher: &str, server_name: Option<&str>, certificate: Option<&[u8]>) -> Self {
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        let hex = |bytes: &[u8]| bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect::<String>();
        let sha256 = |der: &[u8]| hex(digest(&SHA256, der).as_ref()).into();
        Self {
            version: version.into(),
            cipher: cipher.into(),
            server_name: server_name.map(Into::into),
            client_certificate_sha256: certificate.map(sha256),
        }
    }

    /// The memory that the texts take.
    pub fn bytes(&self) -> usize {
        let optional = [&self.server_name, &self.client_certificate_sha256];
        self.version.len() + self.cipher.len() + optional.into_iter().flatten().map(|text| text.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_by_its_digest() {
        let facts = TlsFacts::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", None, Some(b"abc"));
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(facts.client_certificate_sha256.as_deref(), Some(digest));
        assert_eq!(facts.bytes(), "TLSv1.3TLS_AES_128_GCM_SHA256".len() + 64);
    }
}
