//! Bytes of a message that waits in Python: counted towards `max_inbox_bytes` for as long as this lives, and given back on
//! whatever way it goes.

use wsguard::binding::{KeptInbox, ServerHandle};

use crate::fork;

/// What one message that is kept beyond its batch counts in the inbox.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Always there until it is dropped.
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
        // In a child of `fork` giving them back would wake shards that do not exist.
        if self.forks != fork::depth() {
            std::mem::forget(self.held.take());
        }
    }
}
