//! The application's inbox: how much room the events take that it has not let go, and who is read again when there is more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use super::mailbox::ShardMailbox;
use wsguard_proto::inbox::Fill;

/// What the events of all shards take of `max_inbox_bytes`.
#[derive(Debug)]
pub(super) struct Inbox {
    shards: Arc<[ShardMailbox]>,
    max_bytes: AtomicUsize,
    bytes: AtomicUsize,
    /// Those of them that are no messages.
    others: AtomicUsize,
    /// Handshakes that ask the application, in batches that it has not released.
    upgrades: AtomicUsize,
}

/// What one batch takes of the inbox, or a part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) bytes: usize,
    pub(super) others: usize,
    pub(super) upgrades: usize,
}

impl Inbox {
    pub(super) fn new(shards: Arc<[ShardMailbox]>, max_bytes: usize) -> Self {
        let (bytes, others, upgrades) = Default::default();
        Self { shards, max_bytes: AtomicUsize::new(max_bytes), bytes, others, upgrades }
    }

    /// `max_inbox_bytes` from now on. Who waits for room looks for it by itself.
    pub(super) fn set_most(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn upgrades(&self) -> usize {
        self.upgrades.load(Ordering::Relaxed)
    }

    pub(super) fn fill(&self) -> Fill {
        let others = self.others.load(Ordering::Relaxed);
        let messages = self.bytes().saturating_sub(others);
        Fill { most: self.max_bytes.load(Ordering::Relaxed), messages, others }
    }

    /// No handshake may be added to it.
    pub(super) fn is_full(&self) -> bool {
        !self.fill().takes_newcomers()
    }

    pub(super) fn grew(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Events were added to a batch.
    pub(super) fn take(&self, more: Taken) {
        self.grew(more.bytes);
        if more.others > 0 {
            self.others.fetch_add(more.others, Ordering::Relaxed);
        }
        if more.upgrades > 0 {
            self.upgrades.fetch_add(more.upgrades, Ordering::Relaxed);
        }
    }

    /// The application releases batch `sequence` of `shard`: it has answered what it wanted to answer. `free` frees the batch's
    /// memory before anybody is told that there is room.
    pub(super) fn release(&self, shard: usize, sequence: u64, taken: Taken, free: impl FnOnce()) {
        let mailbox = &self.shards[shard];
        mailbox.release(sequence);
        self.upgrades.fetch_sub(taken.upgrades, Ordering::Relaxed);
        self.others.fetch_sub(taken.others, Ordering::Relaxed);
        free();
        self.shrank(taken.bytes);
        // A sharer that had more than its share of this batch has none of it now, however full the inbox is of others' messages.
        if self.fill().takes_messages() {
            mailbox.resume_if_starved();
        }
    }

    /// Takes off what was added. An application that gives back more than it kept does not turn the inbox over.
    pub(super) fn shrank(&self, bytes: usize) {
        let less = |now: usize| Some(now.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        // The level sinks before we look at who waits; a shard marks that it waits before it looks at the level: one of the two
        // sees the other. Above half, no shard is woken for each message that a face releases: starved connections look again
        // by themselves.
        fence(Ordering::SeqCst);
        if self.fill().room_for_all() > 0 {
            self.shards.iter().for_each(ShardMailbox::resume_if_starved);
        }
    }
}
