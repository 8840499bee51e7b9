//! Compresses short messages at low levels, each as one block.
//!
//! zlib clears 128 KiB for each message, and builds its codes on a heap: for 2 KiB that takes as long as all the rest. Here
//! nothing is cleared, as a place in a table says by itself of which message it is: what stands there of another is not looked
//! at. The bytes of other messages are not there.

#![expect(clippy::inline_always, reason = "a few instructions each, once or more for every symbol of a message")]

use super::huffman::{Block, Code, DISTANCES, END, LITERALS};

/// Longer messages want more than one block, and are for zlib.
pub(super) const LONGEST: usize = 16 * 1024;
/// What is done at higher levels pays for longer searches: also for zlib.
pub(super) const HIGHEST_LEVEL: u8 = 5;

/// The shortest repetition that is looked for, and the longest that can be said.
const SHORTEST_MATCH: usize = 4;
const LONGEST_MATCH: usize = 258;
/// Places that are looked at for a repetition, by level; from the third on also for one that begins a byte later, unless the first
/// is so long.
const TRIES: [usize; HIGHEST_LEVEL as usize] = [1, 2, 4, 6, 10];
const GOOD_MATCH: [usize; HIGHEST_LEVEL as usize] = [0, 0, 11, 32, 32];
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
    last: Box<[u32; PLACES]>,
    /// Where four bytes with the same hash stood before those at this place of the message.
    before: Box<[u32; LONGEST]>,
    base: u32,
    /// The place behind the message.
    end: u32,
    elements: Box<[u32; LONGEST]>,
    /// How many of them the message has.
    count: usize,
    told: Vec<Code>,
    /// Places that were looked at, and what was compared there, eight bytes for one.
    #[cfg(test)]
    looked: u64,
}

/// A repetition of bytes.
#[derive(Clone, Copy, Default)]
struct Match {
    len: usize,
    distance: usize,
}

/// How repetitions are looked for.
#[derive(Clone, Copy)]
struct Rules {
    tries: usize,
    window: usize,
    good_match: usize,
    enters_all: bool,
}

impl Rules {
    fn of(level: u8, window: usize) -> Self {
        let at = usize::from(level.clamp(1, HIGHEST_LEVEL)) - 1;
        Self { tries: TRIES[at], window, good_match: GOOD_MATCH[at], enters_all: level >= ALL_ENTERED_FROM }
    }
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
        Self {
            last: zeros(),
            before: zeros(),
            base: 1,
            end: 1,
            elements: zeros(),
            count: 0,
            told: Vec::new(),
            #[cfg(test)]
            looked: 0,
        }
    }
}

