//! One message to everyone in a room: the next when all have it.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Poll};
use serde_json::{Value, json};

use super::frames::{CLOSE, FrameReader, TEXT, push};
use super::opening::{Target, open_all, wait};
use super::payload::records;
use super::transport::Transport;
use super::{Meter, STALL};
use crate::plan::{Window, Workload};
use crate::sample::Sample;
use crate::server::Server;

const ROOM: &str = "bench";

/// Someone in the room.
struct Member {
    transport: Transport,
    reader: FrameReader,
    /// Messages it has got.
    got: u64,
    /// Whether what is said must come compressed.
    is_compressed: bool,
}

pub(super) fn run(
    server: &Server,
    workload: &Workload,
    members: usize,
    text_bytes: usize,
    window: Window,
) -> Result<Sample> {
    let mut poll = Poll::new()?;
    let transports = open_all(&Target::of(server, workload)?, &mut poll, members)?;
    let is_compressed = workload.compressed;
    let member = |transport| {
        let mut reader = FrameReader::keeping();
        reader.may_be_compressed = is_compressed;
        Member { transport, reader, got: 0, is_compressed }
    };
    let mut members: Vec<_> = transports.into_iter().map(member).collect();
    join(&mut poll, &mut members)?;

    let said = json!({"room": ROOM, "text": String::from_utf8_lossy(&records(text_bytes))});
    let message = frame(&json!({"event": "say", "data": said}));
    let mut events = Events::with_capacity(1024);
    let (mut round, everyone) = (0, members.len());
    let mut meter = Meter::new(server, window);
    loop {
        round += 1;
        let sent_at = Instant::now();
        members[0].send(&message)?;
        let mut missing = everyone;
        while missing > 0 {
            wait(&mut poll, &mut events)?;
            ensure!(sent_at.elapsed() < STALL, "{missing} of {everyone} members got nothing for {STALL:?}");
            for event in &events {
                let number = event.token().0;
                let got = members[number].read(|envelope| check(round, &envelope, &said));
                let got = got.with_context(|| format!("member {number}"))?;
                meter.count(sent_at.elapsed(), got as u32);
                missing = missing.checked_sub(got).context("a message came twice")?;
            }
        }
        // Between two messages everything is at rest, so no delivery is half in a window.
        if let Some(sample) = meter.step(Instant::now())? {
            return Ok(sample);
        }
    }
}

/// Everyone joins, and is told so.
fn join(poll: &mut Poll, members: &mut [Member]) -> Result<()> {
    let joining = frame(&json!({"event": "join", "data": {"room": ROOM}}));
    let mut events = Events::with_capacity(1024);
    let (mut joined, mut last) = (0, Instant::now());
    for member in &mut *members {
        member.send(&joining)?;
    }
    while joined < members.len() {
        wait(poll, &mut events)?;
        for event in &events {
            joined += members[event.token().0].read(|envelope| {
                ensure!(envelope["event"] == "joined", "not an answer to a join: {envelope}");
                Ok(())
            })?;
            last = Instant::now();
        }
        ensure!(last.elapsed() < STALL, "only {joined} of {} have joined", members.len());
    }
    Ok(())
}

/// The first messages are compared with what was said; later ones are counted.
fn check(round: u64, envelope: &Value, said: &Value) -> Result<()> {
    ensure!(round > 1 || envelope["event"] == "said" && envelope["data"] == *said, "not what was said: {envelope}");
    Ok(())
}

fn frame(envelope: &Value) -> Vec<u8> {
    let mut frame = Vec::new();
    push(&mut frame, TEXT, envelope.to_string().as_bytes());
    frame
}

impl Member {
    fn send(&mut self, frame: &[u8]) -> Result<()> {
        ensure!(self.transport.write(frame)? == frame.len(), "a message was cut short");
        Ok(())
    }

    /// Reads what has come; the number of messages. The first two of a member are parsed and shown to `check`.
    fn read(&mut self, mut check: impl FnMut(Value) -> Result<()>) -> Result<usize> {
        let mut piece = [0; 4096];
        let mut messages = 0;
        loop {
            let read = match self.transport.read(&mut piece) {
                Ok(0) => bail!("the server closed the connection without a close frame"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error.into()),
            };
            let mut input = &piece[..read];
            while let Some(frame) = self.reader.next(&mut input)? {
                match frame.opcode {
                    TEXT => {
                        messages += 1;
                        self.got += 1;
                        if self.got <= 2 {
                            check(serde_json::from_slice(self.reader.message()?)?)?;
                            let is_right = self.got == 1 || frame.compressed == self.is_compressed;
                            ensure!(is_right, "what was said came compressed: {}", frame.compressed);
                            self.reader.keep = self.got < 2;
                            if self.got == 2 {
                                self.reader.forget();
                            }
                        }
                    }
                    CLOSE => bail!("the server closed with {}", self.reader.close_in_words()),
                    other => bail!("the server sent opcode {other}"),
                }
            }
            if self.transport.is_drained(read, piece.len()) {
                return Ok(messages);
            }
        }
    }
}
