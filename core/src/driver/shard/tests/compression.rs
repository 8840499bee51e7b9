//! What a shard sends to connections that have agreed to compression, and to those that have not.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Instant;

use proptest::prelude::*;
use socket2::SockRef;

use super::*;
use wsguard_proto::connection::{DataOpcode, Fragment};
use wsguard_proto::deflate::Budget;
use wsguard_test_support::deflate::inflate_message;

const RULES: &str = r#", "max_outbox_bytes": 100000000, "compression": {"threshold_bytes": 200}"#;

/// A message as a peer should hear it.
#[derive(Debug, PartialEq)]
struct Message {
    payload: Vec<u8>,
    is_compressed: bool,
}

/// One peer: its end of the socket, what it has read, and what it has still to hear.
struct Peer {
    conn: ConnectionId,
    client: TcpStream,
    agreed: Option<Agreed>,
    read: Vec<u8>,
    to_hear: VecDeque<Message>,
    /// What waits for the end of a message in fragments, and that message so far.
    behind: Option<(Vec<Message>, Vec<u8>)>,
    /// What it has heard of one.
    parts: Option<Vec<u8>>,
    /// `queued` behind each message said to it alone, with how many messages it has heard by then.
    marks: Vec<(u64, usize)>,
    heard: usize,
}

impl Peer {
    fn new(rig: &mut Rig, window: u8) -> Self {
        let (client, Socket::Tcp(stream)) = rig.socket() else { panic!("a pipe") };
        // Small, so that much waits in the outbox.
        SockRef::from(&stream).set_send_buffer_size(8192).unwrap();
        SockRef::from(&client).set_recv_buffer_size(8192).unwrap();
        client.set_nonblocking(true).unwrap();
        let agreed = (window > 0).then_some(Agreed { server_window_bits: window });
        let conn = rig.open_agreed(Stream::Plain(Socket::Tcp(stream)), "u", Vec::new(), agreed);
        rig.handle.join(conn, "room").unwrap();
        let (read, to_hear, marks) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { conn, client, agreed, read, to_hear, behind: None, parts: None, marks, heard: 0 }
    }

    /// Is to hear a message.
    fn expect(&mut self, payload: &[u8], may_be_compressed: bool, shrinks: bool) {
        let is_compressed = self.agreed.is_some() && may_be_compressed && payload.len() >= 200 && shrinks;
        let message = Message { payload: payload.to_vec(), is_compressed };
        match &mut self.behind {
            Some((behind, _)) => behind.push(message),
            None => self.to_hear.push_back(message),
        }
    }

    /// Reads the messages that end at `written` of `queued` or before: they must be there.
    fn read_up_to(&mut self, written: u64) {
        let messages = self.marks.iter().rfind(|(mark, _)| *mark <= written).map_or(0, |(_, messages)| *messages);
        self.client.set_nonblocking(false).unwrap();
        self.client.set_read_timeout(Some(core::time::Duration::from_secs(20))).unwrap();
        while self.heard < messages {
            assert!(self.read(1 << 16) > 0, "{written} bytes were said to be written");
        }
        self.client.set_nonblocking(true).unwrap();
    }

    /// Reads at most so much, and returns how much that was; compares each message that is whole with what it should be.
    fn read(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        let len = self.client.read(&mut buffer).unwrap_or_else(|error| {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            0
        });
        self.read.extend_from_slice(&buffer[..len]);
        while let Some((first, payload, used)) = first_frame(&self.read) {
            let said = match first {
                // A message in fragments is put together here: it is not compressed, and nothing stands between its parts.
                0x02 | 0x00 => {
                    assert_eq!(first == 0, self.parts.is_some());
                    self.parts.get_or_insert_default().extend_from_slice(payload);
                    self.read.drain(..used);
                    continue;
                }
                0x80 => {
                    let whole = [&self.parts.take().expect("a message has begun")[..], payload].concat();
                    Message { payload: whole, is_compressed: false }
                }
                0x81 | 0x82 => Message { payload: payload.to_vec(), is_compressed: false },
                0xc1 | 0xc2 => {
                    let told = inflate_message(payload).expect("a stream after RFC 1951");
                    assert!(told.farthest <= 1 << self.agreed.unwrap().server_window_bits && !told.is_final);
                    Message { payload: told.bytes, is_compressed: true }
                }
                _ => panic!("a frame that begins with {first:#x}"),
            };
            assert!(self.parts.is_none(), "between the parts of a message");
            self.read.drain(..used);
            let expected = self.to_hear.pop_front().expect("something is to be heard");
            assert_eq!(said.is_compressed, expected.is_compressed, "of {} bytes", expected.payload.len());
            assert!(said == expected, "another message");
            self.heard += 1;
        }
        len
    }
}

