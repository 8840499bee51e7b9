//! Revocations and bans: a log at Redis that every node reads to its end, from where it was, however long it was away; and the
//! table of bans, for nodes that start later.
//!
//! What this node adds is kept until Redis has it. It was carried out here at once, so its own entries are passed over, but for
//! bans about which others said something else meanwhile: the log says who was last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::clock::StoreClock;
use super::ops::{Effect, Entry, LogId, NodeId, Op, Reply, StoreTime};
use super::outbox::{Outbox, Waiting};
use crate::auth::check_user;
use crate::bans::{MAX_BANS, MAX_REASON_BYTES, Subject};
use crate::time::Moment;

/// Entries that one answer holds.
const PAGE: usize = 256;
/// As many entries the log holds at least: a shorter one was never cut.
const MIN_KEPT: u64 = 65_536;
/// Revocations of this node that Redis does not have yet; further ones are one of everybody. And as many bans and ends of bans.
const MAX_CHANGES: usize = 65_536;
/// No user has this name: all connections of users are revoked.
const EVERYBODY: &str = "";
/// Changes that are on their way at once.
const BATCH: usize = 512;
/// A log that ends earlier than before is that of another server: what it had lately is read again.
const AGAIN_MS: u64 = 60_000;

#[derive(Clone, Debug, PartialEq)]
enum Change {
    Disconnect(Arc<str>),
    Ban { subject: Subject, until: Moment, reason: Arc<str> },
    Unban(Subject),
}

impl Change {
    fn about(&self) -> About {
        match self {
            Change::Disconnect(user) => About::Connections(Arc::clone(user)),
            Change::Ban { subject, .. } | Change::Unban(subject) => About::Ban(subject.clone()),
        }
    }
}

/// Whom a change is about: of several about one, the last counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    Connections(Arc<str>),
    Ban(Subject),
}

#[derive(Clone)]
struct Known {
    until: Moment,
    reason: Arc<str>,
    /// This node banned it.
    is_own: bool,
}

/// Where a node is in the log.
#[derive(Default)]
struct Place {
    after: LogId,
    /// It is an entry that there was, not a time.
    is_entry: bool,
    /// The last entry that is known to be there.
    head: LogId,
    is_reading: bool,
    again: bool,
    /// Entries since the beginning of a log that may have been cut, and the oldest one.
    doubt: Option<(LogId, u64)>,
}

/// Revocations and bans of a cluster, as one node knows them.
pub(super) struct Log {
    started: Moment,
    place: Option<Place>,
    /// What the table holds: entries about bans up to here.
    table: LogId,
    known: BTreeMap<Subject, Known>,
    /// What Redis is to have, by number; and the last number about each.
    changes: BTreeMap<u64, Change>,
    last: HashMap<About, u64>,
    last_number: u64,
    on_their_way: HashSet<u64>,
    loads: Load,
    /// The log ends before the place where this node was, as a replica took over that had not got all. Until the table is read.
    is_set_back: bool,
    /// Bans and ends of bans that were given up, as there were too many.
    pub(super) lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Wanted,
    Asked,
    Done,
}

/// What a step works with.
pub(super) struct Context<'a> {
    pub(super) node: NodeId,
    pub(super) clock: &'a StoreClock,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) now: Moment,
}

