//! The opening handshake, both ways: the request's bytes, and what the server's answer says.

use std::fmt::Write;

use super::access::Access;
use super::target::Target;
use super::text::shown;

/// The nonce of RFC 6455 section 1.3. It protects caches, not secrets, and its answer is known without SHA-1.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest head of a response that is read.
pub(crate) const LONGEST_HEAD: usize = 32 * 1024;

/// What an opening handshake asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) host: String,
    pub(crate) origin: Option<String>,
    pub(crate) access: Access,
    pub(crate) protocols: Vec<String>,
    /// Whether permessage-deflate is offered.
    pub(crate) deflate: bool,
    /// Further lines of the head, each with its end.
    pub(crate) extra: String,
    /// What follows the head.
    pub(crate) body: String,
}

impl Ask {
    pub(crate) fn new(target: &Target, access: Access, protocols: Vec<String>) -> Self {
        Self {
            path: target.path.clone(),
            query: target.query.clone(),
            host: target.at.authority(),
            origin: None,
            access,
            protocols,
            deflate: false,
            extra: String::new(),
            body: String::new(),
        }
    }

    pub(crate) fn with_origin(&self, origin: Option<&str>) -> Self {
        Self { origin: origin.map(str::to_owned), ..self.clone() }
    }

    pub(crate) fn with_extra(&self, extra: &str) -> Self {
        Self { extra: extra.to_owned(), ..self.clone() }
    }

    pub(crate) fn with_access(&self, access: Access) -> Self {
        Self { access, ..self.clone() }
    }

    /// The request line and `Host`.
    pub(crate) fn beginning(&self) -> String {
        let query = self.access.query(&self.query);
        let mark = if query.is_empty() { "" } else { "?" };
        format!("GET {}{mark}{query} HTTP/1.1\r\nHost: {}\r\n", self.path, self.host)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = self.beginning();
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        let _ = write!(head, "Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n");
        if let Some(origin) = &self.origin {
            let _ = write!(head, "Origin: {origin}\r\n");
        }
        if self.deflate {
            head += "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        }
        head += &self.access.lines(&self.protocols);
        head += &self.extra;
        head += "\r\n";
        head += &self.body;
        head.into_bytes()
    }

    /// A plain request for the same path, without an upgrade and without credentials.
    pub(crate) fn plain(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.path, self.host).into_bytes()
    }
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The beginning of an answer.
    Partial,
    /// An answer, and how many bytes of it.
    Whole(Answer, usize),
    /// No HTTP response.
    Garbage(&'static str),
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers =
                    response.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value)));
                Parsed::Whole(Self { status: response.code.unwrap_or(0), headers: headers.collect() }, len)
            }
            Ok(httparse::Status::Partial) if bytes.len() >= LONGEST_HEAD => Parsed::Garbage("a head without an end"),
            Ok(httparse::Status::Partial) => Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) => Parsed::Garbage("more than 128 headers"),
            Err(_) => Parsed::Garbage("something that is no HTTP/1 response"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is a 101 that fits the request.
    pub(crate) fn upgrades(&self) -> Result<bool, &'static str> {
        match (self.status, self.header("sec-websocket-accept")) {
            (101, Some(ACCEPT)) => Ok(true),
            (101, Some(_)) => Err("a 101 whose Sec-WebSocket-Accept does not fit the key"),
            (101, None) => Err("a 101 without Sec-WebSocket-Accept"),
            _ => Ok(false),
        }
    }

    /// Whether another answer follows, such as after 100 and 103 (RFC 9110 section 15.2).
    pub(crate) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    pub(crate) fn deflates(&self) -> bool {
        self.header("sec-websocket-extensions").is_some_and(|value| value.contains("permessage-deflate"))
    }

    /// Whether the server is busy rather than unwilling.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.status, 429 | 502..=504)
    }

    /// How long to wait before another try, at most five seconds.
    pub(crate) fn retry_after(&self) -> u64 {
        self.header("retry-after").and_then(|value| value.trim().parse().ok()).unwrap_or(2).clamp(1, 5)
    }

    /// For people: the status, and where a redirect leads (which is not followed).
    pub(crate) fn shown(&self) -> String {
        match self.header("location") {
            Some(location) if (300..400).contains(&self.status) => {
                format!("{}, a redirect to {}, which is not followed", self.status, shown(location))
            }
            _ => self.status.to_string(),
        }
    }

    /// Headers that name a program and its version.
    pub(crate) fn banners(&self) -> Vec<String> {
        let named = |name: &str| matches!(name, "server" | "x-powered-by" | "via" | "x-aspnet-version");
        let told = self.headers.iter().filter(|(name, value)| named(name) && names_version(value));
        told.map(|(name, value)| format!("{name}: {}", shown(value))).collect()
    }
}

