//! One run of a server, from its start to its end; and the end of every run when the interpreter ends.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{Notifier, Server as CoreServer};

use crate::connections::Connections;
use crate::delivery::{Delivery, Progress};
use crate::ending;
use crate::handlers::Handlers;
use crate::lock::{emptied, lock};
use crate::loop_hooks::LoopHooks;
use crate::shared::Shared;

/// How long the end of the interpreter, or of a run that an exception ends, waits for queued messages to be sent.
pub(crate) const LAST_MESSAGES_WITHIN: Duration = Duration::from_millis(1000);

/// Every run of this process, for the end of the interpreter.
static RUNNING: Mutex<Vec<Weak<Run>>> = Mutex::new(Vec::new());

/// One run of a server.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    /// With the real ports; a name in `listen` may resolve to several.
    pub(crate) addresses: Vec<String>,
    /// Of `admin_listen`.
    pub(crate) admin_address: Option<String>,
    pub(crate) connections: Mutex<Connections>,
    /// Taken out while events are handled; gone when the server has stopped.
    delivery: Mutex<Option<Box<Delivery>>>,
}

/// The delivery of a run while it handles events. It is put back however the turn ends, by a panic as well.
struct Turn<'r> {
    run: &'r Run,
    delivery: Option<Box<Delivery>>,
}

impl<'r> Turn<'r> {
    /// Takes the delivery, so that a handler that comes back here finds nothing to do.
    fn begin(run: &'r Run) -> Option<Self> {
        let delivery = lock(&run.delivery).take()?;
        Some(Self { run, delivery: Some(delivery) })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            *lock(&self.run.delivery) = Some(delivery);
        }
    }
}

impl Run {
    pub(crate) fn new(
        py: Python<'_>,
        server: CoreServer,
        notifier: Notifier,
        handlers: Handlers,
        loop_hooks: Option<LoopHooks>,
    ) -> PyResult<Arc<Self>> {
        let run = Arc::new(Self {
            shared: Shared::new(py, server.handle(), notifier, handlers, loop_hooks)?,
            addresses: server.addresses().to_vec(),
            admin_address: server.admin_address().map(str::to_owned),
            connections: Mutex::default(),
            delivery: Mutex::new(Some(Box::new(Delivery::new(server)))),
        });
        let mut running = lock(&RUNNING);
        running.retain(|other| other.strong_count() > 0);
        running.push(Arc::downgrade(&run));
        Ok(run)
    }

    /// Handles the events that there are, about `most` of them at most. `server` is the Python server, which connections
    /// keep alive.
    pub(crate) fn deliver(&self, server: &Bound<'_, PyAny>, most: usize) -> PyResult<Progress> {
        if ending::has_come() {
            return Ok(Progress::Idle);
        }
        if !self.shared.is_forked() {
            self.shared.counts.tell(server.py())?;
        }
        let Some(mut turn) = Turn::begin(self) else {
            return Ok(if self.shared.is_finished() { Progress::Stopped } else { Progress::Idle });
        };
        let Some(delivery) = &mut turn.delivery else { return Ok(Progress::Idle) };
        let progress = delivery.turn(server, &self.shared, &self.connections, most);
        if matches!(progress, Ok(Progress::Stopped)) {
            let delivery = turn.delivery.take();
            self.shared.finish();
            server.py().detach(|| drop(delivery));
            self.shared.stop_counting(server.py())?;
        }
        progress
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.shared.traverse(visit)?;
        self.connections.try_lock().map_or(Ok(()), |connections| connections.traverse(visit))
    }

    /// Lets go of everything of Python's: from here on no handler of this run is called.
    pub(crate) fn retire(&self) {
        self.shared.retire();
        let kept = (emptied(&self.delivery), emptied(&self.connections));
        drop(kept);
    }

    /// Ends the run without calling any handler. What was sent before goes out, where the peers take it within `timeout`.
    /// Returns true if it was running and nobody handles its events at this moment.
    pub(crate) fn end(&self, py: Python<'_>, timeout: Duration) -> bool {
        let delivery = lock(&self.delivery).take();
        let was_running = delivery.is_some();
        if !self.shared.is_forked() {
            py.detach(|| match delivery {
                Some(delivery) => delivery.end(timeout),
                None => self.shared.handle.stop(),
            });
        }
        self.shared.finish();
        // What a waiter's loop says to this is its own affair: the run has ended.
        let _ = self.shared.stop_counting(py);
        was_running
    }
}

fn running() -> Vec<Arc<Run>> {
    lock(&RUNNING).iter().filter_map(Weak::upgrade).collect()
}

/// Marks the interpreter as ending: from here on no handler is called.
#[pyfunction]
pub(crate) fn begin_ending() {
    ending::begin();
    for run in running() {
        run.shared.end_wait();
    }
}

/// Ends every server of this process, before the interpreter ends.
#[pyfunction]
pub(crate) fn stop_all(py: Python<'_>) {
    for run in running() {
        if !run.shared.is_finished() {
            run.end(py, LAST_MESSAGES_WITHIN);
        }
    }
}
