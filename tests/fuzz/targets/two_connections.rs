//! Two connections of one user, which close, drop, claim, are invalid and reconnect in any order: the bucket of the key
//! holds in every window, by a model that shares no code with it, and nothing is taken for ever (THREATS R11).
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wsguard_proto::codec::BufferPool;
use wsguard_proto::config::{Options, Policy};
use wsguard_proto::connection::{Connection, Message, Opened, Phase, Report, Sink, Turn};
use wsguard_proto::contract::Scratch;
use wsguard_proto::deflate::Deflate;
use wsguard_proto::files::NoFiles;
use wsguard_proto::limits::RateKey;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

const PER_SECOND: f64 = 8.0;
const BURST: f64 = 5.0;
const QUEUE: u32 = 4;
const BYTES_PER_SECOND: f64 = 900.0;
/// `max_message_bytes`, which is over one second's worth of bytes.
const LARGEST: u16 = 1200;
const COSTS: [(&str, f64); 4] = [("one", 1.0), ("free", 0.0), ("cheap", 0.25), ("dear", 3.0)];

static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let events = COSTS.map(|(name, cost)| format!(r#""{name}": {{"cost": {cost}, "schema": {{"type": "string"}}}}"#));
    let events = format!(r#", "events": {{{}}}"#, events.join(", "));
    [("raw", ""), ("json", &events)].map(|(protocol, events)| {
        let json = format!(
            r#"{{"origins": ["https://app.example.com"], "auth": "none", "protocol": "{protocol}",
                "max_message_bytes": {LARGEST}, "close_timeout_ms": 300, "rate_limit": {{"per_second": {PER_SECOND},
                "burst": {BURST}, "queue": {QUEUE}, "bytes_per_second": {BYTES_PER_SECOND}}} {events}}}"#
        );
        Policy::new(Options::from_json(&json).unwrap(), &NoFiles).unwrap()
    })
});

/// A level that falls with time and rises with what passes: over `most` in no window.
#[derive(Default)]
struct Level {
    level: f64,
    at: Moment,
}

impl Level {
    fn pour(&mut self, amount: f64, per_second: f64, most: f64, now: Moment) {
        self.level = (self.level - now.since(self.at).as_secs_f64() * per_second).max(0.0) + amount;
        self.at = now;
        assert!(self.level <= most + 1e-3, "{} passed where {most} may", self.level);
    }
}

#[derive(Default)]
struct Application {
    taken: Vec<(f64, usize)>,
    busy: bool,
}

impl Sink for Application {
    fn message(&mut self, message: Message<'_>, _: &mut Vec<u8>) -> std::result::Result<(), Code> {
        self.taken.push(match message {
            Message::Text(text) => (1.0, text.len()),
            Message::Binary(payload) => (1.0, payload.len()),
            Message::Event { envelope, text } => {
                (COSTS.iter().find(|(name, _)| *name == envelope.event).unwrap().1, text.len())
            }
        });
        Ok(())
    }

    fn report(&mut self, _: Report<'_>) {}

    fn pong(&mut self, _: std::time::Duration) {}

    fn replies_may_come(&self) -> bool {
        self.busy
    }
}

struct User<'p> {
    policy: &'p Policy,
    is_raw: bool,
    key: Arc<RateKey>,
    now: Moment,
    messages: Level,
    bytes: Level,
    connections: [Connection; 2],
    application: Application,
    pool: BufferPool,
    scratch: Scratch,
    deflate: Deflate,
    out: Vec<u8>,
}

