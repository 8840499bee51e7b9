//! What an operator should hear of once: proxies that nobody listed, clients whose subprotocols nobody speaks. Bounded, and
//! never a record of the verdict log: nobody is to be banned for it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;

use super::caught::said;
use wsguard_proto::bucket::{Bucket, Rate};
use wsguard_proto::client_ip::Doubt;
use wsguard_proto::config::PolicySet;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// Peers that are warned of in a server's life: anybody may send the header of a proxy.
const MAX_PEERS: usize = 64;

/// What was said lately.
#[derive(Debug, Default)]
struct Said {
    doubts: HashSet<(Option<IpAddr>, Doubt)>,
    subprotocols: Bucket,
    suppressed: u64,
    left_out: bool,
}

/// The notices of one server.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<Said>);

impl Notices {
    /// Whether a doubt about this peer is worth a line: the first of its kind, of not too many peers.
    fn is_news(&self, peer: Option<IpAddr>, doubt: Doubt) -> bool {
        let doubts = &mut lock(&self.0).doubts;
        doubts.len() < MAX_PEERS && doubts.insert((peer, doubt))
    }

    /// Warns of a peer whose forwarded headers were not believed, once.
    pub(super) fn doubt(&self, peer: Option<IpAddr>, doubt: Doubt) {
        if !self.is_news(peer, doubt) {
            return;
        }
        let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
        let what = match doubt {
            Doubt::Untrusted => {
                "requests with X-Forwarded-For or Forwarded come from a peer that is not in trusted_proxies, and are all \
                 counted as that peer's: if it is your proxy, list its address in trusted_proxies"
            }
            Doubt::Unusable => {
                "a peer in trusted_proxies forwards no client: its Forwarded has no for, or it or X-Forwarded-For names \
                 no address. Such clients are counted as the proxy: let it set one of the two headers, and remove the other"
            }
            Doubt::Disagreement => {
                "a peer in trusted_proxies sets one of Forwarded and X-Forwarded-For and passes the client's own other one \
                 on. Such clients are counted as the proxy: let it remove the header that it does not set"
            }
        };
        said(|| tracing::warn!(target: "wsguard", %peer, "{what}"));
    }

    /// Tells, once, that an open does not have all that it is to have.
    pub(super) fn facts_left_out(&self) {
        if core::mem::replace(&mut lock(&self.0).left_out, true) {
            return;
        }
        said(|| {
            tracing::info!(
                target: "wsguard",
                "an open is told without a part of what is kept: over 8192 bytes of keep_headers and keep_cookies, over 128 of \
                 them, a cookie that is not UTF-8, or a JSON Web Token with claims over 8192 bytes"
            );
        });
    }

    /// Tells, sampled, of a client that offers subprotocols of which this server speaks none. What it offers is not said:
    /// a token may be among it.
    pub(super) fn unknown_subprotocols(&self, now: Moment) {
        let rate = Rate::new(0.1, 3.0);
        let mut before = lock(&self.0);
        if before.subprotocols.try_pour(&rate, 1, now).is_err() {
            before.suppressed += 1;
            return;
        }
        let suppressed = core::mem::take(&mut before.suppressed);
        drop(before);
        said(|| {
            tracing::info!(
                target: "wsguard",
                suppressed,
                "a client offers subprotocols of which none is in subprotocols: the 101 names none, and browsers drop it then"
            );
        });
    }
}

/// Warns, at a start and a reload, of paths on which the rules for handshakes only report.
pub(super) fn warn_of_reporting(set: &PolicySet) {
    for path in set.reporting_paths() {
        let paths = if path.is_empty() { "every path that has no route of its own" } else { &path };
        said(|| {
            tracing::warn!(
                target: "wsguard",
                "report_handshakes is on for {paths}: ANYBODY may connect there, from any page on the web, with a forged Host, with \
                 a wrong credential or none. What origins, hosts and auth would refuse is only logged and counted. It is for \
                 trying a policy before it counts: turn it off when the log is quiet"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_warned_of_once_and_not_too_many_are() {
        let notices = Notices::default();
        let peer = |host: u32| Some(std::net::Ipv4Addr::from_bits(host).into());
        assert!(notices.is_news(peer(1), Doubt::Untrusted));
        assert!(!notices.is_news(peer(1), Doubt::Untrusted));
        assert!(notices.is_news(peer(1), Doubt::Unusable));
        assert_eq!((2..10_000).filter(|host| notices.is_news(peer(*host), Doubt::Untrusted)).count(), MAX_PEERS - 2);
    }
}
