//! The two buckets of a key: whether a message passes at once, waits for its place, or overflows.
//!
//! What is bounded is the *level*, not only the number that waits: a message that would pass later than
//! `queue / per_second` after it came overflows, and what overflows is not poured. So no bucket is ever deeper than its
//! burst and its queue, and what an offender leaves behind has leaked away after
//! `(burst + queue) / per_second`.
//!
//! A message counts from the moment at which it *passes*: when one bucket, or the order of its connection, holds it up, its
//! share of the other is poured as of then. Without that a bucket would leak while messages wait, and they would pass in
//! one heap. No verdict is decided here.

mod shared;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::bucket::{Bucket, Rate};
use crate::config::RateRules;
use crate::lock::lock;
use crate::time::Moment;
pub use shared::Held;
pub(crate) use shared::{Amounts, Dirty, SharedUser};
use shared::{Shared, Unpoured};

/// What an invalid message costs: offenders that reconnect run dry.
pub(crate) const INVALID_COST: f64 = 1.0;

/// How a message passes its rate limit.
#[derive(Debug)]
pub enum Passing {
    /// At once.
    Now,
    /// It waits in the delayed queue until then, and keeps its place while it does.
    At(Moment, QueuePlace),
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
    /// Payload bytes that wait on its connection, if it waits, too.
    pub held: usize,
}

/// What a message was charged, by which that is found again if the message turns out to be invalid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    cost: f64,
    /// Where the bucket of messages was, and where it is with this one.
    before: Moment,
    after: Moment,
    /// It waits without having been poured.
    is_unpoured: bool,
}

impl Receipt {
    fn of_unpoured(cost: f64) -> Self {
        Self { cost, before: Moment::START, after: Moment::START, is_unpoured: true }
    }
}

/// Why a message overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It would pass later than the queue takes to leak, for the messages before it.
    Messages {
        /// How long it would wait.
        wait_nanos: u64,
    },
    /// The same, for the bytes before it.
    Bytes {
        /// How long it would wait.
        wait_nanos: u64,
    },
    /// As many of its key wait as may.
    Queue,
    /// As many bytes wait on its connection as may.
    Delayed {
        /// How many it would be with it.
        bytes: usize,
    },
    /// It is within its rate, and as much waits for the cluster's answer as may.
    Unacknowledged {
        /// How many bytes of its connection would wait with it.
        bytes: usize,
    },
}

impl Overflow {
    /// In words for the log: the limit, and what came to it.
    pub fn describe(self, rules: &RateRules) -> String {
        let queue = rules.queue;
        let waits = |nanos: u64| {
            let most = rules.messages.leak_nanos(f64::from(queue)) / 1_000_000;
            format!("this one would wait {} ms, and queue ({queue}) lets it wait {most} ms", nanos.div_ceil(1_000_000))
        };
        match (self, &rules.bytes) {
            (Overflow::Bytes { wait_nanos }, Some(rate)) => {
                let per_second = rate.per_second();
                format!("payload bytes over rate_limit.bytes_per_second ({per_second}): {}", waits(wait_nanos))
            }
            (Overflow::Messages { wait_nanos } | Overflow::Bytes { wait_nanos }, _) => {
                format!("messages over rate_limit ({}): {}", rules.messages, waits(wait_nanos))
            }
            (Overflow::Queue, _) => format!("messages over rate_limit.queue ({queue}): as many wait already"),
            (Overflow::Delayed { bytes }, _) => format!(
                "{bytes} payload bytes would wait, and the delayed queue holds 4 times max_message_bytes ({})",
                rules.max_delayed_bytes
            ),
            (Overflow::Unacknowledged { bytes }, _) => format!(
                "{bytes} payload bytes would wait for the cluster to answer, and the delayed queue holds 4 times max_message_bytes \
                 ({})",
                rules.max_delayed_bytes
            ),
        }
    }
}

#[derive(Debug, Default)]
struct RateState {
    messages: Bucket,
    bytes: Bucket,
    /// The rates by which what is in them leaks.
    rates: (Option<Rate>, Option<Rate>),
    /// What there is to it while other nodes draw on it, too.
    shared: Option<Box<Shared>>,
}

