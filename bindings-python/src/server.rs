//! A server: started with options and handlers, and delivered to by whoever calls `_deliver` or `_run`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::host::{Builder, Error, Options, ServerHandle};

use crate::auth::Granting;
use crate::bell::{Bell, lock};
use crate::connection::{Connection, Payload, with_payload};
use crate::delivery::{Delivery, EVENTS_PER_TURN, Progress};
use crate::handlers::{Current, Handlers};
use crate::{errors, fork, json_out, stats};

/// The event loop that a server delivers on.
#[derive(Debug)]
pub(crate) struct Looping {
    pub(crate) create_future: Py<PyAny>,
    pub(crate) create_task: Py<PyAny>,
    /// Calls `_deliver` in the loop's next round.
    deliver_soon: Py<PyAny>,
    /// Called once, when the server has stopped and every event was handled.
    stopped: Py<PyAny>,
    /// Tasks that have not ended: a loop holds its tasks weakly.
    pub(crate) tasks: Py<PySet>,
}

/// Taken out while events are handled; gone when the server has stopped.
type Deliveries = Mutex<Option<Box<Delivery>>>;

/// `(create_future, create_task, deliver_soon, stopped, tasks)` of an event loop.
type LoopCalls = (Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PySet>);

/// How often a thread that waits outside of asyncio looks for signals, where it is the one that gets them.
const SIGNALS_WITHIN: Duration = Duration::from_millis(200);

/// The native side of `wsguard.Server`.
#[pyclass(frozen, subclass, weakref, module = "wsguard._wsguard")]
#[derive(Debug, Default)]
pub(crate) struct NativeServer {
    started: OnceLock<Started>,
    handlers: Mutex<Option<Arc<Handlers>>>,
    looping: Mutex<Option<Arc<Looping>>>,
    delivery: Arc<Deliveries>,
    bell: Bell,
    /// The server has stopped and every event was handled.
    finished: AtomicBool,
    pub(crate) granting: Mutex<Granting>,
    /// The message of a function that runs now.
    pub(crate) current: Mutex<Option<Current>>,
}

pub(crate) use NativeServer as Server;

#[derive(Debug)]
struct Started {
    handle: ServerHandle,
    address: String,
    forks: u64,
}

/// Every server that runs, for the end of the interpreter.
static RUNNING: Mutex<Vec<Weak<Deliveries>>> = Mutex::new(Vec::new());

/// Ends every server of this process: called before the interpreter does.
#[pyfunction]
pub(crate) fn stop_all(py: Python<'_>) {
    let running = std::mem::take(&mut *lock(&RUNNING));
    for delivery in running.iter().filter_map(Weak::upgrade) {
        let delivery = lock(&delivery).take();
        py.detach(|| drop(delivery));
    }
}

impl Server {
    fn started(&self, py: Python<'_>) -> PyResult<&Started> {
        self.started.get().ok_or_else(|| errors::not_started(py))
    }

    /// The core's handle, in the process that started the server.
    pub(crate) fn running(&self, py: Python<'_>) -> PyResult<&ServerHandle> {
        let started = self.started(py)?;
        if started.forks == fork::depth() {
            return Ok(&started.handle);
        }
        Err(errors::forked(py))
    }

    /// Whether it belongs to the parent process.
    fn is_forked(&self) -> bool {
        self.started.get().is_some_and(|started| started.forks != fork::depth())
    }

