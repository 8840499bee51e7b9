//! A server's life, and its events by pull.

use core::ffi::c_int;
use core::mem::MaybeUninit;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

use wsguard::binding::{Builder, Code, ConnectionId, Error, EventBatch, Next, Server, ServerHandle as Commands};

use crate::bell::{Bell, Waited};
use crate::error::{ErrorHandle, Failure, explain};
use crate::events::Event;
use crate::handle::{self, Opaque, Pinned, Registry, Str, lock};
use crate::inline::InlineOf;
use crate::log;
use crate::options::{OptionsHandle, Stated};
use crate::os;
use crate::peers::Peers;
use crate::signals::{self, without_signals};
use crate::status::Status;
use crate::views::Views;

/// A running server.
pub enum ServerHandle {}

impl Opaque for ServerHandle {
    type Object = Running;
    const KIND: usize = 3;
    fn registry() -> &'static Registry<Running> {
        static SERVERS: Registry<Running> = Registry::new();
        &SERVERS
    }
}

/// Events that were taken together.
pub enum BatchHandle {}

impl Opaque for BatchHandle {
    type Object = Batch;
    const KIND: usize = 4;
    fn registry() -> &'static Registry<Batch> {
        static BATCHES: Registry<Batch> = Registry::new();
        &BATCHES
    }
}

/// What a server handle stands for.
#[derive(Debug)]
pub struct Running {
    pub(crate) commands: Commands,
    pub(crate) peers: Arc<Peers>,
    /// It was stopped: every connection is closed for its application, also those whose open is still to be taken.
    is_dropping: AtomicBool,
    /// What of the policy this face asks for: which messages there are, whether handshakes ask, and whether message rules act.
    pub(crate) is_raw: bool,
    pub(crate) asks: bool,
    pub(crate) enforces: bool,
    address: CString,
    bell: Bell,
    forks: u64,
    /// The thread that is in its `wsg_server_run`; 0: none.
    runner: AtomicUsize,
    /// Whoever takes events holds this for as long; `None`: the server was freed.
    consumer: Mutex<Option<Server>>,
    /// The batch; `None` while the application has it.
    spare: Arc<Mutex<Option<Pinned<Box<Views>>>>>,
}

/// What a batch handle stands for. It may outlive its server.
#[derive(Debug)]
pub struct Batch {
    views: Mutex<Option<Pinned<Box<Views>>>>,
    home: Weak<Mutex<Option<Pinned<Box<Views>>>>>,
}

/// A number for this thread while it lives. Nothing is dropped at its end, where an application may still free its servers.
fn this_thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| core::ptr::from_ref(here).addr())
}

/// What a server's counters are at one moment. New ones are added at the end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stats {
    /// Connections that hold a place, handshakes included.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections ever opened.
    pub opened_total: u64,
    /// Valid messages received.
    pub messages_in: u64,
    /// Bytes received after handshakes, framing included.
    pub bytes_in: u64,
    /// Bytes written after handshakes, framing included.
    pub bytes_out: u64,
    /// Bytes of events that the application has not taken yet.
    pub inbox_bytes: u64,
    /// Bytes that peers have not read yet.
    pub outbox_bytes: u64,
    /// Messages that wait for their rate limit.
    pub delayed: u64,
    /// Handshakes that wait for the application.
    pub pending_auth: u64,
    /// Handshakes among the events that the application has not let go; those whose peer has left included.
    pub upgrades_in_inbox: u64,
    /// Handshakes that are only still there to be refused.
    pub refusing: u64,
    /// Rooms with at least one member, counted on each I/O thread.
    pub rooms: u64,
    /// Memberships of all connections in all rooms.
    pub room_memberships: u64,
}

/// Whether this thread is in a callback that others may wait for: it must not wait for them.
fn must_not_wait() -> bool {
    handle::is_inline() || log::is_telling()
}

