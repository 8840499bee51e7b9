//! A server: its threads, its events, and the loop for applications that have none of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{Builder as ThreadBuilder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::unconstrained;

use super::bind::{Bound, Listening, SocketFile};
use super::caught::{caught, said};
use super::commands::{Command, ServerHandle};
use super::compile::{compile, threads};
use super::events::{Event, EventBatch};
use super::listener::accept_from;
use super::log::guard_panics;
use super::shard::{self, Shard, carry_out};
use super::shared::{Life, Shared, Wake};
use super::sink::Inline;
use super::tickets::Decision;
use super::tls;
use crate::error::Error;
use wsguard_proto::config::{Options, Policy};
use wsguard_proto::lock::lock;

/// Turns that handshakes have to be refused in when their shard ends.
const LAST_TURNS: usize = 4;

/// Wakes a thread that waits in [`Events::next`], or the task that has asked in [`Events::poll_next`].
#[derive(Clone, Default)]
struct Bell {
    inner: Arc<(Mutex<Ringing>, Condvar)>,
}

#[derive(Default)]
struct Ringing {
    rang: bool,
    task: Option<Waker>,
}

impl Wake for Bell {
    fn wake(&self) {
        let mut ringing = lock(&self.inner.0);
        ringing.rang = true;
        let task = ringing.task.take();
        drop(ringing);
        self.inner.1.notify_one();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Bell {
    /// Waits until it rings; `false`: the deadline came first.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut ringing = lock(&self.inner.0);
        while !ringing.rang {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            ringing = match left {
                Some(Duration::ZERO) => return false,
                Some(left) => match self.inner.1.wait_timeout(ringing, left) {
                    Ok((ringing, _)) => ringing,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self.inner.1.wait(ringing).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
        ringing.rang = false;
        true
    }

    /// Wakes this task when it rings next.
    fn watch(&self, task: &Waker) {
        let mut ringing = lock(&self.inner.0);
        ringing.rang = false;
        match &mut ringing.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }
}

/// What a server is started with beside its options.
#[derive(Default)]
pub struct Builder {
    inline: Option<Box<dyn Inline>>,
    wake: Option<Box<dyn Wake>>,
    unbound: bool,
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

    /// Compiles the options, and starts a server from the policy: [`compile`], then [`start_policy`](Self::start_policy).
    pub fn start(self, options: Options) -> Result<Server, Error> {
        self.start_policy(compile(options)?)
    }

    /// Binds, and starts the threads. The policy in force is logged as one line.
    pub fn start_policy(self, mut policy: Policy) -> Result<Server, Error> {
        policy.threads = threads(policy.threads);
        let tls = policy.tls.as_ref().map(tls::server_config).transpose()?;
        let bound = if self.unbound { Bound::nowhere() } else { Bound::bind(&policy)? };
        let is_public = bound.is_public();
        let Bound { listeners, addresses, socket_file } = bound;
        let place = if self.unbound { " (on adopted connections)" } else { "" };
        said(|| tracing::info!(target: "wsguard", "policy in force{place}: {policy}"));
        let bell = Bell::default();
        let wake = self.wake.unwrap_or_else(|| Box::new(bell.clone()));
        let shared = Arc::new(Shared::new(policy, tls, self.inline, wake, is_public));
        let threads = start_threads(&shared, listeners)?;
        let events = Events { shared: Arc::clone(&shared), bell, turn: 0 };
        Ok(Server { handle: ServerHandle { shared }, events, threads, addresses, _socket_file: socket_file })
    }
}

/// Starts every shard, and waits until all of them run. An error leaves none behind.
fn start_threads(shared: &Arc<Shared>, mut listeners: Vec<Listening>) -> Result<Vec<JoinHandle<()>>, Error> {
    let alive = Arc::new(AtomicUsize::new(shared.shards.len()));
    let (ready, started) = mpsc::channel();
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for index in 0..shared.shards.len() {
        let (shared, alive, ready) = (Arc::clone(shared), Arc::clone(&alive), ready.clone());
        let listeners = if index == 0 { core::mem::take(&mut listeners) } else { Vec::new() };
        let run = move || {
            guard_panics(true);
            let mut end = ShardEnd { shared: Arc::clone(&shared), alive, index, ended_well: false };
            end.ended_well = caught(|| run_shard(&shared, index, listeners, ready)).unwrap_or(false);
        };
        match ThreadBuilder::new().name(format!("wsguard-{index}")).spawn(run) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    drop(ready);
    for _ in &threads {
        let began = started.recv().unwrap_or_else(|_| Err(std::io::Error::other("a shard ended at once")));
        outcome = outcome.and(began);
    }
    if let Err(error) = outcome {
        for remote in &shared.shards {
            remote.post(|commands| commands.commands.push(Command::Stop));
        }
        for thread in threads {
            let _ = thread.join();
        }
        return Err(Error::Start(error));
    }
    Ok(threads)
}

/// The end of a shard's thread, however it came: the last one ends the server, and one that died ends it at once.
struct ShardEnd {
    shared: Arc<Shared>,
    alive: Arc<AtomicUsize>,
    index: usize,
    ended_well: bool,
}

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.shared.shards[self.index].close();
        if !self.ended_well {
            self.shared.fail(self.index);
        }
        if self.alive.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Handshakes that still waited went with their shards.
            self.shared.tickets.close();
            self.shared.advance(Life::Stopped);
            self.shared.wake_at_once();
        }
    }
}

/// A task without which its shard is of no use: its end, or its panic, ends the shard.
struct Vital(Arc<Shared>, usize);

impl Vital {
    async fn run(self, task: impl Future<Output = ()>) {
        task.await;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        let remote = &self.0.shards[self.1];
        remote.lost_a_task.store(true, Ordering::Release);
        remote.commands_arrived.notify_one();
    }
}

/// Runs a shard to its end; `false`: it died.
fn run_shard(
    shared: &Arc<Shared>,
    index: usize,
    listeners: Vec<Listening>,
    ready: mpsc::Sender<std::io::Result<()>>,
) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return true;
        }
    };
    shard::install(Shard::new(Arc::clone(shared), index));
    let _ = caught(|| runtime.block_on(work(shared, index, listeners, ready)));
    let ended_well = shard::has_stopped();
    // Sockets go with the shard, before the runtime they are registered with.
    let _ = caught(shard::remove);
    let _ = caught(|| drop(runtime));
    ended_well
}

