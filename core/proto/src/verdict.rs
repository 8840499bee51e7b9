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
    // THREATS H5, H8, H11, H14, H15, H17, H21.
    /// The request head breaks HTTP/1.1 or RFC 6455.
    HandshakeMalformed = "handshake_malformed", 400, 0, "malformed request", Violation, Connection;
    // THREATS H13.
    /// The method is not GET.
    MethodNotAllowed = "method_not_allowed", 405, 0, "method not allowed", Violation, Connection;
    // THREATS H13.
    /// The HTTP version is not 1.1.
    HttpVersion = "http_version", 505, 0, "http version not supported", Violation, Connection;
    // THREATS H12.
    /// No or a wrong `Upgrade`, or `Sec-WebSocket-Version` is not 13.
    UpgradeRequired = "upgrade_required", 426, 0, "websocket upgrade required", Violation, Connection;
    // THREATS H9.
    /// The head is over `max_head_bytes` or 100 headers: 431; the target over 8192 bytes: 414.
    HeadTooLarge = "head_too_large", 431, 0, "request head too large", Violation, Connection;
    // THREATS H10.
    /// The opening handshake took longer than `handshake_timeout_ms`.
    HandshakeTimeout = "handshake_timeout", 408, 0, "handshake timeout", Violation, Connection;
    /// The path is not in `paths`.
    PathNotFound = "path_not_found", 404, 0, "path not found", Violation, Connection;
    // THREATS H8.
    /// `Host` is not in `hosts` (DNS rebinding).
    HostDenied = "host_denied", 421, 0, "host denied", Violation, Connection;
    // THREATS H1 to H7.
    /// `Origin` is missing or not in `origins`.
    OriginDenied = "origin_denied", 403, 0, "origin denied", Violation, Connection;
    // THREATS R10, A5.
    /// The address opens handshakes faster than `handshakes_per_ip`.
    IpRateLimited = "ip_rate_limited", 429, 0, "too many handshakes from this address", Violation, Connection;
    /// The address holds `max_connections_per_ip` connections.
    IpFull = "ip_full", 429, 0, "too many connections from this address", Violation, Connection;
    /// The user holds `max_connections_per_user` connections.
    UserFull = "user_full", 429, 0, "too many connections of this user", Violation, Connection;
    /// The server holds `max_connections` connections.
    ServerFull = "server_full", 503, 0, "server full", Violation, Connection;
    // THREATS A4, A5.
    /// The application did not answer, or too many handshakes wait for it.
    AuthUnavailable = "auth_unavailable", 503, 0, "authentication unavailable", Fault, Connection;
    // THREATS A1 to A3.
    /// No credential, or a wrong one; or the application rejected it.
    AuthFailed = "auth_failed", 401, 0, "authentication failed", Violation, Connection;
    // THREATS T1.
    /// The TLS handshake failed.
    TlsFailed = "tls_failed", 0, 0, "tls failed", Violation, Connection;
    // THREATS H23.
    /// A PROXY header is missing, malformed, or from an untrusted peer.
    ProxyHeaderInvalid = "proxy_header_invalid", 0, 0, "proxy header invalid", Violation, Connection;
    // THREATS P2, P4 to P6, P8.
    /// A frame breaks RFC 6455 section 5.
    BadFrame = "bad_frame", 0, 1002, "bad frame", Violation, Connection;
    // THREATS P7.
    /// A text message or close reason is not UTF-8.
    BadUtf8 = "bad_utf8", 0, 1007, "invalid utf-8", Violation, Connection;
    // THREATS P1, P3.
    /// A message is over `max_message_bytes`.
    MessageTooBig = "message_too_big", 0, 1009, "message too big", Violation, Connection;
    // THREATS R7.
    /// A message has more than `max_fragments` fragments.
    TooManyFragments = "too_many_fragments", 0, 1008, "too many fragments", Violation, Connection;
    // THREATS R8.
    /// A started message did not end within `message_timeout_ms`.
    MessageTimeout = "message_timeout", 0, 1008, "message timeout", Violation, Connection;
    // THREATS R1 to R4, R9.
    /// Messages or bytes beyond `rate_limit` and its queue.
    RateLimited = "rate_limited", 0, 1008, "rate limit", Violation, Message;
    // THREATS R6.
    /// Pings and pongs beyond `control_rate_limit`.
    ControlFlood = "control_flood", 0, 1008, "control frame flood", Violation, Connection;
    // THREATS J5.
    /// A binary message where `protocol` is `json`.
    UnexpectedBinary = "unexpected_binary", 0, 1003, "binary not accepted", Violation, Message;
    // THREATS J1 to J4.
    /// Not a valid message envelope.
    BadEnvelope = "bad_envelope", 0, 1008, "bad envelope", Violation, Message;
    // THREATS J5.
    /// The event is not in `events`.
    UnknownEvent = "unknown_event", 0, 1008, "unknown event", Violation, Message;
    // THREATS J5.
    /// `data` does not match the event's schema.
    SchemaMismatch = "schema_mismatch", 0, 1008, "schema mismatch", Violation, Message;
    // THREATS S1.
    /// More than `max_outbox_bytes` wait for a peer that does not read.
    SlowConsumer = "slow_consumer", 0, 1008, "slow consumer", Violation, Connection;
    // THREATS A7.
    /// The session's `expires_at_ms` has come.
    SessionExpired = "session_expired", 0, 1008, "session expired", Notice, Connection;
    // THREATS A7.
    /// `disconnect_user` was called.
    SessionRevoked = "session_revoked", 0, 1008, "session revoked", Notice, Connection;
    // THREATS S2.
    /// Nothing was received for `idle_timeout_ms`.
    IdleTimeout = "idle_timeout", 0, 1011, "idle timeout", Notice, Connection;
    // THREATS S10.
    /// The server is shutting down.
    Draining = "draining", 503, 1012, "server restarting", Notice, Connection;
    // THREATS S5.
    /// The application's handler failed, or an error of our own.
    Internal = "internal", 500, 1011, "internal error", Fault, Connection;
    /// A peer outside `trusted_proxies`, where they are what allows plain text on an address that is not loopback.
    ProxyRequired = "proxy_required", 403, 0, "proxy required", Violation, Connection;
    /// The address or the user is banned: by `deny_ips`, by `auto_ban`, or by the application.
    Banned = "banned", 403, 1008, "banned", Violation, Connection;
    /// The event is for other roles than the connection has.
    EventDenied = "event_denied", 0, 1008, "event denied", Violation, Message;
    // THREATS D3.
    /// A compressed message cannot be inflated.
    BadCompression = "bad_compression", 0, 1007, "bad compression", Violation, Connection;
    /// The nodes of the cluster cannot be asked, and `cluster.on_outage` is `closed`.
    ClusterUnavailable = "cluster_unavailable", 503, 0, "cluster unavailable", Fault, Connection;
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
