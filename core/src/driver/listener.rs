//! Accepting: in one place, in bounded portions, handed to the least loaded shard.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::commands::{Command, CommandBuffer};
use super::opening;
use super::shared::{Life, Shared};
use super::stream::Socket;
use crate::config::Listen;
use crate::error::Error;
use crate::time::Moment;

/// Connections accepted before other tasks have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when the process is out of file descriptors or memory (THREATS S3).
const BACK_OFF: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 4096;

/// A socket on its way to the shard it will live on.
#[derive(Debug)]
pub(super) enum Handed {
    Here(Socket),
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Handed {
    /// The socket, registered with the runtime of this thread.
    pub(super) fn arrive(self) -> io::Result<Socket> {
        match self {
            Handed::Here(socket) => Ok(socket),
            Handed::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            #[cfg(unix)]
            Handed::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
        }
    }

    fn depart(self) -> io::Result<Self> {
        match self {
            Handed::Here(Socket::Tcp(tcp)) => tcp.into_std().map(Handed::Tcp),
            #[cfg(unix)]
            Handed::Here(Socket::Unix(unix)) => unix.into_std().map(Handed::Unix),
            departed => Ok(departed),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Handed,
    /// `None`: a Unix socket.
    pub(super) peer: Option<IpAddr>,
    pub(super) at: Moment,
    /// What another server has read from it already.
    pub(super) received: Vec<u8>,
}

/// A bound listener, not yet registered with a runtime.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener, std::path::PathBuf),
}

impl Bound {
    /// Binds; the address that is returned names the real port.
    pub(super) fn bind(listen: &Listen) -> Result<(Self, String), Error> {
        let fault = |source| Error::Listen { address: listen.to_string(), source };
        match listen {
            Listen::Tcp { host, port } => {
                let addresses = (host.as_str(), *port).to_socket_addrs().map_err(fault)?;
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                for address in addresses {
                    match bind_tcp(address) {
                        Ok(listener) => {
                            let address = listener.local_addr().map_err(fault)?.to_string();
                            return Ok((Bound::Tcp(listener), address));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(fault(last))
            }
            #[cfg(unix)]
            Listen::Unix(path) => {
                // A socket file that nobody listens on is left over from a crash: it may go.
                if std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
                {
                    let _ = std::fs::remove_file(path);
                }
                let listener = std::os::unix::net::UnixListener::bind(path).map_err(fault)?;
                listener.set_nonblocking(true).map_err(fault)?;
                Ok((Bound::Unix(listener, path.clone()), listen.to_string()))
            }
            #[cfg(not(unix))]
            Listen::Unix(_) => Err(fault(io::ErrorKind::Unsupported.into())),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Linux hands it on to every accepted connection: one call less for each.
    #[cfg(target_os = "linux")]
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if !cfg!(target_os = "linux") {
                    stream.set_nodelay(true)?;
                }
                Ok((Socket::Tcp(stream), Some(peer.ip())))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), None))
            }
        }
    }
}

/// Accepts for the whole server, on the thread of shard 0, until it stops.
pub(super) async fn accept_all(shared: Arc<Shared>, bound: Bound) {
    let listener = match bound {
        Bound::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
        #[cfg(unix)]
        Bound::Unix(listener, _) => UnixListener::from_std(listener).map(Listener::Unix),
    };
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(target: "wsguard", %error, "cannot watch the listening socket"),
    };
    let mut turn = 0;
    while shared.life() < Life::Stopped {
        match listener.accept().await {
            Ok((socket, peer)) => hand_over(&shared, socket, peer),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(target: "wsguard", %error, "cannot accept; trying again in 100 ms");
                tokio::time::sleep(BACK_OFF).await;
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
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn hand_over(shared: &Arc<Shared>, socket: Socket, peer: Option<IpAddr>) {
    let shard = least_loaded(shared);
    let accepted = |socket| Accepted { socket, peer, at: shared.clock.now(), received: Vec::new() };
    let here = Handed::Here(socket);
    if shard == 0 {
        count_towards(shared, 0);
        tokio::spawn(opening::open(Arc::clone(shared), 0, accepted(here)));
    } else if let Ok(departed) = here.depart() {
        post(shared, shard, accepted(departed));
    }
}

/// Takes over a TCP connection that another server accepted and read the request head of.
pub(super) fn adopt(shared: &Arc<Shared>, tcp: std::net::TcpStream, received: Vec<u8>) -> io::Result<()> {
    let peer = Some(tcp.peer_addr()?.ip());
    tcp.set_nonblocking(true)?;
    tcp.set_nodelay(true)?;
    let accepted = Accepted { socket: Handed::Tcp(tcp), peer, at: shared.clock.now(), received };
    post(shared, least_loaded(shared), accepted);
    Ok(())
}

fn least_loaded(shared: &Shared) -> usize {
    let loads = shared.shards.iter().map(|remote| remote.load.load(Ordering::Relaxed));
    loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(shard, _)| shard)
}

fn count_towards(shared: &Shared, shard: usize) {
    shared.shards[shard].load.fetch_add(1, Ordering::Relaxed);
}

fn post(shared: &Shared, shard: usize, accepted: Accepted) {
    count_towards(shared, shard);
    let adopt = Command::Adopt(Box::new(accepted));
    shared.shards[shard].post(|buffer: &mut CommandBuffer| buffer.commands.push(adopt));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_connections_inherit_nodelay() {
        let listener = bind_tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            if let Ok((accepted, _)) = listener.accept() {
                break accepted;
            }
        };
        assert!(accepted.nodelay().unwrap());
    }
}
