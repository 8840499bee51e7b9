//! Events by callbacks, on the application's own thread.

use core::ffi::{c_char, c_int, c_void};
use core::mem::MaybeUninit;
use std::time::Duration;

use wsguard::binding::{ConnectionId, Decision, TicketId};

use crate::boundary::foreign;
use crate::error::{ErrorHandle, Failure, explain};
use crate::events::{Close, Event, EventKind, Message, Open, Upgrade, Violation};
use crate::json::{self, Known};
use crate::pointers::{Str, sized};
use crate::running::{Consumer, RunMark, Running, ServerHandle, Taken, running};
use crate::seen::{Seen, known, seen};
use crate::status::Status;

/// What `wsg_server_run` calls; `NULL` for what is of no interest. Each gets `userdata` and the server, and returns 0.
///
/// Any other number says that the handler failed: the connection it worked for is closed with 1011, a handshake that
/// asked answers 503. Handlers may call everything but `wsg_server_next`, `_run` and `_free` of their server. They must
/// return: an exception or `pthread_exit` that leaves one ends the process with a message, `longjmp` leaves the server
/// locked. What they are given is valid until they return.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Handlers {
    /// `sizeof(wsg_handlers)`, so that later versions can have more handlers.
    pub size: usize,
    /// Every event, before the handler of its kind; kinds of later versions, too.
    pub event:
        Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, event: *const Event) -> c_int>,
    /// A handshake asks (`auth: "callback"`): answer `upgrade->ticket` now or later, from any thread.
    pub upgrade: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, upgrade: *const Upgrade) -> c_int,
    >,
    /// A connection opened.
    pub open: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, open: *const Open) -> c_int,
    >,
    /// A message (`json`).
    pub message: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            message: *const Message,
        ) -> c_int,
    >,
    /// A text message (`raw`).
    pub text: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            text: *const c_char,
            text_len: usize,
        ) -> c_int,
    >,
    /// A binary message (`raw`).
    pub binary: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            payload: *const c_char,
            payload_len: usize,
        ) -> c_int,
    >,
    /// A connection ended; its id is stale from here on.
    pub close: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, close: *const Close) -> c_int,
    >,
    /// A rule was broken; `conn` is 0 before the 101.
    pub violation: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            violation: *const Violation,
        ) -> c_int,
    >,
    /// What waited when a send answered `WSG_QUEUED` was written.
    pub drained: Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64) -> c_int>,
}

/// Calls the handlers of one event; `false`: one of them failed.
fn dispatch(handlers: &Handlers, userdata: *mut c_void, server: *mut ServerHandle, event: &Event) -> bool {
    let first = handlers.event.is_none_or(|call| foreign(|| call(userdata, server, event)) == 0);
    // Whatever failed: of a connection's end its application must hear, to let go of what it keeps.
    if !first && event.kind != EventKind::Close {
        return false;
    }
    let conn = event.conn;
    let returned = match seen(event) {
        Seen::Upgrade(upgrade) => handlers.upgrade.map(|call| foreign(|| call(userdata, server, upgrade))),
        Seen::Open(open) => handlers.open.map(|call| foreign(|| call(userdata, server, conn, open))),
        Seen::Message(message) => handlers.message.map(|call| foreign(|| call(userdata, server, conn, message))),
        Seen::Close(close) => handlers.close.map(|call| foreign(|| call(userdata, server, conn, close))),
        Seen::Violation(violation) => {
            handlers.violation.map(|call| foreign(|| call(userdata, server, conn, violation)))
        }
        Seen::Drained => handlers.drained.map(|call| foreign(|| call(userdata, server, conn))),
        Seen::Payload(Str { data, len }) => {
            let handler = if event.kind == EventKind::Text { handlers.text } else { handlers.binary };
            handler.map(|call| foreign(|| call(userdata, server, conn, data, len)))
        }
    };
    first && returned.unwrap_or(0) == 0
}

/// Whether the application does not want to hear of this one: its connection is over for it, and closed is closed. Of the
/// end of a connection it hears if it heard of its beginning; of a handshake as long as its answer matters.
fn is_stale(running: &Running, event: &Event) -> bool {
    let conn = ConnectionId::from_u64(event.conn);
    match seen(event) {
        Seen::Upgrade(upgrade) => !running.commands.is_waiting(TicketId::from_u64(upgrade.ticket)),
        Seen::Open(_) if running.peers.is_gone(conn) => {
            running.peers.hide(conn);
            true
        }
        Seen::Payload(_) | Seen::Message(_) => running.peers.is_gone(conn),
        // One that was on its way when more was queued speaks of what was sent before; another follows.
        Seen::Drained => running.peers.is_gone(conn) || running.commands.is_queued(conn),
        Seen::Close(_) => running.peers.is_hidden(conn),
        Seen::Open(_) | Seen::Violation(_) => false,
    }
}

/// A handler failed: its connection is closed, its handshake refused.
fn fail(running: &Running, event: &Event) {
    let conn = ConnectionId::from_u64(event.conn);
    if event.conn != 0 {
        let _ = running.peers.closed(conn, running.commands.fail(conn), || running.commands.is_open(conn));
    }
    if let Seen::Upgrade(upgrade) = seen(event) {
        let _ = running.commands.answer(TicketId::from_u64(upgrade.ticket), Decision::Unavailable);
    }
}