/// What is in a bucket by the rate `before` is as much by the rate `now_by`, and no more than it holds: a level is kept as the
/// time that it takes to leak. A reload closes nobody for what was within its limits.
pub(crate) fn restated(bucket: Bucket, before: &Rate, now_by: &Rate, now: Moment) -> Bucket {
    let left = before.leaked_in(bucket.empty_at().since_nanos(now));
    Bucket::emptying_at(now.after_nanos(now_by.leak_nanos(left).min(now_by.burst_nanos())))
}

/// The two buckets of one key, shared by all its connections, on whatever shard they are.
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
    /// It is one of the `queue` that may wait for their rate.
    is_counted: bool,
    /// It has not been poured: the key is shared.
    unpoured: Option<Box<Unpoured>>,
}

/// Where a message would leave the buckets.
struct Poured {
    /// When it passes.
    at: Moment,
    messages: Moment,
    bytes: Moment,
    /// Whether it is the bytes that hold it up.
    waits_for_bytes: bool,
}

impl RateState {
    /// What is in the buckets leaks by these rules from now on.
    #[inline]
    fn leak_by(&mut self, rules: &RateRules, now: Moment) {
        // Almost every message finds the rates of the one before it.
        if differs(self.rates.0.as_ref(), &rules.messages)
            || rules.bytes.as_ref().is_some_and(|rate| differs(self.rates.1.as_ref(), rate))
        {
            self.change_rates(rules, now);
        }
    }

    #[cold]
    fn change_rates(&mut self, rules: &RateRules, now: Moment) {
        let mut changed = false;
        if differs(self.rates.0.as_ref(), &rules.messages)
            && let Some(before) = self.rates.0.replace(rules.messages)
        {
            self.messages = restated(self.messages, &before, &rules.messages, now);
            if let Some(shared) = &mut self.shared {
                shared.messages.restate(&before, &rules.messages, now);
            }
            changed = true;
        }
        if let Some(rate) = &rules.bytes
            && (changed || differs(self.rates.1.as_ref(), rate))
            && let Some(before) = self.rates.1.replace(*rate)
        {
            // Also at the same rate: its level is as late as messages that wait, and those wait no longer than they may now.
            self.bytes = restated(self.bytes, &before, rate, now);
            if let Some(shared) = &mut self.shared {
                shared.bytes.restate(&before, rate, now);
            }
        }
    }

    /// What pouring a message would do. Pours nothing.
    #[inline]
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
            waits_for_bytes: bytes_at > messages_at,
        }
    }

    fn pour(&mut self, poured: &Poured, charge: &Charge, now: Moment) -> Receipt {
        let before = self.messages.empty_at().max(now);
        self.rise(poured.messages, poured.bytes, now);
        Receipt { cost: charge.cost, before, after: poured.messages, is_unpoured: false }
    }

    /// The bucket of messages rises by `nanos`, no deeper than it may be. An error: not all of it fits.
    fn add(&mut self, rules: &RateRules, nanos: u64, now: Moment) -> Result<(), Overflow> {
        let deepest = longest_wait(rules, now).after_nanos(rules.messages.burst_nanos());
        let before = self.messages.empty_at();
        let after = before.max(now).after_nanos(nanos);
        self.rise(after.min(deepest).max(before), self.bytes.empty_at(), now);
        if nanos == 0 || after <= deepest {
            return Ok(());
        }
        Err(Overflow::Messages { wait_nanos: earlier(after, rules.messages.burst_nanos()).since_nanos(now) })
    }
}

impl Poured {
    /// What is over, if it passes later than it may.
    fn overflow(&self, rules: &RateRules, now: Moment) -> Option<Overflow> {
        let wait_nanos = self.at.since_nanos(now);
        match self.waits_for_bytes {
            _ if self.at <= longest_wait(rules, now) => None,
            true => Some(Overflow::Bytes { wait_nanos }),
            false => Some(Overflow::Messages { wait_nanos }),
        }
    }
}

