//! The users of this node: how many connections each has, and whether other nodes draw on its buckets.
//!
//! Redis counts connections by node. Enter and exit go one by one while this node and Redis agree; after a gap, or when nobody
//! knows whether something was carried out, the whole number is stated again. While a user is shared, what passes is reported in
//! batches, one at a time for each user, so that an answer is known to hold what was on its way and nothing else.

mod drawing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::backoff::Backoff;
use super::members::Members;
use super::ops::{Buckets, Effect, Level, NodeId, Op, OpId, Ownership, Reply, Topic, UserFull};
use super::outbox::{Drawing, Entering, Outbox, Waiting};
use super::wire::What;
use crate::time::Moment;

/// How often what passed is reported.
const TICK_MS: u64 = 10;
/// When it is asked first whether the owner has shared, and then again and again.
const FIRST_LOOK_MS: u64 = 20;
const LOOK_MS: u64 = 100;
/// For how long an owner may keep others waiting.
const AWAIT_MS: u64 = 1000;
/// Users that are restored at once, or touched by one op.
const BATCH: usize = 256;
/// Ops that touch users, in one poll.
const MAX_TOUCHES: usize = 64;
/// Scopes of a user that are believed: there is one for each route with a rate of its own.
const MAX_LEVELS: usize = 1024;
/// Nodes that are gone, noted for one user at once.
const MAX_GONE: usize = 16;
/// Questions about nodes that are gone, at once.
const MAX_FINDS: usize = 4;
/// Users who have left that are remembered, and for how much longer than a lease: so long a node may take to notice an outage.
const MAX_LEFT: usize = 65_536;
const NOTICED_MS: u64 = 5000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// No other node draws on the buckets, or nobody knows (Redis is gone).
    Own,
    Shared,
    /// `owner` has not given its buckets yet. `look`: when it is asked again.
    Awaits {
        owner: NodeId,
        since: Moment,
        op: OpId,
        look: Moment,
    },
}

#[expect(clippy::struct_excessive_bools, reason = "independent wishes and facts; no two exclude each other")]
struct User {
    held: u32,
    entering: u32,
    sharing: Sharing,
    /// Redis was told of this user at some time.
    is_noted: bool,
    /// It may have counted a connection. Of whom it refused it counts none.
    was_counted: bool,
    /// What Redis was told is right, if it was carried out.
    is_synced: bool,
    is_queued: bool,
    /// Since then Redis has the whole number.
    restored: OpId,
    /// An op that draws on the buckets is not answered.
    is_busy: bool,
    wants_share: bool,
    wants_report: bool,
    wants_look: bool,
    gone: Vec<NodeId>,
    touch_at: Moment,
}

impl User {
    fn new() -> Self {
        Self {
            held: 0,
            entering: 0,
            sharing: Sharing::Own,
            is_noted: false,
            was_counted: false,
            is_synced: true,
            is_queued: false,
            restored: OpId(0),
            is_busy: false,
            wants_share: false,
            wants_report: false,
            wants_look: false,
            gone: Vec::new(),
            touch_at: Moment::NEVER,
        }
    }

    /// One connection more.
    fn hold(&mut self) {
        self.held += 1;
        self.was_counted = true;
    }

    fn is_shared(&self) -> bool {
        self.sharing != Sharing::Own
    }

    /// Somebody is here, or about to come.
    fn is_here(&self) -> bool {
        self.held > 0 || self.entering > 0
    }

    fn wants(&self) -> bool {
        self.wants_share || self.wants_report || self.wants_look || !self.gone.is_empty()
    }
}

/// What a step of the node works with.
pub(super) struct Turn<'a> {
    pub(super) out: &'a mut Outbox,
    pub(super) members: &'a Members,
    pub(super) effects: &'a mut Vec<Effect>,
    pub(super) now: Moment,
}

/// An enter that was refused while nodes count that may be gone: the next beat says.
struct Refused {
    entering: Entering,
    others: Vec<NodeId>,
    open: u32,
    op: OpId,
}

/// A node may have died between its enter and its word to whoever held the user alone: that one knows nothing of it, and by its
/// touches keeps what is noted for as long as the user stays. So after a death Redis is asked about all such users.
#[derive(Default)]
struct Remains {
    dead: Vec<NodeId>,
    /// Who is not asked about yet.
    users: VecDeque<Arc<str>>,
    asked: BTreeMap<OpId, Vec<Arc<str>>>,
}

