//! What a run of a server and its connections share. Connections belong to the run that opened them: a server that starts
//! again has another, and nothing of the old one reaches it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{Error, Notifier, PolicySet, Protocol, RevokedUsers, ServerHandle};

use crate::accepts::PendingAccepts;
use crate::auth_tasks::AuthTasks;
use crate::counts::Counts;
use crate::handlers::{HandlerKind, Handlers};
use crate::lock::{emptied, lock};
use crate::loop_hooks::LoopHooks;
use crate::messages::CurrentMessage;
use crate::{context, errors, fork};

fn bit(protocol: Protocol) -> u8 {
    if protocol == Protocol::Raw { 2 } else { 1 }
}

fn bits(set: &PolicySet) -> u8 {
    set.policies().fold(0, |bits, policy| bits | bit(policy.protocol))
}

/// How long what was said waits for what else is said in the same turn.
pub(crate) const HELD_BACK_AT_MOST: Duration = Duration::from_millis(1);

/// What a run shares with its connections and its callbacks. It knows neither of them, nor the server: whoever must keep
/// the server alive holds it beside this.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) handle: ServerHandle,
    notifier: Notifier,
    /// The protocols of the paths that it serves, or has served before a reload: [`bit`] of each.
    protocols: AtomicU8,
    forks: u64,
    handlers: Mutex<Option<Arc<Handlers>>>,
    loop_hooks: Mutex<Option<Arc<LoopHooks>>>,
    /// The server has stopped and every event was handled.
    finished: AtomicBool,
    /// `stop` was called: nothing that was read before is handled any more.
    pub(crate) is_dropping: AtomicBool,
    /// Held while a user is disconnected, so that the number of the revocation is that call's own.
    pub(crate) revoked: Mutex<RevokedUsers>,
    pub(crate) accepts: Mutex<PendingAccepts>,
    pub(crate) auth_tasks: Mutex<AuthTasks>,
    /// Questions across the nodes of a cluster.
    pub(crate) counts: Counts,
    /// How many coroutines of `on_violation` run.
    pub(crate) reporting: AtomicUsize,
    /// How many coroutines of `on_error` run.
    pub(crate) telling: AtomicUsize,
    /// The message whose function runs now.
    pub(crate) current: Mutex<Option<CurrentMessage>>,
    /// Since when what is said on the loop's thread waits for the end of the loop's turn.
    said_since: Mutex<Option<Instant>>,
    /// Events were handled that nobody was asked about yet: [`Shared::take_handled`].
    handled: AtomicBool,
    /// The context that the server was started in: each connection begins with a copy of its own.
    context: Mutex<Option<Py<PyAny>>>,
}

impl Shared {
    pub(crate) fn new(
        py: Python<'_>,
        handle: ServerHandle,
        notifier: Notifier,
        handlers: Handlers,
        loop_hooks: Option<LoopHooks>,
    ) -> PyResult<Arc<Self>> {
        let policies = handle.policies();
        Ok(Arc::new(Self {
            handle,
            counts: Counts::new(notifier.clone()),
            notifier,
            protocols: AtomicU8::new(bits(&policies)),
            forks: fork::depth(),
            handlers: Mutex::new(Some(Arc::new(handlers))),
            loop_hooks: Mutex::new(loop_hooks.map(Arc::new)),
            finished: AtomicBool::new(false),
            is_dropping: AtomicBool::new(false),
            revoked: Mutex::default(),
            accepts: Mutex::default(),
            auth_tasks: Mutex::default(),
            reporting: AtomicUsize::new(0),
            telling: AtomicUsize::new(0),
            current: Mutex::default(),
            said_since: Mutex::default(),
            handled: AtomicBool::new(false),
            context: Mutex::new(Some(context::current(py)?.unbind())),
        }))
    }

    /// Notes that a reload may have brought paths of another protocol.
    pub(crate) fn note_protocols(&self) {
        self.protocols.fetch_or(bits(&self.handle.policies()), Ordering::Relaxed);
    }

    /// Peers of `json` expect events, those of `raw` what they agreed upon: the other kind is an error of the caller. `path`: that
    /// of the connection; `None`: it is for several.
    pub(crate) fn check_protocol(&self, py: Python<'_>, needed: Protocol, path: Option<&str>) -> PyResult<()> {
        let all = self.protocols.load(Ordering::Relaxed);
        let (is_right, whose) = match path {
            _ if all == bit(needed) => return Ok(()),
            _ if all & bit(needed) == 0 => (false, "server"),
            Some(path) => {
                let resolved = self.handle.policies().resolve(path);
                (resolved.is_none_or(|resolved| resolved.policy.protocol == needed), "connection")
            }
            None => (true, "server"),
        };
        if is_right {
            return Ok(());
        }
        let message = match needed {
            Protocol::Json => format!("emit and reply are of protocol \"json\", and this {whose} is \"raw\": use send"),
            Protocol::Raw => format!("send is of protocol \"raw\", and this {whose} is \"json\": use emit"),
        };
        Err(errors::invalid(py, message))
    }

