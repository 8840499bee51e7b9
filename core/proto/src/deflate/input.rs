//! Bits of a compressed message, the lowest of each byte first (RFC 1951 section 3.1.1).

#![expect(clippy::inline_always, reason = "a few instructions each, once or more for every symbol of a message")]

/// Bytes of which the next bits are held. It reads on behind the last byte, where zeros are: [`Input::is_over`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'i> {
    bytes: &'i [u8],
    /// The next byte that is not held.
    at: usize,
    /// The next bits; those above `count` are zeros, or bits that come again.
    held: u64,
    count: u32,
    /// Zeros among them that nobody sent.
    padded: u32,
}

impl<'i> Input<'i> {
    pub(super) fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, at: 0, held: 0, count: 0, padded: 0 }
    }

    /// The next bits.
    #[inline(always)]
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Takes bits that are held.
    #[inline(always)]
    pub(super) fn skip(&mut self, bits: u32) {
        self.held >>= bits & 63;
        self.count = self.count.wrapping_sub(bits);
    }

    /// Holds at least 56 bits, if there are 8 bytes more. `false`: there are not, and nothing has changed.
    #[inline(always)]
    pub(super) fn fill_fast(&mut self) -> bool {
        let Some(next) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) else { return false };
        self.held |= u64::from_le_bytes(*next) << (self.count & 63);
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 0x38;
        true
    }

    /// Whether it holds the bits of any length with its distance.
    #[inline(always)]
    pub(super) fn has_match(&self) -> bool {
        self.count >= 48
    }

    /// Holds at least so many bits, not more than 56, whatever is left.
    #[inline(always)]
    pub(super) fn hold(&mut self, bits: u32) {
        if self.count < bits && !self.fill_fast() {
            *self = self.filled();
        }
    }

    /// Holding at least 56 bits at the end of the input.
    #[cold]
    fn filled(mut self) -> Self {
        while self.count < 56 {
            match self.bytes.get(self.at) {
                Some(byte) => {
                    self.held |= u64::from(*byte) << self.count;
                    self.at += 1;
                }
                None => self.padded += 8,
            }
            self.count += 8;
        }
        self
    }

    /// Whether bits were taken that nobody sent.
    #[inline(always)]
    pub(super) fn is_over(&self) -> bool {
        self.padded > self.count
    }

    /// Takes up to 32 bits; `None`: there are not so many.
    pub(super) fn take(&mut self, bits: u32) -> Option<u32> {
        self.hold(bits);
        let taken = (self.held & ((1 << bits) - 1)) as u32;
        self.skip(bits);
        (!self.is_over()).then_some(taken)
    }

    /// Bytes that are used, the last of them perhaps in part.
    pub(super) fn used(&self) -> usize {
        self.at - (self.count.saturating_sub(self.padded) / 8) as usize
    }

    /// Goes on with the first bit of a byte: the rest of the one in use is left out.
    pub(super) fn align(&mut self) {
        *self = Self { at: self.used(), ..Self::new(self.bytes) };
    }

    /// What follows, from the first bit of a byte on.
    pub(super) fn rest(&self) -> &'i [u8] {
        self.bytes.get(self.used()..).unwrap_or_default()
    }

    /// Takes so many bytes of [`Input::rest`].
    pub(super) fn skip_bytes(&mut self, count: usize) {
        self.align();
        self.at = self.bytes.len().min(self.at + count);
    }
}