/// The users of one node.
pub(super) struct Users {
    lease_ms: u64,
    buckets: Arc<dyn Buckets>,
    table: HashMap<Arc<str>, User>,
    shared: BTreeSet<Arc<str>>,
    awaiting: BTreeSet<Arc<str>>,
    /// Those that want something as soon as it may be asked.
    wanting: BTreeSet<Arc<str>>,
    restores: VecDeque<Arc<str>>,
    restoring: BTreeSet<OpId>,
    /// Of those to restore, so many were there when Redis came back, and this was the last of them.
    first: usize,
    last_of_first: OpId,
    touches: VecDeque<(Moment, Arc<str>)>,
    /// Users of whom Redis was told lately that nobody is here. A Redis that comes back as it was a moment before (a replica takes over,
    /// a disk is read again) counts them still, and would for as long as another node touches the user. What is older has expired there.
    left: VecDeque<(Moment, Arc<str>)>,
    remains: Remains,
    refused: Vec<Refused>,
    /// Users that nodes hold, too, which are not on the list: the next one says whether they are gone, and hold nothing.
    doubted: BTreeMap<Arc<str>, (OpId, Vec<NodeId>)>,
    tick_at: Moment,
    backoff: Backoff,
}

impl Users {
    pub(super) fn new(lease_ms: u64, buckets: Arc<dyn Buckets>, seed: u64) -> Self {
        Self {
            lease_ms,
            buckets,
            table: HashMap::new(),
            shared: BTreeSet::new(),
            awaiting: BTreeSet::new(),
            wanting: BTreeSet::new(),
            restores: VecDeque::new(),
            restoring: BTreeSet::new(),
            first: 0,
            last_of_first: OpId(0),
            touches: VecDeque::new(),
            left: VecDeque::new(),
            remains: Remains::default(),
            refused: Vec::new(),
            doubted: BTreeMap::new(),
            tick_at: Moment::START,
            backoff: Backoff::new(seed),
        }
    }

    // Connections.

    /// A connection asks for a place, while Redis answers.
    pub(super) fn enter(&mut self, entering: Entering, turn: &mut Turn<'_>) {
        self.note(&entering.user).entering += 1;
        if self.table.get(&entering.user).is_some_and(|user| !user.is_synced) {
            // Otherwise what Redis counts is less than there are.
            self.restore(&Arc::clone(&entering.user), turn);
        }
        self.ask_to_enter(entering, &[], turn);
    }

    fn ask_to_enter(&mut self, entering: Entering, gone: &[NodeId], turn: &mut Turn<'_>) {
        let user = Arc::clone(&entering.user);
        let full = if gone.is_empty() { Vec::new() } else { self.buckets.full(&user) };
        self.watch(&user, turn.now);
        let (node, most, keep_ms) = (turn.out.node, entering.most, self.lease_ms);
        let op = Op::Enter { node, user: Arc::clone(&user), most, gone: gone.to_vec(), full, keep_ms };
        turn.out.ask(op, Waiting::Enter(entering), turn.now);
        tell(gone, &user, turn);
    }

    /// A connection is let in, whatever Redis counts: it is told.
    pub(super) fn stay(&mut self, user: &Arc<str>, is_joined: bool) {
        self.note(user).hold();
        self.restore_once_joined(user, is_joined);
    }

    /// A connection is gone.
    pub(super) fn exit(&mut self, name: &Arc<str>, is_joined: bool, turn: &mut Turn<'_>) {
        let Some(user) = self.table.get_mut(name).filter(|user| user.held > 0) else { return };
        user.held -= 1;
        let is_last = user.held == 0;
        let (is_synced, is_shared) = (user.is_synced, user.is_shared());
        if is_joined && is_synced {
            let levels = if is_last && !is_shared { self.buckets.levels(name, turn.now) } else { Vec::new() };
            if is_last && is_shared {
                self.report_the_rest(name, turn);
            }
            let (node, keep_ms) = (turn.out.node, self.lease_ms);
            let op = Op::Exit { node, user: Arc::clone(name), levels, keep_ms };
            turn.out.ask(op, Waiting::Exit(Arc::clone(name)), turn.now);
        } else {
            self.restore_once_joined(name, is_joined);
        }
        self.tidy(name, turn.now);
    }

