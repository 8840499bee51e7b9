//! Who is in which room and who is which user: asked and changed on any thread, at once.
//!
//! Locks are held for moments, and none is taken on the way of a message. A room's names are kept by connection, too, so that
//! its end gives everything back. Order of locks: a connection's list, then sets in ascending order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::ids::{ConnectionId, Slots, generations_so_far};
use super::nodes::Cluster;
use crate::error::Error;
use wsguard_proto::cluster::ops::Topic;
use wsguard_proto::lock::lock;
use wsguard_proto::rooms::{Block, Groups, MAX_ROOMS_PER_CONNECTION, Members};

/// Parts that are locked by themselves.
const PARTS: usize = 16;

/// A cluster that is told of sets, and what these are to it.
struct Told(Arc<Cluster>, fn(Arc<str>) -> Topic);

impl core::fmt::Debug for Told {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Told")
    }
}

/// Sets of connections by name.
#[derive(Debug, Default)]
struct Sets {
    parts: [Mutex<Groups>; PARTS],
    hasher: RandomState,
    /// Who is told of the first member of a set, and of the last one that leaves.
    cluster: OnceLock<Told>,
    /// Sets with at least one member, and members of all sets.
    names: AtomicU64,
    memberships: AtomicU64,
}

/// Connections as they were at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// In ascending order.
    pub(super) blocks: Vec<Block>,
    /// The generation that a newcomer would have got then: whoever took a member's slot since is none.
    pub(super) before: u32,
}

impl Sets {
    fn part_of(&self, name: &str) -> usize {
        self.hasher.hash_one(name) as usize % PARTS
    }

    fn change<R>(&self, name: &str, change: impl FnOnce(&mut Groups) -> R) -> R {
        let mut part = lock(&self.parts[self.part_of(name)]);
        let before = part.len();
        let changed = change(&mut part);
        let after = part.len();
        if before != after {
            self.names.fetch_add((after as u64).wrapping_sub(before as u64), Ordering::Relaxed);
            // With the lock, so that the cluster is told in the order in which it happens.
            if let Some(Told(cluster, topic)) = self.cluster.get() {
                let topic = topic(name.into());
                if after > before { cluster.up(topic) } else { cluster.down(&topic) }
            }
        }
        changed
    }

    fn enter(&self, name: &str, member: u32) -> Option<Arc<str>> {
        let entered = self.change(name, |sets| sets.enter(name, member));
        self.memberships.fetch_add(u64::from(entered.is_some()), Ordering::Relaxed);
        entered
    }