/// Whether a digit follows a slash, or stands beside a dot: `nginx/1.25`, `PHP 8.1`.
fn names_version(value: &str) -> bool {
    value.as_bytes().windows(2).any(|two| match two {
        [b'/', digit] | [digit, b'.'] => digit.is_ascii_digit(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask::new(&Target::parse("ws://localhost:3000/ws?room=1").unwrap(), Access::default(), Vec::new())
    }

    fn whole(text: &str) -> Answer {
        match Answer::parse(text.as_bytes()) {
            Parsed::Whole(answer, len) if len == text.len() => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_request_is_whole() {
        let text = String::from_utf8(ask().with_origin(Some("http://a")).with_extra("X: y\r\n").bytes()).unwrap();
        assert!(text.starts_with("GET /ws?room=1 HTTP/1.1\r\nHost: localhost:3000\r\n"), "{text}");
        assert!(text.contains("\r\nOrigin: http://a\r\n") && text.ends_with("X: y\r\n\r\n"), "{text}");
        assert!(!text.contains("permessage-deflate"));
    }

    #[test]
    fn answers_are_read() {
        let answer = whole(&format!("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"));
        assert_eq!(answer.upgrades(), Ok(true));
        assert!(whole("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: no\r\n\r\n").upgrades().is_err());
        assert!(whole("HTTP/1.1 101 x\r\n\r\n").upgrades().is_err());
        assert_eq!(whole("HTTP/1.0 403 Forbidden\r\n\r\n").upgrades(), Ok(false));
        assert!(whole("HTTP/1.1 103 Early Hints\r\n\r\n").is_interim());
        assert!(!whole("HTTP/1.1 101 x\r\n\r\n").is_interim() && !whole("HTTP/1.1 200 x\r\n\r\n").is_interim());
        let moved = whole("HTTP/1.1 302 Found\r\nLocation: https://a/\x1b[2J\r\n\r\n".replace('\x1b', "%").as_str());
        assert_eq!(moved.shown(), "302, a redirect to https://a/%[2J, which is not followed");
        assert_eq!(whole("HTTP/1.1 429 x\r\nRetry-After: 9999\r\n\r\n").retry_after(), 5);
    }

    #[test]
    fn what_is_no_answer_is_garbage() {
        assert!(matches!(Answer::parse(b"SSH-2.0-OpenSSH"), Parsed::Garbage(_)));
        assert_eq!(Answer::parse(b"HTTP/1.1 101"), Parsed::Partial);
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; LONGEST_HEAD]].concat();
        assert!(matches!(Answer::parse(&endless), Parsed::Garbage("a head without an end")));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert!(matches!(Answer::parse(many.as_bytes()), Parsed::Garbage(_)));
    }

    #[test]
    fn versions_are_noticed() {
        let with = |value: &str| whole(&format!("HTTP/1.1 400 x\r\nServer: {value}\r\n\r\n")).banners();
        assert_eq!(with("Python/3.11 websockets/15.0"), ["server: Python/3.11 websockets/15.0"]);
        assert!(with("nginx").is_empty() && with("cloudflare").is_empty());
    }
}
