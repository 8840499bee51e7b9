//! What clients, and tests, of the npm package `ws` expect of a server: for applications that move from it to this one.
//!
//! Nobody is let in for it that is not by the rules, and nothing is told that `ws` would not tell: which header of a handshake is no
//! good is no secret.

use super::Refusal;
use super::decide::is_key;
use super::request::{Head, lists, only, values};
use super::response_headers::{Rejection, ResponseHeaders};
use crate::verdict::Code;

/// The refusal of what is no websocket handshake by its form, with the status and the words of `ws`; any other stays as it is.
pub fn in_words_of_ws(refusal: Refusal, head: &Head<'_>) -> Refusal {
    let headers = head.headers();
    let has_key = matches!(only(headers, "Sec-WebSocket-Key"), Ok(Some(key)) if is_key(key));
    let upgrade = values(headers, "Upgrade").next().filter(|value| !value.is_empty());
    // Node's HTTP server takes nothing else for an upgrade.
    let upgrade = upgrade.filter(|_| lists(headers, "Connection", "Upgrade"));
    let (status, words) = match (refusal.code, upgrade) {
        (Code::UpgradeRequired, None) => (426, "Upgrade Required"),
        (Code::MethodNotAllowed, Some(_)) => (405, "Invalid HTTP method"),
        (Code::UpgradeRequired, Some(value)) if !value.eq_ignore_ascii_case(b"websocket") => {
            (400, "Invalid Upgrade header")
        }
        (Code::UpgradeRequired | Code::HandshakeMalformed, Some(_)) if !has_key => {
            (400, "Missing or invalid Sec-WebSocket-Key header")
        }
        (Code::UpgradeRequired, Some(_)) => (400, "Missing or invalid Sec-WebSocket-Version header"),
        _ => return refusal,
    };
    let rejection = Rejection { status, headers: ResponseHeaders::default(), body: words.as_bytes().to_vec() };
    Refusal { status, rejection: Some(Box::new(rejection)), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::super::NO_HEADERS;
    use super::*;

    fn worded(code: Code, head: &str) -> (u16, String) {
        let (head, mut headers) = (format!("{head}\r\n\r\n"), NO_HEADERS);
        let head = Head::parse(head.as_bytes(), &mut headers).unwrap();
        let refusal = in_words_of_ws(Refusal::new(code, "why"), &head);
        let body = refusal.rejection.map(|rejection| String::from_utf8(rejection.body).unwrap());
        (refusal.status, body.unwrap_or_default())
    }

    #[test]
    fn what_is_no_handshake_is_told_in_the_words_of_ws() {
        let is = |code, head: &str, status, words: &str| {
            assert_eq!(worded(code, head), (status, words.to_owned()), "{head}");
        };
        let upgrade = "HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        is(Code::UpgradeRequired, "GET / HTTP/1.1\r\nHost: a", 426, "Upgrade Required");
        is(Code::MethodNotAllowed, &format!("POST / {upgrade}"), 405, "Invalid HTTP method");
        let other = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo";
        is(Code::UpgradeRequired, other, 400, "Invalid Upgrade header");
        let no_key = "Missing or invalid Sec-WebSocket-Key header";
        is(Code::UpgradeRequired, &format!("GET / {upgrade}"), 400, no_key);
        is(Code::HandshakeMalformed, &format!("GET / {upgrade}\r\nSec-WebSocket-Key: P5l8BJcZwRc="), 400, no_key);
        let no_version = "Missing or invalid Sec-WebSocket-Version header";
        is(Code::UpgradeRequired, &format!("GET / {upgrade}\r\n{key}"), 400, no_version);
    }

    #[test]
    fn every_other_refusal_stays() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        for code in [Code::OriginDenied, Code::HandshakeMalformed, Code::AuthFailed, Code::HostDenied] {
            assert_eq!(worded(code, head), (code.http_status(), String::new()));
        }
        assert_eq!(worded(Code::MethodNotAllowed, "POST / HTTP/1.1\r\nHost: a"), (405, String::new()));
    }
}
