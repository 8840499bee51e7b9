//! Codes of a block (RFC 1951 section 3.2) as tables: the next bits of a stream lead to an entry, which says what to do with them.
//!
//! As libdeflate has them: what a symbol means stands in its entry, and longer codes go on in a second table behind the first.

#![expect(clippy::inline_always, reason = "a few instructions each, once or more for every symbol of a message")]

/// Bits that lead into the first table, of literals and lengths, of distances, and of code lengths.
const LITERAL_BITS: usize = 10;
const DISTANCE_BITS: usize = 8;
const LENGTH_BITS: usize = 7;
/// Entries: what such codes may need with their second tables is 1334 and 402 (zlib's `enough`), so that an index, cut to these,
/// needs no other check.
const LITERAL_ENTRIES: usize = 2048;
const DISTANCE_ENTRIES: usize = 512;
const LENGTH_ENTRIES: usize = 128;

/// Symbols that codes may have: literals and lengths, distances.
pub(super) const MOST_LITERALS: usize = 286;
pub(super) const MOST_DISTANCES: usize = 30;
/// The end of a block.
const END: usize = 256;
/// Symbols of the fixed codes: the last two of either alphabet mean nothing (section 3.2.6).
const FIXED_LITERALS: usize = 288;
const FIXED_DISTANCES: usize = 32;
const MOST_USED: usize = FIXED_LITERALS + FIXED_DISTANCES;
/// A power of two, for the sake of indices.
const ROOM_FOR_USED: usize = MOST_USED.next_power_of_two();
const LONGEST_CODE: usize = 15;

/// An entry. Its lowest byte: bits that it takes, with those behind the code. The four above: bits of the code alone.
/// From bit 16 on: a byte, the least length or distance, a symbol, or where the second table begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const LITERAL: u32 = 1 << 31;
    const SPECIAL: u32 = 1 << 15;
    const SECOND: u32 = 1 << 14 | Self::SPECIAL;
    const END: u32 = 1 << 13 | Self::SPECIAL;
    const INVALID: u32 = 1 << 12 | Self::SPECIAL;

    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    /// Neither a literal nor a length nor a distance.
    #[inline(always)]
    pub(super) fn is_special(self) -> bool {
        self.0 & Self::SPECIAL != 0
    }

    pub(super) fn is_end(self) -> bool {
        self.0 & Self::END == Self::END
    }

    /// Bits to take for all that it says.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 & 63
    }

    /// Bits of its code.
    #[inline(always)]
    pub(super) fn code_bits(self) -> u32 {
        self.0 >> 8 & 63
    }

    /// A literal or a symbol.
    #[inline(always)]
    pub(super) fn symbol(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// A length or a distance, of the bits that begin with its code.
    #[inline(always)]
    pub(super) fn value(self, bits: u64) -> usize {
        (self.0 >> 16) as usize + ((bits & ((1 << self.bits()) - 1)) >> self.code_bits()) as usize
    }

    /// That of a symbol with a code of `len` bits.
    fn with_code(self, len: usize) -> Self {
        Self(self.0 + (len as u32) * 0x101)
    }

    /// The second table: where it begins, and the bits that lead into it behind those of the first.
    fn second(start: usize, bits: usize, first_bits: usize) -> Self {
        Self(Self::SECOND | (start as u32) << 16 | (bits as u32) << 8 | first_bits as u32)
    }
}

/// A table of one alphabet: `BITS` lead into the first.
#[derive(Clone, Debug)]
pub(super) struct Table<const BITS: usize, const N: usize> {
    entries: [Entry; N],
}

impl<const BITS: usize, const N: usize> Default for Table<BITS, N> {
    fn default() -> Self {
        Self { entries: [Entry::default(); N] }
    }
}

impl<const BITS: usize, const N: usize> Table<BITS, N> {
    /// The entry of the code that `bits` begin with.
    #[inline(always)]
    pub(super) fn look_up(&self, bits: u64) -> Entry {
        let entry = self.first(bits);
        if entry.0 & Entry::SECOND == Entry::SECOND { self.second(entry, bits) } else { entry }
    }

    /// As [`Table::look_up`], or that of the second table itself.
    #[inline(always)]
    pub(super) fn first(&self, bits: u64) -> Entry {
        self.entries[bits as usize & ((1 << BITS) - 1)]
    }

    #[inline(always)]
    fn second(&self, entry: Entry, bits: u64) -> Entry {
        let at = bits >> entry.bits() & ((1 << entry.code_bits()) - 1);
        self.entries[((entry.0 >> 16) as usize + at as usize) & (N - 1)]
    }