/// The server of a handle, in the process that started it.
pub(crate) fn running(server: *const ServerHandle) -> Result<Arc<Running>, Status> {
    let running = handle::find(server)?;
    if running.is_here() { Ok(running) } else { Err(Status::ErrForked) }
}

impl Running {
    fn start(stated: &Stated) -> Result<Self, Error> {
        let bell = Bell::new().map_err(Error::Start)?;
        let builder = Builder::new().wake(bell.clone());
        let peers = Arc::new(Peers::default());
        let options = stated.options()?;
        let max_outbox_bytes = options.max_outbox_bytes;
        let builder = match stated.inline {
            Some(inline) => builder.inline(InlineOf { inline, peers: Arc::clone(&peers), max_outbox_bytes }),
            None => builder,
        };
        let server = without_signals(|| builder.start(options))?;
        Ok(Self {
            commands: server.handle(),
            peers,
            is_dropping: AtomicBool::new(false),
            is_raw: stated.is_raw(),
            asks: stated.asks(),
            enforces: stated.enforces(),
            address: CString::new(server.address()).unwrap_or_default(),
            bell,
            forks: os::forks(),
            runner: AtomicUsize::new(0),
            consumer: Mutex::new(Some(server)),
            spare: Arc::new(Mutex::new(Some(Pinned::default()))),
        })
    }

    /// Whether its threads are this process's.
    pub(crate) fn is_here(&self) -> bool {
        self.forks == os::forks()
    }

    /// Drops every connection. Closed is closed, here too: nothing that was taken of them is handled any more.
    fn stop(&self) {
        self.commands.stop();
        self.is_dropping.store(true, Ordering::Release);
        self.peers.close_all();
    }

    /// Whether this thread is in its `wsg_server_run`.
    fn is_run_here(&self) -> bool {
        self.runner.load(Ordering::Relaxed) == this_thread()
    }

    /// An open connection that is not over for the application.
    pub(crate) fn open(&self, conn: u64) -> Result<ConnectionId, Status> {
        let conn = ConnectionId::from_u64(conn);
        if self.peers.is_gone(conn) { Err(Status::ErrConnectionClosed) } else { Ok(conn) }
    }

    /// The right to take events, for one thread at a time.
    fn consume(&self) -> Result<Consumer<'_>, Status> {
        if must_not_wait() {
            return Err(Status::ErrReentrant);
        }
        let server = match self.consumer.try_lock() {
            Ok(server) => server,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Status::ErrBusy),
        };
        let views = {
            let _calm = os::calm();
            lock(&self.spare).take().ok_or(Status::ErrBusy)?
        };
        Ok(Consumer { running: self, server, views: Some(views) })
    }
}

/// The one thread that takes events, with the batch it fills.
pub(crate) struct Consumer<'s> {
    running: &'s Running,
    server: MutexGuard<'s, Option<Server>>,
    views: Option<Pinned<Box<Views>>>,
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Events,
    /// The time is over, or a signal handler has run on this thread.
    Nothing,
    /// The application asked for it.
    Interrupted,
    Stopped,
}

impl Consumer<'_> {
    /// Waits for events and makes views of them; `patience` as in the core.
    pub(crate) fn wait(&mut self, patience: Option<Duration>) -> Result<Taken, Status> {
        let (Some(server), Some(Pinned(views))) = (&mut *self.server, &mut self.views) else {
            return Err(Status::ErrHandle);
        };
        views.forget(&self.running.peers);
        let taken = wait(server, &self.running.bell, &mut views.batch, patience);
        if taken == Taken::Events {
            views.refresh(&self.running.peers);
            // Asked behind the opens: a call of `stop` on another thread finds them, or is known here.
            if self.running.is_dropping.load(Ordering::Acquire) {
                self.running.peers.close_all();
            }
        }
        Ok(taken)
    }

    /// The events of the last wait.
    pub(crate) fn events(&self) -> &[Event] {
        self.views.as_ref().map_or(&[], |Pinned(views)| views.events())
    }

    /// Gives the batch to the application.
    fn give(mut self) -> Result<*mut BatchHandle, Status> {
        let home = Arc::downgrade(&self.running.spare);
        handle::insert(Batch { views: Mutex::new(self.views.take()), home })
    }
}

