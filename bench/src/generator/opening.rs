//! Connections up to the 101: connecting from several loopback addresses, the opening handshake, many at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use wsguard_test_support::http::{ACCEPT, KEY};

use super::socketio::{self, Greeting};
use super::transport::{Security, Transport, is_not_yet};
use super::{STALL, TICK};
use crate::plan::{ORIGIN, TOKEN, Workload};
use crate::server::Server;

/// How many loopback addresses connections come from, so that 10 000 share neither ports nor an address's limit.
pub(super) const SOURCES: usize = 200;
/// Handshakes on their way while many connections are opened: fewer than any server's accept backlog.
const AT_ONCE: usize = 100;
const HEAD_END: &[u8] = b"\r\n\r\n";
const HEAD_MOST_BYTES: usize = 8192;

/// The request head that every honest connection sends.
pub(super) fn request_head(server: SocketAddr) -> Vec<u8> {
    request_head_from(server, ORIGIN)
}

/// The request head of a page of `origin`.
pub(super) fn request_head_from(server: SocketAddr, origin: &str) -> Vec<u8> {
    head(server, "/", origin, "")
}

/// What Chromium offers.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

fn head(server: SocketAddr, path: &str, origin: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: {origin}\r\nX-Auth-Token: {TOKEN}\r\n{more}\r\n"
    )
    .into_bytes()
}

/// Where to connect, and how.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) security: Security,
    /// Whether a connection begins with a session of Socket.IO.
    is_socket_io: bool,
    /// Whether compression is offered, and must be agreed to.
    is_compressed: bool,
}

impl Target {
    pub(super) fn new(server: &Server, tls: bool) -> Result<Self> {
        Ok(Self { address: server.address(), security: Security::new(tls)?, is_socket_io: false, is_compressed: false })
    }

    /// For the connections of a workload.
    pub(super) fn of(server: &Server, workload: &Workload) -> Result<Self> {
        let is_socket_io = server.speaks_socket_io();
        Ok(Self { is_socket_io, is_compressed: workload.compressed, ..Self::new(server, workload.tls)? })
    }

    pub(super) fn request_head(&self) -> Vec<u8> {
        let path = if self.is_socket_io { socketio::PATH } else { "/" };
        head(self.address, path, ORIGIN, if self.is_compressed { OFFER } else { "" })
    }
}

/// A connection on its way to the 101.
pub(super) struct Opening {
    pub(super) transport: Transport,
    sent: usize,
    answer: Vec<u8>,
    /// Whether the 101 has come: then `answer` is what came behind it.
    is_open: bool,
    is_compressed: bool,
    /// What has to be said before the connection can be used.
    greeting: Option<Greeting>,
}

impl Opening {
    /// Starts connecting; `number` chooses the source address.
    pub(super) fn start(target: &Target, number: usize, poll: &Poll, token: Token) -> Result<Self> {
        let mut socket = connect(target.address, number).context("connecting")?;
        poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let transport = Transport::new(socket, &target.security)?;
        let greeting = target.is_socket_io.then(Greeting::new);
        Ok(Self {
            transport,
            sent: 0,
            answer: Vec::new(),
            is_open: false,
            is_compressed: target.is_compressed,
            greeting,
        })
    }

    /// Goes on after an event; true when the connection is open.
    pub(super) fn advance(&mut self, head: &[u8]) -> Result<bool> {
        self.send(head)?;
        loop {
            match self.read()? {
                None => return Ok(false),
                Some(0) => bail!("closed instead of answered: {:?}", String::from_utf8_lossy(&self.answer)),
                Some(_) if self.has_begun()? => return Ok(true),
                Some(_) => ensure!(self.answer.len() < HEAD_MOST_BYTES, "the answer does not end"),
            }
        }
    }

