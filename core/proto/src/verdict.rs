//! The stable verdict codes: one table, the same in logs, events, counters and every language.
//!
//! A [`Code`] says *what* was refused or why a connection ended. How it is answered on the wire (an HTTP status
//! before the 101, a close code after it) is a column of the same table, so that no module invents its own.

use core::fmt;

/// How loudly a verdict is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Part of normal operation: a draining server, an expired session.
    Notice,
    /// A peer broke a rule; one log record and one `violation` event.
    Violation,
    /// The server or the application failed.
    Fault,
}

/// What the table says of one code.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    /// The HTTP status when it is decided before the 101; 0: the connection is dropped without an answer.
    status: u16,
    /// The close code when it is decided after the 101; 0: it cannot be.
    close: u16,
    /// The reason in the close frame, or the first words of the HTTP body.
    reason: &'static str,
    severity: Severity,
    subject: Subject,
}

/// What a verdict refuses: `on_violation: "report"` lets messages pass, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// One message, by the rate or the contract.
    Message,
    /// A handshake, or the connection.
    Connection,
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $status:literal, $close:literal, $reason:literal, $severity:ident, $subject:ident;)+) => {
        /// A verdict: the stable name of what was refused, and how.
        ///
        /// The numeric values are part of the C ABI: new codes are only ever appended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code, in the order of their numeric values.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];
        }

        const TABLE: &[Row] = &[$(Row {
            name: $name, status: $status, close: $close, reason: $reason, severity: Severity::$severity,
            subject: Subject::$subject,
        },)+];
    };
}

verdicts! {
    /// The request head breaks HTTP/1.1 or RFC 6455 (THREATS H5, H8, H11, H14, H15, H17, H21).
    HandshakeMalformed = "handshake_malformed", 400, 0, "malformed request", Violation, Connection;
    /// The method is not GET (H13).
    MethodNotAllowed = "method_not_allowed", 405, 0, "method not allowed", Violation, Connection;
    /// The HTTP version is not 1.1 (H13).
    HttpVersion = "http_version", 505, 0, "http version not supported", Violation, Connection;
    /// No or a wrong `Upgrade`, or `Sec-WebSocket-Version` is not 13 (H12).
    UpgradeRequired = "upgrade_required", 426, 0, "websocket upgrade required", Violation, Connection;
    /// The head is over `max_head_bytes` or 100 headers: 431; the target over 8192 bytes: 414 (H9).
    HeadTooLarge = "head_too_large", 431, 0, "request head too large", Violation, Connection;
    /// The opening handshake took longer than `handshake_timeout_ms` (H10).
    HandshakeTimeout = "handshake_timeout", 408, 0, "handshake timeout", Violation, Connection;
    /// The path is not in `paths`.
    PathNotFound = "path_not_found", 404, 0, "path not found", Violation, Connection;
    /// `Host` is not in `hosts` (H8, DNS rebinding).
    HostDenied = "host_denied", 421, 0, "host denied", Violation, Connection;
    /// `Origin` is missing or not in `origins` (H1 to H7).
    OriginDenied = "origin_denied", 403, 0, "origin denied", Violation, Connection;
    /// The address opens handshakes faster than `handshakes_per_ip` (R10, A5).
    IpRateLimited = "ip_rate_limited", 429, 0, "too many handshakes from this address", Violation, Connection;
    /// The address holds `max_connections_per_ip` connections.
    IpFull = "ip_full", 429, 0, "too many connections from this address", Violation, Connection;
    /// The user holds `max_connections_per_user` connections.
    UserFull = "user_full", 429, 0, "too many connections of this user", Violation, Connection;
    /// The server holds `max_connections` connections.
    ServerFull = "server_full", 503, 0, "server full", Violation, Connection;
    /// The application did not answer, or too many handshakes wait for it (A4, A5).
    AuthUnavailable = "auth_unavailable", 503, 0, "authentication unavailable", Fault, Connection;
    /// No credential, or a wrong one; or the application rejected it (A1 to A3).
    AuthFailed = "auth_failed", 401, 0, "authentication failed", Violation, Connection;
    /// The TLS handshake failed (T1).
    TlsFailed = "tls_failed", 0, 0, "tls failed", Violation, Connection;
    /// A PROXY header is missing, malformed, or from an untrusted peer (H23).
    ProxyHeaderInvalid = "proxy_header_invalid", 0, 0, "proxy header invalid", Violation, Connection;
    /// A frame breaks RFC 6455 section 5 (P2, P4 to P6, P8).
    BadFrame = "bad_frame", 0, 1002, "bad frame", Violation, Connection;
    /// A text message or close reason is not UTF-8 (P7).
    BadUtf8 = "bad_utf8", 0, 1007, "invalid utf-8", Violation, Connection;
    /// A message is over `max_message_bytes` (P1, P3).
    MessageTooBig = "message_too_big", 0, 1009, "message too big", Violation, Connection;
    /// A message has more than `max_fragments` fragments (R7).
    TooManyFragments = "too_many_fragments", 0, 1008, "too many fragments", Violation, Connection;
    /// A started message did not end within `message_timeout_ms` (R8).
    MessageTimeout = "message_timeout", 0, 1008, "message timeout", Violation, Connection;
    /// Messages or bytes beyond `rate_limit` and its queue (R1 to R4, R9).
    RateLimited = "rate_limited", 0, 1008, "rate limit", Violation, Message;
    /// Pings and pongs beyond `control_rate_limit` (R6).
    ControlFlood = "control_flood", 0, 1008, "control frame flood", Violation, Connection;
    /// A binary message where `protocol` is `json` (J5).
    UnexpectedBinary = "unexpected_binary", 0, 1003, "binary not accepted", Violation, Message;
    /// Not a valid message envelope (J1 to J4).
    BadEnvelope = "bad_envelope", 0, 1008, "bad envelope", Violation, Message;
    /// The event is not in `events` (J5).
    UnknownEvent = "unknown_event", 0, 1008, "unknown event", Violation, Message;
    /// `data` does not match the event's schema (J5).
    SchemaMismatch = "schema_mismatch", 0, 1008, "schema mismatch", Violation, Message;
    /// More than `max_outbox_bytes` wait for a peer that does not read (S1).
    SlowConsumer = "slow_consumer", 0, 1008, "slow consumer", Violation, Connection;
    /// The session's `expires_at_ms` has come (A7).
    SessionExpired = "session_expired", 0, 1008, "session expired", Notice, Connection;
    /// `disconnect_user` was called (A7).
    SessionRevoked = "session_revoked", 0, 1008, "session revoked", Notice, Connection;
    /// Nothing was received for `idle_timeout_ms` (S2).
    IdleTimeout = "idle_timeout", 0, 1011, "idle timeout", Notice, Connection;
    /// The server is shutting down (S10).
    Draining = "draining", 503, 1012, "server restarting", Notice, Connection;
    /// The application's handler failed (S5), or an error of our own.
    Internal = "internal", 500, 1011, "internal error", Fault, Connection;
    /// A peer outside `trusted_proxies`, where they are what allows plain text on an address that is not loopback.
    ProxyRequired = "proxy_required", 403, 0, "proxy required", Violation, Connection;
    /// The address or the user is banned: by `deny_ips`, by `auto_ban`, or by the application.
    Banned = "banned", 403, 1008, "banned", Violation, Connection;
    /// The event is for other roles than the connection has.
    EventDenied = "event_denied", 0, 1008, "event denied", Violation, Message;
}

