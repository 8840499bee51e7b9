//! Frames, as far as a generator needs them: a reader that skips payloads it need not see.

use anyhow::{Result, ensure};

use wsguard_test_support::deflate::{TAIL, inflate_after};
pub(super) use wsguard_test_support::frame::{BINARY, CLOSE, PING, PONG, TEXT, push};

const FIN: u8 = 0x80;
/// The bit of a compressed message.
pub(super) const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
/// Length codes for a length in the 16 or 64 bits that follow.
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

/// A frame that has come completely.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) len: u64,
    pub(super) compressed: bool,
}

/// Splits what a server sends into frames. Payloads are skipped, except those of control frames and, while `keep` is
/// set, of messages.
#[derive(Default)]
pub(super) struct FrameReader {
    /// Keep the payloads of messages, too.
    pub(super) keep: bool,
    /// Messages may come compressed.
    pub(super) may_be_compressed: bool,
    /// The payload of the last frame, if it was to be kept.
    pub(super) kept: Vec<u8>,
    /// What compressed messages were inflated to: the context that a server may take over.
    inflated: Vec<u8>,
    header: [u8; 10],
    header_len: usize,
    missing: u64,
}

impl FrameReader {
    /// A reader that keeps the payloads of messages, too, for now.
    pub(super) fn keeping() -> Self {
        Self { keep: true, ..Self::default() }
    }

    /// The next complete frame; takes what it has read off the front of `input`.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>> {
        if self.missing == 0 && !self.read_header(input)? {
            return Ok(None);
        }
        let here = self.missing.min(input.len() as u64) as usize;
        let (payload, rest) = input.split_at(here);
        if self.keep || self.opcode() >= CLOSE {
            self.kept.extend_from_slice(payload);
        }
        *input = rest;
        self.missing -= here as u64;
        if self.missing > 0 {
            return Ok(None);
        }
        self.header_len = 0;
        Ok(Some(Frame { opcode: self.opcode(), len: self.payload_len(), compressed: self.header[0] & RSV1 != 0 }))
    }

    /// The message that was kept, inflated. All messages up to it must have been read so: it may refer to them.
    pub(super) fn message(&mut self) -> Result<&[u8]> {
        if self.header[0] & RSV1 == 0 {
            return Ok(&self.kept);
        }
        let inflated = inflate_after(self.inflated.clone(), &[&self.kept[..], &TAIL].concat())?;
        let before = self.inflated.len();
        self.inflated.extend(inflated.bytes);
        Ok(&self.inflated[before..])
    }

    /// No further message will be read.
    pub(super) fn forget(&mut self) {
        self.inflated = Vec::new();
    }

    /// The code and the reason of the close frame that was kept.
    pub(super) fn close_in_words(&self) -> String {
        let (code, reason) = self.kept.split_at(self.kept.len().min(2));
        let code = <[u8; 2]>::try_from(code).map(u16::from_be_bytes);
        format!("{} {:?}", code.unwrap_or(1005), String::from_utf8_lossy(reason))
    }

    /// Whether the header is complete now; then `missing` and `kept` are set for its payload.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool> {
        while self.header_len < self.header_size() {
            let wanted = self.header_size() - self.header_len;
            let (bytes, rest) = input.split_at(wanted.min(input.len()));
            if bytes.is_empty() {
                return Ok(false);
            }
            self.header[self.header_len..][..bytes.len()].copy_from_slice(bytes);
            self.header_len += bytes.len();
            *input = rest;
        }
        let allowed = if self.may_be_compressed { RSV1 } else { 0 };
        ensure!(
            self.header[0] & 0xF0 & !allowed == FIN,
            "the server sent a fragment or reserved bits: {:#04x}",
            self.header[0]
        );
        ensure!(self.header[1] & MASKED == 0, "the server sent a masked frame");
        self.missing = self.payload_len();
        self.kept.clear();
        Ok(true)
    }

    fn header_size(&self) -> usize {
        match self.header[1] {
            _ if self.header_len < 2 => 2,
            LEN_16 => 4,
            LEN_64 => 10,
            _ => 2,
        }
    }

    fn payload_len(&self) -> u64 {
        let h = &self.header;
        match h[1] {
            LEN_16 => u64::from(u16::from_be_bytes([h[2], h[3]])),
            LEN_64 => u64::from_be_bytes([h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9]]),
            short => u64::from(short),
        }
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 0x0F
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        wsguard_test_support::frame::Frame::whole(opcode, payload).as_sent()
    }

    fn plain(opcode: u8, len: u64) -> Frame {
        Frame { opcode, len, compressed: false }
    }

    fn read_in_pieces(bytes: &[u8], piece: usize, reader: &mut FrameReader) -> Vec<Frame> {
        let mut frames = Vec::new();
        for mut input in bytes.chunks(piece) {
            while let Some(frame) = reader.next(&mut input).unwrap() {
                frames.push(frame);
            }
            assert!(input.is_empty());
        }
        frames
    }

    #[test]
    fn every_length_form_in_pieces_of_any_size() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = [unmasked(BINARY, &vec![7; len]), unmasked(TEXT, b"end")].concat();
            for piece in [1, 2, 3, 11, bytes.len()] {
                let mut reader = FrameReader::keeping();
                let frames = read_in_pieces(&bytes, piece, &mut reader);
                assert_eq!(
                    frames,
                    [plain(BINARY, len as u64), plain(TEXT, 3)],
                    "payload of {len} in pieces of {piece}"
                );
                assert_eq!(reader.kept, b"end");
            }
        }
    }

    #[test]
    fn control_payloads_are_kept_always() {
        let mut reader = FrameReader::default();
        let frames = read_in_pieces(&unmasked(PING, b"beat"), 3, &mut reader);
        assert_eq!(frames, [plain(PING, 4)]);
        assert_eq!(reader.kept, b"beat");
    }

    #[test]
    fn a_compressed_message_is_inflated_where_it_may_come() {
        let hello = [0xC1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert!(FrameReader::default().next(&mut &hello[..]).is_err());
        let mut reader = FrameReader { may_be_compressed: true, ..FrameReader::keeping() };
        assert!(reader.next(&mut &hello[..]).unwrap().unwrap().compressed);
        assert_eq!(reader.message().unwrap(), b"Hello");
    }

    #[test]
    fn a_fragment_is_an_error() {
        assert!(FrameReader::default().next(&mut &[BINARY, 0][..]).is_err());
    }
}
