//! Buffers that come back: no allocation per message at steady state, nor for a small message to a thousand connections.
//!
//! They are kept by size, and who takes one gets the size it needs: otherwise a peer could make us hold a large one for a
//! single byte, on each of its connections.

use super::partial::Partial;

/// Capacities that are kept: 256 bytes to 128 KiB, by powers of two.
const MIN_SHIFT: u32 = 8;
const SIZES: usize = 10;
/// How many free buffers of a size are kept, and how many bytes of all sizes.
const MAX_FREE: usize = 1024;
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// How much of what decoders keep is kept.
const MAX_FREE_PARTIALS: usize = 32;

/// A shard's free buffers.
#[derive(Debug, Default)]
pub struct BufferPool {
    /// By capacity: at least `256 << index`, less than twice that.
    free: [Vec<Vec<u8>>; SIZES],
    free_bytes: usize,
    /// What a decoder keeps while something is incomplete; idle.
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    pub(super) partials: Vec<Box<Partial>>,
}

impl BufferPool {
    /// An empty buffer with room for `bytes`, and less than four times that (or 512 bytes).
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let bytes = bytes.max(1 << MIN_SHIFT).checked_next_power_of_two().unwrap_or(bytes);
        let size = (bytes.ilog2() - MIN_SHIFT) as usize;
        let Some(buffer) = self.free.get_mut(size).and_then(Vec::pop) else { return Vec::with_capacity(bytes) };
        self.free_bytes -= buffer.capacity();
        buffer
    }

    /// Adds to a buffer. One without room for it is exchanged for a larger one.
    pub fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        let len = buffer.len() + bytes.len();
        if len > buffer.capacity() {
            let mut larger = self.take(len);
            larger.extend_from_slice(buffer);
            self.put(core::mem::replace(buffer, larger));
        }
        buffer.extend_from_slice(bytes);
    }

    /// Gives a buffer back; a very small or large one, or one of too many, is freed instead.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let size = capacity.checked_ilog2().and_then(|shift| shift.checked_sub(MIN_SHIFT));
        let Some(size) = size.map(|size| size as usize).filter(|size| *size < SIZES) else { return };
        if self.free[size].len() >= MAX_FREE || !self.make_room(size, capacity) {
            return;
        }
        buffer.clear();
        self.free_bytes += capacity;
        self.free[size].push(buffer);
    }

    /// Makes room for one more of a size: the size gives way of which most bytes are kept.
    fn make_room(&mut self, size: usize, capacity: usize) -> bool {
        while self.free_bytes + capacity > MAX_KEPT_BYTES {
            let kept = |size: &usize| self.free[*size].len() << *size;
            match (0..SIZES).max_by_key(kept) {
                Some(most) if most != size => match self.free[most].pop() {
                    Some(given_up) => self.free_bytes -= given_up.capacity(),
                    None => return false,
                },
                _ => return false,
            }
        }
        true
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

    const LARGEST: usize = 1 << (MIN_SHIFT as usize + SIZES - 1);

    impl BufferPool {
        fn kept(&self) -> (usize, usize) {
            let bytes = self.free.iter().flatten().map(Vec::capacity).sum::<usize>();
            assert_eq!(bytes, self.free_bytes);
            (self.free.iter().map(Vec::len).sum(), bytes)
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let mut pool = BufferPool::default();
        for capacity in [0, 255, 2 * LARGEST] {
            pool.put(Vec::with_capacity(capacity));
        }
        assert_eq!(pool.kept(), (0, 0));
        for _ in 0..2 * MAX_FREE {
            pool.put(Vec::with_capacity(300));
        }
        assert_eq!(pool.kept(), (MAX_FREE, 300 * MAX_FREE));
        for _ in 0..MAX_FREE {
            pool.put(Vec::with_capacity(LARGEST));
        }
        assert!(pool.kept().1 <= MAX_KEPT_BYTES);
    }

    #[test]
    fn whoever_takes_a_buffer_gets_the_size_it_needs() {
        let mut pool = BufferPool::default();
        for shift in MIN_SHIFT..MIN_SHIFT + SIZES as u32 {
            (0..3).for_each(|_| pool.put(Vec::with_capacity((2 << shift) - 1)));
        }
        for bytes in [0, 1, 255, 256, 257, 1000, 4096, 5000, 65_535, 65_536, LARGEST, LARGEST + 1, 3 * LARGEST] {
            let buffer = pool.take(bytes);
            assert!(buffer.is_empty() && buffer.capacity() >= bytes);
            assert!(buffer.capacity() < (4 * bytes).max(512), "{} for {bytes}", buffer.capacity());
        }
        pool.kept();
    }

    #[test]
    fn a_buffer_that_grows_is_exchanged() {
        let mut pool = BufferPool::default();
        pool.put(Vec::with_capacity(LARGEST));
        let mut buffer = pool.take(1);
        for n in 0..100_000u32 {
            pool.append(&mut buffer, &[n as u8]);
            assert!(buffer.capacity() < (4 * buffer.len()).max(512));
        }
        assert!(buffer.iter().enumerate().all(|(n, byte)| *byte == n as u8) && buffer.len() == 100_000);
        assert_eq!(pool.kept(), (9, LARGEST - 256), "all it was in before");
    }

    /// What one use filled the pool with does not leave the next one without.
    #[test]
    fn no_size_keeps_the_room_for_itself() {
        let mut pool = BufferPool::default();
        let mut fill = |capacity: usize| {
            (0..MAX_FREE).for_each(|_| pool.put(Vec::with_capacity(capacity)));
            let taken = (0..8).map(|_| pool.take(capacity).capacity()).collect::<Vec<_>>();
            let kept = pool.kept().1;
            assert!(kept <= MAX_KEPT_BYTES && pool.free_bytes == kept);
            (taken, pool.free[(capacity.ilog2() - MIN_SHIFT) as usize].len())
        };
        for capacity in [LARGEST, 1024, 2048, 512, LARGEST, 256, LARGEST] {
            let (taken, left) = fill(capacity);
            assert!(taken.iter().all(|bytes| *bytes == capacity) && left > 0, "{capacity}: {left} left");
        }
    }
}
