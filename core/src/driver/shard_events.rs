//! The events of the shards that the application has not taken yet, and the order in which it may have them.
//!
//! Each shard keeps its events in order. Between shards one thing is kept: what comes when a connection has opened or closed, and
//! its peer may know that, is told behind its open or close. Else a peer that speaks on a second connection when the first is
//! there finds the first unknown to the application, where a server with one thread knows it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::clock::Clock;
use super::events::EventBatch;
use super::inbox::{Inbox, Taken};
use super::wake::ApplicationWaker;
use wsguard_proto::lock::lock;
use wsguard_proto::time::Moment;

/// None waits.
const NONE: u64 = u64::MAX;

/// The opens and closes of all shards, which are numbered from 1.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Changes {
    told: AtomicU64,
    taken: AtomicU64,
}

impl Changes {
    fn tell(&self) -> u64 {
        self.told.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn take(&self, changes: u64) {
        if changes > 0 {
            self.taken.fetch_add(changes, Ordering::SeqCst);
        }
    }

    /// The number of the last change, if any waits but the `own` of one shard, whose events are locked.
    fn last_elsewhere(&self, own: u64) -> Option<u64> {
        // In this order: what is taken in between counts as waiting, which does no harm.
        let taken = self.taken.load(Ordering::SeqCst);
        let told = self.told.load(Ordering::SeqCst);
        (told.saturating_sub(taken) > own).then_some(told)
    }
}

/// What a look for events found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are in the application's batch.
    Taken,
    /// There are none.
    Nothing,
    /// Those of another shard come first, which has some.
    Later,
}

/// The batches of a shard. Aligned, because every shard writes to its own at the same time: none shares a cache line with
/// another's.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ShardEvents {
    queue: Mutex<Queue>,
    /// The number of the first change that waits.
    first_change: AtomicU64,
    waiting: WaitingSince,
}

#[derive(Debug)]
struct Queue {
    /// Batches to which nothing is added, oldest first. There are some only while changes of other shards wait.
    complete: VecDeque<EventBatch>,
    /// The batch to which events are added.
    batch: EventBatch,
    /// How many changes are in all of them.
    changes: u64,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.complete.is_empty() && self.batch.is_empty()
    }

    fn front(&self) -> &EventBatch {
        self.complete.front().unwrap_or(&self.batch)
    }

    fn first_change(&self) -> u64 {
        let mut batches = self.complete.iter().chain([&self.batch]);
        batches.find_map(|batch| batch.first_change).unwrap_or(NONE)
    }

    /// A batch that goes on behind the one to which events were added until now.
    fn follow(&mut self) {
        let mut next = EventBatch::of_shard(self.batch.shard);
        next.sequence = self.batch.sequence + 1;
        self.complete.push_back(core::mem::replace(&mut self.batch, next));
    }

    /// Swaps the oldest batch into the application's, which is empty.
    fn take(&mut self, batch: &mut EventBatch, inbox: &Arc<Inbox>) {
        if let Some(mut front) = self.complete.pop_front() {
            return batch.swap(&mut front, inbox);
        }
        let (next, shard) = (self.batch.sequence + 1, self.batch.shard);
        batch.swap(&mut self.batch, inbox);
        (self.batch.sequence, self.batch.shard) = (next, shard);
    }
}

