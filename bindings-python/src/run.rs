//! One run of a server, from its start to its end. Connections belong to the run they were opened in: a server that is
//! started again has another, and nothing of the old one reaches it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PySet;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{ConnectionId, ConnectionMap, Options, RevokedUsers, ServerHandle};

use crate::auth::{Asking, Granting};
use crate::bell::{Bell, lock};
use crate::connection::Connection;
use crate::delivery::Delivery;
use crate::handlers::{Current, Handlers};
use crate::pending::max_pending_bytes;
use crate::{errors, fork};

/// Taken out while events are handled; gone when the server has stopped.
pub(crate) type Deliveries = Mutex<Option<Box<Delivery>>>;

/// The event loop that a server delivers on.
#[derive(Debug)]
pub(crate) struct Looping {
    pub(crate) create_future: Py<PyAny>,
    /// `create_task(coroutine, context)`.
    pub(crate) create_task: Py<PyAny>,
    /// Calls `_deliver` in the loop's next round.
    pub(crate) deliver_soon: Py<PyAny>,
    /// Called once, when the server has stopped and every event was handled.
    pub(crate) stopped: Py<PyAny>,
    /// `call_later(seconds, callback)`.
    pub(crate) call_later: Py<PyAny>,
    /// `call_soon(callback)`, from any thread.
    pub(crate) call_soon: Py<PyAny>,
    /// Tasks that have not ended: a loop holds its tasks weakly.
    pub(crate) tasks: Py<PySet>,
}

/// `(create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks)` of an event loop.
pub(crate) type LoopCalls = (Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PySet>);

impl Looping {
    pub(crate) fn of(calls: LoopCalls) -> Self {
        let (create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks) = calls;
        Self { create_future, create_task, deliver_soon, stopped, call_later, call_soon, tasks }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for call in [&self.create_future, &self.create_task, &self.deliver_soon, &self.stopped] {
            visit.call(call)?;
        }
        visit.call(&self.call_later)?;
        visit.call(&self.call_soon)?;
        visit.call(&self.tasks)
    }
}

/// The open connections that the application knows.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: ConnectionMap<Py<Connection>>,
    of_users: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl Connections {
    pub(crate) fn insert(&mut self, id: ConnectionId, user: Option<&Arc<str>>, conn: Py<Connection>) {
        self.all.insert(id, conn);
        if let Some(user) = user {
            self.of_users.entry(Arc::clone(user)).or_default().insert(id);
        }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>, id: ConnectionId) -> Option<Bound<'py, Connection>> {
        self.all.get(id).map(|conn| conn.bind(py).clone())
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Py<Connection>> {
        let conn = self.all.remove(id)?;
        if let Some(user) = conn.get().user_name()
            && let Some(own) = self.of_users.get_mut(user)
        {
            own.remove(&id);
            if own.is_empty() {
                self.of_users.remove(user);
            }
        }
        Some(conn)
    }

    pub(crate) fn every<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, Connection>> {
        self.all.values().map(|conn| conn.bind(py).clone()).collect()
    }

    pub(crate) fn of_user<'py>(&self, py: Python<'py>, user: &str) -> Vec<Bound<'py, Connection>> {
        let ids = self.of_users.get(user).into_iter().flatten();
        ids.filter_map(|id| self.get(py, *id)).collect()
    }
}

/// What the options of a run bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_pending_auth: usize,
    /// The bytes of one connection that may wait in Python before it is no longer read.
    pub(crate) max_pending_bytes: usize,
}

impl Bounds {
    /// Handshakes that were granted and have not opened yet: at most so many are kept. The core asks about
    /// `max_pending_auth` at once, and about no more before their batch was let go: an open that still comes belongs to one
    /// of the last few batches.
    pub(crate) fn max_granted(self) -> usize {
        self.max_pending_auth.saturating_mul(16).max(1024)
    }

    pub(crate) fn of(options: &Options) -> Self {
        let (per_user, per_ip) = (options.max_connections_per_user, options.max_connections_per_ip);
        Self {
            max_pending_auth: options.max_pending_auth,
            max_pending_bytes: max_pending_bytes(options.max_inbox_bytes, per_user, per_ip),
        }
    }
}

/// What messages of a server look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    Raw,
}

/// One run of a server.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) handle: ServerHandle,
    /// With the real ports; a name in `listen` may resolve to several.
    pub(crate) addresses: Vec<String>,
    pub(crate) bell: Bell,
    pub(crate) bounds: Bounds,
    protocol: Protocol,
    forks: u64,
    handlers: Mutex<Option<Arc<Handlers>>>,
    looping: Mutex<Option<Arc<Looping>>>,
    pub(crate) delivery: Deliveries,
    /// The server has stopped and every event was handled.
    finished: AtomicBool,
    pub(crate) connections: Mutex<Connections>,
    /// It was stopped: nothing that was read before is handled any more.
    pub(crate) is_dropping: AtomicBool,
    /// Held while a user is disconnected, so that the number is that call's own.
    pub(crate) revoked: Mutex<RevokedUsers>,
    pub(crate) granting: Mutex<Granting>,
    pub(crate) asking: Mutex<Asking>,
    /// How many coroutines of `on_violation` run.
    pub(crate) reporting: AtomicUsize,
    /// The message of a function that runs now.
    pub(crate) current: Mutex<Option<Current>>,
    /// The context that the server was started in: each connection begins with a copy of its own.
    context: Mutex<Option<Py<PyAny>>>,
}

/// Every server that runs, for the end of the interpreter.
static RUNNING: Mutex<Vec<Weak<Run>>> = Mutex::new(Vec::new());

