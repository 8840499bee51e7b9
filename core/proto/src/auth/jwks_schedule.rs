//! When a key set is fetched: in good time, once for whoever asks, seldom while it fails.

use crate::time::Moment;

/// The least time between two fetches in turn, in seconds, whatever is configured or answered.
const LEAST_AGE_S: u64 = 60;
/// The time within which unknown `kid`s cause one fetch, in milliseconds.
const UNKNOWN_KID_MS: u64 = 30_000;
/// The wait behind the first failure, in milliseconds; twice as long behind each that follows.
const FIRST_BACK_OFF_MS: u64 = 1000;
/// The longest wait behind a failure, in milliseconds.
const MOST_BACK_OFF_MS: u64 = 60_000;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksStep {
    /// Fetch now.
    Fetch,
    /// The set has just ended to serve: say so, and go on.
    Expired,
    /// Nothing until then, unless an unknown `kid` comes.
    WaitUntil(Moment),
}

/// Whether the last set may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// The last fetch succeeded.
    Good,
    /// Fetches fail since then: it serves for its time, which `is_over` at last.
    Failing { since: Moment, is_over: bool },
}

/// Decides when the set is fetched. It knows no clock, and no network.
#[derive(Clone, Debug)]
pub(super) struct JwksSchedule {
    max_age_s: u64,
    stale_s: u64,
    due: Moment,
    service: Service,
    failures: u32,
    is_fetching: bool,
    /// An unknown `kid` asks for a fetch that has not begun.
    is_wanted: bool,
    /// When an unknown `kid` asked last.
    asked: Option<Moment>,
}

impl JwksSchedule {
    /// The first fetch is due at once.
    pub(super) fn new(max_age_s: u64, stale_s: u64) -> Self {
        Self {
            max_age_s,
            stale_s,
            due: Moment::START,
            service: Service::Good,
            failures: 0,
            is_fetching: false,
            is_wanted: false,
            asked: None,
        }
    }

    /// The same state with other limits, after a reload. The next fetch is not later than the new limits want it; one that is
    /// under way is for the set before, and begins anew for this one. A longer time for the last set counts from the same
    /// failure; where it is over even so, nobody waits for the next fetch in turn.
    pub(super) fn with_limits(mut self, max_age_s: u64, stale_s: u64, now: Moment) -> Self {
        (self.max_age_s, self.stale_s) = (max_age_s, stale_s);
        self.due = self.due.min(now.after_millis(max_age_s.max(LEAST_AGE_S).saturating_mul(1000)));
        if let Service::Failing { since, is_over } = &mut self.service {
            *is_over &= now >= end_of_service(*since, stale_s);
        }
        if !self.serves() {
            self.due = now;
        }
        self.is_wanted |= core::mem::take(&mut self.is_fetching);
        self
    }

    /// What whoever fetches is to do. [`JwksStep::Fetch`] is followed by [`Self::succeeded`] or [`Self::failed`].
    pub(super) fn next(&mut self, now: Moment) -> JwksStep {
        let mut wake = self.due;
        if let Service::Failing { since, is_over: is_over @ false } = &mut self.service {
            let end = end_of_service(*since, self.stale_s);
            if now >= end {
                *is_over = true;
                return JwksStep::Expired;
            }
            wake = wake.min(end);
        }
        if self.is_wanted || now >= self.due {
            (self.is_wanted, self.is_fetching) = (false, true);
            return JwksStep::Fetch;
        }
        JwksStep::WaitUntil(wake)
    }

    /// A token names an unknown `kid`: whether a fetch is under way, or begins for it, that it may wait for.
    pub(super) fn ask(&mut self, now: Moment) -> bool {
        if self.is_fetching || self.is_wanted {
            return true;
        }
        let rests = self.asked.is_some_and(|asked| now < asked.after_millis(UNKNOWN_KID_MS));
        if !rests {
            (self.asked, self.is_wanted) = (Some(now), true);
        }
        !rests
    }

