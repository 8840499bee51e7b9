//! A user who is on several nodes and has more to say than his rate allows, on fake time: he has all of his rate, however his
//! messages come.

use super::compressed::{deflated, with_deflate};
use super::*;
use crate::cluster::ops::{Buckets, Level};
use crate::limits::{Limits, Seat};

const BYTES_PER_SECOND: f64 = 2000.0;
const MESSAGE: usize = 400;
const SECONDS: u64 = 30;

/// The bytes that the cluster keeps of the user.
struct Cluster {
    bytes: f64,
    at: Moment,
}

impl Cluster {
    /// A node tells what passed there, and hears what is in the bucket.
    fn exchange(&mut self, limits: &Limits, now: Moment) {
        self.bytes = (self.bytes - now.since(self.at).as_secs_f64() * BYTES_PER_SECOND).max(0.0);
        self.at = now;
        let used = limits.take_unreported("alice", now);
        self.bytes += used.iter().map(|level| level.bytes).sum::<f64>();
        let told = |level: Level| Level { units: 0.0, bytes: self.bytes, ..level };
        let levels: Vec<_> = used.into_iter().map(told).collect();
        if !levels.is_empty() || self.bytes == 0.0 {
            return limits.settle("alice", &levels, true, now);
        }
        let scope = "/".into();
        let level = Level {
            scope,
            units: 0.0,
            units_per_second: 1000.0,
            bytes: self.bytes,
            bytes_per_second: BYTES_PER_SECOND,
        };
        limits.settle("alice", &[level], true, now);
    }
}

struct Node {
    limits: Arc<Limits>,
    _seat: Seat,
    rig: Rig,
}

impl Node {
    fn new(policy: &Arc<Policy>) -> Self {
        let (limits, start) = (Arc::new(Limits::default()), Moment::from_millis(1000));
        let mut seat = limits.enter_server(policy).unwrap();
        seat.enter_user("alice", policy, start).unwrap();
        limits.share("alice", true, start);
        let key = seat.rate_key(policy.rate_limit.as_ref().unwrap(), &"/".into(), start);
        Self { limits, _seat: seat, rig: with_deflate(policy, key) }
    }
}

/// Hexadecimal digits without a pattern: half as long when they are compressed.
fn digits(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    (0..MESSAGE / 16).map(|_| next()).collect()
}

/// How a message comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    InReads(usize),
    Compressed,
}

impl Way {
    fn reads(self, text: &str) -> Vec<Vec<u8>> {
        match self {
            Way::Whole => vec![frame(0x82, text.as_bytes())],
            Way::Compressed => vec![frame(0xc2, &deflated(text.as_bytes()))],
            Way::InReads(reads) => {
                let whole = frame(0x82, text.as_bytes());
                whole.chunks(whole.len().div_ceil(reads)).map(<[u8]>::to_vec).collect()
            }
        }
    }
}

/// What waits for its place has been charged with what came of it before it was whole. That it waits does not make it cost more.
#[test]
fn whoever_waits_for_his_rate_has_all_of_it() {
    let policy = policy(&format!(
        r#", "protocol": "raw", "max_message_bytes": 2000, "ping_interval_ms": 0, "idle_timeout_ms": 0,
        "rate_limit": {{"per_second": 1000, "burst": 1000, "queue": 5000, "bytes_per_second": {BYTES_PER_SECOND}}}"#
    ));
    for way in [Way::Whole, Way::InReads(2), Way::InReads(5), Way::Compressed] {
        let mut nodes = [Node::new(&policy), Node::new(&policy)];
        let mut cluster = Cluster { bytes: 0.0, at: Moment::from_millis(1000) };
        for step in 0..SECONDS * 200 {
            for (index, Node { limits, rig, .. }) in nodes.iter_mut().enumerate() {
                if rig.conn.delayed_messages() == 0 {
                    way.reads(&digits(step * 2 + index as u64)).iter().for_each(|read| rig.input(read));
                }
                rig.pass(5);
                cluster.exchange(limits, rig.now);
            }
        }
        let passed: usize = nodes.iter().map(|node| node.rig.seen.messages.len() * MESSAGE).sum();
        let (due, lease) = (BYTES_PER_SECOND * (SECONDS + 1) as f64, BYTES_PER_SECOND / 4.0);
        let (passed, message) = (passed as f64, MESSAGE as f64);
        assert!(passed > due - 2.0 * message, "{way:?}: {passed} bytes of {due}");
        assert!(passed <= due + 2.0 * lease, "{way:?}: {passed} bytes of {due}");
    }
}