    fn forget_left(&mut self, now: Moment) {
        let kept_ms = self.lease_ms.saturating_add(NOTICED_MS);
        let is_old = |(at, _): &(Moment, Arc<str>)| at.after_millis(kept_ms) < now;
        while self.left.len() > MAX_LEFT || self.left.front().is_some_and(is_old) {
            self.left.pop_front();
        }
    }

    fn report_the_rest(&mut self, name: &Arc<str>, turn: &mut Turn<'_>) {
        if self.table.get(name).is_some_and(|user| user.entering > 0 && !user.is_busy) {
            // Somebody else is about to come: then the answer matters.
            self.draw(name, Drawing::Report, turn);
            return;
        }
        let used = self.buckets.take_unreported(name, turn.now);
        let least = self.buckets.take_least(name, turn.now);
        if used.iter().chain(&least).any(|level| level.units > 0.0 || level.bytes > 0.0) {
            let op = Op::Report { node: turn.out.node, user: Arc::clone(name), used, least };
            turn.out.ask(op, Waiting::Nothing, turn.now);
        }
    }

    /// The answer to an enter.
    pub(super) fn entered(&mut self, id: OpId, entering: Entering, reply: Reply, turn: &mut Turn<'_>) {
        let (ticket, name) = (entering.ticket, Arc::clone(&entering.user));
        let Reply::Entered { outcome, others, ownership, levels, .. } = reply else {
            // Nobody knows whether it was carried out.
            self.backoff.failed(turn.now);
            self.let_in(ticket, &name, turn.effects);
            return;
        };
        match outcome {
            Ok(()) => {
                let user = self.note(&name);
                user.entering = user.entering.saturating_sub(1);
                user.hold();
                let is_counted = id > user.restored;
                turn.effects.push(Effect::Entered { ticket, outcome: Ok(()) });
                if !is_counted {
                    self.restore_later(&name);
                }
                self.doubt(&name, &others, turn);
                self.buckets.raise(&name, &believable(levels), turn.now);
                // What is under way was asked for later, and says it better.
                if self.table.get(&name).is_some_and(|user| !user.is_busy) {
                    self.owned(&name, &ownership, turn);
                    self.advance(&name, turn);
                }
            }
            Err(full) => {
                let others: Vec<_> = others.into_iter().map(|(node, _)| node).take(MAX_GONE).collect();
                let is_doubtful = others.iter().any(|node| *node != turn.out.node && !turn.members.has(*node));
                if is_doubtful && !entering.is_second {
                    self.refused.push(Refused { entering, others, open: full.open, op: turn.out.last() });
                } else {
                    self.refuse(ticket, &name, full, turn);
                }
            }
        }
    }

    /// Nodes that hold a user and are on no list: they came after it, or what is noted of them has outlived them.
    fn doubt(&mut self, name: &Arc<str>, others: &[(NodeId, u32)], turn: &Turn<'_>) {
        let is_doubtful = |node: &NodeId| *node != turn.out.node && !turn.members.has(*node);
        let doubted: Vec<_> = others.iter().map(|(node, _)| *node).filter(is_doubtful).take(MAX_GONE).collect();
        if !doubted.is_empty() {
            self.doubted.insert(Arc::clone(name), (turn.out.last(), doubted));
        }
    }

    fn let_in(&mut self, ticket: u64, name: &Arc<str>, effects: &mut Vec<Effect>) {
        if let Some(user) = self.table.get_mut(name) {
            user.entering = user.entering.saturating_sub(1);
            user.hold();
        }
        self.restore_later(name);
        effects.push(Effect::Entered { ticket, outcome: Ok(()) });
    }

    fn refuse(&mut self, ticket: u64, name: &Arc<str>, full: UserFull, turn: &mut Turn<'_>) {
        if let Some(user) = self.table.get_mut(name) {
            user.entering = user.entering.saturating_sub(1);
        }
        turn.effects.push(Effect::Entered { ticket, outcome: Err(full) });
        self.tidy(name, turn.now);
    }

