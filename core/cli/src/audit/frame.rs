//! Frames of RFC 6455 as the audit needs them: written byte by byte, since it must send wrong ones, and read with little memory.

/// The first byte of a whole text message.
pub(crate) const TEXT: u8 = 0x81;
/// The first byte of a whole binary message.
pub(crate) const BINARY: u8 = 0x82;
/// The first byte of a ping.
pub(crate) const PING: u8 = 0x89;
/// The first byte of a pong.
pub(crate) const PONG: u8 = 0x8a;
/// The first byte of a close.
pub(crate) const CLOSE: u8 = 0x88;
/// RSV1, which says that a message is compressed.
pub(crate) const RSV1: u8 = 0x40;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The two lengths that say where the length stands.
const SIXTEEN_BITS: u8 = 0x7e;
const SIXTY_FOUR_BITS: u8 = 0x7f;

/// The key of section 5.7's examples. A mask protects proxies from bytes that a script in a browser chose; here the person at the
/// terminal chose them all, and a probe that is repeated should be the same bytes.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How many bytes of a payload are kept.
pub(crate) const KEPT: usize = 1024;

/// The header of a masked frame, with the length in its shortest form.
pub(crate) fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(MASKED | len as u8),
        126..=0xffff => {
            bytes.push(MASKED | SIXTEEN_BITS);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | SIXTY_FOUR_BITS);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// A part of a masked payload, of which a multiple of four bytes stands before it.
pub(crate) fn part(payload: &[u8]) -> Vec<u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

/// A masked frame.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(part(payload));
    bytes
}

/// A short masked frame whose length stands in eight bytes, which is not the shortest form (section 5.2).
pub(crate) fn long_length(first: u8, payload: &[u8], top_bit: bool) -> Vec<u8> {
    let mut bytes = vec![first, MASKED | SIXTY_FOUR_BITS];
    bytes.extend((payload.len() as u64 | u64::from(top_bit) << 63).to_be_bytes());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A frame without a mask, which a client must not send (section 5.1).
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, payload.len().min(125) as u8];
    bytes.extend(&payload[..payload.len().min(125)]);
    bytes
}

/// A close frame with this code.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A frame that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    /// The length of its payload.
    pub(crate) len: u64,
    /// The beginning of its payload.
    pub(crate) start: Vec<u8>,
}

impl Frame {
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether a message ends with it.
    pub(crate) fn ends_message(&self) -> bool {
        self.opcode() < 8 && self.first & FIN != 0
    }
}

/// Reads frames from bytes as they come. It keeps a header and the beginning of a payload, whatever the server sends.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    head: Vec<u8>,
    current: Option<(Frame, u64)>,
}

impl Reader {
    /// Takes bytes, and calls `each` for every frame that they end. The error says what no server sends.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) -> Result<(), &'static str> {
        loop {
            if let Some((frame, left)) = &mut self.current {
                let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let room = KEPT.saturating_sub(frame.start.len()).min(here);
                frame.start.extend(&bytes[..room]);
                bytes = &bytes[here..];
                *left -= here as u64;
                if *left > 0 {
                    return Ok(());
                }
                if let Some((frame, _)) = self.current.take() {
                    each(frame);
                }
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
            self.head.push(*byte);
            bytes = rest;
            if let Some((first, len)) = parse(&self.head)? {
                self.head.clear();
                self.current = Some((Frame { first, len, start: Vec::new() }, len));
            }
        }
    }
}

/// The first byte and the length, when the header of a server's frame is complete.
fn parse(head: &[u8]) -> Result<Option<(u8, u64)>, &'static str> {
    let [first, second, extended @ ..] = head else { return Ok(None) };
    if matches!(first & 0x0f, 3..=7 | 11..=15) {
        return Err("a frame with a reserved opcode");
    }
    if second & MASKED != 0 {
        return Err("a masked frame");
    }
    Ok(match second {
        &SIXTEEN_BITS => extended.try_into().ok().map(|len| (*first, u64::from(u16::from_be_bytes(len)))),
        &SIXTY_FOUR_BITS => extended.try_into().ok().map(|len| (*first, u64::from_be_bytes(len))),
        len => Some((*first, u64::from(*len))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_rfc() {
        // Section 5.7: "Hello", masked and not.
        assert_eq!(masked(TEXT, b"Hello"), [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        assert_eq!(unmasked(TEXT, b"Hello"), [0x81, 5, b'H', b'e', b'l', b'l', b'o']);
        assert_eq!(header(BINARY, 256)[..4], [0x82, 0xfe, 1, 0]);
        assert_eq!(header(BINARY, 65536)[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(long_length(TEXT, b"", true)[1..10], [0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(close(1005, b"")[6..], [0x03 ^ 0x37, 0xed ^ 0xfa]);
    }

    #[test]
    fn frames_are_read_from_any_pieces() {
        let mut bytes = unmasked(TEXT, b"abc");
        bytes.extend([0x82, 126, 1, 0]);
        bytes.extend([7; 256]);
        bytes.extend(unmasked(0x8a, b""));
        for piece in [1, 3, 1000] {
            let (mut reader, mut seen) = (Reader::default(), Vec::new());
            for part in bytes.chunks(piece) {
                reader.take(part, |frame| seen.push(frame)).unwrap();
            }
            let short: Vec<_> = seen.iter().map(|frame| (frame.opcode(), frame.len)).collect();
            assert_eq!(short, [(1, 3), (2, 256), (10, 0)]);
            assert_eq!(seen[0].start, b"abc");
            assert!(seen[0].ends_message() && !seen[2].ends_message());
        }
    }

    #[test]
    fn a_payload_of_any_length_keeps_little() {
        let mut reader = Reader::default();
        reader.take(&[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], |_| panic!()).unwrap();
        for _ in 0..100 {
            reader.take(&vec![0; 65536], |_| panic!()).unwrap();
        }
        assert_eq!(reader.current.unwrap().0.start.len(), KEPT);
    }

    #[test]
    fn any_bytes_are_read_alike_in_any_pieces() {
        let mut state = 1_u64;
        for _ in 0..2000 {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Small numbers make frames of small lengths likely.
                (state >> 60) as u8 | ((state >> 32) as u8 & 0x80)
            };
            let bytes: Vec<u8> = (0..40).map(next).collect();
            let read = |piece: usize| {
                let (mut reader, mut seen) = (Reader::default(), Vec::new());
                let result = bytes.chunks(piece).try_for_each(|part| reader.take(part, |frame| seen.push(frame)));
                (seen, result)
            };
            assert_eq!(read(40), read(1));
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        assert!(Reader::default().take(&[0x81, 0x80], |_| ()).is_err());
        assert!(Reader::default().take(&[0x83, 0], |_| ()).is_err());
    }
}
