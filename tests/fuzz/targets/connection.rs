//! One connection under any input, at any time: whole valid server frames come out and nothing behind a close frame;
//! messages come in the order they were sent; nothing is delivered after the end; no deadline is left in the past.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::{client, server};
use wsguard_proto::codec::{self, BufferPool, Decoder, Limits, Opcode, Step};
use wsguard_proto::config::{Options, Policy, Protocol};
use wsguard_proto::connection::{Connection, Message, Opened, Phase, Report, Sink, Turn};
use wsguard_proto::contract::Scratch;
use wsguard_proto::deflate::{Agreed, Compressed, Deflate, Inflater};
use wsguard_proto::files::NoFiles;
use wsguard_proto::limits::RateKey;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

fn policy(more: &str) -> Policy {
    let json = format!(r#"{{"origins": ["https://app.example.com"], "auth": "none", {more}}}"#);
    Policy::new(Options::from_json(&json).unwrap(), &NoFiles).unwrap()
}

static POLICIES: LazyLock<[Policy; 6]> = LazyLock::new(|| {
    let events = r#""events": {"say": {"schema": {"type": "object", "required": ["a"]}, "cost": 3}, "e": {}}"#;
    let tight = r#""max_message_bytes": 300,
        "rate_limit": {"per_second": 10, "burst": 2, "queue": 3, "bytes_per_second": 500}"#;
    [
        policy(r#""protocol": "raw", "rate_limit": null, "control_rate_limit": null"#),
        policy(&format!(r#""protocol": "raw", {tight}, "max_fragments": 4"#)),
        policy(&format!(r#"{events}, {tight}"#)),
        policy(&format!(r#"{events}, {tight}, "on_violation": "report""#)),
        policy(&format!(
            r#"{events}, "control_rate_limit": {{"per_second": 1, "burst": 2}}, "message_timeout_ms": 500"#
        )),
        policy(r#""protocol": "raw", "ping_interval_ms": 50, "idle_timeout_ms": 1050, "close_timeout_ms": 70"#),
    ]
});

#[derive(Default)]
struct Application {
    delivered: Vec<(Opcode, Vec<u8>)>,
    reports: Vec<Code>,
    /// Fails at this message, as a handler that panics.
    fails_at: usize,
    /// Nothing of the peer counts any more.
    ended: bool,
    /// Messages wait for an answer.
    busy: bool,
}

impl Sink for Application {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> std::result::Result<(), Code> {
        assert!(!self.ended, "a message after the end");
        match message {
            Message::Text(text) => {
                codec::data_frame(out, Opcode::Text, text.as_bytes());
                self.delivered.push((Opcode::Text, text.as_bytes().to_vec()));
            }
            Message::Binary(payload) => {
                codec::data_frame(out, Opcode::Binary, payload);
                self.delivered.push((Opcode::Binary, payload.to_vec()));
            }
            Message::Event { envelope, text } => {
                assert!(text.len() >= envelope.data.len() || envelope.data == "null");
                codec::data_frame(out, Opcode::Text, envelope.data.as_bytes());
                self.delivered.push((Opcode::Text, envelope.data.as_bytes().to_vec()));
            }
        }
        if self.delivered.len() == self.fails_at { Err(Code::Internal) } else { Ok(()) }
    }

    fn report(&mut self, report: Report<'_>) {
        assert!(!report.detail.is_empty());
        self.reports.push(report.code);
    }

    fn pong(&mut self, _: std::time::Duration) {}

    fn ping_frame(&mut self, payload: &[u8]) {
        assert!(!self.ended && payload.len() <= codec::MAX_CONTROL_PAYLOAD);
    }

    fn pong_frame(&mut self, payload: &[u8]) {
        assert!(!self.ended && payload.len() <= codec::MAX_CONTROL_PAYLOAD);
    }

    fn replies_may_come(&self) -> bool {
        self.busy
    }
}

struct Session<'p> {
    policy: &'p Policy,
    connection: Connection,
    application: Application,
    pool: BufferPool,
    scratch: Scratch,
    deflate: Deflate,
    now: Moment,
    congested: bool,
    out: Vec<u8>,
    received: Vec<u8>,
    endings: usize,
    /// Our close frame is out.
    said_goodbye: bool,
    /// The peer ended its side.
    half_closed: bool,
}

impl Session<'_> {
    fn turn<T>(&mut self, budget: usize, act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> T) -> T {
        let before = self.out.len();
        let mut turn = Turn {
            policy: self.policy,
            now: self.now,
            out: &mut self.out,
            pool: &mut self.pool,
            scratch: &mut self.scratch,
            deflate: &mut self.deflate,
            congested: self.congested,
            message_budget: budget,
            sink: &mut self.application,
        };
        let result = act(&mut self.connection, &mut turn);
        let opcodes = server::check(&self.out[before..]);
        assert!(!self.said_goodbye || opcodes.is_empty(), "frames after the close frame");
        self.said_goodbye |= opcodes.contains(&8);
        assert!(!(self.said_goodbye && self.connection.may_send()), "frames may follow the close frame");
        assert!(
            self.said_goodbye || self.half_closed || !matches!(self.connection.phase(), Phase::Closing | Phase::Closed),
            "no close frame"
        );
        self.application.ended = !matches!(self.connection.phase(), Phase::Open | Phase::Parting);
        if let Some(ending) = self.connection.take_ending() {
            self.endings += 1;
            assert!(ending.reason.len() <= 123 && ending.peer.is_none_or(|peer| peer.reason.len() <= 123));
            assert!(ending.fault.is_none() || ending.verdict.is_some(), "a fault without a verdict");
        }
        assert!(self.endings <= 1, "told twice");
        assert!(self.endings == 0 || self.application.ended && !self.connection.may_send());
        assert!(!self.application.ended || self.connection.delayed_messages() == 0);
        result
    }

    fn input(&mut self, bytes: &[u8], budget: usize) {
        self.received.extend_from_slice(bytes);
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        loop {
            let len = rest.len();
            let used = self.turn(budget, |connection, turn| connection.handle_input(rest, turn));
            assert!(used <= len);
            if used == len {
                return;
            }
            rest = &mut rest[used..];
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.arbitrary::<u8>()? % 16 {
            0..=4 => {
                let mut bytes = Vec::new();
                client::frame(input, &mut bytes)?;
                let cut = usize::from(input.arbitrary::<u8>()?).min(bytes.len());
                self.input(&bytes[..cut], 64);
                self.input(&bytes[cut..], 1);
            }
            5 | 6 => {
                let event = [
                    r#"{"event":"e"}"#,
                    r#"{"event":"say","data":{"a":1},"id":1}"#,
                    r#"{"event":"say","data":1}"#,
                    r#"{"event":"x"}"#,
                    "{}",
                ];
                let text = event[usize::from(input.arbitrary::<u8>()?) % event.len()].as_bytes();
                let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text].concat();
                self.input(&frame, 3);
            }
            7 => {
                let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
                self.input(input.bytes(len)?, 2);
            }
            8 => self.now = self.now.after_millis(u64::from(input.arbitrary::<u16>()?)),
            9 => self.now = self.now.after_nanos(u64::from(input.arbitrary::<u32>()?)),
            10 => self.deadline(),
            11 => {
                // As a driver does: sleep until the deadline.
                let next = self.connection.next_deadline(self.policy);
                if next != Moment::NEVER && self.connection.phase() != Phase::Dropped {
                    self.now = self.now.max(next);
                    self.deadline();
                }
            }
            12 => {
                self.congested = !self.congested;
                if !self.congested {
                    self.turn(1, Connection::handle_drained);
                }
            }
            13 => {
                let code = 3000 + input.arbitrary::<u16>()? % 2000;
                let reason =
                    String::from_utf8_lossy(&[b'x', input.arbitrary()?]).repeat(usize::from(input.arbitrary::<u8>()?));
                self.turn(1, |connection, turn| connection.close(code, &reason, turn));
            }
            14 => match input.arbitrary::<u8>()? {
                byte @ 0x80.. => {
                    // The application's thread: it has taken messages, or answers one.
                    self.application.busy = byte & 1 == 0;
                    if self.connection.may_send() {
                        self.turn(1, |_, turn| codec::data_frame(turn.out, Opcode::Text, b"answer"));
                    }
                }
                0..=4 => self.turn(1, Connection::handle_eof),
                5..=14 => {
                    self.half_closed = true;
                    self.turn(1, Connection::handle_half_close);
                }
                15..=44 => self.connection.excuse(self.now),
                45..=54 => self.connection.set_auto_pong(input.arbitrary()?),
                byte @ 55..=64 => self.connection.expect_pong(&[byte][..usize::from(byte & 1)]),
                _ => self.turn(1, Connection::release_all_delayed),
            },
            _ => self.turn(1, |connection, turn| {
                let code = Code::SessionRevoked;
                connection.violate(&Report { code, event: None, detail: "disconnect_user" }, turn);
            }),
        }
        Ok(())
    }

    fn deadline(&mut self) {
        self.turn(1, Connection::handle_deadline);
        let next = self.connection.next_deadline(self.policy);
        assert!(next > self.now || self.connection.phase() == Phase::Dropped, "a deadline is left at {next:?}");
    }

    /// What has begun to end ends, whatever the peer and the application do.
    fn check_end(&mut self) {
        self.application.busy = true;
        for _ in 0..200 {
            if self.connection.is_open() || self.connection.phase() == Phase::Dropped {
                return;
            }
            self.now = self.now.max(self.connection.next_deadline(self.policy));
            self.deadline();
        }
        panic!("still {:?}", self.connection.phase());
    }

    /// What was delivered is what was sent, from its start and in its order.
    fn check_order(&mut self) {
        if self.policy.protocol != Protocol::Raw {
            return;
        }
        let limits = Limits {
            max_message_bytes: usize::MAX,
            max_fragments: u32::MAX,
            text_only: false,
            deflate: self.connection.deflate().is_some(),
        };
        let (mut decoder, mut at) = (Decoder::default(), 0);
        let delivered = self.application.delivered.iter();
        for (opcode, expected) in delivered {
            loop {
                match decoder.next(&mut self.received, &mut at, &limits, &mut self.pool) {
                    Ok(Step::Message { opcode: sent, payload, compressed }) => {
                        let payload = payload.bytes(&self.received);
                        let mut room = Vec::new();
                        let message = match compressed {
                            Some(frames) => Inflater::default()
                                .inflate(Compressed { payload, frames }, self.policy.max_message_bytes, &mut room)
                                .expect("it was delivered"),
                            None => payload,
                        };
                        assert_eq!((&sent, message), (opcode, &expected[..]));
                        break;
                    }
                    Ok(Step::Control { .. }) => {}
                    other => panic!("{other:?} instead of a delivered message"),
                }
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let Ok(set) = input.arbitrary::<u8>() else { return };
    let policy = &POLICIES[usize::from(set) % POLICIES.len()];
    let now = Moment::from_millis(1_000);
    let expires_at = if set & 0x80 == 0 { Moment::NEVER } else { now.after_millis(300) };
    let deflate = (set & 0x20 != 0).then_some(Agreed { server_window_bits: 15 });
    let rate_key = policy.rate_limit.as_ref().map(|_| Arc::new(RateKey::default()));
    let mut session = Session {
        policy,
        connection: Connection::new(policy, Opened { rate_key, expires_at, deflate, ..Opened::default() }, now),
        application: Application { fails_at: if set & 0x40 == 0 { 0 } else { 3 }, ..Application::default() },
        pool: BufferPool::default(),
        scratch: Scratch::new(),
        deflate: Deflate::default(),
        now,
        congested: false,
        out: Vec::new(),
        received: Vec::new(),
        endings: 0,
        said_goodbye: false,
        half_closed: false,
    };
    while !input.is_empty() && session.out.len() < 1_000_000 {
        if session.step(&mut input).is_err() {
            break;
        }
    }
    session.check_end();
    server::check(&session.out);
    session.check_order();
});