    pub(crate) fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py).map(drop)
    }

    pub(crate) fn handlers(&self) -> Option<Arc<Handlers>> {
        lock(&self.handlers).clone()
    }

    pub(crate) fn looping(&self) -> Option<Arc<Looping>> {
        lock(&self.looping).clone()
    }

    /// Handles the events there are, at most `most` of them.
    fn deliver(slf: &Bound<'_, Self>, most: usize) -> PyResult<Progress> {
        let this = slf.get();
        this.check_process(slf.py())?;
        // Taken, so that a handler that comes back here finds nothing to do.
        let Some(mut delivery) = lock(&this.delivery).take() else {
            return Ok(if this.finished.load(Ordering::Acquire) { Progress::Stopped } else { Progress::Nothing });
        };
        let progress = delivery.turn(slf, most);
        if matches!(progress, Ok(Progress::Stopped)) {
            this.finished.store(true, Ordering::Release);
            this.bell.ring();
            slf.py().detach(|| drop(delivery));
        } else {
            *lock(&this.delivery) = Some(delivery);
        }
        progress
    }

    fn broadcast(
        &self,
        py: Python<'_>,
        except: Option<&Bound<'_, Connection>>,
        send: impl FnOnce(&ServerHandle, Option<wsguard::host::ConnectionId>) -> Result<(), Error>,
    ) -> PyResult<()> {
        let handle = self.running(py)?;
        send(handle, except.map(|conn| conn.get().id)).map_err(|error| errors::of_core(py, &error))
    }
}

impl Looping {
    fn deliver_soon(&self, py: Python<'_>) {
        // A loop that is closed has nobody left to deliver to.
        let _ = self.deliver_soon.bind(py).call0();
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Makes the descriptor an event loop watches; `None` where there is none.
    fn _open_bell(&self) -> PyResult<Option<i32>> {
        Ok(self.bell.open()?)
    }

    /// Goes back to a thread that waits, for loops that watch no descriptors.
    fn _close_bell(&self) {
        self.bell.close();
    }

    /// Starts the threads. `looping` is `None` for `_run`.
    fn _start(
        slf: &Bound<'_, Self>,
        options: &str,
        handlers: &Bound<'_, PyDict>,
        looping: Option<LoopCalls>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let options = Options::from_json(options).map_err(|error| errors::of_config(py, error))?;
        let handlers = Handlers::of_dict(handlers)?;
        let ringer = this.bell.ringer();
        let server =
            py.detach(|| Builder::new().wake(ringer).start(options)).map_err(|error| errors::of_core(py, &error))?;
        let started = Started { handle: server.handle(), address: server.address().to_owned(), forks: fork::depth() };
        // Coroutines that speak for a connection hear of its end, whether or not there is a handler for it.
        started.handle.heed(handlers.open.is_some(), true, handlers.violation.is_some());
        *lock(&this.handlers) = Some(Arc::new(handlers));
        *lock(&this.looping) = looping.map(|(create_future, create_task, deliver_soon, stopped, tasks)| {
            Arc::new(Looping { create_future, create_task, deliver_soon, stopped, tasks })
        });
        *lock(&this.delivery) = Some(Box::new(Delivery::new(server)));
        let mut running = lock(&RUNNING);
        running.retain(|other| other.strong_count() > 0);
        running.push(Arc::downgrade(&this.delivery));
        // Last: from here on others see it.
        let _ = this.started.set(started);
        Ok(())
    }

    /// Handles what there is; the callback of an event loop. The rest of much is left for the loop's next round.
    fn _deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if this.is_forked() {
            // The parent's loop, still turning in a child: the events are the parent's.
            return Ok(());
        }
        this.bell.silence();
        let progress = Self::deliver(slf, EVENTS_PER_TURN);
        let Some(looping) = this.looping() else { return progress.map(drop) };
        match progress {
            Ok(Progress::Nothing) => Ok(()),
            Ok(Progress::Stopped) => looping.stopped.bind(py).call0().map(drop),
            Ok(Progress::More) => {
                looping.deliver_soon(py);
                Ok(())
            }
            // Whatever ends the loop may not: then the events that are left must not wait for new ones.
            Err(error) => {
                looping.deliver_soon(py);
                Err(error)
            }
        }
    }

    /// Waits until there is something to deliver; whether there can be anything yet.
    fn _wait(&self, py: Python<'_>) -> bool {
        py.detach(|| self.bell.wait(None));
        !self.finished.load(Ordering::Acquire)
    }

