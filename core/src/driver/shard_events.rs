//! The events of one shard that the application has not taken yet.

use std::sync::{Arc, Mutex, MutexGuard};

use super::events::EventBatch;
use super::inbox::{Inbox, Taken};
use super::wake::ApplicationWaker;
use wsguard_proto::lock::lock;

/// A shard's batch. Aligned, because every shard writes to its own at the same time: none shares a cache line with another's.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ShardEvents(Mutex<EventBatch>);

impl ShardEvents {
    pub(super) fn new(shard: usize) -> Self {
        Self(Mutex::new(EventBatch::of_shard(shard)))
    }

    /// Locks the batch, to add events.
    pub(super) fn write<'s>(&'s self, inbox: &'s Inbox, waker: &'s ApplicationWaker) -> Writing<'s> {
        let batch = lock(&self.0);
        let (used_before, taken_before) = (batch.used(), batch.taken());
        Writing { inbox, waker, batch, used_before, taken_before }
    }

    /// Swaps the events into the empty `batch` of the application; returns whether there were any.
    pub(super) fn take(&self, batch: &mut EventBatch, inbox: &Arc<Inbox>) -> bool {
        let mut events = lock(&self.0);
        if events.is_empty() {
            return false;
        }
        let (next, shard) = (events.sequence + 1, events.shard);
        batch.swap(&mut events, inbox);
        events.sequence = next;
        events.shard = shard;
        true
    }

    /// Lets its buffers go: nobody has had an event for a while.
    pub(super) fn shrink(&self) {
        lock(&self.0).shrink();
    }
}

/// The locked events of one shard, to add some: what was added is counted on drop.
pub(super) struct Writing<'s> {
    inbox: &'s Inbox,
    waker: &'s ApplicationWaker,
    batch: MutexGuard<'s, EventBatch>,
    used_before: usize,
    taken_before: Taken,
}

impl Writing<'_> {
    pub(super) fn batch(&mut self) -> &mut EventBatch {
        &mut self.batch
    }

    /// How many bytes the events need that were added, which is 0 without any, and whether the application listens to
    /// anything that is there.
    pub(super) fn finish(self) -> (usize, bool) {
        (self.batch.used() - self.used_before, self.waker.note(&self.batch))
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let (now, before) = (self.batch.taken(), self.taken_before);
        self.inbox.take(Taken {
            bytes: now.bytes.saturating_sub(before.bytes),
            others: now.others - before.others,
            upgrades: now.upgrades - before.upgrades,
        });
    }
}