impl User<'_> {
    fn turn<T>(&mut self, at: usize, act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> T) -> T {
        let result = act(
            &mut self.connections[at],
            &mut Turn {
                policy: self.policy,
                now: self.now,
                out: &mut self.out,
                pool: &mut self.pool,
                scratch: &mut self.scratch,
                deflate: &mut self.deflate,
                congested: false,
                message_budget: 100_000,
                sink: &mut self.application,
            },
        );
        self.out.clear();
        for (cost, bytes) in std::mem::take(&mut self.application.taken) {
            self.messages.pour(cost, PER_SECOND, BURST, self.now);
            self.bytes.pour(bytes as f64, BYTES_PER_SECOND, f64::from(LARGEST), self.now);
        }
        self.check();
        result
    }

    fn check(&self) {
        let waiting: usize = self.connections.iter().map(Connection::delayed_messages).sum();
        assert_eq!(self.key.waiting() as usize, waiting, "places and messages");
        assert!(waiting <= QUEUE as usize);
        let (messages, bytes) = self.key.empty_at();
        let wait = f64::from(QUEUE) / PER_SECOND;
        assert!(messages.since(self.now).as_secs_f64() <= BURST / PER_SECOND + wait + 1e-6);
        assert!(bytes.since(self.now).as_secs_f64() <= f64::from(LARGEST) / BYTES_PER_SECOND + wait + 1e-6);
    }

    fn pass(&mut self, nanos: u64) {
        let end = self.now.after_nanos(nanos);
        loop {
            let deadline = |at: usize| self.connections[at].next_deadline(self.policy);
            let at = usize::from(deadline(1) < deadline(0));
            if deadline(at) > end {
                break;
            }
            self.now = self.now.max(deadline(at));
            self.turn(at, Connection::handle_deadline);
            assert!(self.connections[at].next_deadline(self.policy) > self.now, "a deadline is left");
        }
        self.now = end;
    }

    fn input(&mut self, at: usize, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.turn(at, |connection, turn| connection.handle_input(&mut bytes, turn));
    }

    fn reconnect(&mut self, at: usize) {
        self.connections[at] = connect(self.policy, &self.key, self.now);
        self.check();
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let what: u8 = input.arbitrary()?;
        let at = usize::from(what >> 7);
        if self.connections[at].phase() == Phase::Dropped {
            self.reconnect(at);
        }
        match what & 0x0f {
            0..=4 => {
                let bytes = self.message(what & 0x0f, input.arbitrary::<u16>()? % 400);
                self.input(at, &bytes);
            }
            5 => {
                let bytes = self.message(0, input.arbitrary::<u16>()? % 8);
                self.input(at, &bytes.repeat(20));
            }
            6 => self.input(at, &frame(if what & 0x10 == 0 { 0x82 } else { 0x81 }, b"\xff{")),
            7 => {
                // A claim, of which some comes.
                let claimed = input.arbitrary::<u16>()? % LARGEST;
                let bytes = frame(if self.is_raw { 0x02 } else { 0x01 }, &vec![b' '; usize::from(claimed)]);
                let len = bytes.len().min(6 + usize::from(input.arbitrary::<u8>()?));
                self.input(at, &bytes[..len]);
            }
            8 => {
                let len = usize::from(input.arbitrary::<u8>()?);
                self.input(at, &vec![b' '; len]);
            }
            9 => self.input(at, &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]),
            10 => self.reconnect(at),
            11 => self.turn(at, Connection::handle_half_close),
            12 => self.turn(at, Connection::handle_eof),
            13 => self.application.busy = what & 0x10 == 0,
            14 => self.pass(u64::from(input.arbitrary::<u16>()?) * 4_000),
            _ => self.pass(u64::from(input.arbitrary::<u16>()?) * 60_000),
        }
        Ok(())
    }

    fn message(&self, kind: u8, size: u16) -> Vec<u8> {
        let pad = "x".repeat(usize::from(size));
        match (self.is_raw, kind) {
            (true, _) => frame(0x81, pad.as_bytes()),
            (false, 4) => frame(0x81, br#"{"event":"dear","data":1}"#),
            (false, _) => {
                let event = COSTS[usize::from(kind % 4)].0;
                frame(0x81, format!(r#"{{"event":"{event}","data":"{pad}"}}"#).as_bytes())
            }
        }
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

fn connect(policy: &Policy, key: &Arc<RateKey>, now: Moment) -> Connection {
    let opened = Opened { rate_key: Some(Arc::clone(key)), expires_at: Moment::NEVER, ..Opened::default() };
    Connection::new(policy, opened, now)
}

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let Ok(set) = input.arbitrary::<u8>() else { return };
    let policy = &POLICIES[usize::from(set & 1)];
    let (key, now) = (Arc::<RateKey>::default(), Moment::from_millis(1_000));
    let mut user = User {
        policy,
        is_raw: set & 1 == 0,
        connections: [connect(policy, &key, now), connect(policy, &key, now)],
        key,
        now,
        messages: Level::default(),
        bytes: Level::default(),
        application: Application::default(),
        pool: BufferPool::default(),
        scratch: Scratch::new(),
        deflate: Deflate::default(),
        out: Vec::new(),
    };
    while !input.is_empty() {
        if user.step(&mut input).is_err() {
            break;
        }
    }
    // Everybody leaves, and what they left behind leaks away.
    user.reconnect(0);
    user.reconnect(1);
    assert_eq!(user.key.waiting(), 0);
    let wait = f64::from(QUEUE) / PER_SECOND;
    let deepest = (BURST / PER_SECOND + wait).max(f64::from(LARGEST) / BYTES_PER_SECOND + wait);
    user.now = user.now.after_nanos((deepest * 1e9) as u64 + 1_000);
    (user.messages, user.bytes) = (Level::default(), Level::default());
    for _ in 0..BURST as usize {
        let bytes = user.message(0, 3);
        user.input(0, &bytes);
    }
    assert!(user.messages.level == BURST && user.key.waiting() == 0, "as new");
});
