//! One WebSocket client over a blocking socket; every wait has a deadline.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deflate::Agreed;
use crate::frame::{self, Frame};
use crate::http::Response;
pub use crate::http::{ORIGIN, Opening};
use crate::outcome::{Failure, Outcome, ensure, fail, shown};
pub use crate::wire::PATIENCE;
use crate::wire::{Dial, Target, Wire};

/// A client.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub wire: Wire,
    buffer: Vec<u8>,
    /// Compression, if the server's answer agreed to it.
    pub agreed: Option<Agreed>,
    /// Pings that were answered.
    pub pings: u32,
    /// Messages that came compressed.
    pub compressed: u64,
}

impl Client {
    /// Over a connected socket.
    pub fn over(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new(), agreed: None, pings: 0, compressed: 0 }
    }

    /// Connects and upgrades; anything but 101 is a failure.
    pub fn open(target: &Target, dial: Dial, opening: &Opening) -> Outcome<Self> {
        let mut client = Self::over(target.connect(dial)?);
        let answer = client.upgrade(opening)?;
        ensure!(answer.status == 101, "expected 101, came {}", answer.head.lines().next().unwrap_or_default());
        Ok(client)
    }

    /// Sends an opening handshake and reads the answer.
    pub fn upgrade(&mut self, opening: &Opening) -> Outcome<Response> {
        self.send(&opening.bytes())?;
        let answer = self.answer(PATIENCE)?;
        self.agreed = answer.header("Sec-WebSocket-Extensions").map(Agreed::parse).transpose()?;
        Ok(answer)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Outcome {
        self.wire.write_all(bytes).map_err(|error| Failure(format!("send: {error}")))?;
        Ok(self.wire.flush()?)
    }

    /// Sends a text message.
    pub fn text(&mut self, text: &str) -> Outcome {
        self.send(&frame::encode(frame::TEXT, text.as_bytes()))
    }

    /// Sends an event.
    pub fn emit(&mut self, event: &str, data: &Value) -> Outcome {
        self.text(&serde_json::json!({"event": event, "data": data}).to_string())
    }

    /// Reads the head of an answer, and its body by its length.
    pub fn answer(&mut self, within: Duration) -> Outcome<Response> {
        let deadline = Instant::now() + within;
        let answer = loop {
            if let Some(answer) = Response::take(&mut self.buffer)? {
                break answer;
            }
            ensure!(self.fill(deadline)?, "the server closed the socket without an answer");
        };
        let length = answer.body_length();
        while self.buffer.len() < length {
            ensure!(self.fill(deadline)?, "the answer's body is cut short");
        }
        self.buffer.drain(..length);
        Ok(answer)
    }

    /// The next frame of any kind, inflated; no server here sends fragments.
    pub fn frame(&mut self, within: Duration) -> Outcome<Frame> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer, self.agreed)? {
                self.compressed += u64::from(frame.compressed);
                ensure!(frame.fin, "the server sent a fragment: {}", shown(&frame.as_sent()));
                return frame.inflated(self.agreed);
            }
            ensure!(self.fill(deadline)?, "the server closed the socket without a close frame");
        }
    }

    /// The next message; pings are answered on the way, a close frame is a failure.
    pub fn message(&mut self, within: Duration) -> Outcome<Vec<u8>> {
        let deadline = Instant::now() + within;
        loop {
            let frame = self.frame(deadline.saturating_duration_since(Instant::now()))?;
            match frame.opcode {
                frame::PING => {
                    self.pings += 1;
                    self.send(&frame::encode(frame::PONG, &frame.payload))?;
                }
                frame::PONG => {}
                frame::CLOSE => return fail!("closed with {:?} instead of a message", frame.close_code()),
                _ => return Ok(frame.payload),
            }
        }
    }

    /// The next event, as JSON.
    pub fn event(&mut self, within: Duration) -> Outcome<Value> {
        let message = self.message(within)?;
        serde_json::from_slice(&message).map_err(|error| Failure(format!("not JSON from the server: {error}")))
    }

    /// Reads on until the close frame, answers it, and waits for the end of the socket.
    pub fn closed(&mut self, within: Duration) -> Outcome<(u16, String)> {
        let deadline = Instant::now() + within;
        let frame = loop {
            let frame = self.frame(deadline.saturating_duration_since(Instant::now()))?;
            if frame.opcode == frame::CLOSE {
                break frame;
            }
        };
        let _ = self.send(&frame::encode(frame::CLOSE, &frame.payload));
        self.gone(deadline.saturating_duration_since(Instant::now()))?;
        Ok(frame.close_code())
    }

    /// Closes with 1000 and wants 1000 back.
    pub fn leave(mut self) -> Outcome {
        self.send(&frame::close(1000))?;
        let (code, _) = self.closed(PATIENCE)?;
        ensure!(code == 1000, "left with 1000, the server answered {code}");
        Ok(())
    }

    /// Waits for the end of the socket; what still comes is thrown away.
    pub fn gone(&mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        loop {
            match self.fill(deadline) {
                Ok(true) => self.buffer.clear(),
                Ok(false) => return Ok(()),
                Err(failure) => return Err(failure.during("waiting for the end of the socket")),
            }
        }
    }

    /// Reads once; `false`: the socket has ended, by FIN or RST.
    fn fill(&mut self, deadline: Instant) -> Outcome<bool> {
        let began = Instant::now();
        let read = if began < deadline { self.wire.read_into(&mut self.buffer, deadline) } else { Ok(None) };
        match read {
            Ok(Some(length)) => Ok(length > 0),
            Ok(None) => fail!("nothing came within {} ms", began.elapsed().as_millis()),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Ok(false),
                _ => fail!("receive: {error}"),
            },
        }
    }
}
