//! The events of one shard that the application has not taken yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::clock::Clock;
use super::events::EventBatch;
use super::inbox::{Inbox, Taken};
use super::wake::ApplicationWaker;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// A shard's batch. Aligned, because every shard writes to its own at the same time: none shares a cache line with another's.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ShardEvents {
    batch: Mutex<EventBatch>,
    waiting: WaitingSince,
}

/// When the oldest event of a batch came: set with the batch locked, read by anyone.
#[derive(Debug)]
struct WaitingSince {
    clock: Clock,
    nanos: AtomicU64,
}

impl WaitingSince {
    fn set(&self, moment: Moment) {
        self.nanos.store(moment.as_nanos(), Ordering::Relaxed);
    }
}

impl ShardEvents {
    pub(super) fn new(shard: usize, clock: Clock) -> Self {
        let waiting = WaitingSince { clock, nanos: AtomicU64::new(Moment::NEVER.as_nanos()) };
        Self { batch: Mutex::new(EventBatch::of_shard(shard)), waiting }
    }

    /// When the oldest event came that waits in it; [`Moment::NEVER`]: none does.
    pub(super) fn oldest(&self) -> Moment {
        Moment::from_nanos(self.waiting.nanos.load(Ordering::Relaxed))
    }

    /// Locks the batch, to add events.
    pub(super) fn write<'s>(&'s self, inbox: &'s Inbox, waker: &'s ApplicationWaker) -> Writing<'s> {
        let batch = lock(&self.batch);
        let (used_before, taken_before) = (batch.used(), batch.taken());
        Writing { inbox, waker, batch, waiting: &self.waiting, used_before, taken_before }
    }

    /// Swaps the events into the empty `batch` of the application; returns whether there were any.
    pub(super) fn take(&self, batch: &mut EventBatch, inbox: &Arc<Inbox>) -> bool {
        let mut events = lock(&self.batch);
        if events.is_empty() {
            return false;
        }
        let (next, shard) = (events.sequence + 1, events.shard);
        batch.swap(&mut events, inbox);
        events.sequence = next;
        events.shard = shard;
        self.waiting.set(Moment::NEVER);
        true
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        lock(&self.batch).capacity()
    }

    /// Lets its buffers go: nobody has had an event for a while.
    pub(super) fn shrink(&self) {
        lock(&self.batch).shrink();
    }
}

/// The locked events of one shard, to add some: what was added is counted on drop.
pub(super) struct Writing<'s> {
    inbox: &'s Inbox,
    waker: &'s ApplicationWaker,
    batch: MutexGuard<'s, EventBatch>,
    waiting: &'s WaitingSince,
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
        if self.used_before == 0 && !self.batch.is_empty() {
            self.waiting.set(self.waiting.clock.now());
        }
        self.inbox.take(Taken {
            bytes: now.bytes.saturating_sub(before.bytes),
            others: now.others - before.others,
            upgrades: now.upgrades - before.upgrades,
        });
    }
}
