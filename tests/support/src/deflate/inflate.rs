//! Inflating, bit by bit as RFC 1951 describes it: slow, strict, and with an account of what a fast inflater does not tell.

use crate::outcome::{Outcome, ensure, fail};

/// What was in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflated {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The farthest that a copy reached back.
    pub farthest: usize,
    /// Whether a block was the final one: reading ends there.
    pub is_final: bool,
    /// How many whole bytes lie behind the last block.
    pub behind: usize,
}

const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(usize, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
/// The order in which a block tells the lengths of the code that tells its codes (section 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK: usize = 256;

/// Inflates a raw stream up to its end or its final block. It must end with a block, at most seven bits before its last byte ends.
pub fn inflate(stream: &[u8]) -> Outcome<Inflated> {
    inflate_after(Vec::new(), stream)
}

/// The same where the sender takes its context over: copies may reach into what came `before`, which is not in the result.
pub fn inflate_after(before: Vec<u8>, stream: &[u8]) -> Outcome<Inflated> {
    let mut bits = Bits { stream, at: 0 };
    let known = before.len();
    let mut out = Inflated { bytes: before, ..Inflated::default() };
    while !out.is_final && bits.whole_bytes_left() > 0 {
        out.is_final = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut out)?,
            1 => {
                let lengths: Vec<u8> = (0..288).map(fixed_length).collect();
                codes(&mut bits, &mut out, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = told_codes(&mut bits)?;
                codes(&mut bits, &mut out, &literals, &distances)?;
            }
            _ => return fail!("a block of type 3"),
        }
    }
    out.behind = bits.whole_bytes_left();
    out.bytes.drain(..known);
    Ok(out)
}

fn fixed_length(symbol: usize) -> u8 {
    match symbol {
        0..=143 | 280.. => 8,
        144..=255 => 9,
        256..=279 => 7,
    }
}

struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Outcome<usize> {
        let mut value = 0;
        for place in 0..count {
            let Some(byte) = self.stream.get(self.at / 8) else { return fail!("the stream ends within a block") };
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }

    fn whole_bytes_left(&self) -> usize {
        self.stream.len() - self.at.div_ceil(8)
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Inflated) -> Outcome {
    bits.at = bits.at.next_multiple_of(8);
    let (length, check) = (bits.take(16)?, bits.take(16)?);
    ensure!(length ^ check == 0xffff, "a stored block of length {length} with the check {check}");
    let from = bits.at / 8;
    let Some(bytes) = bits.stream.get(from..from + length) else { return fail!("the stream ends within a block") };
    out.bytes.extend(bytes);
    bits.at += length * 8;
    Ok(())
}

/// The literals and copies of a block.
fn codes(bits: &mut Bits<'_>, out: &mut Inflated, literals: &Code, distances: &Code) -> Outcome {
    loop {
        let symbol = literals.decode(bits)?;
        if symbol == END_OF_BLOCK {
            return Ok(());
        }
        if symbol < END_OF_BLOCK {
            out.bytes.push(symbol as u8);
            continue;
        }
        let length = told(bits, &LENGTHS, symbol - END_OF_BLOCK - 1)?;
        let code = distances.decode(bits)?;
        let distance = told(bits, &DISTANCES, code)?;
        ensure!(distance <= out.bytes.len(), "a distance of {distance} after {} bytes", out.bytes.len());
        out.farthest = out.farthest.max(distance);
        for _ in 0..length {
            out.bytes.push(out.bytes[out.bytes.len() - distance]);
        }
    }
}

fn told(bits: &mut Bits<'_>, table: &[(usize, u32)], symbol: usize) -> Outcome<usize> {
    let Some((base, more)) = table.get(symbol) else { return fail!("symbol {symbol} of {}", table.len()) };
    Ok(base + bits.take(*more)?)
}

/// The codes that a block begins with.
fn told_codes(bits: &mut Bits<'_>) -> Outcome<(Code, Code)> {
    let (literals, distances, count) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 19];
    for place in &ORDER[..count] {
        lengths[*place] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (value, times) = match (code.decode(bits)?, lengths.last()) {
            (16, Some(last)) => (*last, 3 + bits.take(2)?),
            (16, None) => return fail!("a repetition of nothing"),
            (17, _) => (0, 3 + bits.take(3)?),
            (18, _) => (0, 11 + bits.take(7)?),
            (length, _) => (length as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(value, times));
    }
    ensure!(lengths.len() == literals + distances, "a repetition beyond the codes");
    ensure!(lengths[END_OF_BLOCK] > 0, "a block that cannot end");
    Ok((Code::new(&lengths[..literals])?, Code::new(&lengths[literals..])?))
}

/// A Huffman code: how many symbols each length has, and the symbols in the order of their codes.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Outcome<Self> {
        let mut counts = [0; 16];
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        for symbol in &symbols {
            counts[usize::from(lengths[*symbol])] += 1;
        }
        let used: usize = (1..16).map(|length| counts[length] << (15 - length)).sum();
        ensure!(used <= 1 << 15, "a code with more symbols than it has room for");
        Ok(Self { counts, symbols })
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Outcome<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return Ok(self.symbols[index + code - first]);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        fail!("bits that are no symbol of the code")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(stream: &[u8]) -> Inflated {
        inflate(stream).unwrap()
    }

    #[test]
    fn the_examples_of_rfc_7692() {
        // Section 7.2.3: one block, a stored block, a final block, two blocks; the tail is there.
        for stream in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0, 0, 0xff, 0xff][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00, 0, 0, 0xff, 0xff],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00, 0, 0, 0xff, 0xff],
        ] {
            let inflated = inflated(stream);
            assert_eq!((&inflated.bytes[..], inflated.behind), (&b"Hello"[..], 0), "{stream:x?}");
            assert_eq!(inflated.is_final, stream[0] == 0xf3);
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for stream in [
            &[0x07][..],                           // a block of type 3
            &[0x00, 0x05, 0x00, 0xfa, 0xfe],       // the check of a stored block
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 1],    // a stored block that is cut
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9],       // a block that is cut
            &[0x4b, 0x04, 0xa2, 0x00],             // a copy from before the beginning
            &[0x05, 0xe0, 0x81, 0x08, 0, 0, 0, 0], // a code that says nothing
        ] {
            assert!(inflate(stream).is_err(), "{stream:x?}");
        }
        assert_eq!(inflated(&[0x03, 0x00, 1, 2]).behind, 2);
    }

    #[test]
    fn a_context_is_taken_over_where_it_is_given() {
        // Section 7.2.3.2: the second "Hello" refers to the first.
        let second = [0xf2, 0x00, 0x11, 0x00, 0x00, 0, 0, 0xff, 0xff];
        assert!(inflate(&second).is_err());
        assert_eq!(inflate_after(b"Hello".to_vec(), &second).unwrap().bytes, b"Hello");
    }
}
