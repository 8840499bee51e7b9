//! What an application adds to the answer of a handshake: headers, and the status and body of a refusal. Checked before a byte of
//! it is written, so that nothing in it ends a header or the head early, or contradicts what the server says of the connection.

use core::fmt;

use super::Shown;
use crate::syntax::is_token;

/// Headers of one answer.
const MAX_HEADERS: usize = 64;
/// Bytes of all of them, as they are sent.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Bytes of the body of a refusal.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// A refusal that is longer may not fit into the buffer of its socket at once.
const SHORT_BYTES: usize = 4096;

/// Headers that say what becomes of the connection, and where the answer ends: the server's own.
const RESERVED: [&str; 4] = ["connection", "upgrade", "content-length", "transfer-encoding"];
const RESERVED_PREFIX: &str = "sec-websocket-";

/// Headers that may stand in an answer, in the order given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResponseHeaders(Vec<(String, String)>);

/// Names only: a value may be a cookie.
impl fmt::Debug for ResponseHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl ResponseHeaders {
    /// No headers.
    pub(super) const NONE: &'static Self = {
        static NONE: ResponseHeaders = ResponseHeaders(Vec::new());
        &NONE
    };

    /// Checks the headers.
    ///
    /// # Errors
    /// The text names the header that may not be sent, and why; never its value.
    pub fn new(headers: Vec<(String, String)>) -> Result<Self, String> {
        if headers.len() > MAX_HEADERS {
            return Err(format!("headers must be at most {MAX_HEADERS}, and are {}", headers.len()));
        }
        for (name, value) in &headers {
            check(name, value).map_err(|why| format!("header {}: {why}", Shown(name.as_bytes())))?;
        }
        let headers = Self(headers);
        match headers.bytes() {
            ..=MAX_HEADER_BYTES => Ok(headers),
            bytes => Err(format!("headers must be at most {MAX_HEADER_BYTES} bytes together, and are {bytes}")),
        }
    }

    /// The headers, in the order given.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether one has this name, in any case.
    pub(super) fn name(&self, wanted: &str) -> bool {
        self.0.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum()
    }
}

fn check(name: &str, value: &str) -> Result<(), &'static str> {
    if !is_token(name) {
        return Err("the name is not a token");
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&&*lower) || lower.starts_with(RESERVED_PREFIX) {
        return Err("is the server's own and cannot be set");
    }
    // RFC 9110 section 5.5: visible characters, spaces and tabs. A CR or LF begins another header, or another answer.
    if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
        return Err("the value has a control character, such as CR or LF");
    }
    Ok(())
}

/// A refusal as the application wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub(super) status: u16,
    pub(super) headers: ResponseHeaders,
    pub(super) body: Vec<u8>,
}

impl Rejection {
    /// Whether a handshake may be refused with this status.
    pub fn allows_status(status: u16) -> bool {
        (300..=599).contains(&status)
    }

    /// Checks headers and body; the status is one that [may be](Self::allows_status).
    ///
    /// # Errors
    /// The text names what may not be sent, and never a value.
    pub fn new(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Self, String> {
        if body.len() > MAX_BODY_BYTES {
            return Err(format!("body must be at most {MAX_BODY_BYTES} bytes, and is {}", body.len()));
        }
        if !has_body(status) && !body.is_empty() {
            return Err(format!("body must be empty: an answer with status {status} has none"));
        }
        Ok(Self { status, headers: ResponseHeaders::new(headers)?, body })
    }

    pub(super) fn is_short(&self) -> bool {
        self.headers.bytes() + self.body.len() <= SHORT_BYTES
    }
}

/// Whether an answer with this status has a body (RFC 9110 section 6.4.1).
pub(super) fn has_body(status: u16) -> bool {
    status != 304
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&str, &str)]) -> Result<ResponseHeaders, String> {
        ResponseHeaders::new(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_could_break_an_answer_is_refused_by_name_and_never_by_value() {
        let cases = [
            ("", "the name is not a token"),
            ("X Y", "the name is not a token"),
            ("X:", "the name is not a token"),
            ("X\r\nEvil", "the name is not a token"),
            ("Zoë", "the name is not a token"),
            ("Connection", "the server's own"),
            ("UPGRADE", "the server's own"),
            ("content-length", "the server's own"),
            ("Transfer-Encoding", "the server's own"),
            ("Sec-WebSocket-Accept", "the server's own"),
            ("sec-websocket-protocol", "the server's own"),
            ("Sec-WebSocket-Extensions", "the server's own"),
            ("Sec-WebSocket-", "the server's own"),
        ];
        for (name, why) in cases {
            let error = headers(&[("Good", "1"), (name, "s3cret")]).unwrap_err();
            let shown: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(error.starts_with(&format!("header {shown}")) && error.contains(why), "{error}");
            assert!(!error.contains("s3cret") && !error.contains(['\r', '\n']), "{error}");
        }
        for byte in (0..=0x1f).chain([0x7f]).filter(|byte| *byte != b'\t') {
            let error = headers(&[("X-A", &format!("s3cret{}x", char::from(byte)))]).unwrap_err();
            assert_eq!(error, "header X-A: the value has a control character, such as CR or LF");
        }
        for (name, value) in
            [("Set-Cookie", "sid=1; Path=/"), ("X-A", ""), ("X-A", "a\tb"), ("x-a", "Zoë"), ("Te", "x")]
        {
            assert!(headers(&[(name, value)]).is_ok(), "{name}: {value}");
        }
    }

    #[test]
    fn headers_are_bounded_to_the_byte() {
        assert!(headers(&[("a", "b"); 64]).is_ok());
        assert_eq!(headers(&[("a", "b"); 65]).unwrap_err(), "headers must be at most 64, and are 65");
        let most = "v".repeat(MAX_HEADER_BYTES - "X-A: \r\n".len());
        assert!(headers(&[("X-A", &most)]).is_ok());
        let error = headers(&[("X-AB", &most)]).unwrap_err();
        assert_eq!(error, "headers must be at most 16384 bytes together, and are 16385");
    }

    #[test]
    fn bodies_are_bounded_to_the_byte() {
        let of = |status, len| Rejection::new(status, Vec::new(), vec![b'x'; len]).map(drop);
        assert_eq!(of(418, MAX_BODY_BYTES), Ok(()));
        assert_eq!(of(418, MAX_BODY_BYTES + 1).unwrap_err(), "body must be at most 65536 bytes, and is 65537");
        assert_eq!((of(304, 0), of(304, 1).is_err()), (Ok(()), true));
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|status| Rejection::allows_status(*status)).collect();
        assert_eq!((allowed.len(), allowed[0], allowed[299]), (300, 300, 599));
    }

    #[test]
    fn no_value_is_part_of_a_debug_text() {
        let shown = format!("{:?}", headers(&[("Set-Cookie", "sid=s3cret")]).unwrap());
        assert_eq!(shown, r#"["Set-Cookie"]"#);
    }
}
