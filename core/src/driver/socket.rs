//! A plain socket that a runtime watches, TCP or Unix, or the pipe that stands for one.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::pipe::PipeEnd;

/// How long a peer may be silent before the kernel asks whether it is there.
const SILENCE: Duration = Duration::from_secs(30);

/// A plain socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Pipe(PipeEnd),
}

impl Socket {
    /// Waits for bytes or the end.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(tcp) => tcp.ready(Interest::READABLE).await.map(drop),
            #[cfg(unix)]
            Socket::Unix(unix) => unix.ready(Interest::READABLE).await.map(drop),
            Socket::Pipe(pipe) => {
                std::future::poll_fn(|cx| pipe.poll_readable(cx)).await;
                Ok(())
            }
        }
    }

    /// The address that the connection came in on, where it has one.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(tcp) => tcp.local_addr().ok(),
            _ => None,
        }
    }

    /// Lets the kernel ask a peer that is silent whether it is still there: of one that has vanished nothing else would ever tell.
    /// A socket that does not take the option is watched as it was.
    pub(super) fn keep_alive(&self) {
        if let Socket::Tcp(tcp) = self {
            let asks = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 3);
            let _ = SockRef::from(tcp).set_tcp_keepalive(&asks);
        }
    }

    /// Whether the connection is known to be broken, though what came before that is not read yet. What a runtime was told of
    /// the socket says so; asking costs no call.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Socket::Pipe(pipe) => pipe.is_broken(),
            _ => self.known(Interest::WRITABLE).is_some_and(Ready::is_write_closed),
        }
    }

    /// Whether the peer is known to have ended its side or to be gone, though what came before that is not read yet.
    pub(super) fn has_left(&self) -> bool {
        match self {
            Socket::Pipe(pipe) => pipe.has_left(),
            _ => self.known(Interest::READABLE).is_some_and(Ready::is_read_closed),
        }
    }

    /// Sends what the kernel has room for, whatever the runtime was told of the socket: of one that was registered just now it
    /// was told nothing. A pipe knows of its room by itself.
    pub(super) fn send_unasked(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(tcp) => send_now(&SockRef::from(tcp), bytes),
            #[cfg(unix)]
            Socket::Unix(unix) => send_now(&SockRef::from(unix), bytes),
            Socket::Pipe(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// What the runtime was told of a socket.
    fn known(&self, interest: Interest) -> Option<Ready> {
        let cx = &mut Context::from_waker(Waker::noop());
        let ready = match self {
            Socket::Tcp(tcp) => pin!(tcp.ready(interest)).poll(cx),
            #[cfg(unix)]
            Socket::Unix(unix) => pin!(unix.ready(interest)).poll(cx),
            Socket::Pipe(_) => return None,
        };
        if let Poll::Ready(Ok(ready)) = ready { Some(ready) } else { None }
    }
}

/// A peer that is gone is an error, and no signal.
fn send_now(socket: &socket2::Socket, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    return rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(Into::into);
    #[cfg(not(target_os = "linux"))]
    return socket.send(bytes);
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($stream) => $call,
            #[cfg(unix)]
            Socket::Unix($stream) => $call,
            Socket::Pipe($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection has one.
    #[test]
    fn a_pipe_makes_no_socket_larger() {
        let (tcp, pipe) = (size_of::<TcpStream>(), size_of::<PipeEnd>());
        assert!(pipe <= tcp, "{pipe} {tcp}");
        assert!(size_of::<Socket>() <= tcp + size_of::<usize>(), "{}", size_of::<Socket>());
    }
}
