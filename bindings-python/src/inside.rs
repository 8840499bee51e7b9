//! A server that wsguard runs inside of: it hands over its connections, and its applications decide about their handshakes.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wsguard::binding::{Decision, Error, TicketId, Upgrade};

use crate::accepts::PendingAccept;
use crate::adopted::TAG;
use crate::decision::{Accept, Reject};
use crate::dispatcher::{Dispatcher, is_fatal};
use crate::errors;
use crate::handlers::{HandlerKind, InsideCalls};
use crate::lock::lock;
use crate::request::Request;

impl<'py> Dispatcher<'_, 'py> {
    /// Hands a handshake to its application, which answers later.
    pub(crate) fn asked_inside(&self, inside: &InsideCalls, upgrade: &Upgrade) -> PyResult<()> {
        let ticket = upgrade.ticket;
        let mut request = upgrade.request.clone();
        let tag = request.headers.iter().position(|(name, _)| name == TAG);
        let tag: Option<u64> = tag.and_then(|place| request.headers.remove(place).1.parse().ok());
        let request = Bound::new(self.py, Request::new(request))?;
        let asked = inside.asked.bind(self.py).call1((ticket.to_u64(), tag, request));
        asked.map(drop).or_else(|error| {
            let _ = self.handle.answer(ticket, Decision::Unavailable);
            self.or_report(error)
        })
    }

    /// Tells something that no connection and no handshake waits for.
    pub(crate) fn tell_inside<A>(&self, call: &Py<PyAny>, arguments: A) -> PyResult<()>
    where
        A: IntoPyObject<'py, Target = PyTuple> + pyo3::call::PyCallArgs<'py>,
    {
        call.bind(self.py).call1(arguments).map(drop).or_else(|error| self.or_report(error))
    }

    fn or_report(&self, error: PyErr) -> PyResult<()> {
        if is_fatal(self.py, &error) { Err(error) } else { self.report(HandlerKind::Adoption, error) }
    }

    /// The application's answer; false: the handshake no longer waits.
    pub(crate) fn answer_inside(&self, ticket: u64, answer: &Bound<'py, PyAny>) -> PyResult<bool> {
        let ticket = TicketId::from_u64(ticket);
        let decision = if let Ok(accept) = answer.cast::<Accept>() {
            let context = self.shared.new_context(self.py)?.unbind();
            let pending = PendingAccept { data: accept.get().data.clone_ref(self.py), context };
            // Before the answer: the connection may be open right after it.
            lock(&self.shared.accepts).keep(ticket, pending);
            Decision::Accept(accept.get().session())
        } else if let Ok(reject) = answer.cast::<Reject>() {
            Decision::Reject(reject.get().decision())
        } else {
            Decision::Unavailable
        };
        match self.handle.answer(ticket, decision) {
            Ok(()) => Ok(true),
            Err(error) => {
                let forgotten = lock(&self.shared.accepts).take(ticket);
                drop(forgotten);
                if matches!(error, Error::TicketSettled | Error::Stopped) {
                    return Ok(false);
                }
                Err(errors::of_core(self.py, &error))
            }
        }
    }
}
