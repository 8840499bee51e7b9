//! Interrupts the thread that waits for the events of a server, from any thread and from signal handlers.
#![expect(unsafe_code, reason = "a signal handler finds a shared object without a lock: a hazard pointer")]

use core::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use wsguard::binding::Notifier;

use crate::os;
use crate::status::Status;

/// Wakes the one consumer of a server.
#[derive(Debug)]
pub(crate) struct Interrupter {
    pub(crate) notifier: Notifier,
    /// The application has interrupted the consumer.
    is_asked: AtomicBool,
}

impl Interrupter {
    pub(crate) fn new(notifier: Notifier) -> Self {
        Self { notifier, is_asked: AtomicBool::new(false) }
    }

    /// Makes the consumer return without an event. Signal handlers may call it: `errno` is restored.
    fn interrupt(&self) {
        let errno = Errno::last_raw();
        self.is_asked.store(true, Ordering::Release);
        self.notifier.notify();
        Errno::set_raw(errno);
    }

    /// Returns true if the consumer was interrupted since the last call.
    pub(crate) fn take(&self) -> bool {
        self.is_asked.load(Ordering::Acquire) && self.is_asked.swap(false, Ordering::AcqRel)
    }
}

const ENTRIES: usize = 64;

/// Where a signal handler finds the interrupter of a server: no lock, no memory of its own.
struct Entry {
    /// The handle of the server; 0: free.
    server: AtomicUsize,
    interrupter: AtomicPtr<Interrupter>,
    /// The fork count of the process that started the server: what a child writes would be read by its parent.
    forks: AtomicU64,
    /// Threads and signal handlers that use the pointer.
    users: AtomicU32,
}

struct Table {
    entries: [Entry; ENTRIES],
    more: OnceLock<Box<Table>>,
}

impl Table {
    const fn new() -> Self {
        let entries = [const {
            Entry {
                server: AtomicUsize::new(0),
                interrupter: AtomicPtr::new(ptr::null_mut()),
                forks: AtomicU64::new(0),
                users: AtomicU32::new(0),
            }
        }; ENTRIES];
        Self { entries, more: OnceLock::new() }
    }

    fn find(&self, server: usize) -> Option<&Entry> {
        let mut table = Some(self);
        while let Some(Table { entries, more }) = table {
            if let Some(entry) = entries.iter().find(|entry| entry.server.load(Ordering::SeqCst) == server) {
                return Some(entry);
            }
            table = more.get().map(|more| &**more);
        }
        None
    }
}

static TABLE: Table = Table::new();

/// The value of `server` while an entry is being written.
const WRITING: usize = usize::MAX;

/// Makes a server's interrupter known.
pub(crate) fn register(server: usize, interrupter: Arc<Interrupter>) {
    let mut table = &TABLE;
    loop {
        let free = table
            .entries
            .iter()
            .find(|entry| entry.server.compare_exchange(0, WRITING, Ordering::SeqCst, Ordering::SeqCst).is_ok());
        if let Some(entry) = free {
            entry.interrupter.store(Arc::into_raw(interrupter).cast_mut(), Ordering::SeqCst);
            entry.forks.store(os::forks(), Ordering::SeqCst);
            entry.server.store(server, Ordering::SeqCst);
            return;
        }
        table = table.more.get_or_init(|| Box::new(Table::new()));
    }
}

/// Forgets a server's interrupter, and waits for the threads and signal handlers that use it.
pub(crate) fn deregister(server: usize) {
    let Some(entry) = TABLE.find(server) else { return };
    if entry.server.compare_exchange(server, WRITING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return;
    }
    let interrupter = entry.interrupter.swap(ptr::null_mut(), Ordering::SeqCst);
    while entry.users.load(Ordering::SeqCst) > 0 {
        core::hint::spin_loop();
    }
    entry.server.store(0, Ordering::SeqCst);
    // SAFETY: the pointer came from `Arc::into_raw` in `register`, it was swapped out once, and nobody reads it any more.
    drop(unsafe { Arc::from_raw(interrupter.cast_const()) });
}

/// Interrupts the server's consumer, from a signal handler too.
pub(crate) fn interrupt(server: usize) -> Result<(), Status> {
    let entry = TABLE.find(server).ok_or(Status::ErrHandle)?;
    if entry.forks.load(Ordering::SeqCst) != os::forks() {
        return Err(Status::ErrForked);
    }
    entry.users.fetch_add(1, Ordering::SeqCst);
    let interrupter = entry.interrupter.load(Ordering::SeqCst);
    let is_there = !interrupter.is_null() && entry.server.load(Ordering::SeqCst) == server;
    if is_there {
        // SAFETY: `deregister` takes the pointer out before it looks at `users`, and frees it only when that is 0; it was
        // raised before the pointer was read.
        unsafe { &*interrupter }.interrupt();
    }
    entry.users.fetch_sub(1, Ordering::SeqCst);
    if is_there { Ok(()) } else { Err(Status::ErrHandle) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wsguard::binding::Waited;

    use super::*;

    #[test]
    fn an_interrupt_is_taken_once_and_ends_with_its_server() {
        let interrupter = Arc::new(Interrupter::new(Notifier::descriptor().unwrap()));
        assert!(!interrupter.take());
        register(4711, Arc::clone(&interrupter));
        interrupt(4711).unwrap();
        interrupt(4711).unwrap();
        assert_eq!(interrupter.notifier.wait(None), Waited::Notified);
        assert!(interrupter.notifier.take() && interrupter.take());
        assert!(!interrupter.take());
        assert_eq!(interrupter.notifier.wait(Some(Duration::ZERO)), Waited::TimedOut);
        deregister(4711);
        assert_eq!(interrupt(4711), Err(Status::ErrHandle));
        assert_eq!(Arc::strong_count(&interrupter), 1);
    }
}
