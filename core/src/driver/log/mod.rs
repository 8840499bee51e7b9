//! Log records: one per verdict, escaped, sampled per code and address and all together.
//!
//! A record is a `tracing` event of the target `wsguard::verdict`. In the plain form it reads, on one line,
//! `… WARN wsguard::verdict: code=origin_denied ip=203.0.113.7 peer=10.0.0.2 user=- event=- conn=- hs=0c5a… suppressed=0 detail="…"`,
//! for which docs/SEMANTICS.md has a fail2ban filter. `ip` is the client's, or `-` where only a proxy is known.

mod audit;
#[cfg(not(feature = "stderr-log"))]
mod no_stderr;
mod queue;
mod record;
mod sieve;
#[cfg(feature = "stderr-log")]
mod stderr;
mod tap;

pub(super) use audit::{Audit, Opened, Proof};
#[cfg(not(feature = "stderr-log"))]
pub(super) use no_stderr::guard_panics;
pub(super) use queue::flush;
pub use record::{LogLevel, LogRecord, LogValue};
#[cfg(feature = "stderr-log")]
pub(super) use stderr::guard_panics;
#[cfg(feature = "stderr-log")]
pub use stderr::{LogFormat, log_to_stderr, log_to_stderr_as};
pub use tap::log_to;

use core::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Mutex;

use self::sieve::Sieve;
use super::caught::said;
use super::handshake_id::HandshakeId;
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
    pub(super) hs: Option<HandshakeId>,
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

    /// The record of a verdict, unless it is left out.
    pub(super) fn record(&self, report: &Report<'_>, subject: Subject<'_>, now: Moment) -> Option<VerdictRecord> {
        let code = report.code;
        let address = subject.ip.map(AddressKey::from);
        let suppressed = lock(&self.records).pass(code, address, now)?;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        // An empty name must not look like a field without a value.
        let event = report.event.map(|event| if event.is_empty() { "\"\"".to_owned() } else { escape(event) });
        Some(VerdictRecord {
            code,
            ip: or_dash(subject.ip.map(|ip| ip.to_string())),
            peer: or_dash(subject.peer.map(|peer| peer.to_string())),
            user: or_dash(subject.user.map(escape)),
            event: or_dash(event),
            conn: or_dash(subject.conn.map(|conn| conn.to_string())),
            hs: or_dash(subject.hs.map(|hs| hs.to_string())),
            suppressed,
            detail: printable(report.detail),
        })
    }
}

/// The record of a verdict, to be said once nothing is locked any more: a `tracing` subscriber of the application may wait for
/// a thread of the application, and that one for the events.
#[derive(Debug)]
#[must_use]
pub(super) struct VerdictRecord {
    code: Code,
    ip: String,
    peer: String,
    user: String,
    event: String,
    conn: String,
    hs: String,
    suppressed: u64,
    detail: String,
}

impl VerdictRecord {
    pub(super) fn say(self) {
        let Self { code, ip, peer, user, event, conn, hs, suppressed, detail } = self;
        let detail = detail.as_str();
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(target: "wsguard::verdict", %code, %ip, %peer, %user, %event, %conn, %hs, suppressed, detail)
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
    use std::io;
    use std::sync::Arc;
    use wsguard_proto::auth::JwtError;
    use wsguard_proto::config::{Options, Policy};
    use wsguard_proto::files::NoFiles;
    use wsguard_proto::handshake::{self, HeadScanner, NO_HEADERS, Refusal, Request};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line of a verdict, as `log_to_stderr` writes it.
    fn line(code: Code, detail: &str) -> String {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        let ip = Some(IpAddr::from([203, 0, 113, 7]));
        let subject =
            Subject { hs: None, ip, peer: ip, user: Some("x\" detail=\"unknown token from bearer"), conn: None };
        tracing::subscriber::with_default(subscriber, || {
            let report = Report { code, event: None, detail };
            Sampler::default().record(&report, subject, Moment::from_millis(1)).unwrap().say();
        });
        let bytes = lock(&lines.0).clone();
        String::from_utf8(bytes).unwrap()
    }

    /// The `failregex` of docs/SEMANTICS.md. What the crate does not know of Python's is taken apart.
    struct Filter(Vec<(regex::Regex, Option<String>)>);

    impl Filter {
        fn documented() -> Self {
            let documented = include_str!("../../../../docs/SEMANTICS.md");
            let (_, definition) = documented.split_once("[Definition]\nfailregex = ").unwrap();
            let expressions = definition.split_once("\n\n").unwrap().0.lines().map(|expression| {
                let (expression, not) = match expression.trim().strip_suffix(')').and_then(|e| e.split_once("(?!")) {
                    Some((expression, not)) => (expression, Some(not.to_owned())),
                    None => (expression.trim(), None),
                };
                // fail2ban's `<HOST>`: an address or a name, which ends in a letter or digit.
                (regex::Regex::new(&expression.replace("<HOST>", r"[\w.:\-]*\w")).unwrap(), not)
            });
            Self(expressions.collect())
        }

        fn bans(&self, line: &str) -> bool {
            self.0.iter().any(|(expression, not)| {
                let rest = expression.find(line).map(|found| &line[found.end()..]);
                rest.is_some_and(|rest| !not.as_ref().is_some_and(|not| rest.starts_with(not)))
            })
        }
    }

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: https://a.example\r\n";

    fn judge(head: &[u8]) -> Result<(), Refusal> {
        let options = r#"{"origins": ["https://a.example"], "auth": {"tokens": [{"token": "good", "user": "alice"}]},
            "token_sources": ["bearer", "cookie:sid", "query:t"]}"#;
        let policy = Policy::new(Options::from_json(options).unwrap(), &NoFiles).unwrap();
        HeadScanner::default().scan(head, policy.max_head_bytes)?;
        let mut headers = NO_HEADERS;
        let request = Request::parse(head, &mut headers)?;
        let mut reported = Vec::new();
        handshake::vet(&policy, &request, &mut reported)?;
        handshake::authenticate(&policy, &request, 0, &mut reported).map(drop)
    }

