//! Counters: written by their shard alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use wsguard_proto::deflate::{Deflate, Pressed};
use wsguard_proto::verdict::Code;

/// A server's counters at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that hold a place, handshakes included.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections ever opened.
    pub opened_total: u64,
    /// Valid messages received.
    pub messages_in: u64,
    /// Bytes received after handshakes, framing included.
    pub bytes_in: u64,
    /// Bytes written after handshakes, framing included.
    pub bytes_out: u64,
    /// Bytes of events that the application has not taken yet.
    pub inbox_bytes: u64,
    /// Bytes that peers have not read yet.
    pub outbox_bytes: u64,
    /// Messages that wait for their rate limit.
    pub delayed: u64,
    /// Handshakes that wait for the application.
    pub pending_auth: u64,
    /// Handshakes among the events that the application has not released, also those whose peer has left.
    pub upgrades_in_inbox: u64,
    /// Handshakes that are only still there to be refused.
    pub refusing: u64,
    /// Rooms with at least one member.
    pub rooms: u64,
    /// Memberships of all connections in all rooms.
    pub room_memberships: u64,
    /// Messages received that were compressed, and that could be decompressed.
    pub messages_compressed_in: u64,
    /// Bytes that they were decompressed to, also of what was refused.
    pub bytes_inflated: u64,
    /// Messages sent compressed; a broadcast counts once for each connection.
    pub messages_compressed_out: u64,
    /// Messages that went plain although they were long enough: over 1 MiB, or behind the mebibyte that a thread of the server
    /// compresses in one go.
    pub messages_left_plain: u64,
    /// Bytes that compression has saved of what was sent.
    pub compression_saved_bytes: u64,
    /// Bytes in adopted pipes that the server has not read, or the application has not taken.
    pub pipe_bytes: u64,
    /// 1 while the cluster can be reached; 0 without a cluster.
    pub cluster_up: u64,
    /// Messages for other nodes that were dropped: the cluster could not be reached, or was too slow; and what came from Redis and
    /// is no message.
    pub cluster_dropped: u64,
    /// Verdicts by code, in the order of [`Code::ALL`].
    pub verdicts: Vec<u64>,
}

impl Stats {
    /// The counters beside the verdicts, by name: the same names in every language.
    pub fn fields(&self) -> [(&'static str, u64); 22] {
        [
            ("connections", self.connections),
            ("open", self.open),
            ("opened_total", self.opened_total),
            ("messages_in", self.messages_in),
            ("bytes_in", self.bytes_in),
            ("bytes_out", self.bytes_out),
            ("inbox_bytes", self.inbox_bytes),
            ("outbox_bytes", self.outbox_bytes),
            ("delayed", self.delayed),
            ("pending_auth", self.pending_auth),
            ("upgrades_in_inbox", self.upgrades_in_inbox),
            ("refusing", self.refusing),
            ("rooms", self.rooms),
            ("room_memberships", self.room_memberships),
            ("messages_compressed_in", self.messages_compressed_in),
            ("bytes_inflated", self.bytes_inflated),
            ("messages_compressed_out", self.messages_compressed_out),
            ("messages_left_plain", self.messages_left_plain),
            ("compression_saved_bytes", self.compression_saved_bytes),
            ("pipe_bytes", self.pipe_bytes),
            ("cluster_up", self.cluster_up),
            ("cluster_dropped", self.cluster_dropped),
        ]
    }

    /// How often `code` was the verdict.
    pub fn verdict(&self, code: Code) -> u64 {
        self.verdicts.get(code as usize).copied().unwrap_or(0)
    }
}

/// Verdicts by code.
#[derive(Debug)]
pub(super) struct Verdicts([AtomicU64; Code::ALL.len()]);

impl Default for Verdicts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Code::ALL.len()])
    }
}

impl Verdicts {
    pub(super) fn count(&self, code: Code) {
        self.0[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Vec<u64> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }
}

/// One shard's counters. Only the shard writes, so a plain load and store is enough.
#[derive(Debug, Default)]
pub(super) struct ShardStats {
    pub(super) open: AtomicU64,
    pub(super) opened_total: AtomicU64,
    pub(super) messages_in: AtomicU64,
    pub(super) messages_out: AtomicU64,
    pub(super) messages_compressed_in: AtomicU64,
    pub(super) bytes_inflated: AtomicU64,
    pub(super) messages_compressed_out: AtomicU64,
    pub(super) messages_left_plain: AtomicU64,
    pub(super) compression_saved_bytes: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) outbox_bytes: AtomicU64,
    pub(super) delayed: AtomicU64,
}

impl ShardStats {
    /// Takes what the turn of a connection has counted.
    pub(super) fn count_turn(&self, deflate: &mut Deflate) {
        add(&self.messages_compressed_in, core::mem::take(&mut deflate.messages_inflated));
        add(&self.bytes_inflated, core::mem::take(&mut deflate.bytes_inflated));
        self.count_pressed(core::mem::take(&mut deflate.answers));
    }

    /// Counts messages that were to be compressed.
    pub(super) fn count_pressed(&self, pressed: Pressed) {
        let Pressed { messages, skipped, saved_bytes } = pressed;
        if messages > 0 || skipped > 0 {
            add(&self.messages_compressed_out, messages.into());
            add(&self.messages_left_plain, skipped.into());
            add(&self.compression_saved_bytes, saved_bytes as u64);
        }
    }
}

/// Adds to a counter that only this thread writes.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Moves a level that only this thread writes from `before` to `after`.
pub(super) fn shift(level: &AtomicU64, before: u64, after: u64) {
    if before != after {
        add(level, after.wrapping_sub(before));
    }
}
