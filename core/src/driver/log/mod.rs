//! Log records: one per verdict, escaped, sampled per code and address and all together (THREATS S6).
//!
//! A record is a `tracing` event of the target `wsguard::verdict`. In the plain form it reads, on one line,
//! `… WARN wsguard::verdict: code=origin_denied ip=203.0.113.7 peer=10.0.0.2 user=- event=- conn=- suppressed=0 detail="…"`,
//! for which docs/SEMANTICS.md has a fail2ban filter. `ip` is the client's, or `-` where only a proxy is known.

#[cfg(not(feature = "stderr-log"))]
mod no_stderr;
mod sieve;
#[cfg(feature = "stderr-log")]
mod stderr;

#[cfg(not(feature = "stderr-log"))]
pub(super) use no_stderr::{flush, guard_panics};
#[cfg(feature = "stderr-log")]
pub use stderr::log_to_stderr;
#[cfg(feature = "stderr-log")]
pub(super) use stderr::{flush, guard_panics};

use core::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Mutex;

use self::sieve::Sieve;
use super::caught::said;
use super::ids::ConnectionId;
use wsguard_proto::bucket::Rate;
use wsguard_proto::client_ip::AddressKey;
use wsguard_proto::connection::Report;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::{Code, Severity};

/// Words of ours that may quote a name of the policy: on one line, and at most 256 characters.
pub(super) fn printable(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { '?' } else { c }).take(256).collect()
}

/// What a peer chose, made harmless for a log line: control and format characters, quotes, spaces and `=` are escaped,
/// and at most 64 characters are kept.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index == 64 {
            escaped.push('…');
            break;
        }
        match letter {
            '"' | '\\' | '=' => {
                let _ = write!(escaped, "\\x{:02x}", letter as u32);
            }
            letter if letter.is_ascii_graphic() || letter.is_alphanumeric() => escaped.push(letter),
            letter => {
                let _ = write!(escaped, "\\u{{{:x}}}", letter as u32);
            }
        }
    }
    escaped
}

/// Whom a record is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subject<'s> {
    pub(super) ip: Option<IpAddr>,
    /// The peer of the socket: the client, or a proxy.
    pub(super) peer: Option<IpAddr>,
    pub(super) user: Option<&'s str>,
    pub(super) conn: Option<ConnectionId>,
}

/// Samples records and events, each per code and address and all together; no code hides another.
#[derive(Debug)]
pub(super) struct Sampler {
    records: Mutex<Sieve>,
    events: Mutex<Sieve>,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            records: Mutex::new(Sieve::new(Rate::new(1.0, 10.0), 100.0, 1000.0)),
            events: Mutex::new(Sieve::new(Rate::new(20.0, 200.0), 500.0, 5000.0)),
        }
    }
}

impl Sampler {
    /// Whether the application hears of this one. What one address does never hides what others do.
    pub(super) fn passes_event(&self, code: Code, ip: Option<IpAddr>, now: Moment) -> bool {
        lock(&self.events).pass(code, ip.map(AddressKey::from), now).is_some()
    }

    /// Writes the record of a verdict.
    pub(super) fn log(&self, report: &Report<'_>, subject: Subject<'_>, now: Moment) {
        let code = report.code;
        let address = subject.ip.map(AddressKey::from);
        let Some(suppressed) = lock(&self.records).pass(code, address, now) else { return };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let ip = or_dash(subject.ip.map(|ip| ip.to_string()));
        let peer = or_dash(subject.peer.map(|peer| peer.to_string()));
        let user = or_dash(subject.user.map(escape));
        // An empty name must not look like a field without a value.
        let event = or_dash(report.event.map(|event| if event.is_empty() { "\"\"".to_owned() } else { escape(event) }));
        let conn = or_dash(subject.conn.map(|conn| conn.to_string()));
        let detail = printable(report.detail);
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(target: "wsguard::verdict", %code, %ip, %peer, %user, %event, %conn, suppressed, ?detail)
            };
        }
        said(|| match code.severity() {
            Severity::Notice => record!(info),
            Severity::Violation => record!(warn),
            Severity::Fault => record!(error),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsguard_proto::auth::JwtError;
    use wsguard_proto::handshake::HeadScanner;

    /// A page that somebody visits makes that browser connect: a ban for it would be the visitor's.
    #[test]
    fn the_documented_filter_bans_for_nothing_that_a_foreign_page_can_cause() {
        let documented = include_str!("../../../../docs/SEMANTICS.md");
        let codes = documented.split_once("failregex = WARN wsguard::verdict: code=(?:").unwrap().1;
        let listed: Vec<&str> = codes.split_once(')').unwrap().0.split('|').collect();
        for name in &listed {
            assert_eq!(Code::from_name(name).map(Code::severity), Some(Severity::Violation), "{name}");
        }
        for code in [Code::OriginDenied, Code::HostDenied, Code::HeadTooLarge, Code::IpRateLimited, Code::AuthFailed] {
            assert!(!listed.contains(&code.name()), "{code}");
        }
        let hello = HeadScanner::default().scan(b"\x16\x03\x01\x02\x00\x01", 1024).unwrap_err();
        assert!(documented.contains(&format!("ignoreregex = detail=\"{}\"", hello.detail)));
        // What the filter takes of `auth_failed` are words that are said.
        let said =
            [JwtError::Unsigned, JwtError::BadSignature, JwtError::AlgorithmNotAllowed, JwtError::CriticalHeader];
        let (_, words) = documented.split_once(r#"detail="(?:unknown token|jwt: (?:"#).unwrap();
        let words: Vec<&str> = words.split_once("))").unwrap().0.split('|').collect();
        assert_eq!(words.len(), said.len());
        for (words, error) in words.into_iter().zip(said) {
            assert!(error.reason().starts_with(&format!("jwt: {words}")), "{words}");
        }
    }

    #[test]
    fn nothing_a_peer_chose_breaks_a_line() {
        assert_eq!(escape("a\r\nb\x1b[31m \u{202e}é"), "a\\u{d}\\u{a}b\\u{1b}[31m\\u{20}\\u{202e}é");
        assert_eq!(escape("x\" code=ok"), "x\\x22\\u{20}code\\x3dok");
        assert_eq!(escape(&"x".repeat(1000)).chars().count(), 65);
    }
}
