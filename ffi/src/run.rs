//! Events by callbacks, on the application's own thread.

use core::ffi::{c_char, c_int, c_void};

use wsguard::host::{ConnectionId, Decision, Next, TicketId};

use crate::events::{Close, Event, EventKind, Message, Open, Upgrade, Violation};
use crate::handle::{self, Str};
use crate::server::{RunMark, ServerHandle, consume, running};
use crate::status::Status;

/// What `wsg_server_run` calls; `NULL` for what is of no interest. Each gets `userdata` and the server, and returns 0.
///
/// Any other number says that the handler failed: the connection it worked for is closed with 1011, a handshake that
/// asked answers 503. Handlers may call everything but `wsg_server_next`, `_run` and `_free` of their server, and must not
/// leave by `longjmp` or an exception. What they are given is valid until they return.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Handlers {
    /// Every event, before the handler of its kind.
    pub event: Option<extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, event: *const Event) -> c_int>,
    /// A handshake asks (`auth: "callback"`): answer `upgrade->ticket` now or later, from any thread.
    pub upgrade:
        Option<extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, upgrade: *const Upgrade) -> c_int>,
    /// A connection opened.
    pub open:
        Option<extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, open: *const Open) -> c_int>,
    /// A message (`json`).
    pub message: Option<
        extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, message: *const Message) -> c_int,
    >,
    /// A text message (`raw`).
    pub text: Option<
        extern "C" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            text: *const c_char,
            text_len: usize,
        ) -> c_int,
    >,
    /// A binary message (`raw`).
    pub binary: Option<
        extern "C" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            payload: *const c_char,
            payload_len: usize,
        ) -> c_int,
    >,
    /// A connection ended; its id is stale from here on.
    pub close: Option<
        extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, close: *const Close) -> c_int,
    >,
    /// A rule was broken; `conn` is 0 before the 101.
    pub violation: Option<
        extern "C" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            violation: *const Violation,
        ) -> c_int,
    >,
    /// What waited when a send answered `WSG_QUEUED` was written.
    pub drained: Option<extern "C" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64) -> c_int>,
}

/// Calls the handlers of one event; `false`: one of them failed.
fn dispatch(handlers: &Handlers, userdata: *mut c_void, server: *mut ServerHandle, event: &Event) -> bool {
    if handlers.event.is_some_and(|call| call(userdata, server, event) != 0) {
        return false;
    }
    let (conn, body) = (event.conn, &raw const event.body);
    let returned = match event.kind {
        EventKind::Upgrade => handlers.upgrade.map(|call| call(userdata, server, body.cast())),
        EventKind::Open => handlers.open.map(|call| call(userdata, server, conn, body.cast())),
        EventKind::Message => handlers.message.map(|call| call(userdata, server, conn, body.cast())),
        EventKind::Close => handlers.close.map(|call| call(userdata, server, conn, body.cast())),
        EventKind::Violation => handlers.violation.map(|call| call(userdata, server, conn, body.cast())),
        EventKind::Drained => handlers.drained.map(|call| call(userdata, server, conn)),
        EventKind::Text | EventKind::Binary => {
            let handler = if event.kind == EventKind::Text { handlers.text } else { handlers.binary };
            handler.map(|call| {
                let Str { data, len } = handle::payload(event);
                call(userdata, server, conn, data, len)
            })
        }
    };
    returned.unwrap_or(0) == 0
}

exports! {
    /// Calls `handlers` for every event, on this thread, until the server has stopped. It is `wsg_server_next` in a loop;
    /// what the handlers send during one batch is handed over together, so it is also the fastest one. Opens, closes and
    /// violations without a handler do not wake the thread.
    ///
    /// `handlers` is copied. Returns `WSG_OK` when the server has stopped, else as `wsg_server_next`: `WSG_ERR_BUSY`,
    /// `WSG_ERR_REENTRANT`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE`, `WSG_ERR_FORKED`.
    pub fn wsg_server_run(server: *mut ServerHandle, handlers: Option<&Handlers>, userdata: *mut c_void) -> Status {
        let handlers = *handlers.ok_or(Status::ErrNull)?;
        let running = running(server)?;
        let mut consumer = consume(&running)?;
        let _mark = RunMark::new(server);
        let heeds = |has_handler: bool| has_handler || handlers.event.is_some();
        running.commands.heed(
            heeds(handlers.open.is_some()),
            heeds(handlers.close.is_some()),
            heeds(handlers.violation.is_some()),
        );
        while consumer.wait(None)? != Next::Stopped {
            let cork = running.commands.cork();
            for event in consumer.events() {
                if !dispatch(&handlers, userdata, server, event) {
                    let _ = running.commands.fail(ConnectionId::from_u64(event.conn));
                    if let Some(ticket) = handle::ticket(event) {
                        let _ = running.commands.answer(TicketId::from_u64(ticket), Decision::Unavailable);
                    }
                }
            }
            drop(cork);
        }
        Ok(Status::Ok)
    }
}
