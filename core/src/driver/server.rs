//! A server: its threads, its events, and the loop for applications that have none of their own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::admin::Admin;
use super::answer::Decision;
use super::bind::{Bound, SocketFile};
use super::caught::{caught, said};
use super::clustered;
use super::compile::compile;
use super::events::{Event, EventBatch};
use super::handle::ServerHandle;
use super::inline::Inline;
use super::jwks::Fetchers;
use super::log::guard_panics;
use super::notices::warn_of_reporting;
use super::notifier::{Notifier, Waited};
use super::state::{Consulting, Life, ServerState};
use super::threads::start_threads;
use super::tls;
use super::wake::Wake;
use crate::error::Error;
use wsguard_proto::config::{Options, PolicySet};
use wsguard_proto::lock::lock;

/// Wakes a thread that waits in [`Events::next`], or the task that has asked in [`Events::poll_next`].
#[derive(Clone, Default)]
struct ConsumerWaker {
    thread: Notifier,
    task: Arc<Mutex<Option<Waker>>>,
}

impl Wake for ConsumerWaker {
    fn wake(&self) {
        self.thread.notify();
        // Its own statement: the task is woken without the lock.
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl ConsumerWaker {
    /// Waits until it is woken; `false`: the deadline came first.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let is_woken = self.thread.wait(left) != Waited::TimedOut;
        if is_woken {
            self.thread.take();
        }
        is_woken
    }

    /// Wakes this task next.
    fn watch(&self, task: &Waker) {
        match &mut *lock(&self.task) {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
        self.thread.take();
    }
}

/// What a server is started with beside its options.
#[derive(Default)]
pub struct Builder {
    inline: Option<Box<dyn Inline>>,
    wake: Option<Box<dyn Wake>>,
    unbound: bool,
    leaves_pings: bool,
    is_like_ws: bool,
    consulting: Consulting,
}

impl Builder {
    /// Nothing but the options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler that answers on the shards' own threads.
    #[must_use]
    pub fn inline(mut self, handler: impl Inline) -> Self {
        self.inline = Some(Box::new(handler));
        self
    }

    /// Wakes the application in its own way, for event loops. [`Events::next`] must then not be asked to wait.
    #[must_use]
    pub fn wake(mut self, wake: impl Wake) -> Self {
        self.wake = Some(Box::new(wake));
        self
    }

    /// Listens nowhere, whatever `listen` says: every connection comes by [`ServerHandle::adopt`].
    #[must_use]
    pub fn without_listener(mut self) -> Self {
        self.unbound = true;
        self
    }

    /// Whether the server answers pings of its peers, as it does by default; with `false` they are the application's to answer
    /// ([`ServerHandle::heed_control`], [`ServerHandle::send_pong`]). [`ServerHandle::set_auto_pong`] changes it for one
    /// connection.
    #[must_use]
    pub fn auto_pong(mut self, answers: bool) -> Self {
        self.leaves_pings = !answers;
        self
    }

    /// Asks the application of each handshake that has passed every check of the server's, whatever `auth` says: by
    /// [`Event::Upgrade`], as `auth: "callback"` does.
    ///
    /// Where the server itself has found out who it is, [`Upgrade::identity`](super::Upgrade::identity) says so, and the answer
    /// leaves it so: an [`Accept`](super::Accept) names no user, roles or end of the session. Its time is `auth_timeout_ms`.
    #[must_use]
    pub fn consult(mut self) -> Self {
        self.consulting.of_everyone = true;
        self
    }

    /// As [`consult`](Self::consult), and the application decides as long as it likes while the peer stays: neither
    /// `auth_timeout_ms` nor `handshake_timeout_ms` ends that. `max_pending_auth` bounds how many wait.
    #[must_use]
    pub fn consult_without_deadline(mut self) -> Self {
        self.consulting = Consulting { of_everyone: true, without_deadline: true };
        self
    }

    /// Refuses what is no websocket handshake by its form with the statuses and words of the npm package `ws`, and takes version 8 of
    /// the protocol as 13, as that does: for applications whose clients are used to it.
    #[must_use]
    pub fn like_ws(mut self) -> Self {
        self.is_like_ws = true;
        self
    }

    /// Compiles the options, and starts a server from the policy: [`compile`], then [`start_policy`](Self::start_policy).
    pub fn start(self, options: Options) -> Result<Server, Error> {
        self.start_policy(compile(options)?)
    }

    /// Binds, and starts the threads. The policy in force is logged as one line. The keys of `auth.jwt.jwks_url` are fetched first:
    /// for 5 s at most, on this thread; an issuer that gives none is an error.
    pub fn start_policy(self, policy: PolicySet) -> Result<Server, Error> {
        if !self.unbound {
            policy.top.check_listening()?;
        }
        let tls = policy.top.tls.as_ref().map(tls::load).transpose()?.inspect(|tls| tls.warn());
        // Before there is anybody to let in, and not on a shard: it may take as long as the issuer does.
        let jwks = Fetchers::default();
        let (prepared, news) = jwks.prepare(policy.jwks())?;
        news.tell();
        jwks.run(prepared);
        let bound = if self.unbound { Bound::nowhere() } else { Bound::bind(&policy.top)? };
        let admin = Bound::bind_admin(&policy.top)?;
        let (is_public, is_unix) = (bound.is_public(), bound.is_unix());
        let Bound { listeners, addresses, socket_file } = bound;
        let place = if self.unbound { " (on adopted connections)" } else { "" };
        said(|| tracing::info!(target: "wsguard", "policy in force{place}: {policy}"));
        warn_of_reporting(&policy);
        let waker = ConsumerWaker::default();
        let wake = self.wake.unwrap_or_else(|| Box::new(waker.clone()));
        let mut state = ServerState::new(policy, tls, self.inline, wake, is_public);
        state.is_unix = is_unix;
        (state.jwks, state.consulting) = (jwks, self.consulting);
        (state.leaves_pings, state.is_like_ws) = (self.leaves_pings, self.is_like_ws);
        let state = Arc::new(state);
        clustered::join(&state)?;
        let started = admin.map(|bound| Admin::start(bound, &state)).transpose();
        let started = started.and_then(|admin| Ok((admin, start_threads(&state, listeners)?)));
        let (admin, threads) = started.inspect_err(|_| state.leave_cluster())?;
        let events = Events { state: Arc::clone(&state), waker, turn: 0 };
        Ok(Server { handle: ServerHandle { state }, events, threads, admin, addresses, _socket_file: socket_file })
    }
}

/// The events of a server, for one consumer.
pub struct Events {
    state: Arc<ServerState>,
    waker: ConsumerWaker,
    turn: usize,
}

impl core::fmt::Debug for Events {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// What a wait for events brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The batch holds events.
    Events,
    /// Nothing happened in time.
    Nothing,
    /// The server has stopped and every event was taken.
    Stopped,
}

impl Events {
    /// Fills `batch` with the next events. What it held before is released: the application is done with it.
    ///
    /// Waits at most `timeout`; `None` waits for ever.
    pub fn next(&mut self, batch: &mut EventBatch, timeout: Option<Duration>) -> Next {
        batch.release();
        // Event loops ask so for every batch: they need no clock.
        let only_looks = timeout == Some(Duration::ZERO);
        let deadline = timeout.filter(|_| !only_looks).and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let stopped = self.state.life() == Life::Stopped;
            if self.take(batch) {
                return Next::Events;
            }
            if stopped {
                self.state.end_was_told.store(true, Ordering::Release);
                return Next::Stopped;
            }
            self.state.waker.application_waits();
            // Events may have arrived between the look above and the mark that the application waits; look again.
            if self.take(batch) {
                return Next::Events;
            }
            if self.state.life() != Life::Stopped && (only_looks || !self.waker.wait(deadline)) {
                return Next::Nothing;
            }
        }
    }

    /// As [`next`](Self::next) for a task: where nothing happened yet, it is woken when something does.
    ///
    /// A server that was built with a [`Wake`] of the application's wakes that, and no task.
    pub fn poll_next(&mut self, batch: &mut EventBatch, context: &mut Context<'_>) -> Poll<Next> {
        // Before the look: what comes after it rings.
        self.waker.watch(context.waker());
        match self.next(batch, Some(Duration::ZERO)) {
            Next::Nothing => Poll::Pending,
            next => Poll::Ready(next),
        }
    }

    /// Takes a batch of any shard, in turn.
    fn take(&mut self, batch: &mut EventBatch) -> bool {
        self.state.take_any(&mut self.turn, batch)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Nobody is left to ask (THREATS A4), nor to take what came.
        self.state.tickets.close();
        self.state.end_was_told.store(true, Ordering::Release);
        let mut batch = EventBatch::new();
        while self.take(&mut batch) {
            batch.release();
        }
    }
}

/// A running server. Dropping it stops it at once; [`ServerHandle::drain`] is the gentle way.
#[derive(Debug)]
pub struct Server {
    handle: ServerHandle,
    events: Events,
    threads: Vec<JoinHandle<()>>,
    admin: Option<Admin>,
    addresses: Vec<String>,
    /// Removed when the threads have ended.
    _socket_file: Option<SocketFile>,
}

impl Server {
    /// Starts a server with nothing but options.
    pub fn start(options: Options) -> Result<Self, Error> {
        Builder::new().start(options)
    }

