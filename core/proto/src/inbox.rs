//! How much of the inbox (`max_inbox_bytes`) messages may take, and whose they may be.
//!
//! Messages have three quarters of it. The last quarter is for what is told of handshakes and connections. Neither takes room
//! from the other: a flood of messages that the application is slow to take keeps no newcomer out, and a crowd of newcomers
//! silences nobody who is in.
//!
//! While messages fill less than half everybody is read. From there on every *sharer* (a user; without one an address, IPv6: a
//! /48; without either a connection) has an equal part of the quarter up to three quarters, for all its connections together,
//! and what it had waiting before counts. So what one does, on however many connections, takes nothing from another's part.

/// What handshakes have at least, however small the inbox is.
const LEAST_FOR_OTHERS: usize = 64 * 1024;

/// How full an inbox is.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// `max_inbox_bytes`.
    pub most: usize,
    /// Bytes of messages, those included that a language keeps beyond their batch.
    pub messages: usize,
    /// Bytes of opens, upgrades, closes, violations.
    pub others: usize,
}

impl Fill {
    /// Whether messages have any room.
    #[must_use]
    pub fn takes_messages(self) -> bool {
        self.messages < self.most - self.most / 4
    }

    /// Whether handshakes have room.
    #[must_use]
    pub fn takes_newcomers(self) -> bool {
        self.others <= (self.most / 4).max(LEAST_FOR_OTHERS)
    }

    /// Whether what is only told, and ends nothing, has room: half of what handshakes have, so that a flood of refusals is not in
    /// the way of those who are let in.
    #[must_use]
    pub fn takes_remarks(self) -> bool {
        self.others <= (self.most / 4).max(LEAST_FOR_OTHERS) / 2
    }

    /// How many bytes of messages are left for everybody, up to half.
    #[must_use]
    pub fn room_for_all(self) -> usize {
        (self.most / 2).saturating_sub(self.messages)
    }

    /// How many bytes may be read of a sharer that has `waiting` bytes in it, one of `sharers`; 0: none before the application
    /// has taken some. Somebody of whom nothing waits may say something, however many share.
    #[must_use]
    pub fn room(self, waiting: usize, sharers: usize) -> usize {
        if self.room_for_all() > 0 {
            self.room_for_all()
        } else if self.takes_messages() {
            let part = self.most / 4 / sharers.max(1);
            part.saturating_sub(waiting).max(usize::from(waiting == 0))
        } else {
            0
        }
    }
}

/// What waits of one sharer in the batches of one shard, which the application lets go in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    last: Part,
    earlier: Part,
}

/// So many bytes, the last of them in this batch.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    batch: u64,
    bytes: usize,
}

