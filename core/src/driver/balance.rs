//! Which shard takes a connection: the one that has the fewest.

use std::io;
use std::net::TcpStream;

use super::accepted::{Accepted, UnregisteredSocket};
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
pub(super) fn post(state: &ServerState, shard: usize, accepted: Accepted) {
    let adopt = Command::Adopt(Box::new(accepted));
    state.shards[shard].post(|buffer| buffer.commands.push(adopt));
}

/// Takes over a TCP connection that another server accepted and read the request head of.
pub(super) fn adopt(state: &ServerState, tcp: TcpStream, received: Vec<u8>) -> io::Result<()> {
    let peer = Some(tcp.peer_addr()?);
    tcp.set_nonblocking(true)?;
    tcp.set_nodelay(true)?;
    let (shard, load) = least_loaded(state);
    let socket = UnregisteredSocket::Tcp(tcp);
    post(state, shard, Accepted { socket, peer, at: state.clock.now(), received: Some(received), load });
    Ok(())
}
