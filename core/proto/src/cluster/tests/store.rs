//! Redis as far as nodes know it: one scope for each user, one server, one thread.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::bans::Subject;
use crate::cluster::ops::{Entry, Level, LogId, NodeId, Op, Ownership, Reply, StoreTime, Topic, UserFull};

#[derive(Clone, Default)]
pub(super) struct User {
    pub(super) counts: BTreeMap<NodeId, u32>,
    owner: Option<NodeId>,
    /// What is in the bucket, and at what time.
    level: (f64, u64),
    rate: f64,
    awaiting: f64,
    until: u64,
}

#[derive(Clone, Default)]
pub(super) struct Store {
    /// Microseconds.
    pub(super) now: u64,
    mark: Option<u64>,
    version: u64,
    nodes: BTreeMap<NodeId, u64>,
    pub(super) users: HashMap<Arc<str>, User>,
    pub(super) log: Vec<(LogId, Entry)>,
    pub(super) bans: HashMap<Subject, (Option<StoreTime>, Arc<str>)>,
    pub(super) subscriptions: HashMap<NodeId, BTreeSet<Topic>>,
    /// A Redis Cluster does not say who received a message.
    pub(super) counts_receivers: bool,
    /// Who hears every channel and is no node.
    pub(super) listeners: u32,
}

impl User {
    fn leak(&mut self, now: u64) {
        self.level = (self.level_at(now), now);
    }

    pub(super) fn level_at(&self, now: u64) -> f64 {
        let (units, at) = self.level;
        (units - self.rate * now.saturating_sub(at) as f64 / 1e6).max(0.0)
    }

    fn pour(&mut self, levels: &[Level], how: fn(f64, f64) -> f64) {
        for level in levels {
            self.rate = level.units_per_second;
            self.level.0 = how(self.level.0, level.units);
        }
    }

    fn disown(&mut self) {
        self.owner = None;
        self.level.0 += core::mem::take(&mut self.awaiting);
    }

    fn levels(&self) -> Vec<Level> {
        let units = self.level.0 + self.awaiting;
        let level = Level { scope: "".into(), units, units_per_second: self.rate, bytes: 0.0, bytes_per_second: 0.0 };
        if units > 0.0 { vec![level] } else { Vec::new() }
    }

    fn ownership(&mut self, node: NodeId) -> Ownership {
        let is_only = self.counts.len() == 1 && self.counts.contains_key(&node);
        if self.owner.is_none() && is_only {
            self.owner = Some(node);
        }
        match self.owner {
            None => Ownership::Shared,
            Some(owner) if owner == node && is_only && self.awaiting == 0.0 => Ownership::Alone,
            Some(owner) => Ownership::Awaits(owner),
        }
    }

    fn take_from(&mut self, node: NodeId, full: &[Level], is_gone: bool) {
        if self.owner == Some(node) {
            self.pour(full, f64::max);
            self.disown();
        }
        if is_gone {
            self.counts.remove(&node);
        }
    }

    fn others(&self, node: NodeId) -> Vec<(NodeId, u32)> {
        self.counts.iter().filter(|(other, _)| **other != node).map(|(node, count)| (*node, *count)).collect()
    }

    fn set(&mut self, node: NodeId, count: u32) {
        self.counts.remove(&node);
        if count > 0 {
            self.counts.insert(node, count);
        } else if self.owner == Some(node) {
            self.disown();
        }
    }
}

impl Store {
    pub(super) fn flush(&mut self) {
        (self.mark, self.version) = (None, 0);
        self.nodes.clear();
        self.users.clear();
        self.log.clear();
        self.bans.clear();
    }

    /// As it is on a disk, or a replica.
    pub(super) fn save(&self) -> Self {
        self.clone()
    }

    /// As it was when that was saved, but for time: whoever was connected is not any more.
    pub(super) fn set_back(&mut self, saved: Self) {
        *self = Self { now: self.now, subscriptions: HashMap::new(), ..saved };
    }

