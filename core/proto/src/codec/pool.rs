//! Buffers that come back: no allocation per message at steady state, nor for a small message to a thousand connections.

use super::partial::Partial;

/// How many free buffers are kept, the largest capacity worth keeping, and that of all of them.
const MAX_FREE: usize = 1024;
const MAX_KEPT_BYTES: usize = 128 * 1024;
const MAX_KEPT_BYTES_OF_ALL: usize = 4 * 1024 * 1024;
/// How much of what decoders keep is kept.
const MAX_FREE_PARTIALS: usize = 32;

/// A shard's free buffers.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    free_bytes: usize,
    /// What a decoder keeps while something is incomplete; idle.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    pub(super) partials: Vec<Box<Partial>>,
}

impl BufferPool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer
    }

    /// Gives a buffer back; a very large one, or one of too many, is freed instead.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let has_room = self.free.len() < MAX_FREE && self.free_bytes + bytes <= MAX_KEPT_BYTES_OF_ALL;
        if bytes > 0 && bytes <= MAX_KEPT_BYTES && has_room {
            buffer.clear();
            self.free.push(buffer);
            self.free_bytes += bytes;
        }
    }

    /// Gives back what a decoder kept; everything in it has ended.
    pub(super) fn put_partial(&mut self, mut partial: Box<Partial>) {
        if self.partials.len() < MAX_FREE_PARTIALS {
            partial.clear();
            self.partials.push(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let mut pool = BufferPool::default();
        pool.put(Vec::new());
        pool.put(Vec::with_capacity(MAX_KEPT_BYTES + 1));
        assert_eq!((pool.free.len(), pool.free_bytes), (0, 0));
        for _ in 0..2 * MAX_FREE {
            pool.put(Vec::with_capacity(100));
        }
        assert_eq!((pool.free.len(), pool.free_bytes), (MAX_FREE, 100 * MAX_FREE));
        while pool.take().capacity() > 0 {}
        assert_eq!((pool.free.len(), pool.free_bytes), (0, 0));
        for _ in 0..MAX_FREE {
            pool.put(Vec::with_capacity(MAX_KEPT_BYTES));
        }
        assert_eq!(pool.free_bytes, MAX_KEPT_BYTES_OF_ALL);
    }
}
