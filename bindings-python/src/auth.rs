//! The application's authentication: a request, and its answer given exactly once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use wsguard::binding::{Accept as Session, Decision, Error, TicketId, Upgrade};

use crate::bell::lock;
use crate::errors;
use crate::request::Request;
use crate::run::{Run, in_context};
use crate::server::Server;
use crate::work::{Kind, Outcome, Work, is_fatal};

/// A session the application grants.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Accept {
    /// Shares limits and can be disconnected by name; `None`: no user.
    user: Option<String>,
    /// What `Connection.data` starts with.
    data: Py<PyAny>,
    /// When the session ends, in milliseconds since the Unix epoch.
    expires_at_ms: Option<u64>,
}

/// The longest name of a user.
const MAX_USER_BYTES: usize = 256;

impl Accept {
    fn make(
        py: Python<'_>,
        user: Option<String>,
        data: Option<Py<PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let expires_at_ms = match (expires_at_ms, expires_at) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("give expires_at or expires_at_ms, not both")),
            (Some(ms), None) => Some(whole_ms(ms)?),
            (None, at) => at.map(unix_ms).transpose()?,
        };
        Ok(Self { user, data: data.unwrap_or_else(|| py.None()), expires_at_ms })
    }
}

#[pymethods]
impl Accept {
    #[new]
    #[pyo3(signature = (user, data = None, *, expires_at_ms = None, expires_at = None))]
    fn new(
        user: &Bound<'_, PyAny>,
        data: Option<Py<PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = user.py();
        let Ok(name) = user.cast::<PyString>() else {
            let kind = user.get_type().name()?;
            let message = format!("user must be a str, not {kind}: whoever has no name is Accept.anonymous()");
            return Err(PyTypeError::new_err(message));
        };
        let name = name.to_str()?;
        if name.is_empty() || name.len() > MAX_USER_BYTES || name.chars().any(char::is_control) {
            let message = format!("user must be 1 to {MAX_USER_BYTES} bytes without control characters");
            return Err(errors::invalid(py, message));
        }
        Self::make(py, Some(name.to_owned()), data, expires_at_ms, expires_at)
    }

    /// A session without a user: limits per user do not apply to it, and `disconnect_user` does not find it.
    #[classmethod]
    #[pyo3(signature = (data = None, *, expires_at_ms = None, expires_at = None))]
    fn anonymous(
        class: &Bound<'_, PyType>,
        data: Option<Py<PyAny>>,
        expires_at_ms: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Self::make(class.py(), None, data, expires_at_ms, expires_at)
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Self>() else { return Ok(false) };
        let other = other.get();
        let same = self.user == other.user && self.expires_at_ms == other.expires_at_ms;
        Ok(same && self.data.bind(py).eq(other.data.bind(py))?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let expires = self.expires_at_ms.map_or_else(String::new, |at| format!(" expires_at_ms={at}"));
        match &self.user {
            Some(user) => Ok(format!("<Accept user={}{expires}>", PyString::new(py, user).repr()?)),
            None => Ok(format!("<Accept anonymous{expires}>")),
        }
    }
}

/// A point in time as a whole number of milliseconds since the Unix epoch.
fn whole_ms(at: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !at.is_instance_of::<PyInt>() || at.is_instance_of::<PyBool>() {
        let kind = at.get_type().name()?;
        let message = format!("expires_at_ms must be an int, not {kind}: int(time.time() * 1000) is now");
        return Err(PyTypeError::new_err(message));
    }
    let ms = at.extract().map_err(|_| errors::invalid(at.py(), "expires_at_ms must be 0 to 2**64 - 1".to_owned()))?;
    if (SECONDS_OF_NOW..SECONDS_OF_NOW * 100).contains(&ms) {
        let message = "expires_at_ms must be milliseconds, and this is a time of today in seconds: times 1000";
        return Err(errors::invalid(at.py(), message.to_owned()));
    }
    Ok(ms)
}

/// What clocks of this time tell in seconds is beyond this; in milliseconds it is the eleventh day of 1970, and a hundred
/// times that is 1973: nobody means either.
const SECONDS_OF_NOW: u64 = 1_000_000_000;

/// An aware `datetime`, in milliseconds since the Unix epoch.
fn unix_ms(at: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = at.py();
    let zone = at
        .getattr(intern!(py, "utcoffset"))
        .and_then(|offset| offset.call0())
        .map_err(|_| PyTypeError::new_err("expires_at must be a datetime"))?;
    if zone.is_none() {
        return Err(PyValueError::new_err("expires_at must be a datetime with a time zone"));
    }
    let seconds: f64 = at.call_method0(intern!(py, "timestamp"))?.extract()?;
    if seconds < 0.0 {
        return Err(PyValueError::new_err("expires_at must not be before 1970"));
    }
    Ok((seconds * 1000.0) as u64)
}

/// A refusal: 401, or the application's status.
#[pyclass(frozen, get_all, module = "wsguard")]
#[derive(Debug)]
pub(crate) struct Reject {
    /// The HTTP status, 300 to 599.
    status: u16,
}

#[pymethods]
impl Reject {
    #[new]
    #[pyo3(signature = (status = 401))]
    fn new(status: i64) -> PyResult<Self> {
        match u16::try_from(status) {
            Ok(status @ 300..=599) => Ok(Self { status }),
            _ => Err(PyValueError::new_err(format!("status of a rejection must be 300 to 599, not {status}"))),
        }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().status == self.status)
    }

