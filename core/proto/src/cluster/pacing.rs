//! How much of messages to members may be on its way to Redis: as much as the link carries in a quarter of a second.
//!
//! Everything goes by one connection. What is behind megabytes of messages waits for them: beats, places of connections. On a slow
//! link, or with a slow Redis, those would be taken for lost, and the node would be cut off for what its users say.

use std::collections::BTreeMap;

use crate::time::Moment;

/// What is on its way at least, and at first.
const LEAST_BYTES: usize = 16 * 1024;
const FIRST_BYTES: usize = 64 * 1024;
/// Answered sooner: more may be on its way. Later: less.
const SOON_MS: u64 = 100;
const LATE_MS: u64 = 250;
const LONG_BYTES: usize = 64 * 1024;
/// As many bytes a millisecond carries at least: by so much longer an answer may take behind a long message.
const BYTES_PER_MS: u64 = 2048;

/// The long ones of what is on its way: an answer may be late by what the longest takes.
#[derive(Debug, Default)]
pub struct Long(BTreeMap<usize, usize>);

impl Long {
    /// So many bytes are sent at once.
    pub fn sent(&mut self, bytes: usize) {
        if bytes >= LONG_BYTES {
            *self.0.entry(bytes).or_default() += 1;
        }
    }

    /// They are answered.
    pub fn answered(&mut self, bytes: usize) {
        if let Some(count) = self.0.get_mut(&bytes) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&bytes);
            }
        }
    }

    /// For so much longer an answer may take.
    pub fn grace_ms(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(bytes, _)| *bytes as u64 / BYTES_PER_MS)
    }
}

/// The pace of one node.
pub(super) struct Pacing {
    most: usize,
    window: usize,
    on_its_way: usize,
    shrunk: Moment,
    long: Long,
}

impl Pacing {
    /// At most so many bytes, however fast Redis is.
    pub(super) fn new(most: usize) -> Self {
        Self { most, window: FIRST_BYTES, on_its_way: 0, shrunk: Moment::START, long: Long::default() }
    }

    /// Whether so many bytes more may be sent now. A message that is longer than all that may be goes alone.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.on_its_way == 0 || self.on_its_way.saturating_add(bytes) <= self.window
    }

    pub(super) fn on_its_way(&self) -> usize {
        self.on_its_way
    }

    /// They are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.on_its_way += bytes;
        self.long.sent(bytes);
    }

    /// They arrived, or failed.
    pub(super) fn answered(&mut self, bytes: usize, asked: Moment, now: Moment) {
        self.on_its_way = self.on_its_way.saturating_sub(bytes);
        self.long.answered(bytes);
        let took = now.since(asked).as_millis();
        if took < u128::from(SOON_MS) {
            self.window = self.window.saturating_add(bytes).min(self.most);
        } else if took > u128::from(LATE_MS) && asked >= self.shrunk {
            self.shrink(now);
        }
    }

    /// Nothing is on its way any more.
    pub(super) fn lost(&mut self, now: Moment) {
        if self.on_its_way > 0 {
            self.shrink(now);
        }
        (self.on_its_way, self.long) = (0, Long::default());
    }

    /// Once for all that was on its way at that time.
    fn shrink(&mut self, now: Moment) {
        (self.window, self.shrunk) = ((self.window / 2).max(LEAST_BYTES), now);
    }

    /// For so much longer than usual an answer may take.
    pub(super) fn grace_ms(&self) -> u64 {
        self.long.grace_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so many bytes a millisecond, and a node that always has more to say: how long answers take in the end,
    /// and how many bytes were carried.
    fn carried(bytes_per_ms: usize, message: usize, for_ms: u64) -> (u64, usize) {
        let mut pacing = Pacing::new(64 << 20);
        let (mut queue, mut progress) = (std::collections::VecDeque::new(), 0);
        let (mut slowest, mut carried) = (0, 0);
        for ms in 1..=for_ms {
            let now = Moment::from_millis(ms);
            while pacing.has_room(message) {
                pacing.sent(message);
                queue.push_back(now);
            }
            progress += bytes_per_ms;
            while progress >= message
                && let Some(asked) = queue.pop_front()
            {
                progress -= message;
                carried += message;
                pacing.answered(message, asked, now);
                if ms > for_ms / 2 {
                    slowest = slowest.max(now.since(asked).as_millis() as u64);
                }
            }
        }
        (slowest, carried)
    }

    #[test]
    fn a_slow_link_is_busy_and_nobody_waits_long() {
        for (bytes_per_ms, message) in [(1000, 1000), (1000, 60_000), (100, 10_000), (20_000, 1_000_000)] {
            let (slowest, carried) = carried(bytes_per_ms, message, 20_000);
            assert!(slowest <= 800, "{bytes_per_ms}: {slowest} ms");
            assert!(carried * 10 >= bytes_per_ms * 20_000 * 9, "{bytes_per_ms}: {carried}");
        }
    }

    #[test]
    fn a_long_message_has_its_time() {
        let mut pacing = Pacing::new(64 << 20);
        pacing.sent(1000);
        assert_eq!(pacing.grace_ms(), 0);
        pacing.sent(8 << 20);
        pacing.sent(8 << 20);
        assert!(!pacing.has_room(1));
        let now = Moment::from_millis(5000);
        pacing.answered(8 << 20, now, now);
        assert_eq!(pacing.grace_ms(), 4096);
        pacing.answered(8 << 20, now, now);
        assert_eq!(pacing.grace_ms(), 0);
        pacing.sent(8 << 20);
        pacing.lost(now);
        assert_eq!(pacing.grace_ms(), 0);
        assert!(pacing.has_room(8 << 20) && pacing.on_its_way() == 0);
    }
}
