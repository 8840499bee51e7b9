//! Connection ids: shard, generation and slot in one number, so that a stale one is an error and never somebody else.

use core::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

use wsguard_proto::config::Protocol;
use wsguard_proto::connection::Fragment;

/// The id of one connection, unique in the process, not only in its server: 8 bits of shard, 32 of generation, 24 of slot.
///
/// It returns after four thousand million connections at the earliest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

pub(super) const MAX_SLOTS: usize = 1 << 24;

/// Where this process began to count: an id that was written down before a restart names nobody after it.
static FIRST_GENERATION: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) as u32);
static GENERATIONS: AtomicU32 = AtomicU32::new(0);

/// The generation of a connection that opens. One count for all servers of the process: the id of one is never that of a
/// connection of another.
pub(super) fn next_generation() -> u32 {
    loop {
        let generation = FIRST_GENERATION.wrapping_add(GENERATIONS.fetch_add(1, Ordering::Relaxed));
        if generation != 0 {
            return generation;
        }
    }
}

/// The generation that would come next.
pub(super) fn generations_so_far() -> u32 {
    FIRST_GENERATION.wrapping_add(GENERATIONS.load(Ordering::Relaxed))
}

impl ConnectionId {
    /// Whether it opened between two moments, by the generations that would have come next at each.
    pub(super) fn opened_between(self, from: u32, to: u32) -> bool {
        self.generation().wrapping_sub(from) < to.wrapping_sub(from)
    }

    pub(super) fn new(shard: usize, slot: u32, generation: u32) -> Self {
        Self((shard as u64) << 56 | u64::from(generation) << 24 | u64::from(slot))
    }

    /// The id as a number, for languages without types.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// An id from its number. Any number is safe: one that names no open connection is an error where it is used.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The shard it lives on.
    pub fn shard(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Its place on the shard, which another connection takes after it: small numbers, for tables.
    pub fn slot(self) -> u32 {
        (self.0 & 0x00ff_ffff) as u32
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 24) as u32
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

/// A table of what an application keeps of its open connections: by shard and slot, without a hash. A stale id finds
/// nothing.
#[derive(Debug)]
pub struct ConnectionMap<T> {
    shards: Vec<Vec<Option<(ConnectionId, T)>>>,
}

impl<T> Default for ConnectionMap<T> {
    fn default() -> Self {
        Self { shards: Vec::new() }
    }
}

impl<T> ConnectionMap<T> {
    /// What is kept of a connection.
    #[inline]
    pub fn get(&self, conn: ConnectionId) -> Option<&T> {
        let (own, value) = self.shards.get(conn.shard())?.get(conn.slot() as usize)?.as_ref()?;
        (*own == conn).then_some(value)
    }

    /// Keeps something of a connection, in place of what was kept in its slot before, which is returned with its id.
    pub fn insert(&mut self, conn: ConnectionId, value: T) -> Option<(ConnectionId, T)> {
        let (shard, slot) = (conn.shard(), conn.slot() as usize);
        if self.shards.len() <= shard {
            self.shards.resize_with(shard + 1, Vec::new);
        }
        let slots = &mut self.shards[shard];
        if slots.len() <= slot {
            slots.resize_with(slot + 1, || None);
        }
        slots[slot].replace((conn, value))
    }

    /// Takes what is kept of a connection.
    pub fn remove(&mut self, conn: ConnectionId) -> Option<T> {
        let kept = self.shards.get_mut(conn.shard())?.get_mut(conn.slot() as usize)?;
        kept.take_if(|(own, _)| *own == conn).map(|(_, value)| value)
    }

    /// Everything that is kept.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flatten().flatten().map(|(_, value)| value)
    }
}

/// What every thread may read of a slot: which generation is open in it, and how much it has not sent yet.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// 0: no connection is open.
    pub(super) generation: AtomicU32,
    unsent_bytes: AtomicU32,
    /// `max_outbox_bytes` of the connection's route.
    most_unsent: AtomicU32,
    /// Bytes handed over for the slot, those of them that its shard has come to, and of these how many its socket has taken at
    /// least. They only grow, whosever connection they were for.
    said_bytes: AtomicU64,
    arrived_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// The application was told `Queued` and waits for `Event::Drained`.
    watched: AtomicBool,
    /// The connection speaks `raw`.
    is_raw: AtomicBool,
    /// The generation of the connection to which a message is sent whose last fragment is still to come; 0: none.
    fragments_of: AtomicU32,
    /// Pings of the application that have no answer, and those that were asked for in this slot and have not begun.
    pings: AtomicU8,
}

