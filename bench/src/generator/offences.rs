//! Clients that are refused in the opening handshake, or closed for their first message, over and over.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use mio::{Poll, Token};

use super::frames::{CLOSE, FrameReader, TEXT, push};
use super::opening::{Opening, Target, request_head, request_head_from};
use super::transport::Transport;
use super::visits::over_and_over;
use crate::plan::{EVIL_ORIGIN, Offence, Window};
use crate::sample::Sample;
use crate::server::Server;

/// What offenders of one kind send.
pub(super) struct Script {
    offence: Offence,
    head: Vec<u8>,
    frame: Vec<u8>,
}

/// An offender on its way to its end.
pub(super) struct Offender {
    opening: Opening,
    /// Reads what comes once it was let in and has offended.
    reader: Option<FrameReader>,
}

pub(super) fn run(server: &Server, offence: Offence, concurrent: usize, window: Window) -> Result<Sample> {
    let target = Target::new(server, false)?;
    let script = Script::new(offence, target.address);
    let start = |number, poll: &Poll, token| Offender::start(&target, number, poll, token);
    over_and_over(server, concurrent, window, start, |offender| offender.advance(&script))
}

impl Script {
    pub(super) fn new(offence: Offence, server: SocketAddr) -> Self {
        let head = match offence {
            Offence::BadOrigin => request_head_from(server, EVIL_ORIGIN),
            Offence::BadJson => request_head(server),
        };
        let mut frame = Vec::new();
        push(&mut frame, TEXT, br#"{"event":"echo","data":{"text":"unfinished"#);
        Self { offence, head, frame }
    }
}

impl Offender {
    pub(super) fn start(target: &Target, number: usize, poll: &Poll, token: Token) -> Result<Self> {
        Ok(Self { opening: Opening::start(target, number, poll, token)?, reader: None })
    }

    /// Goes on after an event; true when the server has refused or closed it, as it must.
    pub(super) fn advance(&mut self, script: &Script) -> Result<bool> {
        if script.offence == Offence::BadOrigin {
            let Some(status) = self.opening.be_refused(&script.head)? else { return Ok(false) };
            ensure!(status == 403, "the foreign Origin was answered with {status}");
            return Ok(true);
        }
        if self.reader.is_none() {
            if !self.opening.advance(&script.head)? {
                return Ok(false);
            }
            let written = self.opening.transport.write(&script.frame)?;
            ensure!(written == script.frame.len(), "the broken message was cut short");
        }
        closed(&mut self.opening.transport, self.reader.get_or_insert_with(FrameReader::keeping))
    }
}

/// Whether a close frame has come, or the end of the connection.
fn closed(transport: &mut Transport, reader: &mut FrameReader) -> Result<bool> {
    let mut piece = [0; 512];
    loop {
        let read = match transport.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut input = &piece[..read];
        while let Some(frame) = reader.next(&mut input)? {
            if frame.opcode == CLOSE {
                return Ok(true);
            }
            ensure!(frame.opcode > 2, "the broken message was answered: {}", String::from_utf8_lossy(&reader.kept));
        }
    }
}
