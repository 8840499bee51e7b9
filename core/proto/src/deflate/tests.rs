//! Against flate2's own deflate (`miniz_oxide`): what it compresses is inflated, and what it refuses is refused.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;
use crate::codec::CompressionFault;

/// How a sender puts a message together.
#[derive(Clone, Debug)]
struct Sender {
    /// None of 0: `miniz_oxide` loses bytes at the end of a long message there.
    level: u32,
    /// Lengths of the pieces, and how each is flushed.
    pieces: Vec<(usize, u8)>,
    is_final: bool,
    /// Behind a final block: the first byte of an empty one, as RFC 7692 section 7.2.3.4 has it.
    has_empty_block: bool,
}

fn sender() -> impl Strategy<Value = Sender> {
    let pieces = prop::collection::vec((0usize..3000, 0u8..4), 0..6);
    (1u32..=9, pieces, any::<bool>(), any::<bool>()).prop_map(|(level, pieces, is_final, has_empty_block)| Sender {
        level,
        pieces,
        is_final,
        has_empty_block,
    })
}

/// Compresses `data` as `sender` does.
fn deflated(data: &[u8], sender: &Sender) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(sender.level), false);
    let mut out = Vec::new();
    let mut rest = data;
    for (len, flush) in &sender.pieces {
        let (piece, behind) = rest.split_at(rest.len().min(*len));
        rest = behind;
        let flush = match flush {
            0 | 1 => FlushCompress::None,
            2 => FlushCompress::Sync,
            _ => FlushCompress::Full,
        };
        push(&mut compress, piece, flush, &mut out);
    }
    push(&mut compress, rest, if sender.is_final { FlushCompress::Finish } else { FlushCompress::Sync }, &mut out);
    if !sender.is_final {
        match out.strip_suffix(&[0, 0, 0xff, 0xff]) {
            Some(rest) => out.truncate(rest.len()),
            // Nothing was left to flush: an empty block follows, of which the lengths are left out.
            None => out.push(0),
        }
    } else if sender.has_empty_block {
        out.push(0);
    }
    out
}

fn push(compress: &mut Compress, mut piece: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    loop {
        out.reserve(1024);
        let (used, room) = (compress.total_in(), out.capacity() - out.len());
        let before = out.len();
        compress.compress_vec(piece, out, flush).unwrap();
        piece = &piece[(compress.total_in() - used) as usize..];
        if piece.is_empty() && out.len() - before < room {
            return;
        }
    }
}

fn in_one_frame(payload: &[u8]) -> Compressed<'_> {
    Compressed { payload, frames: 1 }
}

fn inflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
    let mut room = Vec::new();
    Inflater::default().inflate(in_one_frame(compressed), limit, &mut room).map(<[u8]>::to_vec)
}