impl Log {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            started: now,
            place: None,
            table: LogId::default(),
            known: BTreeMap::new(),
            changes: BTreeMap::new(),
            last: HashMap::new(),
            last_number: 0,
            on_their_way: HashSet::new(),
            loads: Load::Wanted,
            is_set_back: false,
            lost: 0,
        }
    }

    // What this node adds.

    pub(super) fn disconnect(&mut self, user: Arc<str>) {
        self.add(&About::Connections(Arc::clone(&user)), Change::Disconnect(user));
    }

    pub(super) fn ban(&mut self, subject: Subject, for_ms: Option<u64>, reason: &str, now: Moment) {
        let until = for_ms.map_or(Moment::NEVER, |for_ms| now.after_millis(for_ms));
        let reason: Arc<str> = shortened(reason).into();
        self.remember(subject.clone(), Known { until, reason: Arc::clone(&reason), is_own: true }, now);
        self.add(&About::Ban(subject.clone()), Change::Ban { subject, until, reason });
    }

    pub(super) fn unban(&mut self, subject: Subject) {
        self.known.remove(&subject);
        self.add(&About::Ban(subject.clone()), Change::Unban(subject));
    }

    fn add(&mut self, about: &About, change: Change) {
        let is_about_users = matches!(change, Change::Disconnect(_));
        // Bans have room of their own, or revocations would lift them: what Redis does not hear of does not hold.
        let most = if is_about_users { MAX_CHANGES } else { 2 * MAX_CHANGES };
        if self.changes.len() < most || self.last.contains_key(about) {
            self.append(about, change);
        } else if is_about_users {
            self.append(&About::Connections(EVERYBODY.into()), Change::Disconnect(EVERYBODY.into()));
        } else {
            self.lost += 1;
        }
    }

    fn append(&mut self, about: &About, change: Change) {
        self.last_number += 1;
        if let Some(before) = self.last.insert(about.clone(), self.last_number)
            && !self.on_their_way.contains(&before)
        {
            self.changes.remove(&before);
        }
        self.changes.insert(self.last_number, change);
    }

    /// Asks for what Redis does not have yet. Whether that was anything.
    pub(super) fn send(&mut self, out: &mut Outbox, now: Moment) -> bool {
        self.send_up_to(BATCH, out, now)
    }

    /// The same before the node goes: what is not asked for now never is.
    pub(super) fn send_all(&mut self, out: &mut Outbox, now: Moment) -> bool {
        self.send_up_to(usize::MAX, out, now)
    }

    fn send_up_to(&mut self, most: usize, out: &mut Outbox, now: Moment) -> bool {
        let before = out.last();
        if self.changes.len() == self.on_their_way.len() || self.on_their_way.len() >= most {
            return false;
        }
        let room = most - self.on_their_way.len();
        let waits = |number: &&u64| !self.on_their_way.contains(*number);
        let next: Vec<u64> = self.changes.keys().filter(waits).take(room).copied().collect();
        for number in next {
            let Some(change) = self.changes.get(&number).cloned() else { continue };
            let node = out.node;
            let op = match change {
                Change::Disconnect(user) => Op::Disconnect { user, node },
                Change::Unban(subject) => Op::Unban { subject, node },
                Change::Ban { until, .. } if until <= now => {
                    self.sent(number, true);
                    continue;
                }
                Change::Ban { subject, until, reason } => {
                    let left = until.since_nanos(now).div_ceil(1_000_000);
                    Op::Ban { subject, for_ms: (until != Moment::NEVER).then_some(left), reason, node }
                }
            };
            self.on_their_way.insert(number);
            out.ask(op, Waiting::Revoke(number), now);
        }
        out.last() != before
    }

    /// Whether there is something to send.
    pub(super) fn has_changes(&self) -> bool {
        self.changes.len() > self.on_their_way.len() && self.on_their_way.len() < BATCH
    }

    /// A change is at Redis, or nobody knows.
    pub(super) fn sent(&mut self, number: u64, is_there: bool) {
        self.on_their_way.remove(&number);
        let Some(change) = self.changes.get(&number) else { return };
        let about = change.about();
        let is_last = self.last.get(&about) == Some(&number);
        // What was overtaken by a later change about the same is not sent again: it would be the last then.
        if is_there || !is_last {
            self.changes.remove(&number);
        }
        if is_there && is_last {
            self.last.remove(&about);
        }
    }

    /// Redis has refused a change, as a ban where it has 65536: it is asked again behind all that waits, so that no revocation waits
    /// behind bans that have no place.
    pub(super) fn refused(&mut self, number: u64) {
        self.sent(number, false);
        if let Some(change) = self.changes.remove(&number) {
            self.add(&change.about(), change);
        }
    }

    // What others added.

    /// The connection is gone, and with it what was asked.
    pub(super) fn cut_off(&mut self) {
        for number in core::mem::take(&mut self.on_their_way) {
            self.sent(number, false);
        }
        (self.loads, self.is_set_back) = (Load::Wanted, false);
        if let Some(place) = &mut self.place {
            place.is_reading = false;
        }
    }

    /// The database was flushed, or is another: it is told the bans that this node knows of, and its log is read from the start.
    pub(super) fn another_database(&mut self, tells_all: bool, now: Moment) {
        (self.loads, self.is_set_back) = (Load::Wanted, false);
        (self.place, self.table) = (Some(Place::default()), LogId::default());
        let bans = self.known.iter().filter(|(_, known)| (known.is_own || tells_all) && known.until > now);
        let bans: Vec<_> = bans.map(|(subject, known)| (subject.clone(), known.clone())).collect();
        for (subject, known) in bans {
            self.say_again(subject, known, now);
        }
    }

    /// Redis has lost a ban that this node knows of.
    fn say_again(&mut self, subject: Subject, known: Known, now: Moment) {
        let Known { until, reason, .. } = known;
        if until > now {
            self.add(&About::Ban(subject.clone()), Change::Ban { subject, until, reason });
        }
    }

    /// Where the log is, by a beat.
    pub(super) fn head(&mut self, head: LogId, clock: &StoreClock) {
        let place = self.place.get_or_insert_with(|| {
            // Connections of this node are not older than it is.
            let started = clock.store(self.started).unwrap_or_default();
            Place { after: LogId(started.0 / 1000, 0), ..Place::default() }
        });
        if place.is_behind(head) {
            self.is_set_back = true;
            *place = Place { after: LogId(head.0.saturating_sub(AGAIN_MS), 0), ..Place::default() };
        }
        place.head = head;
    }

    /// There may be something new.
    pub(super) fn look(&mut self) {
        if let Some(place) = &mut self.place {
            place.again = true;
        }
    }

    /// Asks for what is new.
    pub(super) fn read(&mut self, out: &mut Outbox, now: Moment) {
        if self.loads == Load::Wanted {
            self.loads = Load::Asked;
            out.ask(Op::LoadBans, Waiting::Bans, now);
        }
        let Some(place) = self.place.as_mut().filter(|place| self.loads == Load::Done && !place.is_reading) else {
            return;
        };
        if place.again || place.head > place.after {
            (place.again, place.is_reading) = (false, true);
            out.ask(Op::ReadLog { after: place.after }, Waiting::Log, now);
        }
    }

    /// Whether something is to be asked.
    pub(super) fn wants(&self) -> bool {
        let is_new = |place: &Place| !place.is_reading && (place.again || place.head > place.after);
        self.loads == Load::Wanted || (self.loads == Load::Done && self.place.as_ref().is_some_and(is_new))
    }

    /// Whether the table of bans is there.
    pub(super) fn is_loaded(&self) -> bool {
        self.loads == Load::Done
    }

    /// The answer to a question for the table. An error: it has to be asked again, later.
    pub(super) fn loaded(&mut self, reply: Reply, context: &mut Context<'_>) -> Result<(), ()> {
        let Reply::Bans { bans, log, .. } = reply else {
            self.loads = Load::Wanted;
            return Err(());
        };
        (self.loads, self.table) = (Load::Done, log);
        let is_behind = self.place.as_ref().is_some_and(|place| place.is_behind(log));
        let is_set_back = core::mem::take(&mut self.is_set_back) || is_behind;
        let mut there = HashSet::new();
        for (subject, until, reason) in bans.into_iter().take(MAX_BANS) {
            if is_sound(&subject) {
                there.insert(subject.clone());
                self.banned(subject, until, &reason, context);
            }
        }
        // In another database nothing is lifted: there is only what was told yet.
        let is_whole = self.place.as_ref().is_some_and(|place| place.after != LogId::default());
        let is_over = |subject: &&Subject| !there.contains(*subject) && !self.is_pending(subject);
        let over: Vec<_> = self.known.keys().filter(is_over).filter(|_| is_whole).cloned().collect();
        for subject in over {
            // Of a log that ends before its place this node has read all: nobody has lifted that ban.
            match self.known.get(&subject).filter(|_| is_set_back) {
                Some(known) => self.say_again(subject, known.clone(), context.now),
                None => self.unbanned(subject, context),
            }
        }
        Ok(())
    }

    /// An answer of the log. An error: it has to be asked again, later.
    pub(super) fn entries(&mut self, reply: Reply, context: &mut Context<'_>) -> Result<(), ()> {
        let Some(place) = &mut self.place else { return Ok(()) };
        place.is_reading = false;
        let Reply::Log { oldest, mut entries, .. } = reply else {
            place.again = true;
            return Err(());
        };
        entries.retain({
            let mut last = place.after;
            move |(id, _)| *id > last && core::mem::replace(&mut last, *id) < *id
        });
        let missed = place.missed(oldest, &entries);
        if let Some(oldest) = missed
            && let Some(before) = local(oldest, context)
        {
            context.effects.push(Effect::DisconnectAll { before });
        }
        if let Some((last, _)) = entries.last() {
            place.after = *last;
            place.is_entry = true;
            // Also if the head was not told yet.
            place.again |= entries.len() >= PAGE;
        } else {
            // What is not there will not come.
            place.head = place.head.min(place.after);
        }
        self.carry_out(entries, context);
        Ok(())
    }

    fn carry_out(&mut self, entries: Vec<(LogId, Entry)>, context: &mut Context<'_>) {
        let mut bans = Vec::<(Subject, Option<(Option<StoreTime>, Arc<str>)>)>::new();
        let (mut at, mut revoked) = (HashMap::new(), Vec::new());
        for (id, entry) in entries {
            let (subject, state) = match entry {
                Entry::Disconnect { user, node } => {
                    if node != context.node {
                        revoked.push((user, id));
                    }
                    continue;
                }
                Entry::Ban { subject, until, reason, .. } => (subject, Some((until, reason))),
                Entry::Unban { subject, .. } => (subject, None),
                Entry::Unknown => continue,
            };
            if id > self.table && is_sound(&subject) {
                let index = *at.entry(subject.clone()).or_insert(bans.len());
                match bans.get_mut(index) {
                    Some(last) => last.1 = state,
                    None => bans.push((subject, state)),
                }
            }
        }
        for (subject, state) in bans {
            // What this node said is not there yet: it will be the last.
            if self.is_pending(&subject) {
                continue;
            }
            match state {
                Some((until, reason)) => self.banned(subject, until, &reason, context),
                None => self.unbanned(subject, context),
            }
        }
        // Behind the bans: whoever is both is told that it is banned.
        for (user, id) in revoked {
            self.disconnected(user, id, context);
        }
    }

    fn disconnected(&self, user: Arc<str>, id: LogId, context: &mut Context<'_>) {
        let Some(before) = local(id, context).filter(|before| *before > self.started) else { return };
        if *user == *EVERYBODY {
            context.effects.push(Effect::DisconnectAll { before });
        } else if check_user(&user).is_ok() {
            context.effects.push(Effect::Disconnect { user, before });
        }
    }

    fn banned(&mut self, subject: Subject, until: Option<StoreTime>, reason: &str, context: &mut Context<'_>) {
        let until = match until.map(|until| context.clock.local(until)) {
            None => Moment::NEVER,
            Some(Some(until)) if until > context.now => until,
            Some(_) => return,
        };
        let reason: Arc<str> = shortened(reason).into();
        let known = self.known.get(&subject);
        // Two readings of one clock differ a little.
        let is_same = |known: &Known| {
            known.until.since(until).max(until.since(known.until)).as_secs() < 2 && known.reason == reason
        };
        let is_own = known.is_some_and(|known| known.is_own);
        if known.is_some_and(is_same) || self.is_pending(&subject) {
            return;
        }
        self.remember(subject.clone(), Known { until, reason: Arc::clone(&reason), is_own }, context.now);
        context.effects.push(Effect::Ban { subject, until, reason });
    }

    fn unbanned(&mut self, subject: Subject, context: &mut Context<'_>) {
        if self.known.remove(&subject).is_some_and(|known| known.until > context.now) {
            context.effects.push(Effect::Unban { subject });
        }
    }

    fn remember(&mut self, subject: Subject, known: Known, now: Moment) {
        if self.known.len() >= MAX_BANS && !self.known.contains_key(&subject) {
            self.known.retain(|_, known| known.until > now);
        }
        if self.known.len() < MAX_BANS || self.known.contains_key(&subject) {
            self.known.insert(subject, known);
        }
    }

    /// Whether Redis is to hear something about this ban yet.
    fn is_pending(&self, subject: &Subject) -> bool {
        !self.last.is_empty() && self.last.contains_key(&About::Ban(subject.clone()))
    }
}

