//! What an open connection holds of its shard. It is given back when this is dropped, wherever that happens: at its end, in
//! a turn that failed, when the shard stops or dies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commands::CommandBuffer;
use super::ids::{ConnectionId, MAX_SLOTS, next_generation};
use super::level::HeldOne;
use super::mailbox::ShardMailbox;
use super::state::{Life, ServerState};
use super::stats::{add, shift};
use wsguard_proto::rooms::Rooms;

/// What the pool of one shard are taken from.
#[derive(Debug)]
pub(super) struct SlotPool {
    state: Arc<ServerState>,
    index: usize,
    open: Cell<usize>,
    slots: Cell<u32>,
    free: RefCell<Vec<u32>>,
    rooms: RefCell<Rooms>,
    /// Connections that ended without a word, in a turn that failed.
    lost: RefCell<Vec<ConnectionId>>,
}

impl SlotPool {
    pub(super) fn new(state: Arc<ServerState>, index: usize) -> Rc<Self> {
        Rc::new(Self {
            state,
            index,
            open: Cell::new(0),
            slots: Cell::new(0),
            free: RefCell::default(),
            rooms: RefCell::default(),
            lost: RefCell::default(),
        })
    }

    fn mailbox(&self) -> &ShardMailbox {
        &self.state.shards[self.index]
    }

    /// Open connections.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that are gone and that nobody was told of.
    pub(super) fn take_lost(&self) -> Vec<ConnectionId> {
        self.lost.take()
    }

    /// Forgets how many slots there were, when none is in use.
    pub(super) fn shrink(&self) {
        if self.open() == 0 {
            self.slots.set(0);
            *self.free.borrow_mut() = Vec::new();
            *self.rooms.borrow_mut() = Rooms::default();
        }
    }

    /// The members of a room, in ascending order.
    pub(super) fn members(&self, room: &str) -> Vec<u32> {
        self.rooms.borrow().members(room).to_vec()
    }

    /// Takes a slot for a connection that opens.
    pub(super) fn take(self: &Rc<Self>) -> Option<SlotGuard> {
        let most = self.mailbox().slots.capacity().min(MAX_SLOTS) as u32;
        let free = self.free.borrow_mut().pop();
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.get() < most => self.slots.replace(self.slots.get() + 1),
            None => return None,
        };
        let generation = next_generation();
        let id = ConnectionId::new(self.index, slot, generation);
        self.mailbox().slots.make(slot)?.generation.store(generation, Ordering::Release);
        self.open.set(self.open.get() + 1);
        self.state.open.fetch_add(1, Ordering::AcqRel);
        let stats = &self.mailbox().stats;
        add(&stats.open, 1);
        add(&stats.opened_total, 1);
        let (unsent, delayed, pings, rooms) = (0, 0, 0, None);
        let pool = Rc::clone(self);
        Some(SlotGuard { pool, id, unsent, delayed, pings, rooms, load: None, owes_close_event: false })
    }

    fn count_rooms(&self, rooms: &Rooms, memberships: (u64, u64)) {
        let stats = &self.mailbox().stats;
        shift(&stats.rooms, stats.rooms.load(Ordering::Relaxed), rooms.len() as u64);
        shift(&stats.memberships, memberships.0, memberships.1);
    }
}

/// A connection's slot, its part in the shard's levels, its rooms.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "8 bytes instead of 24 in every idle connection")]
pub(super) struct SlotGuard {
    pool: Rc<SlotPool>,
    id: ConnectionId,
    unsent: usize,
    delayed: u32,
    /// Pings of the application that it has begun and that have no answer.
    pings: u8,
    rooms: Option<Box<Vec<Arc<str>>>>,
    /// Its part in the load of the shard.
    load: Option<HeldOne>,
    /// The application was told that the connection is open, and not yet that it is over.
    owes_close_event: bool,
}

impl SlotGuard {
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Keeps the connection's part in the load of the shard.
    pub(super) fn keep_load(&mut self, load: HeldOne) {
        self.load = Some(load);
    }

    /// The application was told that the connection is open: it is told of its end as well.
    pub(super) fn open_was_told(&mut self) {
        self.owes_close_event = true;
    }

    pub(super) fn close_was_told(&mut self) {
        self.owes_close_event = false;
    }

    /// Brings the shard's levels up to date; whether there is more or less unsent than before.
    pub(super) fn count(&mut self, unsent: usize, delayed: usize) -> bool {
        let stats = &self.pool.mailbox().stats;
        shift(&stats.delayed, self.delayed.into(), delayed as u64);
        self.delayed = delayed as u32;
        let differs = unsent != self.unsent;
        shift(&stats.outbox_bytes, self.unsent as u64, unsent as u64);
        self.unsent = unsent;
        differs
    }

    /// A ping begins, which was reserved in the slot when the application asked for it.
    pub(super) fn ping_began(&mut self) {
        self.pings += 1;
    }

    /// So many were answered.
    pub(super) fn pings_ended(&mut self, pongs: u8) {
        if pongs > 0
            && let Some(slot) = self.pool.mailbox().slots.get(self.id.slot())
        {
            self.pings -= pongs;
            slot.give_back_pings(pongs);
        }
    }

    /// Enters a room, which was reserved in the slot when the application asked for it; `false`: it is in it already.
    pub(super) fn join(&mut self, room: &str) -> bool {
        let mut rooms = self.pool.rooms.borrow_mut();
        let Some(name) = rooms.join(room, self.id.slot()) else { return false };
        self.rooms.get_or_insert_default().push(name);
        self.pool.count_rooms(&rooms, (0, 1));
        true
    }

