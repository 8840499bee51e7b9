//! Notices that the process was forked: the threads of a server stay in the parent (THREATS S8).
#![expect(unsafe_code, reason = "pthread_atfork takes a function to call in the child")]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How often this process is a child of one that used the library.
pub(crate) fn depth() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Starts to notice.
pub(crate) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the function does nothing but add to an atomic number, which is allowed after a fork. It lives as long
        // as the library: a shared library that registers with `pthread_atfork` is forgotten there when it is unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}
