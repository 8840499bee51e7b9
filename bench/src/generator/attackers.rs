//! Attackers at a fixed rate. What the server does to them is its affair: they only see to it that the rate is kept.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::{Events, Interest, Poll, Token};

use super::frames::{PING, push};
use super::offences::{Offender, Script};
use super::opening::{Opening, SOURCES, Target, connect, request_head};
use super::transport::{Transport, is_not_yet};
use crate::plan::{ATTACKERS, Beside, Offence};

/// Source addresses of attackers begin here, so that honest clients have their own.
const FIRST_SOURCE: usize = 100;
/// Over every candidate's limit of a request head (Node: 16 KiB, wsguard: 16 KiB, websockets: 8 KiB a line).
const OVERSIZE_BYTES: usize = 40 << 10;
/// Pings that one connection sends at once.
const PINGS_AT_ONCE: u32 = 20;

/// An attack that is going on.
pub(super) struct Attack<'a> {
    target: &'a Target,
    tactic: Tactic,
    poll: Poll,
    events: Events,
    /// Events that were not looked at yet.
    pending: Vec<Token>,
    slots: Vec<Option<Attacker>>,
    free: Vec<usize>,
    since: Instant,
    due: u64,
    /// Acts that were carried out.
    pub(super) acts: u64,
}

/// What the attackers do, and how often.
struct Tactic {
    beside: Beside,
    /// Between two acts.
    pause: Duration,
    /// Connections that are kept and used in turn; 0: each act is a new one.
    kept: usize,
    script: Script,
    head: Vec<u8>,
    pings: Vec<u8>,
}

enum Attacker {
    Offender(Offender),
    /// Sends this much of the head, and waits for the end.
    Oversize(Transport, usize),
    /// Sends pings once it is in; whether it is.
    Pinging(Opening, bool),
    /// Has sent this much of its head.
    Slow(Transport, usize),
}

impl<'a> Attack<'a> {
    pub(super) fn new(target: &'a Target, beside: Beside) -> Result<Self> {
        let tactic = Tactic::new(beside, target)?;
        let slots = if tactic.kept > 0 { tactic.kept } else { ATTACKERS };
        Ok(Self {
            target,
            tactic,
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            pending: Vec::new(),
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            since: Instant::now(),
            due: 0,
            acts: 0,
        })
    }

    /// One small step: an act that is due, or one event. Small, because honest clients are waited for meanwhile.
    pub(super) fn step(&mut self, now: Instant) -> Result<()> {
        if self.tactic.beside == Beside::Nothing {
            return Ok(());
        }
        if now >= self.since + self.tactic.pause * self.due as u32 {
            self.due += 1;
            self.act();
            return Ok(());
        }
        if self.pending.is_empty() {
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            self.pending.extend(self.events.iter().map(mio::event::Event::token));
        }
        if let Some(Token(slot)) = self.pending.pop() {
            let is_over = self.slots[slot].as_mut().is_some_and(|attacker| attacker.advance(&self.tactic));
            if is_over {
                self.slots[slot] = None;
                self.free.push(slot);
            }
        }
        Ok(())
    }

    fn act(&mut self) {
        if self.tactic.kept > 0 {
            self.act_in_turn();
            return;
        }
        // None is free: the server does not end them as fast as they come. The act is left out, and not counted.
        let Some(slot) = self.free.pop() else { return };
        self.slots[slot] = self.start(slot);
        self.acts += u64::from(self.slots[slot].is_some());
    }

    fn act_in_turn(&mut self) {
        let slot = (self.due % self.slots.len() as u64) as usize;
        match &mut self.slots[slot] {
            None => self.slots[slot] = self.start(slot),
            Some(attacker) => self.acts += u64::from(attacker.go_on(&self.tactic)),
        }
    }

    fn start(&self, slot: usize) -> Option<Attacker> {
        let number = FIRST_SOURCE + slot % (SOURCES - FIRST_SOURCE);
        let token = Token(slot);
        Some(match self.tactic.beside {
            Beside::BadJson | Beside::BadOrigin => {
                Attacker::Offender(Offender::start(self.target, number, &self.poll, token).ok()?)
            }
            Beside::Pings => Attacker::Pinging(Opening::start(self.target, number, &self.poll, token).ok()?, false),
            Beside::OversizeHead => Attacker::Oversize(self.connect(number, token)?, 0),
            Beside::Slowloris => Attacker::Slow(self.connect(number, token)?, 0),
            Beside::Nothing => return None,
        })
    }

    fn connect(&self, number: usize, token: Token) -> Option<Transport> {
        let mut socket = connect(self.target.address, number).ok()?;
        self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).ok()?;
        Transport::new(socket, &self.target.security).ok()
    }
}

impl Tactic {
    fn new(beside: Beside, target: &Target) -> Result<Self> {
        let (per_second, kept) = match beside {
            Beside::Nothing => (1, 0),
            Beside::BadJson | Beside::BadOrigin | Beside::OversizeHead => (1000, 0),
            Beside::Pings => (1000, 20),
            Beside::Slowloris => (10_000, 1000),
        };
        let offence = if beside == Beside::BadOrigin { Offence::BadOrigin } else { Offence::BadJson };
        let mut head = request_head(target.address);
        if beside == Beside::OversizeHead {
            head.truncate(head.len() - b"\r\n".len());
            head.extend(b"X-Padding: ");
            head.resize(OVERSIZE_BYTES, b'a');
        }
        let mut pings = Vec::new();
        (0..PINGS_AT_ONCE).for_each(|_| push(&mut pings, PING, b"attack"));
        let pause = Duration::from_secs(1) / per_second;
        Ok(Self { beside, pause, kept, script: Script::new(offence, target)?, head, pings })
    }
}

impl Attacker {
    /// Goes on after an event; true when it is over, in whatever way.
    fn advance(&mut self, tactic: &Tactic) -> bool {
        match self {
            Self::Offender(offender) => offender.advance(&tactic.script).unwrap_or(true),
            Self::Oversize(transport, sent) => {
                while *sent < tactic.head.len() {
                    match transport.write(&tactic.head[*sent..]) {
                        Ok(written) => *sent += written,
                        Err(_) => break,
                    }
                }
                is_ended(transport)
            }
            Self::Pinging(opening, is_in @ false) => opening.advance(&tactic.head).map(|done| *is_in = done).is_err(),
            Self::Pinging(opening, true) => is_ended(&mut opening.transport),
            Self::Slow(transport, _) => is_ended(transport),
        }
    }

    /// Its turn: how many acts were carried out.
    fn go_on(&mut self, tactic: &Tactic) -> u32 {
        match self {
            Self::Pinging(opening, true) => opening.transport.write(&tactic.pings).map_or(0, |_| PINGS_AT_ONCE),
            Self::Slow(transport, sent) => {
                // Never the end of the head, and never all of it.
                let byte = tactic.head.get(*sent).filter(|_| *sent + 4 < tactic.head.len()).unwrap_or(&b'a');
                let is_sent = transport.write(&[*byte]).is_ok();
                *sent += usize::from(is_sent);
                u32::from(is_sent)
            }
            _ => 0,
        }
    }
}

/// Reads and throws away; true at the end of the connection.
fn is_ended(transport: &mut Transport) -> bool {
    let mut piece = [0; 4096];
    loop {
        match transport.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !is_not_yet(error.kind()),
        }
    }
}
