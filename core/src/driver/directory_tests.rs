//! The directory beside connections that open and end on their own threads.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::super::handle::ServerHandle;
use super::super::slot_guard::{SlotGuard, SlotPool};
use super::super::state::{ServerState, idle};
use super::*;
use wsguard_proto::config::Protocol;
use wsguard_test_support::dice::Dice;

fn server(threads: usize) -> (Arc<ServerState>, ServerHandle) {
    let state = idle(&format!(r#""threads": {threads}"#));
    (Arc::clone(&state), ServerHandle { state })
}

fn ids(mut ids: Vec<ConnectionId>) -> BTreeSet<ConnectionId> {
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "each connection once");
    ids.into_iter().collect()
}

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// What one connection should be: its rooms and its user.
type Model = HashMap<ConnectionId, (BTreeSet<&'static str>, Option<&'static str>)>;

fn open(pool: &Rc<SlotPool>, state: &ServerState, user: Option<&'static str>) -> SlotGuard {
    let guard = pool.take(Protocol::Json).unwrap();
    if let Some(user) = user {
        state.directory.enter_user(&Arc::from(user), guard.id());
    }
    guard
}

fn check(handle: &ServerHandle, model: &Model, own: impl Fn(&ConnectionId) -> bool) {
    for room in ROOMS {
        let expected: BTreeSet<_> =
            model.iter().filter(|(_, (rooms, _))| rooms.contains(room)).map(|(id, _)| *id).collect();
        let members: BTreeSet<_> = ids(handle.room_members(room)).into_iter().filter(&own).collect();
        assert_eq!(members, expected, "{room}");
    }
    for user in USERS {
        let expected: BTreeSet<_> =
            model.iter().filter(|(_, (_, own))| *own == Some(user)).map(|(id, _)| *id).collect();
        let found: BTreeSet<_> = ids(handle.connections_of(user)).into_iter().filter(&own).collect();
        assert_eq!(found, expected, "{user}");
    }
    for (id, (rooms, _)) in model {
        let found: BTreeSet<_> = handle.rooms_of(*id).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, rooms.iter().map(ToString::to_string).collect());
    }
}

/// Several shards' threads, each with its own connections: each sees at once what it has done.
#[test]
fn whatever_is_asked_is_what_was_done() {
    const THREADS: usize = 4;
    let (state, handle) = server(THREADS);
    let act = |shard: usize, seed: u64| {
        let pool = SlotPool::new(Arc::clone(&state), shard);
        let mut dice = Dice::new(seed);
        let (mut guards, mut model): (Vec<SlotGuard>, Model) = Default::default();
        for step in 0..3000 {
            let who = dice.roll(guards.len().max(1) as u64) as usize;
            let room = ROOMS[dice.roll(4) as usize];
            match (dice.roll(10), guards.get(who).map(SlotGuard::id)) {
                (0..3, _) | (_, None) => {
                    let user = USERS.get(dice.roll(4) as usize).copied();
                    let guard = open(&pool, &state, user);
                    model.insert(guard.id(), (BTreeSet::new(), user));
                    guards.push(guard);
                }
                (3..6, Some(id)) => {
                    handle.join(id, room).unwrap();
                    model.get_mut(&id).unwrap().0.insert(room);
                }
                (6..8, Some(id)) => {
                    handle.leave(id, room).unwrap();
                    model.get_mut(&id).unwrap().0.remove(room);
                }
                (_, Some(id)) => {
                    let mut guard = guards.swap_remove(who);
                    guard.end(model.remove(&id).unwrap().1);
                    assert_eq!(handle.join(id, room).unwrap_err().code(), "connection_closed");
                    assert_eq!(handle.rooms_of(id).unwrap_err().code(), "connection_closed");
                }
            }
            if step % 50 == 0 {
                check(&handle, &model, |id| id.shard() == shard);
            }
        }
        for mut guard in guards {
            let user = model[&guard.id()].1;
            guard.end(user);
        }
    };
    std::thread::scope(|scope| {
        for shard in 0..THREADS {
            scope.spawn(move || act(shard, 7 + shard as u64));
        }
    });
    assert_given_back(&state);
}

fn assert_given_back(state: &ServerState) {
    let directory = &state.directory;
    assert_eq!(directory.counts(), (0, 0));
    assert_eq!(directory.users.memberships.load(Ordering::Relaxed), 0);
    assert!(directory.rooms.parts.iter().chain(&directory.users.parts).all(|part| lock(part).is_empty()));
    assert!(directory.joined.iter().all(|lists| lock(lists).is_empty()));
}

