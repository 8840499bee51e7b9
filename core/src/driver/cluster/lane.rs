//! What was asked on one connection and is not answered yet, in its order.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wsguard_proto::cluster::pacing::Long;
use wsguard_proto::cluster::resp::{Received, encode};
use wsguard_proto::cluster::store::{Command, Value};

use super::link::Link;

/// Without an answer for so long a connection is taken for broken.
const PATIENCE: Duration = Duration::from_secs(1);
/// What has come within that time is read within this one.
const GRACE: Duration = Duration::from_millis(20);
/// A connection that says nothing for so long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(1);
/// Commands, or bytes of them, that are written at once.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// A command on its way.
pub(super) struct Awaited {
    /// The op it belongs to, and which of its commands it is; `None`: nobody waits for the answer.
    pub(super) of: Option<(u64, usize)>,
    pub(super) command: Command,
    /// How often it was sent elsewhere.
    pub(super) redirections: u8,
    /// How often its keys were on two servers.
    pub(super) tries: u8,
}

impl Awaited {
    pub(super) fn plain(name: &'static str, keys: Vec<Vec<u8>>) -> Self {
        Self { of: None, command: Command { script: None, name, keys, args: Vec::new() }, redirections: 0, tries: 0 }
    }

    pub(super) fn size(&self) -> usize {
        let words = self.command.keys.iter().chain(&self.command.args);
        words.map(Vec::len).sum::<usize>() + 64
    }

    /// Whether a push confirms this: its kind is the command, and it is about the same channel.
    fn is_confirmed_by(&self, push: &[Value]) -> bool {
        let [Value::Bytes(kind), Value::Bytes(channel), ..] = push else { return false };
        self.command.name.as_bytes().eq_ignore_ascii_case(kind) && self.command.keys.first() == Some(channel)
    }
}

/// A connection and its commands.
pub(super) struct Lane {
    link: Link,
    waiting: VecDeque<(Awaited, Instant)>,
    out: Vec<u8>,
    unwritten: usize,
    heard: Instant,
    /// What is behind a long command is late.
    long: Long,
    /// Since when an answer is overdue.
    late: Option<Instant>,
}

/// What comes out of a lane.
pub(super) enum Event {
    Answered(Awaited, Value),
    /// What no command asked for.
    Pushed(Vec<Value>),
}

impl Lane {
    pub(super) fn new(link: Link, now: Instant) -> Self {
        Self {
            link,
            waiting: VecDeque::new(),
            out: Vec::new(),
            unwritten: 0,
            heard: now,
            long: Long::default(),
            late: None,
        }
    }

    /// Sends a command; it is written with others by [`flush`](Self::flush).
    pub(super) fn send(&mut self, awaited: Awaited, now: Instant) {
        encode(awaited.command.words(), &mut self.out);
        self.sent(awaited, now);
    }

    /// Sends a script whole, for a server that does not know it by its SHA-1.
    pub(super) fn send_whole(&mut self, awaited: Awaited, now: Instant) {
        let Awaited { command, .. } = &awaited;
        let text = command.script.map_or("", |script| script.text);
        let head = [b"EVAL".into(), text.as_bytes().into(), command.keys.len().to_string().into_bytes().into()];
        let rest = command.keys.iter().chain(&command.args).map(|word| Cow::Borrowed(&word[..]));
        encode(head.into_iter().chain(rest), &mut self.out);
        self.sent(awaited, now);
    }

    fn sent(&mut self, awaited: Awaited, now: Instant) {
        self.long.sent(awaited.size());
        self.waiting.push_back((awaited, now));
        self.unwritten += 1;
        if self.unwritten >= MAX_BATCH || self.out.len() >= MAX_BATCH_BYTES {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        self.unwritten = 0;
        if !self.out.is_empty() {
            self.link.send(core::mem::take(&mut self.out));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next thing that came, or why nothing comes any more.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<Event, String>> {
        self.link.poll_receive(cx).map(|received| {
            (self.heard, self.late) = (now, None);
            let is_confirmation =
                |push: &[Value]| self.waiting.front().is_some_and(|(awaited, _)| awaited.is_confirmed_by(push));
            let value = match received? {
                Received::Push(push) if is_confirmation(&push) => Value::Nil,
                Received::Push(push) => return Ok(Event::Pushed(push)),
                Received::Answer(value) => value,
            };
            let (awaited, _) = self.waiting.pop_front().ok_or("the server answers what nobody asked")?;
            self.long.answered(awaited.size());
            Ok(Event::Answered(awaited, value))
        })
    }

    /// Whether the server answers. A quiet one is asked.
    pub(super) fn tend(&mut self, now: Instant) -> Result<(), String> {
        if self.deadline() > now {
            return Ok(());
        }
        if !self.waiting.is_empty() {
            // This thread may have been what was late: an answer that is there already is read first.
            if self.late.replace(self.late.unwrap_or(now)).is_none() {
                return Ok(());
            }
            return Err(format!("no answer within {} ms", PATIENCE.as_millis()));
        }
        self.send(Awaited::plain("PING", Vec::new()), now);
        self.flush();
        Ok(())
    }

    /// When [`tend`](Self::tend) is due.
    pub(super) fn deadline(&self) -> Instant {
        let sent = self.waiting.front().map(|(_, sent)| *sent);
        self.late
            .map(|since| since + GRACE)
            .or(sent.map(|sent| sent + PATIENCE + Duration::from_millis(self.long.grace_ms())))
            .unwrap_or(self.heard + QUIET)
    }

    /// The connection itself, while nothing is on its way.
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
