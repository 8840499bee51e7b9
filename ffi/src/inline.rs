//! The inline handler: C that runs on the library's own threads.

use core::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use wsguard::binding::{ConnectionId, Handled, InlineMessage as Message, Replies};

use crate::boundary::foreign;
use crate::events::{EventKind, InlineMessage};
use crate::handle::{self, Str, Userdata, bytes};
use crate::json::{self, Known};
use crate::peers::Peers;
use crate::status::Status;

/// The answers of an inline handler, to the connection that sent the message. Valid during the call it was given to, on
/// that thread; afterwards it is an invalid handle.
pub enum RepliesHandle {}

/// An inline handler. It returns `WSG_INLINE_DONE`, `WSG_INLINE_PASS` to let the application's thread have the message,
/// or `WSG_INLINE_FAIL` (and any other number), which closes the connection with 1011.
///
/// A message is offered only when nothing earlier of its connection is still with the application: order is kept.
pub type InlineFn = Option<
    extern "C-unwind" fn(
        userdata: *mut c_void,
        conn: u64,
        message: *const InlineMessage,
        replies: *mut RepliesHandle,
    ) -> c_int,
>;

/// What an inline handler returns.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum InlineOutcome {
    /// The message goes to `wsg_server_next` or `wsg_server_run` like any other. After an answer was given it is a failure:
    /// the peer would get two.
    Pass = 0,
    /// The message was dealt with.
    Done = 1,
    /// The handler failed.
    Fail = -1,
}

/// The C function and what it is called with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inline {
    pub(crate) handler: extern "C-unwind" fn(*mut c_void, u64, *const InlineMessage, *mut RepliesHandle) -> c_int,
    pub(crate) userdata: Userdata,
}

/// The same, of one server.
#[derive(Debug)]
pub(crate) struct InlineOf {
    pub(crate) inline: Inline,
    pub(crate) peers: Arc<Peers>,
    pub(crate) max_outbox_bytes: usize,
}

impl wsguard::binding::Inline for InlineOf {
    fn message(&self, conn: ConnectionId, message: Message<'_>, replies: &mut Replies<'_>) -> Handled {
        // Closed is closed, here too: the core may not have come to it yet. It knows when a session has ended.
        if self.peers.is_closed(conn) {
            return Handled::Done;
        }
        let none = Str::NONE;
        let (seen, known) = match message {
            Message::Text(text) => {
                (InlineMessage { kind: EventKind::Text, event: none, data: Str::of(text), id: none }, Known::NOTHING)
            }
            Message::Binary(payload) => (
                InlineMessage { kind: EventKind::Binary, event: none, data: Str::bytes(payload), id: none },
                Known::NOTHING,
            ),
            Message::Event(event, data, id) => {
                let seen = InlineMessage {
                    kind: EventKind::Message,
                    event: Str::of(event),
                    data: Str::of(data),
                    id: Str::maybe(id),
                };
                (seen, Known::of(data, id))
            }
        };
        let call = |handle| {
            foreign(|| (self.inline.handler)(self.inline.userdata.pointer(), conn.to_u64(), &raw const seen, handle))
        };
        let asked = Asked { kind: seen.kind, known, max_outbox_bytes: self.max_outbox_bytes };
        let (returned, replied) = handle::lend_replies::<RepliesHandle, _>(replies, asked, call);
        if returned == InlineOutcome::Done as c_int {
            Handled::Done
        } else if returned == InlineOutcome::Pass as c_int && !replied {
            Handled::Pass
        } else {
            // How the core is told that a handler failed. Nothing has panicked, so no hook runs.
            std::panic::resume_unwind(Box::new("the inline handler failed"))
        }
    }
}

/// The message that an inline handler answers, and what bounds its answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: EventKind,
    /// The JSON that it holds.
    pub(crate) known: Known,
    pub(crate) max_outbox_bytes: usize,
}

impl Asked {
    /// An answer of `bytes` in the protocol of the message, which could never be sent when it is larger than an outbox.
    fn takes(self, is_event: bool, bytes: usize) -> Result<(), Status> {
        let is_taken = (self.kind == EventKind::Message) == is_event && bytes <= self.max_outbox_bytes;
        if is_taken { Ok(()) } else { Err(Status::ErrArgument) }
    }
}

exports! {
    /// Sends a text message (`raw`). Like all three it returns `WSG_OK`, `WSG_ERR_ARGUMENT` on a server of the other
    /// protocol and for what is larger than `max_outbox_bytes`, `WSG_ERR_NULL`, `WSG_ERR_UTF8`, or `WSG_ERR_HANDLE` outside
    /// the call that gave the handle.
    pub fn wsg_replies_text(replies: *mut RepliesHandle, text: *const c_char, text_len: usize) -> Status {
        let text = handle::text(text, text_len)?;
        handle::with_replies(replies, |replies, asked| {
            asked.takes(false, text.len())?;
            replies.text(text);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Sends a binary message (`raw`).
    pub fn wsg_replies_binary(replies: *mut RepliesHandle, payload: *const c_char, payload_len: usize) -> Status {
        let payload = bytes(payload, payload_len)?;
        handle::with_replies(replies, |replies, asked| {
            asked.takes(false, payload.len())?;
            replies.binary(payload);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Emits an event (`json`). `data` and `id` as in `wsg_server_emit` and `wsg_server_reply`.
    pub fn wsg_replies_emit(replies: *mut RepliesHandle, event: *const c_char, event_len: usize, data: *const c_char,
        data_len: usize, id: *const c_char, id_len: usize,
    ) -> Status {
        handle::with_replies(replies, |replies, asked| {
            let event = json::event(event, event_len)?;
            let data = json::checked(asked.known, data, data_len)?;
            let id = json::checked_id(asked.known, id, id_len)?;
            asked.takes(true, event.len() + data.len() + id.map_or(0, str::len))?;
            replies.emit(event, data, id);
            Ok(())
        })?;
        Ok(Status::Ok)
    }
}
