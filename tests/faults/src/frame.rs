//! Frames as an honest client sends them, and strict decoding of what the server sends.

use crate::fail;
use crate::outcome::Outcome;

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

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A whole, masked frame.
pub fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A close frame with a code.
pub fn close(code: u16) -> Vec<u8> {
    encode(CLOSE, &code.to_be_bytes())
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The four bits.
    pub opcode: u8,
    /// The payload, which a server never masks.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes the first whole frame off `buffer`; `None` while it is incomplete.
    pub fn take(buffer: &mut Vec<u8>) -> Outcome<Option<Self>> {
        let [first, second, ..] = buffer[..] else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return fail!("the server sent a frame that starts with {first:02x} {second:02x}");
        }
        let (header, length) = match second {
            126 if buffer.len() >= 4 => (4, usize::from(u16::from_be_bytes([buffer[2], buffer[3]]))),
            127 if buffer.len() >= 10 => (10, buffer[2..10].iter().fold(0, |len, byte| len << 8 | usize::from(*byte))),
            126 | 127 => return Ok(None),
            short => (2, usize::from(short)),
        };
        let end = header + length;
        if buffer.len() < end {
            return Ok(None);
        }
        let payload = buffer[header..end].to_vec();
        buffer.drain(..end);
        Ok(Some(Self { opcode: first & 0x0f, payload }))
    }

    /// The code and the reason of a close frame; 1005 without a code.
    pub fn close_code(&self) -> (u16, String) {
        match &self.payload[..] {
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned())
            }
            _ => (1005, String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_encoded_in_their_shortest_form() {
        assert_eq!(encode(TEXT, b"Hello"), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(encode(BINARY, &[0; 126])[..4], [0x82, 0xfe, 0, 126]);
        assert_eq!(encode(BINARY, &vec![0; 65536])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn decoding_waits_for_the_whole_frame() {
        let whole = [0x81, 126, 0, 126].into_iter().chain([b'x'; 126]).collect::<Vec<u8>>();
        for cut in 0..whole.len() {
            assert_eq!(Frame::take(&mut whole[..cut].to_vec()).unwrap(), None);
        }
        assert_eq!(Frame::take(&mut whole.clone()).unwrap().unwrap().payload.len(), 126);
        assert!(Frame::take(&mut vec![0x81, 0x80]).is_err());
        let close = Frame { opcode: CLOSE, payload: b"\x03\xf0rate limit".to_vec() };
        assert_eq!(close.close_code(), (1008, "rate limit".into()));
    }
}
