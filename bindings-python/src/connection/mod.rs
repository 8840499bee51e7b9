//! A connection as the application sees it. The core decides about it; what is kept here is what Python adds. Its methods
//! for Python are in `connection_methods`.

mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{ConnectionId, Error, Open};

pub(crate) use self::state::{MAX_CALLS, Pinged, Reading, Released, State};
use crate::accepts::PendingAccept;
use crate::errors;
use crate::futures::{self, Futures};
use crate::handlers::{EventSpec, Handlers};
use crate::lock::lock;
use crate::messages::CurrentMessage;
use crate::shared::Shared;

/// A connection. Any thread may call its methods. Awaiting them belongs to the server's event loop.
#[pyclass(frozen, weakref, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    /// The Python server: kept alive while a connection is used, and visited by the garbage collector.
    pub(crate) server: Py<PyAny>,
    pub(crate) shared: Arc<Shared>,
    /// What its handshake told.
    pub(crate) open: Open,
    /// The route whose events it has, by the policy of that generation.
    route: Mutex<(u64, Option<Arc<str>>)>,
    /// When the session ends, on the clock that the core ends it by.
    expires_at: Option<Instant>,
    /// A message may go straight to its handler: every earlier one is finished.
    free: AtomicBool,
    /// The application closed it, or its handler failed: it sends nothing more, and no message reaches a handler.
    over: AtomicBool,
    /// The core has reported its end.
    closed: AtomicBool,
    state: Mutex<State>,
}

impl Connection {
    pub(crate) fn new(
        py: Python<'_>,
        open: &Open,
        server: Py<PyAny>,
        shared: Arc<Shared>,
        accept: Option<PendingAccept>,
    ) -> Self {
        let (data, context) = accept.map(|PendingAccept { data, context }| (data, context)).unzip();
        let data = data.filter(|data| !data.is_none(py));
        Self {
            id: open.conn,
            server,
            shared,
            open: open.clone(),
            route: Mutex::default(),
            // `max_session_ms` may be another by a reload: the core says when that is over.
            expires_at: open.credential_ends_at_ms.and_then(instant),
            free: AtomicBool::new(true),
            over: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            state: Mutex::new(State { data, context, ..State::default() }),
        }
    }

    pub(crate) fn user_name(&self) -> Option<&str> {
        self.open.user.as_deref()
    }

