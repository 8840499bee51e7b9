//! A whole request head, parsed strictly: everything that answers 400, 405, 414 or 505 by its form alone.
//!
//! In two steps, so that the client's address is known before anything is counted or refused: a [`Head`] is a request
//! line and headers that parse, a [`Request`] is one that may open a websocket.

use std::net::IpAddr;
use std::sync::Arc;

use httparse::Header;

use super::Refusal;
use super::head::{MAX_HEADERS, MAX_TARGET_BYTES, target_too_long};
use crate::auth::{RequestView, cookies};
use crate::config::Params;
use crate::host_header::Authority;
use crate::verdict::Code;

/// Room for the headers of a request: what [`Head::parse`] fills.
pub const NO_HEADERS: [Header<'static>; MAX_HEADERS] = [httparse::EMPTY_HEADER; MAX_HEADERS];

/// A head whose request line and headers parse, whatever they ask for.
#[derive(Debug)]
pub struct Head<'b> {
    method: &'b str,
    target: &'b str,
    /// The minor version of HTTP/1.
    version: u8,
    headers: &'b [Header<'b>],
    /// Why it has or may have a body.
    body: Option<Refusal>,
}

/// A request head in its parts, borrowed from the bytes it came in.
#[derive(Debug)]
pub struct Request<'b> {
    /// The path of the target, as sent: exact, never decoded.
    pub path: &'b str,
    query: Option<&'b str>,
    /// The one `Host`.
    pub host: Authority<'b>,
    headers: &'b [Header<'b>],
    /// Version 8, a draft of RFC 6455 that differs from it in nothing that follows the handshake, is as good as 13.
    pub(super) takes_8: bool,
}

impl RequestView for Request<'_> {
    fn header_values(&self, lower_case_name: &str) -> impl Iterator<Item = &[u8]> {
        values(self.headers, lower_case_name)
    }

    fn query(&self) -> Option<&str> {
        self.query
    }
}

pub(super) fn values<'h>(headers: &'h [Header<'h>], name: &str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Whether one of the header's comma-separated elements is `token`, in any case.
pub(super) fn lists(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// The one value of a header that may come once.
pub(super) fn only<'h>(headers: &'h [Header<'h>], name: &'static str) -> Result<Option<&'h [u8]>, Refusal> {
    let mut found = values(headers, name);
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        _ => Err(Refusal::malformed(format!("more than one {name} header"))),
    }
}

impl<'b> Head<'b> {
    /// Parses a head that [`HeadScanner`](super::HeadScanner) found whole.
    pub fn parse(head: &'b [u8], headers: &'b mut [Header<'b>; MAX_HEADERS]) -> Result<Self, Refusal> {
        let mut parsed = httparse::Request::new(headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            Err(httparse::Error::Version) => return Err(version_fault(head)),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::new(Code::HeadTooLarge, format!("more than {MAX_HEADERS} headers")));
            }
            Err(error) => return Err(Refusal::malformed(form_fault(error))),
            Ok(_) => return Err(Refusal::malformed("request head does not parse")),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(Refusal::malformed("request line does not parse"));
        };
        let headers: &'b [Header<'b>] = parsed.headers;
        Ok(Self { method, target, version, headers, body: check_body(headers).err() })
    }

    pub(super) fn headers(&self) -> &'b [Header<'b>] {
        self.headers
    }

    /// Whether something belongs to it that follows, or that may.
    pub fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// Whether the answer has no body, whatever it is: a `HEAD`.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The values of a header, in the order received.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &'b [u8]> {
        values(self.headers, name)
    }

    /// A health check as load balancers and monitors send it: `GET` or `HEAD` of `/healthz` or `/healthz/`,
    /// HTTP/1.0 or 1.1, with or without `Host`, whatever it offers to upgrade to but a websocket.
    pub fn health_check(&self) -> Option<HealthCheck> {
        let method = match self.method {
            "GET" => HealthCheck::Get,
            "HEAD" => HealthCheck::Head,
            _ => return None,
        };
        let path = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => rest.find('/').map_or("", |start| &rest[start..]),
            _ => self.target,
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let is_plain = matches!(path, "/healthz" | "/healthz/")
            && !lists(self.headers, "Upgrade", "websocket")
            && !self.has_body();
        is_plain.then_some(method)
    }

    /// The request, if this is one that may open a websocket.
    pub fn request(&self) -> Result<Request<'b>, Refusal> {
        let Self { method, target, version, headers, .. } = *self;
        if method != "GET" {
            return Err(Refusal::new(Code::MethodNotAllowed, "only GET opens a websocket"));
        }
        if version != 1 {
            return Err(Refusal::new(Code::HttpVersion, "only HTTP/1.1 opens a websocket"));
        }
        if target.len() > MAX_TARGET_BYTES {
            return Err(target_too_long());
        }
        if let Some(fault) = &self.body {
            return Err(fault.clone());
        }
        let host = only(headers, "Host")?.ok_or_else(|| Refusal::malformed("Host header missing"))?;
        let host = Authority::parse(host).ok_or_else(|| Refusal::malformed("Host header does not parse"))?;
        let (path, query) = split_target(target, &host)?;
        Ok(Request { path, query, host, headers, takes_8: false })
    }
}

