//! Log records: one per verdict, escaped, sampled per code and address (THREATS S6).
//!
//! A record is a `tracing` event of the target `wsguard::verdict`. In the plain form it reads, on one line,
//! `… WARN wsguard::verdict: code=origin_denied ip=203.0.113.7 peer=10.0.0.2 user=- event=- conn=- suppressed=0 detail="…"`,
//! for which docs/SEMANTICS.md has a fail2ban filter. `ip` is the client's, or `-` where only a proxy is known.

use core::fmt::Write as _;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use super::ids::ConnectionId;
use crate::bucket::{Bucket, Rate};
use crate::client_ip::AddressKey;
use crate::connection::Report;
use crate::limits::lock;
use crate::time::Moment;
use crate::verdict::{Code, Severity};

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

/// What of one code and address was told lately.
#[derive(Debug, Default)]
struct Told {
    bucket: Bucket,
    suppressed: u64,
}

/// Samples records per code and address, events per code.
#[derive(Debug)]
pub(super) struct Sampler {
    records: Mutex<HashMap<(Code, Option<AddressKey>), Told>>,
    events: Mutex<HashMap<Code, Bucket>>,
    record_rate: Rate,
    event_rate: Rate,
}

/// Codes and addresses remembered at once; when it is full all are forgotten, which costs a few records more.
const MAX_REMEMBERED: usize = 4096;

impl Default for Sampler {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            events: Mutex::default(),
            record_rate: Rate::new(1.0, 10.0),
            event_rate: Rate::new(100.0, 1000.0),
        }
    }
}

impl Sampler {
    /// Whether the application hears of this one.
    pub(super) fn passes_event(&self, code: Code, now: Moment) -> bool {
        lock(&self.events).entry(code).or_default().try_pour(&self.event_rate, 1, now).is_ok()
    }

    /// How many records were suppressed before this one; `None`: this one is, too.
    fn passes_record(&self, code: Code, ip: Option<IpAddr>, now: Moment) -> Option<u64> {
        let mut records = lock(&self.records);
        let key = (code, ip.map(AddressKey::from));
        if records.len() >= MAX_REMEMBERED && !records.contains_key(&key) {
            records.clear();
        }
        let told = records.entry(key).or_default();
        if told.bucket.try_pour(&self.record_rate, 1, now).is_err() {
            told.suppressed += 1;
            return None;
        }
        Some(core::mem::take(&mut told.suppressed))
    }

    /// Writes the record of a verdict.
    pub(super) fn log(&self, report: &Report<'_>, subject: Subject<'_>, now: Moment) {
        let code = report.code;
        let Some(suppressed) = self.passes_record(code, subject.ip, now) else { return };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let ip = or_dash(subject.ip.map(|ip| ip.to_string()));
        let peer = or_dash(subject.peer.map(|peer| peer.to_string()));
        let user = or_dash(subject.user.map(escape));
        let event = or_dash(report.event.map(escape));
        let conn = or_dash(subject.conn.map(|conn| conn.to_string()));
        let detail: String = report.detail.chars().map(|c| if c.is_control() { '?' } else { c }).take(256).collect();
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(target: "wsguard::verdict", %code, %ip, %peer, %user, %event, %conn, suppressed, ?detail)
            };
        }
        match code.severity() {
            Severity::Notice => record!(info),
            Severity::Violation => record!(warn),
            Severity::Fault => record!(error),
        }
    }
}

/// Sends the log to standard error in the plain one-line form, unless a `tracing` subscriber is set already.
pub fn log_to_stderr() {
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_peer_chose_breaks_a_line() {
        assert_eq!(escape("a\r\nb\x1b[31m \u{202e}é"), "a\\u{d}\\u{a}b\\u{1b}[31m\\u{20}\\u{202e}é");
        assert_eq!(escape("x\" code=ok"), "x\\x22\\u{20}code\\x3dok");
        assert_eq!(escape(&"x".repeat(1000)).chars().count(), 65);
    }

    #[test]
    fn a_flood_is_sampled_per_code_and_address() {
        let sampler = Sampler::default();
        let now = Moment::from_millis(1);
        let ip = |text: &str| Some(text.parse().unwrap());
        let passed =
            |at| (0..100).filter(|_| sampler.passes_record(Code::BadFrame, ip("10.0.0.1"), at).is_some()).count();
        assert_eq!(passed(now), 10);
        assert_eq!(sampler.passes_record(Code::BadFrame, ip("10.0.0.2"), now), Some(0));
        assert_eq!(sampler.passes_record(Code::BadUtf8, ip("10.0.0.1"), now), Some(0));
        assert_eq!(sampler.passes_record(Code::BadFrame, ip("10.0.0.1"), now.after_millis(1000)), Some(90));
    }

    #[test]
    fn the_memory_of_the_sampler_is_bounded() {
        let sampler = Sampler::default();
        for n in 0..20_000u32 {
            let ip = std::net::Ipv4Addr::from_bits(n).into();
            sampler.passes_record(Code::BadFrame, Some(ip), Moment::from_millis(1));
        }
        assert!(lock(&sampler.records).len() <= MAX_REMEMBERED);
    }
}
