//! The two buckets of a key: whether a message passes at once, waits for its place, or overflows.
//!
//! What is bounded is the *level*, not only the number that waits: a message that would pass later than
//! `queue / per_second` after it came overflows, and what overflows is not poured. So no bucket is ever deeper than its
//! burst and its queue, and what an offender leaves behind has leaked away after
//! `(burst + queue) / per_second` (THREATS R1 to R4, R11).
//!
//! A message counts from the moment at which it *passes*: when one bucket, or the order of its connection, holds it up, its
//! share of the other is poured as of then. Without that a bucket would leak while messages wait, and they would pass in
//! one heap. No verdict is decided here.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::bucket::Bucket;
use crate::config::RateRules;
use crate::lock::lock;
use crate::time::Moment;

/// What an invalid message costs: offenders that reconnect run dry.
pub(crate) const INVALID_COST: f64 = 1.0;

/// How a message stands with its rate limit.
#[derive(Debug)]
pub enum Admission {
    /// It passes at once.
    Now,
    /// It waits in the delayed queue until then, and keeps its place while it does.
    At(Moment, QueuePlace),
    /// It does not fit the queue either: what is over, in words for the log.
    Overflow(&'static str),
}

/// What a message asks of its rate limit.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    /// Cost units.
    pub cost: f64,
    /// Payload bytes.
    pub bytes: u64,
    /// What of these bytes was charged as they came and has not leaked yet.
    pub charged: Bucket,
    /// It cannot pass before this: messages of its connection that already wait.
    pub not_before: Moment,
    /// Whether the connection has room for it in its delayed queue.
    pub may_wait: bool,
}

const OVER_MESSAGES: &str = "messages over rate_limit and its queue";
const OVER_BYTES: &str = "payload bytes over rate_limit.bytes_per_second";
const OVER_QUEUE: &str = "messages over rate_limit.queue";
const OVER_DELAYED: &str = "payload bytes over rate_limit.bytes_per_second and the delayed queue";

#[derive(Debug, Default)]
struct RateState {
    messages: Bucket,
    bytes: Bucket,
}

/// The two buckets of one key, shared by all its connections (THREATS R3), on whatever shard they are.
#[derive(Debug, Default)]
pub struct RateKey {
    state: Mutex<RateState>,
    /// Messages of the key that wait.
    waiting: AtomicU32,
}

/// A message's place in the delayed queue of its key; dropping it gives the place back.
#[derive(Debug)]
pub struct QueuePlace {
    key: Arc<RateKey>,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.key.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where a message would leave the buckets.
struct Poured {
    /// When it passes.
    at: Moment,
    messages: Moment,
    bytes: Moment,
    over: &'static str,
}

impl RateState {
    /// What pouring a message would do. Pours nothing.
    fn try_message(&self, rules: &RateRules, charge: &Charge, now: Moment) -> Poured {
        let cost = rules.messages.leak_nanos(charge.cost);
        let messages = self.messages.empty_at().max(now).after_nanos(cost);
        // What costs nothing does not wait for what others cost.
        let messages_at = if cost == 0 { now } else { earlier(messages, rules.messages.burst_nanos()) };
        let (bytes, bytes_at, share) = match &rules.bytes {
            Some(rate) if charge.bytes > 0 => {
                let share = rate.leak_nanos(charge.bytes as f64);
                let left = charge.charged.empty_at().since_nanos(now);
                let bytes = self.bytes.empty_at().max(now).after_nanos(share.saturating_sub(left));
                (bytes, earlier(bytes, rate.burst_nanos()), share)
            }
            _ => (self.bytes.empty_at(), now, 0),
        };
        let at = now.max(messages_at).max(bytes_at).max(charge.not_before);
        Poured {
            at,
            messages: if cost == 0 {
                messages
            } else {
                messages.max(at.after_nanos(cost.min(rules.messages.burst_nanos())))
            },
            bytes: if share == 0 { bytes } else { bytes.max(at.after_nanos(share)) },
            over: if bytes_at > messages_at { OVER_BYTES } else { OVER_MESSAGES },
        }
    }

