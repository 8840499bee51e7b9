//! Frames as a client sends them, and strict decoding of what a server sends (RFC 6455, section 5.2; RFC 7692).

use crate::deflate::{Agreed, End, compress};
use crate::outcome::{Outcome, ensure, fail, shown};

/// A continuation frame.
pub const CONTINUATION: u8 = 0;
/// A text frame.
pub const TEXT: u8 = 1;
/// A binary frame.
pub const BINARY: u8 = 2;
/// A close frame.
pub const CLOSE: u8 = 8;
/// A ping.
pub const PING: u8 = 9;
/// A pong.
pub const PONG: u8 = 10;

/// The masking key of every frame that needs no other: the one of RFC 6455's examples (section 5.7).
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// How a header tells the length of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In the seven bits beside the mask bit.
    Bits7,
    /// In the 16 bits that follow.
    Bits16,
    /// In the 64 bits that follow.
    Bits64,
}

impl Length {
    /// The only form that is allowed for a length.
    pub fn shortest(length: u64) -> Self {
        match length {
            0..=125 => Self::Bits7,
            126..=0xffff => Self::Bits16,
            _ => Self::Bits64,
        }
    }

    /// Appends a length in this form, whether or not it is allowed; what does not fit is cut off.
    pub fn push(self, frame: &mut Vec<u8>, length: u64, masked: bool) {
        let mask = if masked { MASKED } else { 0 };
        match self {
            Self::Bits7 => frame.push(mask.wrapping_add(length as u8)),
            Self::Bits16 => {
                frame.push(mask + 126);
                frame.extend((length as u16).to_be_bytes());
            }
            Self::Bits64 => {
                frame.push(mask + 127);
                frame.extend(length.to_be_bytes());
            }
        }
    }
}

/// Appends a whole, masked frame.
pub fn push(frames: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let length = payload.len() as u64;
    frames.push(FIN | opcode);
    Length::shortest(length).push(frames, length, true);
    frames.extend(MASK);
    frames.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// A whole, masked frame.
pub fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    push(&mut frame, opcode, payload);
    frame
}

/// A whole, masked frame with a message, compressed where that was agreed.
pub fn message(agreed: Option<Agreed>, opcode: u8, payload: &[u8]) -> Outcome<Vec<u8>> {
    match agreed {
        None => Ok(encode(opcode, payload)),
        Some(_) => Ok(encode(RSV1 | opcode, &compress(payload, 6, End::Flushed)?)),
    }
}

