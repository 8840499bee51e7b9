//! One shard as other threads see it: its slots and counters, and the commands that wait for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::commands::CommandBuffer;
use super::durations::ShardDurations;
use super::ids::Slots;
use super::level::Level;
use super::stats::ShardStats;
use wsguard_proto::lock::lock;

/// One shard as other threads see it.
#[derive(Debug)]
pub(super) struct ShardMailbox {
    pub(super) slots: Slots,
    pub(super) stats: ShardStats,
    pub(super) durations: ShardDurations,
    /// Connections that were handed to it and have not ended.
    pub(super) load: Level,
    commands: Mutex<Queue>,
    commands_wait: AtomicBool,
    /// Bytes of broadcasts that were posted and that it has not come to.
    pub(super) broadcasts: Level,
    pub(super) commands_arrived: Notify,
    /// Told when the shard does its last.
    pub(super) last_turns: Notify,
    /// Handshakes that wait for something else than their peer, and end when the shard does its last.
    pub(super) waiting: Level,
    /// The last batch that the application has released.
    released: AtomicU64,
    /// Reading was stopped for want of room in the inbox; wake the shard when there is.
    pub(super) starved: AtomicBool,
    /// One of its tasks has ended, without which it is of no use.
    pub(super) lost_a_task: AtomicBool,
}

/// Commands that wait for a shard.
#[derive(Debug, Default)]
struct Queue {
    buffer: CommandBuffer,
    /// It takes no more.
    is_closed: bool,
}

impl ShardMailbox {
    pub(super) fn new(most_slots: usize) -> Self {
        Self {
            slots: Slots::new(most_slots),
            stats: ShardStats::default(),
            durations: ShardDurations::default(),
            load: Level::default(),
            commands: Mutex::default(),
            commands_wait: AtomicBool::new(false),
            broadcasts: Level::default(),
            commands_arrived: Notify::new(),
            last_turns: Notify::new(),
            waiting: Level::default(),
            released: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            lost_a_task: AtomicBool::new(false),
        }
    }

    /// Adds commands under the lock and wakes the shard when it may be asleep. Where the shard takes no more nobody will carry them
    /// out: they are dropped, and what they hold is given back.
    pub(super) fn post(&self, write: impl FnOnce(&mut CommandBuffer)) {
        if let Err(write) = self.try_post(write) {
            write(&mut CommandBuffer::default());
        }
    }

    /// As [`post`](Self::post).
    ///
    /// # Errors
    ///
    /// The shard takes no more: `write` was not called.
    pub(super) fn try_post<W: FnOnce(&mut CommandBuffer)>(&self, write: W) -> Result<(), W> {
        let mut queue = lock(&self.commands);
        if queue.is_closed {
            return Err(write);
        }
        write(&mut queue.buffer);
        drop(queue);
        if !self.commands_wait.swap(true, Ordering::AcqRel) {
            self.commands_arrived.notify_one();
        }
        Ok(())
    }

    /// The shard will look for commands very soon: nobody needs to wake it for those that come until then.
    pub(super) fn expect_commands(&self) {
        self.commands_wait.store(true, Ordering::Release);
    }

    /// Takes all commands, leaving an empty buffer.
    pub(super) fn take_commands(&self, buffer: &mut CommandBuffer) {
        self.commands_wait.store(false, Ordering::Release);
        core::mem::swap(&mut lock(&self.commands).buffer, buffer);
    }

    /// Takes no more commands. The shard still carries out what came before.
    pub(super) fn close(&self) {
        lock(&self.commands).is_closed = true;
    }

    /// The shard is gone: closes, and gives back what those commands hold that nobody carried out.
    pub(super) fn abandon(&self) {
        self.close();
        let mut left = CommandBuffer::default();
        self.take_commands(&mut left);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        lock(&self.commands).buffer.capacity()
    }

    /// Lets buffers go that nothing waits in.
    pub(super) fn shrink(&self) {
        let mut queue = lock(&self.commands);
        if queue.buffer.commands.is_empty() {
            queue.buffer.shrink();
        }
    }

    /// Whether commands wait to be carried out.
    pub(super) fn has_commands(&self) -> bool {
        self.commands_wait.load(Ordering::Acquire)
    }

    /// The last batch that the application is done with.
    pub(super) fn last_released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Notes that the application has released batch `sequence`.
    pub(super) fn release(&self, sequence: u64) {
        self.released.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Wakes the shard if it stopped reading for want of room in the inbox.
    pub(super) fn resume_if_starved(&self) {
        if self.starved.swap(false, Ordering::AcqRel) {
            self.post(CommandBuffer::resume);
        }
    }

    /// Whether the application is done with batch `sequence`.
    pub(super) fn has_released(&self, sequence: u64) -> bool {
        self.last_released() >= sequence
    }
}
