//! The handler that an application may run on the shards' own threads.

use super::ids::ConnectionId;
use wsguard_proto::codec::{self, Opcode};
use wsguard_proto::outgoing;

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
    /// How many there are.
    pub(super) count: u64,
    /// They are not to be compressed.
    pub(super) plain: bool,
}

impl<'r> Replies<'r> {
    /// Answers that are appended to `out`, the connection's output of this turn.
    pub(super) fn new(out: &'r mut Vec<u8>) -> Self {
        Self { out, count: 0, plain: false }
    }

    /// The answers to this message go plain, also those before, although `compression` is on: see
    /// [`Conn::plain`](crate::Conn::plain).
    pub fn go_plain(&mut self) {
        self.plain = true;
    }

    /// Sends a text message (`raw`).
    pub fn text(&mut self, text: &str) {
        self.count += 1;
        codec::data_frame(self.out, Opcode::Text, text.as_bytes());
    }

    /// Sends a binary message (`raw`).
    pub fn binary(&mut self, payload: &[u8]) {
        self.count += 1;
        codec::data_frame(self.out, Opcode::Binary, payload);
    }

    /// Emits an event (`json`); `data` and `id` are JSON text.
    pub fn emit(&mut self, event: &str, data: &str, id: Option<&str>) {
        self.count += 1;
        outgoing::push_frame(self.out, event, data, id);
    }
}
