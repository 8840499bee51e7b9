//! Which rule of framing was broken: what an application is told of it, and may tell apart.

use super::frame::{FrameError, Violation};

/// The rule of RFC 6455, or the limit of a message, that a frame broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameFault {
    /// A reserved opcode; a continuation with nothing to continue; a new message inside another (sections 5.2 and 5.4).
    InvalidOpcode,
    /// RSV1 without a negotiated extension (section 5.2), or where it has no meaning (RFC 7692 section 6).
    ReservedBits1,
    /// RSV2 or RSV3 (section 5.2).
    ReservedBits23,
    /// A fragmented control frame (section 5.5).
    ExpectedFin,
    /// A frame of a client without a mask (section 5.1).
    ExpectedMask,
    /// A control frame over 125 bytes (section 5.5).
    ControlTooLong,
    /// A close code that must not be sent (section 7.4).
    BadCloseCode,
    /// A text message or the reason of a close frame is not UTF-8 (section 8.1).
    BadUtf8,
    /// A close frame with one byte of payload (section 5.5.1).
    BadClosePayload,
    /// A 64-bit length with the top bit set (section 5.2).
    LengthTooLong,
    /// A length not in its shortest form (section 5.2).
    LengthNotMinimal,
    /// A message over `max_message_bytes`, inflated where it is compressed.
    MessageTooBig,
    /// A message of more than `max_fragments` frames.
    TooManyFragments,
    /// A compressed message that cannot be inflated (RFC 7692 section 7.2.2).
    BadCompression,
}

impl FrameFault {
    /// Its stable name, such as `"expected_mask"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FrameFault::InvalidOpcode => "invalid_opcode",
            FrameFault::ReservedBits1 => "reserved_bits_1",
            FrameFault::ReservedBits23 => "reserved_bits_2_3",
            FrameFault::ExpectedFin => "expected_fin",
            FrameFault::ExpectedMask => "expected_mask",
            FrameFault::ControlTooLong => "control_too_long",
            FrameFault::BadCloseCode => "bad_close_code",
            FrameFault::BadUtf8 => "bad_utf8",
            FrameFault::BadClosePayload => "bad_close_payload",
            FrameFault::LengthTooLong => "length_too_long",
            FrameFault::LengthNotMinimal => "length_not_minimal",
            FrameFault::MessageTooBig => "message_too_big",
            FrameFault::TooManyFragments => "too_many_fragments",
            FrameFault::BadCompression => "bad_compression",
        }
    }
}

impl Violation {
    /// The rule that is broken; `None`: a binary message is a matter of the protocol, not of framing.
    #[must_use]
    pub fn fault(self) -> Option<FrameFault> {
        Some(match self {
            Violation::Frame(error) => error.fault(),
            Violation::TooBig { .. } | Violation::TooBigCompressed { .. } | Violation::TooBigInflated { .. } => {
                FrameFault::MessageTooBig
            }
            Violation::Compression(_) => FrameFault::BadCompression,
            Violation::TooManyFragments { .. } => FrameFault::TooManyFragments,
            Violation::TextNotUtf8 | Violation::ReasonNotUtf8 => FrameFault::BadUtf8,
            Violation::Binary => return None,
        })
    }

    /// What of the frame broke the rule, where that is a number: the opcode, the length of a control frame as its second byte
    /// has it, the close code. It is never of a message.
    #[must_use]
    pub fn fault_value(self) -> Option<u16> {
        match self {
            Violation::Frame(error) => error.value(),
            _ => None,
        }
    }
}

impl FrameError {
    fn value(self) -> Option<u16> {
        Some(match self {
            FrameError::ReservedOpcode(opcode) | FrameError::MessageInsideMessage(opcode) => opcode.into(),
            FrameError::NothingToContinue => 0,
            FrameError::ControlTooLong(length) => length.into(),
            FrameError::CloseTooShort => 1,
            FrameError::CloseCode(code) => code,
            _ => return None,
        })
    }

    fn fault(self) -> FrameFault {
        match self {
            FrameError::ReservedBits { first: true } => FrameFault::ReservedBits1,
            FrameError::ReservedBits { first: false } => FrameFault::ReservedBits23,
            FrameError::ReservedOpcode(_) | FrameError::NothingToContinue | FrameError::MessageInsideMessage(_) => {
                FrameFault::InvalidOpcode
            }
            FrameError::Unmasked => FrameFault::ExpectedMask,
            FrameError::FragmentedControl => FrameFault::ExpectedFin,
            FrameError::ControlTooLong(_) => FrameFault::ControlTooLong,
            FrameError::LengthNotMinimal => FrameFault::LengthNotMinimal,
            FrameError::LengthTopBit => FrameFault::LengthTooLong,
            FrameError::CloseTooShort => FrameFault::BadClosePayload,
            FrameError::CloseCode(_) => FrameFault::BadCloseCode,
        }
    }
}
