//! Buffers that come back: no allocation per message at steady state, and no more kept than a few.

use super::decoder::Partial;

/// How many free buffers are kept, and the largest capacity worth keeping.
const MAX_FREE: usize = 32;
const MAX_KEPT_BYTES: usize = 128 * 1024;

/// A shard's free buffers.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    /// What a decoder keeps while something is incomplete; idle.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    pub(super) partials: Vec<Box<Partial>>,
}

impl BufferPool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    /// Gives a buffer back; a very large one is freed instead.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= MAX_KEPT_BYTES && self.free.len() < MAX_FREE {
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Gives back what a decoder kept; everything in it has ended.
    pub(super) fn put_partial(&mut self, mut partial: Box<Partial>) {
        if self.partials.len() < MAX_FREE {
            partial.clear();
            self.partials.push(partial);
        }
    }
}
