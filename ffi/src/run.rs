//! Events by callbacks, on the application's own thread.

use core::ffi::{c_char, c_int, c_void};
use core::mem::MaybeUninit;
use std::time::Duration;

use wsguard::binding::{ConnectionId, Decision, PipeId, Protocol, TicketId};

use crate::boundary::foreign;
use crate::error::{ErrorHandle, Failure, explain};
use crate::events::{
    AdoptionEnded, Close, Event, EventBody, EventKind, Message, Open, Pipe, Pong, Upgrade, UpgradeGone, Violation,
};
use crate::json::{self, Known};
use crate::modes;
use crate::names::WSG_NO_VERDICT;
use crate::pointers::{Str, sized};
use crate::running::{Consumer, RunGuard, Running, ServerHandle, Taken, running};
use crate::seen::{Seen, known, seen};
use crate::status::Status;

/// The handlers that `wsg_server_run` calls; leave `NULL` what you do not need. Each gets `userdata` and the server,
/// and returns 0 on success. What it is given is valid until it returns.
///
/// Any other result says that the handler failed: its connection is closed with 1011, its opening handshake is refused
/// with 503, its pipe is aborted. A handler may call every function but `wsg_server_next`, `_run` and `_free` of its server. It must return:
/// an exception or `pthread_exit` that leaves it ends the process with a message, `longjmp` leaves the server locked.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Handlers {
    /// `sizeof(wsg_handlers)`: the library does not read further, and later versions may add handlers.
    pub size: usize,
    /// Called for every event, before the handler of its kind, also for kinds of later versions.
    pub event:
        Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, event: *const Event) -> c_int>,
    /// Called for an opening handshake (`auth: "callback"`, or `WSG_START_CONSULT`): answer `upgrade->ticket` now or later, from any thread.
    pub upgrade: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, upgrade: *const Upgrade) -> c_int,
    >,
    /// Called for a connection that was opened.
    pub open: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, open: *const Open) -> c_int,
    >,
    /// Called for a message (`protocol: "json"`).
    pub message: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            message: *const Message,
        ) -> c_int,
    >,
    /// Called for a text message (`protocol: "raw"`).
    pub text: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            text: *const c_char,
            text_len: usize,
        ) -> c_int,
    >,
    /// Called for a binary message (`protocol: "raw"`).
    pub binary: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            payload: *const c_char,
            payload_len: usize,
        ) -> c_int,
    >,
    /// Called for a connection that ended. From here on its id is not valid.
    pub close: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, close: *const Close) -> c_int,
    >,
    /// Called for a verdict against a peer. `conn` is 0 before the 101.
    pub violation: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            violation: *const Violation,
        ) -> c_int,
    >,
    /// Called when everything that waited when a send returned `WSG_QUEUED` was written.
    pub drained: Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64) -> c_int>,
    /// Called for each answer to a `wsg_conn_ping`.
    pub pong: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64, pong: *const Pong) -> c_int,
    >,
    /// Called for an opening handshake that is over without a connection, and that the application did not refuse: its
    /// ticket takes no answer any more. It may be one that `upgrade` was not called for.
    pub upgrade_gone:
        Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, ticket: u64) -> c_int>,
    /// Called when bytes for the peer of a pipe, or the end, wait for `wsg_pipe_take`.
    pub pipe_ready:
        Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, pipe: *const Pipe) -> c_int>,
    /// Called when a pipe has room again for which `wsg_pipe_push` returned `WSG_QUEUED`.
    pub pipe_room:
        Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, pipe: *const Pipe) -> c_int>,
    /// Called for an adoption with a tag of which there will be no connection.
    pub adoption_ended: Option<
        extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, ended: *const AdoptionEnded) -> c_int,
    >,
    /// Called for a ping of the peer. If this or `pong_frame` is set, the run calls `wsg_server_heed_control`.
    pub ping_frame: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            payload: *const c_char,
            payload_len: usize,
        ) -> c_int,
    >,
    /// Called for a pong of the peer.
    pub pong_frame: Option<
        extern "C-unwind" fn(
            userdata: *mut c_void,
            server: *mut ServerHandle,
            conn: u64,
            payload: *const c_char,
            payload_len: usize,
        ) -> c_int,
    >,
    /// Called when a connection has begun to close. If this is set, the run calls `wsg_server_heed_closing`.
    pub closing: Option<extern "C-unwind" fn(userdata: *mut c_void, server: *mut ServerHandle, conn: u64) -> c_int>,
}