fn differs(before: Option<&Rate>, rate: &Rate) -> bool {
    before.is_none_or(|before| before.per_second().to_bits() != rate.per_second().to_bits())
}

/// The time that a message may wait: what the queue takes to leak.
pub(crate) fn longest_wait(rules: &RateRules, now: Moment) -> Moment {
    now.after_nanos(rules.messages.leak_nanos(f64::from(rules.queue)))
}

fn earlier(moment: Moment, nanos: u64) -> Moment {
    Moment::from_nanos(moment.as_nanos().saturating_sub(nanos))
}

impl RateKey {
    /// From now on what is in the buckets leaks by these rules, whenever the next message comes, and where they hold less than by the
    /// rules `before` it is no more than they hold.
    pub(crate) fn change_rules(&self, before: Option<&RateRules>, rules: &RateRules, now: Moment) {
        let mut state = self.state(rules, now);
        let Some(before) = before else { return };
        if before.messages.burst() > rules.messages.burst() {
            state.messages = restated(state.messages, &rules.messages, &rules.messages, now);
        }
        if let (Some(before), Some(rate)) = (&before.bytes, &rules.bytes)
            && before.burst() > rate.burst()
        {
            state.bytes = restated(state.bytes, rate, rate, now);
        }
    }

    /// By which rules it will be drawn on, before the first message comes: what other nodes are told of it is reckoned by them.
    pub(crate) fn meet(&self, rules: &RateRules) {
        let rates = &mut lock(&self.state).rates;
        rates.0.get_or_insert(rules.messages);
        if let Some(rate) = rules.bytes {
            rates.1.get_or_insert(rate);
        }
    }

    /// After a reload, whoever has left a level in `before` goes on by these buckets: they are as full as that, at least. Another
    /// kind of key, or a route's own limit, is no fresh burst.
    pub(crate) fn take_over(&self, before: &Self, rules: &RateRules, now: Moment) {
        let (messages, bytes, rates) = {
            let state = lock(&before.state);
            (state.messages, state.bytes, state.rates)
        };
        let messages = rates.0.map(|rate| restated(messages, &rate, &rules.messages, now));
        let bytes = rates.1.zip(rules.bytes).map(|(rate, next)| restated(bytes, &rate, &next, now));
        self.state(rules, now).fill_to(messages.unwrap_or_default(), bytes.unwrap_or_default(), now);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of every message: by itself the compiler calls it")]
    fn state(&self, rules: &RateRules, now: Moment) -> MutexGuard<'_, RateState> {
        let mut state = lock(&self.state);
        state.leak_by(rules, now);
        state
    }

    /// Admits a message. One that overflows is not poured: it is discarded and its connection closed.
    #[inline]
    pub fn admit(
        self: &Arc<Self>,
        rules: &RateRules,
        charge: &Charge,
        now: Moment,
    ) -> Result<(Passing, Receipt), Overflow> {
        let mut state = self.state(rules, now);
        if state.shared.is_some() {
            return self.admit_shared(state, rules, charge, now);
        }
        let poured = state.try_message(rules, charge, now);
        if poured.at <= now {
            return Ok((Passing::Now, state.pour(&poured, charge, now)));
        }
        self.admit_later(state, &poured, rules, charge, now)
    }

