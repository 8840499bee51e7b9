//! Where a connection's messages go: to the handler that runs inline, or into the batch for the application.

use super::caught::caught;
use super::events::EventBatch;
use super::ids::ConnectionId;
use super::log::Subject;
use super::shared::{Remote, Shared, Writing};
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::connection::{Message, Report, Sink};
use wsguard_proto::outgoing;
use wsguard_proto::verdict::Code;

/// A message as an inline handler sees it.
#[derive(Clone, Copy, Debug)]
pub enum InlineMessage<'m> {
    /// A text (`raw`).
    Text(&'m str),
    /// A binary (`raw`).
    Binary(&'m [u8]),
    /// An event (`json`): name, data and id as JSON text.
    Event(&'m str, &'m str, Option<&'m str>),
}

/// What an inline handler did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is done.
    Done,
    /// It goes to the application's batch like any other.
    Pass,
}

/// A handler that runs on the shard's own thread, between reading a message and writing the answer: the fastest way
/// to answer, for work of a few microseconds that never blocks.
///
/// It is offered a message only when nothing earlier of the same connection is still with the application, so that
/// the order of a connection's messages holds. A panic closes that connection with 1011.
pub trait Inline: Send + Sync + 'static {
    /// Answers `message` by `replies`, or passes it on.
    fn message(&self, conn: ConnectionId, message: InlineMessage<'_>, replies: &mut Replies<'_>) -> Handled;
}

/// The answers of an inline handler, to the connection that sent the message.
#[derive(Debug)]
pub struct Replies<'r> {
    out: &'r mut Vec<u8>,
}

impl Replies<'_> {
    /// Sends a text message (`raw`).
    pub fn text(&mut self, text: &str) {
        codec::data_frame(self.out, Opcode::Text, text.as_bytes());
    }

    /// Sends a binary message (`raw`).
    pub fn binary(&mut self, payload: &[u8]) {
        codec::data_frame(self.out, Opcode::Binary, payload);
    }

    /// Emits an event (`json`); `data` and `id` are JSON text.
    pub fn emit(&mut self, event: &str, data: &str, id: Option<&str>) {
        outgoing::push_frame(self.out, event, data, id);
    }
}

/// What a turn added to the inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    /// The batch that it is in.
    pub(super) batch: u64,
    /// How many bytes its events need.
    pub(super) bytes: usize,
    /// The batch that holds the connection's last event that the application may answer.
    pub(super) answerable: u64,
}

/// The sink of one turn of one connection. The batch is locked once, when the first event comes.
pub(super) struct TurnSink<'s> {
    shared: &'s Shared,
    remote: &'s Remote,
    batch: Option<Writing<'s>>,
    conn: ConnectionId,
    subject: Subject<'s>,
    /// The batch that holds the last event of this connection, and which one that was before the turn.
    last_batch: u64,
    last_batch_before: u64,
    pub(super) messages: u64,
}

impl<'s> TurnSink<'s> {
    pub(super) fn new(shared: &'s Shared, conn: ConnectionId, subject: Subject<'s>, last_batch: u64) -> Self {
        let remote = &shared.shards[conn.shard()];
        Self { shared, remote, batch: None, conn, subject, last_batch, last_batch_before: last_batch, messages: 0 }
    }

    /// The batch, for an event of this connection.
    pub(super) fn batch(&mut self) -> &mut EventBatch {
        let writing = self.batch.get_or_insert_with(|| self.shared.write_events(self.conn.shard()));
        let batch = writing.batch();
        self.last_batch = batch.sequence;
        batch
    }

    /// Ends the turn: what it added to the inbox; `None`: nothing.
    pub(super) fn finish(self) -> Option<Added> {
        let writing = self.batch?;
        let (bytes, is_heeded) = writing.finish();
        let answerable = if is_heeded { self.last_batch } else { self.last_batch_before };
        Some(Added { batch: self.last_batch, bytes, answerable }).filter(|added| added.bytes > 0)
    }

    /// Whether the application has not let go of every event of this connection, or has said something that was not
    /// carried out yet.
    fn application_is_behind(&self) -> bool {
        !self.remote.has_released(self.last_batch) || self.remote.has_commands()
    }

    /// Offers a message to the inline handler.
    fn handled_inline(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<Handled, Code> {
        let Some(handler) = &self.shared.inline else { return Ok(Handled::Pass) };
        if self.application_is_behind() {
            return Ok(Handled::Pass);
        }
        let message = match message {
            Message::Text(text) => InlineMessage::Text(text),
            Message::Binary(payload) => InlineMessage::Binary(payload),
            Message::Event { envelope, .. } => InlineMessage::Event(&envelope.event, envelope.data, envelope.id),
        };
        let end = out.len();
        caught(|| handler.message(self.conn, message, &mut Replies { out })).ok_or_else(|| {
            out.truncate(end);
            Code::Internal
        })
    }
}

impl Sink for TurnSink<'_> {
    fn message(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Code> {
        self.messages += 1;
        if self.handled_inline(&message, out)? == Handled::Pass {
            let conn = self.conn;
            self.batch().push_message(conn, &message);
        }
        Ok(())
    }

    fn report(&mut self, report: Report<'_>) {
        let (shared, subject) = (self.shared, self.subject);
        shared.report(&report, subject, self.batch());
    }

    fn replies_may_come(&self) -> bool {
        self.batch.is_some() || self.application_is_behind()
    }
}
