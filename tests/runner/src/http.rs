//! Request heads as a scenario bends them, and what it wants in the heads of answers.

use serde::Deserialize;
use toml::Table;
use wsguard_test_support::http::{KEY, ORIGIN, Response};
use wsguard_test_support::outcome::{Outcome, fail};

use crate::bytes::Bytes;
use crate::frame::FrameForm;
use crate::jwt::Jwt;

/// An opening handshake: the default head with what a scenario changes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Request {
    method: String,
    target: String,
    version: String,
    /// `false` leaves the header out.
    origin: Option<Setting>,
    token: Option<Setting>,
    /// Replaces, adds or (with `false`) removes.
    headers: Table,
    /// Raw lines after the others, without their line end.
    extra: Vec<Bytes>,
    /// A signed token, sent as `Authorization: Bearer`, or in the header that `jwt_in` names.
    jwt: Option<Jwt>,
    /// Bytes right behind the head, in the same write.
    after: Bytes,
    after_frames: Vec<FrameForm>,
    /// Values of `Sec-WebSocket-Extensions`, one header line each.
    offer: Offer,
    /// The 101 and the `open` event are expected to agree to compression; by default, not to.
    pub(crate) compressed: bool,
    /// The 101 names this `server_max_window_bits`; absent: none.
    pub(crate) window: Option<u8>,
    /// The 101 is expected to name this subprotocol; absent: none.
    pub(crate) subprotocol: Option<String>,
    /// The user and path that the `open` event must name.
    pub(crate) user: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) ip: Option<String>,
    /// The roles that it must name.
    pub(crate) roles: Option<Vec<String>>,
    /// Headers of the 101 beside those that every one has.
    pub(crate) answer: Table,
    /// Waits for the `open` event (the default).
    pub(crate) open: bool,
    pub(crate) within_ms: u64,
    /// Connects again until it is accepted, for places that become free a moment later.
    pub(crate) retry_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Setting {
    Flag(bool),
    Value(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Offer {
    One(String),
    Several(Vec<String>),
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            target: "/".into(),
            version: "HTTP/1.1".into(),
            origin: None,
            token: None,
            headers: Table::new(),
            extra: Vec::new(),
            jwt: None,
            after: Bytes::default(),
            after_frames: Vec::new(),
            offer: Offer::Several(Vec::new()),
            compressed: false,
            window: None,
            subprotocol: None,
            user: None,
            path: None,
            ip: None,
            roles: None,
            answer: Table::new(),
            open: true,
            within_ms: 5000,
            retry_ms: 0,
        }
    }
}

impl Request {
    /// The extension headers that it sends.
    pub(crate) fn offers(&self) -> &[String] {
        match &self.offer {
            Offer::One(offer) => std::slice::from_ref(offer),
            Offer::Several(offers) => offers,
        }
    }

    /// Another token than the default.
    pub(crate) fn set_token(&mut self, token: Option<&str>) {
        self.token = token.map(|token| Setting::Value(token.to_owned()));
    }

    /// The whole head for a server at `host`, and what follows it.
    pub(crate) fn encode(&self, host: &str) -> Outcome<Vec<u8>> {
        let mut headers: Vec<(String, String)> = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Origin", ORIGIN),
            ("X-Auth-Token", "good"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        for (name, setting) in [("Origin", &self.origin), ("X-Auth-Token", &self.token)] {
            match setting {
                Some(Setting::Flag(false)) => set(&mut headers, name, None),
                Some(Setting::Value(value)) => set(&mut headers, name, Some(value)),
                Some(Setting::Flag(true)) | None => {}
            }
        }
        if let Some(jwt) = &self.jwt {
            set(&mut headers, "X-Auth-Token", None);
            set(&mut headers, "Authorization", Some(&format!("Bearer {}", jwt.encode()?)));
        }
        for (name, value) in &self.headers {
            match value {
                toml::Value::Boolean(false) => set(&mut headers, name, None),
                toml::Value::String(value) => set(&mut headers, name, Some(value)),
                other => return fail!("header {name}: a string or false, not {other}"),
            }
        }
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version).into_bytes();
        for (name, value) in headers {
            head.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        for offer in self.offers() {
            head.extend(format!("Sec-WebSocket-Extensions: {offer}\r\n").into_bytes());
        }
        for line in &self.extra {
            head.extend(line.to_vec()?);
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
        head.extend(self.after.to_vec()?);
        for frame in &self.after_frames {
            head.extend(frame.encode()?);
        }
        Ok(head)
    }
}

fn set(headers: &mut Vec<(String, String)>, name: &str, value: Option<&str>) {
    let known = headers.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
    match (known, value) {
        (Some(index), Some(value)) => headers[index] = (name.to_owned(), value.to_owned()),
        (Some(index), None) => {
            headers.remove(index);
        }
        (None, Some(value)) => headers.push((name.to_owned(), value.to_owned())),
        (None, None) => {}
    }
}

/// Checks `name = "value" | "~part" | true | false`.
pub(crate) fn check_headers(response: &Response, wanted: &Table) -> Outcome {
    for (name, value) in wanted {
        let actual = response.header(name);
        let ok = match value {
            toml::Value::Boolean(present) => actual.is_some() == *present,
            toml::Value::String(text) => match (text.strip_prefix('~'), actual) {
                (Some(part), Some(actual)) => actual.contains(part),
                (None, Some(actual)) => actual == text,
                (_, None) => false,
            },
            _ => false,
        };
        if !ok {
            return fail!("expected header {name}: {value}, got {actual:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> String {
        let request: Request = toml::from_str(text).unwrap();
        String::from_utf8(request.encode("h:1").unwrap()).unwrap()
    }

    #[test]
    fn the_default_head_is_a_good_handshake() {
        assert_eq!(
            head(""),
            "GET / HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Origin: https://app.example.com\r\nX-Auth-Token: good\r\n\r\n"
        );
    }

    #[test]
    fn headers_are_replaced_removed_and_added() {
        let head =
            head("origin = false\nheaders = { host = 'x', upgrade = false, Cookie = 'a=b' }\nextra = ['Bad : 1']");
        assert!(head.contains("\r\nhost: x\r\n") && !head.contains("Host:"));
        assert!(!head.to_lowercase().contains("\r\nupgrade:") && !head.contains("Origin"));
        assert!(head.ends_with("Cookie: a=b\r\nBad : 1\r\n\r\n"));
    }

    #[test]
    fn extensions_are_offered_in_one_line_each() {
        assert!(head("offer = 'a'").ends_with("\r\nSec-WebSocket-Extensions: a\r\n\r\n"));
        let both = "\r\nSec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: b; c\r\n\r\n";
        assert!(head("offer = ['a', 'b; c']").ends_with(both));
    }

    #[test]
    fn headers_of_an_answer_are_checked() {
        let response = Response::parse(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n").unwrap();
        let check = |wanted: &str| check_headers(&response, &toml::from_str(wanted).unwrap());
        assert!(check("Connection = '~clo'\nServer = false").is_ok());
        for wrong in ["Server = true", "Connection = false", "Connection = 'clos'", "Connection = 1"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
