//! Accepting: in one place, in bounded portions, handed to the least loaded shard.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
use tokio::net::TcpListener;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use super::bind::Listening;
use super::caught::said;
use super::commands::{Command, CommandBuffer};
use super::opening;
use super::shared::{Life, Shared};
use super::stream::Socket;
use wsguard_proto::config::Listen;
use wsguard_proto::time::Moment;

/// Connections accepted before other tasks have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting rests when the process is out of file descriptors or memory (THREATS S3).
const BACK_OFF: Duration = Duration::from_millis(100);
/// A request that is longer is not read before the runtime watches the socket.
const FIRST_READ_BYTES: usize = 2048;

/// A socket that no runtime watches yet, or any more.
#[derive(Debug)]
pub(super) enum Fresh {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl Fresh {
    /// The socket, registered with the runtime of this thread.
    pub(super) fn arrive(self) -> io::Result<Socket> {
        match self {
            Fresh::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            #[cfg(unix)]
            Fresh::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
        }
    }

    /// The socket, taken from the runtime.
    pub(super) fn depart(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(tcp) => tcp.into_std().map(Fresh::Tcp),
            #[cfg(unix)]
            Socket::Unix(unix) => unix.into_std().map(Fresh::Unix),
        }
    }

    /// Reads what is there already, up to `most` bytes; 0: the peer has ended its side.
    pub(super) fn read(&self, into: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let mut piece = [0; FIRST_READ_BYTES];
        let piece = &mut piece[..most.min(FIRST_READ_BYTES)];
        let len = match self {
            Fresh::Tcp(tcp) => (&*tcp).read(piece)?,
            #[cfg(unix)]
            Fresh::Unix(unix) => (&*unix).read(piece)?,
        };
        into.extend_from_slice(&piece[..len]);
        Ok(len)
    }

    /// Sends an answer and closes. The buffer of a socket that has sent nothing else holds any answer of ours.
    pub(super) fn end_with(self, answer: &[u8]) -> io::Result<()> {
        match self {
            // One segment carries the answer and the end: the peer is woken once.
            #[cfg(target_os = "linux")]
            Fresh::Tcp(tcp) => {
                use rustix::net::{SendFlags, send};
                send(tcp, answer, SendFlags::MORE | SendFlags::NOSIGNAL).map(drop).map_err(Into::into)
            }
            #[cfg(not(target_os = "linux"))]
            Fresh::Tcp(tcp) => (&tcp).write_all(answer),
            #[cfg(unix)]
            Fresh::Unix(unix) => (&unix).write_all(answer),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Fresh,
    /// `None`: a Unix socket.
    pub(super) peer: Option<IpAddr>,
    pub(super) at: Moment,
    /// What another server has read from it, where one accepted it: that one may still hold the socket, too.
    pub(super) received: Option<Vec<u8>>,
}

enum Listener {
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
struct Own<'l>(&'l Listener);

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
    #[cfg(target_os = "linux")]
    fn watch(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpStream::from_std(std::os::fd::OwnedFd::from(listener).into()).map(Listener::Tcp)
    }

    #[cfg(not(target_os = "linux"))]
    fn watch(listener: std::net::TcpListener) -> io::Result<Self> {
        TcpListener::from_std(listener).map(Listener::Tcp)
    }

    async fn accept(&self) -> io::Result<(Fresh, Option<IpAddr>)> {
        match self {
            #[cfg(target_os = "linux")]
            Listener::Tcp(listener) => {
                let (tcp, peer) = listener.async_io(tokio::io::Interest::READABLE, || accept_tcp(listener)).await?;
                Ok((Fresh::Tcp(tcp), Some(peer.ip())))
            }
            #[cfg(not(target_os = "linux"))]
            Listener::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                Ok((Fresh::Tcp(tcp.into_std()?), Some(peer.ip())))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let (unix, _) = listener.accept().await?;
                Ok((Fresh::Unix(unix.into_std()?), None))
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

pub(super) async fn accept_from(shared: Arc<Shared>, listener: Listening) {
    let listener = match listener {
        Listening::Tcp(listener) => Listener::watch(listener),
        #[cfg(unix)]
        Listening::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
    };
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return said(|| tracing::error!(target: "wsguard", %error, "cannot watch the listening socket")),
    };
    // One that the process was started with is its giver's, who may go on with it.
    let _own = (!matches!(shared.policy.listen, Listen::Fd(_))).then(|| Own(&listener));
    let (mut turn, mut fails) = (0, false);
    while shared.life() < Life::Stopped {
        match listener.accept().await {
            Ok((socket, peer)) => {
                fails = false;
                hand_over(&shared, socket, peer);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Once, however long it lasts: a log that fills up mends nothing (THREATS S6).
                if !core::mem::replace(&mut fails, true) {
                    said(|| tracing::warn!(target: "wsguard", %error, "cannot accept; trying again every 100 ms"));
                }
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

fn hand_over(shared: &Arc<Shared>, socket: Fresh, peer: Option<IpAddr>) {
    let shard = least_loaded(shared);
    let accepted = Accepted { socket, peer, at: shared.clock.now(), received: None };
    if shard == 0 {
        count_towards(shared, 0);
        tokio::spawn(opening::open(Arc::clone(shared), 0, accepted));
    } else {
        post(shared, shard, accepted);
    }
}

/// Takes over a TCP connection that another server accepted and read the request head of.
pub(super) fn adopt(shared: &Arc<Shared>, tcp: std::net::TcpStream, received: Vec<u8>) -> io::Result<()> {
    let peer = Some(tcp.peer_addr()?.ip());
    tcp.set_nonblocking(true)?;
    tcp.set_nodelay(true)?;
    let accepted = Accepted { socket: Fresh::Tcp(tcp), peer, at: shared.clock.now(), received: Some(received) };
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