    /// Returns true if the run belongs to the parent process.
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != fork::depth()
    }

    /// How many coroutines run that no connection waits for: of `on_error`, or of the other handlers.
    pub(crate) fn plain_tasks(&self, kind: HandlerKind) -> &AtomicUsize {
        if kind == HandlerKind::Error { &self.telling } else { &self.reporting }
    }

    /// Whether coroutines of handlers have not ended.
    pub(crate) fn has_tasks(&self, py: Python<'_>) -> bool {
        self.loop_hooks().is_some_and(|hooks| !hooks.tasks.bind(py).is_empty())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Marks the run as finished, and wakes the thread that waits for its events.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.end_wait();
    }

    /// Waits for events on this thread, at most `timeout`; `None` waits for ever. Not for a run with a descriptor.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        self.notifier.wait(timeout);
        self.notifier.take();
    }

    /// Ends a [`wait`](Self::wait). A loop that watches a descriptor is told of the end by other means; and in a child of `fork`
    /// the descriptor is the parent's.
    pub(crate) fn end_wait(&self) {
        if self.notifier.number().is_none() {
            self.notifier.notify();
        }
    }

    /// Makes the descriptor unreadable again. What a thread waits for is its own to take.
    pub(crate) fn reset_descriptor(&self) {
        if self.notifier.number().is_some() {
            self.notifier.take();
        }
    }

    /// Tells everybody who waits for other nodes that no answer comes any more.
    pub(crate) fn stop_counting(&self, py: Python<'_>) -> PyResult<()> {
        let is_forked = self.is_forked();
        let why = || if is_forked { errors::forked(py) } else { errors::of_core(py, &Error::Stopped) };
        self.counts.fail(py, why)
    }

    pub(crate) fn handlers(&self) -> Option<Arc<Handlers>> {
        lock(&self.handlers).clone()
    }

    /// Other handlers from here on, unless the run has ended. The caller drops what is returned.
    pub(crate) fn replace_handlers(&self, handlers: Handlers) -> Option<Arc<Handlers>> {
        lock(&self.handlers).as_mut().map(|before| std::mem::replace(before, Arc::new(handlers)))
    }

    pub(crate) fn loop_hooks(&self) -> Option<Arc<LoopHooks>> {
        lock(&self.loop_hooks).clone()
    }

    /// Notes that events were handled.
    pub(crate) fn note_handled(&self) {
        self.handled.store(true, Ordering::Relaxed);
    }

    /// Whether events were handled since this was asked last.
    pub(crate) fn take_handled(&self) -> bool {
        self.handled.swap(false, Ordering::Relaxed)
    }

    /// The tasks that events have woken run in the loop's next turn: what they say goes out together, at its end.
    pub(crate) fn begin_turn(&self) {
        let mut since = lock(&self.said_since);
        if since.is_none() && self.handle.begin_cork() {
            *since = Some(Instant::now());
        }
    }

    /// Hands over what was said in the turn. On the thread that began it.
    pub(crate) fn end_turn(&self) {
        let since = lock(&self.said_since).take();
        if since.is_some() {
            self.handle.uncork();
        }
    }

    /// A task that takes long does not hold back what others have said.
    pub(crate) fn said(&self) {
        let mut since = lock(&self.said_since);
        if let Some(at) = &mut *since
            && at.elapsed() >= HELD_BACK_AT_MOST
        {
            *at = Instant::now();
            self.handle.flush();
        }
    }

    /// A new context for a connection, a handshake or a verdict: nothing that one of them sets is seen by another.
    pub(crate) fn new_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let context = lock(&self.context).as_ref().map(|context| context.clone_ref(py));
        match context {
            Some(context) => context::copy(context.bind(py)),
            None => context::current(py),
        }
    }

    /// Visits every Python object. A lock that is held belongs to a thread that uses the server: then it is no garbage.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(handlers) = self.handlers.try_lock()
            && let Some(handlers) = &*handlers
        {
            handlers.traverse(visit)?;
        }
        if let Ok(hooks) = self.loop_hooks.try_lock()
            && let Some(hooks) = &*hooks
        {
            hooks.traverse(visit)?;
        }
        if let Ok(accepts) = self.accepts.try_lock() {
            accepts.traverse(visit)?;
        }
        self.counts.traverse(visit)?;
        if let Ok(tasks) = self.auth_tasks.try_lock() {
            tasks.traverse(visit)?;
        }
        if let Ok(context) = self.context.try_lock() {
            visit.call(&*context)?;
        }
        match self.current.try_lock().ok().as_deref() {
            Some(Some(current)) => visit.call(&current.data),
            _ => Ok(()),
        }
    }

    /// Lets go of everything of Python's: from here on no handler of this run is called.
    pub(crate) fn retire(&self) {
        self.finished.store(true, Ordering::Release);
        // Each is dropped after its lock: what is dropped may run Python that comes back here.
        let calls = (emptied(&self.handlers), emptied(&self.loop_hooks));
        let kept = (emptied(&self.accepts), emptied(&self.auth_tasks));
        let last = (emptied(&self.current), emptied(&self.context));
        drop((calls, kept, last));
        self.counts.retire();
    }
}