impl Waiting {
    /// Adds bytes of `batch`, the newest one; `released` is the last that was let go.
    pub fn add(&mut self, batch: u64, bytes: usize, released: u64) {
        if batch == self.last.batch {
            self.last.bytes += bytes;
        } else {
            self.earlier = Part { batch: self.last.batch, bytes: self.bytes(released) };
            self.last = Part { batch, bytes };
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self, released: u64) -> usize {
        if released >= self.last.batch {
            0
        } else if released >= self.earlier.batch {
            self.last.bytes
        } else {
            self.last.bytes + self.earlier.bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(messages: usize, others: usize) -> Fill {
        Fill { most: 1 << 20, messages, others }
    }

    const QUARTER: usize = 1 << 18;

    #[test]
    fn messages_and_handshakes_leave_each_other_their_room() {
        assert!(fill(3 * QUARTER - 1, 9 * QUARTER).takes_messages() && !fill(3 * QUARTER, 0).takes_messages());
        // Also where messages are counted twice for a while: in their batch, and where a language keeps them.
        assert!(fill(9 * QUARTER, QUARTER).takes_newcomers() && !fill(0, QUARTER + 1).takes_newcomers());
        assert!(fill(9 * QUARTER, QUARTER / 2).takes_remarks() && !fill(0, QUARTER / 2 + 1).takes_remarks());
        // In the smallest inbox somebody may come and something may be said.
        let smallest = Fill { most: 1, messages: 0, others: 1000 };
        assert!(smallest.takes_newcomers() && smallest.takes_messages() && smallest.room(0, 1) > 0);
    }

    #[test]
    fn a_part_is_what_the_others_leave() {
        let half = fill(2 * QUARTER, 0);
        assert_eq!(fill(2 * QUARTER - 100, 0).room(QUARTER, 10), 100);
        assert_eq!((half.room(10, 4), half.room(QUARTER / 4, 4), half.room(QUARTER, 4)), (QUARTER / 4 - 10, 0, 0));
        assert_eq!((half.room(0, usize::MAX), half.room(1, usize::MAX)), (1, 0));
        assert_eq!(fill(3 * QUARTER, 0).room(0, 1), 0);
    }

    #[test]
    fn what_was_let_go_waits_no_more() {
        let mut waiting = Waiting::default();
        waiting.add(1, 10, 0);
        waiting.add(1, 5, 0);
        assert_eq!((waiting.bytes(0), waiting.bytes(1)), (15, 0));
        waiting.add(2, 7, 0);
        assert_eq!((waiting.bytes(0), waiting.bytes(1), waiting.bytes(2)), (22, 7, 0));
        waiting.add(4, 1, 2);
        assert_eq!((waiting.bytes(2), waiting.bytes(3), waiting.bytes(4)), (1, 1, 0));
    }

    /// The inbox of a server: what its shards and their application do with it.
    struct Model {
        most: usize,
        /// A turn's most bytes.
        turn: usize,
        /// The sharers of each shard.
        sharers: Vec<usize>,
        waiting: Vec<Vec<Waiting>>,
        /// What each shard's batches hold of each of its sharers: the newest last. The second number: which one that is.
        batches: Vec<(Vec<Vec<usize>>, u64)>,
        released: Vec<u64>,
    }

    impl Model {
        fn new(sharers: Vec<usize>, turn: usize, most: usize) -> Self {
            Self {
                most,
                turn,
                waiting: sharers.iter().map(|count| vec![Waiting::default(); *count]).collect(),
                batches: sharers.iter().map(|count| (vec![vec![0; *count]], 1)).collect(),
                released: vec![0; sharers.len()],
                sharers,
            }
        }

        fn all(&self) -> usize {
            self.batches.iter().flat_map(|(batches, _)| batches.iter().flatten()).sum()
        }

        fn of(&self, shard: usize, who: usize) -> usize {
            self.batches[shard].0.iter().map(|batch| batch[who]).sum()
        }

        fn room(&self, shard: usize, who: usize) -> usize {
            let fill = Fill { most: self.most, messages: self.all(), others: 0 };
            let waiting = self.waiting[shard][who].bytes(self.released[shard]);
            fill.room(waiting, self.sharers[shard] * self.sharers.len())
        }

        fn talk(&mut self, shard: usize, who: usize, bytes: usize) {
            let bytes = bytes.min(self.turn).min(self.room(shard, who));
            let (batches, newest) = &mut self.batches[shard];
            batches.last_mut().unwrap()[who] += bytes;
            self.waiting[shard][who].add(*newest, bytes, self.released[shard]);
        }

        fn take(&mut self, shard: usize) {
            let (batches, newest) = &mut self.batches[shard];
            batches.push(vec![0; self.sharers[shard]]);
            *newest += 1;
        }

        fn release(&mut self, shard: usize) {
            let (batches, newest) = &mut self.batches[shard];
            if batches.len() > 1 {
                batches.remove(0);
                self.released[shard] = *newest - batches.len() as u64;
            }
        }
    }

    proptest! {
        /// Whatever is said, taken and let go, in any order: messages stay within three quarters and a turn of each shard, and
        /// whoever has nothing waiting is read.
        #[test]
        fn nobody_takes_anothers_part(
            sharers in prop::collection::vec(1usize..6, 1..4),
            steps in prop::collection::vec((0u8..8, any::<usize>(), any::<usize>(), 0usize..100_000), 1..400),
        ) {
            let (most, shards) = (1_000_000, sharers.len());
            // What one turn adds is less than anybody's part.
            let turn = most / 4 / shards / shards / 6;
            let mut model = Model::new(sharers, turn, most);
            for (what, shard, who, bytes) in steps {
                let shard = shard % shards;
                let who = who % model.sharers[shard];
                match what {
                    0 => model.take(shard),
                    1 => model.release(shard),
                    // One that never stops.
                    2 => (0..50).for_each(|_| model.talk(shard, who, bytes)),
                    _ => model.talk(shard, who, bytes),
                }
                prop_assert!(model.all() <= most - most / 4 + turn * shards, "{}", model.all());
                for shard in 0..shards {
                    for who in 0..model.sharers[shard] {
                        let waits = model.waiting[shard][who].bytes(model.released[shard]);
                        prop_assert!(waits >= model.of(shard, who), "more waits than is counted");
                        prop_assert!(waits > 0 || model.room(shard, who) > 0, "nothing waits, and there is no room");
                    }
                }
            }
        }
    }
}
