//! What one connection has come to, for the record of its close.

use wsguard_proto::time::Moment;

/// The sums of one open connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) since: Moment,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Tally {
    /// Of a connection that opens `now`; `received` bytes came behind its request.
    pub(super) fn begin(now: Moment, received: usize) -> Self {
        let bytes_in = received as u64;
        Self { since: now, messages_in: 0, messages_out: 0, bytes_in, bytes_out: 0 }
    }
}
