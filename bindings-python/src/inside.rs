//! A server that wsguard runs inside of: it hands over its connections, and its applications decide about their handshakes.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wsguard::binding::{Code, Decision, Error, Event, GrantedIdentity, Open, TicketId, Upgrade};

use crate::accepts::PendingAccept;
use crate::decision::{Accept, Reject};
use crate::dispatcher::{Dispatcher, is_fatal};
use crate::errors;
use crate::handlers::{HandlerKind, InsideCalls, objects};
use crate::lock::lock;

impl<'py> Dispatcher<'_, 'py> {
    /// Hands a handshake to its application, which answers later.
    pub(crate) fn asked_inside(&self, inside: &InsideCalls, upgrade: &Upgrade) -> PyResult<()> {
        // Peers that connect and leave cost no call.
        if !self.handle.is_waiting(upgrade.ticket) {
            return Ok(());
        }
        let asked = self.facts(upgrade).and_then(|facts| {
            inside.asked.bind(self.py).call1((upgrade.ticket.to_u64(), upgrade.adopted, facts)).map(drop)
        });
        asked.or_else(|error| {
            let _ = self.handle.answer(upgrade.ticket, Decision::Unavailable);
            self.or_report(error)
        })
    }

    /// What the core has found out: `ip`, `user`, `roles`, `claims`, `route` and `params`.
    fn facts(&self, upgrade: &Upgrade) -> PyResult<Bound<'py, PyDict>> {
        let facts = PyDict::new(self.py);
        let request = &upgrade.request;
        let nobody = GrantedIdentity::default();
        let identity = upgrade.identity.as_ref().unwrap_or(&nobody);
        facts.set_item("user", identity.user.as_deref())?;
        facts.set_item("roles", PyTuple::new(self.py, identity.roles.iter())?)?;
        facts.set_item("ip", request.ip.map(|ip| ip.to_string()))?;
        let claims = identity.claims.as_deref().map(|claims| objects(self.py, claims)).transpose()?;
        facts.set_item("claims", claims)?;
        facts.set_item("route", request.route.as_deref())?;
        facts.set_item("params", crate::facts::params(self.py, &request.params)?)?;
        Ok(facts)
    }

    /// What is told of adopted connections and of pipes.
    pub(crate) fn told_inside(&self, event: &Event<'_>) -> PyResult<()> {
        let Some(inside) = &self.handlers.inside else { return Ok(()) };
        let told = match *event {
            Event::PipeReady(pipe) => inside.pipe.bind(self.py).call1((pipe.to_u64(), false)),
            Event::PipeRoom(pipe) => inside.pipe.bind(self.py).call1((pipe.to_u64(), true)),
            Event::AdoptionEnded { tag, code, status } => {
                inside.ended.bind(self.py).call1((tag, code.map(Code::name), status))
            }
            _ => return Ok(()),
        };
        told.map(drop).or_else(|error| self.or_report(error))
    }

    /// An application that has accepted waits for its connection: one that was over before it was handed on is none, and that is
    /// told as of an adoption that ended.
    pub(crate) fn told_inside_of_none(&self, open: &Open, code: Code) -> PyResult<()> {
        open.adopted.map_or(Ok(()), |tag| self.told_inside(&Event::AdoptionEnded { tag, code: Some(code), status: 0 }))
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
