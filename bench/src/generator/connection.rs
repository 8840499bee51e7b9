//! An open connection in a closed loop: a batch out, its echoes back.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::frames::{BINARY, CLOSE, Frame, FrameReader, PING, PONG, TEXT, push};
use super::payload::Payload;
use super::transport::{Transport, is_not_yet};

/// What a load sends on all its connections, and the buffer they all read into.
pub(super) struct Traffic {
    payload: Payload,
    batch: Vec<u8>,
    in_flight: u32,
    scratch: Vec<u8>,
}

impl Traffic {
    pub(super) fn new(payload: Payload, in_flight: u32) -> Self {
        let batch = payload.batch(in_flight);
        Self { payload, batch, in_flight, scratch: vec![0; super::SCRATCH_BYTES] }
    }
}

/// A connection after its 101.
pub(super) struct Connection {
    transport: Transport,
    reader: FrameReader,
    /// Bytes of the batch that are still to be written.
    unsent: usize,
    /// Echoes that are still to come.
    awaited: u32,
    sent_at: Instant,
    /// The length of the first echo, whose content was checked: all later ones must have it.
    echo_len: Option<u64>,
}

impl Connection {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            reader: FrameReader::keeping(),
            unsent: 0,
            awaited: 0,
            sent_at: Instant::now(),
            echo_len: None,
        }
    }

    /// Whether an echo has come that was checked.
    pub(super) fn is_proven(&self) -> bool {
        self.echo_len.is_some()
    }

    /// Sends the next batch.
    pub(super) fn send(&mut self, traffic: &Traffic) -> Result<()> {
        self.reader.may_be_compressed = traffic.payload.is_compressed();
        (self.unsent, self.awaited, self.sent_at) = (traffic.batch.len(), traffic.in_flight, Instant::now());
        self.write(traffic)
    }

    /// Goes on after an event. `on_echo` gets the latency and the number of echoes that came at once; true when the
    /// whole batch is back.
    pub(super) fn advance(&mut self, traffic: &mut Traffic, mut on_echo: impl FnMut(Duration, u32)) -> Result<bool> {
        self.write(traffic)?;
        while self.awaited > 0 {
            let Some(read) = self.read(traffic)? else { return Ok(false) };
            let before = self.awaited;
            let mut input = &traffic.scratch[..read];
            while let Some(frame) = self.reader.next(&mut input)? {
                self.take(&frame, &traffic.payload)?;
            }
            on_echo(self.sent_at.elapsed(), before - self.awaited);
            // With edge-triggered epoll, less than asked for means: nothing more for now.
            if self.transport.is_drained(read, traffic.scratch.len()) {
                break;
            }
        }
        Ok(self.awaited == 0)
    }

    fn write(&mut self, traffic: &Traffic) -> Result<()> {
        if let Err(error) = self.transport.flush_session()
            && !is_not_yet(error.kind())
        {
            return Err(error.into());
        }
        while self.unsent > 0 {
            match self.transport.write(&traffic.batch[traffic.batch.len() - self.unsent..]) {
                Ok(written) => self.unsent -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, traffic: &mut Traffic) -> Result<Option<usize>> {
        match self.transport.read(&mut traffic.scratch) {
            Ok(0) => bail!("the server closed the connection without a close frame"),
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, frame: &Frame, payload: &Payload) -> Result<()> {
        match frame.opcode {
            TEXT | BINARY => {
                if self.echo_len.is_none() {
                    payload.check(frame.opcode, self.reader.message()?)?;
                    self.reader.forget();
                    self.echo_len = Some(frame.len);
                    self.reader.keep = false;
                }
                ensure!(frame.compressed == payload.is_compressed(), "an echo came compressed: {}", frame.compressed);
                // What takes its context over makes each echo shorter than the one before.
                ensure!(frame.compressed || self.echo_len == Some(frame.len), "an echo of {} bytes came", frame.len);
                ensure!(self.awaited > 0, "an echo came that nothing was sent for");
                self.awaited -= 1;
            }
            PING => self.pong()?,
            PONG => {}
            CLOSE => bail!("the server closed with {}", self.reader.close_in_words()),
            other => bail!("the server sent opcode {other}"),
        }
        Ok(())
    }

    fn pong(&mut self) -> Result<()> {
        // A pong must not land inside a frame. A ping while a batch is half written goes without an answer: any later
        // message proves to the server that this side is alive.
        if self.unsent == 0 {
            let mut frame = Vec::new();
            push(&mut frame, PONG, &self.reader.kept);
            ensure!(self.transport.write(&frame)? == frame.len(), "a pong was cut short");
        }
        Ok(())
    }
}
