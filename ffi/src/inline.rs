//! The inline handler: C that runs on the library's own threads.

use core::ffi::{c_int, c_void};
use std::sync::Arc;

use wsguard::binding::{ConnectionId, Handled, InlineMessage as Message, Replies};

use crate::boundary::foreign;
use crate::events::{EventKind, InlineMessage};
use crate::json::Known;
use crate::modes::Modes;
use crate::peers::Peers;
use crate::pointers::{Str, Userdata};
use crate::replies::{Asked, RepliesHandle, lend_replies};

/// An inline handler. It returns `WSG_INLINE_DONE` if it has handled the message, `WSG_INLINE_PASS` to leave it to the
/// application, or `WSG_INLINE_FAIL` (or any other number), which closes the connection with 1011.
///
/// It is called for a message only if the application has taken and freed every earlier event of the connection: the
/// order of messages is kept.
pub type InlineFn = Option<
    extern "C-unwind" fn(
        userdata: *mut c_void,
        conn: u64,
        message: *const InlineMessage,
        replies: *mut RepliesHandle,
    ) -> c_int,
>;

/// The result of an inline handler.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum InlineOutcome {
    /// The message goes to `wsg_server_next` or `wsg_server_run`. After a reply this is a failure: the peer would get two
    /// answers.
    Pass = 0,
    /// The handler has handled the message.
    Done = 1,
    /// The handler failed.
    Fail = -1,
}

/// The C function and its userdata.
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
    pub(crate) modes: Arc<Modes>,
}

impl wsguard::binding::Inline for InlineOf {
    fn message(&self, conn: ConnectionId, message: Message<'_>, replies: &mut Replies<'_>) -> Handled {
        // The application has closed the connection, and the core has not carried that out yet.
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
        let asked = Asked { kind: seen.kind, known, max_outbox_bytes: self.modes.largest_outbox() };
        let (returned, replied) = lend_replies(replies, asked, call);
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