    fn user(&mut self, name: &Arc<str>) -> &mut User {
        let now = self.now;
        self.users.retain(|_, user| user.until > now);
        let user = self.users.entry(Arc::clone(name)).or_insert_with(|| User { until: now + 1, ..User::default() });
        user.leak(now);
        user
    }

    fn keep(&mut self, name: &Arc<str>, keep_ms: u64) {
        let now = self.now;
        let Some(user) = self.users.get_mut(name) else { return };
        let leaks = if user.rate > 0.0 { user.level.0 / user.rate * 1e6 } else { 0.0 };
        user.until = now + if user.counts.is_empty() { leaks as u64 } else { keep_ms * 1000 };
    }

    fn entered(&mut self, name: &Arc<str>, node: NodeId, outcome: Result<(), UserFull>, keep_ms: u64) -> Reply {
        let now = StoreTime(self.now);
        let user = self.user(name);
        let (ownership, levels, others) = (user.ownership(node), user.levels(), user.others(node));
        self.keep(name, keep_ms);
        Reply::Entered { now, outcome, others, ownership, levels }
    }

    fn levels(&mut self, name: &Arc<str>, node: NodeId, change: impl FnOnce(&mut User)) -> Reply {
        let now = StoreTime(self.now);
        let user = self.user(name);
        if !user.counts.contains_key(&node) {
            return Reply::Levels { now, ownership: Ownership::Shared, levels: Vec::new(), is_known: false };
        }
        change(user);
        Reply::Levels { now, ownership: user.ownership(node), levels: user.levels(), is_known: true }
    }

    fn append(&mut self, entry: Entry) -> Reply {
        let last = self.log.last().map_or(LogId(0, 0), |(id, _)| *id);
        let ms = (self.now / 1000).max(last.0);
        let number = if ms == last.0 { last.1 + 1 } else { 0 };
        self.log.push((LogId(ms, number), entry));
        Reply::Done
    }

    fn head(&self) -> LogId {
        self.log.last().map_or(LogId(0, 0), |(id, _)| *id)
    }

    /// Carries an op out. Who is to hear it, if it is a message.
    pub(super) fn carry_out(&mut self, from: NodeId, op: &Op) -> (Reply, Vec<NodeId>) {
        if let Op::Publish { topic, .. } = op {
            let heard = |(node, topics): (&NodeId, &BTreeSet<Topic>)| topics.contains(topic).then_some(*node);
            let receivers: Vec<_> = self.subscriptions.iter().filter_map(heard).collect();
            let count = self.counts_receivers.then_some(receivers.len() as u32 + self.listeners);
            return (Reply::Published(count), receivers);
        }
        (self.reply(from, op), Vec::new())
    }

