//! A key whose buckets other nodes draw on, too.
//!
//! What is in the buckets here is then what the cluster said last, and what passed here since: it may be behind. So a message
//! is poured when it *passes*, not when it comes, and no more than a lease passes that the cluster has not acknowledged:
//! all nodes together let through what burst and rate allow, and one lease each. What has to wait is tried again, in order: when its
//! bucket has room by what is known, and at most [`RETRY_MS`] later where it is within its rate and waits for the cluster alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Charge, Overflow, Passing, QueuePlace, RateKey, RateState, Receipt, earlier, longest_wait, restated};
use crate::bucket::{Bucket, Rate};
use crate::config::RateRules;
use crate::lock::lock;
use crate::time::Moment;

/// A message that waits for the cluster's answer is tried again after this time.
const RETRY_MS: u64 = 5;

/// What leaks while a node reports and is answered may pass again.
const REPORTED_IN_MS: u64 = 20;

/// What the answer of the cluster may take: no answer for so long is an outage, in which nothing waits for it.
const ANSWER_MS: u64 = 1000;

/// Messages of a key that may wait for an answer alone. Those that cost nothing have no other bound in number.
const MAX_UNACKNOWLEDGED: u32 = 4096;

/// What the arithmetic of fractions may be off by.
const TOLERANCE: f64 = 1e-6;

/// Users with something to report, each once.
#[derive(Debug, Default)]
pub(crate) struct Dirty(Mutex<Vec<Arc<str>>>);

impl Dirty {
    pub(crate) fn take(&self) -> Vec<Arc<str>> {
        let mut all = core::mem::take(&mut *lock(&self.0));
        // Whoever was asked without having been taken may be there twice.
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A user whose buckets are shared.
#[derive(Debug)]
pub(crate) struct SharedUser {
    name: Arc<str>,
    is_dirty: AtomicBool,
    dirty: Arc<Dirty>,
}

impl SharedUser {
    pub(crate) fn new(name: Arc<str>, dirty: Arc<Dirty>) -> Self {
        Self { name, is_dirty: AtomicBool::new(false), dirty }
    }

    /// There is something to report.
    fn note(&self) {
        if !self.is_dirty.swap(true, Ordering::AcqRel) {
            lock(&self.dirty.0).push(Arc::clone(&self.name));
        }
    }

    /// It is asked what that is.
    pub(crate) fn asked(&self) {
        self.is_dirty.store(false, Ordering::Release);
    }
}

fn later(one: Bucket, other: Bucket) -> Bucket {
    if one.empty_at() < other.empty_at() { other } else { one }
}

/// What is in a bucket, and how much of it leaks in a second.
fn left_in(bucket: Bucket, rate: Option<&Rate>, now: Moment) -> (f64, f64) {
    rate.map_or((0.0, 0.0), |rate| (rate.leaked_in(bucket.empty_at().since_nanos(now)), rate.per_second()))
}

/// What passed of one bucket that the cluster has not acknowledged, in units.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    unreported: f64,
    /// Reported, without an answer yet.
    on_its_way: f64,
    /// The cluster knows of it, but not all that others passed.
    noted: f64,
    /// What waits and has not passed.
    waiting: f64,
    /// What waits no more, of all that did since nothing waited.
    gone: f64,
    /// It is as full as this at least, by what came from another key: that passed once, and each node may say it.
    least: Bucket,
    /// That is said, without an answer yet.
    least_on_its_way: Bucket,
}

impl Account {
    /// Whether `amount` may pass: it, what the cluster has not acknowledged, and what is `ahead` are no more than `lease`. What is more
    /// than a whole lease by itself may pass while at least half of one is left.
    fn allows(&self, amount: f64, ahead: f64, lease: f64) -> bool {
        let open = self.open() + ahead;
        if amount > lease { open * 2.0 <= lease } else { open + amount <= lease + TOLERANCE }
    }

