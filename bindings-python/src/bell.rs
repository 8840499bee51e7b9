//! Wakes the application, once per batch: by a descriptor for event loops, or a thread that waits.
//!
//! It is rung on a shard's thread, so nothing here knows of the interpreter.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wsguard::binding::Wake;

/// A lock that a panic elsewhere does not make unusable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Inner {
    descriptor: Mutex<Option<Arc<Descriptor>>>,
    rang: Mutex<bool>,
    ringing: Condvar,
}

/// Rung by shards, heard by one consumer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<Inner>);

impl Bell {
    /// Makes it a descriptor that is readable while it rings; `None` where the platform has none that loops can watch.
    pub(crate) fn open(&self) -> std::io::Result<Option<i32>> {
        let descriptor = Descriptor::open()?;
        let number = descriptor.as_ref().map(Descriptor::number);
        *lock(&self.0.descriptor) = descriptor.map(Arc::new);
        Ok(number)
    }

    /// What is to be given to a server: fixed from here on, so that ringing needs no lock.
    pub(crate) fn ringer(&self) -> Ringer {
        Ringer { descriptor: lock(&self.0.descriptor).clone(), inner: Arc::clone(&self.0) }
    }

    /// Makes the descriptor unreadable again.
    pub(crate) fn silence(&self) {
        if let Some(descriptor) = &*lock(&self.0.descriptor) {
            descriptor.drain();
        }
    }

    /// Waits until it rings, at most `patience`; `None` waits for ever. Not for a bell with a descriptor.
    pub(crate) fn wait(&self, patience: Option<Duration>) {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut rang = lock(&self.0.rang);
        while !*rang {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            rang = match left {
                Some(Duration::ZERO) => return,
                Some(left) => self.0.ringing.wait_timeout(rang, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.ringing.wait(rang).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *rang = false;
    }

    /// Ends a wait of [`Bell::wait`].
    pub(crate) fn ring(&self) {
        *lock(&self.0.rang) = true;
        self.0.ringing.notify_one();
    }
}

/// The shards' end.
#[derive(Debug)]
pub(crate) struct Ringer {
    descriptor: Option<Arc<Descriptor>>,
    inner: Arc<Inner>,
}

impl Wake for Ringer {
    fn wake(&self) {
        match &self.descriptor {
            Some(descriptor) => descriptor.raise(),
            None => {
                *lock(&self.inner.rang) = true;
                self.inner.ringing.notify_one();
            }
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
