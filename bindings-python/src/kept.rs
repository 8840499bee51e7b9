//! Bytes of a message that waits in Python. They count towards `max_inbox_bytes` until this is dropped.

use wsguard::binding::{KeptInbox, ServerHandle};

use crate::fork;

/// The bytes of one message that outlives its batch.
#[derive(Debug)]
pub(crate) struct Kept {
    /// `Some` until it is dropped.
    held: Option<KeptInbox>,
    bytes: usize,
    forks: u64,
}

impl Kept {
    pub(crate) fn new(handle: &ServerHandle, bytes: usize) -> Self {
        Self { held: Some(handle.hold_inbox(bytes)), bytes, forks: fork::depth() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A child of `fork` has no shards that giving them back could wake.
        if self.forks != fork::depth() {
            std::mem::forget(self.held.take());
        }
    }
}