/// Bytes that compress well, badly, or not at all.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..5000),
        prop::collection::vec(prop::sample::select(b"abc ".to_vec()), 0..5000),
        (any::<u8>(), 0usize..100_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #[test]
    fn what_another_deflate_makes_is_inflated(data in data(), sender in sender(), next in data()) {
        let compressed = deflated(&data, &sender);
        let (mut inflater, mut room) = (Inflater::default(), Vec::new());
        prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), data.len(), &mut room), Ok(&data[..]));
        if let Some(less) = data.len().checked_sub(1) {
            prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), less, &mut room), Err(Broken::TooBig));
            prop_assert_eq!(inflater.inflated_bytes(), data.len() as u64, "one byte over the limit, and no more");
        }
        // Nothing is left of the message before, whatever became of it.
        let _ = inflater.inflate(in_one_frame(&compressed[..compressed.len() / 2]), data.len(), &mut room);
        let compressed = deflated(&next, &sender);
        prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), 1 << 20, &mut room), Ok(&next[..]));
    }

    #[test]
    fn no_part_of_a_message_is_a_message(data in data(), sender in sender(), cut in any::<prop::sample::Index>()) {
        let compressed = deflated(&data, &sender);
        let cut = cut.index(compressed.len());
        // Where a sender has flushed, what came before is one: no more than the beginning is ever delivered.
        if let Ok(message) = inflate(&compressed[..cut], data.len()) {
            prop_assert!(data.starts_with(&message));
            if sender.pieces.iter().all(|(_, flush)| *flush < 2) && !sender.is_final && data.len() < 2000 {
                prop_assert!(message.is_empty() && data.is_empty(), "{} of {}", cut, compressed.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_message_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0usize..5000) {
        if let Ok(message) = inflate(&bytes, limit) {
            prop_assert!(message.len() <= limit);
        }
    }

    #[test]
    fn a_changed_message_is_refused_or_what_another_inflate_makes_of_it(
        data in data(), sender in sender(), at in any::<prop::sample::Index>(), change in 1u8..,
    ) {
        let mut compressed = deflated(&data, &sender);
        let at = at.index(compressed.len());
        compressed[at] ^= change;
        if let Ok(message) = inflate(&compressed, 1 << 20) {
            let mut other = Vec::with_capacity((1 << 20) + 64);
            let mut input = compressed.clone();
            input.extend_from_slice(&[0, 0, 0xff, 0xff]);
            flate2::Decompress::new(false).decompress_vec(&input, &mut other, flate2::FlushDecompress::Sync).unwrap();
            prop_assert_eq!(message, other);
        }
    }
}

/// RFC 7692 section 7.2.3.
#[test]
fn the_examples_of_the_rfc() {
    let hello = Ok(b"Hello".to_vec());
    assert_eq!(inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), hello);
    assert_eq!(
        inflate(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], 5),
        hello,
        "no compression"
    );
    assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], 5), hello, "a final block");
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflate(&two, 5), hello, "two blocks");
    assert_eq!(inflate(&[0x00], 0), Ok(Vec::new()), "an empty message");
}

#[test]
fn what_may_stand_at_the_end() {
    let is_final = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let with = |more: &[u8]| inflate(&[&is_final, more].concat(), 100);
    let trailing = Err(Broken::Corrupt(CompressionFault::Trailing));
    for good in [&[][..], &[0], &[0, 0, 0, 0xff, 0xff]] {
        assert_eq!(with(good), Ok(b"Hello".to_vec()), "{good:x?}");
    }
    let another: &[u8] = &is_final;
    for bad in [&[0, 0][..], &[1], &[0xff], &[0, 0, 0, 0xff, 0xff, 0], another] {
        assert_eq!(with(bad), trailing, "{bad:x?}");
    }
    // The empty block whose lengths are left out may be the final one.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07];
    assert_eq!(inflate(&[&[0x00, 0x05, 0x00, 0xfa, 0xff][..], b"Hello", &[1]].concat(), 100), Ok(b"Hello".to_vec()));
    let truncated = Err(Broken::Corrupt(CompressionFault::Truncated));
    assert!(matches!(inflate(&hello, 100), Err(Broken::Corrupt(_))));
    assert!(matches!(inflate(&[], 100), Err(Broken::Corrupt(_))), "nothing is no message");
    // A stored block that lacks four bytes would take what the sender has left out for them; one that lacks nine, all of ours.
    for missing in 1..=12u8 {
        let bytes = [0x00, missing, 0x00, !missing, 0xff];
        assert_eq!(inflate(&bytes, 100), truncated, "{missing}");
    }
}

#[test]
fn a_room_is_given_back_small() {
    let mut deflate = Deflate::default();
    let sender = Sender { level: 9, pieces: Vec::new(), is_final: false, has_empty_block: false };
    let bomb = deflated(&vec![0; 10_000_000], &sender);
    let mut room = deflate.take_room();
    assert_eq!(deflate.inflate(in_one_frame(&bomb), 10_000_000, &mut room).map(<[u8]>::len), Ok(10_000_000));
    deflate.put_room(room);
    assert!(deflate.room.capacity() <= KEPT_ROOM, "{}", deflate.room.capacity());
    // A bomb makes no more room than a message may have.
    let mut room = Vec::new();
    assert_eq!(deflate.inflate(in_one_frame(&bomb), 65_536, &mut room), Err(Broken::TooBig));
    assert_eq!(room.len(), 65_537);
    assert_eq!((deflate.messages_inflated, deflate.bytes_inflated), (1, 10_065_537));
}

