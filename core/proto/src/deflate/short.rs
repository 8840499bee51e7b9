//! Compresses short messages at low levels, each as one block.
//!
//! zlib clears 128 KiB for each message, and builds its codes on a heap: for 2 KiB that takes as long as all the rest. Here
//! nothing is cleared, as a place in a table says by itself of which message it is: what stands there of another is not looked
//! at. The bytes of other messages are not there.

use super::huffman::{Block, Code, DISTANCES, END, LITERALS};

/// Longer messages want more than one block, and are for zlib.
pub(super) const LONGEST: usize = 16 * 1024;
/// What is done at higher levels pays for longer searches: also for zlib.
pub(super) const HIGHEST_LEVEL: u8 = 5;

/// The shortest repetition that is looked for, and the longest that can be said.
const SHORTEST_MATCH: usize = 4;
const LONGEST_MATCH: usize = 258;
/// A repetition this long is not compared with one that begins a byte later.
const GOOD_MATCH: usize = 32;
/// Places that are looked at for a repetition, by level; from the third on also for one that begins a byte later.
const TRIES: [usize; HIGHEST_LEVEL as usize] = [1, 2, 4, 6, 10];
const LAZY_FROM: u8 = 3;
/// Below this level only the first places of a repetition are entered, as zlib does it: others are found later, or not at all.
const ALL_ENTERED_FROM: u8 = 4;
const ENTERED: usize = 4;
/// Beyond this a repetition of the shortest length costs as much as its bytes.
const FAR: usize = 4096;

/// Bits of a hash of four bytes.
const HASH_BITS: u32 = 12;
const PLACES: usize = 1 << HASH_BITS;

/// A repetition, in an element of the block: its length less 3 stands above its distance less 1. Others are literals.
const IS_MATCH: u32 = 1 << 31;

/// What is kept from one message to the next: places, no bytes.
pub(super) struct Short {
    /// Where four bytes with this hash stood last, of all messages ever: those of this one are at `base` and behind.
    last: Box<[u32]>,
    /// Where four bytes with the same hash stood before those at this place of the message.
    before: Box<[u32]>,
    base: u32,
    /// The place behind the message.
    end: u32,
    elements: Vec<u32>,
    told: Vec<Code>,
}

/// A repetition of bytes.
#[derive(Clone, Copy, Default)]
struct Match {
    len: usize,
    distance: usize,
}

/// How often each symbol occurs in a block.
struct Counts {
    literals: [u16; LITERALS],
    distances: [u16; DISTANCES],
    /// Bits behind the codes.
    more: usize,
}

impl Default for Short {
    fn default() -> Self {
        // No place of a message is 0.
        let (last, before) = (vec![0; PLACES].into_boxed_slice(), vec![0; LONGEST].into_boxed_slice());
        Self { last, before, base: 1, end: 1, elements: Vec::new(), told: Vec::new() }
    }
}

impl Short {
    /// Whether it is for messages like this.
    pub(super) fn takes(level: u8, len: usize) -> bool {
        level <= HIGHEST_LEVEL && len <= LONGEST
    }

    /// Appends a message as RFC 7692 section 7.2.1 has it. `false`: it would not be shorter, and `out` is as before.
    pub(super) fn compress(&mut self, window: usize, level: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        self.begin(payload.len());
        let counts = self.read(payload, window, level);
        let told = core::mem::take(&mut self.told);
        let (block, bits) = Block::shortest(&counts.literals, &counts.distances, told);
        // The three bits of the empty block behind it, of which the lengths are left out.
        let len = (bits + counts.more + 3).div_ceil(8);
        let is_shorter = len < payload.len();
        if is_shorter {
            self.write(&block, len, out);
        }
        self.told = block.into_told();
        is_shorter
    }

    fn begin(&mut self, len: usize) {
        self.base = self.end;
        if self.base > u32::MAX - LONGEST as u32 {
            self.last.fill(0);
            self.base = 1;
        }
        self.end = self.base + len as u32;
        self.elements.clear();
    }

    /// Reads the message into elements of a block.
    fn read(&mut self, data: &[u8], window: usize, level: u8) -> Counts {
        let tries = TRIES[usize::from(level.clamp(1, HIGHEST_LEVEL)) - 1];
        let mut counts = Counts { literals: [0; LITERALS], distances: [0; DISTANCES], more: 0 };
        counts.literals[END] = 1;
        // Behind the last place four bytes do not fit.
        let places = data.len().saturating_sub(SHORTEST_MATCH - 1);
        let mut at = 0;
        while at < places {
            let mut seen = at + 1;
            let mut found = self.find(data, at, window, tries);
            while level >= LAZY_FROM && (SHORTEST_MATCH..GOOD_MATCH).contains(&found.len) && seen < places {
                let later = self.find(data, seen, window, tries);
                seen += 1;
                if later.len <= found.len {
                    break;
                }
                self.push_literal(data[at], &mut counts);
                (at, found) = (at + 1, later);
            }
            if found.len < SHORTEST_MATCH {
                self.push_literal(data[at], &mut counts);
                at += 1;
                continue;
            }
            self.push_match(found, &mut counts);
            at += found.len;
            let last = if level < ALL_ENTERED_FROM { at.min(seen + ENTERED) } else { at };
            (seen..last.min(places)).for_each(|place| _ = self.enter(data, place));
        }
        data[at..].iter().for_each(|byte| self.push_literal(*byte, &mut counts));
        counts
    }

