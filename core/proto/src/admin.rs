//! What the admin listener answers: `/metrics`, `/healthz`, `/readyz`, and nothing else.
//!
//! It is for scrapers and probes, so it takes what those send (HTTP/1.0 and 1.1, with and without `Host`), answers one request
//! and closes. Every answer is as long as our own numbers make it: no byte of a request comes back.

use core::time::Duration;

use crate::config::AdminListen;
use crate::handshake::{HeadScanner, NO_HEADERS};
use crate::host_header::Authority;
use crate::metrics::CONTENT_TYPE;

/// The longest request line and headers; beyond it 431.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;
/// How long the oldest event may wait for the application before `/readyz` says that it is not ready.
pub const READY_INBOX_AGE: Duration = Duration::from_secs(5);

/// What the answers are made of.
pub trait Facts {
    /// Whether the server takes nobody in any more.
    fn is_draining(&self) -> bool;
    /// The age of the oldest event that the application has not taken.
    fn inbox_age(&self) -> Duration;
    /// Whether the server is in a cluster that cannot be reached.
    fn is_cut_off(&self) -> bool;
    /// The text of `/metrics`.
    fn metrics(&self) -> String;
}

/// The answer of the listener `asked` to what was received so far; `None`: the request is not whole.
pub fn answer(received: &[u8], scanner: &mut HeadScanner, asked: &AdminListen, facts: &dyn Facts) -> Option<Vec<u8>> {
    let head = match scanner.scan(received, MAX_HEAD_BYTES) {
        Ok(None) => return None,
        Ok(Some(len)) => &received[..len],
        Err(refusal) => return Some(plain(refusal.status, "", false)),
    };
    let mut headers = NO_HEADERS;
    let mut request = httparse::Request::new(&mut headers);
    Some(match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => page(&request, asked, facts),
        Err(httparse::Error::Version) => plain(505, "", false),
        Ok(_) | Err(_) => plain(400, "", false),
    })
}

/// The answer to a request that parses.
fn page(request: &httparse::Request<'_, '_>, asked: &AdminListen, facts: &dyn Facts) -> Vec<u8> {
    let method = request.method.unwrap_or_default();
    let (authority, path) = parts(request.path.unwrap_or_default());
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return plain(404, "", method == "HEAD");
    }
    // `/healthz` says no more than on the public port, which answers it whatever the `Host`.
    if path != "/healthz" && !is_for(asked, authority, request.headers) {
        // RFC 9110 section 15.5.20: the request is for another server than this one.
        return plain(421, "", method == "HEAD");
    }
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return plain(405, "Allow: GET, HEAD\r\n", false),
    };
    let unready = match path {
        "/metrics" => return response(200, CONTENT_TYPE, "", &facts.metrics(), is_head),
        _ if facts.is_draining() => Some("draining"),
        "/readyz" if facts.inbox_age() >= READY_INBOX_AGE => Some("the application does not take its events"),
        "/readyz" if facts.is_cut_off() => Some("the cluster cannot be reached"),
        _ => None,
    };
    let (status, body) = unready.map_or((200, "ok"), |why| (503, why));
    response(status, TEXT, "", body, is_head)
}

/// Whether every host that the request names is one that `asked` answers to. One that names none is: a browser always does.
fn is_for(asked: &AdminListen, authority: Option<&str>, headers: &[httparse::Header<'_>]) -> bool {
    let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let named = named.map(|header| header.value.trim_ascii()).filter(|value| !value.is_empty());
    let mut hosts = named.chain(authority.map(str::as_bytes));
    hosts.all(|host| Authority::parse(host).is_some_and(|host| asked.answers_to(&host)))
}

/// The authority and the path of a target, which may be absolute (RFC 9112 section 3.2.2) and have a query.
fn parts(target: &str) -> (Option<&str>, &str) {
    let (authority, path) = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(authority), if path.is_empty() { "/" } else { path })
        }
        _ => (None, target),
    };
    (authority, path.split_once('?').map_or(path, |(path, _)| path))
}

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer that says no more than its status.
fn plain(status: u16, more: &str, is_head: bool) -> Vec<u8> {
    response(status, TEXT, more, phrase(status), is_head)
}

fn response(status: u16, content_type: &str, more: &str, body: &str, is_head: bool) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n",
        phrase(status),
        body.len(),
    );
    if !is_head {
        text.push_str(body);
    }
    text.into_bytes()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
