//! Frames of the server: unmasked, unfragmented, in the shortest length form.

use super::frame::Opcode;

/// The most bytes that a control frame may carry (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// An empty ping.
pub const PING_FRAME: [u8; 2] = [0x80 | Opcode::Ping as u8, 0];

/// Header bytes of a server frame with `len` bytes of payload.
pub const fn frame_overhead(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends the header of a data frame with `len` bytes of payload.
pub fn data_header(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    header(out, 0x80 | opcode as u8, len);
}

/// Appends the header of a frame that begins with this byte.
#[inline]
pub(crate) fn header(out: &mut Vec<u8>, first: u8, len: usize) {
    match len {
        0..=125 => out.extend_from_slice(&[first, len as u8]),
        _ => long_header(out, first, len),
    }
}

/// As [`header`], for more than one byte holds: apart from it, so that the short one is inlined.
#[inline(never)]
fn long_header(out: &mut Vec<u8>, first: u8, len: usize) {
    if let Ok(len) = u16::try_from(len) {
        let [high, low] = len.to_be_bytes();
        out.extend_from_slice(&[first, 126, high, low]);
    } else {
        out.extend_from_slice(&[first, 127]);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// Appends a whole data frame.
pub fn data_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    fragment_frame(out, 0x80 | opcode as u8, payload);
}

/// Appends a whole frame of a message in fragments, whose first byte says which.
pub fn fragment_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.reserve(payload.len() + 10);
    header(out, first, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a ping with a payload of at most 125 bytes.
pub fn ping_frame(out: &mut Vec<u8>, payload: &[u8]) {
    data_frame(out, Opcode::Ping, payload);
}

/// Appends a pong that answers a ping of at most 125 bytes.
pub fn pong_frame(out: &mut Vec<u8>, payload: &[u8]) {
    data_frame(out, Opcode::Pong, payload);
}

/// Appends a close frame; the reason is cut to 123 bytes at a character's edge.
pub fn close_frame(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return data_header(out, Opcode::Close, 0) };
    let reason = &reason[..reason.floor_char_boundary(123)];
    data_header(out, Opcode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_lengths() {
        for len in [0usize, 1, 125, 126, 0xffff, 0x1_0000] {
            let mut out = Vec::new();
            data_frame(&mut out, Opcode::Binary, &vec![7; len]);
            assert_eq!(out.len(), frame_overhead(len) + len);
            assert_eq!(out[0], 0x82);
        }
    }

    #[test]
    fn reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        close_frame(&mut out, Some(1008), &"é".repeat(100));
        assert_eq!(out[1], 2 + 122);
        assert!(core::str::from_utf8(&out[4..]).is_ok());
    }
}
