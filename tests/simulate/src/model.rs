//! What the scripts of `cluster::store` mean, on fake time. `tests/store.rs` holds the two beside each other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::{Entry, Level, LogId, NodeId, Op, Ownership, Reply, StoreTime, UserFull};

/// Entries of the log that are kept.
const LOG: usize = 65_536;
/// Bans that are kept.
const BANS: usize = 65_536;

/// What was in a bucket, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Whose.
    pub scope: Arc<str>,
    /// Cost units and how many leak, bytes and how many leak.
    pub amounts: [f64; 4],
    /// Microseconds.
    pub at: u64,
}

/// What is noted of a user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// How many connections each node has.
    pub counts: Vec<(NodeId, u32)>,
    /// Who has the buckets for itself.
    pub owner: Option<NodeId>,
    /// The buckets.
    pub levels: Vec<Pool>,
    /// What others passed while an owner had not given its buckets.
    pub waiting: Vec<Pool>,
    /// When it is forgotten, in microseconds.
    pub until: u64,
}

/// A database.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Its clock, in microseconds.
    pub now: u64,
    /// The end of each node's lease.
    pub nodes: BTreeMap<NodeId, u64>,
    nodes_until: u64,
    mark: Option<u64>,
    version: u64,
    /// The first entry that was left when the log was trimmed.
    oldest: LogId,
    log: VecDeque<(LogId, Entry)>,
    bans: HashMap<Subject, (Option<u64>, Arc<str>)>,
    /// Users.
    pub users: HashMap<Arc<str>, User>,
    /// The next entry of the log has this id: a real database gave it.
    pub next_id: Option<LogId>,
}

fn now_in(pool: &Pool, now: u64, leaks: bool) -> [f64; 4] {
    let seconds = if leaks { now.saturating_sub(pool.at) as f64 / 1_000_000.0 } else { 0.0 };
    let [units, rate, bytes, byte_rate] = pool.amounts;
    [(units - rate * seconds).max(0.0), rate, (bytes - byte_rate * seconds).max(0.0), byte_rate]
}

fn level(pools: &[Pool], scope: &str, now: u64, leaks: bool) -> [f64; 4] {
    pools.iter().find(|pool| &*pool.scope == scope).map_or([0.0; 4], |pool| now_in(pool, now, leaks))
}

fn set_level(pools: &mut Vec<Pool>, scope: &Arc<str>, amounts: [f64; 4], now: u64) {
    pools.retain(|pool| pool.scope != *scope);
    if amounts[0] > 0.0 || amounts[2] > 0.0 {
        pools.push(Pool { scope: Arc::clone(scope), amounts, at: now });
    }
}

fn pour(pools: &mut Vec<Pool>, levels: &[Level], now: u64, leaks: bool, how: fn(f64, f64) -> f64) {
    for more in levels {
        let before = level(pools, &more.scope, now, leaks);
        let amounts =
            [how(before[0], more.units), more.units_per_second, how(before[2], more.bytes), more.bytes_per_second];
        set_level(pools, &more.scope, amounts, now);
    }
}

impl User {
    fn total(&self) -> u32 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    fn count(&self, node: NodeId) -> u32 {
        self.counts.iter().find(|(id, _)| *id == node).map_or(0, |(_, count)| *count)
    }

