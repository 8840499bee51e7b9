//! The application's handlers, as it registered them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::PolicySet;

use crate::bounds::Bounds;
use crate::context::call_in;
use crate::json_in::{self, Keys};

/// What a handler handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerKind {
    Open,
    Message,
    Close,
    Violation,
    Authenticate,
    Error,
    Pong,
    Adoption,
}

impl HandlerKind {
    /// The name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "on_open",
            Self::Message => "message",
            Self::Close => "on_close",
            Self::Violation => "on_violation",
            Self::Authenticate => "authenticate",
            Self::Error => "on_error",
            Self::Pong => "ping_nowait",
            Self::Adoption => "adoption",
        }
    }
}

/// One event of the `json` protocol.
#[derive(Debug)]
pub(crate) struct EventSpec {
    pub(crate) name: Py<PyString>,
    /// Its handler. Without one, `on_message` or a reader of the connection gets its messages.
    pub(crate) call: Option<Py<PyAny>>,
    /// The handler gets its data as `bytes` of JSON text.
    raw: bool,
    /// Makes a model's instance of JSON text.
    validate: Option<Py<PyAny>>,
    /// A connection whose data the model has refused lives: the policy only reports, or answers.
    pub(crate) lives: bool,
}

/// The events that a path knows.
pub(crate) type Events = HashMap<Box<str>, EventSpec>;

/// What the application registered before it started the server.
#[derive(Debug)]
pub(crate) struct Handlers {
    events: Events,
    /// Those of the routes that have their own.
    routes: HashMap<Box<str>, Events>,
    /// The policy that they are of; `None` until it is in force.
    policies: Option<Arc<PolicySet>>,
    pub(crate) bounds: Bounds,
    pub(crate) message: Option<Py<PyAny>>,
    pub(crate) open: Option<Py<PyAny>>,
    pub(crate) close: Option<Py<PyAny>>,
    pub(crate) violation: Option<Py<PyAny>>,
    pub(crate) authenticate: Option<Py<PyAny>>,
    /// Hears what every other one raises.
    pub(crate) error: Option<Py<PyAny>>,
    /// The server that wsguard runs inside of, where it does.
    pub(crate) inside: Option<InsideCalls>,
    /// `report(error, what, conn_id)`: writes the traceback of a handler that failed to the log.
    pub(crate) report: Py<PyAny>,
    /// `refused(error, what, conn_id)`: notes that a model did not accept what its schema did.
    pub(crate) refused: Py<PyAny>,
}

impl Handlers {
    /// From the dictionary that `wsguard._registration` makes.
    pub(crate) fn of_dict(stated: &Bound<'_, PyDict>, bounds: Bounds) -> PyResult<Self> {
        let required = |name: &str| stated.as_any().get_item(name).map(Bound::unbind);
        let optional =
            |name: &str| Ok::<_, PyErr>(stated.get_item(name)?.filter(|call| !call.is_none()).map(Bound::unbind));
        let (mut events, mut routes) = (Events::new(), HashMap::new());
        for (route, specs) in required("events")?.bind(stated.py()).cast::<PyDict>()?.iter() {
            let specs = events_of(specs.cast::<PyDict>()?)?;
            match route.extract::<Option<&str>>()? {
                Some(route) => drop(routes.insert(route.into(), specs)),
                None => events = specs,
            }
        }
        Ok(Self {
            events,
            routes,
            policies: None,
            bounds,
            message: optional("message")?,
            open: optional("open")?,
            close: optional("close")?,
            violation: optional("violation")?,
            authenticate: optional("authenticate")?,
            error: optional("error")?,
            inside: optional("inside")?.map(|calls| InsideCalls::of(calls.bind(stated.py()))).transpose()?,
            report: required("report")?,
            refused: required("refused")?,
        })
    }

    /// The same, now that their policy is in force.
    pub(crate) fn of_policy(self, policies: Arc<PolicySet>) -> Self {
        Self { policies: Some(policies), ..self }
    }

