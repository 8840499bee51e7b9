//! Wakes the application once per batch of events: by a descriptor that an event loop watches, or by waking a thread.
//!
//! A shard's thread notifies, so nothing here touches the interpreter.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wsguard::binding::Wake;

use crate::lock::lock;

#[derive(Debug, Default)]
struct Inner {
    descriptor: Mutex<Option<Arc<Descriptor>>>,
    notified: Mutex<bool>,
    arrived: Condvar,
}

/// The application's end: one consumer waits on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier(Arc<Inner>);

impl Notifier {
    /// Opens a descriptor that is readable while events wait; `None` where the platform has none that loops can watch.
    pub(crate) fn open(&self) -> std::io::Result<Option<i32>> {
        let descriptor = Descriptor::open()?;
        let number = descriptor.as_ref().map(Descriptor::number);
        *lock(&self.0.descriptor) = descriptor.map(Arc::new);
        Ok(number)
    }

    /// The shards' end. It keeps today's descriptor, so that notifying takes no lock.
    pub(crate) fn for_shards(&self) -> ShardNotifier {
        ShardNotifier { descriptor: lock(&self.0.descriptor).clone(), inner: Arc::clone(&self.0) }
    }

    /// Makes the descriptor unreadable again.
    pub(crate) fn reset(&self) {
        if let Some(descriptor) = &*lock(&self.0.descriptor) {
            descriptor.drain();
        }
    }

    /// Waits until somebody notifies, at most `timeout`; `None` waits for ever. Not for a notifier with a descriptor.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut notified = lock(&self.0.notified);
        while !*notified {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            notified = match left {
                Some(Duration::ZERO) => return,
                Some(left) => self.0.arrived.wait_timeout(notified, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.arrived.wait(notified).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *notified = false;
    }

    /// Ends a wait of [`Notifier::wait`].
    pub(crate) fn notify(&self) {
        self.0.notify();
    }
}

impl Inner {
    fn notify(&self) {
        *lock(&self.notified) = true;
        self.arrived.notify_one();
    }
}

/// The shards' end of a [`Notifier`].
#[derive(Debug)]
pub(crate) struct ShardNotifier {
    descriptor: Option<Arc<Descriptor>>,
    inner: Arc<Inner>,
}

impl Wake for ShardNotifier {
    fn wake(&self) {
        match &self.descriptor {
            Some(descriptor) => descriptor.raise(),
            None => self.inner.notify(),
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::os::fd::{AsFd, AsRawFd};

    use nix::sys::eventfd::{EfdFlags, EventFd};

    /// An eventfd: one number, half the cost of a socket pair.
    #[derive(Debug)]
    pub(crate) struct Descriptor(EventFd);

    impl Descriptor {
        pub(crate) fn open() -> std::io::Result<Option<Self>> {
            Ok(Some(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?)))
        }

        pub(crate) fn number(&self) -> i32 {
            self.0.as_fd().as_raw_fd()
        }

        pub(crate) fn raise(&self) {
            let _ = self.0.write(1);
        }

        pub(crate) fn drain(&self) {
            let _ = self.0.read();
        }
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod platform {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// A socket pair.
    #[derive(Debug)]
    pub(crate) struct Descriptor {
        raised: UnixStream,
        heard: UnixStream,
    }

    impl Descriptor {
        pub(crate) fn open() -> std::io::Result<Option<Self>> {
            let (raised, heard) = UnixStream::pair()?;
            raised.set_nonblocking(true)?;
            heard.set_nonblocking(true)?;
            Ok(Some(Self { raised, heard }))
        }

        pub(crate) fn number(&self) -> i32 {
            self.heard.as_raw_fd()
        }

        pub(crate) fn raise(&self) {
            let _ = (&self.raised).write(&[1]);
        }

        pub(crate) fn drain(&self) {
            let mut bytes = [0; 64];
            while matches!((&self.heard).read(&mut bytes), Ok(read) if read == bytes.len()) {}
        }
    }
}

#[cfg(not(unix))]
mod platform {
    /// The loop of this platform watches no descriptors: a thread waits instead.
    #[derive(Debug)]
    pub(crate) enum Descriptor {}

    impl Descriptor {
        pub(crate) fn open() -> std::io::Result<Option<Self>> {
            Ok(None)
        }

        pub(crate) fn number(&self) -> i32 {
            match *self {}
        }

        pub(crate) fn raise(&self) {
            match *self {}
        }

        pub(crate) fn drain(&self) {
            match *self {}
        }
    }
}

use platform::Descriptor;