impl Place {
    /// Whether a log that ends there has less than this node read.
    fn is_behind(&self, end: LogId) -> bool {
        self.is_entry && end < self.after
    }

    /// The oldest entry, if some before it were missed.
    fn missed(&mut self, oldest: LogId, entries: &[(LogId, Entry)]) -> Option<LogId> {
        if oldest > self.after {
            if self.is_entry {
                self.doubt = None;
                return Some(oldest);
            }
            // This log may be young, or cut: a cut one is long.
            self.doubt.get_or_insert((oldest, 0));
        }
        let (oldest, count) = self.doubt.as_mut()?;
        *count += entries.len() as u64;
        let (oldest, is_long, is_end) = (*oldest, *count >= MIN_KEPT, entries.len() < PAGE);
        if is_long || is_end {
            self.doubt = None;
        }
        is_long.then_some(oldest)
    }
}

/// When an entry was made, by the clock of this node: not earlier than it was, and not later than now.
fn local(id: LogId, context: &Context<'_>) -> Option<Moment> {
    let end = StoreTime(id.0.saturating_mul(1000).saturating_add(999));
    context.clock.local(end).map(|moment| moment.min(context.now))
}

fn is_sound(subject: &Subject) -> bool {
    match subject {
        Subject::Network(_) => true,
        Subject::User(user) => check_user(user).is_ok(),
    }
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}
