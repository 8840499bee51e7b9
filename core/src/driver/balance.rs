//! Which shard takes a connection: the one that has the fewest.

use super::accepted::Accepted;
use super::commands::Command;
use super::level::HeldOne;
use super::state::ServerState;

/// The shard with the least load, and the new connection's part in that load.
pub(super) fn least_loaded(state: &ServerState) -> (usize, HeldOne) {
    let loads = state.shards.iter().map(|mailbox| mailbox.load.get()).enumerate();
    let shard = loads.min_by_key(|(_, load)| *load).map_or(0, |(shard, _)| shard);
    (shard, state.shards[shard].load.hold_one())
}

/// Hands a connection to another thread's shard.
///
/// # Errors
///
/// The shard has stopped; the connection comes back.
pub(super) fn post(state: &ServerState, shard: usize, accepted: Accepted) -> Result<(), Box<Accepted>> {
    let mut accepted = Some(Box::new(accepted));
    let posted =
        state.shards[shard].try_post(|buffer| buffer.commands.extend(accepted.take().map(Command::Adopt))).is_ok();
    debug_assert_eq!(posted, accepted.is_none(), "it is there or here");
    accepted.map_or(Ok(()), Err)
}