/// How long the end of the interpreter, or of a run that an exception ends, waits for what was said before to be sent.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(1000);

impl Run {
    pub(crate) fn new(
        py: Python<'_>,
        server: wsguard::binding::Server,
        bell: Bell,
        handlers: Handlers,
        looping: Option<Looping>,
        bounds: Bounds,
    ) -> PyResult<Arc<Self>> {
        let context = py.import("contextvars")?.call_method0("copy_context")?.unbind();
        let run = Arc::new(Self {
            handle: server.handle(),
            addresses: server.addresses().to_vec(),
            bell,
            bounds,
            protocol: handlers.protocol,
            forks: fork::depth(),
            handlers: Mutex::new(Some(Arc::new(handlers))),
            looping: Mutex::new(looping.map(Arc::new)),
            delivery: Mutex::default(),
            finished: AtomicBool::new(false),
            connections: Mutex::default(),
            is_dropping: AtomicBool::new(false),
            revoked: Mutex::default(),
            granting: Mutex::default(),
            asking: Mutex::default(),
            reporting: AtomicUsize::new(0),
            current: Mutex::default(),
            context: Mutex::new(Some(context)),
        });
        *lock(&run.delivery) = Some(Box::new(Delivery::new(server)));
        let mut running = lock(&RUNNING);
        running.retain(|other| other.strong_count() > 0);
        running.push(Arc::downgrade(&run));
        Ok(run)
    }

    /// Peers of `json` expect events, those of `raw` what they agreed upon: the other kind is an error of the caller.
    pub(crate) fn check_protocol(&self, py: Python<'_>, needed: Protocol) -> PyResult<()> {
        if self.protocol == needed {
            return Ok(());
        }
        let message = match needed {
            Protocol::Json => "emit and reply are of protocol \"json\", and this server is \"raw\": use send",
            Protocol::Raw => "send is of protocol \"raw\", and this server is \"json\": use emit",
        };
        Err(errors::invalid(py, message.to_owned()))
    }

    /// Whether it belongs to the parent process.
    pub(crate) fn is_forked(&self) -> bool {
        self.forks != fork::depth()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(crate) fn handlers(&self) -> Option<Arc<Handlers>> {
        lock(&self.handlers).clone()
    }

    pub(crate) fn looping(&self) -> Option<Arc<Looping>> {
        lock(&self.looping).clone()
    }

    /// A new context for a connection, a handshake or a verdict: nothing that one of them sets is seen by another.
    pub(crate) fn new_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let context = lock(&self.context).as_ref().map(|context| context.clone_ref(py));
        match context {
            Some(context) => context.bind(py).call_method0(pyo3::intern!(py, "copy")),
            None => py.import("contextvars")?.call_method0("copy_context"),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held belongs to a thread that uses the server: then it is no garbage.
        if let Ok(handlers) = self.handlers.try_lock()
            && let Some(handlers) = &*handlers
        {
            handlers.traverse(visit)?;
        }
        if let Ok(looping) = self.looping.try_lock()
            && let Some(looping) = &*looping
        {
            looping.traverse(visit)?;
        }
        if let Ok(connections) = self.connections.try_lock() {
            connections.all.values().try_for_each(|conn| visit.call(conn))?;
        }
        if let Ok(granting) = self.granting.try_lock() {
            granting.traverse(visit)?;
        }
        if let Ok(asking) = self.asking.try_lock() {
            asking.traverse(visit)?;
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
        // Each is let go after its lock: what goes with it may run Python that comes back here.
        let calls = (emptied(&self.handlers), emptied(&self.looping), emptied(&self.delivery));
        let kept = (emptied(&self.connections), emptied(&self.granting), emptied(&self.asking));
        let last = (emptied(&self.current), emptied(&self.context));
        drop((calls, kept, last));
    }

    /// Ends it without calling any handler: what was said before is sent, where the peers take it within `patience`.
    /// Whether it was running, and nobody handles its events just now.
    pub(crate) fn end(&self, py: Python<'_>, patience: Duration) -> bool {
        let delivery = lock(&self.delivery).take();
        let was_running = delivery.is_some();
        if !self.is_forked() {
            py.detach(|| match delivery {
                Some(delivery) => delivery.end(patience),
                None => self.handle.stop(),
            });
        }
        self.finish();
        was_running
    }
}

fn emptied<T: Default>(kept: &Mutex<T>) -> T {
    std::mem::take(&mut *lock(kept))
}

/// Calls `function(first)` or `function(first, second)` in a context.
pub(crate) fn in_context<'py>(
    context: &Bound<'py, PyAny>,
    function: &Py<PyAny>,
    first: &Bound<'py, PyAny>,
    second: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = context.py();
    let run = RUN.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("contextvars")?.getattr("Context")?.getattr("run")?.unbind())
    })?;
    match second {
        Some(second) => run.bind(py).call1((context, function, first, second)),
        None => run.bind(py).call1((context, function, first)),
    }
}

fn running() -> Vec<Arc<Run>> {
    lock(&RUNNING).iter().filter_map(Weak::upgrade).collect()
}

/// Wakes every thread that waits for events.
pub(crate) fn wake_all() {
    for run in running() {
        run.bell.ring();
    }
}

/// Ends every server of this process: called before the interpreter does.
#[pyfunction]
pub(crate) fn stop_all(py: Python<'_>) {
    for run in running() {
        if !run.is_finished() {
            run.end(py, LAST_WORDS_WITHIN);
        }
    }
}

/// How long [`Run::end`] may take where an exception ends a run.
pub(crate) const fn last_words_within() -> Duration {
    LAST_WORDS_WITHIN
}