    /// What passed that the cluster has not acknowledged.
    fn open(&self) -> f64 {
        self.unreported + self.on_its_way + self.noted
    }

    /// What may pass here that others do not know of: a quarter of what the cluster has room for. Where that is little, several nodes with
    /// whole leases would fill the bucket far beyond its burst together, and close a user who waits for each of his answers.
    fn lease(&self, bucket: Bucket, rate: &Rate, now: Moment) -> f64 {
        let known = left_in(bucket, Some(rate), now).0 - self.open();
        let room = rate.burst() - known.max(0.0);
        rate.lease().min((room / 4.0).max(rate.leaked_in(REPORTED_IN_MS * 1_000_000)).max(1.0))
    }

    fn take(&mut self) -> f64 {
        let taken = core::mem::take(&mut self.unreported);
        self.on_its_way += taken;
        taken
    }

    fn take_least(&mut self) -> Bucket {
        let taken = core::mem::take(&mut self.least);
        self.least_on_its_way = later(self.least_on_its_way, taken);
        taken
    }

    fn settle(&mut self, acknowledges: bool) {
        self.least_on_its_way = Bucket::default();
        self.noted += core::mem::take(&mut self.on_its_way);
        if acknowledges {
            self.noted = 0.0;
        }
    }

    fn lose(&mut self) {
        self.unreported += core::mem::take(&mut self.on_its_way);
        self.least = later(self.least, core::mem::take(&mut self.least_on_its_way));
    }

    /// What leaks does so by another rate.
    pub(super) fn restate(&mut self, before: &Rate, now_by: &Rate, now: Moment) {
        for least in [&mut self.least, &mut self.least_on_its_way] {
            *least = restated(*least, before, now_by, now);
        }
    }

    fn rise(&mut self, amount: f64) {
        self.unreported = (self.unreported + amount).max(0.0);
    }

    /// It waits. Returns its [`turn`](Self::ahead).
    fn wait(&mut self, amount: f64) -> f64 {
        let turn = self.gone + self.waiting;
        self.waiting += amount;
        turn
    }

    fn wait_no_more(&mut self, amount: f64, is_last: bool) {
        self.waiting = if is_last { 0.0 } else { (self.waiting - amount).max(0.0) };
        self.gone = if is_last { 0.0 } else { self.gone + amount };
    }

    /// How much waits here that came before what has this turn. Where others went first it is less than that, and never more.
    fn ahead(&self, turn: f64, amount: f64) -> f64 {
        (turn - self.gone).min(self.waiting - amount).max(0.0)
    }
}

/// What a key has while it is shared, and for as long as messages wait that have not been poured.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// `None`: it is shared no more.
    user: Option<Arc<SharedUser>>,
    pub(super) messages: Account,
    pub(super) bytes: Account,
    /// Messages that wait and have not been poured.
    waiting: u32,
    /// Payload bytes of these that were poured as they came and are in the bucket still: it has never held less since.
    kept_bytes: f64,
    /// How often it has.
    times_drained: u32,
}

impl Shared {
    /// Whether these units and bytes may pass as far as the lease goes. `behind_others`: also what waits goes first.
    fn allows(
        &self,
        left: (Bucket, Bucket),
        rules: &RateRules,
        costs: (f64, f64),
        behind_others: bool,
        now: Moment,
    ) -> bool {
        if self.user.is_none() {
            return true;
        }
        let fits = |account: &Account, bucket: Bucket, rate: &Rate, amount: f64| {
            let ahead = if behind_others { account.waiting } else { 0.0 };
            amount <= 0.0 || account.allows(amount, ahead, account.lease(bucket, rate, now))
        };
        fits(&self.messages, left.0, &rules.messages, costs.0)
            && rules.bytes.as_ref().is_none_or(|rate| fits(&self.bytes, left.1, rate, costs.1))
    }