    /// As [`admit`](Self::admit), where the rate has no room at once.
    #[cold]
    fn admit_later(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, RateState>,
        poured: &Poured,
        rules: &RateRules,
        charge: &Charge,
        now: Moment,
    ) -> Result<(Passing, Receipt), Overflow> {
        if let Some(over) = poured.overflow(rules, now) {
            return Err(over);
        }
        // Places are taken under the lock only, so that no two take the last one.
        if self.waiting.load(Ordering::Acquire) >= rules.queue {
            return Err(Overflow::Queue);
        }
        if charge.held > rules.max_delayed_bytes {
            return Err(Overflow::Delayed { bytes: charge.held });
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let receipt = state.pour(poured, charge, now);
        let place = QueuePlace { key: Arc::clone(self), is_counted: true, unpoured: None };
        Ok((Passing::At(poured.at, place), receipt))
    }

    /// Charges a message without ever holding it up. An error: enforcing would have closed the connection; then it is not
    /// poured.
    pub fn observe(&self, rules: &RateRules, charge: &Charge, now: Moment) -> Result<Receipt, Overflow> {
        let mut state = self.state(rules, now);
        let charge = Charge { not_before: Moment::START, ..*charge };
        let poured = state.try_message(rules, &charge, now);
        poured.overflow(rules, now).map_or_else(|| Ok(state.pour(&poured, &charge, now)), Err)
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
    ) -> Result<Moment, Overflow> {
        let Some(rate) = &rules.bytes else { return Ok(now) };
        let mut state = self.state(rules, now);
        let bytes = state.bytes.empty_at().max(now).after_nanos(rate.leak_nanos(received as f64));
        let whole = bytes.after_nanos(rate.leak_nanos(outstanding as f64));
        let at = earlier(whole, rate.burst_nanos()).max(now);
        if at > longest_wait(rules, now) {
            return Err(Overflow::Bytes { wait_nanos: at.since_nanos(now) });
        }
        let messages = state.messages.empty_at();
        state.rise(messages, bytes, now);
        charged.pour(rate, received, now);
        Ok(at)
    }

    /// How long a message may be, of which `charged` was poured as it came: whatever is longer overflows, and what is not may do so.
    pub fn most_bytes(&self, rules: &RateRules, charged: &Bucket, now: Moment) -> u64 {
        let Some(rate) = &rules.bytes else { return u64::MAX };
        let state = self.state(rules, now);
        let bytes = if state.shared.is_some() { state.with_waiting(rules, now).bytes } else { state.bytes };
        let empty_at = bytes.empty_at().max(now);
        let deepest = longest_wait(rules, now).after_nanos(rate.burst_nanos());
        let nanos = deepest.since_nanos(empty_at).saturating_add(charged.empty_at().since_nanos(now));
        // Amounts are rounded down to nanoseconds: so none is too few, and one is more.
        rate.leaked_in(nanos.saturating_add(1)).ceil() as u64
    }

    /// Why a message overflows that is longer than [`RateKey::most_bytes`].
    pub fn overflow_of(&self, rules: &RateRules, charge: &Charge, now: Moment) -> Overflow {
        let poured = self.state(rules, now).try_message(rules, charge, now);
        poured.overflow(rules, now).unwrap_or(Overflow::Bytes { wait_nanos: poured.at.since_nanos(now) })
    }

    /// Charges bytes that were worked on for a message that is no more, but for what is left of `charged`: as many as there is room for.
    pub fn charge_bytes(&self, rules: &RateRules, bytes: u64, charged: &Bucket, now: Moment) {
        let Some(rate) = &rules.bytes else { return };
        let mut state = self.state(rules, now);
        let deepest = longest_wait(rules, now).after_nanos(rate.burst_nanos());
        let before = state.bytes.empty_at();
        let due = rate.leak_nanos(bytes as f64).saturating_sub(charged.empty_at().since_nanos(now));
        let (messages, after) = (state.messages.empty_at(), before.max(now).after_nanos(due));
        state.rise(messages, after.min(deepest).max(before), now);
    }

    /// Charges an invalid message that was not admitted, or for less. An error: there is no room for it.
    pub fn charge_invalid(&self, rules: &RateRules, now: Moment) -> Result<(), Overflow> {
        self.state(rules, now).add(rules, rules.messages.leak_nanos(INVALID_COST), now)
    }

    /// A message that was charged turns out to be invalid: it costs what an invalid one does.
    ///
    /// What it was charged beyond that is given back only while nobody else has poured. Another's message may wait behind
    /// it by now, for a moment that was reckoned with all of it; or all of it has leaked, and what would be given back is
    /// another's. Either would let more through than burst and rate.
    ///
    /// An error: it was let in for less than it costs, and the rest does not fit. Where it does not close its connection, this
    /// does: else messages of an event that costs little or nothing would be invalid without end.
    pub fn charge_as_invalid(&self, rules: &RateRules, receipt: &Receipt, now: Moment) -> Result<(), Overflow> {
        let (own, due) = (rules.messages.leak_nanos(receipt.cost), rules.messages.leak_nanos(INVALID_COST));
        let mut state = self.state(rules, now);
        if receipt.is_unpoured {
            return state.add(rules, due, now);
        }
        if own <= due {
            return state.add(rules, due - own, now);
        }
        let back = receipt.cost - INVALID_COST;
        if state.messages.empty_at() == receipt.after
            && state.shared.as_ref().is_none_or(|shared| shared.may_take_back(back))
        {
            state.messages = Bucket::emptying_at(receipt.before.after_nanos(due).min(receipt.after));
            if let Some(shared) = &mut state.shared {
                shared.rise(-back, 0.0);
            }
        }
        Ok(())
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
    use crate::config::RateKeyKind;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

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
        Charge { cost, bytes, charged: Bucket::default(), not_before: Moment::START, held: 0 }
    }

    const NOW: Moment = Moment::from_millis(7);

    /// The milliseconds that a message waits; `None`: it overflows. Its place is kept in `places`.
    fn wait_ms(key: &Arc<RateKey>, rules: &RateRules, charge: &Charge, places: &mut Vec<QueuePlace>) -> Option<u64> {
        match key.admit(rules, charge, NOW) {
            Ok((Passing::Now, _)) => Some(0),
            Ok((Passing::At(at, place), _)) => {
                places.push(place);
                Some(at.since_nanos(NOW) / 1_000_000)
            }
            Err(_) => None,
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
            let (rules, key) = (rules(10.0, 3.0, 2), Arc::new(RateKey::default()));
            let (_, receipt) = key.admit(&rules, &charge(cost, 0), NOW).unwrap();
            let _ = key.charge_as_invalid(&rules, &receipt, NOW);
            assert_eq!(key.empty_at().0, NOW.after_millis(100), "cost {cost}");
            let receipt = key.observe(&rules, &charge(cost, 0), NOW).unwrap();
            let _ = key.charge_as_invalid(&rules, &receipt, NOW);
            assert_eq!(key.empty_at().0, NOW.after_millis(200), "cost {cost}");
        }
        let (rules, key) = (rules(10.0, 3.0, 2), Arc::new(RateKey::default()));
        for _ in 0..50 {
            let _ = key.charge_invalid(&rules, NOW);
        }
        assert_eq!(key.empty_at().0, NOW.after_millis(500), "never deeper than burst and queue");
    }

    #[test]
    fn nothing_is_given_back_that_another_message_waits_behind() {
        let (rules, key) = (rules(1000.0, 10.0, 10), Arc::new(RateKey::default()));
        let (_, receipt) = key.admit(&rules, &charge(10.0, 0), NOW).unwrap();
        let Ok((Passing::At(at, _place), _)) = key.admit(&rules, &charge(10.0, 0), NOW) else { panic!("it waits") };
        let _ = key.charge_as_invalid(&rules, &receipt, NOW);
        assert_eq!(at, NOW.after_millis(10));
        let another = key.admit(&rules, &charge(9.0, 0), at);
        assert!(!matches!(another, Ok((Passing::Now, _))), "19 units at one moment, where 10 may");
    }

    #[test]
    fn nothing_is_given_back_that_has_leaked() {
        let (rules, key) = (rules(1000.0, 10.0, 0), Arc::new(RateKey::default()));
        let (_, receipt) = key.admit(&rules, &charge(10.0, 0), NOW).unwrap();
        let later = NOW.after_millis(20);
        assert!(key.admit(&rules, &charge(10.0, 0), later).is_ok());
        let _ = key.charge_as_invalid(&rules, &receipt, NOW);
        assert!(key.admit(&rules, &charge(1.0, 0), later).is_err(), "another's share was given back");
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
        assert!(
            matches!(key.admit(&rules, &whole, NOW), Ok((Passing::Now, _))),
            "the rest is charged, not all of it again"
        );
        assert_eq!(key.empty_at().1, NOW.after_millis(1000));
    }

    #[test]
    fn a_message_that_trickled_in_counts_when_it_passes() {
        let (rules, key) = (rules(10.0, 3.0, 10), Arc::new(RateKey::default()));
        let mut charged = Bucket::default();
        assert!(key.receive(&rules, &mut charged, 800, 200, NOW).is_ok());
        let later = NOW.after_millis(5000);
        assert!(matches!(key.admit(&rules, &Charge { charged, ..charge(1.0, 1000) }, later), Ok((Passing::Now, _))));
        assert_eq!(key.empty_at().1, later.after_millis(1000));
    }

    #[test]
    fn a_longer_message_than_may_be_overflows() {
        let (rules, key) = (rules(10.0, 3.0, 10), Arc::new(RateKey::default()));
        let mut charged = Bucket::default();
        assert!(key.receive(&rules, &mut charged, 300, 0, NOW).is_ok());
        key.charge_bytes(&rules, 900, &Bucket::default(), NOW);
        let most = key.most_bytes(&rules, &charged, NOW);
        assert!((1100..=1102).contains(&most), "{most}: 2000 together, of which 900 are another's");
        let of = |bytes| Charge { charged, ..charge(1.0, bytes) };
        assert!(matches!(key.overflow_of(&rules, &of(most + 1), NOW), Overflow::Bytes { .. }));
        assert!(matches!(key.admit(&rules, &of(most + 1), NOW), Err(Overflow::Bytes { .. })));
        assert!(key.admit(&rules, &of(1100), NOW).is_ok());
    }

    #[test]
    fn observing_tells_what_enforcing_would_close() {
        let (rules, key) = (rules(10.0, 3.0, 2), RateKey::default());
        let over: Vec<bool> = (0..7).map(|_| key.observe(&rules, &charge(1.0, 0), NOW).is_err()).collect();
        assert_eq!(over, [false, false, false, false, false, true, true]);
        assert!(key.observe(&rules, &charge(0.0, 5000), NOW).is_err());
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

    #[test]
    fn the_far_ends_of_numbers_are_numbers() {
        let moments = [Moment::START, NOW, Moment::from_nanos(u64::MAX - 1), Moment::NEVER];
        for (per_second, burst) in [(1e-6, 1.0), (1e-6, 1e12), (1e12, 1.0), (1e12, 1e12)] {
            for queue in [0, u32::MAX] {
                let (rules, key) = (rules(per_second, burst, queue), Arc::new(RateKey::default()));
                let mut charged = Bucket::default();
                for now in moments.into_iter().chain(moments) {
                    for (cost, bytes) in [(0.0, 0), (1e-12, 1), (1.0, u64::MAX), (1e12, 1)] {
                        let charge = Charge { charged, not_before: NOW, ..charge(cost, bytes) };
                        match key.admit(&rules, &charge, now) {
                            Ok((_, receipt)) => drop(key.charge_as_invalid(&rules, &receipt, now)),
                            Err(over) => assert!(over.describe(&rules).contains("rate_limit")),
                        }
                        let _ = key.charge_invalid(&rules, now);
                        let _ = key.receive(&rules, &mut charged, bytes, bytes, now);
                    }
                }
                assert_eq!(key.waiting(), 0);
            }
        }
    }

    /// What one of several connections of a key does: its messages that wait, and the one that is being checked.
    #[derive(Default)]
    struct Sender {
        waiting: Vec<(Moment, f64, QueuePlace)>,
        checked: Option<(Moment, f64, Passing, Receipt)>,
    }

    /// Units by the moment at which they passed, against a level in floating point.
    fn check_passed(passed: &mut [(Moment, f64)], per_second: f64, burst: f64) -> Result<(), TestCaseError> {
        passed.sort_by_key(|(at, _)| *at);
        let (mut level, mut last) = (0.0f64, Moment::START);
        for (at, cost) in passed {
            // What is over the burst has leaked while it waited for that.
            level = (level - at.since(last).as_secs_f64() * per_second).max(0.0) + cost.min(burst);
            last = *at;
            prop_assert!(level <= burst + 1e-3, "{level} units passed, {burst} may");
        }
        Ok(())
    }

    proptest! {
        /// Connections of a key on shards of their own: between the charge of a message and its verdict others of the key
        /// come, wait, pass and turn out invalid, and time goes by.
        #[test]
        fn whatever_comes_between_a_charge_and_its_verdict_no_more_passes(
            per_second in 1.0f64..2000.0, burst in 1u32..20, queue in 0u32..20,
            steps in prop::collection::vec((0usize..3, any::<u8>(), 0u8..60, 0u64..20), 1..200),
        ) {
            let (rules, key) = (rules(per_second, burst.into(), queue), Arc::new(RateKey::default()));
            let (mut now, mut passed) = (NOW, Vec::new());
            let mut senders: [Sender; 3] = Default::default();
            for (index, what, tenths, wait) in steps {
                now = now.after_millis(wait.saturating_sub(10));
                let sender = &mut senders[index];
                let due = sender.waiting.iter().take_while(|(at, ..)| *at <= now).count();
                passed.extend(sender.waiting.drain(..due).map(|(at, cost, _place)| (at, cost)));
                match sender.checked.take() {
                    // Valid: it passes, or waits.
                    Some((at, cost, Passing::Now, _)) if what < 140 => passed.push((at, cost)),
                    Some((_, cost, Passing::At(at, place), _)) if what < 140 => sender.waiting.push((at, cost, place)),
                    // Invalid: the connection ends, and another comes.
                    Some((_, _, _, receipt)) => {
                        let _ = key.charge_as_invalid(&rules, &receipt, now);
                        sender.waiting.clear();
                    }
                    None => {
                        let cost = f64::from(tenths) / 4.0;
                        let not_before = sender.waiting.last().map_or(Moment::START, |(at, ..)| *at);
                        let charge = Charge { not_before, ..charge(cost, 0) };
                        if let Ok((passing, receipt)) = key.admit(&rules, &charge, now) {
                            sender.checked = Some((now, cost, passing, receipt));
                        }
                    }
                }
                let deepest = (f64::from(burst) + f64::from(queue)) / per_second;
                prop_assert!(key.empty_at().0.since(now).as_secs_f64() <= deepest + 1e-6);
            }
            for sender in senders {
                passed.extend(sender.waiting.into_iter().map(|(at, cost, _place)| (at, cost)));
            }
            check_passed(&mut passed, per_second, burst.into())?;
        }

        /// Where nothing is enforced the bucket is as deep as what was charged says: each message its cost, an invalid one 1,
        /// and one that enforcing would have closed for nothing at all, also when it is invalid besides.
        #[test]
        fn observing_follows_the_level(
            per_second in 1.0f64..2000.0, burst in 1u32..20, queue in 0u32..20,
            messages in prop::collection::vec((any::<bool>(), 0u8..60, 0u64..20), 1..200),
        ) {
            let (rules, key) = (rules(per_second, burst.into(), queue), RateKey::default());
            let (mut now, mut level) = (NOW, 0.0f64);
            let most = f64::from(burst) + f64::from(queue);
            for (is_valid, quarters, wait) in messages {
                now = now.after_millis(wait);
                level = (level - wait as f64 / 1000.0 * per_second).max(0.0);
                let cost = f64::from(quarters) / 4.0;
                match key.observe(&rules, &charge(cost, 0), now) {
                    Ok(receipt) => {
                        prop_assert!(level + cost <= most + 1e-3 || cost == 0.0, "{level} and {cost} fit");
                        level += cost;
                        if !is_valid {
                            let _ = key.charge_as_invalid(&rules, &receipt, now);
                            level = (level - cost + INVALID_COST).min(level.max(most));
                        }
                    }
                    Err(_) => prop_assert!(level + cost > most - 1e-3, "{level} and {cost} do not fit"),
                }
                let depth = key.empty_at().0.since(now).as_secs_f64() * per_second;
                prop_assert!((depth - level).abs() < 1e-2, "{depth} poured, {level} charged");
            }
        }
    }
}
