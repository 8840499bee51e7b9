//! The answers of an inline handler: a handle that is valid during one call, on its thread.
#![expect(unsafe_code, reason = "lends C the answers of the call that this thread is in")]

use core::cell::Cell;
use core::ffi::c_char;
use std::sync::atomic::{AtomicUsize, Ordering};

use wsguard::binding::Replies;

use crate::events::EventKind;
use crate::handle::seed;
use crate::json::{self, Known};
use crate::plain::is_plain;
use crate::pointers::{self, bytes};
use crate::status::Status;

/// The replies of an inline handler, to the connection that sent the message. The library owns it; it is valid during
/// the call that it was passed to, on that thread.
pub enum RepliesHandle {}

/// The message that an inline handler answers, and the limit of its answers.
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

/// The call of an inline handler that this thread is in.
#[derive(Clone, Copy)]
struct InlineCall {
    /// 0: none.
    token: usize,
    replies: *mut Replies<'static>,
    asked: Asked,
    replied: bool,
}

impl InlineCall {
    const NONE: Self = Self {
        token: 0,
        replies: core::ptr::null_mut(),
        asked: Asked { kind: EventKind::Text, known: Known::NOTHING, max_outbox_bytes: 0 },
        replied: false,
    };
}

thread_local! {
    static INLINE_CALL: Cell<InlineCall> = const { Cell::new(InlineCall::NONE) };
    /// The next token of this thread: no two calls have the same, on whatever threads.
    static NEXT_TOKEN: Cell<usize> =
        Cell::new(THREADS.fetch_add(1, Ordering::Relaxed).wrapping_add(seed()) << TOKEN_BITS | 1);
}

const TOKEN_BITS: u32 = usize::BITS * 5 / 8;
static THREADS: AtomicUsize = AtomicUsize::new(1);

/// Calls C with a handle for `replies` that ends with the call, and says whether C replied.
pub(crate) fn lend_replies<R>(
    replies: &mut Replies<'_>,
    asked: Asked,
    call: impl FnOnce(*mut RepliesHandle) -> R,
) -> (R, bool) {
    struct End(InlineCall);
    impl Drop for End {
        fn drop(&mut self) {
            INLINE_CALL.set(self.0);
        }
    }
    let token = NEXT_TOKEN.get();
    NEXT_TOKEN.set(token.wrapping_add(1));
    let replies = core::ptr::from_mut(replies).cast();
    let _end = End(INLINE_CALL.replace(InlineCall { token, replies, asked, replied: false }));
    let returned = call(core::ptr::without_provenance_mut(token));
    (returned, INLINE_CALL.get().replied)
}

/// The answers that a handle stands for: during its call, on its thread.
fn with_replies(
    handle: *const RepliesHandle,
    reply: impl FnOnce(&mut Replies<'_>, Asked) -> Result<(), Status>,
) -> Result<(), Status> {
    if handle.is_null() {
        return Err(Status::ErrNull);
    }
    let call = INLINE_CALL.get();
    if call.token != handle.addr() {
        return Err(Status::ErrHandle);
    }
    // SAFETY: the token is that of the call this thread is in, so `lend_replies` has not returned and its exclusive
    // reference is live; it is lent to nobody else, since `reply` does not call C.
    let replies = unsafe { &mut *call.replies };
    reply(replies, call.asked)?;
    if is_plain() {
        replies.go_plain();
    }
    INLINE_CALL.set(InlineCall { replied: true, ..call });
    Ok(())
}

/// Whether this thread is one of the library's, inside an inline handler.
pub(crate) fn is_inline() -> bool {
    INLINE_CALL.get().token != 0
}

exports! {
    /// Sends a text message (`raw`) to the connection that the inline handler was called for.
    ///
    /// Only during that call, on its thread. Like the other answers this returns `WSG_OK`; `WSG_ERR_ARGUMENT` on a
    /// server of the other protocol, and for more than `max_outbox_bytes`; `WSG_ERR_UTF8`, `WSG_ERR_NULL`, or
    /// `WSG_ERR_HANDLE` outside the call.
    pub fn wsg_replies_send_text(replies: *mut RepliesHandle, text: *const c_char, text_len: usize) -> Status {
        let text = pointers::text(text, text_len)?;
        with_replies(replies, |replies, asked| {
            asked.takes(false, text.len())?;
            replies.text(text);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Sends a binary message (`raw`). Otherwise as `wsg_replies_send_text`.
    pub fn wsg_replies_send_binary(replies: *mut RepliesHandle, payload: *const c_char, payload_len: usize) -> Status {
        let payload = bytes(payload, payload_len)?;
        with_replies(replies, |replies, asked| {
            asked.takes(false, payload.len())?;
            replies.binary(payload);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Emits an event (`json`). `data` is as in `wsg_conn_emit`. Otherwise as `wsg_replies_send_text`.
    pub fn wsg_replies_emit(replies: *mut RepliesHandle, event: *const c_char, event_len: usize, data: *const c_char,
        data_len: usize,
    ) -> Status {
        with_replies(replies, |replies, asked| {
            let event = json::event(event, event_len)?;
            let data = json::checked(asked.known, data, data_len)?;
            asked.takes(true, event.len() + data.len())?;
            replies.emit(event, data, None);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Emits an event (`json`) in reply to the message that carried `id`. `id` and `data` are as in `wsg_conn_reply`.
    /// Otherwise as `wsg_replies_send_text`.
    pub fn wsg_replies_reply(replies: *mut RepliesHandle, id: *const c_char, id_len: usize, event: *const c_char,
        event_len: usize, data: *const c_char, data_len: usize,
    ) -> Status {
        with_replies(replies, |replies, asked| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_their_call() {
        assert_eq!(with_replies(core::ptr::null(), |_, _| Ok(())), Err(Status::ErrNull));
        assert_eq!(with_replies(core::ptr::without_provenance(1), |_, _| Ok(())), Err(Status::ErrHandle));
        assert!(!is_inline());
    }
}
