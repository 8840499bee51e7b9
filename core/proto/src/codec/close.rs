//! Close frames (RFC 6455 sections 5.5.1 and 7.4).

use super::frame::{FrameError, Violation};

/// What is told in place of the code of an empty close frame (section 7.1.5).
pub const NO_CODE: u16 = 1005;

/// A peer's close frame.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CloseFrame {
    /// The close code; `None` when the frame was empty (reported as 1005).
    pub code: Option<u16>,
    /// The reason, at most 123 bytes of UTF-8.
    pub reason: String,
}

/// Whether an endpoint may send this close code (section 7.4).
///
/// 1005, 1006 and 1015 describe what was *not* sent; 1004 and 1016 to 2999 are reserved; below 1000 and from 5000 on
/// nothing is defined. 1012 to 1014 are registered with IANA and allowed.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl CloseFrame {
    /// Parses the unmasked payload of a close frame.
    pub fn parse(payload: &[u8]) -> Result<CloseFrame, Violation> {
        match payload {
            [] => Ok(CloseFrame::default()),
            [_] => Err(FrameError::CloseTooShort.into()),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !is_sendable(code) {
                    return Err(FrameError::CloseCode(code).into());
                }
                let reason = core::str::from_utf8(reason).map_err(|_| Violation::ReasonNotUtf8)?;
                Ok(CloseFrame { code: Some(code), reason: reason.to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_codes() {
        for code in (0..1000).chain(1004..=1006).chain(1015..3000).chain(5000..=u16::MAX) {
            assert!(!is_sendable(code), "{code}");
            let payload = code.to_be_bytes();
            assert_eq!(CloseFrame::parse(&payload), Err(FrameError::CloseCode(code).into()));
        }
        for code in (1000..=1003).chain(1007..=1014).chain(3000..=4999) {
            assert!(is_sendable(code), "{code}");
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(CloseFrame::parse(b""), Ok(CloseFrame::default()));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(FrameError::CloseTooShort.into()));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xff"), Err(Violation::ReasonNotUtf8));
        let bye = CloseFrame { code: Some(1000), reason: "bye".into() };
        assert_eq!(CloseFrame::parse(b"\x03\xe8bye"), Ok(bye));
    }
}
