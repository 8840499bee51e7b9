//! The numbers of a server for `/metrics`, from the same counters as its [`Stats`].

use core::time::Duration;
use std::sync::atomic::Ordering;

use super::membership::Membership;
use super::state::{Life, ServerState};
use super::stats::Stats;
use wsguard_proto::admin::Facts;
use wsguard_proto::lock::lock;
use wsguard_proto::metrics::{PolicyFacts, Snapshot};
use wsguard_proto::time::Moment;

impl ServerState {
    fn snapshot(&self) -> Snapshot {
        let Stats {
            open,
            messages_in,
            bytes_in,
            bytes_out,
            inbox_bytes,
            outbox_bytes,
            delayed,
            pending_auth,
            verdicts,
            messages_compressed_in,
            bytes_inflated,
            messages_compressed_out,
            messages_left_plain,
            compression_saved_bytes,
            ..
        } = self.stats();
        let mut now = Snapshot {
            connections: open,
            messages_received: messages_in,
            received_bytes: bytes_in,
            sent_bytes: bytes_out,
            verdicts,
            inbox_bytes,
            inbox_age: self.inbox_age(),
            outbox_bytes,
            messages_delayed: delayed,
            messages_received_compressed: messages_compressed_in,
            inflated_bytes: bytes_inflated,
            messages_sent_compressed: messages_compressed_out,
            messages_left_plain,
            compression_saved_bytes,
            auth_pending: pending_auth,
            policy: PolicyFacts {
                generation: self.set().generation,
                reload_failures: self.reload_failures.load(Ordering::Relaxed),
                bans: lock(&self.bans).count(self.clock.now()) as u64,
            },
            cluster: self.cluster.get().map(Membership::facts),
            certificate_expires_at: self.certificate_expires_at(),
            version: env!("CARGO_PKG_VERSION"),
            ..Snapshot::default()
        };
        for shard in self.shards.iter() {
            now.messages_sent += shard.stats.messages_out.load(Ordering::Relaxed);
            shard.durations.handshakes.add_to(&mut now.handshakes);
            shard.durations.auths.add_to(&mut now.auths);
        }
        now
    }

    fn certificate_expires_at(&self) -> Option<u64> {
        self.tls()?.expires_at
    }
}

impl Facts for ServerState {
    fn is_draining(&self) -> bool {
        self.life() != Life::Running
    }

    fn inbox_age(&self) -> Duration {
        match self.oldest_event() {
            Moment::NEVER => Duration::ZERO,
            since => self.clock.now().since(since),
        }
    }

    fn is_cut_off(&self) -> bool {
        self.cluster.get().is_some_and(|membership| !membership.cluster.is_reachable())
    }

    fn metrics(&self) -> String {
        self.snapshot().text()
    }
}