    /// Whether somebody waits for a list of members that is newer than the last one.
    pub(super) fn awaits_list(&self, members: &Members) -> bool {
        let is_doubtful = |name: &Arc<str>| match self.table.get(name).map(|user| user.sharing) {
            Some(Sharing::Awaits { owner, op, .. }) => !members.has(owner) && !members.is_listed_after(op),
            _ => false,
        };
        let is_new = |op: OpId| !members.is_listed_after(op);
        self.refused.iter().any(|refused| is_new(refused.op))
            || self.doubted.values().any(|(op, _)| is_new(*op))
            || self.awaiting.iter().any(is_doubtful)
    }

    /// An exit failed: nobody knows what Redis counts.
    pub(super) fn exit_failed(&mut self, name: &Arc<str>, now: Moment) {
        self.backoff.failed(now);
        self.exit_lost(name);
        self.restore_later(name);
    }

    /// The same, where all users are restored anyway.
    pub(super) fn exit_lost(&mut self, name: &Arc<str>) {
        let user = self.note(name);
        (user.is_noted, user.was_counted) = (true, true);
    }

    // Members.

    /// The list of members is new: `gone` are those that were on it and are not any more.
    pub(super) fn listed(&mut self, gone: &[NodeId], turn: &mut Turn<'_>) {
        if !gone.is_empty() {
            self.look_for_remains(gone);
            for name in self.shared.iter().cloned().collect::<Vec<_>>() {
                let Some(user) = self.table.get_mut(&name) else { continue };
                user.gone.extend(gone.iter().take(MAX_GONE));
                user.gone.truncate(MAX_GONE);
                self.advance(&name, turn);
            }
        }
        for (name, (op, nodes)) in core::mem::take(&mut self.doubted) {
            if !turn.members.is_listed_after(op) {
                self.doubted.insert(name, (op, nodes));
            } else if let Some(user) = self.table.get_mut(&name) {
                user.gone.extend(nodes.into_iter().filter(|node| turn.members.is_gone(*node, op)));
                user.gone.truncate(MAX_GONE);
                self.advance(&name, turn);
            }
        }
        for refused in core::mem::take(&mut self.refused) {
            if !turn.members.is_listed_after(refused.op) {
                self.refused.push(refused);
                continue;
            }
            let Refused { mut entering, others, open, op } = refused;
            let gone: Vec<_> = others.into_iter().filter(|node| turn.members.is_gone(*node, op)).collect();
            if gone.is_empty() {
                self.refuse(entering.ticket, &Arc::clone(&entering.user), UserFull { open }, turn);
            } else {
                entering.is_second = true;
                self.ask_to_enter(entering, &gone, turn);
            }
        }
        for name in self.awaiting.iter().cloned().collect::<Vec<_>>() {
            self.advance(&name, turn);
        }
    }

    fn look_for_remains(&mut self, gone: &[NodeId]) {
        self.remains.dead.extend(gone);
        if self.remains.dead.len() > MAX_GONE {
            self.remains = Remains::default();
            // So many at once: the answers to these tell who else holds a user.
            return self.restore_all();
        }
        let alone = self.table.iter().filter(|(_, user)| user.held > 0 && !user.is_shared());
        // In order: what a test on fake time does is the same each time.
        self.remains.users = alone.map(|(name, _)| Arc::clone(name)).collect::<BTreeSet<_>>().into_iter().collect();
    }

    fn ask_for_remains(&mut self, turn: &mut Turn<'_>) {
        let Remains { dead, users, asked } = &mut self.remains;
        dead.retain(|node| !turn.members.has(*node));
        while !dead.is_empty() && !users.is_empty() && asked.len() < MAX_FINDS {
            let some: Vec<_> = users.drain(..users.len().min((BATCH / dead.len()).max(1))).collect();
            let op = Op::Find { users: some.clone(), nodes: dead.clone() };
            asked.insert(turn.out.ask(op, Waiting::Find, turn.now), some);
        }
        if users.is_empty() {
            dead.clear();
        }
    }

