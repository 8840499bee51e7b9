//! Time as the pure layer sees it: nanoseconds since an arbitrary start, handed in as `now`. Nothing here reads a clock.

use core::time::Duration;

/// A point in monotonic time, in nanoseconds since the server's own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The start of time.
    pub const START: Moment = Moment(0);
    /// A moment that does not come: the deadline of what has none.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Moment(nanos)
    }

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Moment(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment `nanos` later; saturates at [`Moment::NEVER`].
    #[must_use]
    pub const fn after_nanos(self, nanos: u64) -> Self {
        Moment(self.0.saturating_add(nanos))
    }

    /// This moment `millis` later; saturates at [`Moment::NEVER`].
    #[must_use]
    pub const fn after_millis(self, millis: u64) -> Self {
        self.after_nanos(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds from `earlier` to this moment; zero when `earlier` is later.
    pub(crate) const fn since_nanos(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