/// A health check, by its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// Answered with a body.
    Get,
    /// Answered without one.
    Head,
}

impl<'b> Request<'b> {
    /// Parses a head that [`HeadScanner`](super::HeadScanner) found whole, and that must be able to open a websocket.
    pub fn parse(head: &'b [u8], headers: &'b mut [Header<'b>; MAX_HEADERS]) -> Result<Self, Refusal> {
        Head::parse(head, headers)?.request()
    }

    /// The same, where version 8 of the protocol is as good as 13, as it is to the npm package `ws`.
    #[must_use]
    pub fn taking_version_8(self) -> Self {
        Self { takes_8: true, ..self }
    }

    /// The one value of a header that may come once.
    pub(super) fn only(&self, name: &'static str) -> Result<Option<&[u8]>, Refusal> {
        only(self.headers, name)
    }

    /// Whether one of the header's comma-separated elements is `token`, in any case.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        lists(self.headers, name, token)
    }

    /// The values of a header, in the order received.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
        values(self.headers, name)
    }

    /// Names and values, in the order received.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// An owned copy for the application, not `reported`; `route` and `params` are what its path led to.
    pub fn snapshot(
        &self,
        route: Option<Arc<str>>,
        params: Params,
        ip: Option<IpAddr>,
        token: Option<String>,
        peer_certificate: Option<Vec<u8>>,
    ) -> UpgradeRequest {
        UpgradeRequest {
            method: "GET".to_owned(),
            path: self.path.to_owned(),
            route,
            params,
            query: self.query.map(str::to_owned),
            headers: self.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect(),
            raw_headers: self.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect(),
            ip,
            token,
            peer_certificate,
            reported: false,
        }
    }
}

/// A header value as text: UTF-8, else Latin-1, so that nothing is lost.
pub(super) fn text(value: &[u8]) -> String {
    let latin1 = || value.iter().map(|byte| char::from(*byte)).collect();
    core::str::from_utf8(value).map_or_else(|_| latin1(), str::to_owned)
}

/// A version that names another HTTP is 505; what is no version at all, a target with a space in it among it, is 400.
fn version_fault(head: &[u8]) -> Refusal {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let names_http = version
        .strip_prefix(b"HTTP/")
        .is_some_and(|number| !number.is_empty() && number.iter().all(|b| b.is_ascii_digit() || *b == b'.'));
    if names_http {
        Refusal::new(Code::HttpVersion, "only HTTP/1.1 opens a websocket")
    } else {
        Refusal::malformed("request line is not a method, a target without spaces and an HTTP version")
    }
}

fn form_fault(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "header name is not a token",
        httparse::Error::HeaderValue => "header value holds a forbidden character",
        httparse::Error::Token => "request line does not parse",
        _ => "request head does not parse",
    }
}

