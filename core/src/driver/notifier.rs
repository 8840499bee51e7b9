//! Wakes an application that waits for events: a thread of its own, or an event loop that watches a descriptor.
//!
//! One consumer waits; any thread notifies, with a descriptor also a signal handler. What the consumer then looks for is
//! not decided here.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wsguard_proto::lock::lock;

use super::wake::Wake;

/// Wakes one consumer. Clones share the same state.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Notifications so far. Each is counted before it is written to the descriptor: whoever reads it knows of it.
    notified: AtomicU64,
    /// The consumer's: the notifications that it has taken.
    taken: AtomicU64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Thread {
        lock: Mutex<()>,
        condition: Condvar,
    },
    Descriptor {
        descriptor: Descriptor,
        /// The consumer's: the notifications that it has read. One may be written later than it is counted.
        read: AtomicU64,
    },
}

/// Why [`Notifier::wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There is a notification that was not taken yet.
    Notified,
    /// The time is over.
    TimedOut,
    /// A signal handler has run on this thread. With a descriptor only.
    Interrupted,
}

/// No wait is longer; a consumer that has more time waits again.
#[cfg(unix)]
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

impl Notifier {
    /// For a consumer that is a thread, which waits in [`wait`](Self::wait).
    pub fn thread() -> Self {
        Self::new(Way::Thread { lock: Mutex::new(()), condition: Condvar::new() })
    }

    /// For a consumer that watches a descriptor. [`Unsupported`](io::ErrorKind::Unsupported) where the platform has none that an
    /// event loop can watch.
    pub fn descriptor() -> io::Result<Self> {
        Ok(Self::new(Way::Descriptor { descriptor: Descriptor::open()?, read: AtomicU64::new(0) }))
    }

    fn new(way: Way) -> Self {
        Self(Arc::new(Shared { notified: AtomicU64::new(0), taken: AtomicU64::new(0), way }))
    }

    /// The descriptor, readable while there is a notification that was not taken; `None` without one.
    pub fn number(&self) -> Option<i32> {
        match &self.0.way {
            Way::Thread { .. } => None,
            Way::Descriptor { descriptor, .. } => Some(descriptor.number()),
        }
    }

    /// Wakes the consumer. With a descriptor this adds to a number and calls `write`: signal handlers may do it.
    pub fn notify(&self) {
        self.0.notified.fetch_add(1, Ordering::AcqRel);
        match &self.0.way {
            Way::Thread { lock: waiting, condition } => {
                // Not between the consumer's look and its sleep.
                drop(lock(waiting));
                condition.notify_one();
            }
            Way::Descriptor { descriptor, .. } => descriptor.write(),
        }
    }

    /// Takes every notification so far and makes the descriptor unreadable. Returns true if there was one, so that there may
    /// be something to look for. For the consumer alone.
    pub fn take(&self) -> bool {
        if let Way::Descriptor { descriptor, read } = &self.0.way {
            let mut count = read.load(Ordering::Relaxed);
            if count < self.0.notified.load(Ordering::Acquire) {
                count += descriptor.read();
                read.store(count, Ordering::Relaxed);
            }
        }
        // After reading: what was read must not take its notification with it.
        let now = self.0.notified.load(Ordering::Acquire);
        self.0.taken.swap(now, Ordering::Relaxed) != now
    }

    fn is_notified(&self) -> bool {
        self.0.notified.load(Ordering::Acquire) != self.0.taken.load(Ordering::Relaxed)
    }

    /// Waits for a notification, at most `timeout`; `None` waits for ever. It takes nothing. For the consumer alone, who looks
    /// at the clock after [`Waited::TimedOut`]: a wait may end after a day.
    pub fn wait(&self, timeout: Option<Duration>) -> Waited {
        match &self.0.way {
            Way::Thread { lock, condition } => self.wait_for_thread(lock, condition, timeout),
            Way::Descriptor { descriptor, .. } => descriptor.wait(timeout),
        }
    }

    fn wait_for_thread(&self, waiting: &Mutex<()>, condition: &Condvar, timeout: Option<Duration>) -> Waited {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut guard = lock(waiting);
        while !self.is_notified() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            guard = match left {
                Some(Duration::ZERO) => return Waited::TimedOut,
                Some(left) => condition.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
                None => condition.wait(guard).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Waited::Notified
    }
}

impl Default for Notifier {
    /// For a consumer that is a thread.
    fn default() -> Self {
        Self::thread()
    }
}

impl Wake for Notifier {
    fn wake(&self) {
        self.notify();
    }
}

#[cfg(unix)]
mod platform {
    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    use super::{LONGEST_WAIT, Waited};

    /// An eventfd: one number, half the cost of a socket pair.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[derive(Debug)]
    pub(super) struct Descriptor(std::os::fd::OwnedFd);

