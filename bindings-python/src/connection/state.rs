//! What Python keeps of a connection: messages that wait for their turn, and who waits for what.

use std::collections::VecDeque;

use pyo3::prelude::*;

use crate::futures::Futures;
use crate::handlers::HandlerKind;
use crate::kept::Kept;
use crate::messages::{CurrentMessage, QueuedMessage};
use crate::pending::{MAX_PENDING_MESSAGES, TIMES_WHILE_ASKING};
use crate::records::Close;

/// How many calls of one connection may be under way.
pub(crate) const MAX_CALLS: usize = 1024;

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, each said once below")]
pub(crate) struct State {
    /// `Connection.data`.
    pub(super) data: Option<Py<PyAny>>,
    /// The `contextvars.Context` that its handlers run in; made when it is first needed.
    pub(super) context: Option<Py<PyAny>>,
    /// How it ended.
    pub(crate) closed: Option<Py<Close>>,
    /// Code and reason that the application closed it with.
    pub(super) closing: Option<(u16, String)>,
    /// `on_close` is to be called.
    pub(crate) close_due: bool,
    /// `on_close` was called.
    pub(crate) close_told: bool,
    /// One of them is being called: those that it registers follow it.
    pub(crate) is_telling: bool,
    /// The kind of its coroutine that runs.
    pub(crate) busy: Option<HandlerKind>,
    /// The tasks that take messages by `recv` or `async for`: handlers get none until these have ended.
    pub(super) readers: Vec<Py<PyAny>>,
    /// A reader that is no task of the loop takes them: nobody can tell when it has ended.
    pub(crate) read_by_others: bool,
    /// A reader took messages while the coroutine of `on_open` ran: the connection ends with that coroutine.
    pub(crate) read_in_open: bool,
    /// A handler failed, the application closed it, or its reading coroutine has returned: what arrives is dropped.
    pub(crate) ended: bool,
    pub(super) pending: VecDeque<(QueuedMessage, Kept)>,
    pub(super) pending_bytes: usize,
    /// The core does not read it, because too much is pending.
    pub(super) paused: bool,
    /// The message that its coroutine handles.
    pub(crate) current: Option<CurrentMessage>,
    /// The peer has not read what was sent.
    pub(crate) queued: bool,
    /// Futures of readers that wait for a message.
    pub(crate) receivers: Futures,
    /// Futures of senders that wait for room in the outbox, and of `wait_closed`.
    pub(crate) waiters: Futures,
    pub(super) last_place: u64,
    /// Futures of the calls that are under way, by the numbers of their ids.
    pub(crate) calls: Futures,
    pub(super) last_call: u64,
    /// How many tasks wait for a pong.
    pub(super) waiting_pings: usize,
    /// The pings that have no answer yet, in their order: futures, and functions to call.
    pub(crate) pings: VecDeque<(Pinged, Py<PyAny>)>,
    /// Called when it has ended, before `on_close`.
    pub(crate) ends: VecDeque<Py<PyAny>>,
}

/// What a pong does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinged {
    /// It resolves a future.
    Future,
    /// It calls a function.
    Handler,
}

/// What the core is to do after messages were queued or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AsBefore,
    Pause,
    Resume,
}

/// What a connection releases when it is over.
#[derive(Debug)]
pub(crate) struct Released {
    pub(crate) pending: VecDeque<(QueuedMessage, Kept)>,
    pub(crate) receivers: Futures,
    pub(crate) reading: Reading,
}

impl State {
    /// Queues a message; from `max_bytes` on the connection pauses.
    pub(crate) fn push(&mut self, message: QueuedMessage, kept: Kept, max_bytes: usize) -> Reading {
        self.pending_bytes += kept.bytes();
        self.pending.push_back((message, kept));
        if !self.paused && self.is_full(max_bytes) {
            self.paused = true;
            return Reading::Pause;
        }
        Reading::AsBefore
    }

    /// Returns true if no more is to be read. The answer to a call or a ping is behind what the peer has sent before: while
    /// one is under way more is read.
    fn is_full(&self, max_bytes: usize) -> bool {
        let times = if self.calls.is_empty() && self.waiting_pings == 0 { 1 } else { TIMES_WHILE_ASKING };
        self.pending.len() >= times * MAX_PENDING_MESSAGES || self.pending_bytes >= max_bytes.saturating_mul(times)
    }

    /// After a call or a ping has begun: a connection that paused before is read again, as far as there is room.
    pub(crate) fn read_for_answer(&mut self, max_bytes: usize) -> Reading {
        if self.paused && !self.is_full(max_bytes) {
            self.paused = false;
            return Reading::Resume;
        }
        Reading::AsBefore
    }

    /// A task waits for a pong.
    pub(crate) fn begin_ping(&mut self) {
        self.waiting_pings += 1;
    }

    /// A task waits no more for a pong.
    pub(crate) fn end_ping(&mut self) {
        self.waiting_pings = self.waiting_pings.saturating_sub(1);
    }

    /// Takes the next message; below half of `max_bytes` the connection resumes.
    pub(crate) fn pop(&mut self, max_bytes: usize) -> Option<(QueuedMessage, Kept, Reading)> {
        let (message, kept) = self.pending.pop_front()?;
        self.pending_bytes -= kept.bytes();
        let few = self.pending.len() <= MAX_PENDING_MESSAGES / 2 && self.pending_bytes <= max_bytes / 2;
        if self.paused && few {
            self.paused = false;
            return Some((message, kept, Reading::Resume));
        }
        Some((message, kept, Reading::AsBefore))
    }

    /// Returns true if `recv` or `async for` take its messages.
    pub(crate) fn is_iterated(&self) -> bool {
        self.read_by_others || !self.readers.is_empty()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns true if its readers get nothing more.
    pub(crate) fn is_over(&self) -> bool {
        self.pending.is_empty() && (self.closed.is_some() || self.ended)
    }

    /// The number of the next future.
    pub(crate) fn next_place(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }

    /// Notes a call that is under way, and returns its number; `None`: there are [`MAX_CALLS`].
    pub(crate) fn begin_call(&mut self, future: Py<PyAny>) -> Result<u64, Py<PyAny>> {
        if self.calls.len() >= MAX_CALLS {
            return Err(future);
        }
        self.last_call += 1;
        self.calls.insert(self.last_call, future);
        Ok(self.last_call)
    }

    /// The number of the call that an id is of, perhaps one whose time is over.
    pub(crate) fn call_of(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix("\"s")?.strip_suffix('"')?;
        let number = number.parse().ok().filter(|known: &u64| known.to_string() == number)?;
        (1..=self.last_call).contains(&number).then_some(number)
    }

    pub(crate) fn is_read_by(&self, task: &Bound<'_, PyAny>) -> bool {
        self.readers.iter().any(|reader| reader.is(task))
    }

    /// Removes a task from the readers. The caller drops what is returned.
    pub(crate) fn remove_reader(&mut self, task: *mut pyo3::ffi::PyObject) -> Option<Py<PyAny>> {
        let place = self.readers.iter().position(|reader| reader.as_ptr() == task)?;
        Some(self.readers.swap_remove(place))
    }

    /// Releases what waits: nothing of it is handled any more. The core reads on, for the peer's close frame.
    pub(super) fn release(&mut self) -> Released {
        self.ended = true;
        self.pending_bytes = 0;
        let reading = if std::mem::take(&mut self.paused) { Reading::Resume } else { Reading::AsBefore };
        let pending = std::mem::take(&mut self.pending);
        Released { pending, receivers: std::mem::take(&mut self.receivers), reading }
    }
}