    /// The generation of their policy; 0 until it is in force.
    pub(crate) fn generation(&self) -> u64 {
        self.policies.as_ref().map_or(0, |policies| policies.generation)
    }

    /// The route that a path has in their policy. A path that is not served any more has none: its connections end.
    pub(crate) fn route_of(&self, path: &str) -> Option<Arc<str>> {
        let resolved = self.policies.as_ref()?.resolve(path)?;
        resolved.route.as_deref().map(Arc::from)
    }

    /// An event of a connection for which the rules of `route` hold.
    #[inline]
    pub(crate) fn event(&self, route: Option<&str>, name: &str) -> Option<&EventSpec> {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.events).get(name)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for spec in self.routes.values().chain([&self.events]).flat_map(HashMap::values) {
            visit.call(&spec.name)?;
            visit.call(&spec.call)?;
            visit.call(&spec.validate)?;
        }
        for call in [&self.message, &self.open, &self.close, &self.violation, &self.authenticate, &self.error] {
            visit.call(call)?;
        }
        if let Some(inside) = &self.inside {
            inside.traverse(visit)?;
        }
        visit.call(&self.report)?;
        visit.call(&self.refused)
    }
}

/// What a server that wsguard runs inside of (an ASGI server) is told, beside opens and ends: its applications pull their
/// messages, and decide about their handshakes themselves.
#[derive(Debug)]
pub(crate) struct InsideCalls {
    /// `asked(ticket, tag, facts)`: a handshake waits for `_answer`.
    pub(crate) asked: Py<PyAny>,
    /// `ended(tag, code, status)`: there will be no connection of an adoption.
    pub(crate) ended: Py<PyAny>,
    /// `pipe(id, is_room)`: a pipe has bytes, or room.
    pub(crate) pipe: Py<PyAny>,
}

impl InsideCalls {
    fn of(calls: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (asked, ended, pipe) = calls.extract()?;
        Ok(Self { asked, ended, pipe })
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        [&self.asked, &self.ended, &self.pipe].into_iter().try_for_each(|call| visit.call(call))
    }
}

fn events_of(specs: &Bound<'_, PyDict>) -> PyResult<Events> {
    let spec = |(name, spec): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let name = name.cast_into::<PyString>()?;
        let (call, raw, validate, lives) = spec.extract()?;
        Ok((name.to_str()?.into(), EventSpec { name: name.unbind(), call, raw, validate, lives }))
    };
    specs.iter().map(spec).collect()
}

impl EventSpec {
    /// The data of a message in the form that the handler asked for. A model's refusal is an error of its own kind.
    /// The model runs in `context`, if there is one.
    pub(crate) fn data<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        context: Option<&Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyAny>, NoData> {
        match (&self.validate, context) {
            (Some(validate), Some(context)) => {
                call_in(context, validate, PyString::new(py, text).as_any(), None).map_err(NoData::Refused)
            }
            (Some(validate), None) => validate.bind(py).call1((PyString::new(py, text),)).map_err(NoData::Refused),
            (None, _) if self.raw => Ok(PyBytes::new(py, text.as_bytes()).into_any()),
            (None, _) => objects(py, text).map_err(NoData::Failed),
        }
    }

    /// Whether making its data runs Python.
    pub(crate) fn has_model(&self) -> bool {
        self.validate.is_some()
    }
}

/// Why a message has no data for its handler.
#[derive(Debug)]
pub(crate) enum NoData {
    /// Its model raised.
    Refused(PyErr),
    /// It could not be made.
    Failed(PyErr),
}

/// The Python objects of a JSON text.
pub(crate) fn objects<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    thread_local! {
        static KEYS: RefCell<Option<Keys>> = const { RefCell::new(None) };
    }
    // Taken, not borrowed: making objects may collect garbage, whose finalizers may come back here.
    let mut keys = KEYS.take().unwrap_or_default();
    let made = json_in::objects(py, text, &mut keys);
    KEYS.replace(Some(keys));
    made
}
