//! A running server, and the one thread that takes its events.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

use wsguard::binding::{
    Builder, ConnectionId, Error, EventBatch, Next, Notifier, Options, Protocol, Server, ServerHandle as Commands,
    Speaker, Waited, compile,
};

use crate::events::Event;
use crate::everywhere;
use crate::handle::{self, Opaque};
use crate::inline::InlineOf;
use crate::interrupt::Interrupter;
use crate::modes::Modes;
use crate::options::Stated;
use crate::os::{self, lock, without_signals};
use crate::peers::Peers;
use crate::pipes::Pipes;
use crate::plain::is_plain;
use crate::pointers::Pinned;
use crate::replies;
use crate::status::Status;
use crate::views::Views;

/// A running server.
pub enum ServerHandle {}

impl Opaque for ServerHandle {
    type Object = Running;
    const KIND: usize = 3;
}

/// A batch: events that were taken together.
pub enum BatchHandle {}

impl Opaque for BatchHandle {
    type Object = Batch;
    const KIND: usize = 4;
}

/// The object behind a server handle.
#[derive(Debug)]
pub struct Running {
    pub(crate) commands: Commands,
    pub(crate) peers: Arc<Peers>,
    pub(crate) pipes: Pipes,
    /// Every handshake asks the application.
    pub(crate) consults: bool,
    /// The server was stopped: every connection is closed for the application, also those whose open was not taken yet.
    is_dropping: AtomicBool,
    pub(crate) modes: Arc<Modes>,
    /// Locked while a reload is under way: what is noted of it must be of that one, and of the last at the end.
    reloading: Mutex<()>,
    pub(crate) address: CString,
    /// The address of `admin_listen`; empty without that option.
    pub(crate) admin_address: CString,
    pub(crate) interrupter: Arc<Interrupter>,
    forks: u64,
    /// The thread that is in its `wsg_server_run`; 0: none.
    runner: AtomicUsize,
    /// Locked by the thread that takes events; `None`: the server was freed.
    pub(crate) consumer: Mutex<Option<Server>>,
    /// The views of the next batch; `None` while the application has them.
    spare: Arc<Mutex<Option<Pinned<Box<Views>>>>>,
}

/// The object behind a batch handle. It may outlive its server.
#[derive(Debug)]
pub struct Batch {
    pub(crate) views: Mutex<Option<Pinned<Box<Views>>>>,
    pub(crate) home: Weak<Mutex<Option<Pinned<Box<Views>>>>>,
}

/// A number for this thread while it lives. Nothing is dropped at its end, where an application may still free its servers.
fn this_thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| core::ptr::from_ref(here).addr())
}

/// Returns true if this thread is in an inline handler, or in a function that a count is told to: other threads may wait for it,
/// so that it must not wait for them.
pub(crate) fn must_not_wait() -> bool {
    replies::is_inline() || everywhere::is_told()
}

/// The server of a handle, in the process that started it.
pub(crate) fn running(server: *const ServerHandle) -> Result<Arc<Running>, Status> {
    let running = handle::find(server)?;
    if running.is_here() { Ok(running) } else { Err(Status::ErrForked) }
}

