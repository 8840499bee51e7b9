//! Events on their way to the application: records and two arenas per batch, swapped whole.

use std::net::IpAddr;
use std::sync::Arc;

use super::ids::ConnectionId;
use super::tickets::{Place, TicketId};
use crate::codec::Opcode;
use crate::config::Policy;
use crate::connection::{Ending, Message};
use crate::contract::{EventIndex, Status};
use crate::handshake::UpgradeRequest;
use crate::verdict::Code;

/// A handshake that asks the application (`auth: "callback"`): answer its ticket exactly once.
#[derive(Debug)]
pub struct Upgrade {
    /// What to answer.
    pub ticket: TicketId,
    /// What the peer sent.
    pub request: UpgradeRequest,
    /// Its place among `max_pending_auth`: given back when the application has let this go, and the peer is answered.
    pub(super) _place: Arc<Place>,
}

/// A connection that was authenticated and upgraded.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its id.
    pub conn: ConnectionId,
    /// The ticket it was accepted by, with `auth: "callback"`.
    pub ticket: Option<TicketId>,
    /// The client's address; `None` on a Unix socket without a proxy.
    pub ip: Option<IpAddr>,
    /// The user, where authentication names one.
    pub user: Option<Arc<str>>,
    /// The request path.
    pub path: Box<str>,
    /// The subprotocol of the 101.
    pub subprotocol: Option<Box<str>>,
}

/// A valid message of the `json` protocol.
#[derive(Clone, Copy, Debug)]
pub struct JsonMessage<'b> {
    /// Who sent it.
    pub conn: ConnectionId,
    /// The event.
    pub event: &'b str,
    /// Its data as JSON text; `null` when absent.
    pub data: &'b str,
    /// The id to reply to, as JSON text (a string or an integer).
    pub id: Option<&'b str>,
    /// The peer's status.
    pub status: Option<Status>,
    /// Payload bytes of the whole message.
    pub bytes: usize,
}

/// A connection that ended.
#[derive(Clone, Copy, Debug)]
pub struct Close<'b> {
    /// Which.
    pub conn: ConnectionId,
    /// The close code: ours when we closed, else the peer's; 1005 for an empty close frame, 1006 when it broke.
    pub code: u16,
    /// The reason with it.
    pub reason: &'b str,
    /// Whether both sides sent a close frame.
    pub clean: bool,
}

/// A verdict against a peer. A flood of them is sampled; `Stats` counts every one.
#[derive(Clone, Debug)]
pub struct ViolationEvent {
    /// The verdict.
    pub code: Code,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The user, after authentication.
    pub user: Option<Arc<str>>,
    /// The connection, after the 101.
    pub conn: Option<ConnectionId>,
    /// The event of the message, escaped and cut to 64 characters.
    pub event: Option<Box<str>>,
}

