//! What is kept of an adoption until its handshake is over.

use std::net::SocketAddr;
use std::sync::Arc;

use super::telling::{Tell, Told};
use wsguard_proto::verdict::Code;

/// A connection that another server accepted, on its way through its opening handshake.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) received: Vec<u8>,
    pub(super) local: Option<SocketAddr>,
    /// It is plain text on an address that is not loopback.
    pub(super) is_public: bool,
    pub(super) tag: Option<Tag>,
}

/// What the application knows an adoption by. Dropped without [`opened`](Self::opened), the application is told that there will be
/// no connection.
pub(super) struct Tag {
    number: u64,
    server: Arc<dyn Tell>,
    shard: usize,
    /// How the handshake ended.
    end: (Option<Code>, u16),
    is_open: bool,
}

impl core::fmt::Debug for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Tag").field(&self.number).finish()
    }
}

impl Tag {
    pub(super) fn new(number: u64, server: Arc<dyn Tell>, shard: usize) -> Self {
        Self { number, server, shard, end: (None, 0), is_open: false }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// It became a connection, whose open names the tag. The events may be locked already.
    pub(super) fn opened(mut self) -> u64 {
        self.is_open = true;
        self.number
    }

    /// It was answered so.
    pub(super) fn answered(mut self, code: Option<Code>, status: u16) {
        self.end = (code, status);
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        if !self.is_open {
            let (tag, (code, status)) = (self.number, self.end);
            self.server.tell_from_anywhere(self.shard, Told::AdoptionEnded { tag, code, status });
        }
    }
}