/// Calls the handlers for one batch.
fn work(
    running: &Running,
    handlers: &Handlers,
    userdata: *mut c_void,
    server: *mut ServerHandle,
    events: &[Event],
) -> Result<(), Status> {
    let cork = running.commands.cork();
    for event in events {
        if is_stale(running, event) {
            continue;
        }
        let known = match seen(event) {
            Seen::Message(message) => known(message),
            _ => Known::NOTHING,
        };
        let fine = json::knowing(known, || dispatch(handlers, userdata, server, event));
        if !running.is_here() {
            // The handler has forked, and this is the child: what is corked is the parent's to hand over.
            core::mem::forget(cork);
            return Err(Status::ErrForked);
        }
        if !fine {
            fail(running, event);
        }
    }
    drop(cork);
    Ok(())
}

/// Handlers that could never be called are a mistake: nothing would ever happen.
fn check(running: &Running, handlers: &Handlers) -> Result<(), Failure> {
    let refuse = |message| Err(Failure::new(Status::ErrArgument, message));
    if !running.is_raw && (handlers.text.is_some() || handlers.binary.is_some()) {
        return refuse("handlers.text and .binary are never called: protocol is json, whose handler is .message");
    }
    if running.is_raw && handlers.message.is_some() {
        return refuse("handlers.message is never called: protocol is raw, whose handlers are .text and .binary");
    }
    if running.asks && handlers.upgrade.is_none() && handlers.event.is_none() {
        return refuse("handlers.upgrade is missing: auth is callback, and every handshake would wait in vain");
    }
    if !running.asks && handlers.upgrade.is_some() {
        return refuse("handlers.upgrade is never called: auth is not callback");
    }
    Ok(())
}

/// Checks handlers, and takes the right to call them.
fn serve(
    server: *mut ServerHandle,
    handlers: *const Handlers,
    serve: impl FnOnce(&Running, &Handlers, &mut Consumer<'_>) -> Result<Status, Status>,
) -> Result<Status, Failure> {
    let running = running(server)?;
    let handlers = sized(handlers)?;
    check(&running, &handlers)?;
    let mut consumer = running.consume()?;
    let _mark = RunMark::new(&running);
    let heeds = |has_handler: bool| has_handler || handlers.event.is_some();
    running.commands.heed(
        heeds(handlers.open.is_some()),
        heeds(handlers.close.is_some()),
        heeds(handlers.violation.is_some()),
    );
    Ok(serve(&running, &handlers, &mut consumer)?)
}

exports! {
    /// Calls `handlers` for every event, on this thread, until the server has stopped. It is `wsg_server_next` in a loop;
    /// what the handlers send during one batch is handed over together, so it is also the fastest one. Opens, closes and
    /// violations without a handler do not wake the thread.
    ///
    /// `handlers` is copied. Closed is closed: after `wsg_server_close`, `wsg_server_fail`, `wsg_server_disconnect_user`, a
    /// handler that failed, and the end of a session, no handler runs for that connection but `violation` and `close`,
    /// whatever was read of it before. Nor does `upgrade` for a handshake whose peer has left or whose time is over.
    ///
    /// `*error` is written as `wsg_error` says. Returns `WSG_OK` when the server has stopped, and `WSG_NOTHING` after
    /// `wsg_server_interrupt`: it may be called again. `WSG_ERR_ARGUMENT` when `handlers.size` was not set, a handler is of a
    /// later version of the library, can never be called (`text` with `protocol: "json"`), or is missing (`upgrade` with
    /// `auth: "callback"`); else as `wsg_server_next`: `WSG_ERR_BUSY`, `WSG_ERR_REENTRANT`, `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE`, `WSG_ERR_FORKED`, which is also what it returns in a child that a handler has forked.
    pub fn wsg_server_run(server: *mut ServerHandle, handlers: *const Handlers, userdata: *mut c_void,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            serve(server, handlers, |running, handlers, consumer| loop {
                match consumer.wait(None)? {
                    Taken::Events => work(running, handlers, userdata, server, consumer.events())?,
                    Taken::Nothing => {}
                    Taken::Interrupted => return Ok(Status::Nothing),
                    Taken::Stopped => return Ok(Status::Ok),
                }
            })
        })
    }

    /// Calls `handlers` for the events that come next, once: for programs with a loop of their own. Waits for them at most
    /// `timeout_ms`, as `wsg_server_next` does.
    ///
    /// Returns `WSG_OK` when handlers were called; `WSG_NOTHING` and `WSG_STOPPED` as `wsg_server_next`; else as
    /// `wsg_server_run`.
    pub fn wsg_server_run_once(server: *mut ServerHandle, timeout_ms: i64, handlers: *const Handlers,
        userdata: *mut c_void, error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            serve(server, handlers, |running, handlers, consumer| {
                match consumer.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))? {
                    Taken::Events => {
                        work(running, handlers, userdata, server, consumer.events())?;
                        Ok(Status::Ok)
                    }
                    Taken::Nothing | Taken::Interrupted => Ok(Status::Nothing),
                    Taken::Stopped => Ok(Status::Stopped),
                }
            })
        })
    }

    /// Whether `wsg_server_run` would pass this event over, for those who take batches by `wsg_server_next`: its connection
    /// was closed by this application, its user disconnected, its session has ended or the server was stopped since it was
    /// read. An open that is stale takes its close along, unless `wsg_conn_set_data` has kept something of it; a handshake is stale when no answer is waited for, and
    /// `WSG_EVENT_DRAINED` when more was queued since. `true` also for a server that is none.
    ///
    /// Ask for each event once, just before it is handled; its batch must not have been freed.
    pub fn wsg_event_is_stale(server: *mut ServerHandle, event: Option<&Event>) -> bool {
        let Ok(running) = running(server) else { return Ok(true) };
        Ok(event.is_none_or(|event| is_stale(&running, event)))
    }
}