#[expect(clippy::unnecessary_box_returns, reason = "64 KiB, not by way of the stack")]
fn zeros<const N: usize>() -> Box<[u32; N]> {
    vec![0; N].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([0; N]))
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
        self.count = 0;
    }

    /// Reads the message into elements of a block.
    fn read(&mut self, data: &[u8], window: usize, level: u8) -> Counts {
        let rules = Rules::of(level, window);
        let mut counts = Counts { literals: [0; LITERALS], distances: [0; DISTANCES], more: 0 };
        counts.literals[END] = 1;
        // Behind the last place four bytes do not fit.
        let places = data.len().min(LONGEST).saturating_sub(SHORTEST_MATCH - 1);
        // A repetition that begins a byte before, and is said unless there is a longer one here.
        let mut held = Match::default();
        let mut at = 0;
        while at < places {
            let found = self.find(data, at, held.len, rules);
            if found.len == 0 && held.len == 0 {
                self.push_literal(data[at], &mut counts);
                at += 1;
                continue;
            }
            let start = if found.len == 0 { at - 1 } else { at };
            if found.len > 0 {
                if held.len > 0 {
                    self.push_literal(data[at - 1], &mut counts);
                }
                held = found;
                if found.len < rules.good_match && at + 1 < places {
                    at += 1;
                    continue;
                }
            }
            self.push_match(held, &mut counts);
            let behind = start + held.len;
            let last = if rules.enters_all { behind } else { behind.min(at + 1 + ENTERED) };
            (at + 1..last.min(places)).for_each(|place| _ = self.enter(first_four(data, place), place));
            (at, held) = (behind, Match::default());
        }
        data.iter().skip(at).for_each(|byte| self.push_literal(*byte, &mut counts));
        counts
    }

    /// Enters a place, where these bytes stand; returns the last one with the same hash.
    #[inline(always)]
    fn enter(&mut self, bytes: u32, at: usize) -> u32 {
        let hash = bytes.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
        let last = core::mem::replace(&mut self.last[hash as usize & (PLACES - 1)], self.base + at as u32);
        self.before[at & (LONGEST - 1)] = last;
        last
    }

    /// Enters a place, and looks for the longest repetition of what stands before it, longer than `least`.
    #[inline(always)]
    fn find(&mut self, data: &[u8], at: usize, least: usize, rules: Rules) -> Match {
        let word = first_eight(data, at);
        let mut place = self.enter(word as u32, at);
        let most = LONGEST_MATCH.min(data.len() - at);
        let mut best = Match { len: least.max(SHORTEST_MATCH - 1), distance: 0 };
        if best.len >= most {
            return Match::default();
        }
        for _ in 0..rules.tries {
            // Below `base` are places of other messages.
            let Some(then) = place.checked_sub(self.base) else { break };
            let then = then as usize;
            let distance = at - then;
            if distance > rules.window {
                break;
            }
            // A longer one goes on behind the best so far.
            let len = if data[then + best.len] == data[at + best.len] { common(data, then, at, word) } else { 0 };
            #[cfg(test)]
            (self.looked += 1 + len as u64 / 8);
            let len = len.min(most);
            if len > best.len && (len > SHORTEST_MATCH || distance <= FAR) {
                best = Match { len, distance };
                if len == most {
                    break;
                }
            }
            place = self.before[then & (LONGEST - 1)];
        }
        if best.distance == 0 { Match::default() } else { best }
    }

    #[inline(always)]
    fn push_literal(&mut self, byte: u8, counts: &mut Counts) {
        counts.literals[usize::from(byte)] += 1;
        self.push(byte.into());
    }

    #[inline(always)]
    fn push_match(&mut self, found: Match, counts: &mut Counts) {
        let (len, distance) = (found.len - 3, found.distance - 1);
        let ((len_symbol, len_bits), (distance_symbol, distance_bits)) = (LEN_SYMBOLS[len], distance_symbol(distance));
        counts.literals[usize::from(len_symbol)] += 1;
        counts.distances[distance_symbol] += 1;
        counts.more += usize::from(len_bits) + usize::from(distance_bits);
        self.push(IS_MATCH | (len as u32) << 16 | distance as u32);
    }

    #[inline(always)]
    fn push(&mut self, element: u32) {
        self.elements[self.count & (LONGEST - 1)] = element;
        self.count += 1;
    }

    /// Writes the block, which takes `len` bytes with what ends the message.
    fn write(&self, block: &Block, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + len + 8, 0);
        let mut bits = Bits { out: &mut out[start..], at: 0, kept: 0, count: 0 };
        for code in block.header() {
            bits.put(code);
        }
        for element in &self.elements[..self.count.min(LONGEST)] {
            if element & IS_MATCH == 0 {
                bits.keep(block.literals.codes[*element as usize & 0xff]);
                if bits.count >= 48 {
                    bits.flush();
                }
                continue;
            }
            let (len, distance) = (*element as usize >> 16 & 0xff, *element as usize & 0x7fff);
            let (symbol, more) = LEN_SYMBOLS[len];
            // What follows takes up to 48.
            bits.flush();
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

/// Eight bytes from a place on, the first lowest; zeros behind the end.
#[inline(always)]
fn first_eight(data: &[u8], at: usize) -> u64 {
    match data.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_eight(data, at),
    }
}

#[cold]
fn last_eight(data: &[u8], at: usize) -> u64 {
    data.iter().skip(at).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn first_four(data: &[u8], at: usize) -> u32 {
    data.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How many bytes from two places on are the same; those at `here` begin with `word`.
#[inline(always)]
fn common(data: &[u8], then: usize, here: usize, word: u64) -> usize {
    let differing = first_eight(data, then) ^ word;
    if differing != 0 {
        return (differing.trailing_zeros() / 8) as usize;
    }
    let (then, here) = (data.get(then + 8..).unwrap_or_default(), data.get(here + 8..).unwrap_or_default());
    let mut len = 8;
    for (then, here) in then.as_chunks().0.iter().zip(here.as_chunks().0) {
        let differing = u64::from_le_bytes(*then) ^ u64::from_le_bytes(*here);
        if differing != 0 {
            return len + (differing.trailing_zeros() / 8) as usize;
        }
        len += 8;
        if len >= LONGEST_MATCH {
            return len;
        }
    }
    len + then[len - 8..].iter().zip(&here[len - 8..]).take_while(|(then, here)| then == here).count()
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
        self.flush();
    }

    /// Writes what is kept, all whole bytes of it.
    #[inline(always)]
    fn flush(&mut self) {
        if let Some(out) = self.out.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *out = self.kept.to_le_bytes();
        }
        self.at += self.count as usize / 8;
        self.kept >>= self.count & !7 & 63;
        self.count &= 7;
    }
}

#[cfg(test)]
#[path = "short_tests.rs"]
mod tests;
