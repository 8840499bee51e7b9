//! Connection ids: shard, generation and slot in one number, so that a stale one is an error and never somebody else.

use core::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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

/// Parts of [`Slot::holder`]. Above them: the generation of the connection that is open, 0 for none.
mod holder {
    /// The connection speaks `raw`.
    pub(super) const RAW: u64 = 1;
    /// A message is sent to the connection whose last fragment is still to come.
    pub(super) const MID_MESSAGE: u64 = 2;
    /// Counts one ping; there is room for 255.
    pub(super) const PING: u64 = 1 << 8;
    pub(super) const PINGS: u64 = 0xff * PING;

    pub(super) fn generation(holder: u64) -> u32 {
        (holder >> 32) as u32
    }
}

/// What every thread may read of a slot: which generation is open in it, and how much it has not sent yet. Every idle connection
/// has one.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Whose it is, and what goes with that: one word, so that nothing that is noted of one connection is another's.
    ///
    /// Its pings are those of the application that have no answer, and those that were asked for in this slot and have not begun,
    /// whosever they were.
    holder: AtomicU64,
    unsent_bytes: AtomicU32,
    /// `max_outbox_bytes` of the connection's route.
    most_unsent: AtomicU32,
    /// Bytes handed over for the slot, those of them that its shard has come to, and of these how many its socket has taken at
    /// least. They only grow, whosever connection they were for. What has arrived is written, all of it, once a level of 0 is
    /// published: until then nobody but the shard knows what became of it.
    said_bytes: AtomicU64,
    arrived_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// The application was told `Queued` and waits for `Event::Drained`, which tells that of `said_bytes` all that were said by then
    /// are written: one more than these. 0: it does not.
    watched_up_to: AtomicU64,
}

impl Slot {
    /// A connection of this protocol is open in it, to which nothing is said yet.
    pub(super) fn open(&self, generation: u32, protocol: Protocol) {
        // What was left of the one before it is nothing of this one's.
        self.written_bytes.store(self.arrived_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        let raw = if protocol == Protocol::Raw { holder::RAW } else { 0 };
        self.hold(u64::from(generation) << 32 | raw);
    }

    /// No connection is open in it any more, though the socket of the last one may still be there.
    pub(super) fn leave(&self) {
        self.hold(0);
    }

    /// The next connection may have it.
    pub(super) fn close(&self) {
        self.leave();
        self.unsent_bytes.store(0, Ordering::Relaxed);
        self.watched_up_to.store(0, Ordering::Relaxed);
    }

    fn hold(&self, by: u64) {
        let pings_stay = |holder: u64| Some(by | holder & holder::PINGS);
        let _ = self.holder.fetch_update(Ordering::AcqRel, Ordering::Relaxed, pings_stay);
    }

    /// The generation that is open in it; 0: none.
    pub(super) fn generation(&self) -> u32 {
        holder::generation(self.holder.load(Ordering::Acquire))
    }

    /// What the connection of this generation speaks; `None`: it is open no more.
    pub(super) fn protocol(&self, generation: u32) -> Option<Protocol> {
        let holder = self.holder.load(Ordering::Acquire);
        let is_raw = holder & holder::RAW > 0;
        (holder::generation(holder) == generation).then_some(if is_raw { Protocol::Raw } else { Protocol::Json })
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
        let more =
            |holder: u64| (holder & holder::PINGS < u64::from(most) * holder::PING).then(|| holder + holder::PING);
        self.holder.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether a fragment may be sent next to the connection of this generation; then it is noted.
    pub(super) fn take_fragment(&self, generation: u32, fragment: Fragment) -> Result<(), &'static str> {
        let mut before = self.holder.load(Ordering::Acquire);
        loop {
            if holder::generation(before) != generation {
                return Err("the connection has closed");
            }
            fragment.may_come(before & holder::MID_MESSAGE > 0)?;
            let after = before & !holder::MID_MESSAGE | if fragment.fin { 0 } else { holder::MID_MESSAGE };
            match self.holder.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => before = now,
            }
        }
    }

    pub(super) fn give_back_pings(&self, pings: u8) {
        self.holder.fetch_sub(u64::from(pings) * holder::PING, Ordering::Relaxed);
    }