    /// What is noted of nodes that are gone, and nobody here knew.
    pub(super) fn found(&mut self, id: OpId, reply: Reply, turn: &mut Turn<'_>) {
        let asked = self.remains.asked.remove(&id).unwrap_or_default();
        let Reply::Found(found) = reply else {
            // The answer to a restore tells who else holds a user.
            self.backoff.failed(turn.now);
            return asked.iter().for_each(|name| self.restore_later(name));
        };
        for (name, node) in found {
            let Some(user) = self.table.get_mut(&name).filter(|user| user.gone.len() < MAX_GONE) else { continue };
            user.gone.push(node);
            self.advance(&name, turn);
        }
    }

    /// Another node holds this user, too.
    pub(super) fn share(&mut self, name: &str, turn: &mut Turn<'_>) {
        let Some((name, _)) = self.table.get_key_value(name).filter(|(_, user)| user.held > 0) else { return };
        let name = Arc::clone(name);
        if let Some(user) = self.table.get_mut(&name) {
            // Whoever waits for the owner itself has nothing to give.
            let is_waiting = matches!(user.sharing, Sharing::Awaits { .. });
            (user.wants_share, user.wants_look) = (!is_waiting, user.wants_look || is_waiting);
            self.advance(&name, turn);
        }
    }

    // Whose the buckets are.

    fn owned(&mut self, name: &Arc<str>, ownership: &Ownership, turn: &mut Turn<'_>) {
        let Some(user) = self.table.get_mut(name).filter(|user| user.is_here()) else { return };
        match ownership {
            Ownership::Alone => self.set_sharing(name, Sharing::Own, turn.now),
            Ownership::Shared => self.set_sharing(name, Sharing::Shared, turn.now),
            Ownership::Awaits(owner) if *owner == turn.out.node => user.wants_share = true,
            Ownership::Awaits(owner) => {
                if matches!(user.sharing, Sharing::Awaits { owner: known, .. } if known == *owner) {
                    return;
                }
                let (owner, since, look) = (*owner, turn.now, turn.now.after_millis(FIRST_LOOK_MS));
                self.set_sharing(name, Sharing::Awaits { owner, since, op: turn.out.last(), look }, turn.now);
                turn.out.say(Topic::Node(owner), &What::Share(Arc::clone(name)), Waiting::Nothing, turn.now);
            }
        }
    }

    fn set_sharing(&mut self, name: &Arc<str>, sharing: Sharing, now: Moment) {
        let Some(user) = self.table.get_mut(name) else { return };
        let before = core::mem::replace(&mut user.sharing, sharing);
        if matches!(sharing, Sharing::Awaits { .. }) {
            self.awaiting.insert(Arc::clone(name));
        } else {
            self.awaiting.remove(name);
        }
        let is_shared = sharing != Sharing::Own;
        if is_shared == (before != Sharing::Own) {
            return;
        }
        if is_shared {
            if self.shared.is_empty() {
                self.tick_at = now.after_millis(TICK_MS);
            }
            self.shared.insert(Arc::clone(name));
        } else {
            self.shared.remove(name);
        }
        self.buckets.share(name, is_shared, now);
    }

    // Ops that draw on buckets.

    // After a gap.

    /// Redis is gone, or the connection to it: every node enforces the whole limit itself.
    pub(super) fn cut_off(&mut self, lost: impl Iterator<Item = Entering>, now: Moment, effects: &mut Vec<Effect>) {
        let refused = core::mem::take(&mut self.refused);
        for entering in lost.chain(refused.into_iter().map(|refused| refused.entering)) {
            self.let_in(entering.ticket, &entering.user, effects);
        }
        for name in core::mem::take(&mut self.shared) {
            self.buckets.share(&name, false, now);
        }
        for set in [&mut self.awaiting, &mut self.wanting] {
            set.clear();
        }
        self.restores.clear();
        self.restoring.clear();
        self.doubted.clear();
        self.touches.clear();
        self.remains = Remains::default();
        self.forget_left(now);
        for (_, name) in core::mem::take(&mut self.left) {
            self.note(&name).is_noted = true;
        }
        self.table.retain(|_, user| {
            let before = (user.is_noted, user.held);
            *user = User::new();
            (user.is_noted, user.held) = before;
            // Nobody knows what became of what was under way.
            user.was_counted = true;
            user.is_synced = false;
            user.held > 0 || user.is_noted
        });
    }

