//! The inline handler: C that runs on the library's own threads.

use core::ffi::{c_char, c_int, c_void};

use wsguard::host::{ConnectionId, Handled, InlineMessage as Message, Replies};

use crate::events::{EventKind, InlineMessage};
use crate::handle::{self, Str, Userdata, bytes, optional_text, text};
use crate::status::Status;

/// The answers of an inline handler, to the connection that sent the message. Valid during the call it was given to, on
/// that thread; afterwards it is an invalid handle.
pub enum RepliesHandle {}

/// An inline handler. It returns `WSG_INLINE_DONE`, `WSG_INLINE_PASS` to let the application's thread have the message,
/// or `WSG_INLINE_FAIL` (and any other number), which closes the connection with 1011.
///
/// A message is offered only when nothing earlier of its connection is still with the application: order is kept.
pub type InlineFn = Option<
    extern "C" fn(
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
    /// The message goes to `wsg_server_next` or `wsg_server_run` like any other. No answer may have been given.
    Pass = 0,
    /// The message was dealt with.
    Done = 1,
    /// The handler failed.
    Fail = -1,
}

/// The C function and what it is called with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inline {
    pub(crate) handler: InlineFn,
    pub(crate) userdata: Userdata,
}

impl wsguard::host::Inline for Inline {
    fn message(&self, conn: ConnectionId, message: Message<'_>, replies: &mut Replies<'_>) -> Handled {
        let none = Str::NONE;
        let seen = match message {
            Message::Text(text) => InlineMessage { kind: EventKind::Text, event: none, data: Str::of(text), id: none },
            Message::Binary(payload) => {
                InlineMessage { kind: EventKind::Binary, event: none, data: Str::bytes(payload), id: none }
            }
            Message::Event(event, data, id) => InlineMessage {
                kind: EventKind::Message,
                event: Str::of(event),
                data: Str::of(data),
                id: Str::maybe(id),
            },
        };
        let Some(handler) = self.handler else { return Handled::Pass };
        let call = |handle| handler(self.userdata.pointer(), conn.to_u64(), &raw const seen, handle);
        let returned = handle::lend_replies::<RepliesHandle, _>(replies, call);
        if returned == InlineOutcome::Done as c_int {
            Handled::Done
        } else if returned == InlineOutcome::Pass as c_int {
            Handled::Pass
        } else {
            // How the core is told that a handler failed. Nothing has panicked, so no hook runs.
            std::panic::resume_unwind(Box::new("the inline handler failed"))
        }
    }
}

exports! {
    /// Sends a text message (`raw`). Like all three it returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_UTF8`, or
    /// `WSG_ERR_HANDLE` outside the call that gave the handle.
    pub fn wsg_replies_text(replies: *mut RepliesHandle, text: *const c_char, text_len: usize) -> Status {
        let text = self::text(text, text_len)?;
        handle::with_replies(replies, |replies| replies.text(text))?;
        Ok(Status::Ok)
    }

    /// Sends a binary message (`raw`).
    pub fn wsg_replies_binary(replies: *mut RepliesHandle, payload: *const c_char, payload_len: usize) -> Status {
        let payload = bytes(payload, payload_len)?;
        handle::with_replies(replies, |replies| replies.binary(payload))?;
        Ok(Status::Ok)
    }

    /// Emits an event (`json`). `data` is JSON text; `id` is that of the message it replies to, as JSON text, or `NULL`.
    pub fn wsg_replies_emit(replies: *mut RepliesHandle, event: *const c_char, event_len: usize, data: *const c_char,
        data_len: usize, id: *const c_char, id_len: usize,
    ) -> Status {
        let (event, data, id) = (text(event, event_len)?, text(data, data_len)?, optional_text(id, id_len)?);
        handle::with_replies(replies, |replies| replies.emit(event, data, id))?;
        Ok(Status::Ok)
    }
}