    fn __hash__(&self) -> u64 {
        u64::from(self.status)
    }

    fn __repr__(&self) -> String {
        format!("<Reject status={}>", self.status)
    }
}

/// How long after its answer a handshake may still open a connection, at most: the `open` event may wait behind others.
const OPENS_WITHIN: Duration = Duration::from_secs(120);

/// What a connection starts with.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) data: Py<PyAny>,
    /// The context that `authenticate` ran in: the connection's from here on.
    pub(crate) context: Py<PyAny>,
}

/// What was granted to handshakes that have not become connections yet. What never does (the user has as many as may be,
/// the peer has left) is forgotten: after a while, or when there is too much of it.
#[derive(Debug, Default)]
pub(crate) struct Granting {
    granted: HashMap<u64, Granted>,
    order: VecDeque<(u64, Instant)>,
}

impl Granting {
    /// Keeps what was granted; the caller drops what is returned.
    fn keep(&mut self, ticket: TicketId, granted: Granted, now: Instant, most: usize) -> Vec<Granted> {
        let mut forgotten = Vec::new();
        while let Some((oldest, since)) = self.order.front()
            && (self.order.len() >= most
                || now.duration_since(*since) > OPENS_WITHIN
                || !self.granted.contains_key(oldest))
        {
            forgotten.extend(self.granted.remove(oldest));
            self.order.pop_front();
        }
        forgotten.extend(self.granted.insert(ticket.to_u64(), granted));
        self.order.push_back((ticket.to_u64(), now));
        forgotten
    }

    pub(crate) fn take(&mut self, ticket: TicketId) -> Option<Granted> {
        self.granted.remove(&ticket.to_u64())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.granted.values().try_for_each(|granted| {
            visit.call(&granted.data)?;
            visit.call(&granted.context)
        })
    }
}

/// The coroutines of `authenticate` that run, by ticket: those whose handshake waits are never more than
/// `max_pending_auth`, and each is told to end when its handshake waits no more (THREATS A5).
#[derive(Debug, Default)]
pub(crate) struct Asking {
    tasks: HashMap<u64, Py<PyAny>>,
    /// Those that were told to end, and when, and have not yet: they take no place of those that wait. With
    /// `max_pending_auth` of them, too, nobody new is asked.
    ending: HashMap<u64, (Py<PyAny>, Instant)>,
    /// Somebody looks after them soon.
    is_watched: bool,
}

impl Asking {
    /// A coroutine has ended. The caller drops what is returned.
    fn remove(&mut self, ticket: TicketId) -> Option<Py<PyAny>> {
        let ticket = ticket.to_u64();
        self.tasks.remove(&ticket).or_else(|| self.ending.remove(&ticket).map(|(task, _)| task))
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let ending = self.ending.values().map(|(task, _)| task);
        self.tasks.values().chain(ending).try_for_each(|task| visit.call(task))
    }
}

