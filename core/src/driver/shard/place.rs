//! What an open connection holds of its shard. It is given back when this is dropped, wherever that happens: at its end, in
//! a turn that failed, when the shard stops or dies.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::driver::commands::CommandBuffer;
use crate::driver::ids::{ConnectionId, MAX_SLOTS, next_generation};
use crate::driver::shared::{Life, Remote, Shared};
use crate::driver::stats::{add, shift};
use wsguard_proto::rooms::Rooms;

/// What the places of one shard are taken from.
#[derive(Debug)]
pub(super) struct Places {
    shared: Arc<Shared>,
    index: usize,
    open: Cell<usize>,
    slots: Cell<u32>,
    free: RefCell<Vec<u32>>,
    rooms: RefCell<Rooms>,
    /// Connections that ended without a word, in a turn that failed.
    lost: RefCell<Vec<ConnectionId>>,
}

impl Places {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Rc<Self> {
        Rc::new(Self {
            shared,
            index,
            open: Cell::new(0),
            slots: Cell::new(0),
            free: RefCell::default(),
            rooms: RefCell::default(),
            lost: RefCell::default(),
        })
    }

    fn remote(&self) -> &Remote {
        &self.shared.shards[self.index]
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
    pub(super) fn take(self: &Rc<Self>) -> Option<Place> {
        let most = self.remote().slots.capacity().min(MAX_SLOTS) as u32;
        let free = self.free.borrow_mut().pop();
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.get() < most => self.slots.replace(self.slots.get() + 1),
            None => return None,
        };
        let generation = next_generation();
        let id = ConnectionId::new(self.index, slot, generation);
        self.remote().slots.make(slot)?.generation.store(generation, Ordering::Release);
        self.open.set(self.open.get() + 1);
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        let stats = &self.remote().stats;
        add(&stats.open, 1);
        add(&stats.opened_total, 1);
        let (unsent, delayed, rooms) = (0, 0, None);
        Some(Place { places: Rc::clone(self), id, unsent, delayed, rooms, has_load: false, owes_an_end: false })
    }

    fn count_rooms(&self, rooms: &Rooms, memberships: (u64, u64)) {
        let stats = &self.remote().stats;
        shift(&stats.rooms, stats.rooms.load(Ordering::Relaxed), rooms.len() as u64);
        shift(&stats.memberships, memberships.0, memberships.1);
    }
}

/// A connection's slot, its part in the shard's levels, its rooms.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "8 bytes instead of 24 in every idle connection")]
pub(in crate::driver) struct Place {
    places: Rc<Places>,
    id: ConnectionId,
    unsent: usize,
    delayed: u32,
    rooms: Option<Box<Vec<Arc<str>>>>,
    has_load: bool,
    /// The application was told that the connection is open, and not yet that it is over.
    owes_an_end: bool,
}

impl Place {
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// From now on the connection's part in the shard's load is this one's to give back.
    pub(super) fn take_load(&mut self) {
        self.has_load = true;
    }

    /// The connection was told to be open: `true`, or over.
    pub(super) fn told(&mut self, is_open: bool) {
        self.owes_an_end = is_open;
    }

    /// Brings the shard's levels up to date; whether there is more or less unsent than before.
    pub(super) fn count(&mut self, unsent: usize, delayed: usize) -> bool {
        let stats = &self.places.remote().stats;
        shift(&stats.delayed, self.delayed.into(), delayed as u64);
        self.delayed = delayed as u32;
        let differs = unsent != self.unsent;
        shift(&stats.outbox_bytes, self.unsent as u64, unsent as u64);
        self.unsent = unsent;
        differs
    }

    /// Enters a room, which was reserved in the slot when the application asked for it; `false`: it is in it already.
    pub(super) fn join(&mut self, room: &str) -> bool {
        let mut rooms = self.places.rooms.borrow_mut();
        let Some(name) = rooms.join(room, self.id.slot()) else { return false };
        self.rooms.get_or_insert_default().push(name);
        self.places.count_rooms(&rooms, (0, 1));
        true
    }

