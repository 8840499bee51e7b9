//! Codes of a block (RFC 1951 section 3.2): how long each is, and how they are told.

/// Symbols of the larger alphabet: literals, the end of the block, and lengths.
pub(super) const LITERALS: usize = 286;
/// Symbols of distances.
pub(super) const DISTANCES: usize = 30;
/// The end of the block.
pub(super) const END: usize = 256;
/// The longest code of either.
const LONGEST_CODE: usize = 15;

/// The alphabet of code lengths, and its longest code.
const LENGTHS: usize = 19;
const LONGEST_LENGTH_CODE: usize = 7;
/// The order in which the lengths of those are told (section 3.2.7).
const TOLD: [usize; LENGTHS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Runs: of the length before, of zeros, of many zeros; and the bits behind each that say how long.
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
const MANY_ZEROS: u8 = 18;

/// A code, its first bit lowest, and how long it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Code {
    pub(super) bits: u16,
    pub(super) len: u8,
}

/// The codes of an alphabet.
#[derive(Clone, Debug)]
pub(super) struct Codes<const N: usize> {
    pub(super) codes: [Code; N],
}

impl<const N: usize> Codes<N> {
    /// The shortest for symbols that occur so often, none of them longer than `longest`.
    fn shortest(counts: &[u16; N], longest: usize) -> Self {
        let mut lens = [0; N];
        // Rare ones first: how often each occurs, and which it is.
        let mut used = [0_u32; N];
        let mut len = 0;
        // Without a branch: which are used is as good as random.
        for (symbol, count) in counts.iter().enumerate() {
            used[len] = u32::from(*count) << 9 | symbol as u32;
            len += usize::from(*count > 0);
        }
        let used = &mut used[..len];
        used.sort_unstable();
        let mut depths = [0_u32; N];
        let depths = &mut depths[..len];
        for (depth, used) in depths.iter_mut().zip(&*used) {
            *depth = used >> 9;
        }
        let mut of_len = count_depths(depths);
        limit(&mut of_len, longest);
        let mut rest = used.iter().rev();
        for (len, count) in of_len.iter().enumerate() {
            for used in rest.by_ref().take(usize::from(*count)) {
                lens[(used & 0x1ff) as usize] = len as u8;
            }
        }
        Self::of(&lens)
    }

    /// Those of these lengths (section 3.2.2).
    fn of(lens: &[u8; N]) -> Self {
        let mut next = [0_u16; LONGEST_CODE + 2];
        for len in lens.iter().filter(|len| **len > 0) {
            next[usize::from(*len) + 1] += 1;
        }
        for len in 1..next.len() {
            next[len] = (next[len] + next[len - 1]) << 1;
        }
        let mut codes = [Code::default(); N];
        for (code, len) in codes.iter_mut().zip(lens).filter(|(_, len)| **len > 0) {
            let own = &mut next[usize::from(*len)];
            *code = Code { bits: own.reverse_bits() >> (16 - len), len: *len };
            *own += 1;
        }
        Self { codes }
    }

    /// The bits that so many of each take.
    fn cost(&self, counts: &[u16; N]) -> usize {
        self.codes.iter().zip(counts).map(|(code, count)| usize::from(code.len) * usize::from(*count)).sum()
    }

    /// How many are told: up to the last that is used, and at least `least`.
    fn told(&self, least: usize) -> usize {
        self.codes.iter().rposition(|code| code.len > 0).map_or(0, |last| last + 1).max(least)
    }
}

/// Of counts that rise: how many codes of each length there are, without a limit (Moffat and Katajainen, in place).
fn count_depths(a: &mut [u32]) -> [u16; 33] {
    let mut of_len = [0; 33];
    let len = a.len();
    if len < 2 {
        of_len[1] = len as u16;
        return of_len;
    }
    a[0] += a[1];
    let (mut root, mut leaf) = (0, 2);
    for next in 1..len - 1 {
        a[next] = 0;
        for part in 0..2 {
            let is_root = leaf >= len || (part == 0 || root < next) && a[root] < a[leaf];
            if is_root {
                let weight = a[root];
                a[root] = next as u32;
                root += 1;
                a[next] += weight;
            } else {
                a[next] += a[leaf];
                leaf += 1;
            }
        }
    }
    a[len - 2] = 0;
    for next in (0..len - 2).rev() {
        a[next] = a[a[next] as usize] + 1;
    }
    let (mut available, mut depth, mut inner) = (1_u32, 0_usize, len - 1);
    while available > 0 {
        let mut used = 0;
        while inner > 0 && a[inner - 1] as usize == depth {
            used += 1;
            inner -= 1;
        }
        of_len[depth.min(32)] += (available - used) as u16;
        available = 2 * used;
        depth += 1;
    }
    of_len
}

/// Makes codes that are longer than `longest` as long as that, and others longer for it.
fn limit(of_len: &mut [u16; 33], longest: usize) {
    let over: u16 = of_len[longest + 1..].iter().sum();
    if over == 0 {
        return;
    }
    of_len[longest + 1..].fill(0);
    of_len[longest] += over;
    let total = |of_len: &[u16; 33]| (1..=longest).map(|len| u32::from(of_len[len]) << (longest - len)).sum::<u32>();
    for _ in 1 << longest..total(of_len) {
        of_len[longest] -= 1;
        if let Some(len) = (1..longest).rev().find(|len| of_len[*len] > 0) {
            of_len[len] -= 1;
            of_len[len + 1] += 2;
        }
    }
}