impl Code {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The stable name: `"origin_denied"`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status of the refusal before the 101; 0 when the connection is dropped without an answer.
    ///
    /// Two refusals have a second status: a too long target answers 414, an application may choose its own in place
    /// of 401.
    pub fn http_status(self) -> u16 {
        self.row().status
    }

    /// The close code after the 101 (RFC 6455 section 7.4); 0 when it cannot happen there.
    pub fn close_code(self) -> u16 {
        self.row().close
    }

    /// The short reason in the close frame or the HTTP body.
    pub fn reason(self) -> &'static str {
        self.row().reason
    }

    /// How loudly it is told.
    pub fn severity(self) -> Severity {
        self.row().severity
    }

    /// Whether it refuses one message, by the rate or the contract: `on_violation: "report"` only reports these.
    pub fn is_about_a_message(self) -> bool {
        self.row().subject == Subject::Message
    }

    /// The code of a stable name.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row_and_one_name() {
        assert_eq!(Code::ALL.len(), TABLE.len());
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, index);
            assert_eq!(Code::from_name(code.name()), Some(*code));
        }
    }

    #[test]
    fn report_mode_lets_messages_pass_and_nothing_else() {
        let about: Vec<&str> =
            Code::ALL.iter().filter(|code| code.is_about_a_message()).map(|code| code.name()).collect();
        let listed =
            ["rate_limited", "unexpected_binary", "bad_envelope", "unknown_event", "schema_mismatch", "event_denied"];
        assert_eq!(about, listed);
    }

    #[test]
    fn reasons_fit_a_close_frame() {
        for code in Code::ALL {
            assert!(code.reason().len() <= 123, "{code}");
        }
    }
}