    /// A good set came. `max_age_s`: what the response says of its age.
    pub(super) fn succeeded(&mut self, now: Moment, max_age_s: Option<u64>) {
        let age_s = max_age_s.map_or(self.max_age_s, |stated| stated.min(self.max_age_s)).max(LEAST_AGE_S);
        self.due = now.after_millis(age_s.saturating_mul(1000));
        (self.service, self.failures, self.is_fetching) = (Service::Good, 0, false);
    }

    /// No set came, or a bad one. `dice`: any number, so that many servers do not come back in step.
    pub(super) fn failed(&mut self, now: Moment, dice: u64) {
        let longest = (FIRST_BACK_OFF_MS << self.failures.min(16)).min(MOST_BACK_OFF_MS);
        self.due = now.after_millis(longest / 2 + dice % (longest / 2 + 1));
        (self.failures, self.is_fetching) = (self.failures.saturating_add(1), false);
        if self.service == Service::Good {
            self.service = Service::Failing { since: now, is_over: false };
        }
    }

    /// Whether the last set serves.
    pub(super) fn serves(&self) -> bool {
        !matches!(self.service, Service::Failing { is_over: true, .. })
    }

    /// Fetches that failed since the last good one.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// When the last set ends to serve, where fetches fail since then.
fn end_of_service(since: Moment, stale_s: u64) -> Moment {
    since.after_millis(stale_s.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    /// A schedule with a good set since the second 0.
    fn fresh(max_age_s: u64, stale_s: u64) -> JwksSchedule {
        let mut schedule = JwksSchedule::new(max_age_s, stale_s);
        assert_eq!(schedule.next(at(0)), JwksStep::Fetch);
        schedule.succeeded(at(0), None);
        schedule
    }

    #[test]
    fn the_lesser_age_counts_and_a_minute_passes_in_any_case() {
        for (configured, answered, next) in [
            (600, None, 600),
            (600, Some(300), 300),
            (600, Some(3600), 600),
            (600, Some(0), 60),
            (600, Some(59), 60),
            (1, None, 60),
            (u64::MAX / 2000, Some(u64::MAX), u64::MAX / 2000),
        ] {
            let mut schedule = JwksSchedule::new(configured, 0);
            assert_eq!(schedule.next(at(0)), JwksStep::Fetch);
            schedule.succeeded(at(0), answered);
            let due = Moment::START.after_millis(next * 1000);
            assert_eq!(schedule.next(at(1)), JwksStep::WaitUntil(due), "{configured} {answered:?}");
            assert_eq!(schedule.next(due), JwksStep::Fetch);
        }
    }

    #[test]
    fn unknown_kids_cause_one_fetch_in_thirty_seconds() {
        let mut schedule = fresh(600, 86_400);
        assert!(schedule.ask(at(1)), "also right behind the start");
        assert!(schedule.ask(at(1)), "who comes meanwhile waits, too");
        assert_eq!(schedule.next(at(1)), JwksStep::Fetch);
        assert!(schedule.ask(at(2)), "a fetch is under way");
        schedule.succeeded(at(3), None);
        assert_eq!(schedule.next(at(3)), JwksStep::WaitUntil(at(603)));
        for second in 3..31 {
            assert!(!schedule.ask(at(second)), "{second}");
            assert!(matches!(schedule.next(at(second)), JwksStep::WaitUntil(_)));
        }
        assert!(schedule.ask(at(31)));
        assert_eq!(schedule.next(at(31)), JwksStep::Fetch);
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later() {
        let mut schedule = fresh(600, 86_400);
        let mut now = at(600);
        for longest in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000] {
            for dice in [0, 7, longest / 2, u64::MAX] {
                let mut other = schedule.clone();
                assert_eq!(other.next(now), JwksStep::Fetch);
                other.failed(now, dice);
                let JwksStep::WaitUntil(next) = other.next(now) else { panic!("no wait") };
                assert!(next >= now.after_millis(longest / 2) && next <= now.after_millis(longest), "{longest} {dice}");
            }
            assert_eq!(schedule.next(now), JwksStep::Fetch);
            schedule.failed(now, u64::MAX);
            now = now.after_millis(longest);
        }
        assert_eq!((schedule.failures(), schedule.serves()), (9, true));
        assert_eq!(schedule.next(now), JwksStep::Fetch);
        schedule.succeeded(now, None);
        assert_eq!(schedule.failures(), 0);
    }

    #[test]
    fn the_last_set_serves_for_its_time_from_the_first_failure() {
        let mut schedule = fresh(600, 100);
        let mut now = at(600);
        let mut last = now;
        loop {
            match schedule.next(now) {
                JwksStep::Fetch => schedule.failed(now, 0),
                JwksStep::WaitUntil(next) => (last, now) = (now, next),
                JwksStep::Expired => break,
            }
            assert!(schedule.serves());
        }
        assert!(now == at(700) && last < now);
        assert!(!schedule.serves());
        // It is told once, and fetches go on.
        let JwksStep::WaitUntil(next) = schedule.next(now) else { panic!("no wait") };
        assert_eq!(schedule.next(next), JwksStep::Fetch);
        schedule.failed(next, 0);
        assert!(!schedule.serves() && matches!(schedule.next(next), JwksStep::WaitUntil(_)));
        schedule.succeeded(next, None);
        assert!(schedule.serves());
    }

    #[test]
    fn without_a_stale_time_the_first_failure_ends_it() {
        let mut schedule = fresh(600, 0);
        assert_eq!(schedule.next(at(600)), JwksStep::Fetch);
        schedule.failed(at(601), 0);
        assert_eq!(schedule.next(at(601)), JwksStep::Expired);
    }

    #[test]
    fn a_reload_shortens_and_does_not_fetch() {
        let mut schedule = fresh(600, 1000).with_limits(120, 10, at(100));
        assert_eq!(schedule.next(at(100)), JwksStep::WaitUntil(at(220)));
        assert_eq!(schedule.next(at(220)), JwksStep::Fetch);
        schedule.failed(at(220), u64::MAX);
        let mut longer = schedule.clone().with_limits(3600, 5, at(221));
        assert_eq!(longer.next(at(221)), JwksStep::Fetch);
        longer.failed(at(221), u64::MAX);
        assert_eq!(longer.next(at(226)), JwksStep::Expired);
    }

    #[test]
    fn a_reload_in_an_outage_lets_the_last_set_serve_for_the_time_that_counts_now() {
        let mut schedule = fresh(600, 10);
        assert_eq!(schedule.next(at(600)), JwksStep::Fetch);
        schedule.failed(at(600), u64::MAX);
        assert_eq!(schedule.next(at(610)), JwksStep::Expired);
        // Too little is no more than before, but nobody waits for the fetch any longer.
        let mut short = schedule.clone().with_limits(600, 20, at(620));
        assert!(!short.serves() && short.next(at(620)) == JwksStep::Fetch);
        let mut longer = schedule.with_limits(600, 50, at(620));
        assert!(longer.serves());
        assert_eq!(longer.next(at(620)), JwksStep::Fetch);
        longer.failed(at(620), u64::MAX);
        assert!(longer.next(at(649)) != JwksStep::Expired && longer.next(at(650)) == JwksStep::Expired);
    }

    proptest! {
        /// Whatever happens: of all fetches, those that nobody but unknown kids caused are 30 s apart, and those in turn behind a
        /// good one a minute.
        #[test]
        fn fetches_are_bounded(events in prop::collection::vec((0..40_000_u64, 0..4_u8, any::<u64>()), 1..200)) {
            let mut schedule = JwksSchedule::new(1, 300);
            let (mut now, mut fetches, mut failures) = (Moment::START, 0_u64, 0_u64);
            for (passed, what, dice) in events {
                now = now.after_millis(passed);
                if what == 0 {
                    schedule.ask(now);
                }
                while let step @ (JwksStep::Fetch | JwksStep::Expired) = schedule.next(now) {
                    if step == JwksStep::Fetch {
                        fetches += 1;
                        if dice % 2 == 0 { schedule.succeeded(now, Some(dice)) } else {
                            failures += 1;
                            schedule.failed(now, dice);
                        }
                    }
                }
            }
            let seconds = now.as_nanos() / 1_000_000_000;
            prop_assert!(fetches <= 2 + failures + seconds / 30 + seconds / 60, "{fetches} {failures} {seconds}");
        }
    }
}
