//! Questions across the nodes of a cluster that wait for their answers. An answer comes on any thread of the core's: it is noted
//! there, and the thread that handles the server's events gives it to Python, so that no thread of the core waits for Python.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wsguard::binding::{Error, Everywhere, Notifier};

use crate::errors;
use crate::lock::{emptied, lock};

/// Answers that came, by the numbers of their questions.
#[derive(Debug)]
struct Answers {
    came: Mutex<Vec<(u64, Result<Everywhere, Error>)>>,
    notifier: Notifier,
}

/// Who waits: a function that takes `(connections, missing)` and an exception, one of them `None`, from any thread.
type Waiting = HashMap<u64, Py<PyAny>>;

/// The questions of one run.
#[derive(Debug)]
pub(crate) struct Counts {
    last: AtomicU64,
    answers: Arc<Answers>,
    waiting: Mutex<Waiting>,
}

/// What the core calls with an answer.
pub(crate) type Answer = Box<dyn FnOnce(Result<Everywhere, Error>) + Send>;

impl Counts {
    pub(crate) fn new(notifier: Notifier) -> Self {
        let answers = Arc::new(Answers { came: Mutex::default(), notifier });
        Self { last: AtomicU64::new(0), answers, waiting: Mutex::default() }
    }

    /// Keeps who waits. Returns the number of the question, and what takes its answer.
    pub(crate) fn wait(&self, then: Py<PyAny>) -> (u64, Answer) {
        let ticket = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.waiting).insert(ticket, then);
        let answers = Arc::clone(&self.answers);
        let answer = move |outcome| {
            lock(&answers.came).push((ticket, outcome));
            answers.notifier.notify();
        };
        (ticket, Box::new(answer))
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, ticket: u64) {
        let then = lock(&self.waiting).remove(&ticket);
        drop(then);
    }

    /// Tells who waits for what has come.
    pub(crate) fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let came = std::mem::take(&mut *lock(&self.answers.came));
        came.into_iter().try_for_each(|(ticket, outcome)| {
            let then = lock(&self.waiting).remove(&ticket);
            then.map_or(Ok(()), |then| match outcome {
                Ok(Everywhere { connections, missing, .. }) => call(then.bind(py), Some((connections, missing)), None),
                Err(error) => call(then.bind(py), None, Some(errors::of_core(py, &error))),
            })
        })
    }

    /// Nobody is answered any more: everybody who waits is told why.
    pub(crate) fn fail(&self, py: Python<'_>, why: impl Fn() -> PyErr) -> PyResult<()> {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_values().try_for_each(|then| call(then.bind(py), None, Some(why())))
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.waiting.try_lock() {
            Ok(waiting) => waiting.values().try_for_each(|then| visit.call(then)),
            Err(_) => Ok(()),
        }
    }

    /// Lets go of everything of Python's.
    pub(crate) fn retire(&self) {
        drop(emptied(&self.waiting));
    }
}

fn call(then: &Bound<'_, PyAny>, counted: Option<(usize, u32)>, failure: Option<PyErr>) -> PyResult<()> {
    let failure = failure.map(|error| error.into_value(then.py()));
    then.call1((counted, failure)).map(drop)
}