/// A close frame with a code.
pub fn close(code: u16) -> Vec<u8> {
    encode(CLOSE, &code.to_be_bytes())
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last of its message.
    pub fin: bool,
    /// The four bits.
    pub opcode: u8,
    /// Whether it came compressed: RSV1.
    pub compressed: bool,
    /// The payload, which a server never masks.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole, plain one.
    pub fn whole(opcode: u8, payload: &[u8]) -> Self {
        Self { fin: true, opcode, compressed: false, payload: payload.to_vec() }
    }

    /// Takes the first whole frame off `buffer`; `None` while it is incomplete. A server that masks, sets RSV bits or
    /// tells a length in more bytes than it needs is a failure. RSV1 is allowed where compression was agreed, on a message.
    pub fn take(buffer: &mut Vec<u8>, agreed: Option<Agreed>) -> Outcome<Option<Self>> {
        let [first, second, ..] = buffer[..] else { return Ok(None) };
        let allowed = if agreed.is_some() && [TEXT, BINARY].contains(&(first & 0x0f)) { RSV1 } else { 0 };
        if first & 0x70 & !allowed != 0 || second & MASKED != 0 {
            return fail!("the server sent a frame with RSV or MASK bits: {}", shown(buffer));
        }
        let (form, header) = match second {
            126 => (Length::Bits16, 4),
            127 => (Length::Bits64, 10),
            _ => (Length::Bits7, 2),
        };
        let Some(following) = buffer.get(2..header) else { return Ok(None) };
        let length = match form {
            Length::Bits7 => u64::from(second),
            _ => following.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if Length::shortest(length) != form {
            return fail!("the server sent a padded length: {}", shown(buffer));
        }
        let end = (length as usize).saturating_add(header);
        let Some(payload) = buffer.get(header..end) else { return Ok(None) };
        let payload = payload.to_vec();
        buffer.drain(..end);
        Ok(Some(Self { fin: first & FIN != 0, opcode: first & 0x0f, compressed: first & RSV1 != 0, payload }))
    }

    /// With its payload inflated, if it came compressed. No server here sends fragments.
    pub fn inflated(self, agreed: Option<Agreed>) -> Outcome<Self> {
        let Some(agreed) = agreed.filter(|_| self.compressed) else { return Ok(self) };
        ensure!(self.fin, "a compressed fragment: {}", shown(&self.payload));
        Ok(Self { payload: agreed.inflate(&self.payload)?, ..self })
    }

    /// The bytes it came as, unless it was inflated.
    pub fn as_sent(&self) -> Vec<u8> {
        let length = self.payload.len() as u64;
        let mut bytes = vec![u8::from(self.fin) << 7 | u8::from(self.compressed) << 6 | self.opcode];
        Length::shortest(length).push(&mut bytes, length, false);
        bytes.extend(&self.payload);
        bytes
    }

    /// The code and the reason of a close frame, as far as it has them.
    pub fn close_reason(&self) -> (Option<u16>, String) {
        match &self.payload[..] {
            [high, low, reason @ ..] => {
                (Some(u16::from_be_bytes([*high, *low])), String::from_utf8_lossy(reason).into_owned())
            }
            _ => (None, String::new()),
        }
    }

    /// The code and the reason of a close frame; 1005 without a code.
    pub fn close_code(&self) -> (u16, String) {
        let (code, reason) = self.close_reason();
        (code.unwrap_or(1005), reason)
    }

    /// For a failure's line.
    pub fn shown(&self) -> String {
        let kind = match self.opcode {
            CONTINUATION => "continuation",
            TEXT => "text",
            BINARY => "binary",
            PING => "ping",
            PONG => "pong",
            CLOSE => {
                let (code, reason) = self.close_reason();
                return format!("close {code:?} {reason:?}");
            }
            _ => "reserved",
        };
        let compressed = if self.compressed { "compressed " } else { "" };
        format!("{compressed}{kind}{} {}", if self.fin { "" } else { " (not final)" }, shown(&self.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455() {
        assert_eq!(encode(TEXT, b"Hello"), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(encode(BINARY, &[0; 125])[..2], [0x82, 0xfd]);
        assert_eq!(encode(BINARY, &[0; 126])[..4], [0x82, 0xfe, 0, 126]);
        assert_eq!(encode(BINARY, &vec![0; 65536])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn decoding_waits_for_the_whole_frame() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = Frame::whole(BINARY, &vec![b'x'; length]);
            let mut buffer = frame.as_sent();
            for cut in 0..buffer.len().min(200) {
                assert_eq!(Frame::take(&mut buffer[..cut].to_vec(), None).unwrap(), None);
            }
            buffer.push(0x88);
            assert_eq!(Frame::take(&mut buffer, None).unwrap().unwrap(), frame);
            assert_eq!(buffer, [0x88]);
        }
    }

    #[test]
    fn a_sloppy_server_is_caught() {
        for sloppy in
            [&[0x81, 0x80][..], &[0xc1, 0], &[0x81, 126, 0, 1, b'x'], &[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255]]
        {
            assert!(Frame::take(&mut sloppy.to_vec(), None).is_err(), "{sloppy:?}");
        }
        let endless = [&[0x81, 127][..], &[0xff; 8]].concat();
        assert_eq!(Frame::take(&mut endless.clone(), None).unwrap(), None);
    }

    #[test]
    fn rsv1_is_for_messages_where_it_was_agreed() {
        let agreed = Some(Agreed { server_window_bits: None });
        let hello = [0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let frame = Frame::take(&mut hello.to_vec(), agreed).unwrap().unwrap();
        assert!(frame.compressed && frame.as_sent() == hello);
        // Plain, it would have been shorter.
        assert!(frame.inflated(agreed).is_err());
        let payload = compress(&[b'x'; 100], 6, End::Flushed).unwrap();
        let frame = Frame { compressed: true, ..Frame::whole(TEXT, &payload) };
        assert_eq!(frame.inflated(agreed).unwrap().payload, [b'x'; 100]);
        assert!(Frame::take(&mut hello.to_vec(), None).is_err());
        for first in [0xc0, 0xc8, 0xc9, 0xca, 0xe1, 0xd1] {
            assert!(Frame::take(&mut vec![first, 0], agreed).is_err(), "{first:x}");
        }
    }

    #[test]
    fn close_frames_read() {
        let close = |payload: &[u8]| Frame::whole(CLOSE, payload);
        assert_eq!(close(b"\x03\xf0rate limit").close_reason(), (Some(1008), "rate limit".into()));
        assert_eq!(close(b"").close_reason(), (None, String::new()));
        assert_eq!(close(b"").close_code(), (1005, String::new()));
    }
}
