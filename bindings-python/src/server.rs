//! A server: started with options and handlers, and delivered to by whoever calls `_deliver` or `_run`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{Builder, ConnectionId, Error, Options, ServerHandle};

use crate::bell::{Bell, lock};
use crate::connection::{Connection, Payload, with_payload};
use crate::delivery::{Delivery, EVENTS_PER_TURN, Progress};
use crate::ending::{self, Inside};
use crate::handlers::Handlers;
use crate::run::{self, Bounds, LoopCalls, Looping, Protocol, Run};
use crate::work::Work;
use crate::{errors, json_out, stats};

/// How often a thread that waits outside of asyncio looks for signals, where it is the one that gets them.
const SIGNALS_WITHIN: Duration = Duration::from_millis(200);

/// The native side of `wsguard.Server`.
#[pyclass(frozen, subclass, weakref, module = "wsguard._wsguard")]
#[derive(Debug, Default)]
pub(crate) struct NativeServer {
    /// The last run; `None` before the first.
    run: Mutex<Option<Arc<Run>>>,
    bell: Mutex<Bell>,
}

pub(crate) use NativeServer as Server;

/// The delivery of a run while it is at work: put back whatever ends the turn, a panic included.
struct Turn<'r> {
    run: &'r Run,
    delivery: Option<Box<Delivery>>,
}

impl<'r> Turn<'r> {
    /// Taken, so that a handler that comes back here finds nothing to do.
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

impl Server {
    fn last_run(&self) -> Option<Arc<Run>> {
        lock(&self.run).clone()
    }

    /// The last run, in the process that started it.
    fn own_run(&self, py: Python<'_>) -> PyResult<Arc<Run>> {
        let run = self.last_run().ok_or_else(|| errors::not_started(py))?;
        if run.is_forked() { Err(errors::forked(py)) } else { Ok(run) }
    }

    fn bell(&self) -> Bell {
        lock(&self.bell).clone()
    }

    /// Handles the events there are, at most `most` of them.
    fn deliver(slf: &Bound<'_, Self>, run: &Arc<Run>, most: usize) -> PyResult<Progress> {
        if ending::has_come() {
            return Ok(Progress::Nothing);
        }
        let Some(mut turn) = Turn::begin(run) else {
            return Ok(if run.is_finished() { Progress::Stopped } else { Progress::Nothing });
        };
        let Some(delivery) = &mut turn.delivery else { return Ok(Progress::Nothing) };
        let progress = delivery.turn(slf, run, most);
        if matches!(progress, Ok(Progress::Stopped)) {
            let delivery = turn.delivery.take();
            run.finish();
            slf.py().detach(|| drop(delivery));
        }
        progress
    }

