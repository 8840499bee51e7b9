//! Bytes of a message that waits in Python: counted towards `max_inbox_bytes` for as long as this lives, and given back on
//! whatever way it goes.

use wsguard::host::ServerHandle;

use crate::fork;

/// What one message that is kept beyond its batch counts in the inbox.
#[derive(Debug)]
pub(crate) struct Kept {
    handle: ServerHandle,
    bytes: usize,
    forks: u64,
}

impl Kept {
    pub(crate) fn new(handle: &ServerHandle, bytes: usize) -> Self {
        handle.keep_inbox(bytes);
        Self { handle: handle.clone(), bytes, forks: fork::depth() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // In a child of `fork` it would wake shards that do not exist.
        if self.forks == fork::depth() {
            self.handle.release_inbox(self.bytes);
        }
    }
}
