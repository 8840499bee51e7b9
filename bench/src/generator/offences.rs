//! Clients that are refused in the opening handshake, or closed for their first message, over and over.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Result, ensure};
use mio::{Poll, Token};
use wsguard_test_support::deflate::{End, compress};

use super::frames::{BINARY, CLOSE, FrameReader, RSV1, TEXT, push};
use super::opening::{Opening, Target, request_head_from};
use super::payload::records;
use super::transport::Transport;
use super::visits::over_and_over;
use crate::plan::{EVIL_ORIGIN, Offence, Window, Workload};
use crate::policy::MAX_MESSAGE_BYTES;
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
    /// How much of its message it has sent.
    sent: usize,
    /// Reads what comes once it was let in and has offended.
    reader: Option<FrameReader>,
}

pub(super) fn run(
    server: &Server,
    workload: &Workload,
    offence: Offence,
    concurrent: usize,
    window: Window,
) -> Result<Sample> {
    let target = Target::of(server, workload)?;
    let script = Script::new(offence, &target)?;
    let start = |number, poll: &Poll, token| Offender::start(&target, number, poll, token);
    over_and_over(server, concurrent, window, start, |offender| offender.advance(&script))
}

impl Script {
    pub(super) fn new(offence: Offence, target: &Target) -> Result<Self> {
        let head = match offence {
            Offence::BadOrigin => request_head_from(target.address, EVIL_ORIGIN),
            _ => target.request_head(),
        };
        let mut frame = Vec::new();
        match offence {
            Offence::BadOrigin | Offence::BadJson => {
                push(&mut frame, TEXT, br#"{"event":"echo","data":{"text":"unfinished"#);
            }
            Offence::Bomb => {
                push(&mut frame, RSV1 | BINARY, &compress(&vec![b'x'; 64 * MAX_MESSAGE_BYTES], 9, End::Flushed)?);
            }
            Offence::None => {
                push(&mut frame, RSV1 | BINARY, &compress(&records(MAX_MESSAGE_BYTES), 6, End::Flushed)?);
            }
        }
        Ok(Self { offence, head, frame })
    }
}

impl Offender {
    pub(super) fn start(target: &Target, number: usize, poll: &Poll, token: Token) -> Result<Self> {
        Ok(Self { opening: Opening::start(target, number, poll, token)?, sent: 0, reader: None })
    }

    /// Goes on after an event; true when the server has refused or closed it, as it must.
    pub(super) fn advance(&mut self, script: &Script) -> Result<bool> {
        if script.offence == Offence::BadOrigin {
            let Some(status) = self.opening.be_refused(&script.head)? else { return Ok(false) };
            ensure!(status == 403, "the foreign Origin was answered with {status}");
            return Ok(true);
        }
        if self.reader.is_none() && !self.opening.advance(&script.head)? {
            return Ok(false);
        }
        let reader = self.reader.get_or_insert_with(FrameReader::default);
        while self.sent < script.frame.len() {
            match self.opening.transport.write(&script.frame[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let last = if script.offence == Offence::None { BINARY } else { CLOSE };
        has_come(last, &mut self.opening.transport, reader)
    }
}

/// Whether the frame has come that ends a visit; the end of the connection will do instead of a close frame.
fn has_come(last: u8, transport: &mut Transport, reader: &mut FrameReader) -> Result<bool> {
    let mut piece = [0; 16 << 10];
    loop {
        let read = match transport.read(&mut piece) {
            Ok(0) => {
                ensure!(last == CLOSE, "the server closed the connection without an answer");
                return Ok(true);
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && last == CLOSE => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut input = &piece[..read];
        while let Some(frame) = reader.next(&mut input)? {
            if frame.opcode == last {
                return Ok(true);
            }
            ensure!(
                frame.opcode > CLOSE,
                "opcode {} came instead of {last}: {}",
                frame.opcode,
                reader.close_in_words()
            );
        }
    }
}