    fn pour(&mut self, poured: &Poured) {
        self.messages = Bucket::emptying_at(poured.messages);
        self.bytes = Bucket::emptying_at(poured.bytes);
    }
}

/// The time that a message may wait: what the queue takes to leak.
fn longest_wait(rules: &RateRules, now: Moment) -> Moment {
    now.after_nanos(rules.messages.leak_nanos(f64::from(rules.queue)))
}

fn earlier(moment: Moment, nanos: u64) -> Moment {
    Moment::from_nanos(moment.as_nanos().saturating_sub(nanos))
}

impl RateKey {
    /// Admits a message. One that overflows is not poured: it is discarded and its connection closed.
    pub fn admit(self: &Arc<Self>, rules: &RateRules, charge: &Charge, now: Moment) -> Admission {
        let mut state = lock(&self.state);
        let poured = state.try_message(rules, charge, now);
        if poured.at <= now {
            state.pour(&poured);
            return Admission::Now;
        }
        if poured.at > longest_wait(rules, now) {
            return Admission::Overflow(poured.over);
        }
        // Places are taken under the lock only, so that no two take the last one.
        if self.waiting.load(Ordering::Acquire) >= rules.queue {
            return Admission::Overflow(OVER_QUEUE);
        }
        if !charge.may_wait {
            return Admission::Overflow(OVER_DELAYED);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        state.pour(&poured);
        Admission::At(poured.at, QueuePlace { key: Arc::clone(self) })
    }

    /// Charges a message without ever holding it up; what is over when enforcing would have closed the connection.
    pub fn observe(&self, rules: &RateRules, charge: &Charge, now: Moment) -> Option<&'static str> {
        let mut state = lock(&self.state);
        let poured = state.try_message(rules, &Charge { not_before: Moment::START, ..*charge }, now);
        if poured.at > longest_wait(rules, now) {
            return Some(poured.over);
        }
        state.pour(&poured);
        None
    }

    /// Charges `received` bytes of an unfinished message, of which `outstanding` more are announced; returns when all of
    /// it would pass, or what is over: then it is not poured. What only a header claims is never poured, so a claim that
    /// does not come leaves nothing behind; `charged` keeps account of what was.
    pub fn receive(
        &self,
        rules: &RateRules,
        charged: &mut Bucket,
        received: u64,
        outstanding: u64,
        now: Moment,
    ) -> Result<Moment, &'static str> {
        let Some(rate) = &rules.bytes else { return Ok(now) };
        let mut state = lock(&self.state);
        let bytes = state.bytes.empty_at().max(now).after_nanos(rate.leak_nanos(received as f64));
        let whole = bytes.after_nanos(rate.leak_nanos(outstanding as f64));
        let at = earlier(whole, rate.burst_nanos()).max(now);
        if at > longest_wait(rules, now) {
            return Err(OVER_BYTES);
        }
        state.bytes = Bucket::emptying_at(bytes);
        charged.pour(rate, received, now);
        Ok(at)
    }

    /// A message that was admitted for `cost` at this moment is invalid: it costs what an invalid one does.
    pub fn charge_as_invalid(&self, rules: &RateRules, cost: f64, now: Moment) {
        let (before, after) = (rules.messages.leak_nanos(cost), rules.messages.leak_nanos(INVALID_COST));
        let mut state = lock(&self.state);
        let refunded = earlier(state.messages.empty_at(), before.saturating_sub(after));
        let deepest = longest_wait(rules, now).after_nanos(rules.messages.burst_nanos());
        let charged = refunded.max(now).after_nanos(after.saturating_sub(before)).min(deepest);
        state.messages = Bucket::emptying_at(refunded.max(charged));
    }

    /// Messages of the key that wait, on whatever connections.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// When the message bucket and the byte bucket will be empty, if nothing comes any more.
    pub fn empty_at(&self) -> (Moment, Moment) {
        let state = lock(&self.state);
        (state.messages.empty_at(), state.bytes.empty_at())
    }

