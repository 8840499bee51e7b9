//! What the application is told of an adopted connection, from whatever thread comes to know of it.

use core::fmt::Debug;

use super::pipe_id::PipeId;
use wsguard_proto::verdict::Code;

/// An event that belongs to no open connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    PipeReady(PipeId),
    PipeRoom(PipeId),
    AdoptionEnded { tag: u64, code: Option<Code>, status: u16 },
}

/// The server, as what it tells goes through.
pub(super) trait Tell: Debug + Send + Sync {
    /// Tells an event of `shard`, from any thread: also one that is none of the server's, and one whose runtime is gone.
    fn tell_from_anywhere(&self, shard: usize, told: Told);
}
