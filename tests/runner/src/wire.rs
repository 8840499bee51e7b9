//! Raw connections: TCP, TLS or a Unix socket, with a read buffer and deadlines. Writes never fail a step: a server
//! that refuses may close while the client still sends, and the expectation that follows says what should have come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde::Deserialize;
use socket2::{Domain, SockRef, Socket, Type};

use crate::bytes::{Bytes, shown};
use crate::certs::Certs;
use crate::failure::{Failure, Outcome, fail};
use crate::frame::Frame;
use crate::http::Response;

/// How to reach the server; every part has a default.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Connect {
    /// Source address, such as `127.0.0.2`.
    pub(crate) from: Option<IpAddr>,
    /// No TLS handshake even on the TLS transport.
    pub(crate) raw: bool,
    /// Sent before everything else, TLS included: a PROXY header.
    pub(crate) before: Bytes,
    /// Receive buffer of the socket, for readers that never read.
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) sni: Option<String>,
    pub(crate) alpn: Vec<String>,
    pub(crate) client_cert: bool,
    /// The certificate the server must present: `server` or `other`.
    pub(crate) expect_cert: Option<String>,
    /// The connection may be refused; what follows then finds it closed.
    pub(crate) may_fail: bool,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One connection of a scenario.
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) buffer: Vec<u8>,
    /// Why nothing more will come.
    pub(crate) ended: Option<String>,
    /// The host's id for it, once its `open` event was seen.
    pub(crate) id: Option<serde_json::Value>,
    /// The user of its `open` event.
    pub(crate) user: serde_json::Value,
    pub(crate) ip: IpAddr,
}

