//! Asks the application about an opening handshake, and answers it exactly once.

use std::sync::Arc;
use std::time::Instant;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use wsguard::binding::{Decision, Error, TicketId, Upgrade};

use crate::accepts::PendingAccept;
use crate::context::call_in;
use crate::decision::{Accept, Reject};
use crate::dispatcher::{Dispatcher, Outcome, is_fatal};
use crate::errors;
use crate::handlers::HandlerKind;
use crate::lock::lock;
use crate::request::Request;
use crate::shared::Shared;

/// How often cancelled coroutines that have not ended are looked at.
const CHECK_EVERY_S: f64 = 1.0;

/// Called when a coroutine of `authenticate` has ended.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct AuthDone {
    server: Py<PyAny>,
    shared: Arc<Shared>,
    ticket: TicketId,
    context: Py<PyAny>,
}

#[pymethods]
impl AuthDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let own = lock(&self.shared.auth_tasks).remove(self.ticket);
        drop(own);
        let context = self.context.bind(py);
        let server = self.server.bind(py);
        let answered =
            Dispatcher::with(server, &self.shared, |dispatcher| dispatcher.answered(self.ticket, task, context));
        answered.map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        visit.call(&self.context)
    }
}

/// Called by the event loop while cancelled coroutines of `authenticate` run.
#[pyclass(frozen, module = "wsguard._wsguard")]
#[derive(Debug)]
struct HandshakeCheck {
    server: Py<PyAny>,
    shared: Arc<Shared>,
}

#[pymethods]
impl HandshakeCheck {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        Dispatcher::with(self.server.bind(py), &self.shared, |dispatcher| {
            // A closure: the method itself is not general over the lifetime of a dispatcher.
            dispatcher.check_cancelled()
        })
        .map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)
    }
}