    /// Leaves a room; whether it was in it.
    pub(super) fn leave(&mut self, room: &str) -> bool {
        let mut rooms = self.pool.rooms.borrow_mut();
        if !rooms.leave(room, self.id.slot()) {
            return false;
        }
        if let Some(joined) = &mut self.rooms {
            joined.retain(|joined| &**joined != room);
        }
        self.pool.count_rooms(&rooms, (1, 0));
        if let Some(slot) = self.pool.mailbox().slots.get(self.id.slot()) {
            slot.give_back_rooms(1);
        }
        true
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let (pool, number) = (&*self.pool, self.id.slot());
        let mailbox = pool.mailbox();
        let joined = self.rooms.take().unwrap_or_default();
        if let Ok(mut rooms) = pool.rooms.try_borrow_mut()
            && !joined.is_empty()
        {
            for room in joined.iter() {
                rooms.leave(room, number);
            }
            pool.count_rooms(&rooms, (joined.len() as u64, 0));
        }
        if let Some(slot) = mailbox.slots.get(number) {
            slot.close();
            slot.give_back_pings(self.pings);
            slot.give_back_rooms(joined.len() as u32);
        }
        shift(&mailbox.stats.outbox_bytes, self.unsent as u64, 0);
        shift(&mailbox.stats.delayed, self.delayed.into(), 0);
        add(&mailbox.stats.open, u64::MAX);
        pool.open.set(pool.open.get() - 1);
        if let Ok(mut free) = pool.free.try_borrow_mut() {
            free.push(number);
        }
        if self.owes_close_event
            && let Ok(mut lost) = pool.lost.try_borrow_mut()
        {
            lost.push(self.id);
        }
        let last = pool.state.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && pool.state.life() != Life::Running {
            pool.state.shards.iter().for_each(|mailbox| mailbox.post(CommandBuffer::resume));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use crate::driver::state::idle;

    fn pool() -> (Rc<SlotPool>, Arc<ServerState>) {
        let state = idle(r#""threads": 1, "max_connections": 8"#);
        (SlotPool::new(Arc::clone(&state), 0), state)
    }

    fn gauges(state: &ServerState) -> [u64; 6] {
        let stats = state.stats();
        let open = state.open.load(Ordering::Relaxed) as u64;
        [stats.open, open, stats.outbox_bytes, stats.delayed, stats.rooms, stats.room_memberships]
    }

    #[derive(Clone, Debug)]
    enum Act {
        Open,
        End(usize),
        Count(usize, usize, usize),
        Join(usize, u8),
        Leave(usize, u8),
        Told(usize),
        Rest,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Open),
            2 => any::<usize>().prop_map(Act::End),
            3 => (any::<usize>(), 0usize..1 << 40, 0usize..100).prop_map(|(who, unsent, delayed)| Act::Count(who, unsent, delayed)),
            4 => (any::<usize>(), 0u8..5).prop_map(|(who, room)| Act::Join(who, room)),
            2 => (any::<usize>(), 0u8..5).prop_map(|(who, room)| Act::Leave(who, room)),
            1 => any::<usize>().prop_map(Act::Told),
            1 => Just(Act::Rest),
        ]
    }

    proptest! {
        /// Whatever connections do and however they end, the levels are those of the open ones, and 0 without any.
        #[test]
        fn levels_are_those_of_whoever_is_there(acts in prop::collection::vec(act(), 1..200)) {
            let (pool, state) = pool();
            let slots = &state.shards[0].slots;
            let mut there: Vec<SlotGuard> = Vec::new();
            let mut ids = std::collections::HashSet::new();
            for act in acts {
                let count = there.len();
                let nobody = count == 0;
                match act {
                    Act::Open => {
                        let guard = pool.take().unwrap();
                        prop_assert!(ids.insert(guard.id()), "an id came twice");
                        prop_assert!(there.iter().all(|other| other.id().slot() != guard.id().slot()));
                        there.push(guard);
                    }
                    Act::Rest => pool.shrink(),
                    _ if nobody => {}
                    Act::End(who) => {
                        let guard = there.swap_remove(who % count);
                        let (id, owes) = (guard.id(), guard.owes_close_event);
                        drop(guard);
                        prop_assert!(!slots.is_open(id));
                        prop_assert_eq!(pool.take_lost(), if owes { vec![id] } else { Vec::new() });
                    }
                    Act::Count(who, unsent, delayed) => {
                        there[who % count].count(unsent, delayed);
                    },
                    Act::Join(who, room) => {
                        let guard = &mut there[who % count];
                        let slot = slots.get(guard.id().slot()).unwrap();
                        // As `ServerHandle::join` and the command behind it do.
                        if slot.take_room(3) && !guard.join(&room.to_string()) {
                            slot.give_back_rooms(1);
                        }
                        prop_assert!(guard.rooms.as_ref().is_none_or(|rooms| rooms.len() <= 3));
                    }
                    Act::Leave(who, room) => {
                        there[who % count].leave(&room.to_string());
                    },
                    Act::Told(who) => there[who % count].open_was_told(),
                }
                let joined = |guard: &SlotGuard| guard.rooms.as_ref().map_or(0, |rooms| rooms.len()) as u64;
                let rooms = (0..5u8).filter(|room| !pool.members(&room.to_string()).is_empty()).count() as u64;
                let expected = [
                    there.len() as u64,
                    there.len() as u64,
                    there.iter().map(|guard| guard.unsent as u64).sum(),
                    there.iter().map(|guard| u64::from(guard.delayed)).sum(),
                    rooms,
                    there.iter().map(joined).sum(),
                ];
                prop_assert_eq!(gauges(&state), expected);
                prop_assert_eq!(pool.open(), there.len());
                prop_assert!(there.iter().all(|guard| slots.is_open(guard.id())));
            }
            drop(there);
            prop_assert_eq!(gauges(&state), [0; 6]);
        }
    }
}
