use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::*;
use wsguard_proto::lock::lock;
use wsguard_test_support::dice::Dice;

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
    // They are given back when their turn comes, whoever has the slot by then.
    slot.open(7, Protocol::Raw);
    assert!(!slot.take_ping(3));
    slot.close();
    slot.give_back_pings(3);
    assert_eq!((slot.generation(), slot.take_ping(1)), (0, true));
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
    assert!(slot.publish(0, 0));
    assert!(!slot.watch());
}

/// The shard has taken it out of its mailbox, and has not published yet what is left of it.
#[test]
fn what_has_arrived_waits_until_its_level_is_published() {
    let slot = Slot::default();
    slot.bound(400);
    slot.post(200);
    assert!(slot.watch());
    slot.arrive(200);
    assert!(slot.has_unsent() && slot.is_awaited());
    assert_eq!(slot.buffered_bytes(), 200);
    assert!(!slot.publish(150, 0));
    assert!(slot.has_unsent() && slot.is_awaited());
    assert!(slot.publish(0, 0));
    assert!(!slot.has_unsent() && !slot.is_awaited());
    assert_eq!(slot.buffered_bytes(), 0);
}

/// The outbox is empty: what the application waits for has not come to it.
#[test]
fn a_watch_does_not_end_before_what_it_is_for_has_arrived() {
    let slot = Slot::default();
    slot.bound(400);
    slot.post(10);
    slot.arrive(10);
    assert!(!slot.publish(10, 0));
    slot.post(1000);
    assert!(slot.watch());
    assert!(!slot.publish(0, 0), "1000 are in the mailbox");
    assert!(slot.is_awaited());
    slot.arrive(600);
    assert!(!slot.publish(0, 0), "400 are");
    slot.post(50);
    slot.arrive(400);
    assert!(slot.publish(0, 0), "what was said later is not watched for");
    assert!(!slot.is_awaited(), "no other event comes");
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
    assert!(slot.end_watch(0), "the first is told");
}

#[test]
fn a_stale_id_is_not_open() {
    let slots = Slots::new(10_000);
    let id = ConnectionId::new(0, 5000, 1);
    assert!(!slots.is_open(id));
    slots.make(5000).unwrap().open(1, Protocol::Json);
    assert!(slots.is_open(id));
    assert!(!slots.is_open(ConnectionId::new(0, 5000, 2)));
    assert!(!slots.is_open(ConnectionId::new(0, 0x00ff_ffff, 1)));
    assert!(!slots.is_open(ConnectionId::new(0, 5001, 0)));
}

/// A shard and an application, each on a thread of its own, and a socket that takes what it likes.
#[derive(Default)]
struct Play {
    slot: Slot,
    mailbox: Mutex<Vec<usize>>,
    /// What the socket has taken, which is more than the slot says as long as that is not published.
    taken: AtomicU64,
    /// How many times `Event::Drained` was told.
    told: AtomicU64,
    is_over: AtomicBool,
}

impl Play {
    /// Runs commands and writes until the application has said all.
    fn shard(&self) {
        let (mut dice, mut outbox) = (Dice::new(1), 0);
        let publish = |outbox| self.told.fetch_add(u64::from(self.slot.publish(outbox, 0)), Ordering::SeqCst);
        while !self.is_over.load(Ordering::SeqCst) {
            let run = std::mem::take(&mut *lock(&self.mailbox));
            if run.is_empty() && outbox == 0 {
                std::thread::yield_now();
            }
            for bytes in run {
                outbox += bytes;
                if dice.one_in(4) {
                    publish(outbox);
                }
                self.slot.arrive(bytes);
            }
            for _ in 0..dice.within(1..4) {
                let now = outbox.min(dice.roll(300) as usize);
                outbox -= now;
                self.taken.fetch_add(now as u64, Ordering::SeqCst);
                publish(outbox);
            }
        }
    }

    fn say(&self, bytes: usize) -> bool {
        let mut mailbox = lock(&self.mailbox);
        mailbox.push(bytes);
        self.slot.post(bytes);
        drop(mailbox);
        self.slot.has_unsent() && self.slot.watch()
    }

    /// The next `Event::Drained` that the application heeds; `heard` are those before it.
    fn hear(&self, heard: &mut u64) {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            while *heard == self.told.load(Ordering::SeqCst) {
                assert!(Instant::now() < patience, "what was queued is never told as drained");
                std::thread::yield_now();
            }
            *heard += 1;
            if !self.slot.is_awaited() {
                return;
            }
        }
    }

    /// Says bytes and waits mostly where they are queued.
    fn application(&self) {
        let (mut dice, mut said, mut heard, mut waits) = (Dice::new(2), 0, 0, 0);
        while waits < 200 {
            let mut queued = 0;
            for _ in 0..dice.within(1..5) {
                let bytes = dice.within(1..200);
                said += bytes;
                if self.say(bytes as usize) {
                    queued = said;
                }
            }
            // Who goes on hears later of what is none of the last send's.
            if queued > 0 && !dice.one_in(4) {
                self.hear(&mut heard);
                let taken = self.taken.load(Ordering::SeqCst);
                assert!(queued <= taken, "drained at {taken} of {queued}");
                waits += 1;
            }
        }
    }
}

/// Neither too early nor never, whatever the two threads do at the same time.
#[test]
fn drained_is_told_when_all_that_was_queued_is_taken() {
    let play = Play::default();
    play.slot.bound(800);
    play.slot.open(1, Protocol::Raw);
    let said = std::thread::scope(|threads| {
        threads.spawn(|| play.shard());
        let said = threads.spawn(|| play.application()).join();
        play.is_over.store(true, Ordering::SeqCst);
        said
    });
    said.unwrap();
}