    fn has_unreported(&self) -> bool {
        [&self.messages, &self.bytes]
            .iter()
            .any(|account| account.unreported > 0.0 || account.least != Bucket::default())
    }

    fn note(&self) {
        if let Some(user) = &self.user
            && self.has_unreported()
        {
            user.note();
        }
    }

    /// So much more has passed.
    pub(super) fn rise(&mut self, units: f64, bytes: f64) {
        if self.user.is_some() {
            self.messages.rise(units);
            self.bytes.rise(bytes);
            self.note();
        }
    }

    /// The buckets are as full as this at least.
    fn fill_to(&mut self, messages: Bucket, bytes: Bucket) {
        if self.user.is_some() {
            self.messages.least = later(self.messages.least, messages);
            self.bytes.least = later(self.bytes.least, bytes);
            self.note();
        }
    }

    /// Whether so much of what has passed may be taken back: the cluster has not been told of it.
    pub(super) fn may_take_back(&self, units: f64) -> bool {
        self.messages.unreported + TOLERANCE >= units
    }
}

/// A message that waits and has not been poured.
#[derive(Debug)]
pub(super) struct Unpoured {
    charge: Charge,
    came: Moment,
    /// By then its bucket has to have room.
    latest: Moment,
    /// Then it passes in any case: its rules have changed while it waited.
    passes_then: bool,
    units: f64,
    bytes: f64,
    /// Its turn in units and in bytes, behind what waited when it came.
    turn: (f64, f64),
    /// The time that a full bucket of bytes takes to leak by the rules that it came by: routes may differ in that.
    byte_burst: u64,
    /// Bytes of it that were poured as they came, and how often the bucket had drained by then.
    kept: (f64, u32),
}

/// Why a message that waits does not pass yet, or never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is to be tried again then.
    Until(Moment),
    /// Others have used up what there was for longer than it may wait.
    Over(Overflow),
}

/// What a node tells of one bucket, or is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Amounts {
    /// Cost units, and how many leak in a second.
    pub(crate) units: (f64, f64),
    /// Payload bytes, and how many leak in a second; 0: they have no limit.
    pub(crate) bytes: (f64, f64),
}

impl Amounts {
    pub(crate) fn is_nothing(&self) -> bool {
        self.units.0 <= 0.0 && self.bytes.0 <= 0.0
    }

    /// What another node says is no number that one could reckon with.
    fn sane((amount, _): (f64, f64)) -> f64 {
        if amount.is_finite() { amount.max(0.0) } else { 0.0 }
    }
}

/// The time that an amount takes to leak: by the rate here, or where there is none yet by the one that was told.
fn nanos((amount, per_second): (f64, f64), rate: Option<&Rate>) -> u64 {
    match rate {
        Some(rate) => rate.leak_nanos(amount),
        None if per_second > 0.0 => (amount / per_second * 1e9) as u64,
        None => 0,
    }
}

impl RateState {
    /// Pouring raises the buckets to this. What is shared has to be reported.
    pub(super) fn rise(&mut self, messages: Moment, bytes: Moment, now: Moment) {
        if self.shared.is_some() {
            self.note_drained(now);
            let units = |rate: &Option<Rate>, before: Moment, after: Moment| {
                rate.as_ref().map_or(0.0, |rate| rate.leaked_in(after.since_nanos(before.max(now))))
            };
            let units = (
                units(&self.rates.0, self.messages.empty_at(), messages),
                units(&self.rates.1, self.bytes.empty_at(), bytes),
            );
            if let Some(shared) = &mut self.shared {
                shared.rise(units.0, units.1);
            }
        }
        self.messages = Bucket::emptying_at(messages);
        self.bytes = Bucket::emptying_at(bytes);
    }

