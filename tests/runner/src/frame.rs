//! Frames as a client may send them, legal or not, and strict decoding of what the server sends.

use serde::Deserialize;

use crate::bytes::{Bytes, from_hex};
use crate::failure::{Outcome, fail};
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
    #[serde(default = "yes")]
    mask: bool,
    /// The masking key, four bytes of hex.
    key: Option<String>,
    /// The length the header claims, when it is not the payload's: a number, or hex text for the top bit.
    claim: Option<Length>,
    /// The length encoding: 7, 16 or 64, when it is not the shortest.
    len_as: Option<u8>,
    /// Sends only so many bytes of the frame.
    cut: Option<usize>,
    #[serde(default = "one")]
    times: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Length {
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
    Opcode::Number(1)
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
            Self::Text(text) => Ok(encode(1, text.as_bytes())),
            Self::Spec(spec) => spec.encode(),
        }
    }
}

impl FrameSpec {
    fn encode(&self) -> Outcome<Vec<u8>> {
        let mut payload = self.code.map_or_else(Vec::new, |code| code.to_be_bytes().to_vec());
        if let Some(bytes) = &self.payload {
            payload.extend(bytes.to_vec()?);
        }
        if let Some(json) = &self.json {
            payload.extend(literal(json).to_string().into_bytes());
        }
        let claim = match &self.claim {
            None => payload.len() as u64,
            Some(Length::Number(number)) => *number,
            Some(Length::Text(text)) => match u64::from_str_radix(text.trim_start_matches("0x"), 16) {
                Ok(number) => number,
                Err(_) => return fail!("bad claim {text:?}"),
            },
        };
        let mut frame = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.op.number()?];
        frame.extend(length_bytes(claim, self.len_as, self.mask)?);
        if self.mask {
            let key = match &self.key {
                None => MASK.to_vec(),
                Some(hex) => from_hex(hex)?,
            };
            frame.extend(&key);
            payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        frame.extend(payload);
        frame.truncate(self.cut.unwrap_or(usize::MAX));
        Ok(frame.repeat(self.times))
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn length_bytes(length: u64, len_as: Option<u8>, mask: bool) -> Outcome<Vec<u8>> {
    let mask_bit = u8::from(mask) << 7;
    let shortest = match length {
        0..=125 => 7,
        126..=0xffff => 16,
        _ => 64,
    };
    Ok(match len_as.unwrap_or(shortest) {
        7 => vec![mask_bit + length as u8],
        16 => [&[mask_bit + 126][..], &(length as u16).to_be_bytes()].concat(),
        64 => [&[mask_bit + 127][..], &length.to_be_bytes()].concat(),
        other => return fail!("len_as is 7, 16 or 64, not {other}"),
    })
}

/// A well-formed client frame.
pub(crate) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    frame.extend(length_bytes(payload.len() as u64, None, true).unwrap_or_default());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Takes the first whole frame off `buffer`; `None` while it is incomplete. A server that masks, sets RSV bits or
    /// pads a length fails the scenario.
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Outcome<Option<Self>> {
        let [first, second, ..] = buffer[..] else { return Ok(None) };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return fail!("the server sent a frame with RSV or MASK bits: {}", crate::bytes::shown(buffer));
        }
        let (header, length) = match second {
            126 if buffer.len() >= 4 => (4, u64::from(u16::from_be_bytes([buffer[2], buffer[3]]))),
            127 if buffer.len() >= 10 => {
                (10, buffer[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
            }
            126 | 127 => return Ok(None),
            short => (2, u64::from(short)),
        };
        if length_bytes(length, None, false)?.len() + 1 != header {
            return fail!("the server padded a length: {}", crate::bytes::shown(buffer));
        }
        let end = header + length as usize;
        if buffer.len() < end {
            return Ok(None);
        }
        let payload = buffer[header..end].to_vec();
        buffer.drain(..end);
        Ok(Some(Self { fin: first & 0x80 != 0, opcode: first & 0x0f, payload }))
    }

    /// The bytes it came as.
    pub(crate) fn as_sent(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.opcode];
        bytes.extend(length_bytes(self.payload.len() as u64, None, false).unwrap_or_default());
        bytes.extend(&self.payload);
        bytes
    }

    /// The code and reason of a close frame.
    pub(crate) fn close_reason(&self) -> (Option<u16>, String) {
        match self.payload[..] {
            [high, low, ref reason @ ..] => {
                (Some(u16::from_be_bytes([high, low])), String::from_utf8_lossy(reason).into_owned())
            }
            _ => (None, String::new()),
        }
    }

    /// For the failure line.
    pub(crate) fn shown(&self) -> String {
        let kind = match self.opcode {
            0 => "continuation",
            1 => "text",
            2 => "binary",
            9 => "ping",
            10 => "pong",
            8 => {
                let (code, reason) = self.close_reason();
                return format!("close {code:?} {reason:?}");
            }
            _ => "reserved",
        };
        format!("{kind}{} {}", if self.fin { "" } else { " (not final)" }, crate::bytes::shown(&self.payload))
    }
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
    fn lengths_take_their_shortest_form() {
        assert_eq!(encode(2, &[0; 125])[..2], [0x82, 0xfd]);
        assert_eq!(encode(2, &[0; 126])[..4], [0x82, 0xfe, 0, 126]);
        assert_eq!(encode(2, &vec![0; 65536])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn decoding_waits_for_the_whole_frame() {
        let whole = [0x81, 126, 0, 126].into_iter().chain([b'x'; 126]).collect::<Vec<u8>>();
        for cut in 0..whole.len() {
            assert_eq!(Frame::take(&mut whole[..cut].to_vec()).unwrap(), None);
        }
        let mut buffer = whole;
        buffer.push(0x88);
        assert_eq!(Frame::take(&mut buffer).unwrap().unwrap().payload.len(), 126);
        assert_eq!(buffer, [0x88]);
    }

    #[test]
    fn a_sloppy_server_is_caught() {
        assert!(Frame::take(&mut vec![0x81, 0x80]).is_err());
        assert!(Frame::take(&mut vec![0xc1, 0]).is_err());
        assert!(Frame::take(&mut vec![0x81, 126, 0, 1, b'x']).is_err());
    }

    #[test]
    fn close_frames_read() {
        let frame = Frame { fin: true, opcode: 8, payload: b"\x03\xf0rate limit".to_vec() };
        assert_eq!(frame.close_reason(), (Some(1008), "rate limit".into()));
    }
}