impl Slot {
    /// A connection of this protocol is open in it, to which nothing is said yet.
    pub(super) fn open(&self, generation: u32, protocol: Protocol) {
        // What was left of the one before it is nothing of this one's.
        self.written_bytes.store(self.arrived_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.is_raw.store(protocol == Protocol::Raw, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
    }

    /// No connection is open in it any more.
    pub(super) fn close(&self) {
        self.generation.store(0, Ordering::Release);
        self.unsent_bytes.store(0, Ordering::Relaxed);
        self.watched.store(false, Ordering::Relaxed);
    }

    /// What the connection of this generation speaks; `None`: it is open no more.
    pub(super) fn protocol(&self, generation: u32) -> Option<Protocol> {
        // Read before the generation: another connection may open meanwhile.
        let is_raw = self.is_raw.load(Ordering::Acquire);
        let is_open = self.generation.load(Ordering::Acquire) == generation;
        is_open.then_some(if is_raw { Protocol::Raw } else { Protocol::Json })
    }

    /// How much of its connection may wait from now on.
    pub(super) fn bound(&self, max_outbox_bytes: usize) {
        self.most_unsent.store(u32::try_from(max_outbox_bytes).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// What is larger can never be sent to its connection.
    pub(super) fn max_outbox_bytes(&self) -> usize {
        self.most_unsent.load(Ordering::Relaxed) as usize
    }

    /// Takes one more of the `most` pings; `false`: all are taken.
    pub(super) fn take_ping(&self, most: u8) -> bool {
        let more = |pings: u8| (pings < most).then(|| pings + 1);
        self.pings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether a fragment may be sent next to the connection of this generation; then it is noted.
    pub(super) fn take_fragment(&self, generation: u32, fragment: Fragment) -> Result<(), &'static str> {
        let before = self.fragments_of.load(Ordering::Acquire);
        // Looked at behind that: whoever has begun a message there was open before.
        if self.generation.load(Ordering::Acquire) != generation {
            return Err("the connection has closed");
        }
        fragment.may_come(before == generation)?;
        let after = if fragment.fin { 0 } else { generation };
        let taken = self.fragments_of.compare_exchange(before, after, Ordering::Release, Ordering::Relaxed);
        taken.map(|_| ()).map_err(|_| "two threads send fragments to one connection")
    }

    pub(super) fn give_back_pings(&self, pings: u8) {
        self.pings.fetch_sub(pings, Ordering::Relaxed);
    }

    /// Bytes that were sent and that the socket has not taken: in the outbox, or on their way to it.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.unsent_bytes.load(Ordering::Relaxed) as usize + self.posted_bytes()
    }

    /// Bytes that the shard has not come to.
    fn posted_bytes(&self) -> usize {
        // Read first: more may arrive and be said meanwhile, and nothing arrives that was not said.
        let arrived = self.arrived_bytes.load(Ordering::SeqCst);
        self.said_bytes.load(Ordering::SeqCst).wrapping_sub(arrived) as usize
    }

    pub(super) fn post(&self, bytes: usize) {
        self.said_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// The shard has come to what was posted.
    pub(super) fn arrive(&self, bytes: usize) {
        self.arrived_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn said_bytes(&self) -> u64 {
        self.said_bytes.load(Ordering::Acquire)
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Acquire)
    }

    /// Whether what was sent waits: in the outbox, or a part of what that may hold already before it. An application that never
    /// waits would hand over more.
    pub(super) fn has_unsent(&self) -> bool {
        let most_posted = self.max_outbox_bytes() / 4;
        self.unsent_bytes.load(Ordering::SeqCst) > 0 || self.posted_bytes() > most_posted
    }

    /// Watches for nothing to wait any more; `false`: nothing does by now.
    ///
    /// The mark comes before the look, and in [`publish`](Self::publish) the level before the look for the mark: one of
    /// the two sees the other.
    ///
    /// The mark stays where nothing waits: it may be another send's, which was answered `Queued`. At worst one
    /// `Event::Drained` more is told.
    pub(super) fn watch(&self) -> bool {
        self.watched.store(true, Ordering::SeqCst);
        self.has_unsent()
    }

    /// Whether the application waits for `Event::Drained`.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    /// Publishes the level of the outbox, which holds what is left of all that has arrived, but for what compression has saved of
    /// it; whether the application watched for it to be empty, and now it is.
    pub(super) fn publish(&self, unsent_bytes: usize, saved_bytes: usize) -> bool {
        // What waits and was not said for this slot makes it less than it is, until nothing waits.
        let unwritten = unsent_bytes as u64 + saved_bytes as u64;
        let written = self.arrived_bytes.load(Ordering::Relaxed).saturating_sub(unwritten);
        if written > self.written_bytes.load(Ordering::Relaxed) {
            self.written_bytes.store(written, Ordering::Release);
        }
        let unsent_bytes = u32::try_from(unsent_bytes).unwrap_or(u32::MAX);
        self.unsent_bytes.store(unsent_bytes, Ordering::SeqCst);
        unsent_bytes == 0 && self.end_watch()
    }

    /// Ends the watch; whether there was one.
    fn end_watch(&self) -> bool {
        self.watched.load(Ordering::SeqCst) && self.watched.swap(false, Ordering::SeqCst)
    }
}

const CHUNK: usize = 4096;

/// The slots of one shard: grows by chunks that never move, so that readers need no lock.
#[derive(Debug)]
pub(super) struct Slots {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        let chunks = most.min(MAX_SLOTS).div_ceil(CHUNK).max(1);
        Self { chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// The slot for its shard, which makes it when it is the first of its chunk.
    pub(super) fn make(&self, slot: u32) -> Option<&Slot> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?;
        chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect()).get(slot as usize % CHUNK)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.chunks.get(slot as usize / CHUNK)?.get()?.get(slot as usize % CHUNK)
    }

    /// The connections that are open now.
    pub(super) fn open(&self, shard: usize) -> impl Iterator<Item = ConnectionId> {
        let chunks = self.chunks.iter().map_while(OnceLock::get);
        let slots = (0..).zip(chunks.flat_map(|chunk| chunk.iter()));
        let ids =
            slots.map(move |(slot, found)| ConnectionId::new(shard, slot, found.generation.load(Ordering::Acquire)));
        ids.filter(|id| id.generation() != 0)
    }

    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        let open = self.get(id.slot()).map_or(0, |slot| slot.generation.load(Ordering::Acquire));
        open != 0 && open == id.generation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let id = ConnectionId::new(255, 0x00ff_fffe, u32::MAX);
        assert_eq!((id.shard(), id.slot(), id.generation()), (255, 0x00ff_fffe, u32::MAX));
    }

    #[test]
    fn what_is_kept_of_a_connection_is_not_anothers() {
        let (old, new, other) = (ConnectionId::new(1, 7, 1), ConnectionId::new(1, 7, 2), ConnectionId::new(0, 0, 1));
        let mut map = ConnectionMap::default();
        map.insert(old, 'a');
        map.insert(other, 'b');
        assert_eq!((map.get(old), map.get(new), map.get(other)), (Some(&'a'), None, Some(&'b')));
        map.insert(new, 'c');
        assert_eq!(map.remove(old), None);
        assert_eq!((map.get(old), map.get(new)), (None, Some(&'c')));
        assert_eq!(map.remove(new), Some('c'));
        assert_eq!(map.remove(new), None);
        assert_eq!(map.values().collect::<String>(), "b");
    }

    #[test]
    fn a_watch_is_answered_once_and_never_in_vain() {
        let slot = Slot::default();
        assert!(!slot.watch(), "nothing is unsent");
        assert!(!slot.publish(10, 0));
        assert!(slot.watch());
        assert!(!slot.publish(5, 0));
        assert!(slot.publish(0, 0));
        assert!(!slot.publish(0, 0), "told once");
    }

    #[test]
    fn no_two_connections_of_a_process_have_one_generation() {
        let (first, second) = (next_generation(), next_generation());
        assert!(first != second && first != 0 && second != 0);
    }

    #[test]
    fn pings_are_taken_up_to_their_bound() {
        let slot = Slot::default();
        assert!((0..3).all(|_| slot.take_ping(3)));
        assert!(!slot.take_ping(3));
        slot.give_back_pings(1);
        assert!(slot.take_ping(3));
    }

    /// A thread may have looked before the connection closed and another had its slot.
    #[test]
    fn a_fragment_for_a_connection_that_has_left_ends_no_message_of_the_next() {
        use wsguard_proto::connection::DataOpcode::{Binary, Continuation};
        let fragment = |opcode, fin| Fragment { opcode, fin };
        let slot = Slot::default();
        slot.open(1, Protocol::Json);
        slot.close();
        slot.open(2, Protocol::Json);
        assert_eq!(slot.take_fragment(2, fragment(Binary, false)), Ok(()));
        for late in [fragment(Binary, false), fragment(Binary, true), fragment(Continuation, true)] {
            assert_eq!(slot.take_fragment(1, late), Err("the connection has closed"));
        }
        assert_eq!(slot.take_fragment(2, fragment(Continuation, true)), Ok(()));
    }

    #[test]
    fn whoever_opened_between_two_moments_is_told_apart_also_where_the_count_wraps() {
        let opened = |generation| ConnectionId::new(0, 0, generation);
        for (generation, is_between) in [(u32::MAX - 1, false), (u32::MAX, true), (1, true), (4, true), (5, false)] {
            assert_eq!(opened(generation).opened_between(u32::MAX, 5), is_between, "{generation}");
        }
        assert!(!opened(7).opened_between(7, 7));
    }

    #[test]
    fn what_was_posted_waits_like_what_is_unsent() {
        let slot = Slot::default();
        slot.bound(400);
        slot.post(100);
        assert!(!slot.watch(), "a little may be on its way");
        slot.post(1);
        assert!(slot.watch());
        slot.arrive(101);
        assert!(slot.end_watch());
        assert!(!slot.watch());
    }

    #[test]
    fn what_is_written_is_never_more_than_the_socket_has_taken() {
        let slot = Slot::default();
        slot.open(1, Protocol::Json);
        slot.post(100);
        slot.publish(0, 0);
        assert_eq!((slot.said_bytes(), slot.written_bytes()), (100, 0), "the shard has not come to it");
        slot.arrive(100);
        slot.publish(30, 0);
        assert_eq!((slot.written_bytes(), slot.buffered_bytes()), (70, 30));
        // A broadcast comes behind it.
        slot.publish(90, 0);
        assert_eq!(slot.written_bytes(), 70, "it only grows");
        slot.publish(5, 0);
        assert_eq!(slot.written_bytes(), 95, "not more than is certain");
        slot.publish(0, 0);
        assert_eq!((slot.said_bytes(), slot.written_bytes()), (100, 100));
        slot.post(10);
        slot.arrive(10);
        slot.publish(10, 0);
        slot.close();
        slot.open(2, Protocol::Json);
        assert_eq!((slot.said_bytes(), slot.written_bytes()), (110, 110), "nothing is said to the next one yet");
    }

    #[test]
    fn what_compression_has_saved_is_not_written_before_the_rest() {
        let slot = Slot::default();
        slot.open(1, Protocol::Json);
        slot.post(1000);
        slot.arrive(1000);
        slot.publish(100, 900);
        assert_eq!((slot.written_bytes(), slot.buffered_bytes()), (0, 100));
        slot.publish(1, 900);
        assert!(slot.written_bytes() < slot.said_bytes());
        slot.publish(0, 0);
        assert_eq!(slot.written_bytes(), 1000);
    }

    #[test]
    fn a_watch_that_finds_nothing_leaves_an_earlier_one() {
        let slot = Slot::default();
        slot.publish(10, 0);
        assert!(slot.watch(), "the first send is answered Queued");
        slot.unsent_bytes.store(0, Ordering::SeqCst);
        assert!(!slot.watch(), "the second finds nothing, before the shard looks at the mark");
        assert!(slot.end_watch(), "the first is told");
    }

    #[test]
    fn a_stale_id_is_not_open() {
        let slots = Slots::new(10_000);
        let id = ConnectionId::new(0, 5000, 1);
        assert!(!slots.is_open(id));
        slots.make(5000).unwrap().generation.store(1, Ordering::Release);
        assert!(slots.is_open(id));
        assert!(!slots.is_open(ConnectionId::new(0, 5000, 2)));
        assert!(!slots.is_open(ConnectionId::new(0, 0x00ff_ffff, 1)));
        assert!(!slots.is_open(ConnectionId::new(0, 5001, 0)));
    }
}
