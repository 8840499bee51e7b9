//! A socket to a server, over TCP, TLS or a Unix socket, with chosen source address and buffer sizes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use crate::outcome::{Failure, Outcome};

/// Where a server is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Target {
    /// `address:port`, or `unix:PATH`.
    pub address: String,
    /// TLS, where the server has it.
    pub tls: Option<Arc<ClientConfig>>,
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dial {
    /// The source address; the kernel's choice when absent.
    pub from: Option<IpAddr>,
    /// `SO_RCVBUF`, and so the window that is offered.
    pub receive_buffer: Option<usize>,
}

impl Dial {
    /// From an address of 127.0.0.0/8: the last part is `host`.
    pub fn from_host(host: u8) -> Self {
        Self::from_address(Ipv4Addr::new(127, 0, 0, host))
    }

    /// From this address.
    pub fn from_address(address: impl Into<IpAddr>) -> Self {
        Self { from: Some(address.into()), ..Self::default() }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Wire {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long an answer may take on a machine that does much else; a connection attempt or a write as well.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Target {
    /// A plain one.
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None }
    }

    /// Connects the socket only: no TLS.
    pub fn tcp(&self, dial: Dial) -> Outcome<TcpStream> {
        let address: SocketAddr =
            self.address.parse().map_err(|_| Failure(format!("not a TCP address: {}", self.address)))?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(from) = dial.from {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        if let Some(bytes) = dial.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&address.into(), PATIENCE).map_err(|error| Failure(format!("connect: {error}")))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // TLS reads within a write.
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Connects; the TLS handshake happens with the first bytes.
    pub fn connect(&self, dial: Dial) -> Outcome<Wire> {
        if let Some(path) = self.address.strip_prefix("unix:") {
            return Ok(Wire::Unix(UnixStream::connect(path)?));
        }
        let tcp = self.tcp(dial)?;
        match &self.tls {
            Some(config) => Wire::secure(tcp, Arc::clone(config), "127.0.0.1"),
            None => Ok(Wire::Tcp(tcp)),
        }
    }
}

impl Wire {
    /// TLS over a socket, with a server of this name.
    pub fn secure(tcp: TcpStream, config: Arc<ClientConfig>, name: &str) -> Outcome<Self> {
        let failure = |error: &dyn std::error::Error| Failure(format!("tls: {error}"));
        let name = ServerName::try_from(name.to_owned()).map_err(|error| failure(&error))?;
        let connection = ClientConnection::new(config, name).map_err(|error| failure(&error))?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }

    /// The socket below.
    pub fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(tcp) => SockRef::from(tcp),
            Self::Unix(unix) => SockRef::from(unix),
            Self::Tls(tls) => SockRef::from(&tls.sock),
        }
    }

    /// The TCP socket below; `None` for a Unix socket.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => Some(&tls.sock),
            Self::Unix(_) => None,
        }
    }

    /// Reads once, and appends what came: how much, 0 at the end; `None`: nothing until the deadline. It looks at the socket
    /// even when the deadline has passed.
    pub fn read_into(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> io::Result<Option<usize>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Zero would mean for ever.
            self.socket().set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.read(&mut chunk) {
                Ok(length) => {
                    buffer.extend_from_slice(&chunk[..length]);
                    return Ok(Some(length));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if left.is_zero() => return Ok(None),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Ends the sending direction alone.
    pub fn shut_write(&self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Ends the connection with a RST instead of a FIN.
    pub fn reset(self) -> Outcome {
        Ok(self.socket().set_linger(Some(Duration::ZERO))?)
    }

    /// The certificate the server showed.
    pub fn server_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tls(tls) => tls.conn.peer_certificates()?.first(),
            _ => None,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Unix(unix) => unix.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Unix(unix) => unix.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.flush(),
            Self::Unix(unix) => unix.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
