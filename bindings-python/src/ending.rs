//! The end of the interpreter. Python ends a thread that takes the interpreter's lock during finalization where it stands.
//! That must not happen inside native code: so nothing new begins once the end has come, and the end waits for the threads
//! that are inside.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;

use crate::lock::lock;

static ENDING: AtomicBool = AtomicBool::new(false);

/// The threads inside native code that calls Python, by `threading.get_ident`. Only threads that hold the interpreter's lock
/// lock it, so that it is free in a child of `fork`.
static INSIDE: Mutex<Vec<u64>> = Mutex::new(Vec::new());

thread_local! {
    /// Python's identifier of this thread; 0 before the first use.
    static IDENT: Cell<u64> = const { Cell::new(0) };
}

/// Returns true if the interpreter is about to end.
pub(crate) fn has_come() -> bool {
    ENDING.load(Ordering::Acquire)
}

fn ident(py: Python<'_>) -> PyResult<u64> {
    let known = IDENT.get();
    if known != 0 {
        return Ok(known);
    }
    let asked = py.import("threading")?.call_method0(intern!(py, "get_ident"))?.extract()?;
    IDENT.set(asked);
    Ok(asked)
}

/// Python's identifier of this thread; 0 if it was never inside.
pub(crate) fn known_ident() -> u64 {
    IDENT.get()
}

/// Marks this thread as inside native code that calls Python, until it is dropped.
#[derive(Debug)]
pub(crate) struct Inside {
    ident: u64,
}

impl Inside {
    /// `None`: the interpreter is about to end, and nothing may begin.
    pub(crate) fn enter(py: Python<'_>) -> PyResult<Option<Self>> {
        if has_come() {
            return Ok(None);
        }
        let ident = ident(py)?;
        lock(&INSIDE).push(ident);
        Ok(Some(Self { ident }))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut inside = lock(&INSIDE);
        if let Some(place) = inside.iter().rposition(|ident| *ident == self.ident) {
            inside.swap_remove(place);
        }
    }
}

/// The other threads that are inside.
#[pyfunction]
pub(crate) fn busy_threads(py: Python<'_>) -> PyResult<Vec<u64>> {
    let own = ident(py)?;
    let mut others = lock(&INSIDE).clone();
    others.retain(|ident| *ident != own);
    others.dedup();
    Ok(others)
}

/// From here on no handler is called.
pub(crate) fn begin() {
    ENDING.store(true, Ordering::Release);
}

/// Forgets the other threads, in a child of `fork`.
pub(crate) fn forget_other_threads() {
    let own = IDENT.get();
    lock(&INSIDE).retain(|ident| *ident == own);
}
