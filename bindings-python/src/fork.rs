//! Notices that the process was forked: the threads of a server stay in the parent.
// THREATS S8.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::ending;

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between the process that loaded the module and this one.
pub(crate) fn depth() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Called in every child (`os.register_at_fork`). It takes no lock that another thread of the parent could hold.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    ending::forget_other_threads();
}
