//! The clocks: one monotonic, started with the server; the wall clock only where a token or session names a date.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wsguard_proto::time::Moment;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Moment {
        Moment::START.after_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same moment on tokio's clock.
    pub(super) fn instant(&self, moment: Moment) -> tokio::time::Instant {
        /// Where a clock's own numbers end before the far end of ours.
        const FAR: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 86_400);
        let far = || self.start + FAR;
        self.start.checked_add(moment.since(Moment::START)).unwrap_or_else(far).into()
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn unix_ms() -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// When a session ends that carries an expiry by the wall clock.
    pub(super) fn expiry(now: Moment, expires_at_unix_ms: Option<u64>) -> Moment {
        expires_at_unix_ms.map_or(Moment::NEVER, |at| now.after_millis(at.saturating_sub(Self::unix_ms())))
    }
}