    /// The buckets are as full as this at least, by what passed on another key. That is no passing, which the cluster would add up: each
    /// node that holds the user may say the same.
    pub(super) fn fill_to(&mut self, messages: Bucket, bytes: Bucket, now: Moment) {
        self.note_drained(now);
        let is_over = |bucket: Bucket, least: Bucket| least.empty_at() > bucket.empty_at().max(now);
        let of = |bucket, least| if is_over(bucket, least) { least } else { Bucket::default() };
        let (messages, bytes) = (of(self.messages, messages), of(self.bytes, bytes));
        if let Some(shared) = &mut self.shared {
            shared.fill_to(messages, bytes);
        }
        (self.messages, self.bytes) = (later(self.messages, messages), later(self.bytes, bytes));
    }

    /// Where less is left in the bucket of bytes than is kept there for messages that wait, it was empty but for these: they have leaked.
    fn note_drained(&mut self, now: Moment) {
        let nanos = self.bytes.empty_at().since_nanos(now);
        let left = self.rates.1.as_ref().map_or(0.0, |rate| rate.leaked_in(nanos));
        if let Some(shared) = &mut self.shared
            && left + TOLERANCE < shared.kept_bytes
        {
            shared.kept_bytes = 0.0;
            shared.times_drained = shared.times_drained.wrapping_add(1);
        }
    }

    /// What was poured of a message as it came. While it waits the bucket leaks what was poured before, and not that, for as long as
    /// there is any: without this whoever is held up by his rate would pay for it twice.
    fn charged(&self, unpoured: &Unpoured, rules: &RateRules, now: Moment) -> Bucket {
        let (bytes, times_drained) = unpoured.kept;
        match (&self.shared, &rules.bytes) {
            (Some(shared), Some(rate)) if shared.times_drained == times_drained => {
                Bucket::emptying_at(now.after_nanos(rate.leak_nanos(bytes)))
            }
            _ => unpoured.charge.charged,
        }
    }

    /// What a message would cost of each bucket now.
    fn costs(rules: &RateRules, charge: &Charge, now: Moment) -> (f64, f64) {
        let bytes = rules.bytes.as_ref().map_or(0.0, |rate| {
            let left = charge.charged.empty_at().since_nanos(now);
            rate.leaked_in(rate.leak_nanos(charge.bytes as f64).saturating_sub(left))
        });
        (charge.cost, bytes)
    }

    /// The buckets with what waits in them.
    pub(super) fn with_waiting(&self, rules: &RateRules, now: Moment) -> Self {
        let waiting = self.shared.as_ref().map_or((0.0, 0.0), |shared| (shared.messages.waiting, shared.bytes.waiting));
        self.with(waiting, rules, now)
    }

    /// The buckets with what came before a message that waits: on one node who came first passes first. No more than a lease of it, and
    /// what they hold with the message itself: a connection that stands still keeps the others of its user from no more than that.
    fn with_ahead(&self, unpoured: &Unpoured, rules: &RateRules, now: Moment) -> Self {
        let Some(shared) = &self.shared else { return self.with((0.0, 0.0), rules, now) };
        let ahead = |account: &Account, turn: f64, amount: f64, rate: &Rate| {
            account.ahead(turn, amount).min(rate.lease()).min(rate.burst() - amount).max(0.0)
        };
        let units = ahead(&shared.messages, unpoured.turn.0, unpoured.units, &rules.messages);
        let bytes =
            rules.bytes.as_ref().map_or(0.0, |rate| ahead(&shared.bytes, unpoured.turn.1, unpoured.bytes, rate));
        self.with((units, bytes), rules, now)
    }

    fn with(&self, (units, bytes): (f64, f64), rules: &RateRules, now: Moment) -> Self {
        let after = |bucket: &Bucket, nanos: u64| {
            if nanos == 0 { *bucket } else { Bucket::emptying_at(bucket.empty_at().max(now).after_nanos(nanos)) }
        };
        Self {
            messages: after(&self.messages, rules.messages.leak_nanos(units)),
            bytes: after(&self.bytes, rules.bytes.as_ref().map_or(0, |rate| rate.leak_nanos(bytes))),
            rates: self.rates,
            shared: None,
        }
    }
}