    fn reply(&mut self, from: NodeId, op: &Op) -> Reply {
        match op {
            Op::Beat { node, lease_ms, version, mark } => self.beat(*node, *lease_ms, *version, *mark),
            Op::Leave { node } => {
                self.version += u64::from(self.nodes.remove(node).is_some());
                Reply::Done
            }
            Op::Enter { node, user: name, most, gone, full, keep_ms } => {
                let user = self.user(name);
                for node in gone {
                    user.take_from(*node, full, true);
                }
                let open = user.counts.values().sum::<u32>();
                let outcome = if open < *most { Ok(()) } else { Err(UserFull { open }) };
                if outcome.is_ok() {
                    *user.counts.entry(*node).or_default() += 1;
                }
                self.entered(name, *node, outcome, *keep_ms)
            }
            Op::Exit { node, user: name, levels, keep_ms } => {
                let user = self.user(name);
                user.pour(levels, f64::max);
                let count = user.counts.get(node).map_or(0, |count| count - 1);
                user.set(*node, count);
                self.keep(name, *keep_ms);
                Reply::Done
            }
            Op::Restore { node, user: name, connections, levels, keep_ms } => {
                let user = self.user(name);
                user.pour(levels, f64::max);
                user.set(*node, *connections);
                self.entered(name, *node, Ok(()), *keep_ms)
            }
            Op::Share { node, user, levels } => self.levels(user, *node, |user| {
                user.pour(levels, f64::max);
                if user.owner == Some(*node) {
                    user.disown();
                }
            }),
            Op::Report { node, user, used, least } => self.levels(user, *node, |user| {
                user.pour(least, f64::max);
                let more: f64 = used.iter().map(|level| level.units).sum();
                if user.owner.is_some_and(|owner| owner != *node) {
                    user.awaiting += more;
                } else {
                    user.level.0 += more;
                }
            }),
            Op::TakeOver { node, user, from, is_gone, full } => {
                self.levels(user, *node, |user| user.take_from(*from, full, *is_gone))
            }
            Op::Touch { users, keep_ms } => {
                let now = self.now;
                let missing = users.iter().filter(|name| self.users.get(*name).is_none_or(|user| user.until <= now));
                let missing = missing.cloned().collect();
                for name in users {
                    if let Some(user) = self.users.get_mut(name).filter(|user| user.until > now) {
                        user.until = user.until.max(now + keep_ms * 1000);
                    }
                }
                Reply::Touched(missing)
            }
            Op::Find { users, nodes } => {
                let all = users.iter().flat_map(|name| nodes.iter().map(move |node| (Arc::clone(name), *node)));
                let is_noted = |(name, node): &(Arc<str>, NodeId)| {
                    self.users.get(name).is_some_and(|user| user.until > self.now && user.counts.contains_key(node))
                };
                Reply::Found(all.filter(is_noted).collect())
            }
            Op::Disconnect { user, node } => self.append(Entry::Disconnect { user: Arc::clone(user), node: *node }),
            Op::Ban { subject, for_ms, reason, node } => {
                let until = for_ms.map(|for_ms| StoreTime(self.now + for_ms * 1000));
                let (subject, reason, node) = (subject.clone(), Arc::clone(reason), *node);
                self.bans.insert(subject.clone(), (until, Arc::clone(&reason)));
                self.append(Entry::Ban { subject, until, reason, node })
            }
            Op::Unban { subject, node } => {
                self.bans.remove(subject);
                self.append(Entry::Unban { subject: subject.clone(), node: *node })
            }
            Op::LoadBans => {
                let bans = self.bans.iter();
                let bans = bans.map(|(subject, (until, reason))| (subject.clone(), *until, Arc::clone(reason)));
                Reply::Bans { now: StoreTime(self.now), bans: bans.collect(), log: self.head() }
            }
            Op::ReadLog { after } => {
                let entries = self.log.iter().filter(|(id, _)| id > after).take(256).cloned().collect();
                Reply::Log { now: StoreTime(self.now), oldest: LogId(0, 0), entries }
            }
            Op::Subscribe { topic } => {
                self.subscriptions.entry(from).or_default().insert(topic.clone());
                Reply::Subscribed
            }
            Op::Unsubscribe { topic } => {
                self.subscriptions.entry(from).or_default().remove(topic);
                Reply::Done
            }
            Op::Publish { .. } => Reply::Done,
        }
    }

    fn beat(&mut self, node: NodeId, lease_ms: u64, version: u64, mark: u64) -> Reply {
        let now = self.now;
        let before = self.nodes.len();
        self.nodes.retain(|_, until| *until > now);
        let gone = before - self.nodes.len();
        let was_member = self.nodes.insert(node, now + lease_ms * 1000).is_some();
        self.version += gone as u64 + u64::from(!was_member);
        let mark = *self.mark.get_or_insert(mark);
        let is_new = version != self.version || !was_member;
        let members = is_new.then(|| self.nodes.keys().copied().collect());
        Reply::Beat { now: StoreTime(now), mark, version: self.version, was_member, members, log: self.head() }
    }
}