    fn broadcast(
        &self,
        py: Python<'_>,
        except: Option<&Bound<'_, Connection>>,
        protocol: Protocol,
        send: impl FnOnce(&ServerHandle, Option<ConnectionId>) -> Result<(), Error>,
    ) -> PyResult<()> {
        let run = self.own_run(py)?;
        run.check_protocol(py, protocol)?;
        let except = match except {
            Some(conn) if !Arc::ptr_eq(&conn.get().run, &run) => None,
            except => except.map(|conn| conn.get().id),
        };
        send(&run.handle, except).map_err(|error| errors::of_core(py, &error))
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

    /// Makes a bell for the next run, with the descriptor an event loop watches; `None` where there is none.
    fn _open_bell(&self) -> PyResult<Option<i32>> {
        let bell = Bell::default();
        let number = bell.open()?;
        *lock(&self.bell) = bell;
        Ok(number)
    }

    /// Makes a bell for the next run that wakes a thread, for loops that watch no descriptors.
    fn _close_bell(&self) {
        *lock(&self.bell) = Bell::default();
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
        let bounds = Bounds::of(&options);
        let handlers = Handlers::of_dict(handlers)?;
        let (heeds_opens, heeds_violations) = (handlers.open.is_some(), handlers.violation.is_some());
        let bell = this.bell();
        let ringer = bell.ringer();
        let server =
            py.detach(|| Builder::new().wake(ringer).start(options)).map_err(|error| errors::of_core(py, &error))?;
        // Coroutines that speak for a connection hear of its end, whether or not there is a handler for it.
        server.handle().heed(heeds_opens, true, heeds_violations);
        let run = Run::new(py, server, bell, handlers, looping.map(Looping::of), bounds)?;
        let before = lock(&this.run).replace(run);
        if let Some(before) = before {
            before.retire();
        }
        Ok(())
    }

    /// Handles what there is; the callback of an event loop. The rest of much is left for the loop's next round.
    fn _deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(run) = slf.get().last_run() else { return Ok(()) };
        if run.is_forked() {
            // The parent's loop, still turning in a child: the events are the parent's.
            return Ok(());
        }
        run.bell.silence();
        let progress = Self::deliver(slf, &run, EVENTS_PER_TURN);
        let Some(looping) = run.looping() else { return progress.map(drop) };
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
    fn _wait(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(run) = self.last_run() else { return Ok(false) };
        let Some(_inside) = Inside::enter(py)? else { return Ok(false) };
        py.detach(|| run.bell.wait(None));
        Ok(!run.is_finished() && !ending::has_come())
    }

    /// Handles events on this thread until the server has stopped. `signals`: this thread is the one that gets them.
    fn _run(slf: &Bound<'_, Self>, signals: bool) -> PyResult<()> {
        let py = slf.py();
        let run = slf.get().own_run(py)?;
        let patience = signals.then_some(SIGNALS_WITHIN);
        let Some(_inside) = Inside::enter(py)? else { return Ok(()) };
        while !ending::has_come() {
            match Self::deliver(slf, &run, EVENTS_PER_TURN)? {
                Progress::Stopped => return Ok(()),
                Progress::More => {}
                // A handler has forked, and the child has come back from it: what it would wait for is the parent's.
                Progress::Nothing if run.is_forked() => return Err(errors::forked(py)),
                Progress::Nothing => py.detach(|| run.bell.wait(patience)),
            }
            py.check_signals()?;
        }
        Ok(())
    }

    /// Stops without calling handlers, once what was said before is sent; whether it was running. In a child of `fork` it
    /// only forgets the threads.
    fn _end(&self, py: Python<'_>) -> bool {
        match self.last_run() {
            Some(run) if !ending::has_come() && !run.is_finished() => run.end(py, run::last_words_within()),
            _ => false,
        }
    }

    /// In a child of `fork`: whoever waits for something of a connection is told that it is the parent's.
    fn _wake_waits(&self, py: Python<'_>) -> PyResult<()> {
        let Some(run) = self.last_run() else { return Ok(()) };
        let conns = lock(&run.connections).every(py);
        conns.iter().try_for_each(|conn| conn.get().wake_all(py))
    }

    /// Cancels coroutines of `authenticate` whose handshake no longer waits, and looks again soon.
    fn _look_after_handshakes(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Some(run) = slf.get().last_run() else { return Ok(()) };
        Work::with(slf, &run, |work| work.look_after_handshakes().map(|()| true)).map(drop)
    }

    /// Whether it runs: it was started, and has not ended.
    #[getter]
    fn _is_running(&self) -> bool {
        self.last_run().is_some_and(|run| !run.is_finished())
    }

    #[getter]
    fn _is_forked(&self) -> bool {
        self.last_run().is_some_and(|run| run.is_forked())
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.own_run(py)?.addresses.first().cloned().unwrap_or_default())
    }

    #[getter]
    fn addresses(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.own_run(py)?.addresses.clone())
    }

    fn _drain(&self, py: Python<'_>, timeout_ms: u64, jitter_ms: u64) -> PyResult<()> {
        self.own_run(py)?.handle.drain(timeout_ms, jitter_ms);
        Ok(())
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.own_run(py)?;
        run.handle.stop();
        run.is_dropping.store(true, Ordering::Release);
        let conns = lock(&run.connections).every(py);
        conns.iter().try_for_each(|conn| Work::end(conn, None))
    }

    #[pyo3(signature = (user, /))]
    fn disconnect_user(&self, py: Python<'_>, user: &str) -> PyResult<()> {
        let run = self.own_run(py)?;
        let done = {
            let mut revoked = lock(&run.revoked);
            let done = run.handle.disconnect_user(user);
            // Nobody is let in behind the end: whoever was is over, and messages may still wait for a coroutine.
            revoked.note(user, *done.as_ref().unwrap_or(&u64::MAX));
            done
        };
        let conns = lock(&run.connections).of_user(py, user);
        conns.iter().try_for_each(|conn| Work::end(conn, Some((1008, "session revoked"))))?;
        done.map(drop).map_err(|error| errors::of_core(py, &error))
    }

    fn reload_tls(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.own_run(py)?;
        py.detach(|| run.handle.reload_tls()).map_err(|error| errors::of_core(py, &error))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats::dict(py, &self.own_run(py)?.handle.stats())
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
            self.broadcast(py, except_, Protocol::Json, |handle, except| handle.broadcast(room, event, data, except))
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
            self.broadcast(py, except_, Protocol::Raw, |handle, except| match payload {
                Payload::Text(text) => handle.broadcast_text(room, text, except),
                Payload::Binary(payload) => handle.broadcast_binary(room, payload, except),
            })
        })?
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.run.try_lock().ok().as_deref() {
            Some(Some(run)) => run.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let run = lock(&self.run).take();
        if let Some(run) = run {
            run.retire();
        }
    }
}