impl RateKey {
    /// Admits a message of a shared key: it passes, or waits unpoured.
    pub(super) fn admit_shared(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, RateState>,
        rules: &RateRules,
        charge: &Charge,
        now: Moment,
    ) -> Result<(Passing, Receipt), Overflow> {
        state.note_drained(now);
        let (units, bytes) = RateState::costs(rules, charge, now);
        let alone = Charge { not_before: Moment::START, ..*charge };
        let poured = state.with_waiting(rules, now).try_message(rules, &alone, now);
        let left = (state.messages, state.bytes);
        let Some(shared) = &mut state.shared else { return Err(Overflow::Queue) };
        if poured.at.max(charge.not_before) <= now && shared.allows(left, rules, (units, bytes), true, now) {
            let poured = state.try_message(rules, &alone, now);
            return Ok((Passing::Now, state.pour(&poured, charge, now)));
        }
        if let Some(over) = poured.overflow(rules, now) {
            return Err(over);
        }
        let waits_for_rate = poured.at > now;
        if waits_for_rate && self.waiting.load(Ordering::Acquire) >= rules.queue {
            return Err(Overflow::Queue);
        }
        if charge.held > rules.max_delayed_bytes || !waits_for_rate && shared.waiting >= MAX_UNACKNOWLEDGED {
            let bytes = charge.held;
            return Err(if waits_for_rate { Overflow::Delayed { bytes } } else { Overflow::Unacknowledged { bytes } });
        }
        shared.waiting += 1;
        let turn = (shared.messages.wait(units), shared.bytes.wait(bytes));
        let is_kept = rules.bytes.is_some() && charge.charged.empty_at() > now;
        let kept = (if is_kept { (charge.bytes as f64 - bytes).max(0.0) } else { 0.0 }, shared.times_drained);
        shared.kept_bytes += kept.0;
        drop(state);
        if waits_for_rate {
            self.waiting.fetch_add(1, Ordering::AcqRel);
        }
        let latest = longest_wait(rules, now).after_millis(ANSWER_MS);
        let byte_burst = rules.bytes.as_ref().map_or(0, Rate::burst_nanos);
        let unpoured =
            Unpoured { charge: alone, came: now, latest, passes_then: false, units, bytes, turn, byte_burst, kept };
        let place =
            QueuePlace { key: Arc::clone(self), is_counted: waits_for_rate, unpoured: Some(Box::new(unpoured)) };
        let at = if waits_for_rate { poured.at } else { now.after_millis(RETRY_MS) };
        Ok((Passing::At(at, place), Receipt::of_unpoured(charge.cost)))
    }

    /// Whether other nodes draw on it, too. What waits for an acknowledgement passes once they do not.
    pub(crate) fn share(&self, user: Option<&Arc<SharedUser>>) {
        let state = &mut *lock(&self.state);
        match (user, &mut state.shared) {
            (Some(user), Some(shared)) => shared.user = Some(Arc::clone(user)),
            (Some(user), none) => {
                *none = Some(Box::new(Shared { user: Some(Arc::clone(user)), ..Shared::default() }));
            }
            (None, Some(shared)) => {
                shared.user = None;
                for account in [&mut shared.messages, &mut shared.bytes] {
                    let Account { waiting, gone, .. } = *account;
                    *account = Account { waiting, gone, ..Account::default() };
                }
                state.forget_shared();
            }
            (None, None) => {}
        }
    }

    /// What is in the buckets.
    pub(crate) fn level(&self, now: Moment) -> Amounts {
        let state = lock(&self.state);
        let (units, bytes) = &state.rates;
        Amounts {
            units: left_in(state.messages, units.as_ref(), now),
            bytes: left_in(state.bytes, bytes.as_ref(), now),
        }
    }