/// Calls the handlers of one event; `false`: one of them failed.
fn dispatch(handlers: &Handlers, userdata: *mut c_void, server: *mut ServerHandle, event: &Event) -> bool {
    let first = handlers.event.is_none_or(|call| foreign(|| call(userdata, server, event)) == 0);
    // Also after a failure: the application frees what it keeps for the connection in its `close` handler.
    if !first && event.kind != EventKind::Close {
        return false;
    }
    let conn = event.conn;
    let returned = match seen(event) {
        // Nobody to answer it, since a reload has made handshakes ask: refused at once, rather than after its time.
        Seen::Upgrade(_) if handlers.upgrade.is_none() && handlers.event.is_none() => return false,
        Seen::Upgrade(upgrade) => handlers.upgrade.map(|call| foreign(|| call(userdata, server, upgrade))),
        Seen::Open(open) => handlers.open.map(|call| foreign(|| call(userdata, server, conn, open))),
        Seen::Message(message) => handlers.message.map(|call| foreign(|| call(userdata, server, conn, message))),
        Seen::Close(close) => handlers.close.map(|call| foreign(|| call(userdata, server, conn, close))),
        Seen::Violation(violation) => {
            handlers.violation.map(|call| foreign(|| call(userdata, server, conn, violation)))
        }
        Seen::Pong(pong) => handlers.pong.map(|call| foreign(|| call(userdata, server, conn, pong))),
        Seen::UpgradeGone(gone) => handlers.upgrade_gone.map(|call| foreign(|| call(userdata, server, gone.ticket))),
        Seen::Pipe(pipe) => {
            let is_ready = event.kind == EventKind::PipeReady;
            let handler = if is_ready { handlers.pipe_ready } else { handlers.pipe_room };
            handler.map(|call| foreign(|| call(userdata, server, pipe)))
        }
        Seen::AdoptionEnded(ended) => handlers.adoption_ended.map(|call| foreign(|| call(userdata, server, ended))),
        Seen::Closing => handlers.closing.map(|call| foreign(|| call(userdata, server, conn))),
        Seen::Drained => handlers.drained.map(|call| foreign(|| call(userdata, server, conn))),
        Seen::Payload(Str { data, len }) => {
            let handler = match event.kind {
                EventKind::Text => handlers.text,
                EventKind::PingFrame => handlers.ping_frame,
                EventKind::PongFrame => handlers.pong_frame,
                _ => handlers.binary,
            };
            handler.map(|call| foreign(|| call(userdata, server, conn, data, len)))
        }
    };
    first && returned.unwrap_or(0) == 0
}

/// Returns true if an event must not be handled: its connection is closed for the application, or its handshake awaits no
/// answer. A close is handled if its open was.
fn is_stale(running: &Running, event: &Event) -> bool {
    let conn = ConnectionId::from_u64(event.conn);
    match seen(event) {
        Seen::Upgrade(upgrade) => !running.commands.is_waiting(TicketId::from_u64(upgrade.ticket)),
        Seen::Open(_) if running.peers.is_gone(conn) => {
            running.peers.hide(conn);
            true
        }
        Seen::Payload(_) | Seen::Message(_) | Seen::Pong(_) | Seen::Closing => running.peers.is_gone(conn),
        // More was queued since: another event follows when that was written.
        Seen::Drained => running.peers.is_gone(conn) || running.commands.is_queued(conn),
        Seen::Close(_) => running.peers.is_hidden(conn),
        Seen::Pipe(pipe) => running.pipes.tag(PipeId::from_u64(pipe.id)).is_none(),
        Seen::Open(_) | Seen::Violation(_) | Seen::UpgradeGone(_) | Seen::AdoptionEnded(_) => false,
    }
}

/// A handler failed: its connection is closed, its handshake refused, its pipe aborted.
fn fail(running: &Running, event: &Event) {
    let conn = ConnectionId::from_u64(event.conn);
    if event.conn != 0 {
        let _ = running.peers.closed(conn, running.commands.fail(conn), || running.commands.is_open(conn));
    }
    if let Seen::Upgrade(upgrade) = seen(event) {
        let _ = running.commands.answer(TicketId::from_u64(upgrade.ticket), Decision::Unavailable);
    }
    if let Seen::Pipe(pipe) = seen(event) {
        let _ = running.pipes.get(PipeId::from_u64(pipe.id)).map(|pipe| pipe.abort());
    }
}

/// What stands for an open that is passed over: whoever has accepted its handshake, or handed its connection over, waits to hear of
/// it.
fn settle(open: &Open, tell: impl Fn(&Event) -> Result<(), Status>) -> Result<(), Status> {
    if open.ticket != 0 {
        let gone = UpgradeGone { ticket: open.ticket };
        tell(&Event { kind: EventKind::UpgradeGone, conn: 0, body: EventBody { upgrade_gone: &raw const gone } })?;
    }
    if open.adopted != 0 {
        let ended = AdoptionEnded { tag: open.adopted, verdict: WSG_NO_VERDICT, http_status: 101 };
        tell(&Event { kind: EventKind::AdoptionEnded, conn: 0, body: EventBody { adoption_ended: &raw const ended } })?;
    }
    Ok(())
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
    let tell = |event: &Event| {
        let known = match seen(event) {
            Seen::Message(message) => known(message),
            _ => Known::NOTHING,
        };
        let fine = json::knowing(known, || dispatch(handlers, userdata, server, event));
        if !running.is_here() {
            return Err(Status::ErrForked);
        }
        if !fine {
            fail(running, event);
        }
        Ok(())
    };
    let told = events.iter().try_for_each(|event| {
        // Asked once: another thread may close the connection between two answers.
        if !is_stale(running, event) {
            return tell(event);
        }
        match seen(event) {
            Seen::Open(open) => settle(open, tell),
            _ => Ok(()),
        }
    });
    if told.is_err() {
        // The handler has forked, and this is the child: the parent hands over the corked commands.
        core::mem::forget(cork);
    }
    told
}

