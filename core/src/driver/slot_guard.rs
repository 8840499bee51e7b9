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
use wsguard_proto::config::Protocol;

/// What the pool of one shard are taken from.
#[derive(Debug)]
pub(super) struct SlotPool {
    state: Arc<ServerState>,
    index: usize,
    open: Cell<usize>,
    slots: Cell<u32>,
    free: RefCell<Vec<u32>>,
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
        }
    }

    /// Takes a slot for a connection that opens, and speaks this protocol.
    pub(super) fn take(self: &Rc<Self>, protocol: Protocol) -> Option<SlotGuard> {
        let most = self.mailbox().slots.capacity().min(MAX_SLOTS) as u32;
        let free = self.free.borrow_mut().pop();
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.get() < most => self.slots.replace(self.slots.get() + 1),
            None => return None,
        };
        let generation = next_generation();
        let id = ConnectionId::new(self.index, slot, generation);
        self.mailbox().slots.make(slot)?.open(generation, protocol);
        self.open.set(self.open.get() + 1);
        self.state.open.fetch_add(1, Ordering::AcqRel);
        let stats = &self.mailbox().stats;
        add(&stats.open, 1);
        add(&stats.opened_total, 1);
        let (unsent, delayed, pings, pool) = (0, 0, 0, Rc::clone(self));
        Some(SlotGuard { pool, id, unsent, delayed, pings, load: None, owes_close_event: false, is_over: false })
    }
}

/// A connection's slot, its part in the shard's levels, its rooms.
#[derive(Debug)]
pub(super) struct SlotGuard {
    pool: Rc<SlotPool>,
    id: ConnectionId,
    unsent: usize,
    delayed: u32,
    /// Pings of the application that it has begun and that have no answer.
    pings: u8,
    /// Its part in the load of the shard.
    load: Option<HeldOne>,
    /// The application was told that the connection is open, and not yet that it is over.
    owes_close_event: bool,
    /// Its id is nobody's any more.
    is_over: bool,
}

impl SlotGuard {
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Keeps the connection's part in the load of the shard.
    pub(super) fn keep_load(&mut self, load: HeldOne) {
        self.load = Some(load);
    }

    /// How much of the connection may wait from now on.
    pub(super) fn bound(&self, max_outbox_bytes: usize) {
        if let Some(slot) = self.pool.mailbox().slots.get(self.id.slot()) {
            slot.bound(max_outbox_bytes);
        }
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

    /// The connection is over, though its socket may still be there: its id is nobody's, and it leaves its rooms.
    pub(super) fn end(&mut self, user: Option<&str>) {
        if core::mem::replace(&mut self.is_over, true) {
            return;
        }
        let mailbox = self.pool.mailbox();
        if let Some(slot) = mailbox.slots.get(self.id.slot()) {
            slot.leave();
        }
        self.pool.state.directory.end(self.id, user);
        add(&mailbox.stats.open, u64::MAX);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.end(None);
        let (pool, number) = (&*self.pool, self.id.slot());
        let mailbox = pool.mailbox();
        if let Some(slot) = mailbox.slots.get(number) {
            slot.close();
            slot.give_back_pings(self.pings);
        }
        shift(&mailbox.stats.outbox_bytes, self.unsent as u64, 0);
        shift(&mailbox.stats.delayed, self.delayed.into(), 0);
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

    fn gauges(state: &ServerState) -> [u64; 4] {
        let stats = state.stats();
        let open = state.open.load(Ordering::Relaxed) as u64;
        [stats.open, open, stats.outbox_bytes, stats.delayed]
    }

    #[derive(Clone, Debug)]
    enum Act {
        Open,
        End(usize),
        Count(usize, usize, usize),
        Over(usize),
        Told(usize),
        Rest,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Open),
            2 => any::<usize>().prop_map(Act::End),
            3 => (any::<usize>(), 0usize..1 << 40, 0usize..100).prop_map(|(who, unsent, delayed)| Act::Count(who, unsent, delayed)),
            1 => any::<usize>().prop_map(Act::Over),
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
                        let guard = pool.take(Protocol::Json).unwrap();
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
                    Act::Over(who) => there[who % count].end(None),
                    Act::Told(who) => there[who % count].open_was_told(),
                }
                let expected = [
                    there.iter().filter(|guard| !guard.is_over).count() as u64,
                    there.len() as u64,
                    there.iter().map(|guard| guard.unsent as u64).sum(),
                    there.iter().map(|guard| u64::from(guard.delayed)).sum(),
                ];
                prop_assert_eq!(gauges(&state), expected);
                prop_assert_eq!(pool.open(), there.len());
                prop_assert!(there.iter().all(|guard| slots.is_open(guard.id()) != guard.is_over));
            }
            drop(there);
            prop_assert_eq!(gauges(&state), [0; 4]);
        }
    }
}