    fn set_count(&mut self, node: NodeId, count: u32) {
        self.counts.retain(|(id, _)| *id != node);
        if count > 0 {
            self.counts.push((node, count));
        }
    }

    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.owner.is_none() && self.levels.is_empty() && self.waiting.is_empty()
    }

    fn raise(&mut self, levels: &[Level], now: u64) {
        pour(&mut self.levels, levels, now, true, f64::max);
    }

    fn disown(&mut self, now: u64) {
        self.owner = None;
        for waiting in std::mem::take(&mut self.waiting) {
            let before = level(&self.levels, &waiting.scope, now, true);
            let [units, rate, bytes, byte_rate] = waiting.amounts;
            set_level(&mut self.levels, &waiting.scope, [before[0] + units, rate, before[2] + bytes, byte_rate], now);
        }
    }

    fn take_from(&mut self, node: NodeId, full: &[Level], is_gone: bool, now: u64) {
        if self.owner == Some(node) {
            self.raise(full, now);
            self.disown(now);
        }
        if is_gone {
            self.set_count(node, 0);
        }
    }

    fn ownership(&mut self, node: NodeId) -> Ownership {
        let mine = self.count(node);
        if mine > 0 && self.total() == mine && self.owner.is_none() {
            self.owner = Some(node);
        }
        let is_asked = self.total() != mine || !self.waiting.is_empty();
        match self.owner {
            None => Ownership::Shared,
            Some(owner) if owner == node && !is_asked => Ownership::Alone,
            Some(owner) => Ownership::Awaits(owner),
        }
    }

    fn others(&self, node: NodeId) -> Vec<(NodeId, u32)> {
        self.counts.iter().filter(|(id, _)| *id != node).copied().collect()
    }

    /// What is in the buckets, with what waits.
    pub fn sum(&self, now: u64) -> Vec<Level> {
        let mut all: BTreeMap<Arc<str>, [f64; 4]> = BTreeMap::new();
        for pool in &self.levels {
            all.insert(Arc::clone(&pool.scope), now_in(pool, now, true));
        }
        for pool in &self.waiting {
            let sum = all.entry(Arc::clone(&pool.scope)).or_insert([0.0, pool.amounts[1], 0.0, pool.amounts[3]]);
            sum[0] += pool.amounts[0];
            sum[2] += pool.amounts[2];
        }
        let level = |(scope, [units, units_per_second, bytes, bytes_per_second]): (Arc<str>, [f64; 4])| Level {
            scope,
            units,
            units_per_second,
            bytes,
            bytes_per_second,
        };
        all.into_iter().map(level).collect()
    }

    fn keep(&mut self, keep_ms: u64, now: u64) {
        let leak = |pools: &[Pool], leaks: bool| {
            let of = |pool: &Pool| {
                let [units, rate, bytes, byte_rate] = now_in(pool, now, leaks);
                let seconds = |amount: f64, rate: f64| if amount > 0.0 && rate > 0.0 { amount / rate } else { 0.0 };
                seconds(units, rate).max(seconds(bytes, byte_rate))
            };
            pools.iter().map(of).fold(0.0, f64::max)
        };
        let ms = if self.total() > 0 {
            keep_ms
        } else {
            let seconds = leak(&self.levels, true).max(leak(&self.waiting, false));
            (seconds.min(1e9) * 1000.0).ceil() as u64
        };
        self.until = now + ms * 1000;
    }
}

