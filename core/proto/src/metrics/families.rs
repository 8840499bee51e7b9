//! **The table of metrics**: every name, type, unit and meaning, once.

use super::{Durations, Snapshot};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only ever grows; its samples end in `_total`.
    Counter,
    /// A level.
    Gauge,
    /// Its samples end in `_bucket`, `_count` and `_sum`.
    Histogram,
    /// What does not change, in labels; its sample ends in `_info`.
    Info,
}

/// What a metric has to say.
pub(super) enum Value<'s> {
    Whole(u64),
    /// Written in seconds.
    Micros(u64),
    /// One number for each verdict.
    ByCode(&'s [u64]),
    Durations(&'s Durations),
    /// Only labels.
    Label(&'static str, &'s str),
    /// Nothing, on this server.
    Nothing,
}

/// One metric.
pub(super) struct Family {
    /// Without the end that samples of its kind have; with the unit.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Option<&'static str>,
    pub(super) help: &'static str,
    pub(super) value: fn(&Snapshot) -> Value<'_>,
}

const fn family(
    kind: Kind,
    name: &'static str,
    unit: Option<&'static str>,
    help: &'static str,
    value: fn(&Snapshot) -> Value<'_>,
) -> Family {
    Family { name, kind, unit, help, value }
}

use Kind::{Counter, Gauge, Histogram, Info};
use Value::{ByCode, Label, Micros, Nothing, Whole};

const BYTES: Option<&str> = Some("bytes");
const SECONDS: Option<&str> = Some("seconds");

/// Every metric, in the order of the text.
pub(super) const FAMILIES: &[Family] = &[
    family(Gauge, "wsguard_connections", None, "Open connections.", |now| Whole(now.connections)),
    family(
        Counter,
        "wsguard_handshakes",
        None,
        "Opening handshakes that were decided: with a 101 or with a refusal, which is a verdict as well.",
        |now| Whole(now.handshakes.count()),
    ),
    family(
        Counter,
        "wsguard_messages_received",
        None,
        "Messages received that were valid and within their rate.",
        |now| Whole(now.messages_received),
    ),
    family(
        Counter,
        "wsguard_messages_sent",
        None,
        "Messages of the application handed to open connections; a broadcast counts once for each that it reaches.",
        |now| Whole(now.messages_sent),
    ),
    family(
        Counter,
        "wsguard_received_bytes",
        BYTES,
        "Bytes received after handshakes, framing included, TLS not.",
        |now| Whole(now.received_bytes),
    ),
    family(Counter, "wsguard_sent_bytes", BYTES, "Bytes written after handshakes, framing included, TLS not.", |now| {
        Whole(now.sent_bytes)
    }),
    family(
        Counter,
        "wsguard_messages_received_compressed",
        None,
        "Messages received that were compressed, and that could be decompressed.",
        |now| Whole(now.messages_received_compressed),
    ),
    family(
        Counter,
        "wsguard_inflated_bytes",
        BYTES,
        "Bytes that compressed messages were decompressed to, also of those that were refused.",
        |now| Whole(now.inflated_bytes),
    ),
    family(
        Counter,
        "wsguard_messages_sent_compressed",
        None,
        "Messages handed to connections compressed; a broadcast counts once for each.",
        |now| Whole(now.messages_sent_compressed),
    ),
    family(
        Counter,
        "wsguard_messages_left_plain",
        None,
        "Messages over the threshold that went plain because more than a thread compresses in one go was to be sent.",
        |now| Whole(now.messages_left_plain),
    ),
    family(
        Counter,
        "wsguard_compression_saved_bytes",
        BYTES,
        "Bytes that compression has saved of what was sent.",
        |now| Whole(now.compression_saved_bytes),
    ),
    family(
        Counter,
        "wsguard_verdicts",
        None,
        "Verdicts by code: what was refused, and why connections ended.",
        |now| ByCode(&now.verdicts),
    ),
    family(Gauge, "wsguard_inbox_bytes", BYTES, "Bytes of events that the application has not let go.", |now| {
        Whole(now.inbox_bytes)
    }),
    family(
        Gauge,
        "wsguard_inbox_age_seconds",
        SECONDS,
        "Age of the oldest event that the application has not taken; 0 when it has taken all.",
        |now| Micros(u64::try_from(now.inbox_age.as_micros()).unwrap_or(u64::MAX)),
    ),
    family(Gauge, "wsguard_outbox_bytes", BYTES, "Bytes of all connections that their peers have not read.", |now| {
        Whole(now.outbox_bytes)
    }),
    family(Gauge, "wsguard_messages_delayed", None, "Messages that wait for their rate.", |now| {
        Whole(now.messages_delayed)
    }),
    family(Gauge, "wsguard_auth_pending", None, "Handshakes that wait for the application.", |now| {
        Whole(now.auth_pending)
    }),
    family(
        Histogram,
        "wsguard_handshake_duration_seconds",
        SECONDS,
        "From the accept of a connection to the decision on its handshake: TLS, head and authentication together.",
        |now| Value::Durations(&now.handshakes),
    ),
    family(
        Histogram,
        "wsguard_auth_duration_seconds",
        SECONDS,
        "Authentication alone: the check of a token, or the wait for the application's answer.",
        |now| Value::Durations(&now.auths),
    ),
    family(
        Gauge,
        "wsguard_policy_generation",
        None,
        "Which policy is in force: 1 at the start, one more with every reload.",
        |now| Whole(now.policy.generation),
    ),
    family(Counter, "wsguard_reload_failures", None, "Reloads that were refused; the policy before stayed.", |now| {
        Whole(now.policy.reload_failures)
    }),
    family(
        Gauge,
        "wsguard_tls_certificate_expiry_seconds",
        SECONDS,
        "When the certificate of the server expires, in seconds since 1970. Absent without TLS.",
        |now| now.certificate_expires_at.map_or(Nothing, Whole),
    ),
    family(Gauge, "wsguard_bans", None, "Bans in force.", |now| Whole(now.policy.bans)),
    family(
        Gauge,
        "wsguard_cluster_up",
        None,
        "1 while the cluster can be reached, else 0. Absent without a cluster.",
        |now| now.cluster.map_or(Nothing, |cluster| Whole(cluster.is_up.into())),
    ),
    family(
        Gauge,
        "wsguard_cluster_lag_seconds",
        SECONDS,
        "Age of the oldest command to Redis that has no answer. Absent without a cluster.",
        |now| now.cluster.map_or(Nothing, |cluster| Micros(u64::try_from(cluster.lag.as_micros()).unwrap_or(u64::MAX))),
    ),
    family(
        Counter,
        "wsguard_cluster_dropped",
        None,
        "Messages for other nodes that were dropped: the cluster could not be reached, or was too slow. Absent without a cluster.",
        |now| now.cluster.map_or(Nothing, |cluster| Whole(cluster.dropped)),
    ),
    family(Info, "wsguard_build", None, "The version of wsguard.", |now| Label("version", now.version)),
];