/// The codes of a block, and how they are told.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) literals: Codes<LITERALS>,
    pub(super) distances: Codes<DISTANCES>,
    /// What stands before the first of them, in pieces of some bits; empty: they are those that need not be told.
    told: Vec<Code>,
}

impl Block {
    /// The shortest, and the bits that all of the block takes with it, but for what stands behind the codes of lengths and distances.
    pub(super) fn shortest(literals: &[u16; LITERALS], distances: &[u16; DISTANCES], told: Vec<Code>) -> (Self, usize) {
        let mut block = Self {
            literals: Codes::shortest(literals, LONGEST_CODE),
            distances: Codes::shortest(distances, LONGEST_CODE),
            told,
        };
        block.tell();
        let header: usize = block.told.iter().map(|code| usize::from(code.len)).sum();
        let own = header + block.literals.cost(literals) + block.distances.cost(distances);
        let fixed = FIXED_LITERALS.cost(literals) + FIXED_DISTANCES.cost(distances);
        if own < fixed {
            return (block, 3 + own);
        }
        block.told.clear();
        (Self { literals: FIXED_LITERALS.clone(), distances: FIXED_DISTANCES.clone(), told: block.told }, 3 + fixed)
    }

    /// The bits before the first code: no final block, its type, and what tells its codes.
    pub(super) fn header(&self) -> impl Iterator<Item = Code> {
        let kind = if self.told.is_empty() { 0b010 } else { 0b100 };
        core::iter::once(Code { bits: kind, len: 3 }).chain(self.told.iter().copied())
    }

    /// Takes back what was lent for it.
    pub(super) fn into_told(mut self) -> Vec<Code> {
        self.told.clear();
        self.told
    }

    /// Section 3.2.7.
    fn tell(&mut self) {
        let (literals, distances) = (self.literals.told(257), self.distances.told(1));
        let mut lens = [0; LITERALS + DISTANCES];
        let all = self.literals.codes[..literals].iter().chain(&self.distances.codes[..distances]);
        for (len, code) in lens.iter_mut().zip(all) {
            *len = code.len;
        }
        let mut counts = [0; LENGTHS];
        let (mut symbols, mut len) = ([(0, 0); LITERALS + DISTANCES], 0);
        runs(&lens[..literals + distances], |symbol, more| {
            counts[usize::from(symbol)] += 1;
            symbols[len] = (symbol, more);
            len += 1;
        });
        let codes = Codes::shortest(&counts, LONGEST_LENGTH_CODE);
        let told = TOLD.iter().rposition(|symbol| codes.codes[*symbol].len > 0).map_or(4, |last| (last + 1).max(4));
        let out = &mut self.told;
        out.clear();
        let sizes = [(literals - 257, 5), (distances - 1, 5), (told - 4, 4)];
        out.extend(sizes.map(|(size, len)| Code { bits: size as u16, len }));
        out.extend(TOLD[..told].iter().map(|symbol| Code { bits: codes.codes[*symbol].len.into(), len: 3 }));
        for (symbol, more) in &symbols[..len] {
            out.push(codes.codes[usize::from(*symbol)]);
            if let Some(len) = bits_behind(*symbol) {
                out.push(Code { bits: (*more).into(), len });
            }
        }
    }
}

/// How many bits stand behind a symbol of lengths.
fn bits_behind(symbol: u8) -> Option<u8> {
    match symbol {
        REPEAT => Some(2),
        ZEROS => Some(3),
        MANY_ZEROS => Some(7),
        _ => None,
    }
}

/// Lengths as symbols: which, and what stands behind it.
fn runs(lens: &[u8], mut push: impl FnMut(u8, u8)) {
    let mut rest = lens;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|len| *len == first).count();
        rest = &rest[run..];
        let mut left = run;
        if *first == 0 {
            while left >= 11 {
                let many = left.min(138);
                push(MANY_ZEROS, (many - 11) as u8);
                left -= many;
            }
            if left >= 3 {
                push(ZEROS, (left - 3) as u8);
                left = 0;
            }
        } else {
            push(*first, 0);
            left -= 1;
            while left >= 3 {
                let some = left.min(6);
                push(REPEAT, (some - 3) as u8);
                left -= some;
            }
        }
        (0..left).for_each(|_| push(*first, 0));
    }
}

/// The codes that need not be told (section 3.2.6). 288 symbols have some, of which the last two never occur: without them those of
/// nine bits are the same.
static FIXED_LITERALS: Codes<LITERALS> = {
    let mut codes = [Code { bits: 0, len: 0 }; LITERALS];
    let mut symbol = 0;
    while symbol < LITERALS {
        let (bits, len) = match symbol {
            0..=143 => (0x30 + symbol, 8),
            144..=255 => (0x190 + symbol - 144, 9),
            256..=279 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        codes[symbol] = Code { bits: (bits as u16).reverse_bits() >> (16 - len), len: len as u8 };
        symbol += 1;
    }
    Codes { codes }
};

static FIXED_DISTANCES: Codes<DISTANCES> = {
    let mut codes = [Code { bits: 0, len: 5 }; DISTANCES];
    let mut symbol = 0;
    while symbol < DISTANCES {
        codes[symbol].bits = (symbol as u16).reverse_bits() >> 11;
        symbol += 1;
    }
    Codes { codes }
};