    /// What `handlers` has for an event of it, by the route of its path in their policy. A turn that a reload falls into
    /// goes on with the handlers of before, and with their routes.
    #[inline]
    pub(crate) fn event<'h>(&self, handlers: &'h Handlers, name: &str) -> Option<&'h EventSpec> {
        let mut route = lock(&self.route);
        if route.0 != handlers.generation() {
            *route = (handlers.generation(), handlers.route_of(&self.open.path));
        }
        handlers.event(route.1.as_deref(), name)
    }

    pub(crate) fn is_free(&self) -> bool {
        self.free.load(Ordering::Relaxed)
    }

    /// Returns true if it is over for the application.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Returns true if the session has ended by the clock: no message of it is handled any more.
    pub(crate) fn has_expired(&self) -> bool {
        self.expires_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns true if its address or its user is banned now.
    pub(crate) fn is_banned(&self) -> bool {
        self.shared.handle.is_banned(self.open.ip, self.user_name())
    }

    /// Returns true if its end was told, and it is banned now: a ban finds only those whose end was not.
    pub(crate) fn is_banned_behind_its_end(&self) -> bool {
        self.closed.load(Ordering::Relaxed) && self.is_banned()
    }

    /// Returns true if the server was stopped, or the user was disconnected after this connection was accepted: what was
    /// read of it is not handled any more.
    pub(crate) fn was_revoked(&self) -> bool {
        if self.shared.is_dropping.load(Ordering::Acquire) {
            return true;
        }
        self.user_name().is_some_and(|user| lock(&self.shared.revoked).is_over(user, self.open.granted))
    }

    /// Changes the state, and updates the flags that other threads read. Nothing of Python may run inside.
    pub(crate) fn with_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        let idle = state.busy.is_none() && state.pending.is_empty() && !state.is_iterated();
        self.free.store(idle && !state.ended && state.closed.is_none(), Ordering::Relaxed);
        self.over.store(state.ended, Ordering::Relaxed);
        self.closed.store(state.closed.is_some(), Ordering::Relaxed);
        result
    }

    /// Ends it for the application: nothing more of it reaches a handler, except its end.
    pub(crate) fn end(&self, closing: Option<(u16, &str)>) -> Released {
        self.with_state(|state| {
            if let Some((code, reason)) = closing
                && state.closing.is_none()
            {
                state.closing = Some((code, reason.to_owned()));
            }
            state.release()
        })
    }

    /// Wakes everybody who waits for something of it.
    pub(crate) fn wake_all(&self, py: Python<'_>) -> PyResult<()> {
        let (receivers, waiters, calls, pings) = self.with_state(|state| {
            let waits = (std::mem::take(&mut state.receivers), std::mem::take(&mut state.waiters));
            (waits.0, waits.1, std::mem::take(&mut state.calls), std::mem::take(&mut state.pings))
        });
        futures::wake(py, receivers)?;
        futures::wake(py, waiters)?;
        futures::wake(py, calls)?;
        let waiting = pings.iter().filter(|(kind, _)| *kind == Pinged::Future);
        waiting.map(|(_, ping)| ping).try_for_each(|ping| futures::resolve(ping.bind(py), py.None()))
    }

    /// The context that its handlers run in.
    pub(crate) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(context) = lock(&self.state).context.as_ref() {
            return Ok(context.bind(py).clone());
        }
        let context = self.shared.new_context(py)?;
        let kept = context.clone().unbind();
        let before = self.with_state(|state| state.context.replace(kept));
        drop(before);
        Ok(context)
    }

    /// Returns true if the core still has it, the application has not closed it, and its session has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.takes_messages() && self.shared.handle.is_open(self.id)
    }

    /// Returns true if it is open as far as Python knows.
    fn takes_messages(&self) -> bool {
        !self.is_over() && !self.closed.load(Ordering::Relaxed) && !self.has_expired()
    }

    /// Fails in a child of `fork`.
    pub(crate) fn checked(&self, py: Python<'_>) -> PyResult<()> {
        if self.shared.is_forked() { Err(errors::forked(py)) } else { Ok(()) }
    }

    /// Fails where another event loop runs than the server's.
    pub(crate) fn check_loop(&self, py: Python<'_>, message: impl FnOnce() -> String) -> PyResult<()> {
        let running = futures::running_loop(py)?;
        let is_another = self.shared.loop_hooks().is_some_and(|hooks| hooks.is_another(&running));
        if is_another { Err(errors::other_loop(py, message())) } else { Ok(()) }
    }

    /// `ConnectionClosed` with how it ended or was closed; `None` while it has not.
    pub(crate) fn closed_error(&self, py: Python<'_>) -> Option<PyErr> {
        let (close, closing, ended) = self.with_state(|state| {
            (state.closed.as_ref().map(|close| close.clone_ref(py)), state.closing.clone(), state.ended)
        });
        match (close, closing) {
            (Some(close), _) => {
                let close = close.bind(py).get();
                Some(match close.reason.to_str(py) {
                    Ok(reason) => errors::closed(py, Some(close.code), reason),
                    Err(error) => error,
                })
            }
            (None, Some((code, reason))) => Some(errors::closed(py, Some(code), &reason)),
            (None, None) => ended.then(|| errors::closed(py, None, "")),
        }
    }

    /// The result of a command. The core may have closed the connection before the application heard of it: then the
    /// command did nothing, as if it had been given a moment earlier, and this is `None`.
    pub(crate) fn outcome<T>(&self, py: Python<'_>, result: Result<T, Error>) -> PyResult<Option<T>> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Error::ConnectionClosed | Error::Stopped) => self.closed_error(py).map_or(Ok(None), Err),
            Err(error) => Err(errors::of_core(py, &error)),
        }
    }

    /// Does `send`, unless the connection is over.
    pub(crate) fn unless_over<T>(&self, send: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.takes_messages() { send() } else { Err(Error::ConnectionClosed) }
    }

    /// Looks at the message of this connection that is handled now.
    pub(crate) fn with_current<T>(&self, look: impl FnOnce(Option<&CurrentMessage>) -> T) -> T {
        let state = lock(&self.state);
        if state.busy.is_some() || state.current.is_some() {
            return look(state.current.as_ref());
        }
        drop(state);
        let current = lock(&self.shared.current);
        look(current.as_ref().filter(|current| current.conn == self.id && current.is_of_this_thread()))
    }

    /// The application's data; `None` while it has not set any.
    pub(crate) fn kept_data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.with_state(|state| state.data.as_ref().map(|data| data.clone_ref(py)))
    }

    pub(crate) fn keep_data(&self, data: Py<PyAny>) {
        let before = self.with_state(|state| state.data.replace(data));
        drop(before);
    }

    pub(crate) fn add_reader(&self, task: Py<PyAny>) {
        self.with_state(|state| state.readers.push(task));
    }

    /// Visits every Python object that it holds.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.data)?;
        visit.call(&state.context)?;
        visit.call(&state.closed)?;
        let futures = [&state.receivers, &state.waiters, &state.calls].into_iter().flat_map(Futures::values);
        for object in futures.chain(&state.readers).chain(state.pings.iter().map(|(_, ping)| ping)).chain(&state.ends) {
            visit.call(object)?;
        }
        state.current.as_ref().map_or(Ok(()), |current| visit.call(&current.data))
    }
}

/// A Unix time in milliseconds on the monotonic clock; `None` if it is too far away to ever come.
fn instant(unix_ms: u64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now().checked_add(Duration::from_millis(unix_ms).saturating_sub(now))
}
