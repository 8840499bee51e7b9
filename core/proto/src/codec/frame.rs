//! The frame header (RFC 6455 section 5.2): strict, and refused from as few bytes as the fault needs.

use core::fmt;

use crate::verdict::Code;

/// The opcodes of RFC 6455 section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// Closing handshake.
    Close = 8,
    /// Ping.
    Ping = 9,
    /// Pong.
    Pong = 10,
}

impl Opcode {
    /// Close, ping or pong.
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// What is wrong with a frame, precisely enough for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// An RSV bit without a negotiated extension.
    ReservedBits {
        /// RSV1 alone.
        first: bool,
    },
    /// Opcodes 3 to 7 and 11 to 15.
    ReservedOpcode(u8),
    /// A client frame without a mask (section 5.1).
    Unmasked,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame over 125 bytes (section 5.5): the seven bits of its length.
    ControlTooLong(u8),
    /// A length not in its shortest form (section 5.2).
    LengthNotMinimal,
    /// A 64-bit length with the top bit set (section 5.2).
    LengthTopBit,
    /// A continuation with nothing to continue (section 5.4).
    NothingToContinue,
    /// A new message, of this opcode, inside another (section 5.4).
    MessageInsideMessage(u8),
    /// A close payload of one byte (section 5.5.1).
    CloseTooShort,
    /// A close code that must not be sent (section 7.4).
    CloseCode(u16),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::ReservedBits { .. } => "reserved bits set",
            FrameError::ReservedOpcode(opcode) => return write!(f, "reserved opcode {opcode}"),
            FrameError::Unmasked => "frame not masked",
            FrameError::FragmentedControl => "fragmented control frame",
            FrameError::ControlTooLong(_) => "control frame over 125 bytes",
            FrameError::LengthNotMinimal => "length not in its shortest form",
            FrameError::LengthTopBit => "64-bit length with the top bit set",
            FrameError::NothingToContinue => "continuation with nothing to continue",
            FrameError::MessageInsideMessage(_) => "new message inside another",
            FrameError::CloseTooShort => "close payload of one byte",
            FrameError::CloseCode(code) => return write!(f, "close code {code}, which must not be sent"),
        })
    }
}

/// What is wrong with the data of a compressed message (RFC 7692 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionFault {
    /// It is no deflate stream (RFC 1951).
    Invalid,
    /// It ends inside a block.
    Truncated,
    /// Something stands behind its final block that is more than one empty block.
    Trailing,
    /// It has more blocks than any sender needs for so few bytes: to read them would cost more than the message.
    TooManyBlocks,
}

/// What a peer did against the framing or the limits of a message, precisely enough for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// RFC 6455 section 5 is broken.
    Frame(FrameError),
    /// A message is over `max_message_bytes`.
    TooBig {
        /// What its headers announced so far.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A message has one fragment more than `max_fragments`.
    TooManyFragments {
        /// The limit.
        limit: u32,
    },
    /// A compressed message is longer than any that inflates to `max_message_bytes`.
    TooBigCompressed {
        /// What its headers announced so far.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A compressed message inflates to more than `max_message_bytes`.
    TooBigInflated {
        /// The limit.
        limit: u64,
    },
    /// A compressed message cannot be inflated.
    Compression(CompressionFault),
    /// A binary message where only text is welcome.
    Binary,
    /// A text message is not UTF-8.
    TextNotUtf8,
    /// The reason in a close frame is not UTF-8.
    ReasonNotUtf8,
}

impl Violation {
    /// The verdict.
    pub fn code(self) -> Code {
        match self {
            Violation::Frame(_) => Code::BadFrame,
            Violation::TooBig { .. } | Violation::TooBigCompressed { .. } | Violation::TooBigInflated { .. } => {
                Code::MessageTooBig
            }
            Violation::Compression(_) => Code::BadCompression,
            Violation::TooManyFragments { .. } => Code::TooManyFragments,
            Violation::Binary => Code::UnexpectedBinary,
            Violation::TextNotUtf8 | Violation::ReasonNotUtf8 => Code::BadUtf8,
        }
    }

    /// The rule of RFC 6455 section 5 that is broken, if one is.
    pub fn frame(self) -> Option<FrameError> {
        if let Violation::Frame(error) = self { Some(error) } else { None }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Frame(error) => error.fmt(f),
            Violation::TooBig { bytes, limit } => {
                write!(f, "a message of {bytes} bytes at least is over max_message_bytes ({limit})")
            }
            Violation::TooBigCompressed { bytes, limit } => {
                write!(f, "a compressed message of {bytes} bytes at least is over any of max_message_bytes ({limit})")
            }
            Violation::TooBigInflated { limit } => {
                write!(f, "a compressed message inflates to more than max_message_bytes ({limit})")
            }
            Violation::Compression(CompressionFault::Invalid) => f.write_str("a compressed message is corrupt"),
            Violation::Compression(CompressionFault::Truncated) => {
                f.write_str("a compressed message ends inside a block")
            }
            Violation::Compression(CompressionFault::Trailing) => {
                f.write_str("a compressed message goes on behind its final block")
            }
            Violation::Compression(CompressionFault::TooManyBlocks) => {
                f.write_str("a compressed message has far more blocks than its length needs")
            }
            Violation::TooManyFragments { limit } => {
                write!(f, "a message of {} fragments at least is over max_fragments ({limit})", u64::from(*limit) + 1)
            }
            Violation::Binary => f.write_str("a binary message, and protocol is json"),
            Violation::TextNotUtf8 => f.write_str("a text message is not UTF-8"),
            Violation::ReasonNotUtf8 => f.write_str("the reason of a close frame is not UTF-8"),
        }
    }
}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        Violation::Frame(error)
    }
}

