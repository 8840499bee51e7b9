//! The application's authentication: a request, and its answer given exactly once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use wsguard::host::{Accept as Granted, Decision, Error, TicketId, Upgrade};

use crate::bell::lock;
use crate::request::Request;
use crate::server::Server;
use crate::work::{Kind, Outcome, Work, is_coroutine};

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

#[pymethods]
impl Accept {
    #[new]
    #[pyo3(signature = (user = None, data = None, *, expires_at_ms = None, expires_at = None))]
    fn new(
        py: Python<'_>,
        user: Option<String>,
        data: Option<Py<PyAny>>,
        expires_at_ms: Option<u64>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let expires_at_ms = match (expires_at_ms, expires_at) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("give expires_at or expires_at_ms, not both")),
            (ms, None) => ms,
            (None, Some(at)) => Some(unix_ms(at)?),
        };
        Ok(Self { user, data: data.unwrap_or_else(|| py.None()), expires_at_ms })
    }

    fn __repr__(&self) -> String {
        format!("<Accept user={:?}>", self.user)
    }
}

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
    fn new(status: u16) -> PyResult<Self> {
        if (300..=599).contains(&status) {
            return Ok(Self { status });
        }
        Err(PyValueError::new_err(format!("status of a rejection must be 300 to 599, not {status}")))
    }

    fn __repr__(&self) -> String {
        format!("<Reject status={}>", self.status)
    }
}

/// How long after its answer a handshake may still open a connection, at most: the `open` event may wait behind others.
const OPENS_WITHIN: Duration = Duration::from_secs(120);

/// `Accept(data=...)` of handshakes that have not become connections yet. What never does is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Granting {
    data: HashMap<u64, Py<PyAny>>,
    order: VecDeque<(u64, Instant)>,
}

impl Granting {
    fn keep(&mut self, ticket: TicketId, data: Py<PyAny>, now: Instant) {
        while let Some((oldest, since)) = self.order.front()
            && (now.duration_since(*since) > OPENS_WITHIN || !self.data.contains_key(oldest))
        {
            self.data.remove(oldest);
            self.order.pop_front();
        }
        self.data.insert(ticket.to_u64(), data);
        self.order.push_back((ticket.to_u64(), now));
    }

    pub(crate) fn take(&mut self, ticket: TicketId) -> Option<Py<PyAny>> {
        self.data.remove(&ticket.to_u64())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.data.values().try_for_each(|data| visit.call(data))
    }
}

/// Called when a coroutine of `authenticate` has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct Answering {
    server: Py<Server>,
    ticket: TicketId,
}

#[pymethods]
impl Answering {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let server = self.server.bind(task.py());
        Work::with(server, |work| work.answered(self.ticket, task))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}

impl<'py> Work<'_, 'py> {
    /// A handshake asks. Silence, an exception and a crash are refusals.
    pub(crate) fn asked(&self, upgrade: &Upgrade) -> PyResult<()> {
        let ticket = upgrade.ticket;
        let Some(authenticate) = &self.handlers.authenticate else {
            return self.answer(ticket, Decision::Unavailable);
        };
        match authenticate.bind(self.py).call1((Request::new(upgrade.request.clone()),)) {
            Ok(returned) if is_coroutine(&returned)? => self.ask(ticket, &returned),
            Ok(returned) => self.decide(ticket, &returned),
            Err(error) => self.refuse(ticket, error),
        }
    }

    fn ask(&self, ticket: TicketId, coroutine: &Bound<'py, PyAny>) -> PyResult<()> {
        let task = match self.spawn(coroutine) {
            Ok(task) => task,
            Err(error) => return self.refuse(ticket, error),
        };
        if task.call_method0(intern!(self.py, "done"))?.is_truthy()? {
            return self.answered(ticket, &task);
        }
        self.watch(&task, Answering { server: self.server.clone().unbind(), ticket })
    }

    fn answered(&self, ticket: TicketId, task: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.outcome(task)? {
            Outcome::Returned => self.decide(ticket, &task.call_method0(intern!(self.py, "result"))?),
            Outcome::Cancelled => self.answer(ticket, Decision::Unavailable),
            Outcome::Raised(error) => self.refuse(ticket, error),
        }
    }

    fn decide(&self, ticket: TicketId, returned: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(accept) = returned.cast::<Accept>() {
            let accept = accept.get();
            if !accept.data.is_none(self.py) {
                let data = accept.data.clone_ref(self.py);
                lock(&self.server.get().granting).keep(ticket, data, Instant::now());
            }
            let granted = Granted { user: accept.user.clone(), expires_at_ms: accept.expires_at_ms };
            return self.answer(ticket, Decision::Accept(granted));
        }
        if let Ok(reject) = returned.cast::<Reject>() {
            return self.answer(ticket, Decision::Reject(reject.get().status));
        }
        let kind = returned.get_type().name()?;
        let message = format!("authenticate must return Accept or Reject, not {kind}");
        self.refuse(ticket, PyTypeError::new_err(message))
    }

    fn answer(&self, ticket: TicketId, decision: Decision) -> PyResult<()> {
        match self.handle.answer(ticket, decision) {
            // Nobody waits any more: it timed out, or the peer has left.
            Ok(()) | Err(Error::TicketSettled) => Ok(()),
            Err(error) => self.refuse(ticket, crate::errors::of_core(self.py, &error)),
        }
    }

    fn refuse(&self, ticket: TicketId, error: PyErr) -> PyResult<()> {
        self.report(Kind::Authenticate, None, error, || {
            let _ = self.handle.answer(ticket, Decision::Unavailable);
        })
    }
}
