//! Wakes the application: a file descriptor that is readable when there may be something to take.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wsguard::host::Wake;

#[derive(Debug)]
struct Wires {
    rang: AtomicBool,
    ring: UnixStream,
    heard: UnixStream,
}

/// The two ends.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Arc<Wires>);

impl Wake for Bell {
    fn wake(&self) {
        // In this order: a consumer that sees the byte too early waits once more for nothing; one that took the mark
        // before the byte came would leave the descriptor readable for ever.
        let _ = (&self.0.ring).write(&[1]);
        self.0.rang.store(true, Ordering::Release);
    }
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let (ring, heard) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self(Arc::new(Wires { rang: AtomicBool::new(false), ring, heard })))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.heard.as_raw_fd()
    }

    /// Silences it; whether it had rung, so that there may be something that was not seen yet.
    pub(crate) fn silence(&self) -> bool {
        if !self.0.rang.swap(false, Ordering::AcqRel) {
            return false;
        }
        let mut bytes = [0; 64];
        loop {
            match (&self.0.heard).read(&mut bytes) {
                Ok(read) if read == bytes.len() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return true,
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
}