/// Bits in the order of RFC 1951 section 3.1.1.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn put(&mut self, value: u32, bits: usize) {
        for at in 0..bits {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.len / 8] |= ((value >> at & 1) as u8) << (self.len % 8);
            self.len += 1;
        }
    }

    /// A Huffman code, which stands with its first bit first.
    fn code(&mut self, code: u32, bits: usize) {
        for at in (0..bits).rev() {
            self.put(code >> at, 1);
        }
    }

    /// An empty block that brings the shortest codes there are: one bit for a byte, and one for the end.
    fn empty_block_with_short_codes(&mut self) {
        self.put(0b100, 3);
        for (value, bits) in [(0, 5), (0, 5), (14, 4)] {
            self.put(value, bits);
        }
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
            self.put(u32::from(matches!(symbol, 1 | 18)), 3);
        }
        self.code(0, 1);
        for zeros in [138, 117] {
            self.code(1, 1);
            self.put(zeros - 11, 7);
        }
        (0..2).for_each(|_| self.code(0, 1));
        self.code(1, 1);
    }

    /// An empty block whose codes are as expensive to read as they can be: one of each length up to 15.
    fn empty_block_with_codes(&mut self) {
        self.put(0b100, 3);
        for (value, bits) in [(0, 5), (0, 5), (15, 4)] {
            self.put(value, bits);
        }
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] {
            self.put(if matches!(symbol, 1..=15 | 18) { 4 } else { 0 }, 3);
        }
        (0..15).for_each(|code| self.code(code, 4));
        // Lengths of 0 up to that of the end of the block, which is a code of 15 bits.
        for zeros in [138, 103] {
            self.code(15, 4);
            self.put(zeros - 11, 7);
        }
        self.code(14, 4);
        self.code(0, 4);
        self.code(0x7fff, 15);
    }
}

#[test]
fn a_message_of_nothing_but_blocks_is_given_up() {
    let blocks = |count: u64| {
        let mut bits = Bits::default();
        (0..count).for_each(|_| bits.empty_block_with_codes());
        bits.put(0, 3);
        bits.bytes
    };
    assert_eq!(inflate(&blocks(200), 100), Ok(Vec::new()));
    assert_eq!(inflate(&blocks(3000), 65_536), Err(Broken::Corrupt(CompressionFault::TooManyBlocks)));
    // Each frame may end with a flush.
    let (mut inflater, mut room) = (Inflater::default(), Vec::new());
    let many = blocks(1000);
    assert_eq!(inflater.inflate(Compressed { payload: &many, frames: 1000 }, 100, &mut room), Ok(&[][..]));
    // Blocks without codes cost little, and are not endless either.
    let mut fixed = Bits::default();
    (0..50_000).for_each(|_| fixed.put(0b010, 10));
    fixed.put(0, 3);
    assert_eq!(inflate(&fixed.bytes, 65_536), Err(Broken::Corrupt(CompressionFault::TooManyBlocks)));
}

#[test]
fn whoever_flushes_often_is_heard() {
    for (piece, count) in [(1, 1000), (10, 200), (100, 2000), (1000, 1000)] {
        let data: Vec<u8> = (0..piece * count).map(|at| b'a' + (at * at % 23) as u8).collect();
        for level in [0, 1, 9] {
            let pieces = vec![(piece, 2); count];
            let compressed = deflated(&data, &Sender { level, pieces, is_final: false, has_empty_block: false });
            assert_eq!(
                inflate(&compressed, data.len()).as_ref(),
                Ok(&data),
                "{piece} bytes {count} times, level {level}"
            );
        }
    }
}

/// What `inflater` charges for the message that it has inflated last, of which `received` bytes came.
fn charged(inflater: &Inflater, received: usize) -> u64 {
    (inflater.inflated_bytes() + inflater.surcharge_bytes()).max(received as u64)
}

