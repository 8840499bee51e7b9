//! An accepted connection on its way to the shard that takes it through its opening handshake.

use std::io::{self, Read as _, Write};
use std::net::{Shutdown, SocketAddr};

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::adopted::Adopted;
use super::level::HeldOne;
use super::pipe::PipeEnd;
use super::socket::Socket;
use wsguard_proto::time::Moment;

/// A request that is longer is not read before the runtime watches the socket.
const FIRST_READ_BYTES: usize = 2048;

/// A socket that no runtime watches, because it was just accepted or is about to be closed.
#[derive(Debug)]
pub(super) enum UnregisteredSocket {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
    Pipe(PipeEnd),
}

/// What a read has brought.
pub(super) struct Read {
    pub(super) len: usize,
    /// All that there was room for: there may be more.
    pub(super) is_full: bool,
}

impl UnregisteredSocket {
    /// Registers the socket with the runtime of this thread.
    pub(super) fn register(self) -> io::Result<Socket> {
        match self {
            UnregisteredSocket::Tcp(tcp) => TcpStream::from_std(tcp).map(Socket::Tcp),
            #[cfg(unix)]
            UnregisteredSocket::Unix(unix) => UnixStream::from_std(unix).map(Socket::Unix),
            UnregisteredSocket::Pipe(pipe) => Ok(Socket::Pipe(pipe)),
        }
    }

    /// Makes a socket that another server has used as the runtime needs it. Not before it is ours: what is refused stays as it was.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            UnregisteredSocket::Tcp(tcp) => tcp.set_nonblocking(true).and_then(|()| tcp.set_nodelay(true)),
            #[cfg(unix)]
            UnregisteredSocket::Unix(unix) => unix.set_nonblocking(true),
            UnregisteredSocket::Pipe(_) => Ok(()),
        }
    }

    /// Takes a socket from its runtime.
    pub(super) fn deregister(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(tcp) => tcp.into_std().map(UnregisteredSocket::Tcp),
            #[cfg(unix)]
            Socket::Unix(unix) => unix.into_std().map(UnregisteredSocket::Unix),
            Socket::Pipe(pipe) => Ok(UnregisteredSocket::Pipe(pipe)),
        }
    }

    /// Reads what is there already, up to `most` bytes; none: the peer has ended its side.
    pub(super) fn read(&self, into: &mut Vec<u8>, most: usize) -> io::Result<Read> {
        let mut piece = [0; FIRST_READ_BYTES];
        let piece = &mut piece[..most.min(FIRST_READ_BYTES)];
        let len = match self {
            UnregisteredSocket::Tcp(tcp) => (&*tcp).read(piece)?,
            #[cfg(unix)]
            UnregisteredSocket::Unix(unix) => (&*unix).read(piece)?,
            // Only what another server accepted has one: its head was read by that.
            UnregisteredSocket::Pipe(_) => return Err(io::ErrorKind::WouldBlock.into()),
        };
        into.extend_from_slice(&piece[..len]);
        Ok(Read { len, is_full: len == piece.len() })
    }

    /// Sends an answer and its end. The buffer of a socket that has sent nothing else holds any answer of ours. A peer that
    /// has sent more by now is reset, but behind the answer: closing alone would throw that away.
    pub(super) fn end_with(self, answer: &[u8]) -> io::Result<()> {
        match self {
            // One segment carries the answer and the end: the peer is woken once.
            #[cfg(target_os = "linux")]
            UnregisteredSocket::Tcp(tcp) => {
                use rustix::net::{SendFlags, send};
                send(&tcp, answer, SendFlags::MORE | SendFlags::NOSIGNAL)?;
                tcp.shutdown(Shutdown::Write)
            }
            #[cfg(not(target_os = "linux"))]
            UnregisteredSocket::Tcp(tcp) => {
                (&tcp).write_all(answer)?;
                tcp.shutdown(Shutdown::Write)
            }
            #[cfg(unix)]
            UnregisteredSocket::Unix(unix) => {
                (&unix).write_all(answer)?;
                unix.shutdown(Shutdown::Write)
            }
            UnregisteredSocket::Pipe(pipe) => pipe.end_with(answer),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: UnregisteredSocket,
    /// The address of the peer; `None` on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) at: Moment,
    /// Of one that another server accepted: that one may still hold the socket, too.
    pub(super) adopted: Option<Box<Adopted>>,
    /// Its part in the load of its shard.
    pub(super) load: HeldOne,
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::UnregisteredSocket;

    const ANSWER: &[u8] = b"HTTP/1.1 401 Unauthorized\r\n\r\n";

    /// A peer, and its socket as it was accepted.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (peer, listener.accept().unwrap().0)
    }

    #[test]
    fn an_answer_arrives_though_more_was_sent_and_not_read() {
        let (mut peer, accepted) = pair();
        peer.write_all(b"more").unwrap();
        assert!(accepted.peek(&mut [0; 4]).unwrap() > 0);
        UnregisteredSocket::Tcp(accepted).end_with(ANSWER).unwrap();
        let mut came = vec![0; ANSWER.len()];
        peer.read_exact(&mut came).unwrap();
        assert_eq!(came, ANSWER);
    }

    #[test]
    fn an_answer_arrives_at_once_though_somebody_else_holds_the_socket() {
        let (mut peer, accepted) = pair();
        let held = accepted.try_clone().unwrap();
        UnregisteredSocket::Tcp(accepted).end_with(ANSWER).unwrap();
        let mut came = Vec::new();
        peer.read_to_end(&mut came).unwrap();
        assert_eq!(came, ANSWER);
        drop(held);
    }
}