    #[cfg(any(target_os = "linux", target_os = "android"))]
    impl Descriptor {
        pub(super) fn open() -> io::Result<Self> {
            use rustix::event::{EventfdFlags, eventfd};
            Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
        }

        fn readable(&self) -> impl AsFd + '_ {
            &self.0
        }

        pub(super) fn write(&self) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        /// How often it was written since the last read.
        pub(super) fn read(&self) -> u64 {
            let mut count = [0; 8];
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut count)) {
                Ok(8) => u64::from_ne_bytes(count),
                _ => 0,
            }
        }
    }

    /// A socket pair: a byte for each notification.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[derive(Debug)]
    pub(super) struct Descriptor {
        written: std::os::unix::net::UnixStream,
        readable: std::os::unix::net::UnixStream,
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    impl Descriptor {
        pub(super) fn open() -> io::Result<Self> {
            let (written, readable) = std::os::unix::net::UnixStream::pair()?;
            written.set_nonblocking(true)?;
            readable.set_nonblocking(true)?;
            Ok(Self { written, readable })
        }

        fn readable(&self) -> impl AsFd + '_ {
            &self.readable
        }

        pub(super) fn write(&self) {
            let _ = rustix::io::write(&self.written, &[1]);
        }

        /// How often it was written since the last read.
        pub(super) fn read(&self) -> u64 {
            let (mut bytes, mut count) = ([0; 64], 0);
            loop {
                match rustix::io::retry_on_intr(|| rustix::io::read(&self.readable, &mut bytes)) {
                    Ok(read) if read == bytes.len() => count += read as u64,
                    Ok(read) => return count + read as u64,
                    Err(_) => return count,
                }
            }
        }
    }

    impl Descriptor {
        pub(super) fn number(&self) -> i32 {
            use std::os::fd::AsRawFd as _;
            self.readable().as_fd().as_raw_fd()
        }

        pub(super) fn wait(&self, timeout: Option<Duration>) -> Waited {
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(LONGEST_WAIT)).ok());
            let readable = self.readable();
            match poll(&mut [PollFd::new(&readable, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => Waited::TimedOut,
                Err(Errno::INTR) => Waited::Interrupted,
                _ => Waited::Notified,
            }
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;
    use std::time::Duration;

    use super::Waited;

    /// The event loops of this platform watch no descriptors.
    #[derive(Debug)]
    pub(super) enum Descriptor {}

    impl Descriptor {
        pub(super) fn open() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn number(&self) -> i32 {
            match *self {}
        }

        pub(super) fn write(&self) {
            match *self {}
        }

        pub(super) fn read(&self) -> u64 {
            match *self {}
        }

        pub(super) fn wait(&self, _: Option<Duration>) -> Waited {
            match *self {}
        }
    }
}

use platform::Descriptor;

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> impl Iterator<Item = Notifier> {
        [Some(Notifier::thread()), Notifier::descriptor().ok()].into_iter().flatten()
    }

    #[test]
    fn notifies_until_it_is_taken() {
        for notifier in both() {
            assert!(!notifier.take());
            assert_eq!(notifier.wait(Some(Duration::from_millis(1))), Waited::TimedOut);
            notifier.notify();
            notifier.clone().wake();
            assert_eq!(notifier.wait(None), Waited::Notified);
            assert_eq!(notifier.wait(Some(Duration::MAX)), Waited::Notified, "a wait takes nothing");
            assert!(notifier.take());
            assert!(!notifier.take());
            assert_eq!(notifier.wait(Some(Duration::ZERO)), Waited::TimedOut);
        }
    }

    #[test]
    fn wakes_a_thread_that_waits() {
        for notifier in both() {
            let consumer = notifier.clone();
            let thread = std::thread::spawn(move || consumer.wait(Some(Duration::from_secs(60))));
            notifier.notify();
            assert_eq!(thread.join().unwrap(), Waited::Notified);
        }
    }

    #[test]
    fn only_one_of_the_two_has_a_descriptor() {
        assert_eq!(Notifier::thread().number(), None);
        #[cfg(unix)]
        assert!(Notifier::descriptor().unwrap().number().is_some_and(|number| number > 2));
    }

    /// A thread that was held up between counting and writing: the consumer neither spins nor misses it.
    #[cfg(unix)]
    #[test]
    fn what_is_written_later_than_it_is_counted_is_read() {
        let notifier = Notifier::descriptor().unwrap();
        let Way::Descriptor { descriptor, .. } = &notifier.0.way else { panic!("no descriptor") };
        notifier.0.notified.fetch_add(1, Ordering::AcqRel);
        assert!(notifier.take(), "it is known");
        assert!(!notifier.take());
        descriptor.write();
        assert_eq!(notifier.wait(Some(Duration::ZERO)), Waited::Notified);
        assert!(!notifier.take(), "nothing new");
        assert_eq!(notifier.wait(Some(Duration::ZERO)), Waited::TimedOut, "and the descriptor is silent");
    }
}
