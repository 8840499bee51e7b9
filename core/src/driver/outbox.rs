//! What a socket refused to take: made on demand, written with one vectored write, bounded by `max_outbox_bytes`.
//!
//! That bound is one of memory: no segment holds much more than what of it is unsent, whatever a slow reader leaves.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::socket::Socket;
use super::stream::Stream;
use wsguard_proto::codec::BufferPool;

/// Small frames are copied next to each other; larger shared ones are kept as they are.
const COPY_BYTES: usize = 2048;
/// What a segment may hold however little of it is unsent.
const REST_BYTES: usize = 2048;
/// A segment is not grown beyond this.
const SEGMENT_BYTES: usize = 64 * 1024;
/// Slices of one vectored write.
const MAX_SLICES: usize = 16;

/// Free outboxes kept for the next connections that need one: a message to a thousand of them allocates nothing.
const MAX_FREE: usize = 1024;

/// A shard's free buffers and outboxes.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) buffers: BufferPool,
    #[expect(clippy::vec_box, reason = "the boxes are what is reused")]
    free: Vec<Box<Outbox>>,
}

impl Pool {
    pub(super) fn take_outbox(&mut self) -> Box<Outbox> {
        self.free.pop().unwrap_or_default()
    }

    fn put_outbox(&mut self, outbox: Box<Outbox>) {
        if self.free.len() < MAX_FREE {
            self.free.push(outbox);
        }
    }
}

#[derive(Debug)]
enum Segment {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Owned(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
        }
    }

    /// What it holds in memory.
    fn held(&self) -> usize {
        match self {
            Segment::Owned(bytes) => bytes.capacity(),
            Segment::Shared(bytes) => bytes.len(),
        }
    }
}

/// Unsent bytes of one connection, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    sent: usize,
    len: usize,
    saved: Saved,
}

/// Bytes of the application that no byte in the outbox stands for, because compression has saved them: said all the same, and
/// written when the message is that they belong to. They are kept in two sums, so that one is always written soon.
#[derive(Debug, Default)]
struct Saved {
    /// Of messages that end within the next `until` bytes.
    earlier: usize,
    until: usize,
    later: usize,
}

impl Saved {
    fn add(&mut self, bytes: usize, len: usize) {
        if self.earlier == 0 {
            (self.earlier, self.until) = (bytes, len);
        } else {
            self.later += bytes;
        }
    }

