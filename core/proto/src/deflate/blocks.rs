//! Reads the blocks of a compressed message (RFC 1951 section 3.2), each into what is behind those before it.
//!
//! The message itself is the window. Nothing is written beyond the room that the caller gives: he decides how long a message may
//! be, and how many blocks it may have.

#![expect(clippy::inline_always, reason = "a few instructions each, once or more for every symbol of a message")]

use super::input::Input;
use super::tables::{Lengths, MOST_DISTANCES, MOST_LITERALS, Sorted, Tables, Used};

/// The order in which the lengths of the codes of lengths are told (section 3.2.7).
const TOLD: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Lengths that are told as the one before, or as some zeros; another is told as many zeros.
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
/// Room behind what is written in which nothing has to be checked: three literals, the longest match, and what is copied with it.
const EASY_ROOM: usize = 3 + LONGEST_MATCH + CHUNK;
const LONGEST_MATCH: usize = 258;
/// Bytes that are copied at once.
const CHUNK: usize = 16;

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The message ends in it.
    Truncated,
    /// It breaks RFC 1951.
    Invalid,
}

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes as they are: so many are left.
    Stored(usize),
    /// The end that senders leave out: an empty block without its lengths, with nothing behind it.
    LeftOut,
    /// Symbols of the codes that need not be told, or of its own.
    Fixed,
    Own,
}

/// The beginning of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) is_final: bool,
    pub(super) kind: Kind,
}

/// How far a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// To its end.
    Ended,
    /// There is more, and no room for it.
    Full,
}

/// A symbol of a block.
enum Symbol {
    Literal(u8),
    Match { len: usize, distance: usize },
    End,
}

/// The tables of the block in progress, and those that need not be told.
#[derive(Default)]
pub(super) struct Blocks {
    own: Box<Tables>,
    fixed: Option<Box<Tables>>,
    lengths: Box<Lengths>,
    used: Used,
    sorted: Sorted,
}

impl Blocks {
    /// Reads what stands before the first symbol of a block.
    pub(super) fn head(&mut self, input: &mut Input<'_>) -> Result<Head, Fault> {
        let bits = input.take(3).ok_or(Fault::Truncated)?;
        let kind = match bits >> 1 {
            0 => stored(input)?,
            1 => Kind::Fixed,
            2 => self.own_codes(input).map(|()| Kind::Own)?,
            _ => return Err(Fault::Invalid),
        };
        Ok(Head { is_final: bits & 1 != 0, kind })
    }

    /// Reads on in a block into `out[*len..]`.
    pub(super) fn read(
        &mut self,
        kind: &mut Kind,
        input: &mut Input<'_>,
        out: &mut [u8],
        len: &mut usize,
    ) -> Result<Progress, Fault> {
        match kind {
            Kind::Stored(left) => read_stored(left, input, out, len),
            Kind::LeftOut => Ok(Progress::Ended),
            Kind::Fixed => read_symbols(self.fixed.get_or_insert_with(Tables::fixed), input, out, len),
            Kind::Own => read_symbols(&self.own, input, out, len),
        }
    }

    /// Section 3.2.7.
    fn own_codes(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        let sizes = input.take(14).ok_or(Fault::Truncated)? as usize;
        let (literals, distances, told) = ((sizes & 0x1f) + 257, (sizes >> 5 & 0x1f) + 1, (sizes >> 10) + 4);
        if literals > MOST_LITERALS || distances > MOST_DISTANCES {
            return Err(Fault::Invalid);
        }
        let mut lens = [0_u8; TOLD.len()];
        for symbol in &TOLD[..told] {
            lens[usize::from(*symbol)] = input.take(3).ok_or(Fault::Truncated)? as u8;
        }
        let (used, sorted) = (&mut self.used, &mut self.sorted);
        used.clear();
        let with_code = lens.iter().enumerate().filter(|(_, len)| **len > 0);
        with_code.for_each(|(symbol, len)| used.push(symbol, *len));
        if !self.lengths.of(used, sorted) {
            return Err(Fault::Invalid);
        }
        used.clear();
        read_lens(&self.lengths, input, literals + distances, used)?;
        if self.own.build(used, literals, sorted) { Ok(()) } else { Err(Fault::Invalid) }
    }
}