    /// Leaves a room; whether it was in it.
    pub(super) fn leave(&mut self, room: &str) -> bool {
        let mut rooms = self.places.rooms.borrow_mut();
        if !rooms.leave(room, self.id.slot()) {
            return false;
        }
        if let Some(joined) = &mut self.rooms {
            joined.retain(|joined| &**joined != room);
        }
        self.places.count_rooms(&rooms, (1, 0));
        if let Some(slot) = self.places.remote().slots.get(self.id.slot()) {
            slot.give_back_rooms(1);
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (places, number) = (&*self.places, self.id.slot());
        let remote = places.remote();
        let joined = self.rooms.take().unwrap_or_default();
        if let Ok(mut rooms) = places.rooms.try_borrow_mut()
            && !joined.is_empty()
        {
            for room in joined.iter() {
                rooms.leave(room, number);
            }
            places.count_rooms(&rooms, (joined.len() as u64, 0));
        }
        if let Some(slot) = remote.slots.get(number) {
            slot.close();
            slot.give_back_rooms(joined.len() as u32);
        }
        shift(&remote.stats.outbox_bytes, self.unsent as u64, 0);
        shift(&remote.stats.delayed, self.delayed.into(), 0);
        add(&remote.stats.open, u64::MAX);
        places.open.set(places.open.get() - 1);
        if self.has_load {
            remote.load.fetch_sub(1, Ordering::Relaxed);
        }
        if let Ok(mut free) = places.free.try_borrow_mut() {
            free.push(number);
        }
        if self.owes_an_end
            && let Ok(mut lost) = places.lost.try_borrow_mut()
        {
            lost.push(self.id);
        }
        let last = places.shared.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && places.shared.life() != Life::Running {
            places.shared.shards.iter().for_each(|remote| remote.post(CommandBuffer::resume));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use crate::driver::shared::idle;

    fn places() -> (Rc<Places>, Arc<Shared>) {
        let shared = idle(r#""threads": 1, "max_connections": 8"#);
        (Places::new(Arc::clone(&shared), 0), shared)
    }

    fn gauges(shared: &Shared) -> [u64; 6] {
        let stats = shared.stats();
        let open = shared.open.load(Ordering::Relaxed) as u64;
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
            let (places, shared) = places();
            let slots = &shared.shards[0].slots;
            let mut there: Vec<Place> = Vec::new();
            let mut ids = std::collections::HashSet::new();
            for act in acts {
                let count = there.len();
                let nobody = count == 0;
                match act {
                    Act::Open => {
                        let place = places.take().unwrap();
                        prop_assert!(ids.insert(place.id()), "an id came twice");
                        prop_assert!(there.iter().all(|other| other.id().slot() != place.id().slot()));
                        there.push(place);
                    }
                    Act::Rest => places.shrink(),
                    _ if nobody => {}
                    Act::End(who) => {
                        let place = there.swap_remove(who % count);
                        let (id, owes) = (place.id(), place.owes_an_end);
                        drop(place);
                        prop_assert!(!slots.is_open(id));
                        prop_assert_eq!(places.take_lost(), if owes { vec![id] } else { Vec::new() });
                    }
                    Act::Count(who, unsent, delayed) => {
                        there[who % count].count(unsent, delayed);
                    },
                    Act::Join(who, room) => {
                        let place = &mut there[who % count];
                        let slot = slots.get(place.id().slot()).unwrap();
                        // As `ServerHandle::join` and the command behind it do.
                        if slot.take_room(3) && !place.join(&room.to_string()) {
                            slot.give_back_rooms(1);
                        }
                        prop_assert!(place.rooms.as_ref().is_none_or(|rooms| rooms.len() <= 3));
                    }
                    Act::Leave(who, room) => {
                        there[who % count].leave(&room.to_string());
                    },
                    Act::Told(who) => there[who % count].told(true),
                }
                let joined = |place: &Place| place.rooms.as_ref().map_or(0, |rooms| rooms.len()) as u64;
                let rooms = (0..5u8).filter(|room| !places.members(&room.to_string()).is_empty()).count() as u64;
                let expected = [
                    there.len() as u64,
                    there.len() as u64,
                    there.iter().map(|place| place.unsent as u64).sum(),
                    there.iter().map(|place| u64::from(place.delayed)).sum(),
                    rooms,
                    there.iter().map(joined).sum(),
                ];
                prop_assert_eq!(gauges(&shared), expected);
                prop_assert_eq!(places.open(), there.len());
                prop_assert!(there.iter().all(|place| slots.is_open(place.id())));
            }
            drop(there);
            prop_assert_eq!(gauges(&shared), [0; 6]);
        }
    }
}