    /// Handles events on this thread until the server has stopped. `signals`: this thread is the one that gets them.
    fn _run(slf: &Bound<'_, Self>, signals: bool) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let patience = signals.then_some(SIGNALS_WITHIN);
        loop {
            match Self::deliver(slf, usize::MAX)? {
                Progress::Stopped => return Ok(()),
                Progress::More => {}
                Progress::Nothing => py.detach(|| this.bell.wait(patience)),
            }
            py.check_signals()?;
        }
    }

    /// Stops at once, and waits for the threads; whether it was running. In a child of `fork` it only forgets them.
    fn _end(&self, py: Python<'_>) -> bool {
        let delivery = lock(&self.delivery).take();
        self.finished.store(true, Ordering::Release);
        let was_running = delivery.is_some();
        py.detach(|| drop(delivery));
        self.bell.ring();
        was_running
    }

    /// Whether it was started, in this process.
    #[getter]
    fn _is_started(&self) -> bool {
        self.started.get().is_some()
    }

    #[getter]
    fn _is_forked(&self) -> bool {
        self.is_forked()
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<&str> {
        self.check_process(py)?;
        Ok(&self.started(py)?.address)
    }

    fn _drain(&self, py: Python<'_>, timeout_ms: u64, jitter_ms: u64) -> PyResult<()> {
        self.running(py)?.drain(timeout_ms, jitter_ms);
        Ok(())
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.running(py)?.stop();
        Ok(())
    }

    #[pyo3(signature = (user, /))]
    fn disconnect_user(&self, py: Python<'_>, user: &str) -> PyResult<()> {
        self.running(py)?.disconnect_user(user).map_err(|error| errors::of_core(py, &error))
    }

    fn reload_tls(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.running(py)?;
        py.detach(|| handle.reload_tls()).map_err(|error| errors::of_core(py, &error))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats::dict(py, &self.running(py)?.stats())
    }

    fn _emit_to(
        &self,
        py: Python<'_>,
        room: Option<&str>,
        except_: Option<&Bound<'_, Connection>>,
        event: &str,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        json_out::with_text(data, |data| {
            self.broadcast(py, except_, |handle, except| handle.broadcast(room, event, data, except))
        })
    }

    fn _send_to(
        &self,
        py: Python<'_>,
        room: Option<&str>,
        except_: Option<&Bound<'_, Connection>>,
        message: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        with_payload(message, |payload| {
            self.broadcast(py, except_, |handle, except| match payload {
                Payload::Text(text) => handle.broadcast_text(room, text, except),
                Payload::Binary(payload) => handle.broadcast_binary(room, payload, except),
            })
        })?
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held belongs to a thread that uses the server: then it is no garbage.
        if let Ok(handlers) = self.handlers.try_lock()
            && let Some(handlers) = &*handlers
        {
            handlers.traverse(&visit)?;
        }
        if let Ok(looping) = self.looping.try_lock()
            && let Some(looping) = &*looping
        {
            visit.call(&looping.create_future)?;
            visit.call(&looping.create_task)?;
            visit.call(&looping.deliver_soon)?;
            visit.call(&looping.stopped)?;
            visit.call(&looping.tasks)?;
        }
        if let Ok(delivery) = self.delivery.try_lock()
            && let Some(delivery) = &*delivery
        {
            delivery.traverse(&visit)?;
        }
        if let Ok(granting) = self.granting.try_lock() {
            granting.traverse(&visit)?;
        }
        match self.current.try_lock().ok().as_deref() {
            Some(Some(current)) => visit.call(&current.data),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(lock(&self.handlers).take());
        drop(lock(&self.looping).take());
        drop(lock(&self.delivery).take());
        drop(std::mem::take(&mut *lock(&self.granting)));
        drop(lock(&self.current).take());
    }
}
