//! Raw connections: TCP, TLS or a Unix socket, with a read buffer and deadlines. Writes never fail a step: a server
//! that refuses may close while the client still sends, and the expectation that follows says what should have come.

use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use wsguard_test_support::certs::Certs;
use wsguard_test_support::deflate::Agreed;
use wsguard_test_support::frame::Frame;
use wsguard_test_support::http::Response;
use wsguard_test_support::outcome::{Outcome, fail, shown};
use wsguard_test_support::wire::{Dial, Target, Wire};

use crate::bytes::Bytes;

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

/// One connection of a scenario.
pub(crate) struct Connection {
    wire: Wire,
    pub(crate) buffer: Vec<u8>,
    /// Why nothing more will come.
    pub(crate) ended: Option<String>,
    /// What its 101 agreed to about compression.
    pub(crate) agreed: Option<Agreed>,
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
        let target = Target::plain(address);
        if address.starts_with("unix:") {
            return Ok(Self::new(target.connect(Dial::default())?, IpAddr::from([127, 0, 0, 1])));
        }
        let mut tcp = target.tcp(Dial { from: spec.from, receive_buffer: spec.receive_buffer })?;
        let ip = tcp.local_addr()?.ip();
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        tcp.write_all(&spec.before.to_vec()?)?;
        let Some(certs) = tls.filter(|_| !spec.raw) else {
            return Ok(Self::new(Wire::Tcp(tcp), ip));
        };
        let config = certs.client_config(spec.client_cert, &spec.alpn)?;
        let wire = Wire::secure(tcp, config, spec.sni.as_deref().unwrap_or("localhost"))?;
        let mut connection = Self::new(wire, ip);
        connection.handshake(spec, certs)?;
        Ok(connection)
    }

    fn new(wire: Wire, ip: IpAddr) -> Self {
        Self { wire, buffer: Vec::new(), ended: None, agreed: None, id: None, user: serde_json::Value::Null, ip }
    }

    fn handshake(&mut self, spec: &Connect, certs: &Certs) -> Outcome {
        let Wire::Tls(tls) = &mut self.wire else { return Ok(()) };
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
        match &spec.expect_cert {
            Some(wanted) if self.wire.server_certificate() != Some(&certs.certificate(wanted)?) => {
                fail!("the server did not present the certificate {wanted:?}")
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush())
    }

    /// Writes and flushes. `Ok(false)`: the peer is gone.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Outcome<bool> {
        match self.write(bytes) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                fail!("the server read nothing for {} s while {} bytes were sent", WRITE_TIMEOUT.as_secs(), bytes.len())
            }
            Err(_) => Ok(false),
        }
    }

    /// Sends bytes without waiting for the socket to take them. `Ok(false)`: full, or the peer is gone.
    pub(crate) fn send_for(&mut self, bytes: &[u8], patience: Duration) -> Outcome<bool> {
        self.wire.socket().set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let sent = self.write(bytes);
        self.wire.socket().set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(sent.is_ok())
    }

    /// Half-closes the sending direction.
    pub(crate) fn shut_write(&mut self) {
        self.wire.shut_write();
    }

    /// Drops the socket so that the peer gets a RST.
    pub(crate) fn reset(self) -> Outcome {
        self.wire.reset()
    }

    fn fill(&mut self, deadline: Instant) -> Filled {
        if self.ended.is_none() {
            self.ended = match self.wire.read_into(&mut self.buffer, deadline) {
                Ok(None) => return Filled::Nothing,
                Ok(Some(0)) => Some("end of stream".into()),
                Ok(Some(_)) => return Filled::Bytes,
                Err(error) => Some(error.to_string()),
            };
        }
        Filled::Ended
    }

    /// Reads a response head.
    pub(crate) fn response(&mut self, deadline: Instant) -> Outcome<Response> {
        loop {
            if let Some(response) = Response::take(&mut self.buffer)? {
                return Ok(response);
            }
            match self.fill(deadline) {
                Filled::Bytes => {}
                other => return fail!("expected an HTTP response, got {other:?} after {}", self.so_far()),
            }
        }
    }

    /// Reads everything up to the end of the connection.
    pub(crate) fn rest(&mut self, deadline: Instant) -> Outcome<Vec<u8>> {
        loop {
            match self.fill(deadline) {
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
            match self.fill(deadline) {
                Filled::Bytes => {}
                other => return fail!("expected {length} bytes, got {other:?} after {}", self.so_far()),
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// The next frame, inflated.
    pub(crate) fn frame(&mut self, deadline: Instant) -> Outcome<Frame> {
        match self.frame_if_any(deadline)? {
            Some(frame) => frame.inflated(self.agreed),
            None => fail!(
                "expected a frame, got {} after {}",
                self.ended.clone().unwrap_or_else(|| "nothing".into()),
                self.so_far()
            ),
        }
    }

    /// The next frame as it came; `None` at the end of the connection or at the deadline.
    pub(crate) fn frame_if_any(&mut self, deadline: Instant) -> Outcome<Option<Frame>> {
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer, self.agreed)? {
                return Ok(Some(frame));
            }
            if self.fill(deadline) != Filled::Bytes {
                return Ok(None);
            }
        }
    }

    /// Puts a frame that was not inflated back in front of what was read.
    pub(crate) fn put_back(&mut self, frame: &Frame) {
        self.buffer.splice(..0, frame.as_sent());
    }

    /// Neither bytes nor an end of the connection until `deadline`.
    pub(crate) fn silence(&mut self, deadline: Instant) -> Outcome {
        if self.buffer.is_empty() && self.fill(deadline) == Filled::Nothing {
            return Ok(());
        }
        fail!("expected silence, got {}; {}", self.so_far(), self.ended.as_deref().unwrap_or("still open"))
    }

    fn so_far(&self) -> String {
        shown(&self.buffer)
    }
}
