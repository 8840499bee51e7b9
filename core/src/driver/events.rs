//! Events on their way to the application: records and two arenas per batch, swapped whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::arena::{Span, growth, kept_bytes};
use super::handshake_id::HandshakeId;
use super::ids::ConnectionId;
use super::inbox::{Inbox, Taken};
use super::pipe_id::PipeId;
use super::telling::Told;
use super::tickets::{Permit, TicketId};
use crate::raw_json::RawJson;
use wsguard_proto::codec::FrameFault;
use wsguard_proto::config::Params;
use wsguard_proto::connection::{Beginning, Ending, Message};
use wsguard_proto::contract::{Contract, EventIndex, Status};
use wsguard_proto::handshake::{Pairs, TlsFacts, UpgradeRequest};
use wsguard_proto::roles::Roles;
use wsguard_proto::time::Moment;
use wsguard_proto::verdict::Code;

/// A handshake that asks the application (`auth: "callback"`, or [`Builder::consult`](super::Builder::consult)): answer its ticket
/// exactly once.
///
/// What follows is an [`Open`] with its ticket, [`Event::UpgradeGone`], or nothing where the application has refused it.
#[derive(Debug)]
pub struct Upgrade {
    /// Its id in the log, `hs=`.
    pub id: HandshakeId,
    /// What to answer.
    pub ticket: TicketId,
    /// What the peer sent.
    pub request: UpgradeRequest,
    /// Who it is, where the server itself has found that out; the answer leaves it so. `None` with `auth: "callback"`.
    pub identity: Option<GrantedIdentity>,
    /// The address that the connection came in on; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// The client's port; `None` where a proxy does not tell it.
    pub port: Option<u16>,
    /// The tag of its adoption.
    pub adopted: Option<u64>,
    /// Its place among `max_pending_auth`: given back when the application has released this, and the peer is answered.
    pub(super) _permit: Arc<Permit>,
}

/// Who a peer is, by its credential.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantedIdentity {
    /// The user, where authentication names one.
    pub user: Option<String>,
    /// Its roles.
    pub roles: Roles,
    /// When its session ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// With `auth.jwt`, the claims of its verified token: a JSON object as text, at most 8 KiB.
    pub claims: Option<Box<str>>,
}

impl GrantedIdentity {
    /// What it owns beside itself.
    fn heap_bytes(&self) -> usize {
        let claims = self.claims.as_ref().map_or(0, |claims| claims.len());
        self.user.as_ref().map_or(0, String::capacity) + self.roles.bytes() + claims
    }
}

/// Without the claims.
impl core::fmt::Debug for GrantedIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GrantedIdentity")
            .field("user", &self.user)
            .field("roles", &self.roles)
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// A connection that was authenticated and upgraded.
#[derive(Clone)]
#[non_exhaustive]
pub struct Open {
    /// Its id in the log, `hs=`.
    pub id: HandshakeId,
    /// Its id.
    pub conn: ConnectionId,
    /// The ticket it was accepted by, where the application was asked.
    pub ticket: Option<TicketId>,
    /// The tag of its adoption.
    pub adopted: Option<u64>,
    /// What the application's accept gave it.
    pub tag: Option<u64>,
    /// The client's address; `None` on a Unix socket without a proxy.
    pub ip: Option<IpAddr>,
    /// The user, where authentication names one.
    pub user: Option<Arc<str>>,
    /// Its roles: of the token, of the JWT's `roles_claim`, or what `accept` said.
    pub roles: Roles,
    /// The request path.
    pub path: Box<str>,
    /// The route that the path is of, as `routes` writes it.
    pub route: Option<Arc<str>>,
    /// The parameters of the path, percent-decoded: those that a pattern such as `/room/{name}` names.
    pub params: Params,
    /// The subprotocol of the 101.
    pub subprotocol: Option<Box<str>>,
    /// Messages may be compressed in both directions: permessage-deflate was agreed on.
    pub compressed: bool,
    /// When its session ends, in milliseconds since 1970: `exp` of its JWT, what `accept` said, or `max_session_ms` from now,
    /// whichever is first. `None` when it does not end.
    pub expires_at_ms: Option<u64>,
    /// When its credential ends, whatever `max_session_ms` is: a reload cannot move this.
    pub credential_ends_at_ms: Option<u64>,
    /// Its `Origin`, `Host` or credential would have been refused, if `report_handshakes` were off: nothing that the application
    /// has kept with its accept says who this is.
    pub reported: bool,
    /// The last revocation when it was let in, by the numbers that
    /// [`ServerHandle::disconnect_user`](super::ServerHandle::disconnect_user) returns.
    pub granted: u64,
    /// The query of the request without `?`, as sent but for the parameters that `token_sources` names.
    pub query: Option<Box<str>>,
    /// The headers that `keep_headers` names, in lower case, in the order received.
    pub headers: Pairs,
    /// The cookies that `keep_cookies` names, in the order received.
    pub cookies: Pairs,
    /// The `Origin` of the request.
    pub origin: Option<Box<str>>,
    /// With `auth.jwt`, the claims of its verified token: a JSON object as text, at most 8 KiB.
    pub claims: Option<Box<str>>,
    /// The peer of the socket: the client, or a proxy before it. `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address that it came in on; `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// The client's port; `None` where a proxy does not tell it.
    pub port: Option<u16>,
    /// Its TLS, where this server does it.
    pub tls: Option<Box<TlsFacts>>,
    /// When it opened, in milliseconds since the Unix epoch.
    pub opened_at_ms: u64,
}

