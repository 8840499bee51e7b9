//! Response heads: the 101, refusals, the health check.

use tungstenite::handshake::derive_accept_key;

use super::{HealthCheck, Refusal};
use crate::config::Policy;
use crate::verdict::Code;

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

fn push_server(out: &mut Vec<u8>, policy: &Policy) {
    if let Some(server) = &policy.server_header {
        push(out, &["Server: ", server, "\r\n"]);
    }
}

/// The 101 (RFC 6455 section 4.2.2).
pub fn accepted(out: &mut Vec<u8>, policy: &Policy, key: &str, subprotocol: Option<&str>) {
    let accept = derive_accept_key(key.as_bytes());
    push(out, &["HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"]);
    push(out, &["Sec-WebSocket-Accept: ", &accept, "\r\n"]);
    if let Some(subprotocol) = subprotocol {
        push(out, &["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
    }
    push_server(out, policy);
    push(out, &["\r\n"]);
}

/// A refusal: a short plain body, and the connection ends (THREATS H16). The body names the verdict and nothing else:
/// which rule it was, which list, which key would help whoever tries them out. The log has that.
pub fn refused(out: &mut Vec<u8>, policy: &Policy, refusal: &Refusal) {
    let body = [refusal.code.name(), ": ", refusal.code.reason(), "\n"];
    let retry_after = refusal.retry_after_s.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
    let more = match refusal.code {
        Code::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        Code::MethodNotAllowed => "Allow: GET\r\n",
        Code::AuthFailed if refusal.status == 401 => "WWW-Authenticate: Bearer\r\n",
        _ => "",
    };
    plain(out, policy, refusal.status, &[&retry_after, more], &body);
    push(out, &body);
}

/// The answer of `/healthz`.
pub fn health(out: &mut Vec<u8>, policy: &Policy, check: HealthCheck, draining: bool) {
    let (status, body) = if draining { (503, "draining") } else { (200, "ok") };
    plain(out, policy, status, &["Cache-Control: no-store\r\n"], &[body]);
    if check == HealthCheck::Get {
        push(out, &[body]);
    }
}

/// The head of an answer that ends the connection.
fn plain(out: &mut Vec<u8>, policy: &Policy, status: u16, more: &[&str], body: &[&str]) {
    let body_len: usize = body.iter().map(|part| part.len()).sum();
    push(out, &["HTTP/1.1 ", &status.to_string(), " ", phrase(status), "\r\n"]);
    push(out, &["Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"]);
    push(out, &["Content-Length: ", &body_len.to_string(), "\r\nConnection: close\r\n"]);
    push(out, more);
    push_server(out, policy);
    push(out, &["\r\n"]);
}

/// The reason phrase; an application may choose any status from 300 to 599.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
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
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