    /// The same if they were full.
    pub(crate) fn full(&self) -> Amounts {
        let state = lock(&self.state);
        let full = |rate: &Option<Rate>| rate.as_ref().map_or((0.0, 0.0), |rate| (rate.burst(), rate.per_second()));
        Amounts { units: full(&state.rates.0), bytes: full(&state.rates.1) }
    }

    /// What passed since it was last asked.
    pub(crate) fn take_unreported(&self) -> Amounts {
        let state = &mut *lock(&self.state);
        let per_second = |rate: &Option<Rate>| rate.as_ref().map_or(0.0, Rate::per_second);
        let rates = (per_second(&state.rates.0), per_second(&state.rates.1));
        let Some(shared) = &mut state.shared else { return Amounts::default() };
        Amounts { units: (shared.messages.take(), rates.0), bytes: (shared.bytes.take(), rates.1) }
    }

    /// How full the buckets are at least, where the cluster was not told of it.
    pub(crate) fn take_least(&self, now: Moment) -> Amounts {
        let state = &mut *lock(&self.state);
        let Some(shared) = &mut state.shared else { return Amounts::default() };
        let (units, bytes) = &state.rates;
        Amounts {
            units: left_in(shared.messages.take_least(), units.as_ref(), now),
            bytes: left_in(shared.bytes.take_least(), bytes.as_ref(), now),
        }
    }

    /// The cluster has heard what was on its way; `level` is what is in the buckets with it.
    pub(crate) fn settle(&self, level: Option<&Amounts>, acknowledges: bool, now: Moment) {
        let state = &mut *lock(&self.state);
        let Some(shared) = state.shared.as_mut().filter(|shared| shared.user.is_some()) else { return };
        for account in [&mut shared.messages, &mut shared.bytes] {
            account.settle(acknowledges);
        }
        let Some(level) = level else { return };
        let at = |told: (f64, f64), account: &Account, rate: &Option<Rate>| {
            let least = left_in(account.least, rate.as_ref(), now).0;
            now.after_nanos(nanos((Amounts::sane(told).max(least) + account.unreported, told.1), rate.as_ref()))
        };
        let messages = at(level.units, &shared.messages, &state.rates.0);
        let bytes = at(level.bytes, &shared.bytes, &state.rates.1);
        // Without the owner's part it is no more than a part of the whole.
        let least = |bucket: &Bucket| if acknowledges { Moment::START } else { bucket.empty_at() };
        state.messages = Bucket::emptying_at(messages.max(least(&state.messages)));
        state.bytes = Bucket::emptying_at(bytes.max(least(&state.bytes)));
        state.note_drained(now);
    }

    /// What was on its way is to be reported again.
    pub(crate) fn lose(&self) {
        if let Some(shared) = &mut lock(&self.state).shared {
            shared.messages.lose();
            shared.bytes.lose();
            shared.note();
        }
    }

    /// There is so much in the buckets at least.
    pub(crate) fn raise(&self, level: &Amounts, now: Moment) {
        let state = &mut *lock(&self.state);
        let at = |told: (f64, f64), rate: &Option<Rate>| {
            now.after_nanos(nanos((Amounts::sane(told), told.1), rate.as_ref()))
        };
        let (messages, bytes) = (at(level.units, &state.rates.0), at(level.bytes, &state.rates.1));
        state.messages = Bucket::emptying_at(state.messages.empty_at().max(messages));
        state.bytes = Bucket::emptying_at(state.bytes.empty_at().max(bytes));
    }
}

impl RateState {
    /// A message that waited unpoured passes, or is gone.
    fn give_back(&mut self, unpoured: &Unpoured) {
        let Some(shared) = &mut self.shared else { return };
        shared.waiting = shared.waiting.saturating_sub(1);
        let is_last = shared.waiting == 0;
        if unpoured.kept.1 == shared.times_drained {
            shared.kept_bytes = if is_last { 0.0 } else { (shared.kept_bytes - unpoured.kept.0).max(0.0) };
        }
        for (account, amount) in [(&mut shared.messages, unpoured.units), (&mut shared.bytes, unpoured.bytes)] {
            account.wait_no_more(amount, is_last);
        }
    }