    fn leave(&self, name: &str, member: u32) {
        if self.change(name, |sets| sets.leave(name, member)) {
            self.memberships.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whoever is in one of these sets at one moment.
    fn snapshot(&self, names: &[&str]) -> Snapshot {
        let mut parts: [Option<MutexGuard<'_, Groups>>; PARTS] = [const { None }; PARTS];
        let needed = names.iter().fold(0_u32, |needed, name| needed | 1 << self.part_of(name));
        for (number, part) in parts.iter_mut().enumerate() {
            *part = (needed >> number & 1 == 1).then(|| lock(&self.parts[number]));
        }
        let sets = names.iter().filter_map(|name| parts[self.part_of(name)].as_ref()?.get(name));
        let blocks = if names.len() == 1 {
            sets.flat_map(Members::blocks).collect()
        } else {
            let mut union = BTreeMap::<u32, [u64; 4]>::new();
            for block in sets.flat_map(Members::blocks) {
                let all = union.entry(block.key).or_default();
                all.iter_mut().zip(block.bits).for_each(|(all, bits)| *all |= bits);
            }
            union.into_iter().map(|(key, bits)| Block { key, bits }).collect()
        };
        Snapshot { blocks, before: generations_so_far() }
    }

    /// The ids of a set's members; `generation` knows which one has a slot now.
    fn ids(&self, name: &str, generation: impl Fn(ConnectionId) -> u32) -> Vec<ConnectionId> {
        let part = lock(&self.parts[self.part_of(name)]);
        let members = part.get(name).into_iter().flat_map(Members::blocks).flat_map(Block::members);
        // Nobody else has the slot of a member: it leaves before its slot is free.
        let ids = members.map(|member| {
            let slot = ConnectionId::new((member >> 24) as usize, member & 0x00ff_ffff, 0);
            ConnectionId::new(slot.shard(), slot.slot(), generation(slot))
        });
        ids.filter(|id| id.generation() != 0).collect()
    }
}

/// The rooms of connections that are in any, by member.
type Joined = HashMap<u32, Vec<Arc<str>>>;

/// The rooms and users of one server.
#[derive(Debug, Default)]
pub(super) struct Directory {
    rooms: Sets,
    users: Sets,
    joined: [Mutex<Joined>; PARTS],
}

fn member(conn: ConnectionId) -> u32 {
    (conn.shard() as u32) << 24 | conn.slot()
}

impl Directory {
    /// Tells the cluster from now on who is there. Nobody is yet.
    pub(super) fn join_cluster(&self, cluster: &Arc<Cluster>) {
        let _ = self.rooms.cluster.set(Told(Arc::clone(cluster), Topic::Room));
        let _ = self.users.cluster.set(Told(Arc::clone(cluster), Topic::User));
    }

    /// The lists with that of `conn`, which is open for as long as they are locked: its end waits for the lock.
    fn joined_by(&self, conn: ConnectionId, slots: &Slots) -> Result<MutexGuard<'_, Joined>, Error> {
        let joined = self.lists_of(conn);
        if slots.is_open(conn) { Ok(joined) } else { Err(Error::ConnectionClosed) }
    }

    fn lists_of(&self, conn: ConnectionId) -> MutexGuard<'_, Joined> {
        lock(&self.joined[conn.slot() as usize % PARTS])
    }

    pub(super) fn join(&self, conn: ConnectionId, room: &str, slots: &Slots) -> Result<(), Error> {
        let mut joined = self.joined_by(conn, slots)?;
        let count = joined.get(&member(conn)).map_or(0, Vec::len);
        if count >= MAX_ROOMS_PER_CONNECTION {
            if joined[&member(conn)].iter().any(|own| **own == *room) {
                return Ok(());
            }
            return Err(Error::InvalidArgument("a connection can be in at most 1024 rooms: leave one first"));
        }
        if let Some(name) = self.rooms.enter(room, member(conn)) {
            let own = joined.entry(member(conn)).or_default();
            if own.len() == own.capacity() {
                own.reserve_exact((own.len() / 2).max(1));
            }
            own.push(name);
        }
        Ok(())
    }

    pub(super) fn leave(&self, conn: ConnectionId, room: &str, slots: &Slots) -> Result<(), Error> {
        let mut joined = self.joined_by(conn, slots)?;
        let Some(own) = joined.get_mut(&member(conn)) else { return Ok(()) };
        let Some(at) = own.iter().position(|own| **own == *room) else { return Ok(()) };
        own.swap_remove(at);
        if own.is_empty() {
            forget(&mut joined, member(conn));
        } else if own.len() * 4 < own.capacity() {
            own.shrink_to(own.len() * 2);
        }
        self.rooms.leave(room, member(conn));
        Ok(())
    }

    pub(super) fn enter_user(&self, user: &Arc<str>, conn: ConnectionId) {
        if self.users.change(user, |users| users.enter_shared(user, member(conn))) {
            self.users.memberships.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection is over, and its slot says so: it leaves its rooms, and is none of its user's any more.
    pub(super) fn end(&self, conn: ConnectionId, user: Option<&str>) {
        let own = forget(&mut self.lists_of(conn), member(conn)).unwrap_or_default();
        for room in &own {
            self.rooms.leave(room, member(conn));
        }
        if let Some(user) = user {
            self.users.leave(user, member(conn));
        }
    }

    pub(super) fn rooms_of(&self, conn: ConnectionId, slots: &Slots) -> Result<Vec<Arc<str>>, Error> {
        Ok(self.joined_by(conn, slots)?.get(&member(conn)).cloned().unwrap_or_default())
    }

    pub(super) fn room_size(&self, room: &str) -> usize {
        lock(&self.rooms.parts[self.rooms.part_of(room)]).get(room).map_or(0, Members::len)
    }

    pub(super) fn members(&self, room: &str, generation: impl Fn(ConnectionId) -> u32) -> Vec<ConnectionId> {
        self.rooms.ids(room, generation)
    }

    pub(super) fn connections_of(&self, user: &str, generation: impl Fn(ConnectionId) -> u32) -> Vec<ConnectionId> {
        self.users.ids(user, generation)
    }

    pub(super) fn in_rooms(&self, rooms: &[&str]) -> Snapshot {
        self.rooms.snapshot(rooms)
    }

    pub(super) fn of_user(&self, user: &str) -> Snapshot {
        self.users.snapshot(&[user])
    }

    /// Rooms with at least one member, and memberships of all connections.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.rooms.names.load(Ordering::Relaxed), self.rooms.memberships.load(Ordering::Relaxed))
    }
}

/// Takes a connection's list, and keeps little memory for those that were there before.
fn forget(joined: &mut Joined, member: u32) -> Option<Vec<Arc<str>>> {
    let own = joined.remove(&member);
    if own.is_some() && joined.len() * 8 < joined.capacity() {
        joined.shrink_to(joined.len() * 2);
    }
    own
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