impl Open {
    /// What it owns beside itself.
    fn heap_bytes(&self) -> usize {
        let texts = [&self.subprotocol, &self.query, &self.origin, &self.claims];
        let texts = texts.into_iter().flatten().map(|text| text.len()).sum::<usize>();
        let pairs = self.headers.iter().chain(&self.cookies);
        let pairs = pairs.map(|pair| size_of_val(pair) + pair.0.len() + pair.1.len()).sum::<usize>();
        let params = self.params.iter().map(|(_, value)| size_of::<(Arc<str>, String)>() + value.len()).sum::<usize>();
        let tls = self.tls.as_ref().map_or(0, |tls| size_of::<TlsFacts>() + tls.bytes());
        self.path.len() + self.roles.bytes() + texts + pairs + params + tls
    }
}

/// Without what the peer sent: query, headers, cookies and claims say who somebody is.
impl core::fmt::Debug for Open {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Open")
            .field("conn", &self.conn)
            .field("ip", &self.ip)
            .field("user", &self.user)
            .field("roles", &self.roles)
            .field("path", &self.path)
            .field("subprotocol", &self.subprotocol)
            .finish_non_exhaustive()
    }
}

/// A valid message of the `json` protocol.
#[derive(Clone, Copy, Debug)]
pub struct JsonMessage<'b> {
    /// The connection that sent it.
    pub conn: ConnectionId,
    /// The event.
    pub event: &'b str,
    /// Its data; `null` when absent.
    pub data: RawJson<'b>,
    /// The id to reply to, as JSON text (a string or an integer).
    pub id: Option<&'b str>,
    /// The peer's status.
    pub status: Option<Status>,
    /// Payload bytes of the whole message.
    pub bytes: usize,
    /// The generation of the policy that has judged it: a reload may have come since. 0: no contract knows the event.
    pub generation: u64,
}

/// A connection that ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Close<'b> {
    /// The connection.
    pub conn: ConnectionId,
    /// The close code: ours when we closed, else the peer's; 1005 for an empty close frame, 1006 when it broke.
    pub code: u16,
    /// The reason with it.
    pub reason: &'b str,
    /// Whether both sides sent a close frame.
    pub clean: bool,
    /// The verdict that closed it; `None`: the peer or the application did, or the connection broke.
    pub verdict: Option<Code>,
    /// The rule of framing that the peer broke, where that ended it.
    pub fault: Option<FrameFault>,
    /// What of the frame broke it, where that is a number: the opcode, the length that a control frame announced (126 stands for
    /// two bytes of length, 127 for eight), or the close code.
    pub fault_value: Option<u16>,
    /// The code of the peer's own close frame, whoever closed first; 1005 for an empty one. `None`: there was none, or it may
    /// not be sent, or what came before it is no framing that could be followed.
    pub peer_code: Option<u16>,
    /// The reason in the peer's own close frame.
    pub peer_reason: &'b str,
}

