//! A server: started with options and handlers, and delivered to by whoever calls `_deliver` or `_run`.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{
    Adoption, Builder, Code, ConnectionId, Error, Notifier, Options, PolicySet, Protocol, ServerHandle, To, Whom,
    compile,
};

use crate::adopted::{self, Address, Given, Pipe};
use crate::bounds::Bounds;
use crate::connection::Connection;
use crate::delivery::{EVENTS_PER_TURN, Progress};
use crate::dispatcher::Dispatcher;
use crate::ending::{self, Inside};
use crate::handlers::Handlers;
use crate::lock::lock;
use crate::loop_hooks::{LoopCalls, LoopHooks};
use crate::payload::{Payload, with_payload};
use crate::run::{LAST_MESSAGES_WITHIN, Run};
use crate::{errors, json_out, stats, text};

/// How often a thread that waits outside asyncio checks for signals, if Python delivers them to it.
const SIGNALS_WITHIN: Duration = Duration::from_millis(200);

/// A ban as a tuple: `(ip, user, ends_at_ms, reason, is_automatic)`.
type Ban = (Option<String>, Option<String>, Option<u64>, String, bool);

/// Whom a ban is about.
fn whom<'w>(ip: Option<&'w str>, user: Option<&'w str>) -> PyResult<Whom<'w>> {
    match (ip, user) {
        (Some(ip), None) => Ok(Whom::Ip(ip)),
        (None, Some(user)) => Ok(Whom::User(user)),
        _ => Err(PyTypeError::new_err("give either ip= or user=")),
    }
}

/// The native side of `wsguard.Server`.
#[pyclass(frozen, subclass, weakref, module = "wsguard._wsguard")]
#[derive(Debug, Default)]
pub(crate) struct NativeServer {
    /// The last run; `None` before the first.
    run: Mutex<Option<Arc<Run>>>,
    notifier: Mutex<Notifier>,
    /// The policy that was compiled last, and the text of its options: a start with the same options uses it.
    compiled: Mutex<Option<(Box<str>, PolicySet)>>,
}

pub(crate) use NativeServer as Server;

impl Server {
    fn last_run(&self) -> Option<Arc<Run>> {
        lock(&self.run).clone()
    }

    /// The last run, in the process that started it.
    fn own_run(&self, py: Python<'_>) -> PyResult<Arc<Run>> {
        let run = self.last_run().ok_or_else(|| errors::not_started(py))?;
        if run.shared.is_forked() { Err(errors::forked(py)) } else { Ok(run) }
    }

    fn notifier(&self) -> Notifier {
        lock(&self.notifier).clone()
    }

    fn compile(py: Python<'_>, options: &str) -> PyResult<PolicySet> {
        let compiled = py.detach(|| Options::from_json(options).and_then(compile));
        compiled.map_err(|error| errors::of_config(py, error))
    }