/// An upgrade has no body: what claims one is smuggling. A length of `00` is 0 to every parser.
fn check_body(headers: &[Header<'_>]) -> Result<(), Refusal> {
    if values(headers, "Transfer-Encoding").next().is_some() {
        return Err(Refusal::malformed("Transfer-Encoding on an upgrade request"));
    }
    match only(headers, "Content-Length")? {
        None => Ok(()),
        Some(value) if !value.is_empty() && value.iter().all(|byte| *byte == b'0') => Ok(()),
        Some(_) => Err(Refusal::malformed("Content-Length on an upgrade request is not 0")),
    }
}

/// Path and query of an origin-form target, or of an absolute one whose authority is `Host`.
fn split_target<'b>(target: &'b str, host: &Authority<'_>) -> Result<(&'b str, Option<&'b str>), Refusal> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Refusal::malformed("request target holds # or a character that is not visible ASCII"));
    }
    let origin_form = if target.starts_with('/') { target } else { absolute_path(target, host)? };
    match origin_form.split_once('?') {
        // `http://host?x/admin`: there are routers that look for the first slash behind the host.
        Some(("", query)) if query.contains('/') => {
            Err(Refusal::malformed("request target is an absolute URI without a path whose query holds a slash"))
        }
        Some((path, query)) => Ok((if path.is_empty() { "/" } else { path }, Some(query))),
        None if origin_form.is_empty() => Ok(("/", None)),
        None => Ok((origin_form, None)),
    }
}

fn absolute_path<'b>(target: &'b str, host: &Authority<'_>) -> Result<&'b str, Refusal> {
    let fault = || Refusal::malformed("request target is neither a path nor an absolute URI");
    let (scheme, rest) = target.split_once("://").ok_or_else(fault)?;
    let schemes = [("http", 80), ("https", 443), ("ws", 80), ("wss", 443)];
    let scheme = schemes.iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known));
    let (_, default_port) = *scheme.ok_or_else(fault)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = Authority::parse(&rest.as_bytes()[..end]).ok_or_else(fault)?;
    if !authority.same_as(host, default_port) {
        return Err(Refusal::malformed("authority of the request target differs from Host"));
    }
    Ok(&rest[end..])
}

/// An upgrade request as the application sees it: a copy that outlives the connection.
///
/// It holds what the peer sent, credentials included: do not log it.
#[derive(Clone)]
pub struct UpgradeRequest {
    /// Always `GET`.
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// The route that the path is of, as `routes` writes it.
    pub route: Option<Arc<str>>,
    /// The parameters of the path, percent-decoded: those that a pattern such as `/room/{name}` names.
    pub params: Params,
    /// The query without `?`, as sent.
    pub query: Option<String>,
    /// Every header in the order received, names in lower case; a value that is not UTF-8 is read as Latin-1.
    pub headers: Vec<(String, String)>,
    /// The same as they were sent: names in the sender's case, values as bytes.
    pub raw_headers: Vec<(String, Vec<u8>)>,
    /// The client's address; `None` on a Unix socket without a proxy.
    pub ip: Option<IpAddr>,
    /// The token that `token_sources` found, not yet checked by anyone.
    pub token: Option<String>,
    /// The leaf of the client's certificate chain (DER), where `tls.client_ca` asks for one.
    pub peer_certificate: Option<Vec<u8>>,
    /// Its `Origin`, `Host` or credential would have been refused, if `report_handshakes` were off: no cookie or header of it says who
    /// it is.
    pub reported: bool,
}

impl UpgradeRequest {
    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The cookies, in the order sent.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().filter(|(name, _)| name == "cookie").flat_map(|(_, value)| cookies(value.as_bytes()))
    }
}

impl core::fmt::Debug for UpgradeRequest {
    /// Without query and header values: they carry credentials.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UpgradeRequest").field("path", &self.path).field("ip", &self.ip).finish_non_exhaustive()
    }
}
