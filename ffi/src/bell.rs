//! Wakes the application: a file descriptor that is readable when there may be something to take.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wsguard::host::Wake;

#[derive(Debug)]
struct Wires {
    /// How often it was rung; counted before the byte is written, so that whoever reads a byte knows of its ring.
    rung: AtomicU64,
    /// The consumer's: rings it knows of, and bytes it has read. A byte may come later than its ring.
    known: AtomicU64,
    read: AtomicU64,
    ring: UnixStream,
    heard: UnixStream,
}

/// The two ends.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Wires>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.rung.fetch_add(1, Ordering::AcqRel);
        let _ = (&self.0.ring).write(&[1]);
    }
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let (ring, heard) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self(Arc::new(Wires {
            rung: AtomicU64::new(0),
            known: AtomicU64::new(0),
            read: AtomicU64::new(0),
            ring,
            heard,
        })))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.heard.as_raw_fd()
    }

    /// Silences it; whether it had rung, so that there may be something that was not seen yet. For one consumer.
    pub(crate) fn silence(&self) -> bool {
        let Wires { rung, known, read, .. } = &*self.0;
        let mut bytes_read = read.load(Ordering::Relaxed);
        if bytes_read < rung.load(Ordering::Acquire) {
            bytes_read += self.read_bytes();
            read.store(bytes_read, Ordering::Relaxed);
        }
        // After reading: a byte that is gone must not take its ring with it.
        let now = rung.load(Ordering::Acquire);
        known.swap(now, Ordering::Relaxed) != now
    }

    fn read_bytes(&self) -> u64 {
        let mut bytes = [0; 64];
        let mut count = 0;
        loop {
            match (&self.0.heard).read(&mut bytes) {
                Ok(read) => {
                    count += read as u64;
                    if read < bytes.len() {
                        return count;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return count,
            }
        }
    }

    /// Waits until it rings or `patience` is over, or a signal came; `None` waits for ever.
    pub(crate) fn wait(&self, patience: Option<Duration>) {
        // Rounded up: a wait that ends early would be repeated until its time is over.
        let timeout = patience.map_or(PollTimeout::NONE, |patience| {
            let ms = patience.as_micros().div_ceil(1000);
            i32::try_from(ms).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut [PollFd::new(self.0.heard.as_fd(), PollFlags::POLLIN)], timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_until_it_is_silenced() {
        let bell = Bell::new().unwrap();
        assert!(!bell.silence());
        bell.wake();
        bell.wake();
        bell.wait(None);
        assert!(bell.silence());
        assert!(!bell.silence());
        bell.wait(Some(Duration::from_millis(1)));
    }

    fn is_readable(bell: &Bell) -> bool {
        let mut fds = [PollFd::new(bell.0.heard.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    /// A ringer that was interrupted between counting and writing: the consumer neither spins nor misses it.
    #[test]
    fn a_byte_that_comes_later_than_its_ring_is_read() {
        let bell = Bell::new().unwrap();
        bell.0.rung.fetch_add(1, Ordering::AcqRel);
        assert!(bell.silence(), "the ring is known");
        assert!(!bell.silence());
        (&bell.0.ring).write_all(&[1]).unwrap();
        assert!(is_readable(&bell));
        assert!(!bell.silence(), "nothing new");
        assert!(!is_readable(&bell), "and the descriptor is silent");
    }
}
