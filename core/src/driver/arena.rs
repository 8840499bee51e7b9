//! What batches of commands and of events have in common: ranges of one buffer, and how much of it is kept for the next.

use core::ops::Range;

/// A range of a buffer's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// How many bytes of capacity a buffer that held `used` bytes keeps for the next batch: a steady load frees and allocates
/// nothing, and what a burst needed is freed.
pub(super) fn kept_bytes(used: usize) -> usize {
    (2 * used).clamp(1 << 20, 8 << 20)
}

/// What a buffer of `capacity` grows by, at least, so that `more` fits: by a quarter, so that what `max_inbox_bytes` counts
/// and what is held stay close.
pub(super) fn growth(capacity: usize, len: usize, more: usize) -> Option<usize> {
    (capacity - len < more).then(|| more.max(capacity / 4).max(4096))
}