    /// The bytes of a message that never passes were worked on all the same: it was inflated, read and kept. They are poured as of
    /// when it came, no deeper than they might have been, as they are where nobody shares the key. Else whoever leaves before
    /// his messages pass, or has them wait and be found invalid, would have had that for nothing, as often as he comes.
    fn pour_in_vain(&mut self, unpoured: &Unpoured) {
        let Some(rate) = &self.rates.1 else { return };
        let (before, came) = (self.bytes.empty_at(), unpoured.came);
        let answered = if unpoured.passes_then { 0 } else { ANSWER_MS * 1_000_000 };
        let deepest = earlier(unpoured.latest, answered).after_nanos(unpoured.byte_burst);
        let after = before.max(came).after_nanos(rate.leak_nanos(unpoured.bytes)).min(deepest).max(before);
        self.rise(self.messages.empty_at(), after, came);
    }

    /// Nobody shares it, and nothing waits unpoured.
    fn forget_shared(&mut self) {
        self.shared.take_if(|shared| shared.user.is_none() && shared.waiting == 0);
    }
}

impl QueuePlace {
    /// The message comes to its turn: it passes, or waits on. What was poured when it came waits no more.
    ///
    /// # Errors
    /// It waits on, or never passes.
    pub fn pass(&mut self, rules: Option<&RateRules>, now: Moment) -> Result<(), Held> {
        let (Some(unpoured), Some(rules)) = (&self.unpoured, rules) else { return Ok(()) };
        let mut state = self.key.state(rules, now);
        // What costs more than the bucket holds passes when it is empty.
        state.note_drained(now);
        let full = Charge { held: 0, charged: state.charged(unpoured, rules, now), ..unpoured.charge };
        let fitting = Charge { cost: full.cost.min(rules.messages.burst()), ..full };
        let poured = state.try_message(rules, &fitting, now);
        let (units, bytes) = RateState::costs(rules, &full, now);
        if !(unpoured.passes_then && unpoured.latest <= now) {
            if poured.at > unpoured.latest.max(now) {
                if unpoured.passes_then {
                    return Err(Held::Until(unpoured.latest));
                }
                let wait_nanos = poured.at.since_nanos(unpoured.came);
                return Err(Held::Over(if poured.waits_for_bytes {
                    Overflow::Bytes { wait_nanos }
                } else {
                    Overflow::Messages { wait_nanos }
                }));
            }
            if poured.at > now {
                return Err(Held::Until(poured.at));
            }
            let left = (state.messages, state.bytes);
            if state.shared.as_ref().is_some_and(|shared| !shared.allows(left, rules, (units, bytes), false, now)) {
                return Err(Held::Until(now.after_millis(RETRY_MS)));
            }
            let turn = state.with_ahead(unpoured, rules, now).try_message(rules, &fitting, now).at;
            if turn > now && turn <= unpoured.latest {
                return Err(Held::Until(turn));
            }
        }
        let poured = state.try_message(rules, &full, now);
        state.rise(poured.messages, poured.bytes, now);
        if let Some(unpoured) = self.unpoured.take() {
            state.give_back(&unpoured);
        }
        state.forget_shared();
        Ok(())
    }

    /// It passes at `latest` in any case: the rules that it waits by have changed.
    pub(crate) fn passes_by(&mut self, latest: Moment) {
        if let Some(unpoured) = &mut self.unpoured {
            unpoured.latest = unpoured.latest.min(latest);
            unpoured.passes_then = true;
        }
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if self.is_counted {
            self.key.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(unpoured) = self.unpoured.take() {
            let mut state = lock(&self.key.state);
            state.give_back(&unpoured);
            state.pour_in_vain(&unpoured);
            state.forget_shared();
        }
    }
}