    /// Bytes that were sent and that the socket has not taken: in the outbox, or on their way to it.
    pub(super) fn buffered_bytes(&self) -> usize {
        let unwritten = self.unwritten_bytes();
        // Read first: more may arrive and be said meanwhile, and nothing arrives that was not said.
        let arrived = self.arrived_bytes.load(Ordering::Acquire);
        let posted = self.said_bytes.load(Ordering::Acquire).wrapping_sub(arrived) as usize;
        match self.unsent_bytes.load(Ordering::SeqCst) {
            // What has arrived by now may be in the outbox.
            0 => unwritten as usize,
            unsent => unsent as usize + posted,
        }
    }

    /// Bytes that were said and of which the shard has not published that they are written.
    ///
    /// Read before the level: in [`publish`](Self::publish) the level comes first, so that what is written no more than in part
    /// is seen by one of the two.
    fn unwritten_bytes(&self) -> u64 {
        // In this order: what is written was said before.
        let written = self.written_bytes.load(Ordering::SeqCst);
        self.said_bytes.load(Ordering::SeqCst).wrapping_sub(written)
    }

    pub(super) fn post(&self, bytes: usize) {
        self.said_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// The shard has come to what was posted, and publishes what became of it before it goes on to other things.
    pub(super) fn arrive(&self, bytes: usize) {
        // Nobody else writes it.
        let arrived = self.arrived_bytes.load(Ordering::Relaxed);
        self.arrived_bytes.store(arrived.wrapping_add(bytes as u64), Ordering::Release);
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
        let most_posted = u64::from(self.most_unsent.load(Ordering::Relaxed)) / 4;
        self.unwritten_bytes() > most_posted || self.unsent_bytes.load(Ordering::SeqCst) > 0
    }

    /// Watches for nothing to wait any more of what was said so far; `false`: nothing does by now.
    ///
    /// The mark comes before the look, and in [`publish`](Self::publish) what is unsent and written before the look for the mark:
    /// one of the two sees the other.
    ///
    /// The mark stays where nothing waits: it may be another send's, which was answered `Queued`. At worst one
    /// `Event::Drained` more is told.
    pub(super) fn watch(&self) -> bool {
        self.watched_up_to.fetch_max(self.said_bytes() + 1, Ordering::SeqCst);
        self.has_unsent()
    }

    /// Whether the application waits for an `Event::Drained` that is still to come.
    ///
    /// A mark alone is not enough: it stays behind where nothing waited after all. Of what waits however little is enough: where it
    /// is written the shard sees the mark.
    pub(super) fn is_awaited(&self) -> bool {
        self.watched_up_to.load(Ordering::SeqCst) > 0
            && (self.unwritten_bytes() > 0 || self.unsent_bytes.load(Ordering::SeqCst) > 0)
    }

    /// Publishes the level of the outbox, which holds what is left of all that has arrived, but for what compression has saved of
    /// it; whether the application watched for all that it had said to be written, and now it is.
    pub(super) fn publish(&self, unsent_bytes: usize, saved_bytes: usize) -> bool {
        let level = u32::try_from(unsent_bytes).unwrap_or(u32::MAX);
        // Nobody else writes either.
        if level != self.unsent_bytes.load(Ordering::Relaxed) {
            self.unsent_bytes.store(level, Ordering::SeqCst);
        }
        // What waits and was not said for this slot makes it less than it is, until nothing waits.
        let unwritten = unsent_bytes as u64 + saved_bytes as u64;
        let arrived = self.arrived_bytes.load(Ordering::Relaxed);
        let written = arrived.saturating_sub(unwritten);
        if written > self.written_bytes.load(Ordering::Relaxed) {
            self.written_bytes.store(written, Ordering::SeqCst);
        }
        unsent_bytes == 0 && self.end_watch(arrived)
    }

    /// Ends the watch for what has arrived; whether there was one. What was said since and not arrived is published as well.
    fn end_watch(&self, arrived: u64) -> bool {
        let end = |up_to: u64| (1..=arrived + 1).contains(&up_to).then_some(0);
        self.watched_up_to.fetch_update(Ordering::SeqCst, Ordering::SeqCst, end).is_ok()
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
        let ids = slots.map(move |(slot, found)| ConnectionId::new(shard, slot, found.generation()));
        ids.filter(|id| id.generation() != 0)
    }

    /// The slot of a connection that is open.
    pub(super) fn of(&self, id: ConnectionId) -> Option<&Slot> {
        let slot = self.get(id.slot())?;
        let open = slot.generation();
        (open != 0 && open == id.generation()).then_some(slot)
    }

    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.of(id).is_some()
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