/// How often it is looked whether the handshakes still wait.
const LOOK_EVERY_S: f64 = 0.1;

/// One that was told to end may have to wait for that: to give a database's connection back. Only then it is told again.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Called when a coroutine of `authenticate` has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct Answering {
    server: Py<Server>,
    run: Arc<Run>,
    ticket: TicketId,
    context: Py<PyAny>,
}

#[pymethods]
impl Answering {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let own = lock(&self.run.asking).remove(self.ticket);
        drop(own);
        let context = self.context.bind(py);
        Work::with(self.server.bind(py), &self.run, |work| work.answered(self.ticket, task, context)).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        visit.call(&self.context)
    }
}

impl<'py> Work<'_, 'py> {
    /// A handshake asks. Silence, an exception and a crash are refusals.
    pub(crate) fn asked(&self, upgrade: &Upgrade) -> PyResult<()> {
        let ticket = upgrade.ticket;
        let Some(authenticate) = &self.handlers.authenticate else {
            return self.answer(ticket, Decision::Unavailable);
        };
        // Peers that ask and leave cost no call.
        if !self.handle.is_waiting(ticket) {
            return Ok(());
        }
        let context = self.run.new_context(self.py)?;
        let request = Bound::new(self.py, Request::new(upgrade.request.clone()))?.into_any();
        match in_context(&context, authenticate, &request, None) {
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.ask(ticket, &returned, &context),
                Ok(false) => self.decide(ticket, &returned, &context),
                Err(error) => self.refuse(ticket, error),
            },
            Err(error) => self.refuse(ticket, error),
        }
    }

    fn ask(&self, ticket: TicketId, coroutine: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        if !self.has_room()? {
            coroutine.call_method0(intern!(self.py, "close"))?;
            return self.answer(ticket, Decision::Unavailable);
        }
        let task = match self.spawn(coroutine, context) {
            Ok(task) => task,
            Err(error) => return self.refuse(ticket, error),
        };
        if task.call_method0(intern!(self.py, "done"))?.is_truthy()? {
            return self.answered(ticket, &task, context);
        }
        lock(&self.run.asking).tasks.insert(ticket.to_u64(), task.clone().unbind());
        let then = Answering {
            server: self.server.clone().unbind(),
            run: Arc::clone(self.run),
            ticket,
            context: context.clone().unbind(),
        };
        self.watch(&task, then)?;
        self.look_later()
    }

    /// Whether another coroutine may run. Those whose handshake has gone, perhaps to make place for this one, are told to
    /// end, and no longer count.
    fn has_room(&self) -> PyResult<bool> {
        let most = self.run.bounds.max_pending_auth;
        if lock(&self.run.asking).tasks.len() >= most {
            let forsaken = self.forsaken();
            self.cancel(forsaken)?;
        }
        let asking = lock(&self.run.asking);
        Ok(asking.tasks.len() < most && asking.ending.len() < most)
    }

    /// The coroutines whose handshake no longer waits: it timed out, the peer has left, or another took its place. From
    /// here on they count as ending.
    fn forsaken(&self) -> Vec<Py<PyAny>> {
        let now = Instant::now();
        let mut asking = lock(&self.run.asking);
        let Asking { tasks, ending, .. } = &mut *asking;
        let gone = tasks.extract_if(|ticket, _| !self.handle.is_waiting(TicketId::from_u64(*ticket)));
        gone.map(|(ticket, task)| {
            let told = task.clone_ref(self.py);
            ending.insert(ticket, (task, now));
            told
        })
        .collect()
    }

    /// The coroutines that were told to end a while ago, and have not: perhaps they did not heed it.
    fn late(&self) -> Vec<Py<PyAny>> {
        let now = Instant::now();
        let mut asking = lock(&self.run.asking);
        let late = asking.ending.values_mut().filter(|(_, told)| now.duration_since(*told) >= ENDS_WITHIN);
        late.map(|(task, told)| {
            *told = now;
            task.clone_ref(self.py)
        })
        .collect()
    }

    fn cancel(&self, tasks: Vec<Py<PyAny>>) -> PyResult<()> {
        for task in tasks {
            task.bind(self.py).call_method0(intern!(self.py, "cancel"))?;
        }
        Ok(())
    }

    fn look_later(&self) -> PyResult<()> {
        let Some(looping) = self.looping() else { return Ok(()) };
        let was_watched = std::mem::replace(&mut lock(&self.run.asking).is_watched, true);
        if was_watched {
            return Ok(());
        }
        let look = self.server.getattr(intern!(self.py, "_look_after_handshakes"))?;
        looping.call_later.bind(self.py).call1((LOOK_EVERY_S, look)).map(drop)
    }

    /// Looks after the handshakes that wait for a coroutine.
    pub(crate) fn look_after_handshakes(&self) -> PyResult<()> {
        let late = self.late();
        self.cancel(late)?;
        let forsaken = self.forsaken();
        self.cancel(forsaken)?;
        let is_over = {
            let mut asking = lock(&self.run.asking);
            asking.is_watched = false;
            asking.tasks.is_empty() && asking.ending.is_empty()
        };
        if is_over { Ok(()) } else { self.look_later() }
    }

    fn answered(&self, ticket: TicketId, task: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.outcome(task)? {
            Outcome::Returned => self.decide(ticket, &task.call_method0(intern!(self.py, "result"))?, context),
            Outcome::Cancelled => self.answer(ticket, Decision::Unavailable),
            // Its loop has raised it already.
            Outcome::Raised(error) if is_fatal(self.py, &error) => self.answer(ticket, Decision::Unavailable),
            Outcome::Raised(error) => self.refuse(ticket, error),
        }
    }

    fn decide(&self, ticket: TicketId, returned: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(accept) = returned.cast::<Accept>() {
            return self.grant(ticket, accept.get(), context);
        }
        if let Ok(reject) = returned.cast::<Reject>() {
            return self.answer(ticket, Decision::Reject(reject.get().status));
        }
        let kind = returned.get_type().name()?;
        let message = format!("authenticate must return Accept or Reject, not {kind}");
        self.refuse(ticket, PyTypeError::new_err(message))
    }

    fn grant(&self, ticket: TicketId, accept: &Accept, context: &Bound<'py, PyAny>) -> PyResult<()> {
        let granted = Granted { data: accept.data.clone_ref(self.py), context: context.clone().unbind() };
        let most = self.run.bounds.max_granted();
        // Before the answer: the connection may be open right after it.
        let forgotten = lock(&self.run.granting).keep(ticket, granted, Instant::now(), most);
        drop(forgotten);
        let session = Session { user: accept.user.clone(), expires_at_ms: accept.expires_at_ms };
        match self.handle.answer(ticket, Decision::Accept(session)) {
            Ok(()) => Ok(()),
            Err(error) => {
                let forgotten = lock(&self.run.granting).take(ticket);
                drop(forgotten);
                self.not_answered(ticket, &error)
            }
        }
    }

    fn answer(&self, ticket: TicketId, decision: Decision) -> PyResult<()> {
        self.handle.answer(ticket, decision).or_else(|error| self.not_answered(ticket, &error))
    }

    fn not_answered(&self, ticket: TicketId, error: &Error) -> PyResult<()> {
        match error {
            // Nobody waits any more: it timed out, or the peer has left.
            Error::TicketSettled => Ok(()),
            error => self.refuse(ticket, errors::of_core(self.py, error)),
        }
    }

    /// Refuses a handshake whose callback failed. What nobody waits for any more is not worth a record: peers that ask and
    /// leave would write the log.
    fn refuse(&self, ticket: TicketId, error: PyErr) -> PyResult<()> {
        let was_waiting = self.handle.is_waiting(ticket);
        let _ = self.handle.answer(ticket, Decision::Unavailable);
        if was_waiting || is_fatal(self.py, &error) { self.report(Kind::Authenticate, error, || {}) } else { Ok(()) }
    }
}
