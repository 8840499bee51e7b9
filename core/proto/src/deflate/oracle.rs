//! A decompressor for tests that shares no line with what it checks: bit by bit after RFC 1951, strict, and slow.

/// What a compressed message says.
pub(super) struct Told {
    pub(super) payload: Vec<u8>,
    /// The largest distance that a match reaches back.
    pub(super) reach: usize,
    /// A block says that it is the last.
    pub(super) is_final: bool,
}

/// Reads a payload as RFC 7692 section 7.2.2 has it; `None`: it is none.
pub(super) fn inflate(compressed: &[u8]) -> Option<Told> {
    let stream = [compressed, &[0, 0, 0xff, 0xff]].concat();
    let mut bits = Bits { stream: &stream, at: 0 };
    let mut told = Told { payload: Vec::new(), reach: 0, is_final: false };
    while bits.at < stream.len() * 8 {
        let is_final = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut told.payload)?,
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|n| match n {
                        0..144 => 8,
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                coded(&mut bits, &mut told, &Code::of(&lengths), &Code::of(&[5; 30]))?;
            }
            2 => {
                let (literals, distances) = codes(&mut bits)?;
                coded(&mut bits, &mut told, &literals, &distances)?;
            }
            _ => return None,
        }
        if is_final {
            // What comes behind a stream begins at a byte.
            bits.at = bits.at.next_multiple_of(8);
            told.is_final = true;
        }
    }
    Some(told)
}

struct Bits<'s> {
    stream: &'s [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        let mut value = 0;
        for n in 0..count {
            let byte = self.stream.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << n;
            self.at += 1;
        }
        Some(value)
    }
}

/// Symbols in the order of their codes, and how many have each length.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn of(lengths: &[u8]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|len| counts[usize::from(*len)] += usize::from(*len > 0));
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|symbol| lengths[*symbol] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[*symbol]);
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

fn stored(bits: &mut Bits<'_>, payload: &mut Vec<u8>) -> Option<()> {
    bits.at = bits.at.next_multiple_of(8);
    let len = bits.take(16)?;
    if bits.take(16)? != len ^ 0xffff {
        return None;
    }
    for _ in 0..len {
        payload.push(bits.take(8)? as u8);
    }
    Some(())
}

fn codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, lengths) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut of_lengths = [0; 19];
    for place in &ORDER[..lengths] {
        of_lengths[*place] = bits.take(3)? as u8;
    }
    let code = Code::of(&of_lengths);
    let mut all = Vec::new();
    while all.len() < literals + distances {
        let (what, times) = match code.read(bits)? {
            16 => (*all.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            len => (len as u8, 1),
        };
        all.extend(core::iter::repeat_n(what, times));
    }
    (all.len() == literals + distances).then(|| (Code::of(&all[..literals]), Code::of(&all[literals..])))
}

fn coded(bits: &mut Bits<'_>, told: &mut Told, literals: &Code, distances: &Code) -> Option<()> {
    loop {
        let symbol = literals.read(bits)?;
        let len = match symbol {
            0..256 => {
                told.payload.push(symbol as u8);
                continue;
            }
            256 => return Some(()),
            257..265 => symbol - 254,
            265..285 => {
                let extra = (symbol - 261) / 4;
                ((4 + (symbol - 265) % 4) << extra) + 3 + bits.take(extra as u32)?
            }
            285 => 258,
            _ => return None,
        };
        let distance = match distances.read(bits)? {
            symbol @ 0..4 => symbol + 1,
            symbol @ 4..30 => {
                let extra = symbol / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + bits.take(extra as u32)?
            }
            _ => return None,
        };
        told.reach = told.reach.max(distance);
        let start = told.payload.len().checked_sub(distance)?;
        for at in start..start + len {
            told.payload.push(told.payload[at]);
        }
    }
}
