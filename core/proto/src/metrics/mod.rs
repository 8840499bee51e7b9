//! What is told of a running server: OpenMetrics text (version 1.0 of the specification), valid to the letter.
//!
//! Which metrics there are stands in `families.rs` alone. A label is a code of ours, never what a peer chose: there are as
//! many series as codes, whatever peers do.

mod durations;
mod families;
mod writer;

pub use durations::{BUCKETS, Durations, bucket_of};

use core::time::Duration;

use families::FAMILIES;
use writer::Writer;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told of the policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyFacts {
    /// 1 at the start, and one more with every reload.
    pub generation: u64,
    /// Reloads that were refused.
    pub reload_failures: u64,
    /// Bans in force.
    pub bans: u64,
}

impl Default for PolicyFacts {
    fn default() -> Self {
        Self { generation: 1, reload_failures: 0, bans: 0 }
    }
}

/// What is told of the cluster that a server is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Whether it can be reached.
    pub is_up: bool,
    /// The age of the oldest thing that it was asked and has not answered.
    pub lag: Duration,
    /// Messages for other nodes that were dropped.
    pub dropped: u64,
}

/// A server's numbers at one moment.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "`families.rs` has a help text for each")]
pub struct Snapshot {
    pub connections: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub messages_received_compressed: u64,
    pub inflated_bytes: u64,
    pub messages_sent_compressed: u64,
    pub messages_left_plain: u64,
    pub compression_saved_bytes: u64,
    /// By code, in the order of [`Code::ALL`](crate::verdict::Code::ALL).
    pub verdicts: Vec<u64>,
    pub inbox_bytes: u64,
    pub inbox_age: Duration,
    pub outbox_bytes: u64,
    pub messages_delayed: u64,
    pub auth_pending: u64,
    pub handshakes: Durations,
    pub auths: Durations,
    pub policy: PolicyFacts,
    /// `None`: the server is alone.
    pub cluster: Option<ClusterFacts>,
    /// In seconds since 1970; `None` without TLS.
    pub certificate_expires_at: Option<u64>,
    pub version: &'static str,
}

impl Snapshot {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut writer = Writer::default();
        for family in FAMILIES {
            writer.family(family, self);
        }
        writer.end()
    }
}

#[cfg(test)]
#[path = "test_parser.rs"]
mod test_parser;
#[cfg(test)]
mod tests;