impl Model {
    /// An empty one, at this time.
    pub fn new(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Empties it, as `FLUSHALL` does.
    pub fn flush(&mut self) {
        *self = Self::new(self.now);
    }

    /// Carries out an op, but for those of channels.
    pub fn apply(&mut self, op: &Op) -> Reply {
        match op {
            Op::Beat { node, lease_ms, version, mark } => self.beat(*node, *lease_ms, *version, *mark),
            Op::Leave { node } => {
                self.forget_nodes();
                self.version += u64::from(self.nodes.remove(node).is_some());
                Reply::Done
            }
            Op::Touch { users, keep_ms } => self.touch(users, *keep_ms),
            Op::Find { users, nodes } => self.find(users, nodes),
            Op::Disconnect { user, node } => self.append(Entry::Disconnect { user: Arc::clone(user), node: *node }),
            Op::Ban { subject, for_ms, reason, node } => self.ban(subject, *for_ms, reason, *node),
            Op::Unban { subject, node } => {
                self.bans.remove(subject);
                self.append(Entry::Unban { subject: subject.clone(), node: *node })
            }
            Op::LoadBans => self.load_bans(),
            Op::ReadLog { after } => Reply::Log {
                now: StoreTime(self.now),
                oldest: self.oldest,
                entries: self.log.iter().filter(|(id, _)| id > after).take(256).cloned().collect(),
            },
            Op::Publish { .. } => Reply::Published(Some(0)),
            Op::Subscribe { .. } => Reply::Subscribed,
            Op::Unsubscribe { .. } => Reply::Done,
            Op::Enter { user, .. }
            | Op::Exit { user, .. }
            | Op::Restore { user, .. }
            | Op::Share { user, .. }
            | Op::Report { user, .. }
            | Op::TakeOver { user, .. } => self.about_user(user, op),
        }
    }

    fn about_user(&mut self, name: &Arc<str>, op: &Op) -> Reply {
        let now = self.now;
        let mut user = self.users.remove(name).filter(|user| user.until > now).unwrap_or_default();
        let reply = carry_out(&mut user, op, now);
        if !user.is_empty() && user.until > now {
            self.users.insert(Arc::clone(name), user);
        }
        reply
    }

    fn forget_nodes(&mut self) {
        if self.nodes_until <= self.now {
            self.nodes.clear();
        }
    }

    fn beat(&mut self, node: NodeId, lease_ms: u64, version: u64, mark: u64) -> Reply {
        let now = self.now;
        self.forget_nodes();
        let mark = *self.mark.get_or_insert(mark);
        let before = self.nodes.len();
        self.nodes.retain(|_, until| *until > now);
        let gone = (before - self.nodes.len()) as u64;
        let was_member = self.nodes.insert(node, now + lease_ms * 1000).is_some();
        let kept = if before == 0 { 0 } else { self.nodes_until };
        self.nodes_until = kept.max(now + lease_ms * 1000);
        self.version += gone + u64::from(!was_member);
        let is_told = !was_member || self.version != version;
        Reply::Beat {
            now: StoreTime(now),
            mark,
            version: self.version,
            was_member,
            members: is_told.then(|| {
                let mut members: Vec<_> = self.nodes.iter().map(|(node, until)| (*until, *node)).collect();
                members.sort_unstable();
                members.into_iter().map(|(_, node)| node).collect()
            }),
            log: self.log.back().map_or(LogId::default(), |(id, _)| *id),
        }
    }

    fn touch(&mut self, users: &[Arc<str>], keep_ms: u64) -> Reply {
        let mut missing = Vec::new();
        for name in users {
            match self.users.get_mut(name).filter(|user| user.until > self.now) {
                Some(user) => user.until = self.now + keep_ms * 1000,
                None => missing.push(Arc::clone(name)),
            }
        }
        Reply::Touched(missing)
    }

    fn find(&self, users: &[Arc<str>], nodes: &[NodeId]) -> Reply {
        let all = users.iter().flat_map(|name| nodes.iter().map(move |node| (Arc::clone(name), *node)));
        let is_noted = |(name, node): &(Arc<str>, NodeId)| {
            let user = self.users.get(name).filter(|user| user.until > self.now);
            user.is_some_and(|user| user.counts.iter().any(|(holder, _)| holder == node))
        };
        Reply::Found(all.filter(is_noted).collect())
    }

    fn append(&mut self, entry: Entry) -> Reply {
        let last = self.log.back().map_or(LogId::default(), |(id, _)| *id);
        let ms = self.now / 1000;
        let by_clock = if ms > last.0 { LogId(ms, 0) } else { LogId(last.0, last.1 + 1) };
        self.log.push_back((self.next_id.take().unwrap_or(by_clock), entry));
        if self.log.len() > LOG {
            self.log.pop_front();
            self.oldest = self.log[0].0;
        }
        Reply::Done
    }

    fn ban(&mut self, subject: &Subject, for_ms: Option<u64>, reason: &Arc<str>, node: NodeId) -> Reply {
        let now = self.now;
        self.bans.retain(|_, (until, _)| until.is_none_or(|until| until > now));
        if self.bans.len() >= BANS && !self.bans.contains_key(subject) {
            return Reply::Failed("ERR 65536 bans are in force".into());
        }
        let until = for_ms.map(|ms| now + ms * 1000);
        self.bans.insert(subject.clone(), (until, Arc::clone(reason)));
        let (subject, reason) = (subject.clone(), Arc::clone(reason));
        self.append(Entry::Ban { subject, until: until.map(StoreTime), reason, node })
    }

    fn load_bans(&mut self) -> Reply {
        let now = self.now;
        let in_force = self.bans.iter().filter(|(_, (until, _))| until.is_none_or(|until| until > now));
        Reply::Bans {
            now: StoreTime(now),
            bans: in_force
                .map(|(subject, (until, why))| (subject.clone(), until.map(StoreTime), Arc::clone(why)))
                .collect(),
            log: self.log.back().map_or(LogId::default(), |(id, _)| *id),
        }
    }
}

fn carry_out(user: &mut User, op: &Op, now: u64) -> Reply {
    match op {
        Op::Enter { node, most, gone, full, keep_ms, .. } => {
            for gone in gone.iter().filter(|gone| *gone != node) {
                user.take_from(*gone, full, true, now);
            }
            let open = user.total();
            let outcome = if open < *most { Ok(()) } else { Err(UserFull { open }) };
            if outcome.is_ok() {
                user.set_count(*node, user.count(*node) + 1);
            }
            let reply = entered(user, *node, outcome, now);
            user.keep(*keep_ms, now);
            reply
        }
        Op::Restore { node, connections, levels, keep_ms, .. } => {
            user.set_count(*node, *connections);
            user.raise(levels, now);
            if user.owner == Some(*node) && *connections == 0 {
                user.disown(now);
            }
            let reply = entered(user, *node, Ok(()), now);
            if *connections > 0 || user.total() == 0 {
                user.keep(*keep_ms, now);
            }
            reply
        }
        Op::Exit { node, levels, keep_ms, .. } => {
            user.set_count(*node, user.count(*node).saturating_sub(1));
            user.raise(levels, now);
            if user.owner == Some(*node) && user.count(*node) == 0 {
                user.disown(now);
            }
            if user.total() == 0 {
                user.keep(*keep_ms, now);
            }
            Reply::Done
        }
        Op::Share { node, levels, .. } if user.count(*node) > 0 => {
            user.raise(levels, now);
            if user.owner == Some(*node) {
                user.disown(now);
            }
            told(user, *node, now)
        }
        Op::Report { node, used, least, .. } if user.count(*node) > 0 => {
            user.raise(least, now);
            if user.owner.is_some_and(|owner| owner != *node) {
                pour(&mut user.waiting, used, now, false, |a, b| a + b);
            } else {
                pour(&mut user.levels, used, now, true, |a, b| a + b);
            }
            told(user, *node, now)
        }
        Op::TakeOver { node, from, is_gone, full, .. } if !user.is_empty() => {
            let had = user.total();
            user.take_from(*from, full, *is_gone, now);
            let reply = told(user, *node, now);
            if had > 0 && user.total() == 0 {
                user.keep(0, now);
            }
            reply
        }
        _ => Reply::Levels { now: StoreTime(now), ownership: Ownership::Shared, levels: vec![], is_known: false },
    }
}

fn entered(user: &mut User, node: NodeId, outcome: Result<(), UserFull>, now: u64) -> Reply {
    let ownership = user.ownership(node);
    Reply::Entered { now: StoreTime(now), outcome, others: user.others(node), ownership, levels: user.sum(now) }
}

fn told(user: &mut User, node: NodeId, now: u64) -> Reply {
    let ownership = user.ownership(node);
    Reply::Levels { now: StoreTime(now), ownership, levels: user.sum(now), is_known: user.count(node) > 0 }
}
