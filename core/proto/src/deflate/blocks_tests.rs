//! Blocks put together bit by bit: what they cost, and what is charged for it.

use super::tests::{in_one_frame, inflate};
use super::*;
use crate::codec::CompressionFault;

/// Bits in the order of RFC 1951 section 3.1.1.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    pub(super) fn put(&mut self, value: u32, bits: usize) {
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

    /// An empty block with codes of these lengths, each told by itself.
    pub(super) fn empty_block_with(&mut self, literals: &[u8], distances: &[u8]) {
        self.put(0b100, 3);
        for (value, bits) in [(literals.len() - 257, 5), (distances.len() - 1, 5), (15, 4)] {
            self.put(value as u32, bits);
        }
        for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] {
            self.put(if symbol < 16 { 4 } else { 0 }, 3);
        }
        literals.iter().chain(distances).for_each(|len| self.code((*len).into(), 4));
        // The code of the end: behind all shorter ones, and those of its length before it.
        let end = literals[256];
        let shorter = literals.iter().filter(|len| (1..end).contains(*len)).map(|len| 1 << (end - len)).sum::<u32>();
        let before = literals[..256].iter().map(|len| u32::from(*len == end)).sum::<u32>();
        self.code(shorter + before, end.into());
    }

    /// One whose codes all are in use, most of them in second tables of their own.
    fn empty_block_with_most_codes(&mut self) {
        self.empty_block_with(&lens(&[(1, 1), (2, 1), (3, 1), (11, 229), (12, 54)]), &lens(&[(4, 2), (5, 28)]));
    }
}

/// So many lengths of each kind, all mixed.
pub(super) fn lens(counts: &[(u8, usize)]) -> Vec<u8> {
    let all: Vec<u8> = counts.iter().flat_map(|(len, count)| std::iter::repeat_n(*len, *count)).collect();
    (0..all.len()).map(|at| all[at * 97 % all.len()]).collect()
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

/// What `inflater` charges for the message that it has inflated last, of which `received` bytes came.
fn charged(inflater: &Inflater, received: usize) -> u64 {
    (inflater.inflated_bytes() + inflater.surcharge_bytes()).max(received as u64)
}

/// Instructions, as callgrind counts them: an inflated byte of 2 KiB of JSON, and blocks of each kind.
const HONEST_BYTE: f64 = 16.0;

/// A kind of block: how long it takes to read, and how it is made.
type Kind = (&'static str, f64, fn(&mut Bits));

#[test]
fn blocks_are_charged_by_their_work() {
    let kinds: [Kind; 6] = [
        ("most codes", 48_300.0, Bits::empty_block_with_most_codes),
        ("codes of every length", 18_700.0, Bits::empty_block_with_codes),
        ("short codes", 5000.0, Bits::empty_block_with_short_codes),
        ("no codes", 192.0, |bits| bits.put(0b010, 10)),
        ("a byte in no codes", 230.0, |bits| {
            bits.put(0b010, 3);
            bits.code(0x30 + 65, 8);
            bits.put(0, 7);
        }),
        ("stored", 191.0, |bits| {
            bits.put(0, 3);
            bits.put(0, bits.len.next_multiple_of(8) - bits.len);
            bits.put(0xffff << 16, 32);
        }),
    ];
    for (name, work, block) in kinds {
        for count in [50, 200, 1000, 10_000] {
            let mut bits = Bits::default();
            (0..count).for_each(|_| block(&mut bits));
            bits.put(0, 3);
            let (mut inflater, mut room) = (Inflater::default(), Vec::new());
            let inflated = inflater.inflate(in_one_frame(&bits.bytes), 65_536, &mut room).map(<[u8]>::len);
            // One that is given up has done the work of so many blocks, and no more.
            let done = if inflated.is_ok() { count } else { inflater.more_blocks() + 1 };
            let charged = charged(&inflater, bits.bytes.len()) as f64;
            let per_byte = work * done as f64 / charged;
            assert!(per_byte < 2.0 * HONEST_BYTE, "{name}, {count} times: {per_byte} for each byte that is charged");
        }
    }
    // The same beside much that is honest: bytes do not make blocks free.
    let mut bits = Bits::default();
    for _ in 0..500 {
        bits.empty_block_with_most_codes();
        bits.put(0b010, 3);
        (0..200).for_each(|_| bits.code(0x30 + 65, 8));
        bits.put(0, 7);
    }
    bits.put(0, 3);
    let (mut inflater, mut room) = (Inflater::default(), Vec::new());
    assert_eq!(inflater.inflate(in_one_frame(&bits.bytes), 100_000, &mut room).map(<[u8]>::len), Ok(100_000));
    let work = 48_300.0 * 500.0 + HONEST_BYTE * 100_000.0;
    assert!(work / (charged(&inflater, 0) as f64) < 2.0 * HONEST_BYTE);
}