    /// The line of what is wrong with a request.
    fn refused(head: impl AsRef<[u8]>) -> String {
        let refusal = judge(head.as_ref()).unwrap_err();
        line(refusal.code, &refusal.detail)
    }

    /// A page that somebody visits makes that browser connect, and a page of a sibling subdomain sets its cookies: a ban for
    /// it would be the visitor's.
    #[test]
    fn the_documented_filter_bans_for_nothing_that_a_foreign_page_can_cause() {
        let filter = Filter::documented();
        let bans = |head: &str| filter.bans(&refused(head));
        let with = |more: &str| format!("{HEAD}{more}\r\n\r\n");
        for honest in [
            with("Cookie: sid=good; sid=other"),
            with("Cookie: sid=good\r\nCookie: sid=other"),
            with("Cookie: sid=nobody-gave-this"),
            with("Cookie: a=b"),
            with("Cookie: sid=\u{e9}"),
            with("Origin: https://a.example")
                .replace("Origin: https://a.example\r\nOrigin", "Origin: https://b.example\r\nX"),
            with("X: y").replace("websocket", "h2c"),
            with("X: y").replace("GET / ", "POST / "),
            with("X: y").replace("HTTP/1.1", "HTTP/1.0"),
        ] {
            assert!(!bans(&honest), "{honest}");
        }
        // TLS where there is none; what WebRTC says to a TURN server, by TCP.
        for not_http in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x00\x03\x00\x08\x21\x12\xa4\x42\r\n"] {
            assert!(!filter.bans(&refused(not_http)));
        }
        for crafted in [
            with("Authorization: Bearer nobody-gave-this"),
            with("Cookie: a=b").replace("GET / ", "GET /?t=nobody-gave-this "),
            with("Host: b.example"),
            with("Origin: https://a.example"),
            with("Transfer-Encoding: chunked"),
            with("Content-Length: 5"),
            with("X: a\r\n b"),
            with("X: a\nY: b"),
            with("X: y").replace("dGhl", "?"),
        ] {
            assert!(bans(&crafted), "{crafted}");
        }
    }

    #[test]
    fn the_documented_filter_bans_for_no_code_that_honest_clients_cause() {
        let filter = Filter::documented();
        let banned: Vec<Code> = Code::ALL.iter().copied().filter(|code| filter.bans(&line(*code, "detail"))).collect();
        let never_honest = [
            Code::BadFrame,
            Code::BadUtf8,
            Code::TooManyFragments,
            Code::ControlFlood,
            Code::UnexpectedBinary,
            Code::BadCompression,
        ];
        assert_eq!(banned, never_honest);
        for error in
            [JwtError::Unsigned, JwtError::BadSignature, JwtError::AlgorithmNotAllowed, JwtError::CriticalHeader]
        {
            assert!(filter.bans(&line(
                Code::AuthFailed,
                &format!("{} from bearer (present: bearer, cookie:sid)", error.reason())
            )));
            assert!(!filter.bans(&line(Code::AuthFailed, &format!("{} from cookie:sid", error.reason()))));
        }
        for honest in [JwtError::Expired, JwtError::NotYetValid, JwtError::WrongAudience, JwtError::KidUnknown] {
            assert!(!filter.bans(&line(Code::AuthFailed, &format!("{} from bearer", honest.reason()))));
        }
        // What is only reported is a trial of the policy: who breaks it may be anybody.
        for reported in ["unknown token from bearer", "Host b.example is not in hosts", "bearer is given twice"] {
            for code in [Code::AuthFailed, Code::HostDenied, Code::HandshakeMalformed] {
                assert!(!filter.bans(&line(code, &format!("only reported: {reported}"))));
            }
        }
        // Nobody is banned where only the proxy is known.
        assert!(!filter.bans(&line(Code::BadFrame, "").replace("ip=203.0.113.7", "ip=-")));
    }

    #[test]
    fn nothing_a_peer_chose_breaks_a_line() {
        assert_eq!(escape("a\r\nb\x1b[31m \u{202e}é"), "a\\u{d}\\u{a}b\\u{1b}[31m\\u{20}\\u{202e}é");
        assert_eq!(escape("x\" code=ok"), "x\\x22\\u{20}code\\x3dok");
        assert_eq!(escape(&"x".repeat(1000)).chars().count(), 65);
    }
}
