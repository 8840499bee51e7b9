//! An open connection: what is sent on it, and everything that comes back, within bounds.

use std::time::{Duration, Instant};

use super::frame::{self, PING, PONG, TEXT};
use super::head::Answer;
use super::limits::Purse;
use super::seen::{End, Seen};
use crate::wire::{Got, Wire};

/// How much is sent before what came meanwhile is looked at. A close frame that is not read before the server's reset is lost.
const PIECE: usize = 64 * 1024;

/// How much of a server's bytes one connection reads.
const MOST: usize = 64 * 1024 * 1024;

pub(crate) struct Visit<'e> {
    wire: Wire,
    purse: &'e Purse,
    reader: frame::Reader,
    read: usize,
    buffer: Vec<u8>,
    opened: Instant,
    /// Whether pings of the server are answered, as an honest client's library does by itself.
    pub(crate) answers: bool,
    pub(crate) seen: Seen,
    pub(crate) answer: Answer,
    /// The round trip of the control.
    pub(crate) round_trip: Duration,
}

/// What the control on a new connection said.
pub(crate) enum Control {
    /// The server answered a ping.
    Alive,
    /// It ended the connection before.
    Ended(String),
    /// Nothing came.
    Mute,
}

impl<'e> Visit<'e> {
    /// After the 101; `rest` is what came behind it.
    pub(crate) fn new(wire: Wire, purse: &'e Purse, answer: Answer, rest: &[u8]) -> Self {
        let mut visit = Self {
            wire,
            purse,
            reader: frame::Reader::default(),
            read: 0,
            buffer: vec![0; PIECE],
            opened: Instant::now(),
            answers: true,
            seen: Seen::default(),
            answer,
            round_trip: Duration::ZERO,
        };
        visit.take(rest.to_vec().as_slice());
        visit
    }

    /// How long ago it was let in.
    pub(crate) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.read += bytes.len();
        let seen = &mut self.seen;
        if let Err(what) = self.reader.take(bytes, |frame| seen.note(&frame)) {
            self.seen.end.get_or_insert(End::Garbage(what));
        }
        if self.read > MOST || !self.purse.bytes(bytes.len()) {
            self.seen.end.get_or_insert(End::TooMuch);
        }
    }

    /// Reads until something holds, the connection is over, or time is up. Pings are answered here, where no frame is half sent.
    pub(crate) fn wait(&mut self, within: Duration, until: impl Fn(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + self.purse.within(within);
        while !until(&self.seen) {
            self.answer_pings();
            if self.seen.is_over() {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.read_once(left);
        }
        true
    }

    /// The last ping alone is enough (RFC 6455, section 5.5.3). Many servers close a connection that answers none, whatever else
    /// comes on it: that would look like a refusal of what is examined.
    fn answer_pings(&mut self) {
        if !self.answers || self.seen.is_over() {
            return;
        }
        if let Some(ping) = self.seen.owed.take() {
            self.send(&frame::masked(PONG, &ping[..ping.len().min(125)]));
        }
    }

    fn read_once(&mut self, within: Duration) {
        let mut buffer = std::mem::take(&mut self.buffer);
        match self.wire.read(&mut buffer, within) {
            Got::Bytes(count) => self.take(&buffer[..count]),
            Got::Nothing => {}
            Got::End(end) => _ = self.seen.end.get_or_insert(end),
        }
        self.buffer = buffer;
    }

    /// Sends bytes, as far as the server takes them; what comes meanwhile is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if self.seen.is_over() {
                return;
            }
            if !self.purse.bytes(piece.len()) {
                self.seen.end = Some(End::TooMuch);
                return;
            }
            if let Err(end) = self.wire.write(piece, self.purse.within(Duration::from_secs(5))) {
                // What the server said before it left may still be there.
                self.read_once(Duration::from_millis(50));
                self.seen.end.get_or_insert(end);
                return;
            }
            if bytes.len() > PIECE {
                self.read_once(Duration::from_millis(1));
            }
        }
    }

    /// Sends one piece after another at a rate, and reads in between.
    pub(crate) fn send_paced(&mut self, piece: &[u8], count: u32, per_second: u32) {
        let began = Instant::now();
        for sent in 0..count {
            let due = began + Duration::from_secs(1) * sent / per_second;
            // In groups: a sleep of less than some milliseconds is none.
            if sent % 10 == 0 {
                self.wait(due.saturating_duration_since(Instant::now()), |_| false);
            }
            self.send(piece);
            if self.seen.is_over() {
                return;
            }
        }
    }

    /// Pings, and waits for the answer.
    pub(crate) fn ping(&mut self, tag: &str, within: Duration) -> Option<Duration> {
        let began = Instant::now();
        self.send(&frame::masked(PING, tag.as_bytes()));
        self.wait(within, |seen| seen.answered(tag)).then(|| began.elapsed())
    }

    /// The ping behind whatever is examined. After its answer the application gets time to end the connection; an answer of its own
    /// (one of `answers` more messages) says that it will not.
    pub(crate) fn ping_behind(&mut self, tag: &str, within: Duration, answers: u64) {
        let enough = self.seen.messages + answers;
        if self.ping(tag, within).is_some() {
            let grace = self.grace(within);
            self.wait(grace, |seen| answers > 0 && seen.messages >= enough);
        }
    }

    /// Whether the server lets one stay, and how long an honest round trip takes. Socket.IO lets a client in by a message of its own.
    pub(crate) fn control(&mut self, socket_io: Option<&str>, within: Duration) -> Control {
        if let Some(connect) = socket_io {
            self.send(&frame::masked(TEXT, connect.as_bytes()));
            let answered = |text: &String| text.starts_with("40") || text.starts_with("44");
            self.wait(within, |seen| seen.texts.iter().any(answered));
            if let Some(refusal) = self.seen.texts.iter().find(|text| text.starts_with("44")) {
                return Control::Ended(format!("Socket.IO refused: {}", super::text::shown(refusal)));
            }
        }
        match self.ping("wsguard-audit control", within) {
            Some(round_trip) => {
                self.round_trip = round_trip;
                Control::Alive
            }
            None => self.seen.ending().map_or(Control::Mute, Control::Ended),
        }
    }

    /// How long a refusal may take: much longer than an honest round trip did, and never shorter than a busy machine needs.
    pub(crate) fn grace(&self, longest: Duration) -> Duration {
        (self.round_trip * 20).max(Duration::from_millis(1500)).min(longest)
    }
}
