//! The accept loop: it accepts in bounded portions and hands each connection to the least loaded shard.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
use tokio::net::TcpListener;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::accepted::{Accepted, UnregisteredSocket};
use super::balance;
use super::bind::Listening;
use super::caught::said;
use super::ears::Ear;
use super::state::{Life, ServerState};
use wsguard_proto::config::Listen;

/// Connections accepted before other tasks have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when the process is out of file descriptors or memory.
pub(super) const BACK_OFF: Duration = Duration::from_millis(100);

pub(super) enum Listener {
    /// Watched as a stream, which can wait for a call of ours: a `TcpListener` would register whatever it accepts.
    #[cfg(target_os = "linux")]
    Tcp(TcpStream),
    #[cfg(not(target_os = "linux"))]
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A listening socket that the server itself made. At its end nobody listens on it any more: a child of `fork` may hold it
/// as well, and would keep the address taken, and peers waiting, for as long as it lives.
pub(super) struct Own<'l>(pub(super) &'l Listener);

impl Drop for Own<'_> {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        {
            use rustix::net::{Shutdown, shutdown};
            let _ = match self.0 {
                Listener::Tcp(listener) => shutdown(listener, Shutdown::Both),
                Listener::Unix(listener) => shutdown(listener, Shutdown::Both),
            };
        }
    }
}

impl Listener {
    /// Watches a listening socket from the runtime of this thread.
    pub(super) fn new(listening: Listening) -> io::Result<Self> {
        match listening {
            Listening::Tcp(listener) => Self::watch(listener),
            #[cfg(unix)]
            Listening::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }

    #[cfg(target_os = "linux")]
    fn watch(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpStream::from_std(std::os::fd::OwnedFd::from(listener).into()).map(Listener::Tcp)
    }

    #[cfg(not(target_os = "linux"))]
    fn watch(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Listener::Tcp)
    }

    pub(super) async fn accept(&self) -> io::Result<(UnregisteredSocket, Option<SocketAddr>)> {
        match self {
            #[cfg(target_os = "linux")]
            Listener::Tcp(listener) => {
                let (tcp, peer) = listener.async_io(tokio::io::Interest::READABLE, || accept_tcp(listener)).await?;
                Ok((UnregisteredSocket::Tcp(tcp), Some(peer)))
            }
            #[cfg(not(target_os = "linux"))]
            Listener::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                Ok((UnregisteredSocket::Tcp(tcp.into_std()?), Some(peer)))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let (unix, _) = listener.accept().await?;
                Ok((UnregisteredSocket::Unix(unix.into_std()?), None))
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn accept_tcp(listener: &TcpStream) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?.try_into()?;
    Ok((socket.into(), peer))
}

/// Accepts until the server stops, or the application ends listening; then nothing listens any more, and this waits for the end of
/// the shard. `open_here` takes the connections for which this shard, `own_shard`, has the least load.
pub(super) async fn accept_from(
    state: &ServerState,
    own_shard: usize,
    listener: Listening,
    ear: Ear,
    open_here: impl Fn(Accepted),
) {
    let listener = match Listener::new(listener) {
        Ok(listener) => listener,
        Err(error) => return said(|| tracing::error!(target: "wsguard", %error, "cannot watch the listening socket")),
    };
    // An inherited socket belongs to the process that gave it, which may go on with it.
    let own = (!matches!(state.set().top.listen, Listen::Fd(_))).then(|| Own(&listener));
    let mut deafened = core::pin::pin!(state.ears.deafened.notified());
    deafened.as_mut().enable();
    let (mut turn, mut fails) = (0, false);
    while state.life() < Life::Stopped {
        if state.ears.is_deaf() {
            drop(own);
            drop(listener);
            drop(ear);
            return core::future::pending().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut deafened => continue,
        };
        match accepted {
            Ok((socket, peer)) => {
                fails = false;
                let (shard, load) = balance::least_loaded(state);
                let accepted = Accepted { socket, peer, at: state.clock.now(), adopted: None, load };
                if shard == own_shard {
                    open_here(accepted);
                } else if let Err(accepted) = balance::post(state, shard, accepted) {
                    // The server stops, and that shard was sooner: it is answered here.
                    open_here(*accepted);
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Once, however long it lasts: a log that fills up mends nothing (THREATS S6).
                if !core::mem::replace(&mut fails, true) {
                    said(|| tracing::warn!(target: "wsguard", %error, "cannot accept; trying again every 100 ms"));
                }
                tokio::select! {
                    () = tokio::time::sleep(BACK_OFF) => {}
                    () = &mut deafened => {}
                }
            }
        }
        turn += 1;
        if turn == ACCEPTS_PER_TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The peer left before it was accepted: nothing to back off for.
pub(super) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
