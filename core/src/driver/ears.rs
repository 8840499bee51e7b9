//! Who listens for new connections, and the end of that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wsguard_proto::lock::lock;

/// The longest wait for the listening sockets: they are closed in a turn of their shard, which is short.
const PATIENCE: Duration = Duration::from_secs(1);

/// The listening sockets of a server.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// The application has ended listening: whoever accepts lets go of the listening socket.
    is_deaf: AtomicBool,
    /// Told when it has.
    pub(super) deafened: Notify,
    open: Mutex<usize>,
    closed: Condvar,
}

impl Ears {
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
    }

    /// Counts a listening socket for as long as the guard lives.
    pub(super) fn open(self: &Arc<Self>) -> Ear {
        *lock(&self.open) += 1;
        Ear(Arc::clone(self))
    }

    pub(super) fn deafen(&self) {
        self.is_deaf.store(true, Ordering::Release);
        self.deafened.notify_waiters();
    }

    /// Waits until every listening socket is closed, within reason.
    pub(super) fn wait(&self) {
        let open = lock(&self.open);
        drop(self.closed.wait_timeout_while(open, PATIENCE, |open| *open > 0).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A listening socket. It is dropped behind the socket itself.
#[derive(Debug)]
#[must_use = "dropping it says that the socket is closed"]
pub(super) struct Ear(Arc<Ears>);

impl Drop for Ear {
    fn drop(&mut self) {
        *lock(&self.0.open) -= 1;
        self.0.closed.notify_all();
    }
}