proptest! {
    /// What a sender flushes only at its end is charged what it inflates to, to the byte, whatever room is there for it. It is
    /// zlib's: `miniz_oxide` loses bytes at the end of long noise.
    #[test]
    fn honest_messages_are_charged_what_they_inflate_to(
        data in prop_oneof![data(), prop::collection::vec(any::<u8>(), 50_000..150_000)],
        level in 1i32..=9, mem_level in 5i32..=9, is_final in any::<bool>(), room in 0usize..10_000,
    ) {
        let config = zlib_rs::DeflateConfig { level, mem_level, window_bits: -15, ..Default::default() };
        let (mut sender, mut compressed) = (zlib_rs::Deflate::new_with_config(config), vec![0; data.len() * 2 + 1000]);
        let flush = if is_final { zlib_rs::DeflateFlush::Finish } else { zlib_rs::DeflateFlush::SyncFlush };
        sender.compress(&data, &mut compressed, flush).unwrap();
        compressed.truncate(sender.total_out() as usize - if is_final { 0 } else { 4 });
        let mut inflater = Inflater::default();
        let len = inflater.inflate(in_one_frame(&compressed), data.len(), &mut vec![0; room]).map(<[u8]>::len);
        prop_assert_eq!(len, Ok(data.len()));
        prop_assert_eq!(inflater.surcharge_bytes(), 0);
    }
}

/// Nanoseconds, as measured: an inflated byte of 2 KiB of JSON, and blocks of each kind.
const HONEST_BYTE: f64 = 1.4;

/// A kind of block: how long it takes to read, and how it is made.
type Kind = (&'static str, f64, fn(&mut Bits));

#[test]
fn blocks_are_charged_by_their_work() {
    let kinds: [Kind; 5] = [
        ("codes of every length", 1030.0, Bits::empty_block_with_codes),
        ("short codes", 295.0, Bits::empty_block_with_short_codes),
        ("no codes", 30.0, |bits| bits.put(0b010, 10)),
        ("a byte in no codes", 32.0, |bits| {
            bits.put(0b010, 3);
            bits.code(0x30 + 65, 8);
            bits.put(0, 7);
        }),
        ("stored", 22.0, |bits| {
            bits.put(0, 3);
            bits.put(0, bits.len.next_multiple_of(8) - bits.len);
            bits.put(0xffff << 16, 32);
        }),
    ];
    for (name, nanos, block) in kinds {
        for count in [50, 200, 1000, 10_000] {
            let mut bits = Bits::default();
            (0..count).for_each(|_| block(&mut bits));
            bits.put(0, 3);
            let (mut inflater, mut room) = (Inflater::default(), Vec::new());
            let inflated = inflater.inflate(in_one_frame(&bits.bytes), 65_536, &mut room).map(<[u8]>::len);
            // One that is given up has done the work of so many blocks, and no more.
            let done = if inflated.is_ok() { count } else { inflater.more_blocks() + 1 };
            let charged = charged(&inflater, bits.bytes.len()) as f64;
            let per_byte = nanos * done as f64 / charged;
            assert!(per_byte < 2.0 * HONEST_BYTE, "{name}, {count} times: {per_byte} ns for each byte that is charged");
        }
    }
    // The same beside much that is honest: bytes do not make blocks free.
    let mut bits = Bits::default();
    for _ in 0..500 {
        bits.empty_block_with_codes();
        bits.put(0b010, 3);
        (0..200).for_each(|_| bits.code(0x30 + 65, 8));
        bits.put(0, 7);
    }
    bits.put(0, 3);
    let (mut inflater, mut room) = (Inflater::default(), Vec::new());
    assert_eq!(inflater.inflate(in_one_frame(&bits.bytes), 100_000, &mut room).map(<[u8]>::len), Ok(100_000));
    let nanos = 1030.0 * 500.0 + HONEST_BYTE * 100_000.0;
    assert!(nanos / (charged(&inflater, 0) as f64) < 2.0 * HONEST_BYTE);
}
