//! What a peer sends once nothing of it is processed: skipped frame by frame, kept nowhere, only to find the close frame
//! that ends it.
//!
//! It is not strict, because the strict decoder may just have refused the frame that it starts with: a length says where a
//! frame ends, whatever else is wrong with it.

use super::frame::{MAX_HEADER, Opcode};

/// A reader that looks for one thing: the peer's close frame.
#[derive(Debug, Default)]
pub struct Skim {
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// Payload bytes of the frame that is being skipped.
    remaining: u64,
    in_close: bool,
    /// A length that cannot be followed: where the next frame begins is unknown.
    is_lost: bool,
}

impl Skim {
    /// Goes on where a decoder stopped: in a frame (a close frame?) of which `remaining` bytes are to come, or in a header.
    pub(super) fn starting(header: &[u8], remaining: u64, in_close: bool) -> Self {
        let mut skim = Self { header_len: header.len(), remaining, in_close, ..Self::default() };
        skim.header[..header.len()].copy_from_slice(header);
        skim
    }

    /// Skips `input`; whether a close frame ended in it.
    pub fn finds_close(&mut self, mut input: &[u8]) -> bool {
        while !self.is_lost && !input.is_empty() {
            if self.remaining == 0 {
                let (&first, rest) = (&input[0], &input[1..]);
                self.header[self.header_len] = first;
                self.header_len += 1;
                input = rest;
                if !self.ends_header() {
                    continue;
                }
            }
            let skipped = self.remaining.min(input.len() as u64);
            self.remaining -= skipped;
            input = &input[skipped as usize..];
            if self.in_close && self.remaining == 0 {
                return true;
            }
        }
        false
    }

    /// Whether the header is whole; then it is taken.
    fn ends_header(&mut self) -> bool {
        let header = &self.header[..self.header_len];
        let [first, second, rest @ ..] = header else { return false };
        let (length, extended): (u64, usize) = match second & 0x7f {
            126 => (big_endian(rest, 2), 2),
            127 => (big_endian(rest, 8), 8),
            short => (short.into(), 0),
        };
        let masked = second & 0x80 != 0;
        if rest.len() < extended + if masked { 4 } else { 0 } {
            return false;
        }
        self.is_lost = length >> 63 != 0;
        // One that is too long is refused, but whoever sent it has said goodbye and waits for our end (section 7.1.1).
        self.in_close = *first == 0x80 | Opcode::Close as u8 && masked;
        self.remaining = length;
        self.header_len = 0;
        true
    }
}

/// The number in the first `len` bytes; 0 while they are not all there.
fn big_endian(bytes: &[u8], len: usize) -> u64 {
    bytes.get(..len).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Whether `input` is exactly one close frame of a client: what a peer sends that answers a close frame, where the
/// framing before it is broken and nothing else could be found.
pub fn is_one_close_frame(input: &[u8]) -> bool {
    matches!(input, [0x88, short @ 0x80..=0xfd, rest @ ..] if rest.len() == 4 + usize::from(short & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOSE: [u8; 8] = [0x88, 0x82, 1, 2, 3, 4, 2, 0xea];

    /// Whether the close frame is found, and in which byte.
    fn found_at(skim: &mut Skim, stream: &[u8], piece: usize) -> Option<usize> {
        let mut at = 0;
        for chunk in stream.chunks(piece) {
            at += chunk.len();
            if skim.finds_close(chunk) {
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn a_close_frame_that_is_too_long_is_a_goodbye() {
        let stream = [&[0x88, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
        for piece in [1, 7, stream.len()] {
            assert!(found_at(&mut Skim::default(), &stream, piece).is_some_and(|at| at + piece > stream.len()));
        }
    }

    #[test]
    fn frames_that_break_rules_are_skipped_by_their_length() {
        let broken: [&[u8]; 7] = [
            &[0xc1, 0x81, 0, 0, 0, 0, b'x'],
            &[0x83, 0x80, 0, 0, 0, 0],
            &[0x81, 0x01, b'x'],
            &[0x09, 0x81, 0, 0, 0, 0, b'x'],
            &[0x89, 0xfe, 0, 3, 0, 0, 0, 0, 1, 2, 3],
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 9, 9, 9, 9, 1, 2],
            &[0x88, 0x02, 3, 0xe8],
        ];
        for frame in broken {
            let stream = [frame, &CLOSE].concat();
            for piece in 1..=stream.len() {
                let found = found_at(&mut Skim::default(), &stream, piece);
                assert!(found.is_some_and(|at| at + piece > stream.len()), "{frame:x?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn it_goes_on_where_the_decoder_stopped() {
        let stream = [b"\x00\x00\x00\x00xyz".as_slice(), &CLOSE].concat();
        assert!(Skim::starting(&[0x81, 0x83], 0, false).finds_close(&stream));
        let stream = [b"xyz".as_slice(), &CLOSE].concat();
        assert!(Skim::starting(&[], 3, false).finds_close(&stream));
        assert!(!Skim::starting(&[], 4, false).finds_close(&stream));
        assert!(Skim::starting(&[], 1, true).finds_close(&CLOSE[7..]));
    }

    #[test]
    fn a_length_that_cannot_be_followed_is_not() {
        let mut skim = Skim::default();
        assert!(!skim.finds_close(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
        assert!(!skim.finds_close(&CLOSE));
        assert!(is_one_close_frame(&CLOSE));
        assert!(!is_one_close_frame(&CLOSE[..7]));
        assert!(!is_one_close_frame(&[0x88, 0xfe, 0, 0]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_skipped_alike_however_they_are_split(
            stream in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..40,
        ) {
            let whole = (1..=stream.len()).find(|end| Skim::default().finds_close(&stream[..*end]));
            let cut = found_at(&mut Skim::default(), &stream, piece);
            prop_assert_eq!(whole.is_some(), cut.is_some());
            if let (Some(whole), Some(cut)) = (whole, cut) { prop_assert!(whole <= cut && cut < whole + piece); }
        }
    }
}
