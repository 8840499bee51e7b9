//! In which order the application takes the events of several shards.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::binding::blank_open;
use crate::driver::events::Event;
use crate::driver::ids::ConnectionId;
use crate::driver::state::{ServerState, idle};

const SHARDS: usize = 3;

/// Numbers of opens and of messages, as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Open(u64),
    /// The message, and the last open when it came.
    Message(u64, u64),
}

fn server() -> Arc<ServerState> {
    idle(&format!(r#""threads": {SHARDS}"#))
}

fn open(state: &ServerState, shard: usize, number: u64) {
    let open = blank_open(ConnectionId::from_u64(number));
    state.write_events(shard).push_change(|batch| batch.push_open(open));
}

fn message(state: &ServerState, shard: usize, number: u64, last_open: u64) {
    let payload = last_open.to_be_bytes();
    state.write_events(shard).batch().push_ping_frame(ConnectionId::from_u64(number), &payload);
}

fn told(batch: &EventBatch) -> Vec<Told> {
    let told = batch.iter().map(|event| match event {
        Event::Open(open) => Told::Open(open.conn.to_u64()),
        Event::PingFrame(conn, last_open) => {
            Told::Message(conn.to_u64(), u64::from_be_bytes(last_open.try_into().unwrap()))
        }
        other => panic!("{other:?}"),
    });
    told.collect()
}

/// Takes all there is, from the shard behind `turn` on.
fn take_all(state: &ServerState, mut turn: usize) -> Vec<Told> {
    let mut batch = EventBatch::new();
    let mut all = Vec::new();
    while state.take_any(&mut turn, &mut batch) {
        all.extend(told(&batch));
        batch.release();
    }
    all
}

#[test]
fn a_message_does_not_overtake_the_open_that_its_sender_knew_of() {
    for turn in 0..SHARDS {
        let state = server();
        open(&state, 0, 1);
        open(&state, 1, 2);
        message(&state, 0, 3, 2);
        let all = take_all(&state, turn);
        let place = |wanted| all.iter().position(|told| *told == wanted).unwrap();
        assert!(place(Told::Open(1)) < place(Told::Message(3, 2)), "{all:?}");
        assert!(place(Told::Open(2)) < place(Told::Message(3, 2)), "{all:?}");
    }
}

#[test]
fn opens_alone_and_what_follows_none_come_in_one_batch() {
    let state = server();
    let mut batch = EventBatch::new();
    for number in 1..100 {
        open(&state, (number % 2) as usize, number);
    }
    assert_eq!(state.take_events(0, &mut batch), Look::Taken);
    assert_eq!(batch.len(), 49);
    batch.release();
    for number in 0..100 {
        message(&state, 1, number, 99);
    }
    assert_eq!(state.take_events(1, &mut batch), Look::Taken);
    assert_eq!(batch.len(), 150, "all opens that waited were its own");
    batch.release();
    assert_eq!(state.take_events(1, &mut batch), Look::Nothing);
    assert_eq!(state.inbox.bytes(), 0);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(usize),
    Message(usize),
    /// The application takes a batch, from the shard behind this one on.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..SHARDS).prop_map(Step::Open),
        3 => (0..SHARDS).prop_map(Step::Message),
        2 => (0..SHARDS).prop_map(Step::Take),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn the_order_of_opens_is_kept_and_nothing_is_lost(steps in steps()) {
        let state = server();
        let (mut opens, mut messages) = (0, 0);
        let mut pushed: BTreeMap<usize, Vec<Told>> = BTreeMap::new();
        let mut taken = Vec::new();
        let mut batch = EventBatch::new();
        for step in steps {
            match step {
                Step::Open(shard) => {
                    opens += 1;
                    open(&state, shard, opens);
                    pushed.entry(shard).or_default().push(Told::Open(opens));
                }
                Step::Message(shard) => {
                    messages += 1;
                    message(&state, shard, messages, opens);
                    pushed.entry(shard).or_default().push(Told::Message(messages, opens));
                }
                Step::Take(mut turn) => {
                    let is_waiting = taken.len() < pushed.values().map(Vec::len).sum();
                    prop_assert_eq!(state.take_any(&mut turn, &mut batch), is_waiting, "some shard always has its turn");
                    taken.extend(told(&batch));
                    batch.release();
                    let waits = taken.len() < pushed.values().map(Vec::len).sum();
                    prop_assert_eq!(state.oldest_event() < Moment::NEVER, waits);
                }
            }
        }
        taken.extend(take_all(&state, 0));
        for of_shard in pushed.values() {
            let mine = taken.iter().filter(|told| of_shard.contains(told)).copied().collect::<Vec<_>>();
            prop_assert_eq!(&mine, of_shard);
        }
        prop_assert_eq!(taken.len(), pushed.values().map(Vec::len).sum::<usize>());
        for (place, event) in taken.iter().enumerate() {
            if let Told::Message(_, last_open) = event {
                let before = taken[..place].iter().filter(|told| matches!(told, Told::Open(open) if open <= last_open)).count();
                prop_assert_eq!(before as u64, *last_open);
            }
        }
        prop_assert_eq!((state.inbox.bytes(), state.inbox.fill().others), (0, 0), "what was taken is given back");
    }
}

#[test]
fn threads_keep_the_order_too() {
    const OPENS: u64 = 3000;
    let state = server();
    let (last, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=OPENS {
                open(&state, 0, number);
                last.store(number, Ordering::Release);
            }
            is_over.store(true, Ordering::Release);
        });
        for shard in 1..SHARDS {
            let (state, last, is_over) = (&state, &last, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    message(state, shard, 0, last.load(Ordering::Acquire));
                }
            });
        }
        let (mut batch, mut turn, mut opened) = (EventBatch::new(), 0, 0);
        while opened < OPENS {
            if !state.take_any(&mut turn, &mut batch) {
                thread::yield_now();
            }
            for event in told(&batch) {
                match event {
                    Told::Open(number) => opened = number,
                    Told::Message(_, last_open) => assert!(last_open <= opened, "{last_open} is not told: {opened}"),
                }
            }
            batch.release();
        }
    });
    take_all(&state, 0);
    assert_eq!(state.inbox.bytes(), 0);
}