/// One event.
#[derive(Debug)]
pub enum Event<'b> {
    /// A handshake asks.
    Upgrade(&'b Upgrade),
    /// A connection opened.
    Open(&'b Open),
    /// A text message (`raw`).
    Text(ConnectionId, &'b str),
    /// A binary message (`raw`).
    Binary(ConnectionId, &'b [u8]),
    /// A message (`json`).
    Message(JsonMessage<'b>),
    /// A connection ended; its id is stale from here on.
    Close(Close<'b>),
    /// A rule was broken.
    Violation(&'b ViolationEvent),
    /// An outbox that held unsent bytes when a send answered `Queued` is empty again.
    Drained(ConnectionId),
}

impl Event<'_> {
    /// The connection it belongs to.
    pub fn conn(&self) -> Option<ConnectionId> {
        match self {
            Event::Upgrade(_) => None,
            Event::Open(open) => Some(open.conn),
            Event::Text(conn, _) | Event::Binary(conn, _) | Event::Drained(conn) => Some(*conn),
            Event::Message(message) => Some(message.conn),
            Event::Close(close) => Some(close.conn),
            Event::Violation(violation) => violation.conn,
        }
    }
}

/// A range of an arena.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const NONE: Span = Span { start: u32::MAX, len: 0 };

    fn range(self) -> core::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

#[derive(Debug)]
enum Record {
    Upgrade(Box<Upgrade>),
    Open(Box<Open>),
    Text(ConnectionId, Span),
    Binary(ConnectionId, Span),
    Message {
        conn: ConnectionId,
        index: Option<EventIndex>,
        event: Span,
        data: Span,
        id: Span,
        bytes: u32,
        status: Option<Status>,
    },
    Close {
        conn: ConnectionId,
        code: u16,
        reason: Span,
        clean: bool,
    },
    Violation(Box<ViolationEvent>),
    Drained(ConnectionId),
}

/// Kinds of events, as bits.
pub(super) mod kind {
    pub(in crate::driver) const OPEN: u8 = 1;
    pub(in crate::driver) const CLOSE: u8 = 2;
    pub(in crate::driver) const VIOLATION: u8 = 4;
    /// What an application always hears of.
    pub(in crate::driver) const OTHER: u8 = 8;
}

/// A batch of events, in the order they happened on one shard.
///
/// Give the same batch to [`Events::next`](super::Events::next) again: its buffers are reused.
#[derive(Debug, Default)]
pub struct EventBatch {
    records: Vec<Record>,
    text: String,
    binary: Vec<u8>,
    policy: Option<Arc<Policy>>,
    /// The [`kind`]s that it holds.
    pub(super) kinds: u8,
    /// Which batch of its shard this is; counts up.
    pub(super) sequence: u64,
    pub(super) shard: usize,
}

/// How much of a buffer that held `used` bytes is kept for the next batch: what a steady load needs again is not freed
/// in between, what a burst needed is.
pub(super) fn kept_bytes(used: usize) -> usize {
    (2 * used).clamp(1 << 20, 8 << 20)
}

impl EventBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn of_shard(shard: usize, policy: &Arc<Policy>) -> Self {
        Self { policy: Some(Arc::clone(policy)), sequence: 1, shard, ..Self::default() }
    }

    pub(super) fn belongs_to(&self, policy: &Arc<Policy>) -> bool {
        self.policy.as_ref().is_some_and(|own| Arc::ptr_eq(own, policy))
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The memory its events stand for: what `max_inbox_bytes` counts.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.binary.len() + self.records.len() * size_of::<Record>()
    }

    /// Empties it; buffers stay unless they are large.
    pub(super) fn clear(&mut self) {
        let kept = [self.records.len() * size_of::<Record>(), self.text.len(), self.binary.len()].map(kept_bytes);
        self.records.clear();
        self.kinds = 0;
        self.text.clear();
        self.binary.clear();
        self.records.shrink_to(kept[0] / size_of::<Record>());
        self.text.shrink_to(kept[1]);
        self.binary.shrink_to(kept[2]);
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.records.iter().map(|record| self.event(record))
    }

    /// The event at `index`, oldest first.
    pub fn get(&self, index: usize) -> Option<Event<'_>> {
        self.records.get(index).map(|record| self.event(record))
    }

    fn event<'b>(&'b self, record: &'b Record) -> Event<'b> {
        match record {
            Record::Upgrade(upgrade) => Event::Upgrade(upgrade),
            Record::Open(open) => Event::Open(open),
            Record::Text(conn, span) => Event::Text(*conn, &self.text[span.range()]),
            Record::Binary(conn, span) => Event::Binary(*conn, &self.binary[span.range()]),
            Record::Message { conn, index, event, data, id, bytes, status } => Event::Message(JsonMessage {
                conn: *conn,
                event: match (index, &self.policy) {
                    (Some(index), Some(policy)) => policy.contract.event(*index).name(),
                    _ => &self.text[event.range()],
                },
                data: &self.text[data.range()],
                id: (id.start != Span::NONE.start).then(|| &self.text[id.range()]),
                status: *status,
                bytes: *bytes as usize,
            }),
            Record::Close { conn, code, reason, clean } => {
                Event::Close(Close { conn: *conn, code: *code, reason: &self.text[reason.range()], clean: *clean })
            }
            Record::Violation(violation) => Event::Violation(violation),
            Record::Drained(conn) => Event::Drained(*conn),
        }
    }

    fn keep_text(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, len: text.len() as u32 }
    }

    fn push(&mut self, kind: u8, record: Record) {
        self.kinds |= kind;
        self.records.push(record);
    }

    pub(super) fn push_upgrade(&mut self, upgrade: Upgrade) {
        self.push(kind::OTHER, Record::Upgrade(Box::new(upgrade)));
    }

    pub(super) fn push_open(&mut self, open: Open) {
        self.push(kind::OPEN, Record::Open(Box::new(open)));
    }

    pub(super) fn push_violation(&mut self, violation: ViolationEvent) {
        self.push(kind::VIOLATION, Record::Violation(Box::new(violation)));
    }

    pub(super) fn push_drained(&mut self, conn: ConnectionId) {
        self.push(kind::OTHER, Record::Drained(conn));
    }

    pub(super) fn push_close(&mut self, conn: ConnectionId, ending: &Ending) {
        let reason = self.keep_text(&ending.reason);
        self.push(kind::CLOSE, Record::Close { conn, code: ending.code, reason, clean: ending.clean });
    }

    pub(super) fn push_message(&mut self, conn: ConnectionId, message: &Message<'_>) {
        let record = match message {
            Message::Raw { opcode: Opcode::Text, payload } => {
                // Valid UTF-8 is the codec's promise; a lossless copy keeps this free of `unsafe`.
                let text = simdutf8::basic::from_utf8(payload).unwrap_or_default();
                Record::Text(conn, self.keep_text(text))
            }
            Message::Raw { payload, .. } => {
                let start = self.binary.len() as u32;
                self.binary.extend_from_slice(payload);
                Record::Binary(conn, Span { start, len: payload.len() as u32 })
            }
            Message::Event { envelope, bytes } => Record::Message {
                conn,
                index: envelope.index,
                event: if envelope.index.is_some() { Span::NONE } else { self.keep_text(&envelope.event) },
                data: self.keep_text(envelope.data),
                id: envelope.id.map_or(Span::NONE, |id| self.keep_text(id)),
                bytes: *bytes as u32,
                status: envelope.status,
            },
        };
        self.push(kind::OTHER, record);
    }
}
