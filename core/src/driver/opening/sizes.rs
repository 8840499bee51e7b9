//! What a handshake in flight holds. Thousands may be: whoever opens a connection and says nothing has one. And what is freed
//! of them lies between sessions, which live long: pieces that fit no session are lost to the process for hours.

use std::os::unix::net::UnixStream;

use super::*;
use crate::driver::session::Session;
use crate::driver::state::idle;

/// An accepted connection whose peer has said nothing, and the peer.
fn silent(state: &ServerState) -> (Accepted, UnixStream) {
    let (socket, peer) = UnixStream::pair().expect("a pair of sockets");
    socket.set_nonblocking(true).expect("a socket of ours");
    let load = state.shards[0].load.hold_one();
    let socket = UnregisteredSocket::Unix(socket);
    (Accepted { socket, peer: None, at: state.clock.now(), adopted: None, load }, peer)
}

/// A task's memory is a multiple of 128 bytes, of which the runtime's own part is 104.
#[test]
fn the_task_of_a_handshake_is_small() {
    let state = idle(r#""threads": 1"#);
    let (accepted, _peer) = silent(&state);
    let task = size_of_val(&open(Arc::clone(&state), 0, accepted));
    assert!(task <= 152, "{task}");
}

#[test]
fn neither_part_of_a_waiting_handshake_is_larger_than_a_session() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let state = idle(r#""threads": 1"#);
    let (accepted, _peer) = silent(&state);
    let waiting = begin(Arc::clone(&state), 0, accepted).expect("nothing was said");
    let (waiting, handshake, session) = (size_of_val(&*waiting), size_of::<Handshake>(), size_of::<Session>());
    assert!(waiting <= session && handshake <= session, "{waiting} {handshake} {session}");
}

/// Half of what an idle connection costs, which is to be 1 KiB at most. The rest is the runtime's place for the socket (272 bytes
/// with the allocator's own, at a multiple of 128), the slot, the waker (48), and what lies unused between them: a session of more
/// than 440 bytes costs 128 more.
#[test]
fn a_session_is_half_of_an_idle_connection() {
    let (session, slot) = (size_of::<Session>(), size_of::<crate::driver::ids::Slot>());
    assert!(session <= 424 && slot <= 48, "{session} {slot}");
}
