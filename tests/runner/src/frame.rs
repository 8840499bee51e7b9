//! Frames as a scenario sends them, legal or not.

use serde::Deserialize;
use wsguard_test_support::deflate::{End, compress};
use wsguard_test_support::frame::{CONTINUATION, Length, MASK, TEXT, encode};
use wsguard_test_support::outcome::{Outcome, fail};

use crate::bytes::{Bytes, from_hex};
use crate::matcher::literal;

/// A frame to send: `"text"`, or a table in which every bit can be set wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum FrameForm {
    Text(String),
    Spec(Box<FrameSpec>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrameSpec {
    /// `text`, `binary`, `cont`, `ping`, `pong`, `close`, or a number.
    #[serde(default = "text_opcode")]
    op: Opcode,
    payload: Option<Bytes>,
    json: Option<toml::Value>,
    /// The close code in front of the payload.
    code: Option<u16>,
    #[serde(default = "yes")]
    fin: bool,
    #[serde(default)]
    rsv: u8,
    /// The payload is compressed, and RSV1 set.
    #[serde(default)]
    compressed: bool,
    /// In so many fragments; RSV bits are on the first.
    #[serde(default = "one")]
    pieces: usize,
    #[serde(default = "yes")]
    mask: bool,
    /// The masking key, four bytes of hex.
    key: Option<String>,
    /// The length the header claims, when it is not the payload's: a number, or hex text for the top bit.
    claim: Option<Claim>,
    /// The length encoding: 7, 16 or 64, when it is not the shortest.
    len_as: Option<u8>,
    /// Sends only so many bytes of the frame.
    cut: Option<usize>,
    #[serde(default = "one")]
    times: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Claim {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Opcode {
    Number(u8),
    Name(String),
}

fn text_opcode() -> Opcode {
    Opcode::Number(TEXT)
}
fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}

impl Opcode {
    pub(crate) fn number(&self) -> Outcome<u8> {
        const NAMES: [(&str, u8); 6] =
            [("cont", 0), ("text", 1), ("binary", 2), ("close", 8), ("ping", 9), ("pong", 10)];
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => match NAMES.iter().find(|(known, _)| known == name) {
                Some((_, number)) => Ok(*number),
                None => fail!("unknown opcode {name:?}"),
            },
        }
    }
}

impl FrameForm {
    pub(crate) fn encode(&self) -> Outcome<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(encode(TEXT, text.as_bytes())),
            Self::Spec(spec) => spec.encode(),
        }
    }
}

impl FrameSpec {
    fn encode(&self) -> Outcome<Vec<u8>> {
        let (payload, op) = (self.whole_payload()?, self.op.number()?);
        let rsv = self.rsv | u8::from(self.compressed) << 2;
        let each = payload.len().div_ceil(self.pieces).max(1);
        let mut frame = Vec::new();
        for number in 0..self.pieces {
            let (from, to) = ((number * each).min(payload.len()), ((number + 1) * each).min(payload.len()));
            let fin = u8::from(self.fin && number + 1 == self.pieces) << 7;
            let first = if number == 0 { rsv << 4 | op } else { CONTINUATION };
            self.push(&mut frame, fin | first, &payload[from..to])?;
        }
        frame.truncate(self.cut.unwrap_or(usize::MAX));
        Ok(frame.repeat(self.times))
    }

    fn whole_payload(&self) -> Outcome<Vec<u8>> {
        let mut payload = self.code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
        if let Some(bytes) = &self.payload {
            payload.extend(bytes.to_vec()?);
        }
        if let Some(json) = &self.json {
            payload.extend(literal(json).to_string().into_bytes());
        }
        if self.compressed { compress(&payload, 6, End::Flushed) } else { Ok(payload) }
    }

    /// Appends one frame with this first byte.
    fn push(&self, frame: &mut Vec<u8>, first: u8, payload: &[u8]) -> Outcome {
        let claim = match &self.claim {
            None => payload.len() as u64,
            Some(Claim::Number(number)) => *number,
            Some(Claim::Text(text)) => match u64::from_str_radix(text.trim_start_matches("0x"), 16) {
                Ok(number) => number,
                Err(_) => return fail!("bad claim {text:?}"),
            },
        };
        frame.push(first);
        form(claim, self.len_as)?.push(frame, claim, self.mask);
        let key = match &self.key {
            _ if !self.mask => vec![0],
            None => MASK.to_vec(),
            Some(hex) => from_hex(hex)?,
        };
        if self.mask {
            frame.extend(&key);
        }
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        Ok(())
    }
}

/// The form that `len_as` asks for, or the shortest.
fn form(length: u64, len_as: Option<u8>) -> Outcome<Length> {
    Ok(match len_as {
        None => Length::shortest(length),
        Some(7) => Length::Bits7,
        Some(16) => Length::Bits16,
        Some(64) => Length::Bits64,
        Some(other) => return fail!("len_as is 7, 16 or 64, not {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> Vec<u8> {
        let mut table: toml::Table = toml::from_str(&format!("v = {text}")).unwrap();
        table.remove("v").unwrap().try_into::<FrameForm>().unwrap().encode().unwrap()
    }

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(encoded("'Hello'"), from_hex("81 85 37 fa 21 3d 7f 9f 4d 51 58").unwrap());
    }

    #[test]
    fn every_bit_can_be_wrong() {
        assert_eq!(encoded("{ op = 3, fin = false, rsv = 7, mask = false }"), [0x73, 0]);
        assert_eq!(encoded("{ payload = 'a', mask = false, len_as = 16 }"), [0x81, 126, 0, 1, b'a']);
        assert_eq!(
            encoded("{ claim = '0x8000000000000000', mask = false, len_as = 64 }"),
            [0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(encoded("{ op = 'close', code = 1000, key = '00000000' }"), [0x88, 0x82, 0, 0, 0, 0, 3, 232]);
        assert_eq!(encoded("{ payload = 'abc', mask = false, cut = 2, times = 2 }"), [0x81, 3, 0x81, 3]);
    }

    #[test]
    fn fragments_of_a_compressed_message() {
        assert_eq!(
            encoded("{ payload = 'Hello', compressed = true, pieces = 3, mask = false }"),
            from_hex("41 03 f2 48 cd  00 03 c9 c9 07  80 01 00").unwrap()
        );
        assert_eq!(encoded("{ op = 'binary', pieces = 2, mask = false }"), [0x02, 0, 0x80, 0]);
    }
}