    /// Whether nothing is left of it: a table may forget it without forgiving anything.
    pub(crate) fn is_drained(&self, now: Moment) -> bool {
        let (messages, bytes) = self.empty_at();
        messages <= now && bytes <= now && self.waiting() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Rate;
    use crate::config::RateKeyKind;

    fn rules(per_second: f64, burst: f64, queue: u32) -> RateRules {
        RateRules {
            messages: Rate::new(per_second, burst),
            bytes: Some(Rate::new(1000.0, 1000.0)),
            queue,
            max_delayed_bytes: 4000,
            key: RateKeyKind::User,
        }
    }

    fn charge(cost: f64, bytes: u64) -> Charge {
        Charge { cost, bytes, charged: Bucket::default(), not_before: Moment::START, may_wait: true }
    }

    const NOW: Moment = Moment::from_millis(7);

    /// The milliseconds that a message waits; `None`: it overflows. Its place is kept in `places`.
    fn wait_ms(key: &Arc<RateKey>, rules: &RateRules, charge: &Charge, places: &mut Vec<QueuePlace>) -> Option<u64> {
        match key.admit(rules, charge, NOW) {
            Admission::Now => Some(0),
            Admission::At(at, place) => {
                places.push(place);
                Some(at.since_nanos(NOW) / 1_000_000)
            }
            Admission::Overflow(_) => None,
        }
    }

    #[test]
    fn burst_then_queue_then_overflow() {
        let (rules, key, mut places) = (rules(10.0, 3.0, 2), Arc::default(), Vec::new());
        let waits: Vec<_> = (0..6).map(|_| wait_ms(&key, &rules, &charge(1.0, 0), &mut places)).collect();
        assert_eq!(waits, [Some(0), Some(0), Some(0), Some(100), Some(200), None]);
        assert_eq!(key.waiting(), 2);
    }

    #[test]
    fn places_come_back_and_the_level_stays() {
        let (rules, key, mut places) = (rules(10.0, 3.0, 2), Arc::default(), Vec::new());
        for _ in 0..5 {
            wait_ms(&key, &rules, &charge(1.0, 0), &mut places);
        }
        for _ in 0..100 {
            // Whoever held the places is gone: there is room in the queue, but none in the bucket.
            places.clear();
            assert_eq!(key.waiting(), 0);
            assert_eq!(wait_ms(&key, &rules, &charge(1.0, 0), &mut places), None);
        }
        assert_eq!(key.empty_at().0, NOW.after_millis(500), "what overflows is not poured");
    }

    #[test]
    fn fractions_add_up_and_nothing_costs_nothing() {
        let (rules, key, mut places) = (rules(1.0, 2.0, 1), Arc::default(), Vec::new());
        for _ in 0..10 {
            assert_eq!(wait_ms(&key, &rules, &charge(0.2, 0), &mut places), Some(0));
        }
        assert_eq!(wait_ms(&key, &rules, &charge(0.2, 0), &mut places), Some(200));
        for _ in 0..1000 {
            assert_eq!(wait_ms(&key, &rules, &charge(0.0, 0), &mut places), Some(0));
        }
        assert_eq!(wait_ms(&key, &rules, &charge(0.2, 0), &mut places), None, "the one place is taken");
    }

    #[test]
    fn a_cost_over_the_burst_waits_for_what_is_over() {
        let (rules, key, mut places) = (rules(10.0, 3.0, 5), Arc::default(), Vec::new());
        assert_eq!(wait_ms(&key, &rules, &charge(5.0, 0), &mut places), Some(200));
        let (other, mut places) = (Arc::default(), Vec::new());
        assert_eq!(wait_ms(&other, &rules, &charge(8.1, 0), &mut places), None);
    }

    #[test]
    fn an_invalid_message_costs_one() {
        for cost in [0.0, 0.3, 1.0, 3.0] {
            let (rules, key, mut places) = (rules(10.0, 3.0, 2), Arc::default(), Vec::new());
            wait_ms(&key, &rules, &charge(cost, 0), &mut places);
            key.charge_as_invalid(&rules, cost, NOW);
            assert_eq!(key.empty_at().0, NOW.after_millis(100), "cost {cost}");
        }
        let (rules, key) = (rules(10.0, 3.0, 2), Arc::new(RateKey::default()));
        for _ in 0..50 {
            key.charge_as_invalid(&rules, 0.0, NOW);
        }
        assert_eq!(key.empty_at().0, NOW.after_millis(500), "never deeper than burst and queue");
    }

    #[test]
    fn bytes_delay_and_overflow_as_messages_do() {
        let (rules, key, mut places) = (rules(10.0, 1000.0, 10), Arc::default(), Vec::new());
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 1000), &mut places), Some(0));
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 500), &mut places), Some(500));
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 501), &mut places), None);
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 500), &mut places), Some(1000));
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 1), &mut places), None);
        assert_eq!(key.empty_at().1, NOW.after_millis(2000));
    }

    #[test]
    fn what_waits_for_bytes_does_not_leak_away_from_the_message_bucket() {
        let (rules, key, mut places) = (rules(10.0, 2.0, 10), Arc::default(), Vec::new());
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 1000), &mut places), Some(0));
        assert_eq!(wait_ms(&key, &rules, &charge(1.0, 900), &mut places), Some(900));
        assert_eq!(key.empty_at().0, NOW.after_millis(1000), "it counts from when it passes");
    }

    #[test]
    fn a_claim_is_refused_but_never_poured() {
        let (rules, key) = (rules(10.0, 3.0, 10), Arc::new(RateKey::default()));
        let mut charged = Bucket::default();
        assert_eq!(key.receive(&rules, &mut charged, 0, 1000, NOW), Ok(NOW));
        assert!(key.is_drained(NOW));
        assert!(key.receive(&rules, &mut charged, 0, 2001, NOW).is_err());
        assert_eq!(key.receive(&rules, &mut charged, 400, 600, NOW), Ok(NOW));
        assert_eq!(key.empty_at().1, NOW.after_millis(400));
        let mut whole = charge(1.0, 1000);
        whole.charged = charged;
        assert!(matches!(key.admit(&rules, &whole, NOW), Admission::Now), "the rest is charged, not all of it again");
        assert_eq!(key.empty_at().1, NOW.after_millis(1000));
    }

    #[test]
    fn a_message_that_trickled_in_counts_when_it_passes() {
        let (rules, key) = (rules(10.0, 3.0, 10), Arc::new(RateKey::default()));
        let mut charged = Bucket::default();
        assert!(key.receive(&rules, &mut charged, 800, 200, NOW).is_ok());
        let later = NOW.after_millis(5000);
        assert!(matches!(key.admit(&rules, &Charge { charged, ..charge(1.0, 1000) }, later), Admission::Now));
        assert_eq!(key.empty_at().1, later.after_millis(1000));
    }

    #[test]
    fn observing_tells_what_enforcing_would_close() {
        let (rules, key) = (rules(10.0, 3.0, 2), RateKey::default());
        let over: Vec<bool> = (0..7).map(|_| key.observe(&rules, &charge(1.0, 0), NOW).is_some()).collect();
        assert_eq!(over, [false, false, false, false, false, true, true]);
        assert!(key.observe(&rules, &charge(0.0, 5000), NOW).is_some());
        assert_eq!(key.empty_at().1, Moment::START, "what is over is not poured");
    }

    #[test]
    fn a_key_whose_messages_wait_is_not_forgotten() {
        let (rules, key, mut places) = (rules(10.0, 1.0, 2), Arc::default(), Vec::new());
        wait_ms(&key, &rules, &charge(1.0, 0), &mut places);
        wait_ms(&key, &rules, &charge(1.0, 0), &mut places);
        let later = NOW.after_millis(10_000);
        assert!(!key.is_drained(later));
        places.clear();
        assert!(key.is_drained(later));
    }
}