    /// The address it listens on, with the real port; empty without a listener. The first of [`Server::addresses`].
    pub fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }

    /// Every address it listens on, with the real ports: a name in `listen` may resolve to several, IPv4 first.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The address of `admin_listen`, with the real port; `None` without that option.
    pub fn admin_address(&self) -> Option<&str> {
        self.admin.as_ref().map(Admin::address)
    }

    /// A handle for any thread.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// The events, for applications with a loop of their own.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Calls `handle` for every event until the server has stopped.
    ///
    /// Commands of one batch are handed over together. A handler that panics closes the connection it worked for with
    /// 1011 (an upgrade answers 503); the panic is logged by its hook and goes no further. What the handler
    /// would only skip need not wake its thread: [`ServerHandle::heed`].
    pub fn run(self, handle: impl FnMut(Event<'_>, &ServerHandle)) {
        self.run_from(EventBatch::new(), 0, handle);
    }

    /// As [`run`](Self::run), but for a batch first of which the application has taken `taken` events.
    pub(crate) fn run_from(
        mut self,
        mut batch: EventBatch,
        mut taken: usize,
        mut handle: impl FnMut(Event<'_>, &ServerHandle),
    ) {
        let server = self.handle();
        loop {
            let cork = server.cork();
            for event in batch.iter().skip(taken) {
                let conn = event.conn();
                let ticket = if let Event::Upgrade(upgrade) = &event { Some(upgrade.ticket) } else { None };
                let before = guard_panics(true);
                let handled = caught(|| handle(event, &server));
                guard_panics(before);
                if handled.is_none() {
                    let _ = conn.map(|conn| server.fail(conn));
                    let _ = ticket.map(|ticket| server.answer(ticket, Decision::Unavailable));
                }
            }
            drop(cork);
            taken = 0;
            if self.events.next(&mut batch, None) == Next::Stopped {
                return;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.stop();
        let own = std::thread::current().id();
        // One of its own threads may be what lets go of it last: that one cannot wait for its own end.
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            let _ = thread.join();
        }
        super::log::flush();
    }
}
