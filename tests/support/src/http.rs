//! Opening handshakes and the answers to them.

use std::fmt::Write as _;

use crate::deflate::OFFER;
use crate::outcome::{Failure, Outcome, shown};

/// The origin that every policy of these tests allows.
pub const ORIGIN: &str = "https://app.example.com";

/// The key of the example in RFC 6455, section 1.3: every client here sends this one.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The accept value that must answer [`KEY`], as the same section has it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An opening handshake.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The request target.
    pub target: String,
    /// Headers beside those that every upgrade has; `Origin` comes from here, too.
    pub headers: Vec<(String, String)>,
}

impl Opening {
    /// From the allowed origin, with a token.
    pub fn with_token(token: &str) -> Self {
        Self::bare().header("Origin", ORIGIN).header("X-Auth-Token", token)
    }

    /// No origin, no credential.
    pub fn bare() -> Self {
        Self { target: "/".into(), headers: Vec::new() }
    }

    /// With an offer of compression, as browsers make it.
    #[must_use]
    pub fn compressed(self) -> Self {
        self.header("Sec-WebSocket-Extensions", OFFER)
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The request head.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n",
            self.target
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The head of an answer, strictly parsed.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole head.
    pub head: String,
    headers: Vec<(String, String)>,
}

impl Response {
    /// Takes a whole head off `buffer`; `None` while it is incomplete.
    pub fn take(buffer: &mut Vec<u8>) -> Outcome<Option<Self>> {
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head: Vec<u8> = buffer.drain(..end + 4).collect();
        Self::parse(&head).map(Some)
    }

    /// Parses the bytes up to and with the empty line.
    pub fn parse(head: &[u8]) -> Outcome<Self> {
        let bad = || Failure(format!("not an HTTP response: {}", shown(head)));
        let text = std::str::from_utf8(head).map_err(|_| bad())?;
        let mut lines = text.strip_suffix("\r\n\r\n").ok_or_else(bad)?.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or_else(bad)?;
        let status = status.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
        let headers = lines
            .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(bad))
            .collect::<Outcome<_>>()?;
        Ok(Self { status, head: text.to_owned(), headers })
    }

    /// The value of a header; several are an error in everything this server answers.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() { Some("(sent twice)") } else { value }
    }

    /// What `Content-Length` says; 0 without it.
    pub fn body_length(&self) -> usize {
        self.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_parse_strictly() {
        let response = Response::parse(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!((response.status, response.header("connection"), response.body_length()), (403, Some("close"), 0));
        assert!(Response::parse(b"HTTP/1.0 403 x\r\n\r\n").is_err());
        assert!(Response::parse(b"HTTP/1.1 403 x\r\nno colon\r\n\r\n").is_err());
        let twice = Response::parse(b"HTTP/1.1 403 x\r\nServer: a\r\nserver: b\r\n\r\n").unwrap();
        assert_eq!(twice.header("Server"), Some("(sent twice)"));
    }

    #[test]
    fn a_head_is_taken_whole_and_alone() {
        let mut buffer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00".to_vec();
        assert!(Response::take(&mut buffer[..20].to_vec()).unwrap().is_none());
        assert_eq!(Response::take(&mut buffer).unwrap().unwrap().status, 101);
        assert_eq!(buffer, b"\x81\x00");
    }
}
