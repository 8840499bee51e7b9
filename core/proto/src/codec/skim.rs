//! What a peer sends once nothing of it is processed: skipped frame by frame, kept nowhere, only to find the close frame
//! that ends it.
//!
//! It is not strict, because the strict decoder may just have refused the frame that it starts with: a length says where a
//! frame ends, whatever else is wrong with it.

use super::close::CloseFrame;
use super::encode::MAX_CONTROL_PAYLOAD;
use super::frame::{MAX_HEADER, Opcode};
use super::mask::{rotate, unmask};

/// A reader that looks for one thing: the peer's close frame.
#[derive(Debug, Default)]
pub struct Skim {
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// Payload bytes of the frame that is being skipped.
    remaining: u64,
    in_close: bool,
    /// Of the frame that is being skipped, rotated to its next byte.
    mask: [u8; 4],
    /// The payload of the close frame, as far as it came: a longer one than a control frame may have is none.
    close: Vec<u8>,
    /// A length that cannot be followed: where the next frame begins is unknown.
    is_lost: bool,
}

impl Skim {
    /// Goes on where a decoder stopped in a header.
    pub(super) fn in_header(header: &[u8]) -> Self {
        let mut skim = Self { header_len: header.len(), ..Self::default() };
        skim.header[..header.len()].copy_from_slice(header);
        skim
    }

    /// Goes on where a decoder stopped in a frame, of which `remaining` bytes are to come.
    pub(super) fn in_frame(remaining: u64) -> Self {
        Self { remaining, ..Self::default() }
    }

    /// Goes on where a decoder stopped in a close frame, of which it has `close`.
    pub(super) fn in_close(remaining: u64, mask: [u8; 4], close: &[u8]) -> Self {
        Self { remaining, in_close: true, mask, close: close.to_vec(), ..Self::default() }
    }

    /// The close frame that was found, if it is one that an endpoint may send.
    pub fn take_close(&mut self) -> Option<CloseFrame> {
        let payload = core::mem::take(&mut self.close);
        if payload.len() > MAX_CONTROL_PAYLOAD { None } else { CloseFrame::parse(&payload).ok() }
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
            let skipped = self.remaining.min(input.len() as u64) as usize;
            self.keep_close(&input[..skipped]);
            self.remaining -= skipped as u64;
            input = &input[skipped..];
            if self.in_close && self.remaining == 0 {
                return true;
            }
        }
        false
    }

    fn keep_close(&mut self, payload: &[u8]) {
        if self.in_close {
            let start = self.close.len();
            let most = MAX_CONTROL_PAYLOAD + 1 - start;
            self.close.extend_from_slice(&payload[..payload.len().min(most)]);
            unmask(&mut self.close[start..], self.mask);
            self.mask = rotate(self.mask, payload.len());
        }
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
        if self.in_close {
            self.close.clear();
            self.mask = rest[extended..].first_chunk().copied().unwrap_or_default();
        }
        self.header_len = 0;
        true
    }
}

/// The number in the first `len` bytes; 0 while they are not all there.
fn big_endian(bytes: &[u8], len: usize) -> u64 {
    bytes.get(..len).map_or(0, |bytes| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The payload of a close frame of a client where `input` is exactly one, unmasked: what a peer sends that answers a close
/// frame, where the framing before it is broken and nothing else could be found.
pub fn lone_close_frame(input: &[u8]) -> Option<Vec<u8>> {
    let [0x88, short @ 0x80..=0xfd, rest @ ..] = input else { return None };
    let (mask, payload) = rest.split_first_chunk()?;
    let mut payload = (payload.len() == usize::from(short & 0x7f)).then(|| payload.to_vec())?;
    unmask(&mut payload, *mask);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOSE: [u8; 8] = [0x88, 0x82, 1, 2, 3, 4, 2, 0xea];

    /// What a whole frame said that was found in pieces.
    #[test]
    fn what_a_close_frame_says_is_kept_however_it_comes() {
        let payload: Vec<u8> = [&4001u16.to_be_bytes()[..], "tschüs".as_bytes()].concat();
        let masked = payload.iter().zip([7u8, 200, 31, 4].iter().cycle()).map(|(byte, key)| byte ^ key);
        let mut stream = vec![0x81, 0x81, 0, 0, 0, 0, b'x', 0x88, 0x80 | payload.len() as u8, 7, 200, 31, 4];
        stream.extend(masked);
        for piece in 1..=stream.len() {
            let mut skim = Skim::default();
            assert!(found_at(&mut skim, &stream, piece).is_some());
            let close = skim.take_close().unwrap();
            assert_eq!((close.code, &*close.reason), (Some(4001), "tschüs"), "pieces of {piece}");
        }
        for (payload, said) in
            [(&[0x88, 0x80, 1, 2, 3, 4][..], Some(CloseFrame::default())), (&[0x88, 0x81, 0, 0, 0, 0, 3], None)]
        {
            let mut skim = Skim::default();
            assert!(skim.finds_close(payload));
            assert_eq!(skim.take_close(), said);
        }
    }

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
            let mut skim = Skim::default();
            assert!(found_at(&mut skim, &stream, piece).is_some_and(|at| at + piece > stream.len()));
            assert_eq!(skim.take_close(), None, "and says nothing");
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
        assert!(Skim::in_header(&[0x81, 0x83]).finds_close(&stream));
        let stream = [b"xyz".as_slice(), &CLOSE].concat();
        assert!(Skim::in_frame(3).finds_close(&stream));
        assert!(!Skim::in_frame(4).finds_close(&stream));
        let mut in_close = Skim::in_close(1, [2, 3, 4, 1], &[3]);
        assert!(in_close.finds_close(&CLOSE[7..]));
        assert_eq!(in_close.take_close().and_then(|close| close.code), Some(1000));
    }

    #[test]
    fn a_length_that_cannot_be_followed_is_not() {
        let mut skim = Skim::default();
        assert!(!skim.finds_close(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
        assert!(!skim.finds_close(&CLOSE));
        assert_eq!(lone_close_frame(&CLOSE), Some(vec![3, 0xe8]));
        assert_eq!(lone_close_frame(&[0x88, 0x80, 1, 2, 3, 4]), Some(Vec::new()));
        for other in [&CLOSE[..7], &[0x88, 0xfe, 0, 0], &[0x88, 0x80, 1], &[0x81, 0x80, 1, 2, 3, 4]] {
            assert_eq!(lone_close_frame(other), None, "{other:x?}");
        }
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
