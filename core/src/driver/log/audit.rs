//! Records of what went well: who was let in by what, what opened and closed. Events of the target `wsguard::audit`.
//!
//! Each kind has a rate of its own for all peers together, so that a storm of handshakes does not make the log what the server
//! waits for; what is left out is counted and said with the next. Where nobody listens nothing is formatted.

use std::net::IpAddr;
use std::sync::Mutex;

use tracing::Level;

use super::{Subject, escape};
use crate::driver::caught::said;
use crate::driver::tally::Tally;
use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::config::Policy;
use wsguard_proto::connection::Ending;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// Records of one kind a second, and at once.
const PER_SECOND: f64 = 100.0;
const BURST: f64 = 1000.0;

/// What was said of one kind lately.
#[derive(Debug, Default)]
struct Kind {
    bucket: Bucket,
    suppressed: u64,
}

impl Kind {
    /// How many were left out before this one; `None`: this one is, too.
    fn pass(&mut self, now: Moment) -> Option<u64> {
        if self.bucket.try_pour(&Rate::new(PER_SECOND, BURST), 1, now).is_err() {
            self.suppressed += 1;
            return None;
        }
        Some(core::mem::take(&mut self.suppressed))
    }
}

/// What a peer was let in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Proof {
    /// `auth: "none"`.
    Nothing,
    Token,
    Jwt,
    Callback,
}

impl Proof {
    fn name(self) -> &'static str {
        match self {
            Proof::Nothing => "none",
            Proof::Token => "token",
            Proof::Jwt => "jwt",
            Proof::Callback => "callback",
        }
    }
}

/// A connection that opens.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct Opened<'o> {
    pub(in crate::driver) route: Option<&'o str>,
    pub(in crate::driver) subprotocol: Option<&'o str>,
    pub(in crate::driver) proof: Proof,
}

/// Samples the records of each kind.
#[derive(Debug, Default)]
pub(in crate::driver) struct Audit {
    auth: Mutex<Kind>,
    open: Mutex<Kind>,
    close: Mutex<Kind>,
}

fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), escape)
}

fn address(ip: Option<IpAddr>) -> String {
    ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string())
}

/// Says it, with the number left out before, if anybody listens and the rate allows.
fn sampled(kind: &Mutex<Kind>, now: Moment, say: impl FnOnce(u64)) {
    said(|| {
        if tracing::enabled!(target: "wsguard::audit", Level::INFO)
            && let Some(suppressed) = { lock(kind).pass(now) }
        {
            say(suppressed);
        }
    });
}

macro_rules! record {
    ($action:literal, $subject:expr, $policy:expr, $($field:tt)*) => {{
        let Subject { hs, ip, peer, user, conn } = $subject;
        // As in the record of a verdict: where only a proxy is known, the client is not.
        let ip = ip.filter(|ip| !$policy.trusted_proxies.trusts(Some(*ip)));
        let hs = hs.map_or_else(|| "-".to_owned(), |hs| hs.to_string());
        let (ip, peer, user) = (address(ip), address(peer), or_dash(user));
        let conn = conn.map_or_else(|| "-".to_owned(), |conn| conn.to_string());
        let action = $action;
        tracing::info!(target: "wsguard::audit", %action, %hs, %ip, %peer, %user, %conn, $($field)*)
    }};
}

impl Audit {
    /// A credential was accepted, or the application has accepted the peer.
    pub(in crate::driver) fn auth(&self, subject: Subject<'_>, policy: &Policy, proof: Proof, now: Moment) {
        sampled(&self.auth, now, |suppressed| record!("auth", subject, policy, auth = %proof.name(), suppressed));
    }

    /// A connection is open.
    pub(in crate::driver) fn open(&self, subject: Subject<'_>, policy: &Policy, opened: Opened<'_>, now: Moment) {
        sampled(&self.open, now, |suppressed| {
            let (route, subprotocol) = (or_dash(opened.route), or_dash(opened.subprotocol));
            record!("open", subject, policy, %route, %subprotocol, auth = %opened.proof.name(), suppressed);
        });
    }

    /// A connection is closed.
    pub(in crate::driver) fn close(
        &self,
        subject: Subject<'_>,
        policy: &Policy,
        ending: &Ending,
        tally: &Tally,
        since: Moment,
        now: Moment,
    ) {
        sampled(&self.close, now, |suppressed| {
            let duration_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            let Tally { messages_in, messages_out, bytes_in, bytes_out, .. } = *tally;
            let verdict = ending.verdict.map_or_else(|| "-".to_owned(), |code| code.to_string());
            let (close_code, clean) = (ending.code, ending.clean);
            record!(
                "close",
                subject,
                policy,
                close_code,
                clean,
                duration_ms,
                messages_in,
                messages_out,
                bytes_in,
                bytes_out,
                %verdict,
                suppressed
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_sampled_and_what_is_left_out_is_counted() {
        let mut kind = Kind::default();
        let now = Moment::from_millis(1);
        assert_eq!((0..5000).filter(|_| kind.pass(now).is_some()).count(), 1000);
        assert_eq!(kind.pass(now.after_millis(10)), Some(4000));
        assert_eq!((0..5000).filter(|_| kind.pass(now.after_millis(1010)).is_some()).count(), 100);
    }
}
