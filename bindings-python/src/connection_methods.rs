//! The methods of a connection that Python calls.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{Error, Protocol, Sent, Status};

use crate::awaiting::{self, Awaiting};
use crate::connection::{Connection, MAX_CALLS, Pinged, Reading, State};
use crate::dispatcher::{Dispatcher, TaskDone};
use crate::futures::current_task;
use crate::handlers::{HandlerKind, objects};
use crate::payload::{Payload, with_payload};
use crate::records::{Close, Message};
use crate::{errors, facts, futures, json_out, text, waits, whole};

impl Connection {
    /// What `await` waits for after a message was sent.
    fn awaitable(slf: &Bound<'_, Self>, result: Result<Sent, Error>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        match this.outcome(py, result)? {
            Some(Sent::Sent) => awaiting::done(py),
            Some(Sent::Queued) => {
                this.with_state(|state| state.queued = true);
                Awaiting::of(py, slf, &waits::ROOM)
            }
            None => Awaiting::of(py, slf, &waits::ROOM),
        }
    }

    fn status<'py>(&self, py: Python<'py>, result: Result<Sent, Error>) -> PyResult<&'py Bound<'py, PyString>> {
        match result {
            Ok(Sent::Sent) => Ok(intern!(py, "sent")),
            Ok(Sent::Queued) => {
                self.with_state(|state| state.queued = true);
                Ok(intern!(py, "queued"))
            }
            Err(Error::ConnectionClosed | Error::Stopped) => Ok(intern!(py, "closed")),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    fn push(&self, message: &Bound<'_, PyAny>, compress: bool) -> PyResult<Result<Sent, Error>> {
        self.checked(message.py())?;
        self.shared.check_protocol(message.py(), Protocol::Raw, Some(&self.open.path))?;
        let speaker = self.shared.handle.speaker(compress);
        with_payload("message", message, |payload| {
            self.unless_over(|| match payload {
                Payload::Text(text) => speaker.send_text(self.id, text),
                Payload::Binary(payload) => speaker.send_binary(self.id, payload),
            })
        })
    }

    fn push_event(
        &self,
        event: &Bound<'_, PyString>,
        data: &Bound<'_, PyAny>,
        id: Option<&str>,
        compress: bool,
    ) -> PyResult<Result<Sent, Error>> {
        self.checked(data.py())?;
        self.shared.check_protocol(data.py(), Protocol::Json, Some(&self.open.path))?;
        let event = text::utf8("event", event)?;
        json_out::with_text("data", data, |data| {
            Ok(self.unless_over(|| self.shared.handle.speaker(compress).reply(self.id, id, event, data)))
        })
    }

    fn push_reply(
        &self,
        py: Python<'_>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        status: Status,
        compress: bool,
    ) -> PyResult<Result<Sent, Error>> {
        let none = py.None().into_bound(py);
        let data = data.unwrap_or(&none);
        let id = match id {
            Some(id) if id.is_instance_of::<PyString>() || is_integer(id) => {
                Some(json_out::with_text("id", id, |text| Ok(text.into()))?)
            }
            Some(_) => return Err(PyTypeError::new_err("id must be a str or an int")),
            None => self.with_current(|current| current.and_then(|current| current.id.clone())),
        };
        if status == Status::Ok {
            return self.push_event(event, data, id.as_deref(), compress);
        }
        self.checked(data.py())?;
        self.shared.check_protocol(data.py(), Protocol::Json, Some(&self.open.path))?;
        let (event, id) = (text::utf8("event", event)?, id.as_deref());
        json_out::with_text("data", data, |data| {
            Ok(self.unless_over(|| self.shared.handle.speaker(compress).reply_error(self.id, id, event, data)))
        })
    }

    /// A future of the server's event loop.
    fn new_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let hooks = self.shared.loop_hooks().ok_or_else(|| errors::no_loop(py))?;
        hooks.create_future.bind(py).call0()
    }

    /// Lets the core read on, for the answer to what was just asked.
    fn read_for_answer(&self) {
        let Some(handlers) = self.shared.handlers() else { return };
        let max_bytes = handlers.bounds.max_pending_bytes;
        if self.with_state(|state| state.read_for_answer(max_bytes)) == Reading::Resume {
            // One that has closed meanwhile needs it no more.
            let _ = self.shared.handle.resume(self.id);
        }
    }

    fn send_ping(&self, kind: Pinged, then: &Bound<'_, PyAny>) -> Result<Sent, Error> {
        let kept = then.clone().unbind();
        // In one step: pongs are told in the order of their pings.
        self.with_state(|state| {
            let pinged = if state.ended || state.closed.is_some() {
                Err(Error::ConnectionClosed)
            } else {
                self.shared.handle.ping(self.id)
            };
            if pinged.is_ok() {
                state.pings.push_back((kind, kept));
            }
            pinged
        })
    }

    fn forget_call(&self, number: u64) {
        let future = self.with_state(|state| state.calls.remove(&number));
        drop(future);
    }

    /// From here on `recv` and `async for` get the messages instead of handlers, until the task that runs now has ended.
    /// Returns false where that is not known, because another loop than the server's runs.
    fn iterate(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        let running = futures::running_loop(py)?;
        match this.shared.loop_hooks() {
            Some(hooks) if hooks.is_another(&running) => return Ok(false),
            None if !this.shared.is_finished() => return Err(errors::no_loop(py)),
            _ => {}
        }
        let task = current_task(&running)?;
        let (before, known) = this.with_state(|state| {
            state.read_in_open |= state.busy == Some(HandlerKind::Open);
            let known = task.as_ref().map(|task| state.is_read_by(task));
            state.read_by_others |= known.is_none();
            // A reader that asks for the next message has handled the one before.
            (state.current.take_if(|_| state.busy.is_none_or(|kind| kind == HandlerKind::Open)), known)
        });
        drop(before);
        if let (Some(task), Some(false)) = (task, known) {
            task.call_method1(intern!(py, "add_done_callback"), (TaskDone::of_reader(slf),))?;
            this.add_reader(task.unbind());
        }
        Ok(true)
    }
}