    /// Enters a place; returns the last one with the same hash.
    fn enter(&mut self, data: &[u8], at: usize) -> u32 {
        let Some(bytes) = data.get(at..).and_then(<[u8]>::first_chunk) else { return 0 };
        let hash = u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        let last = core::mem::replace(&mut self.last[hash as usize], self.base + at as u32);
        self.before[at] = last;
        last
    }

    /// Enters a place, and looks for the longest repetition of what stands before it.
    fn find(&mut self, data: &[u8], at: usize, window: usize, tries: usize) -> Match {
        let mut place = self.enter(data, at);
        let mut best = Match { len: SHORTEST_MATCH - 1, distance: 0 };
        let here = &data[at..data.len().min(at + LONGEST_MATCH)];
        for _ in 0..tries {
            // Below `base` are places of other messages.
            let Some(then) = place.checked_sub(self.base) else { break };
            let then = then as usize;
            let distance = at - then;
            if distance > window {
                break;
            }
            // A longer one goes on behind the best so far.
            if data[then + best.len] == here[best.len] {
                let len = common(&data[then..], here);
                if len > best.len && (len > SHORTEST_MATCH || distance <= FAR) {
                    best = Match { len, distance };
                    if len == here.len() {
                        break;
                    }
                }
            }
            place = self.before[then];
        }
        if best.distance == 0 { Match::default() } else { best }
    }

    fn push_literal(&mut self, byte: u8, counts: &mut Counts) {
        counts.literals[usize::from(byte)] += 1;
        self.elements.push(byte.into());
    }

    fn push_match(&mut self, found: Match, counts: &mut Counts) {
        let (len, distance) = (found.len - 3, found.distance - 1);
        let ((len_symbol, len_bits), (distance_symbol, distance_bits)) = (LEN_SYMBOLS[len], distance_symbol(distance));
        counts.literals[usize::from(len_symbol)] += 1;
        counts.distances[distance_symbol] += 1;
        counts.more += usize::from(len_bits) + usize::from(distance_bits);
        self.elements.push(IS_MATCH | (len as u32) << 16 | distance as u32);
    }

    /// Writes the block, which takes `len` bytes with what ends the message.
    fn write(&self, block: &Block, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + len + 8, 0);
        let mut bits = Bits { out: &mut out[start..], at: 0, kept: 0, count: 0 };
        for code in block.header() {
            bits.put(code);
        }
        for element in &self.elements {
            if element & IS_MATCH == 0 {
                bits.put(block.literals.codes[*element as usize & 0xff]);
                continue;
            }
            let (len, distance) = (*element as usize >> 16 & 0xff, *element as usize & 0x7fff);
            let (symbol, more) = LEN_SYMBOLS[len];
            bits.keep(block.literals.codes[usize::from(symbol)]);
            bits.keep(lowest(len - LEN_BASES[usize::from(symbol) - 257], more));
            let (symbol, more) = distance_symbol(distance);
            bits.keep(block.distances.codes[symbol]);
            bits.put(lowest(distance, more));
        }
        bits.put(block.literals.codes[END]);
        bits.put(Code { bits: 0, len: 3 });
        debug_assert_eq!(bits.at + usize::from(bits.count > 0), len, "what was reckoned");
        out.truncate(start + len);
    }
}

/// The lowest bits of what stands behind a code.
fn lowest(value: usize, len: u8) -> Code {
    Code { bits: value as u16 & ((1 << len) - 1), len }
}

/// How many bytes at the beginning are the same.
fn common(then: &[u8], here: &[u8]) -> usize {
    let mut len = 0;
    while let (Some(then), Some(here)) = (then[len..].first_chunk(), here[len..].first_chunk()) {
        let differing = u64::from_le_bytes(*then) ^ u64::from_le_bytes(*here);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + then[len..].iter().zip(&here[len..]).take_while(|(then, here)| then == here).count()
}

/// The first length less 3 of each symbol from 257 on (RFC 1951 section 3.2.5).
const LEN_BASES: [usize; 29] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 255];

/// The symbol of each length less 3, and how many bits stand behind it.
const LEN_SYMBOLS: [(u16, u8); 256] = {
    let mut symbols = [(0, 0); 256];
    let (mut len, mut symbol) = (0, 0);
    while len < 256 {
        if symbol + 1 < LEN_BASES.len() && len == LEN_BASES[symbol + 1] {
            symbol += 1;
        }
        let bits = if symbol < 8 || symbol == 28 { 0 } else { symbol / 4 - 1 };
        symbols[len] = (257 + symbol as u16, bits as u8);
        len += 1;
    }
    symbols
};

/// The symbol of a distance less 1, and how many bits stand behind it: the lowest of it.
fn distance_symbol(distance: usize) -> (usize, u8) {
    if distance < 4 {
        return (distance, 0);
    }
    let high = distance.ilog2();
    ((high as usize) * 2 + (distance >> (high - 1) & 1), high as u8 - 1)
}

/// Writes bits, the lowest first, into what is long enough for all of them and 8 bytes more.
struct Bits<'o> {
    out: &'o mut [u8],
    at: usize,
    kept: u64,
    count: u32,
}

impl Bits<'_> {
    /// Keeps bits for later: not more than 57 at once.
    fn keep(&mut self, code: Code) {
        self.kept |= u64::from(code.bits) << (self.count & 63);
        self.count += u32::from(code.len);
    }

    /// Writes what is kept and these.
    fn put(&mut self, code: Code) {
        self.keep(code);
        if let Some(out) = self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *out = self.kept.to_le_bytes();
        }
        self.at += self.count as usize / 8;
        self.kept >>= self.count & !7;
        self.count &= 7;
    }
}

#[cfg(test)]
#[path = "short_tests.rs"]
mod tests;
