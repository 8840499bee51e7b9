//! How much of the inbox (`max_inbox_bytes`) messages may take, and whose they may be (THREATS S4).
//!
//! Messages have three quarters of it. The last quarter is for what is told of handshakes and connections: a flood of messages
//! that the application is slow to take keeps no newcomer out.
//!
//! Below half everybody is read. From there on every *sharer* (a user; without one an address, IPv6: a /48; without either a
//! connection) has an equal part of the quarter up to three quarters, for all its connections together, and what it had
//! waiting before counts. So what one does, on however many connections, takes nothing from another's part.

/// How full an inbox is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// `max_inbox_bytes`.
    pub(crate) most: usize,
    /// Bytes in it, whatever they are.
    pub(crate) all: usize,
    /// Those of them that are no messages: opens, upgrades, closes, violations.
    pub(crate) others: usize,
}

impl Fill {
    /// Whether messages have any room.
    #[must_use]
    pub(crate) fn takes_messages(self) -> bool {
        self.all < self.most - self.most / 4
    }

    /// Whether handshakes have room: their quarter is theirs alone, and what messages leave besides.
    #[must_use]
    pub(crate) fn takes_newcomers(self) -> bool {
        self.all < self.most || self.others < self.most / 4
    }

    /// How many bytes are left for everybody, up to half.
    #[must_use]
    pub(crate) fn room_for_all(self) -> usize {
        (self.most / 2).saturating_sub(self.all)
    }

    /// How many bytes may be read of a sharer that has `waiting` bytes in it, one of `sharers`; 0: none before the application
    /// has taken some. Somebody of whom nothing waits may say something, however many share.
    #[must_use]
    pub(crate) fn room(self, waiting: usize, sharers: usize) -> usize {
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
pub(crate) struct Waiting {
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
    pub(crate) fn add(&mut self, batch: u64, bytes: usize, released: u64) {
        if batch == self.last.batch {
            self.last.bytes += bytes;
        } else {
            self.earlier = Part { batch: self.last.batch, bytes: self.bytes(released) };
            self.last = Part { batch, bytes };
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub(crate) fn bytes(&self, released: u64) -> usize {
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

    fn fill(all: usize, others: usize) -> Fill {
        Fill { most: 1000, all, others }
    }

    #[test]
    fn messages_leave_newcomers_their_quarter() {
        assert!(fill(749, 0).takes_messages() && !fill(750, 0).takes_messages());
        // Also where messages are counted twice for a while: in their batch, and where a face keeps them.
        assert!(fill(1500, 249).takes_newcomers());
        assert!(!fill(1500, 250).takes_newcomers() && fill(999, 999).takes_newcomers());
        assert!(!fill(1000, 1000).takes_newcomers());
    }

    #[test]
    fn a_part_is_what_the_others_leave() {
        assert_eq!(fill(400, 0).room(400, 10), 100);
        assert_eq!((fill(500, 0).room(10, 5), fill(500, 0).room(50, 5), fill(500, 0).room(400, 5)), (40, 0, 0));
        assert_eq!((fill(600, 0).room(0, 1_000_000), fill(600, 0).room(1, 1_000_000)), (1, 0));
        assert_eq!(fill(750, 0).room(0, 1), 0);
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
            let fill = Fill { most: self.most, all: self.all(), others: 0 };
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