    /// States all users again.
    pub(super) fn restore_all(&mut self) {
        // In order: what a test on fake time does is the same each time.
        let names: BTreeSet<_> = self.table.keys().cloned().collect();
        self.restores = names.into_iter().collect();
        self.first = self.restores.len();
        for user in self.table.values_mut() {
            (user.is_synced, user.is_queued) = (false, true);
        }
    }

    /// Whether all that were there when it began are restored.
    pub(super) fn are_restored(&self) -> bool {
        self.first == 0 && self.restoring.first().is_none_or(|id| *id > self.last_of_first)
    }

    fn restore_later(&mut self, name: &Arc<str>) {
        if let Some(user) = self.table.get_mut(name) {
            user.is_synced = false;
        }
        self.queue_again(name);
    }

    /// While Redis is gone nothing is queued: then all are restored anyway.
    fn restore_once_joined(&mut self, name: &Arc<str>, is_joined: bool) {
        if is_joined {
            self.restore_later(name);
        } else if let Some(user) = self.table.get_mut(name) {
            user.is_synced = false;
        }
    }

    fn queue_again(&mut self, name: &Arc<str>) {
        if let Some(user) = self.table.get_mut(name)
            && !user.is_synced
            && !user.is_queued
        {
            user.is_queued = true;
            self.restores.push_back(Arc::clone(name));
        }
    }

    /// Restores a user now, unless something of it is under way: then its answer does.
    fn restore(&mut self, name: &Arc<str>, turn: &mut Turn<'_>) {
        if self.table.get(name).is_some_and(|user| !user.is_synced && !user.is_busy) {
            self.draw(name, Drawing::Restore, turn);
        }
    }

    fn restore_some(&mut self, turn: &mut Turn<'_>) {
        while turn.now >= self.backoff.at()
            && self.restoring.len() < BATCH
            && let Some(name) = self.restores.pop_front()
        {
            if let Some(user) = self.table.get_mut(&name) {
                user.is_queued = false;
            }
            self.restore(&name, turn);
            if self.first > 0 {
                self.first -= 1;
                self.last_of_first = turn.out.last();
            }
        }
    }

    // Time.

    /// What is due. `is_up`: all are restored.
    pub(super) fn poll(&mut self, is_up: bool, turn: &mut Turn<'_>) {
        self.restore_some(turn);
        if !is_up {
            return;
        }
        self.forget_left(turn.now);
        self.touch(turn);
        self.ask_for_remains(turn);
        if turn.now < self.tick_at || (self.shared.is_empty() && self.wanting.is_empty()) {
            return;
        }
        self.tick_at = turn.now.after_millis(TICK_MS);
        for name in self.buckets.take_dirty() {
            if let Some(user) = self.table.get_mut(&name) {
                user.wants_report = true;
                self.wanting.insert(name);
            }
        }
        for name in self.awaiting.iter().cloned().collect::<Vec<_>>() {
            self.look(&name, turn);
        }
        for name in core::mem::take(&mut self.wanting) {
            self.advance(&name, turn);
        }
    }

    /// Reminds an owner that somebody waits for it.
    fn look(&mut self, name: &Arc<str>, turn: &mut Turn<'_>) {
        let Some(user) = self.table.get_mut(name) else { return };
        let Sharing::Awaits { owner, look, .. } = &mut user.sharing else { return };
        if turn.now < *look {
            return;
        }
        *look = turn.now.after_millis(LOOK_MS);
        user.wants_look = true;
        turn.out.say(Topic::Node(*owner), &What::Share(Arc::clone(name)), Waiting::Nothing, turn.now);
        self.wanting.insert(Arc::clone(name));
    }

    /// When one is due, so are all that soon would be: Redis and this thread are woken for many at once.
    fn touch(&mut self, turn: &mut Turn<'_>) {
        if self.touches.front().is_none_or(|(at, _)| *at > turn.now) {
            return;
        }
        let soon = turn.now.after_millis(self.lease_ms / 30);
        for _ in 0..MAX_TOUCHES {
            let mut users = Vec::new();
            while users.len() < BATCH
                && let Some((at, _)) = self.touches.front()
                && *at <= soon
                && let Some((at, name)) = self.touches.pop_front()
            {
                let Some(user) = self.table.get_mut(&name).filter(|user| user.touch_at == at) else { continue };
                user.touch_at = turn.now.after_millis(self.lease_ms / 3);
                self.touches.push_back((user.touch_at, Arc::clone(&name)));
                users.push(name);
            }
            if users.is_empty() {
                return;
            }
            turn.out.ask(Op::Touch { users, keep_ms: self.lease_ms }, Waiting::Touch, turn.now);
        }
    }