    /// Makes it that of these codes. `false`: no sender makes such (zlib's `inflate_table` decides alike).
    fn build(&mut self, codes: &Sorted, meanings: &[Entry], may_be_incomplete: bool) -> bool {
        let longest = codes.longest();
        let mut left = 1_i32;
        for count in &codes.of_len[1..=longest] {
            left = left * 2 - i32::from(*count);
            if left < 0 {
                return false;
            }
        }
        if left == 0 {
            self.fill(codes, meanings);
            return true;
        }
        // One code of one bit, or none: the others mean nothing, which matters only if they come.
        let nothing = if may_be_incomplete { Entry(Entry::INVALID) } else { meanings[0] }.with_code(1);
        let only = codes.symbols().first().map_or(nothing, |only| meanings[usize::from(*only)].with_code(1));
        self.entries[..1 << BITS].chunks_exact_mut(2).for_each(|two| two.copy_from_slice(&[only, nothing]));
        longest == 0 || longest == 1 && may_be_incomplete
    }

    /// Codes in their order: those of one length follow each other, read from their first bit on. The table grows with the length,
    /// and what is there already is what stands behind the new bit too.
    fn fill(&mut self, sorted: &Sorted, meanings: &[Entry]) {
        let entries = &mut self.entries;
        let (mut code, mut len, mut filled) = (0_usize, 0_usize, 1_usize);
        let mut codes = sorted.symbols().iter();
        while len < BITS {
            entries.copy_within(0..filled, filled);
            (len, filled) = (len + 1, filled * 2);
            for symbol in codes.by_ref().take(sorted.of_len[len].into()) {
                entries[code] = meanings[usize::from(*symbol)].with_code(len);
                code = behind(code, filled - 1);
            }
        }
        let mut left = sorted.of_len[len + 1..].iter().copied();
        let (mut end, mut start, mut prefix, mut count) = (filled, 0, usize::MAX, 0);
        for symbol in codes {
            while count == 0 {
                (count, len) = (left.next().unwrap_or(1), len + 1);
            }
            if code & (filled - 1) != prefix {
                prefix = code & (filled - 1);
                let second = sorted.second_bits(len, count, BITS);
                entries[prefix] = Entry::second(end, second, BITS);
                (start, end) = (end, end + (1 << second));
            }
            let entry = meanings[usize::from(*symbol)].with_code(len);
            entries[start + (code >> BITS)..end].iter_mut().step_by(1 << (len - BITS)).for_each(|place| *place = entry);
            (code, count) = (behind(code, (1 << len) - 1), count - 1);
        }
    }
}

/// The code behind `code`, both with their first bit lowest; `ones` is the last of this length, behind which is none.
fn behind(code: usize, ones: usize) -> usize {
    let Some(bit) = (code ^ ones).checked_ilog2() else { return 0 };
    code & ((1 << bit) - 1) | 1 << bit
}

/// A symbol that has a code, and how long that is.
#[derive(Clone, Copy, Debug, Default)]
struct OfUse(u16);

impl OfUse {
    fn symbol(self) -> usize {
        usize::from(self.0 >> 4)
    }

    fn len(self) -> usize {
        usize::from(self.0 & 0xf)
    }
}

/// The symbols that have a code, of one alphabet or of one behind another.
#[derive(Debug)]
pub(super) struct Used {
    symbols: [OfUse; ROOM_FOR_USED],
    count: usize,
}

impl Default for Used {
    fn default() -> Self {
        Self { symbols: [OfUse::default(); ROOM_FOR_USED], count: 0 }
    }
}

impl Used {
    /// The next symbol that has a code, of 1 to 15 bits.
    #[inline(always)]
    pub(super) fn push(&mut self, symbol: usize, len: u8) {
        self.symbols[self.count & (ROOM_FOR_USED - 1)] = OfUse((symbol as u16) << 4 | u16::from(len & 0xf));
        self.count += 1;
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    fn all(&self) -> &[OfUse] {
        &self.symbols[..self.count.min(MOST_USED)]
    }
}

/// The codes of one alphabet in the order of their lengths. Kept for the next one: nothing is cleared but counts.
#[derive(Debug)]
pub(super) struct Sorted {
    symbols: [u16; MOST_USED],
    count: usize,
    of_len: [u16; LONGEST_CODE + 1],
}

impl Default for Sorted {
    fn default() -> Self {
        Self { symbols: [0; MOST_USED], count: 0, of_len: [0; LONGEST_CODE + 1] }
    }
}

impl Sorted {
    /// Sorts the codes of an alphabet that begins with the symbol `first`.
    fn sort(&mut self, used: &[OfUse], first: usize) -> &Self {
        (self.count, self.of_len) = (used.len(), [0; LONGEST_CODE + 1]);
        for used in used {
            self.of_len[used.len()] += 1;
        }
        let (mut places, mut sum) = ([0; LONGEST_CODE + 1], 0);
        for (place, count) in places.iter_mut().zip(&self.of_len) {
            *place = sum;
            sum += count;
        }
        for used in used {
            let place = &mut places[used.len()];
            self.symbols[usize::from(*place)] = (used.symbol() - first) as u16;
            *place += 1;
        }
        self
    }

