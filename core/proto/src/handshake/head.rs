//! Finds the end of a request head as it arrives, byte by byte once, and refuses what no head may hold.

use super::Refusal;
use crate::verdict::Code;

/// Headers of one request.
pub const MAX_HEADERS: usize = 100;
/// Bytes of a request target; over it 414.
pub(super) const MAX_TARGET_BYTES: usize = 8192;

/// Where in a line the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Place {
    #[default]
    LineStart,
    InLine,
    /// After CR: only LF may follow.
    AfterCr,
}

/// The progress of one head. Linear: a byte is looked at once, however the head is cut into pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
    lines: usize,
    line_start: usize,
    place: Place,
}

/// What a request line holds beside its target: method, two spaces, version.
const REQUEST_LINE_REST: usize = 64;

impl HeadScanner {
    /// Scans what is new in `bytes`, everything received so far; returns the head's length once it is whole.
    pub fn scan(&mut self, bytes: &[u8], max_head_bytes: usize) -> Result<Option<usize>, Refusal> {
        let end = bytes.len().min(max_head_bytes);
        for (at, &byte) in bytes.iter().enumerate().take(end).skip(self.scanned) {
            if self.step(at, byte)? {
                return Ok(Some(at + 1));
            }
        }
        self.scanned = end;
        if end == max_head_bytes {
            let detail = format!("request head over max_head_bytes ({max_head_bytes})");
            return Err(Refusal::new(Code::HeadTooLarge, detail));
        }
        Ok(None)
    }

    /// One byte; `true`: it ends the head.
    fn step(&mut self, at: usize, byte: u8) -> Result<bool, Refusal> {
        match (self.place, byte) {
            _ if self.lines == 0 && at > MAX_TARGET_BYTES + REQUEST_LINE_REST => return Err(target_too_long()),
            (Place::AfterCr, b'\n') => return self.end_line(at),
            (Place::AfterCr, _) => return Err(Refusal::malformed("CR without LF in the request head")),
            (_, b'\n') => return Err(Refusal::malformed("bare LF in the request head")),
            (_, b'\r') => self.place = Place::AfterCr,
            (Place::LineStart, b' ' | b'\t') => {
                return Err(Refusal::malformed("folded or indented line in the request head"));
            }
            (_, 128..) if self.lines == 0 => {
                return Err(Refusal::malformed("request line is not ASCII"));
            }
            // How a record of a TLS handshake begins: browsers try `https` first.
            (_, 0x16) if at == 0 => return Err(Refusal::malformed("TLS on a port of plain text")),
            (_, 0..=8 | 11..=31 | 127) => return Err(Refusal::malformed("control character in the request head")),
            _ => self.place = Place::InLine,
        }
        Ok(false)
    }

    fn end_line(&mut self, at: usize) -> Result<bool, Refusal> {
        let empty = at - self.line_start == 1;
        self.place = Place::LineStart;
        self.line_start = at + 1;
        if empty && self.lines == 0 {
            return Err(Refusal::malformed("empty line before the request line"));
        }
        if empty {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > MAX_HEADERS + 1 {
            return Err(Refusal::new(Code::HeadTooLarge, format!("more than {MAX_HEADERS} headers")));
        }
        Ok(false)
    }
}

pub(super) fn target_too_long() -> Refusal {
    Refusal::new(Code::HeadTooLarge, format!("request target over {MAX_TARGET_BYTES} bytes")).with_status(414)
}