    fn broadcast(
        &self,
        py: Python<'_>,
        except: &[Bound<'_, Connection>],
        protocol: Protocol,
        send: impl FnOnce(&ServerHandle, &[ConnectionId]) -> Result<(), Error>,
    ) -> PyResult<()> {
        let run = self.own_run(py)?;
        run.shared.check_protocol(py, protocol, None)?;
        match send(&run.shared.handle, &Self::own_ids(&run, except)) {
            // Nobody is there any more, but coroutines of the last events, which may not know.
            Err(Error::Stopped) if run.shared.has_tasks(py) => Ok(()),
            sent => sent.map_err(|error| errors::of_core(py, &error)),
        }
    }

    /// The ids of connections. One of another run is none of this one's.
    fn own_ids(run: &Run, conns: &[Bound<'_, Connection>]) -> Vec<ConnectionId> {
        let own = conns.iter().filter(|conn| Arc::ptr_eq(&conn.get().shared, &run.shared));
        own.map(|conn| conn.get().id).collect()
    }
}

/// Whom an audience names: rooms, or a user, or neither.
fn to<'t>(rooms: Option<&'t [&'t str]>, user: Option<&'t str>) -> To<'t> {
    match (rooms, user) {
        (Some([room]), _) => To::Room(room),
        (Some(rooms), _) => To::Rooms(rooms),
        (None, Some(user)) => To::User(user),
        (None, None) => To::Everyone,
    }
}

fn strs(texts: Option<&Vec<String>>) -> Option<Vec<&str>> {
    texts.map(|texts| texts.iter().map(String::as_str).collect())
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Compiles the options, for the next start.
    fn _compile(&self, py: Python<'_>, options: &str) -> PyResult<()> {
        let compiled = Some((options.into(), Self::compile(py, options)?));
        let before = std::mem::replace(&mut *lock(&self.compiled), compiled);
        drop(before);
        Ok(())
    }

    /// Makes the notifier of the next run, with a descriptor for event loops; `None` where the platform has none.
    fn _open_notifier(&self) -> PyResult<Option<i32>> {
        let notifier = match Notifier::descriptor() {
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            opened => opened?,
        };
        let number = notifier.number();
        *lock(&self.notifier) = notifier;
        Ok(number)
    }

    /// Makes a notifier of the next run that wakes a thread, for loops that watch no descriptors.
    fn _close_notifier(&self) {
        *lock(&self.notifier) = Notifier::thread();
    }

    /// Starts the threads. `loop_calls` is `None` for `_run`. Not `listens`: every connection is adopted. `consults`: every
    /// handshake asks, without a deadline.
    #[pyo3(signature = (options, handlers, loop_calls, *, listens = true, consults = false))]
    fn _start(
        slf: &Bound<'_, Self>,
        options: &str,
        handlers: &Bound<'_, PyDict>,
        loop_calls: Option<LoopCalls>,
        listens: bool,
        consults: bool,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        // Its own statement: the lock must not be held while another thread may take the interpreter's.
        let compiled = lock(&this.compiled).take_if(|(text, _)| **text == *options);
        let policy = match compiled {
            Some((_, policy)) => policy,
            None => Self::compile(py, options)?,
        };
        let handlers = Handlers::of_dict(handlers, Bounds::of_policy(&policy.top))?;
        let (heeds_opens, heeds_violations) = (handlers.open.is_some(), handlers.violation.is_some());
        let notifier = this.notifier();
        let for_shards = notifier.clone();
        let mut builder = Builder::new().wake(for_shards);
        if !listens {
            builder = builder.without_listener();
        }
        if consults {
            builder = builder.consult_without_deadline();
        }
        let started = py.detach(|| builder.start_policy(policy));
        let server = started.map_err(|error| errors::of_core(py, &error))?;
        // Coroutines that wait for something of a connection need its end, with or without a handler for it.
        server.handle().heed(heeds_opens, true, heeds_violations);
        let handlers = handlers.of_policy(server.handle().policies());
        let run = Run::new(py, server, notifier, handlers, loop_calls.map(LoopHooks::of))?;
        let before = lock(&this.run).replace(run);
        if let Some(before) = before {
            before.retire();
        }
        Ok(())
    }

    /// Handles the events that wait, at most [`EVENTS_PER_TURN`]; the rest waits for the loop's next iteration.
    fn _deliver(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(run) = slf.get().last_run() else { return Ok(()) };
        if run.shared.is_forked() {
            // The parent's loop, still turning in a child: the events are the parent's.
            return Ok(());
        }
        run.shared.end_turn();
        run.shared.reset_descriptor();
        let progress = run.deliver(slf.as_any(), EVENTS_PER_TURN);
        let Some(hooks) = run.shared.loop_hooks() else { return progress.map(drop) };
        let was_handled = run.shared.take_handled();
        let is_inside = run.shared.handlers().is_some_and(|handlers| handlers.inside.is_some());
        if is_inside && was_handled && matches!(progress, Ok(Progress::Idle | Progress::More)) {
            // Its tasks run before this is called again.
            run.shared.begin_turn();
            hooks.deliver_soon(py);
            return Ok(());
        }
        match progress {
            Ok(Progress::Idle) => Ok(()),
            Ok(Progress::Stopped) => hooks.stopped.bind(py).call0().map(drop),
            Ok(Progress::More) => {
                hooks.deliver_soon(py);
                Ok(())
            }
            // An exception may or may not end the loop. Deliver again: the events that are left must not wait for new ones.
            Err(error) => {
                hooks.deliver_soon(py);
                Err(error)
            }
        }
    }

    /// Waits until there are events. Returns false if the server has ended.
    fn _wait(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(run) = self.last_run() else { return Ok(false) };
        let Some(_inside) = Inside::enter(py)? else { return Ok(false) };
        py.detach(|| run.shared.wait(None));
        Ok(!run.shared.is_finished() && !ending::has_come())
    }

    /// Handles events on this thread until the server has stopped. `signals`: Python delivers signals to this thread.
    fn _run(slf: &Bound<'_, Self>, signals: bool) -> PyResult<()> {
        let py = slf.py();
        let run = slf.get().own_run(py)?;
        let timeout = signals.then_some(SIGNALS_WITHIN);
        let Some(_inside) = Inside::enter(py)? else { return Ok(()) };
        while !ending::has_come() {
            match run.deliver(slf.as_any(), EVENTS_PER_TURN)? {
                Progress::Stopped => return Ok(()),
                Progress::More => {}
                // A handler has forked, and this is the child: the events are the parent's.
                Progress::Idle if run.shared.is_forked() => return Err(errors::forked(py)),
                Progress::Idle => py.detach(|| run.shared.wait(timeout)),
            }
            py.check_signals()?;
        }
        Ok(())
    }

    /// Sends what is queued and stops, without calling handlers. Returns true if it was running. In a child of `fork` it only
    /// forgets the threads.
    fn _end(&self, py: Python<'_>) -> bool {
        match self.last_run() {
            Some(run) if !ending::has_come() && !run.shared.is_finished() => run.end(py, LAST_MESSAGES_WITHIN),
            _ => false,
        }
    }

    /// In a child of `fork`: wakes who waits for something of a connection, to learn that it is the parent's.
    fn _wake_waits(&self, py: Python<'_>) -> PyResult<()> {
        let Some(run) = self.last_run() else { return Ok(()) };
        let conns = lock(&run.connections).every(py);
        run.shared.stop_counting(py)?;
        conns.iter().try_for_each(|conn| conn.get().wake_all(py))
    }

    /// `True` from its start to its end.
    #[getter]
    fn _is_running(&self) -> bool {
        self.last_run().is_some_and(|run| !run.shared.is_finished())
    }

    #[getter]
    fn _is_forked(&self) -> bool {
        self.last_run().is_some_and(|run| run.shared.is_forked())
    }

    /// The address that it listens on, with the real port; the first of `addresses`.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.own_run(py)?.addresses.first().cloned().unwrap_or_default())
    }

