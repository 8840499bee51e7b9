//! One WebSocket client over a blocking socket; every wait has a deadline.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::frame::{self, Frame};
use crate::outcome::{Failure, Outcome};
use crate::wire::{Dial, Target, Wire};
use crate::{ensure, fail};

/// The origin that every policy of these tests allows.
pub const ORIGIN: &str = "https://app.example.com";

/// An opening handshake.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The request target.
    pub target: String,
    /// Headers beside those that every upgrade has; `Origin` comes from here, too.
    pub headers: Vec<(String, String)>,
}

impl Opening {
    /// From the allowed origin, with a token.
    pub fn with_token(token: &str) -> Self {
        Self::bare().header("Origin", ORIGIN).header("X-Auth-Token", token)
    }

    /// No origin, no credential.
    pub fn bare() -> Self {
        Self { target: "/".into(), headers: Vec::new() }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The request head.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.target
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The answer to a request: status, head and, for a refusal, its short body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The whole head.
    pub head: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub wire: Wire,
    buffer: Vec<u8>,
    /// Pings that were answered.
    pub pings: u32,
}

/// How long an answer may take on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    /// Over a connected socket.
    pub fn over(wire: Wire) -> Self {
        Self { wire, buffer: Vec::new(), pings: 0 }
    }

    /// Connects and upgrades; anything but 101 is a failure.
    pub fn open(target: &Target, dial: Dial, opening: &Opening) -> Outcome<Self> {
        let mut client = Self::over(target.connect(dial)?);
        let answer = client.upgrade(opening)?;
        ensure!(answer.status == 101, "expected 101, came {}", answer.head.lines().next().unwrap_or_default());
        Ok(client)
    }

    /// Sends an opening handshake and reads the answer.
    pub fn upgrade(&mut self, opening: &Opening) -> Outcome<Answer> {
        self.send(&opening.bytes())?;
        self.answer(PATIENCE)
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
    pub fn answer(&mut self, within: Duration) -> Outcome<Answer> {
        let deadline = Instant::now() + within;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.fill(deadline)?, "the server closed the socket without an answer");
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let Some(status) = head.split(' ').nth(1).and_then(|status| status.parse().ok()) else {
            return fail!("not an HTTP answer: {head:?}");
        };
        let answer = Answer { status, head };
        let length = answer.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            ensure!(self.fill(deadline)?, "the answer's body is cut short");
        }
        self.buffer.drain(..length);
        Ok(answer)
    }

    /// The next frame of any kind.
    pub fn frame(&mut self, within: Duration) -> Outcome<Frame> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = Frame::take(&mut self.buffer)? {
                return Ok(frame);
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
        let mut chunk = [0; 16 * 1024];
        let began = Instant::now();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing came within {} ms", began.elapsed().as_millis());
            self.wire.set_read_timeout(left)?;
            match self.wire.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.buffer.extend_from_slice(&chunk[..length]);
                    return Ok(true);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => return Ok(false),
                    _ => return Err(Failure(format!("receive: {error}"))),
                },
            }
        }
    }
}