    /// So much was written, and `len` is left.
    fn consume(&mut self, written: usize, len: usize) {
        self.until = self.until.saturating_sub(written);
        if self.until == 0 {
            let earlier = if len == 0 { 0 } else { self.later };
            *self = Self { earlier, until: len, later: 0 };
        }
    }
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        if let Some(Segment::Owned(last)) = self.segments.back_mut()
            && last.len() + bytes.len() <= SEGMENT_BYTES
        {
            return pool.buffers.append(last, bytes);
        }
        let mut segment = Vec::new();
        pool.buffers.append(&mut segment, bytes);
        self.segments.push_back(Segment::Owned(segment));
    }

    /// What was pushed last is so much shorter than what was said.
    pub(super) fn add_saved(&mut self, bytes: usize) {
        if bytes > 0 && self.len > 0 {
            self.saved.add(bytes, self.len);
        }
    }

    /// What was said and is not written, beyond its [`len`](Self::len).
    pub(super) fn saved(&self) -> usize {
        self.saved.earlier + self.saved.later
    }

    pub(super) fn push_shared(&mut self, frame: &Arc<[u8]>, pool: &mut Pool) {
        if frame.len() <= COPY_BYTES {
            return self.push(frame, pool);
        }
        self.len += frame.len();
        self.segments.push_back(Segment::Shared(Arc::clone(frame)));
    }

    /// Writes until all is sent or the socket takes no more.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        pool: &mut Pool,
    ) -> Poll<io::Result<()>> {
        while self.len > 0 {
            match self.poll_write_once(stream, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.consume(written, pool),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.shrink_first(pool);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the socket takes at once, for a stream that is about to be dropped: see [`Socket::send_unasked`]. Errors are
    /// the end that it is going to have anyway.
    pub(super) fn write_unasked(&mut self, socket: &Socket, pool: &mut Pool) {
        while let Some(first) = self.segments.front()
            && let Ok(written @ 1..) = socket.send_unasked(&first.bytes()[self.sent..])
        {
            self.consume(written, pool);
        }
    }

    /// Moves what is left of the first segment to a smaller one, once most of it is sent: copying costs a part of what sending
    /// did.
    fn shrink_first(&mut self, pool: &mut Pool) {
        let Some(first) = self.segments.front_mut() else { return };
        let rest = &first.bytes()[self.sent..];
        if first.held() <= REST_BYTES.max(4 * rest.len()) {
            return;
        }
        let mut smaller = Vec::new();
        pool.buffers.append(&mut smaller, rest);
        self.sent = 0;
        if let Segment::Owned(larger) = core::mem::replace(first, Segment::Owned(smaller)) {
            pool.buffers.put(larger);
        }
    }

    fn poll_write_once(&self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let (1, Some(only)) = (self.segments.len(), self.segments.front()) {
            // Cheaper than a vector of one.
            return Pin::new(stream).poll_write(cx, &only.bytes()[self.sent..]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&segment.bytes()[skip..]);
            count += 1;
        }
        Pin::new(stream).poll_write_vectored(cx, &slices[..count])
    }

    /// Gives an outbox back that is empty; what a slow reader's list of segments had grown to is not kept.
    pub(super) fn recycle(mut self: Box<Self>, pool: &mut Pool) {
        debug_assert!(self.is_empty() && self.segments.is_empty(), "only an empty outbox is reused");
        self.segments.shrink_to(MAX_SLICES);
        pool.put_outbox(self);
    }

    fn consume(&mut self, written: usize, pool: &mut Pool) {
        self.len -= written;
        self.sent += written;
        self.saved.consume(written, self.len);
        while let Some(first) = self.segments.front()
            && self.sent >= first.bytes().len()
        {
            self.sent -= first.bytes().len();
            if let Some(Segment::Owned(bytes)) = self.segments.pop_front() {
                pool.buffers.put(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_consumed_goes_in_order() {
        let mut pool = Pool::default();
        let mut outbox = Outbox::default();
        outbox.push(b"abc", &mut pool);
        outbox.push(b"def", &mut pool);
        outbox.push_shared(&Arc::from(vec![1u8; 5000]), &mut pool);
        outbox.push(b"xyz", &mut pool);
        assert_eq!((outbox.len(), outbox.segments.len()), (5009, 3));
        outbox.consume(4, &mut pool);
        assert_eq!(&outbox.segments[0].bytes()[outbox.sent..], b"ef");
        outbox.consume(5002, &mut pool);
        assert_eq!((outbox.len(), outbox.segments.len()), (3, 1));
        outbox.consume(3, &mut pool);
        assert!(outbox.is_empty() && outbox.segments.is_empty());
    }

    impl Outbox {
        /// What its segments hold in memory.
        fn held(&self) -> usize {
            self.segments.iter().map(Segment::held).sum()
        }
    }

    /// A pool whose buffers of every size are free, as after much use.
    fn used_pool() -> Pool {
        let mut pool = Pool::default();
        for shift in 8..=17 {
            (0..8).for_each(|_| pool.buffers.put(Vec::with_capacity(1 << shift)));
        }
        pool
    }

    /// Written bytes of the application are never told too early, and never much too late.
    #[test]
    fn what_was_saved_is_unwritten_as_long_as_its_message_is() {
        let mut pool = Pool::default();
        let mut outbox = Outbox::default();
        // Ends of messages in the outbox, with what was said up to there.
        let (mut ends, mut pushed, mut said, mut taken) = (Vec::new(), 0, 0, 0);
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (dice, size) = (seed >> 62, (seed >> 33) as usize % 900 + 1);
            if dice < 2 {
                let saved = if dice == 0 { size * 3 } else { 0 };
                outbox.push(&vec![0; size], &mut pool);
                outbox.add_saved(saved);
                (pushed, said) = (pushed + size, said + size + saved);
                ends.push((pushed, said));
            } else {
                let written = size.min(outbox.len());
                outbox.consume(written, &mut pool);
                taken += written;
            }
            let known = said - outbox.len() - outbox.saved();
            let written = ends.iter().rfind(|(end, _)| *end <= taken).map_or(0, |(_, said)| *said);
            let next = ends.iter().find(|(end, _)| *end > taken).map_or(said, |(_, said)| *said);
            assert!(known < next || outbox.is_empty(), "{known} before the message that ends at {next}");
            if outbox.is_empty() {
                assert_eq!((known, written), (said, said));
            }
        }
        assert!(said > 0 && taken > 0);
    }

    /// Also where the outbox is never empty.
    #[test]
    fn a_reader_that_is_always_behind_hears_of_what_is_written() {
        let mut pool = Pool::default();
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(&[0; 100], &mut pool);
            outbox.add_saved(900);
            if outbox.len() > 1000 {
                outbox.consume(100, &mut pool);
            }
            assert!(outbox.saved() <= 3 * 9 * 1000, "{} for {} bytes", outbox.saved(), outbox.len());
        }
    }

    #[test]
    fn a_small_segment_gets_a_small_buffer() {
        let mut pool = Pool::default();
        pool.buffers.put(Vec::with_capacity(128 * 1024));
        let mut outbox = Outbox::default();
        outbox.push(b"x", &mut pool);
        assert!(outbox.held() <= REST_BYTES, "{} for one byte", outbox.held());

        let (mut outbox, mut pool) = (Outbox::default(), used_pool());
        let large: Arc<[u8]> = Arc::from(vec![1u8; COPY_BYTES + 1]);
        for _ in 0..200 {
            outbox.push(b"x", &mut pool);
            outbox.push_shared(&large, &mut pool);
        }
        assert!(outbox.held() <= 2 * outbox.len(), "{} for {}", outbox.held(), outbox.len());
    }

    /// However it is filled and emptied.
    #[test]
    fn what_is_held_is_at_most_four_times_what_is_unsent() {
        let mut pool = used_pool();
        let large: Arc<[u8]> = Arc::from(vec![2u8; 100_000]);
        for (piece, written) in
            [(1, 1), (1000, 999), (3000, 20_000), (200_000, 199_999), (70_000, 1), (130_000, 64_000)]
        {
            let mut outbox = Outbox::default();
            let (mut pushed, mut taken) = (Vec::new(), Vec::new());
            for round in 0..400u32 {
                if round < 200 {
                    let bytes: Vec<u8> = (0..piece).map(|n| (n as u32 + round) as u8).collect();
                    outbox.push(&bytes, &mut pool);
                    pushed.extend_from_slice(&bytes);
                }
                if round % 50 == 7 && round < 200 {
                    outbox.push_shared(&large, &mut pool);
                    pushed.extend_from_slice(&large);
                }
                // What a socket takes before it is pending.
                let mut left = written.min(outbox.len());
                while left > 0 {
                    let now = left.min(outbox.segments[0].bytes().len() - outbox.sent);
                    taken.extend_from_slice(&outbox.segments[0].bytes()[outbox.sent..outbox.sent + now]);
                    outbox.consume(now, &mut pool);
                    left -= now;
                }
                outbox.shrink_first(&mut pool);
                let most = 4 * outbox.len() + REST_BYTES;
                assert!(outbox.held() <= most, "{piece}, {written}: {} for {}", outbox.held(), outbox.len());
            }
            assert_eq!(taken.len() + outbox.len(), pushed.len());
            assert!(pushed.starts_with(&taken), "{piece}, {written}: order");
        }
    }

    #[test]
    fn an_outbox_that_was_long_is_kept_short() {
        let mut pool = Pool::default();
        let mut outbox = pool.take_outbox();
        let frame: Arc<[u8]> = Arc::from(vec![1u8; COPY_BYTES + 1]);
        for _ in 0..1000 {
            outbox.push_shared(&frame, &mut pool);
        }
        outbox.consume(outbox.len(), &mut pool);
        outbox.recycle(&mut pool);
        assert!(pool.take_outbox().segments.capacity() <= MAX_SLICES);
    }
}