/// Threads of the application join, leave and clear while connections end under them.
#[test]
fn nothing_stays_of_connections_that_end_while_others_speak_of_them() {
    let (state, handle) = server(1);
    let pool = SlotPool::new(Arc::clone(&state), 0);
    let known = Mutex::new(Vec::new());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (known, over, handle) = (&known, &over, &handle);
            scope.spawn(move || {
                let mut dice = Dice::new(seed);
                while !over.load(Ordering::Acquire) {
                    let id = {
                        let known = lock(known);
                        known.get(dice.roll(known.len().max(1) as u64) as usize).copied()
                    };
                    let (Some(id), room) = (id, ROOMS[dice.roll(4) as usize]) else { continue };
                    match dice.roll(8) {
                        0..4 => drop(handle.join(id, room)),
                        4..6 => drop(handle.leave(id, room)),
                        6 => handle.clear_room(room).unwrap(),
                        _ => drop((handle.room_members(room), handle.room_size(room), handle.connections_of("alice"))),
                    }
                }
            });
        }
        let mut guards = std::collections::VecDeque::new();
        for _ in 0..20_000 {
            let guard = open(&pool, &state, Some("alice"));
            lock(&known).push(guard.id());
            guards.push_back(guard);
            if guards.len() > 20 {
                let mut guard = guards.pop_front().unwrap();
                guard.end(Some("alice"));
                lock(&known).retain(|id| *id != guard.id());
            }
        }
        for guard in &mut guards {
            guard.end(Some("alice"));
        }
        over.store(true, Ordering::Release);
    });
    assert_given_back(&state);
}

#[test]
fn a_snapshot_of_several_rooms_has_each_once_and_no_newcomer() {
    let (state, handle) = server(1);
    let pool = SlotPool::new(Arc::clone(&state), 0);
    let mut guards: Vec<_> = (0..3).map(|_| pool.take(Protocol::Json).unwrap()).collect();
    let slots: Vec<u32> = guards.iter().map(|guard| guard.id().slot()).collect();
    for (who, room) in [(0, "a"), (0, "b"), (1, "b"), (2, "c")] {
        handle.join(guards[who].id(), room).unwrap();
    }
    let Snapshot { blocks, before } = state.directory.in_rooms(&["a", "b", "a", "nobody"]);
    let members: Vec<u32> = blocks.iter().copied().flat_map(Block::members).collect();
    assert_eq!(members, slots[..2]);
    let first = guards.remove(0).id();
    let newcomer = pool.take(Protocol::Json).unwrap();
    assert_eq!(newcomer.id().slot(), first.slot());
    let now = generations_so_far();
    assert!(newcomer.id().opened_between(before, now));
    assert!(!guards[0].id().opened_between(before, now) && !first.opened_between(before, now));
}

#[test]
fn whoever_leaves_most_of_its_rooms_keeps_the_memory_of_few() {
    let (state, handle) = server(1);
    let pool = SlotPool::new(Arc::clone(&state), 0);
    let guard = pool.take(Protocol::Json).unwrap();
    (0..1024).for_each(|room| handle.join(guard.id(), &room.to_string()).unwrap());
    (1..1024).for_each(|room| handle.leave(guard.id(), &room.to_string()).unwrap());
    let capacity = state.directory.lists_of(guard.id())[&member(guard.id())].capacity();
    assert!(capacity <= 4, "{capacity} for one");
    assert_eq!(handle.rooms_of(guard.id()).unwrap().len(), 1);
}

#[test]
fn at_the_bound_a_room_that_it_is_in_is_no_error() {
    let (state, handle) = server(1);
    let pool = SlotPool::new(Arc::clone(&state), 0);
    let guard = pool.take(Protocol::Json).unwrap();
    assert_eq!((0..1100).filter(|room| handle.join(guard.id(), &room.to_string()).is_ok()).count(), 1024);
    handle.join(guard.id(), "7").unwrap();
    assert!(handle.join(guard.id(), "new").unwrap_err().to_string().contains("at most 1024 rooms"));
    handle.leave(guard.id(), "7").unwrap();
    handle.join(guard.id(), "new").unwrap();
    assert_eq!((handle.room_size("new"), state.directory.counts()), (1, (1024, 1024)));
    drop(guard);
    assert_given_back(&state);
}
