//! Clients that are refused in the opening handshake, or closed for their first message, over and over.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll, Token};

use super::frames::{CLOSE, FrameReader, TEXT, write_masked};
use super::opening::{Opening, Target, request_head, request_head_from, wait};
use super::transport::Transport;
use super::{Meter, STALL};
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
    since: Instant,
    stage: Stage,
}

enum Stage {
    /// Opening; refused here if the offence is in the opening handshake.
    Opening(Opening),
    /// Let in, has offended, waits for its close frame.
    Inside(Transport, FrameReader),
    /// The server has ended it.
    Over,
}

pub(super) fn run(server: &Server, offence: Offence, concurrent: usize, window: Window) -> Result<Sample> {
    let target = Target::new(server, false)?;
    let script = Script::new(offence, target.address);
    let mut poll = Poll::new()?;
    let mut slots = Vec::with_capacity(concurrent);
    for number in 0..concurrent {
        slots.push(Offender::start(&target, number, &poll, Token(number))?);
    }
    let mut number = concurrent;
    let mut events = Events::with_capacity(1024);
    let started = Instant::now();
    let mut last_ended = started;
    let mut meter: Option<Meter> = None;
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let slot = &mut slots[event.token().0];
            if slot.advance(&script).with_context(|| format!("offender {number}"))? {
                last_ended = Instant::now();
                if let Some(meter) = &mut meter {
                    meter.count(last_ended - slot.since, 1);
                }
                *slot = Offender::start(&target, number, &poll, event.token())?;
                number += 1;
            }
        }
        let now = Instant::now();
        ensure!(now - last_ended < STALL, "no offender was refused or closed for {STALL:?}");
        match meter.take_if(|meter| meter.is_over(now)) {
            Some(meter) => return meter.close(),
            None if meter.is_none() && now - started >= window.warm_up => meter = Some(Meter::open(server, window)?),
            None => {}
        }
    }
}

impl Script {
    pub(super) fn new(offence: Offence, server: SocketAddr) -> Self {
        let head = match offence {
            Offence::BadOrigin => request_head_from(server, EVIL_ORIGIN),
            Offence::BadJson => request_head(server),
        };
        let mut frame = Vec::new();
        write_masked(&mut frame, TEXT, br#"{"event":"echo","data":{"text":"unfinished"#);
        Self { offence, head, frame }
    }
}

impl Offender {
    pub(super) fn start(target: &Target, number: usize, poll: &Poll, token: Token) -> Result<Self> {
        let opening = Opening::start(target, number, poll, token)?;
        Ok(Self { since: opening.since, stage: Stage::Opening(opening) })
    }

    /// Goes on after an event; true when the server has refused or closed it, as it must.
    pub(super) fn advance(&mut self, script: &Script) -> Result<bool> {
        if let Stage::Opening(opening) = &mut self.stage {
            if script.offence == Offence::BadOrigin {
                let Some(status) = opening.be_refused(&script.head)? else { return Ok(false) };
                ensure!(status == 403, "the foreign Origin was answered with {status}");
                self.stage = Stage::Over;
                return Ok(true);
            }
            if !opening.advance(&script.head)? {
                return Ok(false);
            }
            let Stage::Opening(opening) = std::mem::replace(&mut self.stage, Stage::Over) else { return Ok(false) };
            let mut transport = opening.transport;
            ensure!(transport.write(&script.frame)? == script.frame.len(), "the broken message was cut short");
            self.stage = Stage::Inside(transport, FrameReader::keeping());
        }
        let Stage::Inside(transport, reader) = &mut self.stage else { return Ok(false) };
        let is_closed = closed(transport, reader)?;
        if is_closed {
            self.stage = Stage::Over;
        }
        Ok(is_closed)
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