/// How large a message may be, and what is known of it before this header.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Payload bytes of a message; inflated, where it is compressed.
    pub limit: u64,
    /// Those that are announced already.
    pub claimed: u64,
    /// Frames that it has already.
    pub frames: u32,
    /// permessage-deflate was agreed on: a message may begin with RSV1.
    pub has_deflate: bool,
    /// The message that is open is compressed.
    pub is_compressed: bool,
}

// THREATS D6.
/// The longest that an honest sender makes a message of `limit` bytes by compressing it into `frames` frames: all of it in codes
/// of nine bits, and an empty block at the end of each frame.
fn honest_bound(limit: u64, frames: u32) -> u64 {
    limit.saturating_add(limit / 8).saturating_add(64 + 8 * u64::from(frames))
}

/// A complete client frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Payload bytes that follow.
    pub payload_len: u64,
    /// RSV1: the first frame of a compressed message.
    pub rsv1: bool,
    /// The masking key.
    pub mask: [u8; 4],
    /// Bytes of the header itself.
    pub header_len: usize,
}

/// The longest client header: two bytes, eight of length, four of mask.
pub(super) const MAX_HEADER: usize = 14;

impl Header {
    /// Parses a client header from the start of `bytes`; `None`: more bytes are needed.
    ///
    /// `in_message` says whether a fragmented message is open; a data frame may bring as much payload as there is `room`.
    /// Each fault is found as soon as its byte is there, a length over `room` before the mask.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    pub fn parse(bytes: &[u8], in_message: bool, room: Room) -> Result<Option<Header>, Violation> {
        let Some((fin, opcode, rsv1)) = first_byte(bytes, in_message, room.has_deflate)? else { return Ok(None) };
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked.into());
        }
        let short = second & 0x7f;
        if opcode.is_control() && short > 125 {
            return Err(FrameError::ControlTooLong(short).into());
        }
        let Some((payload_len, length_end)) = payload_len(bytes, short)? else { return Ok(None) };
        if !opcode.is_control() {
            room.check(payload_len, rsv1)?;
        }
        let Some(&mask) = bytes.get(length_end..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        Ok(Some(Header { fin, opcode, payload_len, rsv1, mask, header_len: length_end + 4 }))
    }
}

impl Room {
    /// Whether there is room for `payload_len` bytes more.
    fn check(self, payload_len: u64, rsv1: bool) -> Result<(), Violation> {
        let Room { limit, claimed, frames, is_compressed, .. } = self;
        let bytes = claimed.saturating_add(payload_len);
        match rsv1 || is_compressed {
            true if bytes > honest_bound(limit, frames) => Err(Violation::TooBigCompressed { bytes, limit }),
            false if bytes > limit => Err(Violation::TooBig { bytes, limit }),
            _ => Ok(()),
        }
    }
}

