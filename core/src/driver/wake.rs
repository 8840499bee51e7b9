//! When the application is woken: once per batch, at once for what it listens to, and otherwise soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use super::caught::{caught, said};
use super::events::{EventBatch, kind};

/// How long events that nobody listens to may wait for one that wakes the application anyway.
const IGNORED_WAIT: Duration = Duration::from_millis(20);

/// Wakes the application: called at most once per batch, on a shard's thread. It must not block.
pub trait Wake: Send + Sync + 'static {
    /// There are events, or the server has stopped.
    fn wake(&self);
}

/// Whether the application waits for events, and which of them it listens to.
pub(super) struct ApplicationWaker {
    wake: Box<dyn Wake>,
    waits: AtomicBool,
    /// The kinds of events that the application does not listen to.
    ignored: AtomicU8,
    /// There may be events that it listens to.
    has_wanted: AtomicBool,
    /// A shard will wake it soon for those it does not listen to.
    wakes_later: AtomicBool,
}

impl core::fmt::Debug for ApplicationWaker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ApplicationWaker").finish_non_exhaustive()
    }
}

impl ApplicationWaker {
    pub(super) fn new(wake: Box<dyn Wake>) -> Self {
        let (waits, ignored, has_wanted, wakes_later) = Default::default();
        Self { wake, waits, ignored, has_wanted, wakes_later }
    }

    /// Sets which of the events that ask for no answer the application listens to.
    pub(super) fn set_interest(&self, opens: bool, closes: bool, violations: bool) {
        let bit = |wanted: bool, kind: u8| if wanted { 0 } else { kind };
        let ignored = bit(opens, kind::OPEN) | bit(closes, kind::CLOSE) | bit(violations, kind::VIOLATION);
        self.ignored.store(ignored, Ordering::Relaxed);
    }

    pub(super) fn listens_to(&self, kinds: u8) -> bool {
        kinds & !self.ignored.load(Ordering::Relaxed) != 0
    }

    /// Notes, with the batch still locked, whether it holds what the application listens to.
    pub(super) fn note(&self, events: &EventBatch) -> bool {
        let is_wanted = self.listens_to(events.kinds);
        if is_wanted && !self.has_wanted.load(Ordering::Relaxed) {
            self.has_wanted.store(true, Ordering::Release);
        }
        is_wanted
    }

    /// Wakes the application if it waits: at once for what it listens to, else soon. Called on a shard's thread.
    pub(super) fn wake(self: &Arc<Self>) {
        if self.has_wanted.load(Ordering::Acquire) {
            self.wake_at_once();
        } else if !self.wakes_later.swap(true, Ordering::AcqRel) {
            let waker = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(IGNORED_WAIT).await;
                waker.wakes_later.store(false, Ordering::Release);
                waker.wake_at_once();
            });
        }
    }

    pub(super) fn wake_at_once(&self) {
        if self.waits.swap(false, Ordering::AcqRel) && caught(|| self.wake.wake()).is_none() {
            said(|| tracing::error!(target: "wsguard", "the application's own Wake panicked"));
        }
    }

    /// The application is about to sleep. It must look for events once more after this.
    pub(super) fn application_waits(&self) {
        self.has_wanted.store(false, Ordering::SeqCst);
        self.waits.store(true, Ordering::SeqCst);
    }
}
