//! Notices that the process was forked: the threads of a server stay in the parent (THREATS S8).

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How often this process is a child of one that had loaded the module.
pub(crate) fn depth() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Called in every child (`os.register_at_fork`): nothing but a count, whatever the parent's other threads held.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