/// How a connection has begun to close.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Closing {
    /// The connection.
    pub conn: ConnectionId,
    /// As [`Close::fault`], which tells it again.
    pub fault: Option<FrameFault>,
    /// As [`Close::fault_value`].
    pub fault_value: Option<u16>,
}

/// A verdict against a peer. A flood of them is sampled; `Stats` counts every one.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
    /// What was wrong, in the words of the log record: at most 256 characters, none of them a control character.
    pub detail: Box<str>,
    /// Rules only report (`on_violation`, `report_handshakes`): it is what enforcing them would have refused.
    pub reported: bool,
}

/// One event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'b> {
    /// A handshake asks.
    Upgrade(&'b Upgrade),
    /// A handshake that asked is over without a connection, and not because it was refused by the application: the peer left, its
    /// time was over, its place went to another, a limit was reached, the answer could not be sent, or the server ended.
    UpgradeGone(TicketId),
    /// A connection opened.
    Open(&'b Open),
    /// A text message (`raw`).
    Text(ConnectionId, &'b str),
    /// A binary message (`raw`).
    Binary(ConnectionId, &'b [u8]),
    /// A message (`json`).
    Message(JsonMessage<'b>),
    /// A connection has begun to close, and no message of it follows, though its close frame or its answers may still be on their
    /// way: only where [`ServerHandle::heed_closing`](super::ServerHandle::heed_closing) asks for it, and where the end is not
    /// certain at the same moment. It names the rule of framing that the peer broke. What is sent now may not reach the peer.
    Closing(Closing),
    /// A connection ended; its id is stale from here on.
    Close(Close<'b>),
    /// A rule was broken.
    Violation(&'b ViolationEvent),
    /// A ping of the peer, with its payload: only where [`ServerHandle::heed_control`](super::ServerHandle::heed_control) asks for it.
    PingFrame(ConnectionId, &'b [u8]),
    /// A pong of the peer, so told.
    PongFrame(ConnectionId, &'b [u8]),
    /// All that was said to a connection up to its last send that answered `Queued` is written.
    Drained(ConnectionId),
    /// The peer has answered a ping of the application: one event for each, in the order of the pings.
    Pong {
        /// The connection.
        conn: ConnectionId,
        /// The time from the ping to its answer, by the server's clock.
        rtt: Duration,
    },
    /// Bytes for the peer, or the end, wait in a pipe: [`Pipe::take`](super::Pipe::take). Told once until all was taken; also of a
    /// pipe that the application has let go meanwhile.
    PipeReady(PipeId),
    /// A pipe on which [`push`](super::Pipe::push) answered `false` has room again. Not told where the connection has ended:
    /// [`PipeReady`](Self::PipeReady) is, and `take` says so.
    PipeRoom(PipeId),
    /// There will be no connection of an adoption that has a tag.
    AdoptionEnded {
        /// The tag.
        tag: u64,
        /// The verdict that it was refused by. `None`: the peer left, it was a health check, or nobody was there to answer it.
        code: Option<Code>,
        /// The status of the answer; 0: there was none.
        status: u16,
    },
}

impl Event<'_> {
    /// The connection it belongs to.
    pub fn conn(&self) -> Option<ConnectionId> {
        match self {
            Event::Upgrade(_)
            | Event::UpgradeGone(_)
            | Event::PipeReady(_)
            | Event::PipeRoom(_)
            | Event::AdoptionEnded { .. } => None,
            Event::Open(open) => Some(open.conn),
            Event::Text(conn, _)
            | Event::Binary(conn, _)
            | Event::PingFrame(conn, _)
            | Event::PongFrame(conn, _)
            | Event::Drained(conn)
            | Event::Pong { conn, .. } => Some(*conn),
            Event::Closing(closing) => Some(closing.conn),
            Event::Message(message) => Some(message.conn),
            Event::Close(close) => Some(close.conn),
            Event::Violation(violation) => violation.conn,
        }
    }
}

/// What is told in place of the code of an empty close frame (RFC 6455 section 7.1.5).
const NO_CODE: u16 = 1005;

/// The length of a part that is absent.
const ABSENT: u32 = u32::MAX;

/// Parts of a message that lie one behind the other in an arena, in the order of the fields.
#[derive(Clone, Copy, Debug)]
struct Parts {
    start: usize,
    /// Absent where the contract knows the event.
    event: u32,
    data: u32,
    id: u32,
}

impl Parts {
    /// The parts: event, data, id.
    fn of(self, text: &str) -> (&str, &str, Option<&str>) {
        let event = if self.event == ABSENT { 0 } else { self.event as usize };
        let (event, rest) = text[self.start..].split_at(event);
        let (data, rest) = rest.split_at(self.data as usize);
        (event, data, (self.id != ABSENT).then(|| &rest[..self.id as usize]))
    }
}

/// An event that a contract lists: which of the batch's contracts, and where in it.
#[derive(Clone, Copy, Debug)]
struct Listed {
    contract: u32,
    index: EventIndex,
}

/// How a connection ended. Both reasons, of at most 123 bytes, lie one behind the other in an arena.
#[derive(Clone, Copy, Debug)]
struct Closed {
    start: usize,
    reason: u8,
    peer_reason: u8,
    code: u16,
    peer_code: Option<u16>,
    clean: bool,
    verdict: Option<Code>,
    fault: Option<FrameFault>,
    fault_value: Option<u16>,
}

impl Closed {
    fn event(self, conn: ConnectionId, text: &str) -> Close<'_> {
        let Self { start, reason, peer_reason, code, peer_code, clean, verdict, fault, fault_value } = self;
        let (reason, rest) = text[start..].split_at(reason.into());
        let peer_reason = &rest[..peer_reason.into()];
        Close { conn, code, reason, clean, verdict, fault, fault_value, peer_code, peer_reason }
    }
}

#[derive(Debug)]
enum Record {
    Upgrade(Box<Upgrade>),
    UpgradeGone(TicketId),
    Open(Box<Open>),
    Text(ConnectionId, Span),
    Binary(ConnectionId, Span),
    Message { conn: ConnectionId, listed: Option<Listed>, parts: Parts, bytes: u32, status: Option<Status> },
    Closing(ConnectionId, Beginning),
    Close(ConnectionId, Closed),
    Violation(Box<ViolationEvent>),
    PingFrame(ConnectionId, Span),
    PongFrame(ConnectionId, Span),
    Drained(ConnectionId),
    Pong { conn: ConnectionId, rtt: Duration },
    Told(Told),
}

/// Kinds of events, as bits.
pub(super) mod kind {
    pub(in crate::driver) const OPEN: u8 = 1;
    pub(in crate::driver) const CLOSE: u8 = 2;
    pub(in crate::driver) const VIOLATION: u8 = 4;
    /// What an application always hears of.
    pub(in crate::driver) const OTHER: u8 = 8;
}

/// A batch of events, in the order they happened on one shard. Batches of several shards come in any order, but that what a peer
/// sent when another connection had opened or closed comes behind the [`Event::Open`] or [`Event::Close`] of that one.
///
/// Give the same batch to [`Events::next`](super::Events::next) again: its buffers are reused. A batch that is dropped
/// instead gives its room in `max_inbox_bytes` back all the same.
#[derive(Debug, Default)]
pub struct EventBatch {
    records: Vec<Record>,
    text: String,
    binary: Vec<u8>,
    /// What the capacities of the three were when the batch was empty.
    kept: usize,
    /// What records own beside themselves.
    boxed: usize,
    /// What its events need that are no messages.
    pub(super) others: usize,
    /// The contracts that its messages were judged by: one, or more where routes and reloads have their own.
    contracts: Vec<Arc<Contract>>,
    /// The inbox that the application's batch takes room of; a shard's own batch has none.
    home: Home,
    /// The [`kind`]s that it holds.
    pub(super) kinds: u8,
    /// Handshakes that ask in it.
    pub(super) upgrades: usize,
    /// The number of the batch on its shard, counted from 1; 0 once it was released.
    pub(super) sequence: u64,
    pub(super) shard: usize,
    /// It comes behind the opens and closes of all shards up to this number; 0 is none.
    pub(super) behind: u64,
    /// How many of them it holds, and the number of the first.
    pub(super) changes: u64,
    pub(super) first_change: Option<u64>,
    /// When its first event came.
    pub(super) since: Moment,
}

/// Where an application's batch gives its room back.
#[derive(Clone, Debug, Default)]
struct Home(Option<Arc<Inbox>>);

impl Drop for EventBatch {
    fn drop(&mut self) {
        self.release();
    }
}

impl EventBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn of_shard(shard: usize) -> Self {
        let mut batch = Self::default();
        batch.sequence = 1;
        batch.shard = shard;
        batch
    }

    /// Swaps the events of a shard's own batch into this one, which is empty, for the application that owns `inbox`.
    pub(super) fn swap(&mut self, own: &mut Self, inbox: &Arc<Inbox>) {
        if !self.home.0.as_ref().is_some_and(|home| Arc::ptr_eq(home, inbox)) {
            self.home = Home(Some(Arc::clone(inbox)));
        }
        core::mem::swap(self, own);
        core::mem::swap(&mut self.home, &mut own.home);
    }

    /// The application is done with what it holds.
    pub(super) fn release(&mut self) {
        let home = self.home.0.take();
        if let Some(inbox) = &home {
            self.release_to(inbox);
        }
        self.home = Home(home);
    }

    /// Empties it, and gives its room back to `inbox`.
    pub(super) fn release_to(&mut self, inbox: &Inbox) {
        let (shard, sequence, taken) = (self.shard, self.sequence, self.taken());
        if sequence > 0 {
            self.sequence = 0;
            inbox.release(shard, sequence, taken, || self.clear());
        }
    }

    /// What it takes of the inbox.
    pub(super) fn taken(&self) -> Taken {
        Taken { bytes: self.bytes(), others: self.others, upgrades: self.upgrades }
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What its events need: more with every one.
    pub(super) fn used(&self) -> usize {
        self.text.len() + self.binary.len() + self.records.len() * size_of::<Record>() + self.boxed
    }

    /// The memory its events stand for, which is what `max_inbox_bytes` counts: what they need, or what the buffers grew
    /// by for them.
    pub(super) fn bytes(&self) -> usize {
        self.used().max(self.capacity().saturating_sub(self.kept) + self.boxed)
    }

    pub(super) fn capacity(&self) -> usize {
        self.text.capacity() + self.binary.capacity() + self.records.capacity() * size_of::<Record>()
    }

    /// Empties it; buffers stay unless they are large.
    pub(super) fn clear(&mut self) {
        let kept = [self.records.len() * size_of::<Record>(), self.text.len(), self.binary.len()].map(kept_bytes);
        self.records.clear();
        self.contracts.clear();
        self.kinds = 0;
        self.upgrades = 0;
        (self.behind, self.changes, self.first_change) = (0, 0, None);
        (self.boxed, self.others) = (0, 0);
        self.text.clear();
        self.binary.clear();
        self.records.shrink_to(kept[0] / size_of::<Record>());
        self.text.shrink_to(kept[1]);
        self.binary.shrink_to(kept[2]);
        self.kept = self.capacity();
    }

    /// Lets its buffers go: nobody has had an event for a while.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            (self.records, self.text, self.binary, self.kept) = (Vec::new(), String::new(), Vec::new(), 0);
            self.contracts = Vec::new();
        }
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.records.iter().map(|record| self.event(record))
    }

    /// The event at `index`, oldest first.
    pub fn get(&self, index: usize) -> Option<Event<'_>> {
        self.records.get(index).map(|record| self.event(record))
    }

    #[inline]
    fn event<'b>(&'b self, record: &'b Record) -> Event<'b> {
        match record {
            Record::Upgrade(upgrade) => Event::Upgrade(upgrade),
            Record::UpgradeGone(ticket) => Event::UpgradeGone(*ticket),
            Record::Open(open) => Event::Open(open),
            Record::Text(conn, span) => Event::Text(*conn, &self.text[span.range()]),
            Record::Binary(conn, span) => Event::Binary(*conn, &self.binary[span.range()]),
            Record::Message { conn, listed, parts, bytes, status } => {
                let (event, data, id) = parts.of(&self.text);
                Event::Message(JsonMessage {
                    conn: *conn,
                    event: match listed {
                        Some(Listed { contract, index }) => self.contracts[*contract as usize].event(*index).name(),
                        None => event,
                    },
                    data: RawJson::vetted(data),
                    id,
                    status: *status,
                    bytes: *bytes as usize,
                    generation: listed.map_or(0, |listed| self.contracts[listed.contract as usize].generation()),
                })
            }
            Record::Closing(conn, Beginning { fault, fault_value }) => {
                Event::Closing(Closing { conn: *conn, fault: *fault, fault_value: *fault_value })
            }
            Record::Close(conn, closed) => Event::Close(closed.event(*conn, &self.text)),
            Record::Violation(violation) => Event::Violation(violation),
            Record::PingFrame(conn, span) => Event::PingFrame(*conn, &self.binary[span.range()]),
            Record::PongFrame(conn, span) => Event::PongFrame(*conn, &self.binary[span.range()]),
            Record::Drained(conn) => Event::Drained(*conn),
            Record::Pong { conn, rtt } => Event::Pong { conn: *conn, rtt: *rtt },
            Record::Told(Told::PipeReady(pipe)) => Event::PipeReady(*pipe),
            Record::Told(Told::PipeRoom(pipe)) => Event::PipeRoom(*pipe),
            Record::Told(Told::AdoptionEnded { tag, code, status }) => {
                Event::AdoptionEnded { tag: *tag, code: *code, status: *status }
            }
        }
    }

    fn keep_text(&mut self, text: &str) -> Span {
        let start = self.text.len();
        if let Some(more) = growth(self.text.capacity(), start, text.len()) {
            self.text.reserve_exact(more);
        }
        self.text.push_str(text);
        Span { start, len: text.len() }
    }

    fn keep_binary(&mut self, bytes: &[u8]) -> Span {
        let start = self.binary.len();
        if let Some(more) = growth(self.binary.capacity(), start, bytes.len()) {
            self.binary.reserve_exact(more);
        }
        self.binary.extend_from_slice(bytes);
        Span { start, len: bytes.len() }
    }

    #[inline]
    fn push(&mut self, kind: u8, record: Record) {
        self.kinds |= kind;
        let len = self.records.len();
        if len == self.records.capacity() {
            self.records.reserve_exact((len / 4).max(64));
        }
        self.records.push(record);
    }

    /// Adds what is no message, and owns `boxed` bytes beside itself.
    fn push_other(&mut self, kind: u8, record: Record, boxed: usize) {
        self.boxed += boxed;
        self.others += size_of::<Record>() + boxed;
        self.push(kind, record);
    }

    pub(super) fn push_upgrade(&mut self, upgrade: Upgrade) {
        let identity = upgrade.identity.as_ref().map_or(0, GrantedIdentity::heap_bytes);
        let boxed = size_of::<Upgrade>() + heap_bytes(&upgrade.request) + identity;
        self.upgrades += 1;
        self.push_other(kind::OTHER, Record::Upgrade(Box::new(upgrade)), boxed);
    }

    pub(super) fn push_upgrade_gone(&mut self, ticket: TicketId) {
        self.push_other(kind::OTHER, Record::UpgradeGone(ticket), 0);
    }

    pub(super) fn push_open(&mut self, open: Open) {
        let boxed = size_of::<Open>() + open.heap_bytes();
        self.push_other(kind::OPEN, Record::Open(Box::new(open)), boxed);
    }

    pub(super) fn push_violation(&mut self, violation: ViolationEvent) {
        let texts = [violation.user.as_ref().map(|user| user.len()), violation.event.as_ref().map(|event| event.len())];
        let texts = texts.into_iter().flatten().sum::<usize>() + violation.detail.len();
        let boxed = size_of::<ViolationEvent>() + texts;
        self.push_other(kind::VIOLATION, Record::Violation(Box::new(violation)), boxed);
    }

    pub(super) fn push_drained(&mut self, conn: ConnectionId) {
        self.push_other(kind::OTHER, Record::Drained(conn), 0);
    }

    pub(super) fn push_pong(&mut self, conn: ConnectionId, rtt: Duration) {
        self.push_other(kind::OTHER, Record::Pong { conn, rtt }, 0);
    }

    /// A ping or a pong of the peer takes the room of a message: whoever sends many is not read before they are taken.
    pub(super) fn push_ping_frame(&mut self, conn: ConnectionId, payload: &[u8]) {
        let payload = self.keep_binary(payload);
        self.push(kind::OTHER, Record::PingFrame(conn, payload));
    }

    pub(super) fn push_pong_frame(&mut self, conn: ConnectionId, payload: &[u8]) {
        let payload = self.keep_binary(payload);
        self.push(kind::OTHER, Record::PongFrame(conn, payload));
    }

    pub(super) fn push_told(&mut self, told: Told) {
        self.push_other(kind::OTHER, Record::Told(told), 0);
    }

    pub(super) fn push_closing(&mut self, conn: ConnectionId, beginning: Beginning) {
        self.push_other(kind::OTHER, Record::Closing(conn, beginning), 0);
    }

    pub(super) fn push_close(&mut self, conn: ConnectionId, ending: &Ending) {
        let peer_reason = ending.peer.as_ref().map_or("", |peer| &peer.reason);
        let start = self.keep_text(&ending.reason).start;
        self.keep_text(peer_reason);
        self.others += ending.reason.len() + peer_reason.len();
        let Ending { code, clean, verdict, fault, fault_value, .. } = *ending;
        let peer_code = ending.peer.as_ref().map(|peer| peer.code.unwrap_or(NO_CODE));
        let [reason, peer_reason] = [&ending.reason, peer_reason].map(|text| text.len() as u8);
        let closed = Closed { start, reason, peer_reason, code, peer_code, clean, verdict, fault, fault_value };
        self.push_other(kind::CLOSE, Record::Close(conn, closed), 0);
    }

    /// The number of a contract in this batch.
    fn number_of(&mut self, contract: &Arc<Contract>) -> u32 {
        let is_this = |known: &Arc<Contract>| Arc::ptr_eq(known, contract);
        let known = self.contracts.iter().rposition(is_this);
        known.unwrap_or_else(|| {
            self.contracts.push(Arc::clone(contract));
            self.contracts.len() - 1
        }) as u32
    }

    /// Adds a message that was judged by `contract`.
    pub(super) fn push_message(&mut self, conn: ConnectionId, message: &Message<'_>, contract: &Arc<Contract>) {
        let record = match message {
            Message::Text(text) => Record::Text(conn, self.keep_text(text)),
            Message::Binary(payload) => Record::Binary(conn, self.keep_binary(payload)),
            Message::Event { envelope, text } => {
                let start = self.text.len();
                let event = match envelope.index {
                    Some(_) => ABSENT,
                    None => self.keep_text(&envelope.event).len as u32,
                };
                let data = self.keep_text(envelope.data).len as u32;
                let id = envelope.id.map_or(ABSENT, |id| self.keep_text(id).len as u32);
                let parts = Parts { start, event, data, id };
                let listed = envelope.index.map(|index| Listed { contract: self.number_of(contract), index });
                let (bytes, status) = (text.len() as u32, envelope.status);
                Record::Message { conn, listed, parts, bytes, status }
            }
        };
        self.push(kind::OTHER, record);
    }
}

/// What a request owns beside itself.
fn heap_bytes(request: &UpgradeRequest) -> usize {
    let optional = [&request.query, &request.token].into_iter().flatten().map(String::capacity).sum::<usize>();
    let certificate = request.peer_certificate.as_ref().map_or(0, Vec::capacity);
    let texts = request.headers.iter().map(|(name, value)| name.capacity() + value.capacity()).sum::<usize>();
    let entries = request.headers.capacity() * size_of::<(String, String)>();
    let raw = request.raw_headers.iter().map(|(name, value)| name.capacity() + value.capacity()).sum::<usize>();
    let raw = raw + request.raw_headers.capacity() * size_of::<(String, Vec<u8>)>();
    let params = request.params.iter().map(|(_, value)| size_of::<(Arc<str>, String)>() + value.len()).sum::<usize>();
    params + raw + request.method.capacity() + request.path.capacity() + optional + certificate + texts + entries
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
