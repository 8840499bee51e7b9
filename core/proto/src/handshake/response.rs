//! Response heads: the 101, refusals, the health check.

use tungstenite::handshake::derive_accept_key;

use super::response_headers::has_body;
use super::{HealthCheck, Refusal, ResponseHeaders};
use crate::config::Policy;
use crate::deflate::AcceptedOffer;
use crate::verdict::Code;

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The application's headers, and that of the server where the application names none.
fn push_headers(out: &mut Vec<u8>, policy: &Policy, headers: &ResponseHeaders) {
    for (name, value) in headers.iter() {
        push(out, &[name, ": ", value, "\r\n"]);
    }
    if let Some(server) = policy.server_header.as_ref().filter(|_| !headers.name("Server")) {
        push(out, &["Server: ", server, "\r\n"]);
    }
}

/// The 101 (RFC 6455 section 4.2.2), with the headers that the application adds.
pub fn accepted(
    out: &mut Vec<u8>,
    policy: &Policy,
    key: &str,
    subprotocol: Option<&str>,
    compression: Option<AcceptedOffer>,
    headers: &ResponseHeaders,
) {
    let accept = derive_accept_key(key.as_bytes());
    push(out, &["HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"]);
    push(out, &["Sec-WebSocket-Accept: ", &accept, "\r\n"]);
    if let Some(subprotocol) = subprotocol {
        push(out, &["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
    }
    if let Some(accepted) = compression {
        push(out, &["Sec-WebSocket-Extensions: ", &accepted.answer(), "\r\n"]);
    }
    push_headers(out, policy, headers);
    push(out, &["\r\n"]);
}

/// A refusal: a short plain body, and the connection ends. The body names the verdict and nothing else:
/// which rule it was, which list, which key would help whoever tries them out. The log has that. An application that refuses
/// may say more: its headers, and a body of its own. The answer to a `HEAD` has the same head alone (RFC 9110 section 9.3.2).
pub fn refused(out: &mut Vec<u8>, policy: &Policy, refusal: &Refusal, is_head: bool) {
    let rejection = refusal.rejection.as_deref();
    let headers = rejection.map_or(ResponseHeaders::NONE, |rejection| &rejection.headers);
    let own = rejection.map_or(&[][..], |rejection| &rejection.body);
    let verdict = [refusal.code.name(), ": ", refusal.code.reason(), "\n"].concat();
    // A type that the application names is that of its own body, and be it an empty one.
    let has_own = !own.is_empty() || headers.name("Content-Type") || !has_body(refusal.status);
    let body = if has_own { own } else { verdict.as_bytes() };
    let retry_after = refusal.retry_after_s.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let more = match refusal.code {
        Code::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        Code::MethodNotAllowed => "Allow: GET\r\n",
        Code::AuthFailed if refusal.status == 401 && !headers.name("WWW-Authenticate") => {
            "WWW-Authenticate: Bearer\r\n"
        }
        _ => "",
    };
    plain(out, policy, refusal.status, &[&retry_after, more], headers, body.len());
    if !is_head {
        out.extend_from_slice(body);
    }
}

/// The answer of `/healthz`.
pub fn health(out: &mut Vec<u8>, policy: &Policy, check: HealthCheck, draining: bool) {
    let (status, body) = if draining { (503, "draining") } else { (200, "ok") };
    plain(out, policy, status, &["Cache-Control: no-store\r\n"], ResponseHeaders::NONE, body.len());
    if check == HealthCheck::Get {
        push(out, &[body]);
    }
}

/// The head of an answer that ends the connection.
fn plain(out: &mut Vec<u8>, policy: &Policy, status: u16, more: &[&str], headers: &ResponseHeaders, body_len: usize) {
    push(out, &["HTTP/1.1 ", &status.to_string(), " ", phrase(status), "\r\n"]);
    if has_body(status) && !headers.name("Content-Type") {
        push(out, &["Content-Type: text/plain; charset=utf-8\r\n"]);
    }
    if !headers.name("X-Content-Type-Options") {
        push(out, &["X-Content-Type-Options: nosniff\r\n"]);
    }
    // A length would be taken for that of what was not modified (RFC 9110 section 8.6).
    if has_body(status) {
        push(out, &["Content-Length: ", &body_len.to_string(), "\r\n"]);
    }
    push(out, &["Connection: close\r\n"]);
    push(out, more);
    push_headers(out, policy, headers);
    push(out, &["\r\n"]);
}

/// The reason phrase; an application may choose any status from 300 to 599.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        418 => "I'm a Teapot",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
