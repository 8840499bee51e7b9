//! What one connection has come to, for the record of its close.

/// The sums of one open connection. Bytes are those of frames: neither of the request nor of the 101.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// What is not written yet of the 101, which goes out first.
    head_left: u64,
}

impl Tally {
    /// Of a connection that opens with a 101 of `head` bytes; `received` bytes came behind its request.
    pub(super) fn begin(head: usize, received: usize) -> Self {
        let (head_left, bytes_in) = (head as u64, received as u64);
        Self { messages_in: 0, messages_out: 0, bytes_in, bytes_out: 0, head_left }
    }

    /// Counts what the socket took; returns how much of it was frames.
    pub(super) fn wrote(&mut self, bytes: usize) -> u64 {
        let of_head = self.head_left.min(bytes as u64);
        self.head_left -= of_head;
        let of_frames = bytes as u64 - of_head;
        self.bytes_out += of_frames;
        of_frames
    }

    /// The sums when what waits is written as well.
    pub(super) fn with_unsent(mut self, bytes: usize) -> Self {
        self.wrote(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_101_is_no_frame() {
        let mut tally = Tally::begin(100, 7);
        assert_eq!((tally.wrote(60), tally.with_unsent(45).bytes_out), (0, 5));
        assert_eq!((tally.wrote(0), tally.wrote(43), tally.wrote(4)), (0, 3, 4));
        assert_eq!((tally.bytes_in, tally.bytes_out, tally.with_unsent(1).bytes_out), (7, 7, 8));
    }
}
