//! What an echo load sends, and what must come back.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use wsguard_test_support::deflate::{End, compress};

use super::frames::{BINARY, RSV1, TEXT, push};
use super::socketio;
use crate::plan::Message;

/// A message: the payload of the frame, and its opcode.
pub(super) struct Payload {
    opcode: u8,
    bytes: Vec<u8>,
    /// What `data` of the reply must be, if the message is an envelope.
    data: Option<Value>,
    /// The payload as it is sent, if it is compressed.
    deflated: Option<Vec<u8>>,
}

impl Payload {
    pub(super) fn new(message: Message, compressed: bool) -> Result<Self> {
        let plain = match message {
            Message::Binary(len) => Self::of(BINARY, (0..len).map(|i| i as u8).collect()),
            Message::Json(len) => Self::envelope(len),
            Message::SocketIo(len) => Self::of(TEXT, socketio::packet(len)),
            Message::Records(len) => Self::of(BINARY, records(len)),
        };
        let deflated = compressed.then(|| compress(&plain.bytes, 6, End::Flushed)).transpose()?;
        Ok(Self { deflated, ..plain })
    }

    fn of(opcode: u8, bytes: Vec<u8>) -> Self {
        Self { opcode, bytes, data: None, deflated: None }
    }

    /// Whether it is sent compressed, and is to come back so.
    pub(super) fn is_compressed(&self) -> bool {
        self.deflated.is_some()
    }

    /// `count` masked frames, one after the other.
    pub(super) fn batch(&self, count: u32) -> Vec<u8> {
        let mut batch = Vec::new();
        for _ in 0..count {
            match &self.deflated {
                Some(deflated) => push(&mut batch, RSV1 | self.opcode, deflated),
                None => push(&mut batch, self.opcode, &self.bytes),
            }
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
        Self { data: Some(value["data"].clone()), ..Self::of(TEXT, value.to_string().into_bytes()) }
    }
}

/// So many bytes of JSON as an application has it: records with the same names, and values that come again now and then.
pub(super) fn records(len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "order", "invoice", "shipped", "the", "of", "customer", "Zürich", "pending", "a", "review", "and", "again",
        "total", "Monday", "delivery", "in",
    ];
    let mut state = 7_u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut text = String::from("[");
    while text.len() < len {
        let words: Vec<_> = (0..4 + next(6)).map(|_| WORDS[next(16) as usize]).collect();
        let (id, price, hour, minute) = (next(60_000), next(60_000), next(24), next(60));
        text += &json!({
            "id": id, "price": f64::from(price) / 100.0, "at": format!("2026-11-26T{hour:02}:{minute:02}:00Z"),
            "text": words.join(" "), "open": next(2) == 0,
        })
        .to_string();
        text.push(',');
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_as_long_as_asked() {
        assert_eq!(Payload::new(Message::Json(90), false).unwrap().bytes.len(), 90);
    }

    #[test]
    fn an_echo_envelope_may_carry_more_than_was_sent() {
        let payload = Payload::new(Message::Json(90), false).unwrap();
        let reply = json!({"event": "echo", "data": payload.data, "status": "ok"}).to_string();
        assert!(payload.check(TEXT, reply.as_bytes()).is_ok());
        assert!(payload.check(TEXT, br#"{"event":"echo","data":1}"#).is_err());
        assert!(payload.check(BINARY, reply.as_bytes()).is_err());
    }

    #[test]
    fn records_are_worth_compressing_and_no_mere_repetition() {
        let payload = Payload::new(Message::Records(2048), true).unwrap();
        let deflated = payload.deflated.as_ref().unwrap().len();
        assert!(payload.bytes.len() == 2048 && (500..1000).contains(&deflated), "{deflated}");
    }

    #[test]
    fn a_raw_echo_is_the_same_bytes() {
        let payload = Payload::new(Message::Binary(300), false).unwrap();
        assert!(payload.check(BINARY, &payload.bytes).is_ok());
        assert!(payload.check(BINARY, &payload.bytes[1..]).is_err());
    }
}
