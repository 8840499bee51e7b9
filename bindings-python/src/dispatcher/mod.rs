//! Calls the application's handlers: in order per connection, functions at once, coroutines as a task each.

mod ends;
mod failures;
mod later;
mod messages;
mod task_done;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use wsguard::binding::ServerHandle;

pub(crate) use self::failures::{Outcome, is_fatal};
pub(crate) use self::task_done::TaskDone;
use crate::connection::Connection;
use crate::context::call_in;
use crate::ending::Inside;
use crate::handlers::{HandlerKind, Handlers};
use crate::loop_hooks::LoopHooks;
use crate::shared::Shared;
use crate::{errors, futures};

/// How many coroutines of `on_violation` may run, and how many of `on_error`: verdicts come as fast as peers break rules.
const MAX_REPORTING: usize = 1024;

/// Calls handlers of one run, on the thread that handles its events. The core gets every command of a dispatcher when it
/// is done.
pub(crate) struct Dispatcher<'d, 'py> {
    pub(crate) py: Python<'py>,
    /// The Python server, which connections and callbacks keep alive.
    pub(crate) server: &'d Bound<'py, PyAny>,
    pub(crate) shared: &'d Arc<Shared>,
    pub(crate) handlers: &'d Handlers,
    pub(crate) handle: &'d ServerHandle,
}

impl<'py> Dispatcher<'_, 'py> {
    /// Calls `work` with the commands of the run corked. `None`: no handler is called any more, because the run, the
    /// interpreter or (in a child of `fork`) the threads are gone.
    pub(crate) fn with<T>(
        server: &Bound<'py, PyAny>,
        shared: &Arc<Shared>,
        work: impl FnOnce(&Dispatcher<'_, 'py>) -> PyResult<T>,
    ) -> PyResult<Option<T>> {
        let py = server.py();
        if shared.is_forked() {
            return Ok(None);
        }
        let Some(handlers) = shared.handlers() else { return Ok(None) };
        let Some(inside) = Inside::enter(py)? else { return Ok(None) };
        let handle = &shared.handle;
        let cork = handle.cork();
        let done = work(&Dispatcher { py, server, shared, handlers: &handlers, handle });
        if shared.is_forked() {
            // A handler has forked, and this is the child. The commands are the parent's to hand over, and a thread of the
            // parent may hold the lock of the mailbox for ever.
            std::mem::forget(cork);
        } else {
            drop(cork);
        }
        drop(inside);
        done.map(Some)
    }

    /// Calls `work` for a connection; a panic counts as a failure of its handler.
    pub(crate) fn guarded(
        conn: &Bound<'py, Connection>,
        work: impl FnOnce(&Dispatcher<'_, 'py>) -> PyResult<()>,
    ) -> PyResult<()> {
        Self::guarded_or_none(conn, |guarded| work(guarded).map(|()| None::<()>)).map(drop)
    }

    /// Calls `work` for a connection; a panic counts as a failure of its handler, and gives `None`.
    pub(crate) fn guarded_or_none<T>(
        conn: &Bound<'py, Connection>,
        work: impl FnOnce(&Dispatcher<'_, 'py>) -> PyResult<Option<T>>,
    ) -> PyResult<Option<T>> {
        let server = conn.get().server.bind(conn.py());
        let done = Dispatcher::with(server, &conn.get().shared, |guarded| {
            catch_unwind(AssertUnwindSafe(|| work(guarded)))
                .unwrap_or_else(|_| guarded.failed(conn, HandlerKind::Message, errors::panicked()).map(|()| None))
        })?;
        Ok(done.flatten())
    }

    /// Calls a handler of a connection, in the connection's context. An error is one that ends more than this handler:
    /// Ctrl-C, `sys.exit()`.
    #[inline]
    pub(crate) fn call(
        &self,
        conn: &Bound<'py, Connection>,
        kind: HandlerKind,
        call: &Py<PyAny>,
        second: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let context = conn.get().context(self.py)?;
        match call_in(&context, call, conn.as_any(), second) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.start(conn, kind, &returned, &context),
                Ok(false) => Ok(()),
                Err(error) => self.failed(conn, kind, error),
            },
            Err(error) => self.failed(conn, kind, error),
        }
    }

    /// Calls a handler that belongs to no connection, in a context of its own. Nobody waits for its coroutine.
    pub(crate) fn call_plain(&self, kind: HandlerKind, call: &Py<PyAny>, argument: &Bound<'py, PyAny>) -> PyResult<()> {
        let failed = |error| self.report(kind, error);
        if self.shared.reporting.load(Ordering::Relaxed) >= MAX_REPORTING {
            let message =
                format!("{MAX_REPORTING} of its coroutines have not ended: it is not called for this verdict");
            return failed(PyRuntimeError::new_err(message));
        }
        let context = self.shared.new_context(self.py)?;
        match call_in(&context, call, argument, None) {
            Ok(returned) if returned.is_none() => Ok(()),
            Ok(returned) => match self.returned(&returned) {
                Ok(true) => self.start_plain(kind, &returned, &context).or_else(failed),
                Ok(false) => Ok(()),
                Err(error) => failed(error),
            },
            Err(error) => failed(error),
        }
    }

    /// Wakes those who wait for room in the outbox of a connection, unless more was sent meanwhile.
    pub(crate) fn drained(&self, conn: &Bound<'py, Connection>) -> PyResult<()> {
        if self.handle.is_queued(conn.get().id) {
            return Ok(());
        }
        let waiters = conn.get().with_state(|state| {
            state.queued = false;
            std::mem::take(&mut state.waiters)
        });
        futures::wake(self.py, waiters)
    }

    pub(crate) fn loop_hooks(&self) -> Option<Arc<LoopHooks>> {
        self.shared.loop_hooks()
    }
}
