//! A socket to a server, over TCP, TLS or a Unix socket, with chosen source address and buffer sizes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

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
    pub from: Option<Ipv4Addr>,
    /// `SO_RCVBUF`, and so the window that is offered.
    pub receive_buffer: Option<usize>,
}

impl Dial {
    /// From an address of 127.0.0.0/8: the last part is `host`.
    pub fn from_host(host: u8) -> Self {
        Self { from: Some(Ipv4Addr::new(127, 0, 0, host)), ..Self::default() }
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

/// A connection attempt or a write that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

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
            socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
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
        let Some(config) = &self.tls else { return Ok(Wire::Tcp(tcp)) };
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(tls_failure)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }
}

fn tls_failure(error: impl std::fmt::Display) -> Failure {
    Failure(format!("tls: {error}"))
}

impl Wire {
    /// How long a read may wait.
    pub fn set_read_timeout(&self, within: Duration) -> io::Result<()> {
        // Zero would mean for ever.
        let within = Some(within.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(tcp) => tcp.set_read_timeout(within),
            Self::Unix(unix) => unix.set_read_timeout(within),
            Self::Tls(tls) => tls.sock.set_read_timeout(within),
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

    /// Ends the connection with a RST instead of a FIN.
    pub fn reset(self) -> Outcome {
        if let Some(tcp) = self.as_tcp() {
            SockRef::from(tcp).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
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