impl Drop for Consumer<'_> {
    fn drop(&mut self) {
        if let Some(views) = self.views.take() {
            let _calm = os::calm();
            *lock(&self.running.spare) = Some(views);
        }
    }
}

fn wait(server: &mut Server, bell: &Bell, batch: &mut EventBatch, patience: Option<Duration>) -> Taken {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    loop {
        if bell.take_interrupt() {
            return Taken::Interrupted;
        }
        match server.events().next(batch, Some(Duration::ZERO)) {
            Next::Events => return Taken::Events,
            Next::Stopped => return Taken::Stopped,
            Next::Nothing if bell.silence() => {}
            Next::Nothing => {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) || bell.wait(left) == Waited::Signalled {
                    return Taken::Nothing;
                }
            }
        }
    }
}

/// Marks that this thread runs a server, for as long as it lives.
pub(crate) struct RunMark<'r>(&'r AtomicUsize);

impl<'r> RunMark<'r> {
    pub(crate) fn new(running: &'r Running) -> Self {
        running.runner.store(this_thread(), Ordering::Relaxed);
        Self(&running.runner)
    }
}

impl Drop for RunMark<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

pub(crate) fn consume(running: &Running) -> Result<Consumer<'_>, Status> {
    running.consume()
}

exports! {
    /// Checks the options, binds, and starts the I/O threads. The policy in force is logged as one line.
    ///
    /// The options stay the caller's. On success `*server` is owned by the caller, who ends it with `wsg_server_free`;
    /// else it is `NULL`. `*error` is written as `wsg_error` says. Returns `WSG_OK`, an error of options
    /// (`WSG_ERR_MISSING_OPTION` and the three beside it), `WSG_ERR_LISTEN`, `WSG_ERR_START`, `WSG_ERR_NULL` or
    /// `WSG_ERR_HANDLE`; `WSG_ERR_REENTRANT` from an inline handler or a log function.
    ///
    /// No signal is delivered to the I/O threads, and a peer that is gone raises no `SIGPIPE`.
    pub fn wsg_server_start(options: *const OptionsHandle, server: Option<&mut MaybeUninit<*mut ServerHandle>>,
        error: Option<&mut MaybeUninit<*mut ErrorHandle>>,
    ) -> Status {
        explain(error, || {
            let place = handle::out(server)?;
            place.write(core::ptr::null_mut());
            let options = handle::find(options)?;
            if must_not_wait() {
                let message = "an inline handler or a log function must not start a server";
                return Err(Failure::new(Status::ErrReentrant, message));
            }
            let stated = {
                let _calm = os::calm();
                lock(&options).clone()
            };
            let running = Running::start(&stated)?;
            let bell = running.bell.wires();
            let server = handle::insert::<ServerHandle>(running)?;
            os::connect(server.addr(), Arc::clone(&bell));
            // Whoever waits for the descriptor before the first `wsg_server_next` is woken to call it.
            bell.ring();
            place.write(server);
            Ok(())
        })?;
        Ok(Status::Ok)
    }

    /// Stops the server, waits for its threads, and frees it. Connections that are open are dropped; drain first for the
    /// gentle way. A batch that was not freed stays valid.
    ///
    /// Any thread but those of inline handlers, and not inside `wsg_server_run` of the same server: `WSG_ERR_REENTRANT`.
    /// A `wsg_server_next` or `wsg_server_run` on another thread ends first, so a callback must not wait for this call.
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, or `WSG_ERR_HANDLE` the second time. In a forked child it only forgets the server.
    pub fn wsg_server_free(server: *mut ServerHandle) -> Status {
        let found = handle::find(server);
        let is_forked = found.as_ref().is_ok_and(|running| !running.is_here());
        if !is_forked && (must_not_wait() || found.is_ok_and(|running| running.is_run_here())) {
            return Err(Status::ErrReentrant);
        }
        let running = handle::remove(server)?;
        if is_forked {
            core::mem::forget(running);
            return Ok(Status::Ok);
        }
        signals::forget(server);
        os::disconnect(server.addr());
        running.stop();
        let server = lock(&running.consumer).take();
        drop(server);
        Ok(Status::Ok)
    }

    /// The address it listens on, with the real port. Ends with a zero byte; valid until the server is freed. Empty for a
    /// handle that is none.
    pub fn wsg_server_address(server: *const ServerHandle) -> Str {
        let running = running(server)?;
        Ok(Str { data: running.address.as_ptr(), len: running.address.as_bytes().len() })
    }

    /// Takes the next events, in the order they happened to each connection. Waits at most `timeout_ms`; 0 does not wait,
    /// a negative number waits for ever.
    ///
    /// On `WSG_OK`, `*batch` is owned by the caller and holds at least one event; it must be freed before the next call.
    /// Else it is `NULL`: `WSG_NOTHING` when the time is over, when a signal handler has run on this thread, or after
    /// `wsg_server_interrupt`; `WSG_STOPPED` when the server has stopped and every event was taken. One thread at a time:
    /// `WSG_ERR_BUSY` otherwise, and while a batch was not freed. `WSG_ERR_REENTRANT` from an inline handler; `WSG_ERR_NULL`,
    /// `WSG_ERR_HANDLE`, `WSG_ERR_FORKED`.
    ///
    /// A batch may hold messages of a connection that you close, or whose session ends, while you work on it: before each event
    /// is handled `wsg_event_is_stale` says so. `wsg_server_run` skips them.
    pub fn wsg_server_next(server: *mut ServerHandle, timeout_ms: i64,
        batch: Option<&mut MaybeUninit<*mut BatchHandle>>,
    ) -> Status {
        let place = handle::out(batch)?;
        place.write(core::ptr::null_mut());
        let running = running(server)?;
        let mut consumer = running.consume()?;
        match consumer.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))? {
            Taken::Events => {
                place.write(consumer.give()?);
                Ok(Status::Ok)
            }
            Taken::Nothing | Taken::Interrupted => Ok(Status::Nothing),
            Taken::Stopped => Ok(Status::Stopped),
        }
    }

    /// The events of a batch: `*count` of them, one after the other. They, and what they point at, are valid until the batch
    /// is freed, also when the server was freed before. The size of `wsg_event` never changes.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_NULL` or `WSG_ERR_HANDLE`.
    pub fn wsg_batch_events(batch: *const BatchHandle, events: Option<&mut MaybeUninit<*const Event>>,
        count: Option<&mut MaybeUninit<usize>>,
    ) -> Status {
        let (events, count) = (handle::out(events)?, handle::out(count)?);
        let batch = handle::find(batch)?;
        let _calm = os::calm();
        let views = lock(&batch.views);
        let seen = views.as_ref().ok_or(Status::ErrHandle)?.0.events();
        events.write(seen.as_ptr());
        count.write(seen.len());
        Ok(Status::Ok)
    }

    /// Frees a batch, so that the server can reuse its memory. Any thread. Returns `WSG_OK`, `WSG_ERR_NULL`, or
    /// `WSG_ERR_HANDLE` the second time.
    pub fn wsg_batch_free(batch: *mut BatchHandle) -> Status {
        let batch = handle::remove(batch)?;
        let _calm = os::calm();
        let views = lock(&batch.views).take();
        if let (Some(views), Some(home)) = (views, batch.home.upgrade()) {
            *lock(&home) = Some(views);
        }
        Ok(Status::Ok)
    }

    /// A file descriptor that is readable when there may be events, for epoll, poll, libuv or libevent.
    ///
    /// When it is, call `wsg_server_next` with timeout 0 until it answers `WSG_NOTHING`. It is readable at the start. Do not
    /// read, write or close it. Valid until the server is freed. Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_fd(server: *const ServerHandle, fd: Option<&mut MaybeUninit<c_int>>) -> Status {
        let place = handle::out(fd)?;
        place.write(running(server)?.bell.fd());
        Ok(Status::Ok)
    }

    /// Shuts down gently: new handshakes answer 503, open connections close with 1012 spread over `jitter_ms`, what is
    /// left after `timeout_ms` is dropped (`WSG_NEVER`: it takes as long as it takes). Does not wait: `wsg_server_next`
    /// answers `WSG_STOPPED` and `wsg_server_run` returns when all is over. What this thread sent before goes out before.
    /// Safe to repeat. Any thread, also in callbacks and inline handlers; of a signal handler see
    /// `wsg_server_drain_on_signals` and `wsg_server_interrupt`.
    ///
    /// Returns `WSG_OK`, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_drain(server: *mut ServerHandle, timeout_ms: u64, jitter_ms: u64) -> Status {
        let running = running(server)?;
        running.commands.drain(timeout_ms, jitter_ms);
        Ok(Status::Ok)
    }

    /// Stops at once: every connection is dropped, after what this thread sent before was handed to the system. No
    /// handler of `wsg_server_run` is called any more for what was read of them. Does not wait, and frees nothing. As
    /// `wsg_server_drain` otherwise.
    pub fn wsg_server_stop(server: *mut ServerHandle) -> Status {
        running(server)?.stop();
        Ok(Status::Ok)
    }

    /// Reads certificate and key again. A bad pair keeps the old one, and is an error that says so.
    ///
    /// Any thread; it reads files. Returns `WSG_OK`, `WSG_ERR_INVALID_OPTION`, `WSG_ERR_ARGUMENT` without the option `tls`,
    /// `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_reload_tls(server: *mut ServerHandle, error: Option<&mut MaybeUninit<*mut ErrorHandle>>
    ) -> Status {
        explain(error, || Ok(running(server)?.commands.reload_tls()?))?;
        Ok(Status::Ok)
    }

    /// The counters now. `stats_len` is `sizeof(wsg_stats)`: the library fills what this header knows of, and with 0 what
    /// the library does not.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_ARGUMENT` for a size that is none, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or `WSG_ERR_FORKED`.
    pub fn wsg_server_stats(server: *const ServerHandle, stats: *mut Stats, stats_len: usize) -> Status {
        let now = running(server)?.commands.stats();
        let seen = Stats {
            connections: now.connections,
            open: now.open,
            opened_total: now.opened_total,
            messages_in: now.messages_in,
            bytes_in: now.bytes_in,
            bytes_out: now.bytes_out,
            inbox_bytes: now.inbox_bytes,
            outbox_bytes: now.outbox_bytes,
            delayed: now.delayed,
            pending_auth: now.pending_auth,
            upgrades_in_inbox: now.upgrades_in_inbox,
            refusing: now.refusing,
            rooms: now.rooms,
            room_memberships: now.room_memberships,
        };
        handle::copy_out(&seen, stats, stats_len)?;
        Ok(Status::Ok)
    }

    /// How often `verdict` (a `wsg_verdict`) was the verdict.
    ///
    /// Any thread. Returns `WSG_OK`, `WSG_ERR_ARGUMENT` for a number that is no verdict, `WSG_ERR_NULL`, `WSG_ERR_HANDLE` or
    /// `WSG_ERR_FORKED`.
    pub fn wsg_server_verdict_count(server: *const ServerHandle, verdict: u32, count: Option<&mut MaybeUninit<u64>>
    ) -> Status {
        let place = handle::out(count)?;
        let running = running(server)?;
        let code = Code::ALL.get(verdict as usize).ok_or(Status::ErrArgument)?;
        place.write(running.commands.stats().verdict(*code));
        Ok(Status::Ok)
    }
}