impl Running {
    /// Says messages: plain ones, where the thread is in `wsg_server_plain`.
    pub(crate) fn speaker(&self) -> Speaker<'_> {
        self.commands.speaker(!is_plain())
    }

    pub(crate) fn start(stated: &Stated) -> Result<Self, Error> {
        let notifier = Notifier::descriptor().map_err(Error::Start)?;
        let builder = stated.start.apply(Builder::new().wake(notifier.clone()));
        let peers = Arc::new(Peers::default());
        let policies = compile(stated.options.clone())?;
        let modes = Arc::new(Modes::of(&policies));
        let builder = match stated.inline {
            Some(inline) => builder.inline(InlineOf { inline, peers: Arc::clone(&peers), modes: Arc::clone(&modes) }),
            None => builder,
        };
        let server = without_signals(|| builder.start_policy(policies))?;
        let text = |address: &str| CString::new(address).unwrap_or_default();
        Ok(Self {
            commands: server.handle(),
            peers,
            pipes: Pipes::default(),
            consults: stated.start.consults(),
            is_dropping: AtomicBool::new(false),
            modes,
            reloading: Mutex::default(),
            address: text(server.address()),
            admin_address: text(server.admin_address().unwrap_or_default()),
            interrupter: Arc::new(Interrupter::new(notifier)),
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

    /// Drops every connection. Messages of theirs that were taken are not handled any more.
    pub(crate) fn stop(&self) {
        self.commands.stop();
        self.is_dropping.store(true, Ordering::Release);
        self.peers.close_all();
    }

    /// Whether this thread is in its `wsg_server_run`.
    pub(crate) fn is_run_here(&self) -> bool {
        self.runner.load(Ordering::Relaxed) == this_thread()
    }

    /// An open connection that is not over for the application.
    pub(crate) fn open(&self, conn: u64) -> Result<ConnectionId, Status> {
        let conn = ConnectionId::from_u64(conn);
        if self.peers.is_gone(conn) { Err(Status::ErrConnectionClosed) } else { Ok(conn) }
    }

    /// The same, of a connection whose messages have this form.
    pub(crate) fn open_for(&self, conn: u64, protocol: Protocol) -> Result<ConnectionId, Status> {
        self.modes.speaks(protocol)?;
        let conn = self.open(conn)?;
        let is_other = self.modes.is_mixed() && self.commands.protocol(conn).is_some_and(|own| own != protocol);
        if is_other { Err(Status::ErrArgument) } else { Ok(conn) }
    }

    /// Runs by other options from now on, one reload after the other; returns the generation.
    pub(crate) fn reload(&self, options: Options) -> Result<u64, Error> {
        let _one = lock(&self.reloading);
        let before = self.commands.policies();
        let generation = without_signals(|| self.commands.reload(options))?;
        if self.modes.replaced(before, &self.commands.policies()) {
            self.peers.forget_ends();
        }
        Ok(generation)
    }

    /// The right to take events, for one thread at a time.
    pub(crate) fn consume(&self) -> Result<Consumer<'_>, Status> {
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

/// The result of a wait.
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
    /// Waits for events and makes views of them; `timeout` as in the core.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<Taken, Status> {
        let (Some(server), Some(Pinned(views))) = (&mut *self.server, &mut self.views) else {
            return Err(Status::ErrHandle);
        };
        views.forget(&self.running.peers);
        let taken = wait(server, &self.running.interrupter, &mut views.batch, timeout);
        if taken == Taken::Events {
            let Running { peers, pipes, modes, commands, .. } = self.running;
            views.refresh(peers, pipes, modes, commands);
            // After the opens were noted: a `stop` on another thread either finds them, or is seen here.
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
    pub(crate) fn into_batch(mut self) -> Result<*mut BatchHandle, Status> {
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

fn wait(server: &mut Server, interrupter: &Interrupter, batch: &mut EventBatch, timeout: Option<Duration>) -> Taken {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        if interrupter.take() {
            return Taken::Interrupted;
        }
        match server.events().next(batch, Some(Duration::ZERO)) {
            Next::Events => return Taken::Events,
            Next::Stopped => return Taken::Stopped,
            Next::Nothing if interrupter.notifier.take() => {}
            Next::Nothing => {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) || interrupter.notifier.wait(left) == Waited::Interrupted {
                    return Taken::Nothing;
                }
            }
        }
    }
}

/// Marks that this thread runs a server, for as long as it lives.
pub(crate) struct RunGuard<'r>(&'r AtomicUsize);

impl<'r> RunGuard<'r> {
    pub(crate) fn new(running: &'r Running) -> Self {
        running.runner.store(this_thread(), Ordering::Relaxed);
        Self(&running.runner)
    }
}

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_outbox_bytes: usize) -> Options {
        let json = format!(
            r#"{{"listen": "127.0.0.1:0", "threads": 1, "origins": ["https://a.example"], "auth": "none",
                "events": {{"say": {{}}}}, "max_outbox_bytes": {max_outbox_bytes}}}"#
        );
        Options::from_json(&json).unwrap()
    }

    /// Several threads reload together, and what is noted is of the reload that came last.
    #[test]
    fn what_is_noted_is_of_the_last_reload() {
        let running = Running::start(&Stated { options: options(70_000), ..Stated::default() }).unwrap();
        for _ in 0..25 {
            std::thread::scope(|scope| {
                for thread in 1..=4 {
                    let running = &running;
                    scope.spawn(move || running.reload(options(70_000 + thread * 1000)).unwrap());
                }
            });
            let policies = running.commands.policies();
            assert_eq!(running.modes.largest_outbox(), policies.largest_outbox());
            assert_eq!(running.modes.generation_before() + 1, policies.generation);
        }
        running.stop();
    }
}
