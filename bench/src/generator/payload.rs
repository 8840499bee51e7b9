//! What an echo load sends, and what must come back.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::frames::{BINARY, TEXT, push};
use super::socketio;
use crate::plan::Message;

/// A message: the payload of the frame, and its opcode.
pub(super) struct Payload {
    opcode: u8,
    bytes: Vec<u8>,
    /// What `data` of the reply must be, if the message is an envelope.
    data: Option<Value>,
}

impl Payload {
    pub(super) fn new(message: Message) -> Self {
        match message {
            Message::Binary(len) => Self { opcode: BINARY, bytes: (0..len).map(|i| i as u8).collect(), data: None },
            Message::Json(len) => Self::envelope(len),
            Message::SocketIo(len) => Self { opcode: TEXT, bytes: socketio::packet(len), data: None },
        }
    }

    /// `count` masked frames, one after the other.
    pub(super) fn batch(&self, count: u32) -> Vec<u8> {
        let mut batch = Vec::new();
        for _ in 0..count {
            push(&mut batch, self.opcode, &self.bytes);
        }
        batch
    }

    /// Whether a reply is an echo of this message.
    pub(super) fn check(&self, opcode: u8, reply: &[u8]) -> Result<()> {
        ensure!(opcode == self.opcode, "the echo has opcode {opcode}, not {}", self.opcode);
        let Some(data) = &self.data else {
            ensure!(reply == self.bytes, "the echo of {} bytes is not what was sent", self.bytes.len());
            return Ok(());
        };
        let reply: Value = serde_json::from_slice(reply)?;
        ensure!(reply["event"] == "echo" && reply["data"] == *data, "not an echo: {reply}");
        Ok(())
    }

    /// An envelope of `len` bytes; the text in it is as long as it must be.
    fn envelope(len: usize) -> Self {
        let envelope = |text: &str| json!({"event": "echo", "data": {"text": text, "seq": 123_456}});
        let frame = envelope("").to_string().len();
        let value = envelope(&"x".repeat(len.saturating_sub(frame)));
        Self { opcode: TEXT, bytes: value.to_string().into_bytes(), data: Some(value["data"].clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_as_long_as_asked() {
        assert_eq!(Payload::new(Message::Json(90)).bytes.len(), 90);
    }

    #[test]
    fn an_echo_envelope_may_carry_more_than_was_sent() {
        let payload = Payload::new(Message::Json(90));
        let reply = json!({"event": "echo", "data": payload.data, "status": "ok"}).to_string();
        assert!(payload.check(TEXT, reply.as_bytes()).is_ok());
        assert!(payload.check(TEXT, br#"{"event":"echo","data":1}"#).is_err());
        assert!(payload.check(BINARY, reply.as_bytes()).is_err());
    }

    #[test]
    fn a_raw_echo_is_the_same_bytes() {
        let payload = Payload::new(Message::Binary(300));
        assert!(payload.check(BINARY, &payload.bytes).is_ok());
        assert!(payload.check(BINARY, &payload.bytes[1..]).is_err());
    }
}