/// Reads how long the codes of both alphabets are, those of distances behind the others.
fn read_lens(lengths: &Lengths, input: &mut Input<'_>, all: usize, used: &mut Used) -> Result<(), Fault> {
    // Of its own, to be held in registers.
    let mut here = *input;
    let (mut at, mut last) = (0, None);
    while at < all {
        here.hold(14);
        let entry = lengths.first(here.held());
        here.skip(entry.bits());
        let (mut len, mut behind) = (entry.symbol(), at + 1);
        if len >= REPEAT {
            let (repeated, bits, least) = match len {
                REPEAT => (last, 2, 3),
                ZEROS => (Some(0), 3, 3),
                _ => (Some(0), 7, 11),
            };
            behind = at + least + (here.held() & ((1 << bits) - 1)) as usize;
            here.skip(bits);
            len = repeated.filter(|_| behind <= all || here.is_over()).unwrap_or(REPEAT);
        }
        if here.is_over() {
            return Err(Fault::Truncated);
        }
        match len {
            0 => {}
            REPEAT => return Err(Fault::Invalid),
            len => (at..behind).for_each(|symbol| used.push(symbol, len)),
        }
        (at, last) = (behind, Some(len));
    }
    *input = here;
    Ok(())
}

/// The lengths of a stored block (section 3.2.4).
fn stored(input: &mut Input<'_>) -> Result<Kind, Fault> {
    input.align();
    match *input.rest() {
        [] => Ok(Kind::LeftOut),
        [low, high, not_low, not_high, ..] => {
            let (len, not_len) = (u16::from_le_bytes([low, high]), u16::from_le_bytes([not_low, not_high]));
            input.skip_bytes(4);
            if len == !not_len { Ok(Kind::Stored(len.into())) } else { Err(Fault::Invalid) }
        }
        _ => Err(Fault::Truncated),
    }
}

fn read_stored(left: &mut usize, input: &mut Input<'_>, out: &mut [u8], len: &mut usize) -> Result<Progress, Fault> {
    let (bytes, room) = (input.rest(), &mut out[*len..]);
    let count = (*left).min(bytes.len()).min(room.len());
    room[..count].copy_from_slice(&bytes[..count]);
    input.skip_bytes(count);
    (*left, *len) = (*left - count, *len + count);
    match *left {
        0 => Ok(Progress::Ended),
        _ if *len == out.len() => Ok(Progress::Full),
        _ => Err(Fault::Truncated),
    }
}

/// Reads symbols, most of them without a check of each, and those at the end of the input or the room one by one.
fn read_symbols(tables: &Tables, input: &mut Input<'_>, out: &mut [u8], len: &mut usize) -> Result<Progress, Fault> {
    loop {
        if read_fast(tables, input, out, len) {
            return Ok(Progress::Ended);
        }
        let before = *input;
        let needed = match symbol(tables, input)? {
            Symbol::End => return Ok(Progress::Ended),
            Symbol::Literal(byte) if *len < out.len() => {
                out[*len] = byte;
                1
            }
            Symbol::Match { distance, .. } if distance > *len => return Err(Fault::Invalid),
            Symbol::Match { len: count, distance } if count <= out.len() - *len => {
                copy(out, *len, distance, count);
                count
            }
            _ => {
                *input = before;
                return Ok(Progress::Full);
            }
        };
        *len += needed;
    }
}