/// Handlers that could never be called are a mistake: nothing would ever happen. After a reload nothing is one any more: a
/// program whose handlers fit the options of its start must go on, and the next reload may call for them again.
fn check(running: &Running, handlers: &Handlers) -> Result<(), Failure> {
    let policies = running.commands.policies();
    if policies.generation > 1 {
        return Ok(());
    }
    let refuse = |message| Err(Failure::new(Status::ErrArgument, message));
    let speaks = |protocol| running.modes.speaks(protocol).is_ok();
    let asks = running.consults || modes::asks(&policies);
    if !speaks(Protocol::Raw) && (handlers.text.is_some() || handlers.binary.is_some()) {
        return refuse("handlers.text and .binary are never called: protocol is json, whose handler is .message");
    }
    if !speaks(Protocol::Json) && handlers.message.is_some() {
        return refuse("handlers.message is never called: protocol is raw, whose handlers are .text and .binary");
    }
    if asks && handlers.upgrade.is_none() && handlers.event.is_none() {
        return refuse(
            "handlers.upgrade is missing: auth is callback, or the server consults, and handshakes would wait in vain",
        );
    }
    if !asks && handlers.upgrade.is_some() {
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
    let _guard = RunGuard::new(&running);
    let heeds = |has_handler: bool| has_handler || handlers.event.is_some();
    running.commands.heed(
        heeds(handlers.open.is_some()),
        heeds(handlers.close.is_some()),
        heeds(handlers.violation.is_some()),
    );
    if handlers.ping_frame.is_some() || handlers.pong_frame.is_some() {
        running.commands.heed_control(true);
    }
    if handlers.closing.is_some() {
        running.commands.heed_closing(true);
    }
    Ok(serve(&running, &handlers, &mut consumer)?)
}

exports! {
    /// Calls `handlers` for every event, on this thread, until the server has stopped. It works as `wsg_server_next` in
    /// a loop, and is the fastest one: it hands over together what the handlers send for one batch. Opens, closes and
    /// violations without a handler do not wake the thread.
    ///
    /// The library copies `handlers`, and passes `userdata` to them without following it. After `wsg_conn_close`,
    /// `wsg_conn_fail`, `wsg_server_disconnect_user`, a ban, the end of a session, or a handler that failed, only
    /// `violation` and `close` are called for that connection, whatever was received before. Where that was before its `open`,
    /// neither is called for it, but `upgrade_gone` for a ticket that you had accepted, and `adoption_ended` for the tag of an
    /// adoption. `upgrade` is not called for a handshake whose peer has left or whose time is over.
    ///
    /// One thread at a time, and no inline handler. The call writes `*error` as `wsg_error` says.
    /// Returns `WSG_OK` when the server has stopped; `WSG_NOTHING` after `wsg_server_interrupt`, and may then be called
    /// again; `WSG_ERR_ARGUMENT` if `handlers.size` was not set, or if a handler is unknown to this library, can never
    /// be called (`text` with `protocol: "json"`) or is missing (`upgrade` where handshakes ask), neither of which is
    /// an error after a reload; `WSG_ERR_BUSY`, `WSG_ERR_REENTRANT`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`;
    /// `WSG_ERR_FORKED`, also in a child that a handler has forked.
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

    /// Calls `handlers` for the next events once, for programs with an event loop of their own. It waits for them as
    /// `wsg_server_next` does: at most `timeout_ms` milliseconds, 0 not at all, negative for ever.
    ///
    /// One thread at a time. Returns `WSG_OK` after it has called handlers; `WSG_NOTHING` and `WSG_STOPPED` as
    /// `wsg_server_next`; otherwise as `wsg_server_run`.
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

    /// Returns true if `wsg_server_run` would skip this event, for programs that take batches with `wsg_server_next`. A
    /// message is stale if, since it was received, the application has closed its connection or disconnected its user,
    /// its session has ended or it was banned, or the server was stopped. A stale open makes its close stale, too, unless
    /// `wsg_conn_set_data` has kept a pointer; nothing else tells what became of its `ticket` and of its tag `adopted`. A
    /// handshake is stale when no answer is awaited any more; `WSG_EVENT_DRAINED` when more was queued since; an event of a
    /// pipe when that was freed. Also true if `server` or `event` is not valid.
    ///
    /// Ask once per event, just before you handle it, and before its batch is freed. The thread that takes the events.
    pub fn wsg_event_is_stale(server: *mut ServerHandle, event: Option<&Event>) -> bool {
        let Ok(running) = running(server) else { return Ok(true) };
        Ok(event.is_none_or(|event| is_stale(&running, event)))
    }
}