    /// Every address that it listens on, IPv4 first: a name in `listen` may resolve to several.
    #[getter]
    fn addresses(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.own_run(py)?.addresses.clone())
    }

    /// The address of `admin_listen`, with the real port; `None` without that option.
    #[getter]
    fn admin_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.own_run(py)?.admin_address.clone())
    }

    fn _drain(&self, py: Python<'_>, timeout_ms: u64, jitter_ms: u64) -> PyResult<()> {
        self.own_run(py)?.shared.handle.drain(timeout_ms, jitter_ms);
        Ok(())
    }

    /// Stops at once, and drops every connection. `Server.drain` closes them first.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.own_run(py)?;
        run.shared.handle.stop();
        run.shared.is_dropping.store(true, Ordering::Release);
        let conns = lock(&run.connections).every(py);
        for conn in &conns {
            Dispatcher::end(conn, None);
        }
        Ok(())
    }

    /// Closes every connection of a user with 1008 (`session_revoked`). None of their messages reaches a handler any
    /// more. The user may connect again.
    #[pyo3(signature = (user, /))]
    fn disconnect_user(&self, py: Python<'_>, user: &Bound<'_, PyString>) -> PyResult<()> {
        let user = text::utf8("user", user)?;
        let run = self.own_run(py)?;
        let done = {
            let mut revoked = lock(&run.shared.revoked);
            let done = run.shared.handle.disconnect_user(user);
            // After its end the server accepts nobody; messages of earlier connections may still wait for a coroutine.
            revoked.note(user, *done.as_ref().unwrap_or(&u64::MAX));
            done
        };
        let conns = lock(&run.connections).of_user(py, user);
        for conn in &conns {
            Dispatcher::end(conn, Some((Code::SessionRevoked.close_code(), Code::SessionRevoked.reason())));
        }
        done.map(drop).map_err(|error| errors::of_core(py, &error))
    }

    /// Takes over a socket that another server has accepted. Whatever comes of it, the number is the core's from here on.
    #[pyo3(signature = (number, received, tag = None, *, is_secure = false))]
    fn _adopt(
        &self,
        py: Python<'_>,
        number: i64,
        received: Vec<u8>,
        tag: Option<u64>,
        is_secure: bool,
    ) -> PyResult<()> {
        let given = Given::take(number)?;
        let adoption = Adoption { received, tag, is_secure, ..Adoption::default() };
        adopted::adopt(py, &self.own_run(py)?.shared.handle, given, adoption)
    }

    /// Takes over a connection whose bytes go through the pipe that is returned.
    #[pyo3(signature = (received, tag, *, peer, local, is_secure))]
    fn _adopt_pipe(
        &self,
        py: Python<'_>,
        received: Vec<u8>,
        tag: u64,
        peer: Option<Address>,
        local: Option<Address>,
        is_secure: bool,
    ) -> PyResult<Pipe> {
        let adoption = Adoption { received, tag: Some(tag), is_secure, ..Adoption::default() };
        Pipe::adopt(py, &self.own_run(py)?.shared.handle, (peer, local), adoption)
    }

    /// Answers a handshake that asked: by `Accept`, `Reject`, or `None` where the application has failed. Returns false if
    /// it no longer waits.
    fn _answer(slf: &Bound<'_, Self>, ticket: u64, answer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let run = slf.get().own_run(slf.py())?;
        let answered =
            Dispatcher::with(slf.as_any(), &run.shared, |dispatcher| dispatcher.answer_inside(ticket, answer))?;
        Ok(answered.unwrap_or(false))
    }

    /// Reads certificate and key again. New connections use them.
    fn reload_tls(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.own_run(py)?;
        py.detach(|| run.shared.handle.reload_tls()).map_err(|error| errors::of_core(py, &error))
    }

    /// Runs by other options and handlers from here on, or changes nothing. Returns the generation of the policy.
    fn _reload(&self, py: Python<'_>, options: &str, handlers: &Bound<'_, PyDict>) -> PyResult<u64> {
        let run = self.own_run(py)?;
        // Perhaps on a thread that nobody waits for.
        let Some(_inside) = Inside::enter(py)? else { return Err(errors::of_core(py, &Error::Stopped)) };
        let options = Options::from_json(options).map_err(|error| errors::of_config(py, error))?;
        let handlers = Handlers::of_dict(handlers, Bounds::of_options(&options))?;
        let reloaded = py.detach(|| run.shared.handle.reload(options));
        let generation = reloaded.map_err(|error| errors::of_core(py, &error))?;
        run.shared.note_protocols();
        let before = run.shared.replace_handlers(handlers.of_policy(run.shared.handle.policies()));
        drop(before);
        Ok(generation)
    }

    fn _ban(
        &self,
        py: Python<'_>,
        ip: Option<&str>,
        user: Option<&str>,
        for_ms: Option<u64>,
        reason: &str,
    ) -> PyResult<()> {
        let run = self.own_run(py)?;
        run.shared.handle.ban(whom(ip, user)?, for_ms, reason).map_err(|error| errors::of_core(py, &error))?;
        // The core closes them when their shard comes to it; from here on nothing of them is handled.
        let conns = lock(&run.connections).every(py);
        for conn in &conns {
            if conn.get().is_banned() {
                Dispatcher::end(conn, Some((Code::Banned.close_code(), Code::Banned.reason())));
            }
        }
        Ok(())
    }

    fn _unban(&self, py: Python<'_>, ip: Option<&str>, user: Option<&str>) -> PyResult<bool> {
        let run = self.own_run(py)?;
        run.shared.handle.unban(whom(ip, user)?).map_err(|error| errors::of_core(py, &error))
    }

    /// The bans in force: `(ip, user, ends_at_ms, reason, is_automatic)`.
    fn _bans(&self, py: Python<'_>) -> PyResult<Vec<Ban>> {
        let bans = self.own_run(py)?.shared.handle.bans();
        Ok(bans.into_iter().map(|ban| (ban.ip, ban.user, ban.ends_at_ms, ban.reason, ban.is_automatic)).collect())
    }

    /// The numbers of the server as OpenMetrics text, as `admin_listen` serves them: for an HTTP server of your own. Its
    /// media type is `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        let run = self.own_run(py)?;
        Ok(py.detach(|| run.shared.handle.metrics()))
    }

    /// The counters at this moment.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats::dict(py, &self.own_run(py)?.shared.handle.stats())
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 has made them for this call")]
    fn _emit_to(
        &self,
        rooms: Option<Vec<String>>,
        user: Option<&str>,
        except_: Vec<Bound<'_, Connection>>,
        event: &Bound<'_, PyString>,
        data: &Bound<'_, PyAny>,
        compress: bool,
    ) -> PyResult<()> {
        let (py, rooms, event) = (event.py(), strs(rooms.as_ref()), text::utf8("event", event)?);
        json_out::with_text("data", data, |data| {
            self.broadcast(py, &except_, Protocol::Json, |handle, except| {
                handle.speaker(compress).broadcast(to(rooms.as_deref(), user), event, data, except)
            })
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 has made them for this call")]
    fn _send_to(
        &self,
        rooms: Option<Vec<String>>,
        user: Option<&str>,
        except_: Vec<Bound<'_, Connection>>,
        message: &Bound<'_, PyAny>,
        compress: bool,
    ) -> PyResult<()> {
        let rooms = strs(rooms.as_ref());
        with_payload("message", message, |payload| {
            self.broadcast(message.py(), &except_, Protocol::Raw, |handle, except| {
                let (speaker, to) = (handle.speaker(compress), to(rooms.as_deref(), user));
                match payload {
                    Payload::Text(text) => speaker.broadcast_text(to, text, except),
                    Payload::Binary(payload) => speaker.broadcast_binary(to, payload, except),
                }
            })
        })?
    }

    /// The connections of an audience, each once, as far as their `on_open` is due.
    fn _members<'py>(
        &self,
        py: Python<'py>,
        rooms: Option<Vec<String>>,
        user: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, Connection>>> {
        let run = self.own_run(py)?;
        let handle = &run.shared.handle;
        let mut ids: Vec<ConnectionId> = match (&rooms, user) {
            (Some(rooms), _) => rooms.iter().flat_map(|room| handle.room_members(room)).collect(),
            (None, Some(user)) => handle.connections_of(user),
            (None, None) => handle.connections(),
        };
        if rooms.is_some_and(|rooms| rooms.len() > 1) {
            ids.sort_unstable();
            ids.dedup();
        }
        let known = lock(&run.connections);
        Ok(ids.into_iter().filter_map(|id| known.get(py, id)).collect())
    }

    fn _room_size(&self, py: Python<'_>, room: &str) -> PyResult<usize> {
        Ok(self.own_run(py)?.shared.handle.room_size(room))
    }

    /// Counts an audience on all nodes. `then` is called with `(connections, missing)` and `None`, or with `None` and an exception,
    /// once, on the thread that handles events. Returns a number for `_forget_count`.
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 has made them for this call")]
    fn _count_everywhere(
        &self,
        py: Python<'_>,
        rooms: Option<Vec<String>>,
        user: Option<&str>,
        except: Vec<Bound<'_, Connection>>,
        timeout_ms: u64,
        then: Py<PyAny>,
    ) -> PyResult<u64> {
        let run = self.own_run(py)?;
        let except = Self::own_ids(&run, &except);
        let rooms = strs(rooms.as_ref());
        let (ticket, answer) = run.shared.counts.wait(then);
        let asked = run.shared.handle.count_everywhere(
            to(rooms.as_deref(), user),
            &except,
            Duration::from_millis(timeout_ms),
            answer,
        );
        match asked {
            Ok(()) => Ok(ticket),
            Err(error) => {
                run.shared.counts.forget(ticket);
                Err(errors::of_core(py, &error))
            }
        }
    }

    /// Nobody waits for a count any more.
    fn _forget_count(&self, ticket: u64) {
        if let Some(run) = self.last_run() {
            run.shared.counts.forget(ticket);
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 has made them for this call")]
    fn _clear_rooms(&self, py: Python<'_>, rooms: Vec<String>, except: Vec<Bound<'_, Connection>>) -> PyResult<()> {
        let run = self.own_run(py)?;
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        let cleared = run.shared.handle.clear_rooms(&rooms, &Self::own_ids(&run, &except));
        cleared.map_err(|error| errors::of_core(py, &error))
    }

    /// Closes the connections of an audience on other nodes.
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 has made them for this call")]
    fn _close_elsewhere(
        &self,
        py: Python<'_>,
        rooms: Option<Vec<String>>,
        user: Option<&str>,
        code: u16,
        reason: &str,
    ) -> PyResult<()> {
        let rooms = strs(rooms.as_ref());
        match self.own_run(py)?.shared.handle.close_elsewhere(to(rooms.as_deref(), user), code, reason) {
            // Nobody is open any more.
            Ok(()) | Err(Error::Stopped) => Ok(()),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// The open connection of an id; `None` if there is none.
    #[pyo3(signature = (conn_id, /))]
    fn get<'py>(&self, py: Python<'py>, conn_id: &Bound<'_, PyString>) -> PyResult<Option<Bound<'py, Connection>>> {
        let conn_id = text::utf8("conn_id", conn_id)?;
        let run = self.own_run(py)?;
        let found = lock(&run.connections).find(py, conn_id);
        Ok(found)
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