fn first_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (header, len) = match *bytes.get(1)? {
        126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into()),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        len => (2, usize::from(len)),
    };
    Some((bytes[0], bytes.get(header..header + len)?, header + len))
}

/// Bytes that are shorter compressed, or are not.
fn payload(len: usize, shrinks: bool, mut seed: u64) -> Vec<u8> {
    let step = |seed: &mut u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    core::iter::repeat_with(|| if shrinks { step(&mut seed) & 3 | 0x60 } else { step(&mut seed) }).take(len).collect()
}

#[derive(Clone, Debug)]
enum Act {
    /// To one: length, whether it shrinks, plain.
    Send(usize, usize, bool, bool),
    /// To all but one.
    Broadcast(usize, usize, bool, bool),
    /// A fragment, the last of its message or not.
    Fragment(usize, usize, bool),
    /// The shard carries out what it was told, and writes what it can.
    Run,
    /// A peer reads a little.
    Read(usize, usize),
    /// A peer reads all that the server says is written, and the server does nothing.
    Trust(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let len = || prop_oneof![3 => 0usize..600, 2 => 200usize..9000, 1 => 9000usize..60_000];
    let shrinks = || prop::bool::weighted(0.8);
    let plain = || prop::bool::weighted(0.25);
    prop_oneof![
        5 => (0usize..6, len(), shrinks(), plain()).prop_map(|(who, len, shrinks, plain)| Act::Send(who, len, shrinks, plain)),
        3 => (0usize..6, len(), shrinks(), plain()).prop_map(|(who, len, shrinks, plain)| Act::Broadcast(who, len, shrinks, plain)),
        1 => (0usize..6, 0usize..3000, any::<bool>()).prop_map(|(who, len, fin)| Act::Fragment(who, len, fin)),
        4 => Just(Act::Run),
        3 => (0usize..6, 1usize..20_000).prop_map(|(who, most)| Act::Read(who, most)),
        2 => (0usize..6).prop_map(Act::Trust),
    ]
}

struct Scene {
    rig: Rig,
    peers: Vec<Peer>,
    seed: u64,
}

impl Scene {
    fn new() -> Self {
        let mut rig = Rig::new(RULES, None);
        let peers = [0, 0, 9, 12, 15, 15].into_iter().map(|window| Peer::new(&mut rig, window)).collect();
        assert!(rig.events().is_empty());
        Self { rig, peers, seed: 1 }
    }

    fn act(&mut self, act: &Act) {
        self.seed += 1;
        let Self { rig, peers, seed } = self;
        match *act {
            Act::Send(who, len, shrinks, plain) => {
                let (payload, peer) = (payload(len, shrinks, *seed), &mut peers[who]);
                rig.handle.speaker(!plain).send_binary(peer.conn, &payload).unwrap();
                peer.expect(&payload, !plain, shrinks);
                if peer.behind.is_none() {
                    peer.marks.push((rig.handle.queued(peer.conn), peer.heard + peer.to_hear.len()));
                }
            }
            Act::Broadcast(not, len, shrinks, plain) => {
                let (payload, except) = (payload(len, shrinks, *seed), peers[not].conn);
                let to = To::Room("room");
                rig.handle.speaker(!plain).broadcast_binary(to, &payload, &[except]).unwrap();
                for peer in peers.iter_mut().filter(|peer| peer.conn != except) {
                    peer.expect(&payload, !plain, shrinks);
                }
            }
            Act::Fragment(who, len, fin) => {
                let (part, peer) = (payload(len, true, *seed), &mut peers[who]);
                let opcode = if peer.behind.is_some() { DataOpcode::Continuation } else { DataOpcode::Binary };
                rig.handle.send_fragment(peer.conn, Fragment { opcode, fin }, &part).unwrap();
                let (behind, mut whole) = peer.behind.take().unwrap_or_default();
                whole.extend_from_slice(&part);
                if fin {
                    peer.to_hear.push_back(Message { payload: whole, is_compressed: false });
                    peer.to_hear.extend(behind);
                } else {
                    peer.behind = Some((behind, whole));
                }
            }
            Act::Run => self.run(),
            Act::Read(who, most) => _ = peers[who].read(most),
            Act::Trust(who) => {
                let written = rig.handle.written(peers[who].conn);
                peers[who].read_up_to(written);
            }
        }
        self.check();
    }

