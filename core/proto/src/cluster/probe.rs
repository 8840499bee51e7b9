//! Whether messages still arrive: a message of a node to itself, again and again.

use core::time::Duration;

use crate::time::Moment;

const EVERY_MS: u64 = 1500;
const MOST_MS: u64 = 2000;

/// The probe of one node.
#[derive(Default)]
pub(super) struct Probe {
    at: Moment,
    /// The number of the message that is on its way, and since when.
    sent: Option<(u64, Moment)>,
    took: Duration,
}

impl Probe {
    /// Begins anew at `now`.
    pub(super) fn start(&mut self, now: Moment) {
        (self.at, self.sent) = (now, None);
    }

    /// Whether a message is to be sent.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.sent.is_none() && self.at <= now
    }

    pub(super) fn sent(&mut self, number: u64, now: Moment) {
        (self.sent, self.at) = (Some((number, now)), now.after_millis(EVERY_MS));
    }

    /// It was not sent after all.
    pub(super) fn failed(&mut self) {
        self.sent = None;
    }

    pub(super) fn heard(&mut self, number: u64, now: Moment) {
        if let Some((_, since)) = self.sent.filter(|(sent, _)| *sent == number) {
            (self.took, self.sent) = (now.since(since), None);
        }
    }

    /// Whether the message did not arrive in time.
    pub(super) fn is_lost(&self, now: Moment) -> bool {
        self.sent.is_some_and(|(_, since)| since.after_millis(MOST_MS) <= now)
    }

    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// When one is to be sent, where one may be, or the one on its way is lost.
    pub(super) fn next(&self, may_be_sent: bool) -> Moment {
        let send = if may_be_sent { self.at } else { Moment::NEVER };
        self.sent.map_or(send, |(_, since)| since.after_millis(MOST_MS))
    }
}