async fn work(shared: &Arc<Shared>, index: usize, listeners: Vec<Listening>, ready: mpsc::Sender<std::io::Result<()>>) {
    let vital = || Vital(Arc::clone(shared), index);
    // `unconstrained`: the runtime's budget of a turn is meant for tasks of one connection each. These work for all of them and
    // bound their own turns.
    tokio::spawn(unconstrained(vital().run(shard::run_connections())));
    tokio::spawn(unconstrained(vital().run(shard::run_timers())));
    tokio::spawn(unconstrained(vital().run(shard::wake_application())));
    for listener in listeners {
        tokio::spawn(vital().run(accept_from(Arc::clone(shared), listener)));
    }
    let _ = ready.send(Ok(()));
    // Whoever waits for all shards must not wait for this one any more, should another die before it has said so.
    drop(ready);
    let remote = &shared.shards[index];
    loop {
        remote.commands_arrived.notified().await;
        let goes_on = unconstrained(async { carry_out() }).await;
        if !goes_on || remote.lost_a_task.load(Ordering::Acquire) {
            return refuse_who_waits(shared).await;
        }
        if remote.has_commands() {
            // An application that never stops speaking keeps neither sockets nor timers from their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// The last thing a shard does: handshakes that wait for the application are answered, and not just dropped.
async fn refuse_who_waits(shared: &Shared) {
    shared.tickets.close();
    for _ in 0..LAST_TURNS {
        tokio::task::yield_now().await;
    }
}

/// The events of a server, for one consumer.
pub struct Events {
    shared: Arc<Shared>,
    bell: Bell,
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
    /// Fills `batch` with the next events. What it held before is let go: the application is done with it.
    ///
    /// Waits at most `patience`; `None` waits for ever.
    pub fn next(&mut self, batch: &mut EventBatch, patience: Option<Duration>) -> Next {
        batch.release();
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let stopped = self.shared.life() == Life::Stopped;
            if self.take(batch) {
                return Next::Events;
            }
            if stopped {
                return Next::Stopped;
            }
            self.shared.application_waits();
            // Between the look and the mark events may have come that saw nobody waiting.
            if self.take(batch) {
                return Next::Events;
            }
            if self.shared.life() != Life::Stopped && !self.bell.wait(deadline) {
                return Next::Nothing;
            }
        }
    }

    /// As [`next`](Self::next) for a task: where nothing happened yet, it is woken when something does.
    ///
    /// A server that was built with a [`Wake`] of the application's wakes that, and no task.
    pub fn poll_next(&mut self, batch: &mut EventBatch, context: &mut Context<'_>) -> Poll<Next> {
        // Before the look: what comes after it rings.
        self.bell.watch(context.waker());
        match self.next(batch, Some(Duration::ZERO)) {
            Next::Nothing => Poll::Pending,
            next => Poll::Ready(next),
        }
    }

    /// Takes a batch of any shard, in turn.
    fn take(&mut self, batch: &mut EventBatch) -> bool {
        let shards = self.shared.shards.len();
        for _ in 0..shards {
            self.turn = (self.turn + 1) % shards;
            if self.shared.take_events(self.turn, batch) {
                return true;
            }
        }
        false
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Nobody is left to ask (THREATS A4), nor to take what came.
        self.shared.tickets.close();
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
    /// 1011 (an upgrade answers 503); the panic is logged by its hook and goes no further (THREATS S5). What the handler
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