/// Takes one symbol, wherever the input ends.
fn symbol(tables: &Tables, input: &mut Input<'_>) -> Result<Symbol, Fault> {
    input.hold(48);
    let bits = input.held();
    let entry = tables.literals.look_up(bits);
    input.skip(entry.bits());
    if input.is_over() {
        return Err(Fault::Truncated);
    }
    if entry.is_literal() {
        return Ok(Symbol::Literal(entry.symbol()));
    }
    if entry.is_special() {
        return if entry.is_end() { Ok(Symbol::End) } else { Err(Fault::Invalid) };
    }
    let (len, bits) = (entry.value(bits), input.held());
    let entry = tables.distances.look_up(bits);
    input.skip(entry.bits());
    match entry.is_special() {
        _ if input.is_over() => Err(Fault::Truncated),
        true => Err(Fault::Invalid),
        false => Ok(Symbol::Match { len, distance: entry.value(bits) }),
    }
}

/// Reads symbols as long as there are 8 bytes more of the input, and room for whatever they say. `true`: the block has ended.
/// What it cannot judge it leaves: an end, a fault.
fn read_fast(tables: &Tables, input: &mut Input<'_>, out: &mut [u8], len: &mut usize) -> bool {
    let Some(last) = out.len().checked_sub(EASY_ROOM) else { return false };
    // Of their own, to be held in registers.
    let (mut here, mut at) = (*input, *len);
    let (literals, distances) = (&tables.literals, &tables.distances);
    let mut has_ended = false;
    while at <= last && here.fill_fast() {
        let mut entry = literals.first(here.held());
        // 56 bits are five codes of the first table.
        if entry.is_literal() {
            here.skip(entry.bits());
            out[at] = entry.symbol();
            at += 1;
            entry = literals.first(here.held());
            if entry.is_literal() {
                here.skip(entry.bits());
                out[at] = entry.symbol();
                at += 1;
                entry = literals.first(here.held());
                if entry.is_literal() {
                    here.skip(entry.bits());
                    out[at] = entry.symbol();
                    at += 1;
                    continue;
                }
            }
            if !here.has_match() && !here.fill_fast() {
                break;
            }
        }
        let bits = here.held();
        if entry.is_special() {
            entry = literals.look_up(bits);
            if entry.is_literal() {
                here.skip(entry.bits());
                out[at] = entry.symbol();
                at += 1;
                continue;
            }
            if entry.is_special() {
                has_ended = entry.is_end();
                here.skip(if has_ended { entry.bits() } else { 0 });
                break;
            }
        }
        let behind = bits >> entry.bits();
        let mut far = distances.first(behind);
        if far.is_special() {
            far = distances.look_up(behind);
            if far.is_special() {
                break;
            }
        }
        let (count, distance) = (entry.value(bits), far.value(behind));
        if distance > at {
            break;
        }
        here.skip(entry.bits());
        here.skip(far.bits());
        copy_far(out, at, distance, count);
        at += count;
    }
    (*input, *len) = (here, at);
    has_ended
}

/// Copies `count` bytes to `at` from so far before it: perhaps more of them, where there is [`EASY_ROOM`].
#[inline(always)]
fn copy_far(out: &mut [u8], at: usize, distance: usize, count: usize) {
    if distance < CHUNK {
        copy(out, at, distance, count);
        return;
    }
    let (mut from, mut to) = (at - distance, at);
    while to < at + count {
        let Some(chunk) = out[from..].first_chunk::<CHUNK>().copied() else { return };
        let Some(place) = out[to..].first_chunk_mut() else { return };
        *place = chunk;
        (from, to) = (from + CHUNK, to + CHUNK);
    }
}

/// Copies `count` bytes to `at` from so far before it, which may be fewer: they come again.
fn copy(out: &mut [u8], at: usize, distance: usize, count: usize) {
    if distance == 1 {
        let byte = out[at - 1];
        out[at..at + count].fill(byte);
        return;
    }
    let (from, mut done) = (at - distance, 0);
    while done < count {
        let some = (count - done).min(distance + done);
        out.copy_within(from..from + some, at + done);
        done += some;
    }
}