    /// Nothing is noted of these users any more.
    pub(super) fn missing(&mut self, names: &[Arc<str>]) {
        for name in names {
            if self.table.get(name).is_some_and(|user| user.held > 0) {
                self.restore_later(name);
            }
        }
    }

    /// When [`poll`](Self::poll) is due.
    pub(super) fn next(&self, is_up: bool) -> Moment {
        let is_idle = !is_up || (self.shared.is_empty() && self.wanting.is_empty());
        let tick = if is_idle { Moment::NEVER } else { self.tick_at };
        let touch = self.touches.front().filter(|_| is_up).map_or(Moment::NEVER, |(at, _)| *at);
        let restore =
            if self.restores.is_empty() || self.restoring.len() >= BATCH { Moment::NEVER } else { self.backoff.at() };
        tick.min(touch).min(restore)
    }

    /// Gives everything back.
    pub(super) fn stop(&mut self, node: NodeId, now: Moment) -> Vec<Op> {
        let mut ops = Vec::new();
        let keep_ms = self.lease_ms;
        for (name, state) in self.table.drain().filter(|(_, state)| state.is_noted) {
            let mut levels = Vec::new();
            if state.is_shared() {
                let (used, least) = (self.buckets.take_unreported(&name, now), self.buckets.take_least(&name, now));
                ops.push(Op::Report { node, user: Arc::clone(&name), used, least });
            } else {
                levels = self.buckets.levels(&name, now);
            }
            ops.push(Op::Restore { node, user: name, connections: 0, levels, keep_ms });
        }
        ops
    }

    // The table.

    fn note(&mut self, name: &Arc<str>) -> &mut User {
        self.table.entry(Arc::clone(name)).or_insert_with(User::new)
    }

    /// Redis is told of a user: from now on that is kept there.
    fn watch(&mut self, name: &Arc<str>, now: Moment) {
        let Some(user) = self.table.get_mut(name) else { return };
        user.is_noted = true;
        if user.touch_at == Moment::NEVER {
            user.touch_at = now.after_millis(self.lease_ms / 3);
            self.touches.push_back((user.touch_at, Arc::clone(name)));
        }
    }

    /// A user of whom nobody is here draws on no buckets. It is forgotten once Redis has nothing of it either.
    fn tidy(&mut self, name: &Arc<str>, now: Moment) {
        let Some(user) = self.table.get_mut(name).filter(|user| !user.is_here()) else { return };
        (user.wants_share, user.wants_report, user.wants_look) = (false, false, false);
        user.gone.clear();
        self.set_sharing(name, Sharing::Own, now);
        let is_over = |user: &User| !user.is_busy && (user.is_synced || !user.is_noted);
        if self.table.get(name).is_some_and(is_over) {
            if self.table.remove(name).is_some_and(|user| user.is_noted && user.was_counted) {
                self.left.push_back((now, Arc::clone(name)));
                self.forget_left(now);
            }
            self.wanting.remove(name);
        }
    }
}

/// Nodes are told what was taken from them: one that is back meanwhile finds that nothing is noted of it, and one that owned the
/// buckets again (a database that was flushed) that it does not any more.
fn tell(nodes: &[NodeId], name: &Arc<str>, turn: &mut Turn<'_>) {
    for node in nodes {
        turn.out.say(Topic::Node(*node), &What::Share(Arc::clone(name)), Waiting::Nothing, turn.now);
    }
}

/// A node that is still gone.
fn next_gone(gone: &mut Vec<NodeId>, members: &Members) -> Option<NodeId> {
    gone.retain(|node| !members.has(*node));
    gone.pop()
}

/// Levels of a peer, as far as they can be levels.
fn believable(mut levels: Vec<Level>) -> Vec<Level> {
    let is_amount = |amount: f64| amount.is_finite() && amount >= 0.0;
    levels.truncate(MAX_LEVELS);
    levels.retain(|level| {
        [level.units, level.units_per_second, level.bytes, level.bytes_per_second].into_iter().all(is_amount)
    });
    levels
}