    fn run(&mut self) {
        self.rig.runtime.block_on(tokio::task::yield_now());
        run_commands();
        for peer in &self.peers {
            Rig::run_session(peer.conn);
        }
        let told = self.rig.events();
        assert!(told.iter().all(|event| event == "drained"), "{told:?}");
    }

    /// What is said to be written has left the server.
    fn check(&self) {
        for peer in &self.peers {
            let (queued, written) = (self.rig.handle.queued(peer.conn), self.rig.handle.written(peer.conn));
            assert!(written <= queued);
            let unsent = self.rig.handle.buffered_bytes(peer.conn);
            for (mark, _) in peer.marks.iter().rev().take_while(|(mark, _)| *mark > written) {
                assert!(unsent > 0, "{mark} is not written, and nothing is unsent");
            }
        }
    }

    /// Everybody reads until there is no more.
    fn end(mut self) {
        for who in 0..self.peers.len() {
            if self.peers[who].behind.is_some() {
                self.act(&Act::Fragment(who, 5, true));
            }
        }
        while self.peers.iter().any(|peer| !peer.to_hear.is_empty()) {
            self.run();
            self.peers.iter_mut().for_each(|peer| _ = peer.read(1 << 20));
        }
        self.run();
        for peer in &self.peers {
            let handle = &self.rig.handle;
            assert_eq!((handle.queued(peer.conn), handle.buffered_bytes(peer.conn)), (handle.written(peer.conn), 0));
            assert!(!handle.is_queued(peer.conn) && peer.read.is_empty());
        }
        assert_eq!(self.rig.handle.stats().outbox_bytes, 0);
        assert!(!self.rig.handle.broadcasts_wait());
        assert_eq!(self.rig.state.shards[0].broadcasts.get(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Members with compression of three windows and without, plain and compressed sends to one and to all, fragments, slow
    /// readers: everybody hears everything in order, in the form agreed to, and the counters meet.
    #[test]
    fn everybody_hears_everything_in_order(acts in prop::collection::vec(act(), 1..60)) {
        let mut scene = Scene::new();
        for act in &acts {
            scene.act(act);
        }
        scene.end();
    }
}

/// A reader that is always behind: what the server says is written is there to be read, whatever compression has saved.
#[test]
fn what_is_said_to_be_written_has_left_the_server() {
    let mut scene = Scene::new();
    let who = 4;
    let mut told = 0;
    for round in 0..40 {
        scene.act(&Act::Send(who, 20_000 + 500 * round, true, round % 7 == 0));
        scene.act(&Act::Run);
        let written = scene.rig.handle.written(scene.peers[who].conn);
        told += usize::from(written > 0 && scene.rig.handle.buffered_bytes(scene.peers[who].conn) > 0);
        scene.act(&Act::Trust(who));
    }
    assert!(told > 10, "of {told} only, as long as something waits");
    scene.end();
}

/// One run compresses a mebibyte; what comes behind goes plain, and the next run has the whole budget again.
#[test]
fn a_run_compresses_so_much_and_no_more() {
    let mut scene = Scene::new();
    let who = 4;
    let messages: Vec<_> = [500_000, 500_000, 100_000, 300, 1_100_000].map(|len| payload(len, true, 9)).into();
    let handle = scene.rig.handle.clone();
    let left_plain = || handle.stats().messages_left_plain;
    for message in &messages {
        handle.send_binary(scene.peers[who].conn, message).unwrap();
        // A large one that does not fit takes nothing of the budget from a small one behind it.
        scene.peers[who].expect(message, message.len() != 100_000 && message.len() < 1 << 20, true);
    }
    scene.run();
    assert_eq!((left_plain(), handle.stats().messages_compressed_out), (2, 3));
    for (len, left) in [(1 << 20, 2), ((1 << 20) + 1, 3)] {
        handle.send_binary(scene.peers[who].conn, &payload(len, true, 3)).unwrap();
        scene.peers[who].expect(&payload(len, true, 3), left == 2, true);
        scene.run();
        assert_eq!(left_plain(), left);
    }
    scene.end();
}

/// However many members there are: the second mebibyte is the budget of a message that is compressed only once.
#[test]
fn a_broadcast_is_compressed_once_for_each_window() {
    let mut scene = Scene::new();
    let message = payload(340_000, true, 5);
    scene.rig.handle.broadcast_binary(To::Everyone, &message, &[]).unwrap();
    scene.peers.iter_mut().for_each(|peer| peer.expect(&message, true, true));
    scene.run();
    let stats = scene.rig.handle.stats();
    assert_eq!((stats.messages_compressed_out, stats.messages_left_plain), (4, 0), "3 windows, 4 members");
    // The budget is used up for the next window of a second one; the first that is made is for all that have it.
    let handle = scene.rig.handle.clone();
    let cork = handle.cork();
    for _ in 0..2 {
        handle.broadcast_binary(To::Everyone, &message, &[]).unwrap();
    }
    drop(cork);
    for peer in &mut scene.peers {
        peer.expect(&message, true, true);
        peer.expect(&message, false, true);
    }
    scene.run();
    assert_eq!(handle.stats().messages_left_plain, 4);
    scene.end();
}

/// An open connection keeps what it has agreed to; whether and how it is made use of, the policy says at any time.
#[test]
fn a_reload_changes_threshold_and_level_of_what_is_open() {
    let mut scene = Scene::new();
    let message = payload(5000, true, 5);
    let reloads = [
        (r#", "compression": {"threshold_bytes": 5000, "level": 9}"#, true),
        (r#", "compression": {"threshold_bytes": 5001}"#, false),
        ("", false),
        (r#", "compression": {"level": 1}"#, true),
    ];
    for (options, is_compressed) in reloads {
        scene.rig.reload(options);
        let handle = scene.rig.handle.clone();
        for peer in &mut scene.peers {
            handle.send_binary(peer.conn, &message).unwrap();
            peer.expect(&message, is_compressed, true);
        }
        handle.broadcast_binary(To::Room("room"), &message, &[]).unwrap();
        scene.peers.iter_mut().for_each(|peer| peer.expect(&message, is_compressed, true));
        scene.run();
    }
    scene.end();
}

/// Answers what comes with what compresses well.
struct Repeats;

impl Inline for Repeats {
    fn message(&self, _: ConnectionId, _: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled {
        replies.binary(&[b'x'; 1000]);
        Handled::Done
    }
}

/// What others had compressed before is nothing to those whose messages were delayed.
#[test]
fn answers_to_delayed_messages_are_compressed() {
    let rules = r#"{"per_second": 1000, "burst": 1, "queue": 20}, "compression": {"threshold_bytes": 200}"#;
    let mut rig = Rig::rated(rules, Some(Box::new(Repeats)));
    let (_client, socket) = rig.socket();
    let agreed = Some(Agreed { server_window_bits: 15 });
    let conn = rig.open_agreed(Stream::Plain(socket), "alice", text(1).repeat(10), agreed);
    assert!(rig.events().is_empty());
    Rig::run_session(conn);
    let answered = |rig: &Rig| {
        let stats = rig.handle.stats();
        (stats.messages_compressed_out, stats.messages_left_plain)
    };
    let (at_once, _) = answered(&rig);
    assert!((1..10).contains(&at_once), "some are delayed");
    let give_up = Instant::now() + core::time::Duration::from_secs(20);
    while answered(&rig).0 + answered(&rig).1 < 10 {
        assert!(Instant::now() < give_up, "they are never delivered");
        with_shard(|shard| {
            shard.deflate.budget = Budget::default();
            shard.run_timers();
        });
    }
    assert_eq!(answered(&rig), (10, 0));
}