fn reason_of<'t>(stated: &'t Bound<'_, PyAny>) -> PyResult<&'t str> {
    text::utf8("reason", stated.cast()?)
}

fn is_integer(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>()
}

/// A field of a message of ASGI: a dictionary mostly, and any mapping; `None`: it has none.
fn field<'py>(message: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = match message.cast::<PyDict>() {
        Ok(dict) => dict.get_item(name)?,
        Err(_) => Some(message.call_method1(intern!(name.py(), "get"), (name,))?),
    };
    Ok(found.filter(|found| !found.is_none()))
}

#[pymethods]
impl Connection {
    /// The id, as the log has it. It is unique while the server runs.
    #[getter(id)]
    fn get_id(&self) -> String {
        self.id.to_string()
    }

    /// The client's address; `None` on a Unix socket without a proxy.
    #[getter(ip)]
    fn get_ip(&self) -> Option<String> {
        self.open.ip.map(|ip| ip.to_string())
    }

    /// The user; `None` for an anonymous session, and without authentication.
    #[getter(user)]
    fn get_user(&self) -> Option<&str> {
        self.user_name()
    }

    /// The path of the request target.
    #[getter(path)]
    fn get_path(&self) -> &str {
        &self.open.path
    }

    /// The roles of its token, of its JWT's `roles_claim`, or of `Accept(roles=...)`, as of the open. A reload may give a
    /// static token others: those decide what it may send.
    #[getter(roles)]
    fn get_roles<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.open.roles.iter())
    }

    /// The route that the path is of, as the option `routes` has it; `None` if it is of none.
    #[getter(route)]
    fn get_route(&self) -> Option<&str> {
        self.open.route.as_deref()
    }

    /// The parameters of the path, percent-decoded: `{"name": "lobby"}` for `/room/{name}` and `/room/lobby`.
    #[getter(params)]
    fn get_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        facts::params(py, &self.open.params)
    }

    /// The query without `?`, as received; `None` if the target has no `?`.
    #[getter(query_string)]
    fn get_query_string(&self) -> Option<&str> {
        self.open.query.as_deref()
    }

    /// The parameters of the query, percent-decoded, in a mapping; of several with one name it gives the first.
    #[getter(query)]
    fn get_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        facts::request_class(py, "Query")?.call1((self.open.query.as_deref(),))
    }

    /// The headers of the handshake that the option `keep_headers` names, in a mapping that ignores the case of names.
    #[getter(headers)]
    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        facts::request_class(py, "Headers")?.call1((facts::pairs(&self.open.headers),))
    }

    /// The cookies of the handshake that the option `keep_cookies` names.
    #[getter(cookies)]
    fn get_cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cookies = PyDict::new(py);
        for (name, value) in &self.open.cookies {
            if !cookies.contains(&**name)? {
                cookies.set_item(&**name, &**value)?;
            }
        }
        Ok(cookies)
    }

    /// The claims of the JSON Web Token, at most 8 KiB of them: a new dictionary at each access. `None` without `auth.jwt`.
    #[getter(claims)]
    fn get_claims<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.open.claims.as_deref().map(|claims| objects(py, claims)).transpose()
    }

    /// The `Origin` header; `None` if the client sent none.
    #[getter(origin)]
    fn get_origin(&self) -> Option<&str> {
        self.open.origin.as_deref()
    }

    /// What TLS has agreed upon; `None` in plaintext.
    #[getter(tls)]
    fn get_tls<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(tls) = &self.open.tls else { return Ok(None) };
        let told = (&*tls.version, &*tls.cipher, tls.server_name.as_deref(), tls.client_certificate_sha256.as_deref());
        facts::request_class(py, "Tls")?.call1(told).map(Some)
    }

    /// The client's port; `None` where it is not known: on a Unix socket, and behind a proxy that does not tell.
    #[getter(port)]
    fn get_port(&self) -> Option<u16> {
        self.open.port
    }

    /// The address and port that it came in on; `None` on a Unix socket.
    #[getter(local_address)]
    fn get_local_address(&self) -> Option<(String, u16)> {
        self.open.local.map(|local| (local.ip().to_string(), local.port()))
    }

    /// `True` if its `Origin`, `Host` or credential would have been refused, were `report_handshakes` off. It has no user
    /// then, and `data` that `authenticate` gave it is no proof of who it is.
    #[getter(reported)]
    fn is_reported(&self) -> bool {
        self.open.reported
    }

    /// When it opened, in milliseconds since the Unix epoch.
    #[getter(opened_at_ms)]
    fn get_opened_at_ms(&self) -> u64 {
        self.open.opened_at_ms
    }

    /// Whether nothing of it is handled any more.
    #[getter]
    fn _is_over(&self) -> bool {
        self.is_over() || self.has_expired() || self.was_revoked() || self.is_banned_behind_its_end()
    }

    /// When its session ends, in milliseconds since the Unix epoch; `None`: it does not end.
    #[getter(expires_at_ms)]
    fn get_expires_at_ms(&self) -> Option<u64> {
        self.open.expires_at_ms
    }

    /// The subprotocol that the handshake selected; `None` if it selected none.
    #[getter(subprotocol)]
    fn get_subprotocol(&self) -> Option<&str> {
        self.open.subprotocol.as_deref()
    }

    /// `True` if the handshake has agreed to compress messages: the option `compression` is stated, and the client offered
    /// it. A reload does not change it.
    #[getter(compressed)]
    fn is_compressed(&self) -> bool {
        self.open.compressed
    }

    /// An object of the application's. It starts as `Accept(data=...)`, else as `None`.
    #[getter(data)]
    fn get_data(&self, py: Python<'_>) -> Py<PyAny> {
        self.kept_data(py).unwrap_or_else(|| py.None())
    }

    #[setter(data)]
    fn set_data(&self, data: Py<PyAny>) {
        self.keep_data(data);
    }

    /// `True` while it takes messages: no longer after `close`, `disconnect_user` or a failed handler, even while
    /// `closed` is still `None`.
    #[getter(is_open)]
    fn get_is_open(&self, py: Python<'_>) -> PyResult<bool> {
        self.checked(py)?;
        Ok(self.is_open())
    }

    /// How it ended; `None` before its end.
    #[getter(closed)]
    fn get_closed(&self, py: Python<'_>) -> Option<Py<Close>> {
        self.with_state(|state| state.closed.as_ref().map(|close| close.clone_ref(py)))
    }

    /// The message that a handler handles now (`json`); `None` outside a handler.
    #[getter(message)]
    fn get_message(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        // Copied first: making the record runs Python.
        let current = self.with_current(|current| current.map(|current| current.copy(py)));
        current.map(|current| current.message(py)).transpose()
    }

    /// Sends a message (`raw`): `str` as text, bytes as binary. Awaiting waits until the peer has read it.
    #[pyo3(signature = (message, /, *, compress = true))]
    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>, compress: bool) -> PyResult<Py<PyAny>> {
        let result = slf.get().push(message, compress)?;
        Self::awaitable(slf, result)
    }

    /// Sends a message (`raw`), and returns `"sent"`, `"queued"` or `"closed"`. It raises what `send` raises, except
    /// `ConnectionClosed`.
    #[pyo3(signature = (message, /, *, compress = true))]
    fn send_nowait<'py>(&self, message: &Bound<'py, PyAny>, compress: bool) -> PyResult<&Bound<'py, PyString>> {
        let result = self.push(message, compress)?;
        self.status(message.py(), result)
    }

    /// Emits an event (`json`): `{"event": …, "data": …, "status": "ok"}`. Awaiting waits until the peer has read it.
    #[pyo3(signature = (event, data = None, /, *, compress = true))]
    fn emit(
        slf: &Bound<'_, Self>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'_, PyAny>>,
        compress: bool,
    ) -> PyResult<Py<PyAny>> {
        let none = slf.py().None().into_bound(slf.py());
        let result = slf.get().push_event(event, data.unwrap_or(&none), None, compress)?;
        Self::awaitable(slf, result)
    }

    /// Emits an event (`json`), and returns `"sent"`, `"queued"` or `"closed"`. It raises what `emit` raises, except
    /// `ConnectionClosed`.
    #[pyo3(signature = (event, data = None, /, *, compress = true))]
    fn emit_nowait<'py>(
        &self,
        py: Python<'py>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'py, PyAny>>,
        compress: bool,
    ) -> PyResult<&Bound<'py, PyString>> {
        let none = py.None().into_bound(py);
        let result = self.push_event(event, data.unwrap_or(&none), None, compress)?;
        self.status(py, result)
    }

    /// Emits an event (`json`) with the `id` of the message that a handler handles now, or with the given one. As
    /// `emit` otherwise.
    #[pyo3(signature = (event, data = None, /, *, id = None, compress = true))]
    fn reply(
        slf: &Bound<'_, Self>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        compress: bool,
    ) -> PyResult<Py<PyAny>> {
        let result = slf.get().push_reply(slf.py(), event, data, id, Status::Ok, compress)?;
        Self::awaitable(slf, result)
    }

    /// Replies (`json`), and returns `"sent"`, `"queued"` or `"closed"`. As `reply` otherwise.
    #[pyo3(signature = (event, data = None, /, *, id = None, compress = true))]
    fn reply_nowait<'py>(
        &self,
        py: Python<'py>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        compress: bool,
    ) -> PyResult<&Bound<'py, PyString>> {
        let result = self.push_reply(py, event, data, id, Status::Ok, compress)?;
        self.status(py, result)
    }

    /// Replies (`json`) with the status `error`: what the message asked for could not be done. As `reply` otherwise.
    #[pyo3(signature = (event, data = None, /, *, id = None, compress = true))]
    fn reply_error(
        slf: &Bound<'_, Self>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        compress: bool,
    ) -> PyResult<Py<PyAny>> {
        let result = slf.get().push_reply(slf.py(), event, data, id, Status::Error, compress)?;
        Self::awaitable(slf, result)
    }

    /// Replies with the status `error`, and returns `"sent"`, `"queued"` or `"closed"`. As `reply_error` otherwise.
    #[pyo3(signature = (event, data = None, /, *, id = None, compress = true))]
    fn reply_error_nowait<'py>(
        &self,
        py: Python<'py>,
        event: &Bound<'_, PyString>,
        data: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        compress: bool,
    ) -> PyResult<&Bound<'py, PyString>> {
        let result = self.push_reply(py, event, data, id, Status::Error, compress)?;
        self.status(py, result)
    }

    /// Asks the peer (`json`), and waits for its answer: a message with the `id` of the question. Returns the data of the
    /// answer. It does not wait for handlers, nor they for it.
    #[pyo3(signature = (event, data = None, /, *, timeout_ms = 10_000, compress = true))]
    fn call<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'py, PyString>,
        data: Option<Bound<'py, PyAny>>,
        #[pyo3(from_py_with = whole::saturated)] timeout_ms: i64,
        compress: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("wsguard._asking")?.call_method1("call", (slf, event, data, timeout_ms, compress))
    }

    /// Sends a ping, and waits for the pong. Returns the milliseconds between.
    #[pyo3(signature = (*, timeout_ms = 10_000))]
    fn ping<'py>(
        slf: &Bound<'py, Self>,
        #[pyo3(from_py_with = whole::saturated)] timeout_ms: i64,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("wsguard._asking")?.call_method1("ping", (slf, timeout_ms))
    }

    /// Fails where another event loop runs than the server's: there the answer is told, and nothing is asked.
    fn _check_loop(&self, py: Python<'_>, asks: &str) -> PyResult<()> {
        self.check_loop(py, || {
            format!(
                "{asks} is awaited on the server's event loop, and this is another: \
                 asyncio.run_coroutine_threadsafe(conn.{asks}(...), loop)"
            )
        })
    }

    /// Sends the question of a call. Returns its number, and the future of its answer.
    fn _begin_call<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'_, PyString>,
        data: &Bound<'py, PyAny>,
        compress: bool,
    ) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        this.shared.check_protocol(py, Protocol::Json, Some(&this.open.path))?;
        let event = text::utf8("event", event)?;
        let future = this.new_future(py)?;
        json_out::with_text("data", data, |data| {
            let kept = future.clone().unbind();
            let Ok(number) = this.with_state(|state| state.begin_call(kept)) else {
                return Err(errors::too_many_calls(py, MAX_CALLS));
            };
            let id = format!("\"s{number}\"");
            let speaker = this.shared.handle.speaker(compress);
            let asked = this.unless_over(|| speaker.request(this.id, &id, event, data));
            match this.outcome(py, asked) {
                // One that the core has closed already: its end will be told.
                Ok(_) => {
                    this.read_for_answer();
                    Ok((number, future))
                }
                Err(error) => {
                    this.forget_call(number);
                    Err(error)
                }
            }
        })
    }

    fn _end_call(&self, number: u64) {
        self.forget_call(number);
    }

    /// Sends a ping. Returns the future of its pong; `_end_ping` follows.
    fn _begin_ping<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        let future = this.new_future(py)?;
        let pinged = this.send_ping(Pinged::Future, &future);
        let pinged = this.outcome(py, pinged)?;
        this.with_state(State::begin_ping);
        match pinged {
            Some(_) => this.read_for_answer(),
            None => futures::resolve(&future, py.None())?,
        }
        Ok(future)
    }

    fn _end_ping(&self) {
        self.with_state(State::end_ping);
    }

    /// Sends a ping, and returns `"sent"`, `"queued"` or `"closed"`. When the pong comes, the handler is called with the
    /// connection and the milliseconds between; it works without asyncio, too.
    #[pyo3(signature = (handler, /))]
    fn ping_nowait<'py>(&self, handler: &Bound<'py, PyAny>) -> PyResult<&Bound<'py, PyString>> {
        let py = handler.py();
        self.checked(py)?;
        py.import("wsguard._handlers")?.call_method1("check_pong", (handler,))?;
        let pinged = self.send_ping(Pinged::Handler, handler);
        match pinged {
            Ok(Sent::Sent) => Ok(intern!(py, "sent")),
            Ok(Sent::Queued) => Ok(intern!(py, "queued")),
            Err(Error::ConnectionClosed | Error::Stopped) => Ok(intern!(py, "closed")),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// The exception that says how it ended.
    fn _closed_error<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.checked(py)?;
        let error = self.closed_error(py).unwrap_or_else(|| errors::closed(py, None, ""));
        Ok(error.into_value(py).into_bound(py).into_any())
    }

    /// Registers a function or coroutine function that is called when the connection has ended, before the server's
    /// `on_close`, with the same arguments. On a connection that has ended it is called at once; one that a close handler
    /// registers, after that handler.
    #[pyo3(signature = (handler, /))]
    fn on_close(slf: &Bound<'_, Self>, handler: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        py.import("wsguard._handlers")?.call_method1("check_close", (&handler,))?;
        let kept = handler.clone_ref(py);
        let is_over = this.with_state(|state| {
            state.ends.push_back(kept);
            // Its end was told: this one follows.
            let is_over = state.closed.is_some();
            state.close_due |= is_over;
            is_over
        });
        if is_over {
            Dispatcher::advance_soon(slf)?;
        }
        Ok(handler)
    }

    /// Drops the connection at once, without a closing handshake. What was sent before is offered to the socket once: what
    /// that has no room for is lost. It ends with 1006.
    fn terminate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        match this.shared.handle.terminate(this.id) {
            Ok(()) | Err(Error::ConnectionClosed | Error::Stopped) => {
                Dispatcher::end(slf, Some((1006, "")));
                Ok(())
            }
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// The bytes that were sent to it and that its socket has not taken; 0 after its end.
    #[getter]
    fn buffered_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        self.checked(py)?;
        Ok(self.shared.handle.buffered_bytes(self.id))
    }

    /// The rooms that it is in; empty after its end.
    #[getter]
    fn rooms<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.checked(py)?;
        PyTuple::new(py, self.shared.handle.rooms_of(self.id).unwrap_or_default().iter().map(|room| &**room))
    }

    /// Joins a room: a name of 1 to 256 bytes. A connection joins at most 1024, and leaves them when it closes.
    #[pyo3(signature = (room, /))]
    fn join(&self, py: Python<'_>, room: &Bound<'_, PyString>) -> PyResult<()> {
        self.checked(py)?;
        let room = text::utf8("room", room)?;
        let joined = self.unless_over(|| self.shared.handle.join(self.id, room));
        self.outcome(py, joined).map(drop)
    }

    /// Leaves a room. It raises what `join` raises.
    #[pyo3(signature = (room, /))]
    fn leave(&self, py: Python<'_>, room: &Bound<'_, PyString>) -> PyResult<()> {
        self.checked(py)?;
        let room = text::utf8("room", room)?;
        self.outcome(py, self.shared.handle.leave(self.id, room)).map(drop)
    }

    /// Starts the closing handshake. From here on none of its messages reaches a handler, and it sends nothing. A
    /// second call does nothing.
    #[pyo3(signature = (code = None, reason = ""))]
    fn close(
        slf: &Bound<'_, Self>,
        code: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = reason_of)] reason: &str,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        let code = match code {
            None => 1000,
            Some(code) if is_integer(code) => code.extract().unwrap_or(0),
            Some(_) => return Err(PyTypeError::new_err("code must be an int")),
        };
        match this.shared.handle.close(this.id, code, reason) {
            // One that has ended for the core may have messages here.
            Ok(()) | Err(Error::ConnectionClosed | Error::Stopped) => {
                Dispatcher::end(slf, Some((code, reason)));
                Ok(())
            }
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Waits until it has ended, and returns how.
    fn wait_closed(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        slf.get().checked(slf.py())?;
        Awaiting::of(slf.py(), slf, &waits::END)
    }

    /// Waits for the next message: `str` or `bytes` in `raw`, `Message` in `json`. Until the task that calls it has
    /// ended, it gets the messages instead of the handlers.
    fn recv(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Awaiting::of_reader(slf, &waits::MESSAGE, Self::iterate(slf)?)
    }

    /// Sends a message of ASGI (`websocket.send`), whatever the protocol is: `None`, or what waits until the peer has read it.
    #[pyo3(signature = (message, /))]
    fn _send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        let Some(payload) = (match field(message, intern!(py, "bytes"))? {
            None => field(message, intern!(py, "text"))?,
            bytes => bytes,
        }) else {
            return Ok(None);
        };
        let said = with_payload("message", &payload, |payload| {
            this.unless_over(|| match payload {
                Payload::Text(text) => this.shared.handle.send_text(this.id, text),
                Payload::Binary(payload) => this.shared.handle.send_binary(this.id, payload),
            })
        })?;
        this.shared.said();
        match said {
            Ok(Sent::Sent) => Ok(None),
            said => Self::awaitable(slf, said).map(Some),
        }
    }

    /// Waits for the next message as ASGI has it, for an application that pulls.
    fn _receive(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Awaiting::of(slf.py(), slf, &waits::PULLED)
    }

    /// The application pulls no more: what waits for it is dropped, and the connection ends behind what was said.
    fn _leave(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.checked(py)?;
        Dispatcher::end(slf, None);
        match this.shared.handle.hang_up(this.id) {
            Ok(()) | Err(Error::ConnectionClosed | Error::Stopped) => Ok(()),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Iterates over the messages, as `recv` gives them, until the connection has ended.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::iterate(slf)?;
        Ok(slf.clone())
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Awaiting::of_reader(slf, &waits::NEXT_MESSAGE, Self::iterate(slf)?)
    }

    /// `Connection[Session]`: for type checkers, which know what `data` is.
    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.call_method1("GenericAlias", (class, data))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let user = match self.user_name() {
            Some(user) => PyString::new(py, user).repr()?.extract()?,
            None => "None".to_owned(),
        };
        let state = if self.is_open() { "open" } else { "closed" };
        Ok(format!("<Connection {} user={user} {state}>", self.id))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        // What is pending goes with it, and its bytes are given back.
        let state = self.with_state(std::mem::take);
        drop(state);
    }
}
