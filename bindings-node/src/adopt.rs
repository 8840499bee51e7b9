//! The one place with `unsafe`: a socket that Node's HTTP server accepted, known by its file descriptor.

use std::io;
use std::net::TcpStream;

/// A connection that Node accepted.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

/// A second descriptor of the connection behind `fd`; Node keeps and closes its own.
#[cfg(unix)]
#[expect(unsafe_code, reason = "a descriptor is a number in JavaScript")]
pub(crate) fn stream(fd: i32) -> io::Result<Stream> {
    use rustix::net::sockopt::{socket_domain, socket_type};
    use rustix::net::{AddressFamily, SocketType};
    use std::os::fd::BorrowedFd;

    if fd < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the descriptor is only borrowed for the duplication in the next line, on the thread whose event loop owns
    // it, while JavaScript holds the socket object open; -1 is excluded. A number that is no open descriptor makes the
    // duplication fail with EBADF and nothing else.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed.try_clone_to_owned()?;
    let what_else = || Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a TCP nor a Unix socket"));
    if socket_type(&owned)? != SocketType::STREAM {
        return what_else();
    }
    match socket_domain(&owned)? {
        AddressFamily::INET | AddressFamily::INET6 => {
            let stream = TcpStream::from(owned);
            stream.set_nonblocking(true)?;
            Ok(Stream::Tcp(stream))
        }
        AddressFamily::UNIX => Ok(Stream::Unix(owned.into())),
        _ => what_else(),
    }
}

#[cfg(not(unix))]
pub(crate) fn stream(_: i32) -> io::Result<Stream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "sharing a port with an HTTP server needs a Unix"))
}

/// The same of TCP alone.
pub(crate) fn tcp_stream(fd: i32) -> io::Result<TcpStream> {
    match stream(fd)? {
        Stream::Tcp(stream) => Ok(stream),
        #[cfg(unix)]
        Stream::Unix(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a TCP socket")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_connection_outlives_the_first_descriptor() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut second = tcp_stream(accepted.as_raw_fd()).unwrap();
        drop(accepted);
        second.write_all(b"hello").unwrap();
        drop(second);
        let mut read = String::new();
        client.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    }

    #[test]
    fn a_unix_socket_is_one_too() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(matches!(stream(ours.as_raw_fd()), Ok(Stream::Unix(_))));
    }

    #[test]
    fn what_is_no_tcp_socket_is_refused() {
        assert!(tcp_stream(-1).is_err());
        assert!(tcp_stream(1_000_000).is_err());
        assert!(tcp_stream(std::fs::File::open("/dev/null").unwrap().as_raw_fd()).is_err());
        assert!(tcp_stream(UnixStream::pair().unwrap().0.as_raw_fd()).is_err());
    }
}