/// FIN, opcode and RSV1, checked against the message that is open and against what was agreed on.
fn first_byte(bytes: &[u8], in_message: bool, has_deflate: bool) -> Result<Option<(bool, Opcode, bool)>, FrameError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let reserved = first & 0x70;
    // THREATS D2. RFC 7692 section 6: RSV1 stands on the first frame of a message, and on no control frame.
    let rsv1 = reserved == 0x40;
    if reserved != 0 && !(rsv1 && has_deflate && matches!(first & 0x0f, 1 | 2)) {
        return Err(FrameError::ReservedBits { first: rsv1 });
    }
    let fin = first & 0x80 != 0;
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        reserved => return Err(FrameError::ReservedOpcode(reserved)),
    };
    match opcode {
        Opcode::Continuation if !in_message => return Err(FrameError::NothingToContinue),
        Opcode::Text | Opcode::Binary if in_message => return Err(FrameError::MessageInsideMessage(opcode as u8)),
        control if control.is_control() && !fin => return Err(FrameError::FragmentedControl),
        _ => {}
    }
    Ok(Some((fin, opcode, rsv1)))
}

/// The length and where the bytes after it begin.
fn payload_len(bytes: &[u8], short: u8) -> Result<Option<(u64, usize)>, FrameError> {
    match short {
        126 => {
            let Some(&length) = bytes[2..].first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(length);
            if length < 126 { Err(FrameError::LengthNotMinimal) } else { Ok(Some((u64::from(length), 4))) }
        }
        127 => {
            // The top bit is in the first of the eight bytes: no arithmetic on such a length, ever.
            if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {
                return Err(FrameError::LengthTopBit);
            }
            let Some(&length) = bytes[2..].first_chunk::<8>() else { return Ok(None) };
            let length = u64::from_be_bytes(length);
            if length <= 0xffff { Err(FrameError::LengthNotMinimal) } else { Ok(Some((length, 10))) }
        }
        short => Ok(Some((u64::from(short), 2))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Room = Room { limit: u64::MAX, claimed: 0, frames: 0, has_deflate: false, is_compressed: false };

    #[test]
    fn faults_are_found_from_the_first_bytes() {
        let cases: &[(&[u8], bool, FrameError)] = &[
            (&[0xc1], false, FrameError::ReservedBits { first: true }),
            (&[0xf1], false, FrameError::ReservedBits { first: false }),
            (&[0xa1], false, FrameError::ReservedBits { first: false }),
            (&[0x91], false, FrameError::ReservedBits { first: false }),
            (&[0x83], false, FrameError::ReservedOpcode(3)),
            (&[0x8b], false, FrameError::ReservedOpcode(11)),
            (&[0x80], false, FrameError::NothingToContinue),
            (&[0x81], true, FrameError::MessageInsideMessage(1)),
            (&[0x02], true, FrameError::MessageInsideMessage(2)),
            (&[0x09], false, FrameError::FragmentedControl),
            (&[0x81, 0x05], false, FrameError::Unmasked),
            (&[0x89, 0xfe], false, FrameError::ControlTooLong(126)),
            (&[0x88, 0xff], true, FrameError::ControlTooLong(127)),
            (&[0x82, 0xfe, 0, 125], false, FrameError::LengthNotMinimal),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], false, FrameError::LengthNotMinimal),
            (&[0x82, 0xff, 0x80], false, FrameError::LengthTopBit),
        ];
        for (bytes, in_message, error) in cases {
            assert_eq!(Header::parse(bytes, *in_message, ENOUGH), Err((*error).into()), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_over_the_room_is_refused_before_its_mask() {
        let room = |claimed| Room { limit: 1000, claimed, ..ENOUGH };
        let too_big = Err(Violation::TooBig { bytes: 1001, limit: 1000 });
        assert_eq!(Header::parse(&[0x82, 0xfe, 1, 0], false, room(745)), too_big);
        assert_eq!(Header::parse(&[0x82, 0xfe, 1, 0], false, room(744)), Ok(None));
    }

    #[test]
    fn lengths_in_each_form() {
        let header = |len: u64, bytes: &[u8]| {
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut], false, ENOUGH), Ok(None), "{cut} of {bytes:x?}");
            }
            let header = Header::parse(bytes, false, ENOUGH).unwrap().unwrap();
            assert_eq!((header.payload_len, header.header_len), (len, bytes.len()));
        };
        header(0, &[0x82, 0x80, 1, 2, 3, 4]);
        header(125, &[0x82, 0xfd, 1, 2, 3, 4]);
        header(126, &[0x82, 0xfe, 0, 126, 1, 2, 3, 4]);
        header(0xffff, &[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4]);
        header(0x1_0000, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]);
        header(u64::MAX >> 1, &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    }
}
