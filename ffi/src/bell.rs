//! Wakes the application: a file descriptor that is readable when there may be something to take.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wsguard::binding::Wake;

/// The wire from whoever rings to the one consumer who hears.
#[derive(Debug)]
pub(crate) struct Wires {
    /// How often it was rung; counted before the byte is written, so that whoever reads a byte knows of its ring.
    rung: AtomicU64,
    /// The consumer's: rings it knows of, and bytes it has read. A byte may come later than its ring.
    known: AtomicU64,
    read: AtomicU64,
    /// The application asked the consumer to come back.
    interrupted: AtomicBool,
    ring: UnixStream,
    heard: UnixStream,
}

impl Wires {
    /// Nothing but an atomic number and a `write`: signal handlers ring, too.
    pub(crate) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        let _ = (&self.ring).write(&[1]);
    }

    /// Lets the consumer come back without an event. For signal handlers: `errno` stays what it was.
    pub(crate) fn interrupt(&self) {
        let errno = Errno::last_raw();
        self.interrupted.store(true, Ordering::Release);
        self.ring();
        Errno::set_raw(errno);
    }
}

/// The two ends.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Wires>);

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It rang, or the time is over.
    Through,
    /// A signal handler has run on this thread.
    Signalled,
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.ring();
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
            interrupted: AtomicBool::new(false),
            ring,
            heard,
        })))
    }

    pub(crate) fn wires(&self) -> Arc<Wires> {
        Arc::clone(&self.0)
    }

    /// Whether the consumer was asked to come back since it did the last time.
    pub(crate) fn take_interrupt(&self) -> bool {
        self.0.interrupted.load(Ordering::Acquire) && self.0.interrupted.swap(false, Ordering::AcqRel)
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
    pub(crate) fn wait(&self, patience: Option<Duration>) -> Waited {
        // Rounded up: a wait that ends early would be repeated until its time is over.
        let timeout = patience.map_or(PollTimeout::NONE, |patience| {
            let ms = patience.as_micros().div_ceil(1000);
            i32::try_from(ms).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.0.heard.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => Waited::Signalled,
            _ => Waited::Through,
        }
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
        assert_eq!(bell.wait(None), Waited::Through);
        assert!(bell.silence());
        assert!(!bell.silence());
        bell.wait(Some(Duration::from_millis(1)));
    }

    #[test]
    fn an_interrupt_is_taken_once() {
        let bell = Bell::new().unwrap();
        assert!(!bell.take_interrupt());
        bell.wires().interrupt();
        bell.wires().interrupt();
        bell.wait(None);
        assert!(bell.silence());
        assert!(bell.take_interrupt());
        assert!(!bell.take_interrupt());
        assert!(!is_readable(&bell));
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