    fn symbols(&self) -> &[u16] {
        &self.symbols[..self.count]
    }

    fn longest(&self) -> usize {
        self.of_len.iter().rposition(|count| *count > 0).unwrap_or(0)
    }

    /// How many bits lead into a second table that begins with a code of `len` bits, of which `count` are left.
    fn second_bits(&self, len: usize, count: u16, first_bits: usize) -> usize {
        let (mut bits, mut full) = (len - first_bits, usize::from(count));
        while full < 1 << bits && first_bits + bits < LONGEST_CODE {
            bits += 1;
            full = full * 2 + usize::from(self.of_len[first_bits + bits]);
        }
        bits
    }
}

/// The tables of a block.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) literals: Table<LITERAL_BITS, LITERAL_ENTRIES>,
    pub(super) distances: Table<DISTANCE_BITS, DISTANCE_ENTRIES>,
}

impl Tables {
    /// Makes them those of these codes: of distances from `literals` on. `false`: no sender makes such.
    pub(super) fn build(&mut self, used: &Used, literals: usize, sorted: &mut Sorted) -> bool {
        let of_literals = used.all().partition_point(|used| used.symbol() < literals);
        let (of_literals, of_distances) = used.all().split_at(of_literals);
        // Without an end a block would have none.
        of_literals.binary_search_by_key(&END, |used| used.symbol()).is_ok()
            && self.literals.build(sorted.sort(of_literals, 0), &LITERALS, true)
            && self.distances.build(sorted.sort(of_distances, literals), &DISTANCES, true)
    }

    /// Those of the codes that are not told (section 3.2.6).
    pub(super) fn fixed() -> Box<Self> {
        let (mut tables, mut used) = (Box::<Self>::default(), Used::default());
        for symbol in 0..FIXED_LITERALS {
            used.push(
                symbol,
                match symbol {
                    0..=143 | 280.. => 8,
                    144..=255 => 9,
                    256..=279 => 7,
                },
            );
        }
        (0..FIXED_DISTANCES).for_each(|symbol| used.push(FIXED_LITERALS + symbol, 5));
        tables.build(&used, FIXED_LITERALS, &mut Sorted::default());
        tables
    }
}

/// The table of the lengths of codes (section 3.2.7).
pub(super) type Lengths = Table<LENGTH_BITS, LENGTH_ENTRIES>;

impl Lengths {
    /// Makes it that of these codes; `false`: no sender makes such.
    pub(super) fn of(&mut self, used: &Used, sorted: &mut Sorted) -> bool {
        self.build(sorted.sort(used.all(), 0), &LENGTHS, false)
    }
}

const LENGTHS: [Entry; 19] = {
    let mut meanings = [Entry(0); 19];
    let mut symbol = 0;
    while symbol < 19 {
        meanings[symbol] = Entry((symbol as u32) << 16);
        symbol += 1;
    }
    meanings
};

/// Section 3.2.5.
static LITERALS: [Entry; FIXED_LITERALS] = {
    let mut meanings = [Entry(Entry::INVALID); FIXED_LITERALS];
    let mut symbol = 0;
    while symbol < 256 {
        meanings[symbol] = Entry(Entry::LITERAL | (symbol as u32) << 16);
        symbol += 1;
    }
    meanings[256] = Entry(Entry::END);
    let (mut len, mut at) = (3, 0);
    while at < 28 {
        let bits = if at < 8 { 0 } else { at / 4 - 1 };
        meanings[257 + at as usize] = Entry(len << 16 | bits);
        len += 1 << bits;
        at += 1;
    }
    meanings[285] = Entry(258 << 16);
    meanings
};

static DISTANCES: [Entry; FIXED_DISTANCES] = {
    let mut meanings = [Entry(Entry::INVALID); FIXED_DISTANCES];
    let (mut distance, mut at) = (1, 0);
    while at < MOST_DISTANCES {
        let bits = if at < 2 { 0 } else { at as u32 / 2 - 1 };
        meanings[at] = Entry(distance << 16 | bits);
        distance += 1 << bits;
        at += 1;
    }
    meanings
};