/// When the oldest event of a shard came: set with its batches locked, read by anyone.
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
        let queue = Queue { complete: VecDeque::new(), batch: EventBatch::of_shard(shard), changes: 0 };
        Self { queue: Mutex::new(queue), first_change: AtomicU64::new(NONE), waiting }
    }

    /// When the oldest event came that waits in it; [`Moment::NEVER`]: none does.
    pub(super) fn oldest(&self) -> Moment {
        Moment::from_nanos(self.waiting.nanos.load(Ordering::Relaxed))
    }

    /// Whether a change up to this number waits.
    pub(super) fn holds_change_until(&self, number: u64) -> bool {
        self.first_change.load(Ordering::SeqCst) <= number
    }

    /// Locks the batches, to add events that have happened by now.
    pub(super) fn write<'s>(
        &'s self,
        changes: &'s Changes,
        inbox: &'s Inbox,
        waker: &'s ApplicationWaker,
    ) -> Writing<'s> {
        let queue = lock(&self.queue);
        let is_first = queue.is_empty();
        let (used_before, taken_before) = (queue.batch.used(), queue.batch.taken());
        Writing { events: self, changes, inbox, waker, queue, is_first, is_begun: false, used_before, taken_before }
    }

    /// Swaps the oldest events into the empty `batch` of the application, unless `is_early` says of the number of a change that
    /// one up to it waits.
    pub(super) fn take(
        &self,
        batch: &mut EventBatch,
        changes: &Changes,
        inbox: &Arc<Inbox>,
        is_early: impl Fn(u64) -> bool,
    ) -> Look {
        let mut queue = lock(&self.queue);
        if queue.is_empty() {
            return Look::Nothing;
        }
        if queue.front().behind > 0 && is_early(queue.front().behind) {
            return Look::Later;
        }
        queue.take(batch, inbox);
        queue.changes -= batch.changes;
        changes.take(batch.changes);
        if batch.changes > 0 {
            self.first_change.store(queue.first_change(), Ordering::SeqCst);
        }
        self.waiting.set(if queue.is_empty() { Moment::NEVER } else { queue.front().since });
        Look::Taken
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        lock(&self.queue).batch.capacity()
    }

    /// Lets buffers go: nobody has had an event for a while.
    pub(super) fn shrink(&self) {
        let mut queue = lock(&self.queue);
        queue.batch.shrink();
        queue.complete.shrink_to_fit();
    }
}

/// The locked events of one shard, to add some: what was added is counted on drop.
pub(super) struct Writing<'s> {
    events: &'s ShardEvents,
    changes: &'s Changes,
    inbox: &'s Inbox,
    waker: &'s ApplicationWaker,
    queue: MutexGuard<'s, Queue>,
    /// Nothing waits that is older.
    is_first: bool,
    /// The first of them was added.
    is_begun: bool,
    used_before: usize,
    taken_before: Taken,
}

impl Writing<'_> {
    /// The batch, for what comes behind every change by now.
    pub(super) fn batch(&mut self) -> &mut EventBatch {
        if !core::mem::replace(&mut self.is_begun, true)
            && let Some(last) = self.changes.last_elsewhere(self.queue.changes)
            && self.queue.batch.behind != last
        {
            self.come_behind(last);
        }
        &mut self.queue.batch
    }

    #[cold]
    fn come_behind(&mut self, change: u64) {
        if !self.queue.batch.is_empty() {
            self.queue.follow();
            (self.used_before, self.taken_before) = (self.queue.batch.used(), self.queue.batch.taken());
        }
        self.queue.batch.behind = change;
    }

    /// Adds an open or a close. It comes behind none of other shards; what these add from here on comes behind it.
    pub(super) fn push_change(&mut self, push: impl FnOnce(&mut EventBatch)) {
        self.is_begun = true;
        let Self { events, changes, queue, .. } = self;
        push(&mut queue.batch);
        let number = changes.tell();
        queue.changes += 1;
        queue.batch.changes += 1;
        queue.batch.first_change.get_or_insert(number);
        events.first_change.fetch_min(number, Ordering::SeqCst);
    }

    /// How many bytes the events need that were added, which is 0 without any, and whether the application listens to
    /// anything that is there.
    pub(super) fn finish(self) -> (usize, bool) {
        (self.queue.batch.used() - self.used_before, self.waker.note(&self.queue.batch))
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let (now, before) = (self.queue.batch.taken(), self.taken_before);
        if self.used_before == 0 && !self.queue.batch.is_empty() {
            self.queue.batch.since = self.events.waiting.clock.now();
            if self.is_first {
                self.events.waiting.set(self.queue.batch.since);
            }
        }
        self.inbox.take(Taken {
            bytes: now.bytes.saturating_sub(before.bytes),
            others: now.others - before.others,
            upgrades: now.upgrades - before.upgrades,
        });
    }
}

#[cfg(test)]
#[path = "shard_events_tests.rs"]
mod tests;