    /// Whether the 101 has come, and whatever must be said behind it has been said.
    fn has_begun(&mut self) -> Result<bool> {
        if !self.is_open {
            let Some(end) = self.answer.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) else {
                return Ok(false);
            };
            let behind = self.answer.split_off(end + HEAD_END.len());
            check_answer(&self.answer, self.is_compressed)?;
            (self.is_open, self.answer) = (true, behind);
        }
        let Some(greeting) = &mut self.greeting else {
            ensure!(self.answer.is_empty(), "the server spoke before it was spoken to");
            return Ok(true);
        };
        let mut reply = Vec::new();
        let has_begun = greeting.take(&self.answer, &mut reply)?;
        self.answer.clear();
        ensure!(reply.is_empty() || self.transport.write(&reply)? == reply.len(), "the greeting was cut short");
        Ok(has_begun)
    }

    /// Goes on after an event; the HTTP status when the server has answered and ended the connection.
    pub(super) fn be_refused(&mut self, head: &[u8]) -> Result<Option<u16>> {
        self.send(head)?;
        loop {
            match self.read()? {
                None => return Ok(None),
                Some(0) => return status(&self.answer).map(Some),
                Some(_) => ensure!(self.answer.len() < HEAD_MOST_BYTES, "the refusal does not end"),
            }
        }
    }

    fn send(&mut self, head: &[u8]) -> Result<()> {
        match self.transport.flush_session() {
            Err(error) if !is_not_yet(error.kind()) => return Err(error).context("the TLS handshake"),
            _ => {}
        }
        while self.sent < head.len() {
            match self.transport.write(&head[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if is_not_yet(error.kind()) => return Ok(()),
                Err(error) => return Err(error).context("sending the request"),
            }
        }
        Ok(())
    }

    /// Reads a piece of the answer: how long it was, 0 at the end, none if nothing is there yet.
    fn read(&mut self) -> Result<Option<usize>> {
        let mut piece = [0; 1024];
        match self.transport.read(&mut piece) {
            Ok(read) => {
                self.answer.extend_from_slice(&piece[..read]);
                Ok(Some(read))
            }
            Err(error) if is_not_yet(error.kind()) => Ok(None),
            // A server that drops the connection once it has answered: the answer is what counts.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !self.answer.is_empty() => Ok(Some(0)),
            Err(error) => Err(error).context("reading the answer"),
        }
    }
}

/// Opens `count` connections, registered in `poll` with their numbers as tokens.
pub(super) fn open_all(target: &Target, poll: &mut Poll, count: usize) -> Result<Vec<Transport>> {
    let head = target.request_head();
    let mut openings: Vec<Option<Opening>> = Vec::with_capacity(count);
    let mut transports: Vec<Option<Transport>> = (0..count).map(|_| None).collect();
    let mut events = Events::with_capacity(1024);
    let (mut done, mut last) = (0, Instant::now());
    while done < count {
        while openings.len() < count && openings.len() - done < AT_ONCE {
            let number = openings.len();
            openings.push(Some(Opening::start(target, number, poll, Token(number))?));
        }
        wait(poll, &mut events)?;
        for event in &events {
            let Token(number) = event.token();
            let slot = &mut openings[number];
            if let Some(opening) = slot
                && opening.advance(&head).with_context(|| format!("connection {number} of {count}"))?
            {
                transports[number] = slot.take().map(|opening| opening.transport);
                (done, last) = (done + 1, Instant::now());
            }
        }
        ensure!(last.elapsed() < STALL, "the server does not answer: {done} of {count} connections are open");
    }
    Ok(transports.into_iter().flatten().collect())
}

/// Waits for events, for a moment at most.
pub(super) fn wait(poll: &mut Poll, events: &mut Events) -> Result<()> {
    match poll.poll(events, Some(TICK)) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Starts connecting; `number` chooses the source address.
pub(super) fn connect(server: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error.into()),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn check_answer(answer: &[u8], is_compressed: bool) -> Result<()> {
    let answer = std::str::from_utf8(answer).context("the answer is not text")?;
    ensure!(answer.starts_with("HTTP/1.1 101 "), "refused: {answer:?}");
    ensure!(answer.contains(ACCEPT), "the accept value is wrong: {answer:?}");
    ensure!(answer.contains("permessage-deflate") == is_compressed, "not what was agreed of compression: {answer:?}");
    Ok(())
}

/// The status of an answer that refuses.
fn status(answer: &[u8]) -> Result<u16> {
    let answer = String::from_utf8_lossy(answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    status.with_context(|| format!("not an HTTP answer: {answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_refusal() {
        assert_eq!(status(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap(), 403);
        assert!(status(b"").is_err());
    }

    #[test]
    fn only_a_101_with_the_right_accept_value_opens() {
        let answer =
            |status: &str, accept: &str| format!("HTTP/1.1 {status}\r\nsec-websocket-accept: {accept}\r\n\r\n");
        assert!(check_answer(answer("101 Switching Protocols", ACCEPT).as_bytes(), false).is_ok());
        assert!(check_answer(answer("401 Unauthorized", ACCEPT).as_bytes(), false).is_err());
        assert!(check_answer(answer("101 Switching Protocols", KEY).as_bytes(), false).is_err());
    }
}