impl<'py> Dispatcher<'_, 'py> {
    /// Asks `authenticate` about a handshake. Silence, an exception and a crash are refusals.
    pub(crate) fn asked(&self, upgrade: &Upgrade) -> PyResult<()> {
        let ticket = upgrade.ticket;
        if let Some(inside) = &self.handlers.inside {
            return self.asked_inside(inside, upgrade);
        }
        let Some(authenticate) = &self.handlers.authenticate else {
            return self.answer(ticket, Decision::Unavailable);
        };
        // Peers that connect and leave cost no call.
        if !self.handle.is_waiting(ticket) {
            return Ok(());
        }
        let context = self.shared.new_context(self.py)?;
        let request = Bound::new(self.py, Request::new(upgrade.request.clone()))?.into_any();
        match call_in(&context, authenticate, &request, None) {
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.ask(ticket, &returned, &context),
                Ok(false) => self.decide(ticket, &returned, &context),
                Err(error) => self.refuse(ticket, error),
            },
            Err(error) => self.refuse(ticket, error),
        }
    }

    /// Starts the coroutine of an `authenticate`.
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
        lock(&self.shared.auth_tasks).insert(ticket, task.clone().unbind());
        let then = AuthDone {
            server: self.server.clone().unbind(),
            shared: Arc::clone(self.shared),
            ticket,
            context: context.clone().unbind(),
        };
        self.watch(&task, then)
    }

    /// A handshake is over without a connection: its coroutine is cancelled, and what it was accepted with forgotten.
    pub(crate) fn gone(&self, ticket: TicketId) -> PyResult<()> {
        let forgotten = lock(&self.shared.accepts).take(ticket);
        drop(forgotten);
        let abandoned = lock(&self.shared.auth_tasks).abandon(self.py, ticket, Instant::now());
        self.cancel(abandoned.into_iter().collect())
    }

    /// Returns true if another coroutine may run. Those whose handshake is gone, perhaps to make room for this one, are
    /// cancelled and no longer count.
    fn has_room(&self) -> PyResult<bool> {
        let most = self.handlers.bounds.max_pending_auth;
        if lock(&self.shared.auth_tasks).is_full(most) {
            self.cancel_abandoned()?;
        }
        Ok(lock(&self.shared.auth_tasks).has_room(most))
    }

    fn cancel_abandoned(&self) -> PyResult<()> {
        let is_waiting = |ticket| self.handle.is_waiting(ticket);
        let abandoned = lock(&self.shared.auth_tasks).abandoned(self.py, Instant::now(), is_waiting);
        self.cancel(abandoned)
    }

    fn cancel(&self, tasks: Vec<Py<PyAny>>) -> PyResult<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        for task in tasks {
            task.bind(self.py).call_method0(intern!(self.py, "cancel"))?;
        }
        self.check_later()
    }

    fn check_later(&self) -> PyResult<()> {
        let Some(hooks) = self.loop_hooks() else { return Ok(()) };
        let was_due = std::mem::replace(&mut lock(&self.shared.auth_tasks).is_check_due, true);
        if was_due {
            return Ok(());
        }
        let check = HandshakeCheck { server: self.server.clone().unbind(), shared: Arc::clone(self.shared) };
        hooks.call_later.bind(self.py).call1((CHECK_EVERY_S, check)).map(drop)
    }

    /// Cancels once more what has not ended yet, and looks again while there is any.
    fn check_cancelled(&self) -> PyResult<()> {
        let overdue = {
            let mut tasks = lock(&self.shared.auth_tasks);
            tasks.is_check_due = false;
            tasks.overdue(self.py, Instant::now())
        };
        self.cancel(overdue)?;
        if lock(&self.shared.auth_tasks).has_cancelled() { self.check_later() } else { Ok(()) }
    }

    fn answered(&self, ticket: TicketId, task: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.outcome(task)? {
            Outcome::Returned => self.decide(ticket, &task.call_method0(intern!(self.py, "result"))?, context),
            Outcome::Cancelled => self.answer(ticket, Decision::Unavailable),
            // The event loop has raised it already.
            Outcome::Raised(error) if is_fatal(self.py, &error) => self.answer(ticket, Decision::Unavailable),
            Outcome::Raised(error) => self.refuse(ticket, error),
        }
    }

    fn decide(&self, ticket: TicketId, returned: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(accept) = returned.cast::<Accept>() {
            return self.accept(ticket, accept.get(), context);
        }
        if let Ok(reject) = returned.cast::<Reject>() {
            return self.answer(ticket, Decision::Reject(reject.get().decision()));
        }
        let kind = returned.get_type().name()?;
        let message = format!("authenticate must return Accept or Reject, not {kind}");
        self.refuse(ticket, PyTypeError::new_err(message))
    }

    fn accept(&self, ticket: TicketId, accept: &Accept, context: &Bound<'py, PyAny>) -> PyResult<()> {
        let pending = PendingAccept { data: accept.data.clone_ref(self.py), context: context.clone().unbind() };
        // Before the answer: the connection may be open right after it.
        lock(&self.shared.accepts).keep(ticket, pending);
        let session = accept.session();
        match self.handle.answer(ticket, Decision::Accept(session)) {
            Ok(()) => Ok(()),
            Err(error) => {
                let forgotten = lock(&self.shared.accepts).take(ticket);
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
            // The handshake timed out, or the peer has left.
            Error::TicketSettled => Ok(()),
            // The core may have answered it 503 already: it waited until now, and the error is told all the same.
            error => {
                let _ = self.handle.answer(ticket, Decision::Unavailable);
                self.report(HandlerKind::Authenticate, errors::of_core(self.py, error))
            }
        }
    }

    /// Refuses a handshake whose callback failed. One that no longer waits writes no record: peers that connect and leave
    /// must not fill the log.
    fn refuse(&self, ticket: TicketId, error: PyErr) -> PyResult<()> {
        let was_waiting = self.handle.is_waiting(ticket);
        let _ = self.handle.answer(ticket, Decision::Unavailable);
        if was_waiting || is_fatal(self.py, &error) { self.report(HandlerKind::Authenticate, error) } else { Ok(()) }
    }
}