/// What became of waiting for bytes.
#[derive(Debug, PartialEq, Eq)]
enum Filled {
    Bytes,
    Ended,
    Nothing,
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

impl Connection {
    pub(crate) fn open(spec: &Connect, address: &str, tls: Option<&Certs>) -> Outcome<Self> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Self::new(Stream::Unix(UnixStream::connect(path)?), IpAddr::from([127, 0, 0, 1])));
        }
        let address: SocketAddr = address.parse().map_err(|_| Failure(format!("bad address {address:?}")))?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let ip = spec.from.unwrap_or(address.ip());
        if let Some(from) = spec.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        if let Some(bytes) = spec.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
        let mut tcp = TcpStream::from(socket);
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        tcp.write_all(&spec.before.to_vec()?)?;
        let Some(certs) = tls.filter(|_| !spec.raw) else {
            return Ok(Self::new(Stream::Tcp(tcp), ip));
        };
        let name = spec.sni.clone().unwrap_or_else(|| "localhost".into());
        let name = ServerName::try_from(name).map_err(|error| Failure(error.to_string()))?;
        let config = certs.client_config(spec.client_cert, &spec.alpn)?;
        let client = ClientConnection::new(config, name).map_err(|error| Failure(error.to_string()))?;
        let mut connection = Self::new(Stream::Tls(Box::new(StreamOwned::new(client, tcp))), ip);
        connection.handshake(spec, certs)?;
        Ok(connection)
    }

    fn new(stream: Stream, ip: IpAddr) -> Self {
        Self { stream, buffer: Vec::new(), ended: None, id: None, user: serde_json::Value::Null, ip }
    }

    fn handshake(&mut self, spec: &Connect, certs: &Certs) -> Outcome {
        let Stream::Tls(tls) = &mut self.stream else { return Ok(()) };
        tls.sock.set_read_timeout(Some(Duration::from_secs(5)))?;
        while tls.conn.is_handshaking() {
            if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
                if spec.may_fail {
                    self.ended = Some(error.to_string());
                    return Ok(());
                }
                return fail!("TLS handshake failed: {error}");
            }
        }
        if let Some(wanted) = &spec.expect_cert {
            let presented = tls.conn.peer_certificates().and_then(<[_]>::first);
            if presented != Some(&certs.certificate(wanted)?) {
                return fail!("the server did not present the certificate {wanted:?}");
            }
        }
        Ok(())
    }

    /// Writes and flushes. `Ok(false)`: the peer is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Outcome<bool> {
        let result = match &mut self.stream {
            Stream::Tcp(tcp) => tcp.write_all(bytes),
            Stream::Unix(unix) => unix.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        match result {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                fail!("the server read nothing for {} s while {} bytes were sent", WRITE_TIMEOUT.as_secs(), bytes.len())
            }
            Err(_) => Ok(false),
        }
    }

    /// Sends bytes without waiting for the socket to take them. `Ok(false)`: full, or the peer is gone.
    pub(crate) fn send_for(&mut self, bytes: &[u8], patience: Duration) -> Outcome<bool> {
        self.socket().set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let sent = match &mut self.stream {
            Stream::Tcp(tcp) => tcp.write_all(bytes),
            Stream::Unix(unix) => unix.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        self.socket().set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(sent.is_ok())
    }

    fn socket(&self) -> SockRef<'_> {
        match &self.stream {
            Stream::Tcp(tcp) => SockRef::from(tcp),
            Stream::Unix(unix) => SockRef::from(unix),
            Stream::Tls(tls) => SockRef::from(&tls.sock),
        }
    }

    /// Half-closes the sending direction.
    pub(crate) fn shut_write(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
            Stream::Tls(tls) => tls.sock.shutdown(Shutdown::Write),
        };
    }

    /// Drops the socket so that the peer gets a RST.
    pub(crate) fn reset(self) -> Outcome {
        Ok(self.socket().set_linger(Some(Duration::ZERO))?)
    }

    fn fill(&mut self, deadline: Instant) -> Outcome<Filled> {
        if self.ended.is_some() {
            return Ok(Filled::Ended);
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Some(left.max(Duration::from_millis(1)));
            let result = match &mut self.stream {
                Stream::Tcp(tcp) => tcp.set_read_timeout(timeout).and_then(|()| tcp.read(&mut chunk)),
                Stream::Unix(unix) => unix.set_read_timeout(timeout).and_then(|()| unix.read(&mut chunk)),
                Stream::Tls(tls) => tls.sock.set_read_timeout(timeout).and_then(|()| tls.read(&mut chunk)),
            };
            match result {
                Ok(0) => self.ended = Some("end of stream".into()),
                Ok(length) => {
                    self.buffer.extend(&chunk[..length]);
                    return Ok(Filled::Bytes);
                }
                Err(error) if is_timeout(&error) && left.is_zero() => return Ok(Filled::Nothing),
                Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => self.ended = Some(error.to_string()),
            }
            return Ok(Filled::Ended);
        }
    }

    /// Reads a response head.
    pub(crate) fn response(&mut self, deadline: Instant) -> Outcome<Response> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Response::parse(&head);
            }
            match self.fill(deadline)? {
                Filled::Bytes => {}
                other => return fail!("expected an HTTP response, got {other:?} after {}", self.so_far()),
            }
        }
    }

    /// Reads everything up to the end of the connection.
    pub(crate) fn rest(&mut self, deadline: Instant) -> Outcome<Vec<u8>> {
        loop {
            match self.fill(deadline)? {
                Filled::Bytes => {}
                Filled::Ended => return Ok(std::mem::take(&mut self.buffer)),
                Filled::Nothing => {
                    return fail!("expected the end of the connection, it is open after {}", self.so_far());
                }
            }
        }
    }

    /// Reads until `length` bytes are there.
    pub(crate) fn exactly(&mut self, length: usize, deadline: Instant) -> Outcome<Vec<u8>> {
        while self.buffer.len() < length {
            match self.fill(deadline)? {
                Filled::Bytes => {}
                other => return fail!("expected {length} bytes, got {other:?} after {}", self.so_far()),
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The next frame.
    pub(crate) fn frame(&mut self, deadline: Instant) -> Outcome<Frame> {
        match self.frame_if_any(deadline)? {
            Some(frame) => Ok(frame),
            None => fail!(
                "expected a frame, got {} after {}",
                self.ended.clone().unwrap_or_else(|| "nothing".into()),
                self.so_far()
            ),
        }
    }

    /// The next frame; `None` at the end of the connection or at the deadline.
    pub(crate) fn frame_if_any(&mut self, deadline: Instant) -> Outcome<Option<Frame>> {
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.fill(deadline)? != Filled::Bytes {
                return Ok(None);
            }
        }
    }

    /// Puts a frame back in front of what was read.
    pub(crate) fn put_back(&mut self, frame: &Frame) {
        self.buffer.splice(..0, frame.as_sent());
    }

    /// Neither bytes nor an end of the connection until `deadline`.
    pub(crate) fn silence(&mut self, deadline: Instant) -> Outcome {
        if self.buffer.is_empty() && self.fill(deadline)? == Filled::Nothing {
            return Ok(());
        }
        fail!("expected silence, got {}; {}", self.so_far(), self.ended.as_deref().unwrap_or("still open"))
    }

    fn so_far(&self) -> String {
        shown(&self.buffer)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
