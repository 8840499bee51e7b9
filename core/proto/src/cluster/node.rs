//! One node of a cluster: what it asks Redis for, and what it makes of the answers.
//!
//! Requests, replies, messages and time go in; ops for Redis and effects for the server come out. No I/O, no clock, no panic.
//! What others say, nodes or Redis, is checked and bounded: it may be wrong, and then something is missing or comes late, but
//! this node goes on.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::backoff::{Backoff, Random};
use super::clock::StoreClock;
use super::count::Questions;
use super::interest::Interest;
use super::log::{Context, Log};
use super::members::Members;
use super::ops::{Buckets, Effect, Message, NodeId, Op, OpId, Reply, Request, StoreTime, Topic};
use super::outbox::{Entering, Outbox, Waiting};
use super::probe::Probe;
use super::users::{Turn, Users};
use super::window::Windows;
use super::wire::{self, Heard, MAX_ANSWER, Said, What};
use crate::time::Moment;

/// Whoever does not answer for so long is gone.
const MOST_MS: u64 = 1000;
/// Subscriptions that are on their way at once.
const MAX_SUBSCRIPTIONS: usize = 512;

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Random for each start of a server.
    pub id: NodeId,
    /// `name`: the cluster.
    pub name: Arc<str>,
    /// `lease_ms`: for how long what is noted of a node outlives it.
    pub lease_ms: u64,
    /// `user_limits`: whether the limits of users hold for all nodes together.
    pub user_limits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// No connection.
    Gone,
    /// Redis failed; it is asked again later.
    Waiting,
    /// It answers, but does not know yet what this node has.
    Joining,
    Up,
    Stopped,
}

/// The beat: this node is there.
#[derive(Default)]
struct Beat {
    due: Moment,
    is_asked: bool,
    is_answered: bool,
}

/// What this node hears.
#[derive(Default)]
struct Subscriptions {
    all: bool,
    own: bool,
    /// The others know that this node is there.
    is_announced: bool,
    asked: BTreeSet<OpId>,
    /// Of the topics, so many were there when Redis came back and are not asked for, and this was the last of them.
    first: usize,
    last_of_first: OpId,
}

/// One node.
pub struct Node {
    settings: Settings,
    interest: Arc<Interest>,
    link: Link,
    out: Outbox,
    users: Users,
    log: Log,
    members: Members,
    clock: StoreClock,
    windows: Windows,
    questions: Questions,
    probe: Probe,
    beat: Beat,
    subscriptions: Subscriptions,
    random: Random,
    /// When it joins again.
    joins: Backoff,
    /// When subscriptions are tried again.
    retries: Backoff,
    /// When the log is: a ban that Redis has no place for keeps no room from being heard.
    log_retries: Backoff,
    is_alone: bool,
    /// Nodes of another database are on the same channels: whom Redis counts as receivers need not be of this cluster.
    is_among_others: bool,
    /// Nor while somebody else gets what is for this node alone, as a tool that listens to a pattern of channels.
    is_overheard: bool,
    last_answer: Moment,
    malformed: u64,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node").field("id", &self.settings.id).field("link", &self.link).finish_non_exhaustive()
    }
}

impl Node {
    /// A node that is not connected yet.
    pub fn new(settings: Settings, buckets: Arc<dyn Buckets>, interest: Arc<Interest>, seed: u64, now: Moment) -> Self {
        let mut random = Random::new(seed);
        Self {
            out: Outbox::new(settings.id),
            users: Users::new(settings.lease_ms, buckets, random.next()),
            joins: Backoff::new(random.next()),
            retries: Backoff::new(random.next()),
            log_retries: Backoff::new(random.next()),
            settings,
            interest,
            link: Link::Gone,
            log: Log::new(now),
            members: Members::default(),
            clock: StoreClock::default(),
            windows: Windows::default(),
            questions: Questions::default(),
            probe: Probe::default(),
            beat: Beat::default(),
            subscriptions: Subscriptions::default(),
            random,
            is_alone: false,
            is_among_others: false,
            is_overheard: false,
            last_answer: now,
            malformed: 0,
        }
    }

    // The connection.

    /// There is a connection to Redis: [`poll`](Self::poll) says what is asked of it first. Nothing is subscribed on it yet.
    pub fn connected(&mut self, now: Moment) {
        if matches!(self.link, Link::Gone | Link::Waiting) {
            self.join(now);
        }
    }

    /// The connection is gone, and with it all that was not answered: the driver reports no reply of it any more.
    pub fn disconnected(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if !matches!(self.link, Link::Stopped) {
            self.cut_off(now, effects);
            self.link = Link::Gone;
        }
    }

    fn join(&mut self, now: Moment) {
        self.link = Link::Joining;
        // Another server may answer now.
        self.clock.forget();
        self.beat = Beat::default();
        self.send_beat(now);
        self.hear_the_base(now);
    }

    fn hear_the_base(&mut self, now: Moment) {
        self.subscriptions = Subscriptions::default();
        self.interest.ask_for_all();
        self.is_alone = false;
        for topic in [Topic::Node(self.settings.id), Topic::All] {
            self.out.ask(Op::Subscribe { topic: topic.clone() }, Waiting::Base(topic), now);
        }
    }

    /// Nobody knows what Redis has carried out of what it was asked.
    fn cut_off(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let was_up = self.link == Link::Up;
        self.link = Link::Waiting;
        self.joins.failed(now);
        let mut entering = Vec::<Entering>::new();
        for waiting in self.out.lose_all(now) {
            match waiting {
                Waiting::Enter(lost) => entering.push(lost),
                Waiting::Publish { .. } => self.out.dropped += 1,
                Waiting::Exit(user) => self.users.exit_lost(&user),
                _ => {}
            }
        }
        self.users.cut_off(entering.into_iter(), now, effects);
        self.log.cut_off();
        self.questions.cut_off(self.others(), effects);
        self.interest.ask_for_all();
        self.is_alone = false;
        self.beat.is_asked = false;
        self.subscriptions = Subscriptions::default();
        if was_up {
            effects.push(Effect::Reachable(false));
        }
    }

    // What the server wants.

    /// What an application or a shard wants.
    pub fn request(&mut self, request: Request, now: Moment, effects: &mut Vec<Effect>) {
        let is_up = self.link == Link::Up;
        match request {
            Request::Enter { ticket, .. } if !self.settings.user_limits || self.link == Link::Stopped => {
                effects.push(Effect::Entered { ticket, outcome: Ok(()) });
            }
            Request::Enter { ticket, user, most } if is_up => {
                let entering = Entering { ticket, user, most, is_second: false };
                let (users, mut turn) = self.turn(now, effects);
                users.enter(entering, &mut turn);
            }
            Request::Enter { ticket, user, .. } => {
                self.users.stay(&user, self.link == Link::Joining);
                effects.push(Effect::Entered { ticket, outcome: Ok(()) });
            }
            Request::Stay { user } => {
                let is_joined = matches!(self.link, Link::Joining | Link::Up);
                self.users.stay(&user, is_joined);
            }
            Request::Exit { user } => {
                let is_joined = matches!(self.link, Link::Joining | Link::Up);
                let (users, mut turn) = self.turn(now, effects);
                users.exit(&user, is_joined, &mut turn);
            }
            Request::Publish(message) => self.publish(message, now),
            Request::Disconnect { user } => self.log.disconnect(user),
            Request::Ban { subject, for_ms, reason } => self.log.ban(subject, for_ms, &reason, now),
            Request::Unban { subject } => self.log.unban(subject),
            Request::Count { ticket, topic, until } => self.count(ticket, topic, until, now, effects),
            Request::Answer { to, question, connections } if is_up => self.answer(to, question, &connections, now),
            Request::Answer { .. } => {}
        }
    }

    fn publish(&mut self, mut message: Message, now: Moment) {
        message.to.retain(|topic| !matches!(topic, Topic::Node(_)));
        if message.to.is_empty() {
            return;
        }
        if self.link == Link::Up {
            self.out.publish(message, now);
            // At once where the pace allows it: what is asked or revoked next does not overtake it.
            self.out.send_messages(|topic| self.interest.stamp(topic), false, now);
        } else {
            self.out.dropped += 1;
        }
    }

    fn count(&mut self, ticket: u64, topic: Topic, until: Moment, now: Moment, effects: &mut Vec<Effect>) {
        let is_asked = self.link == Link::Up && !self.is_alone && !matches!(topic, Topic::Node(_));
        let question = if is_asked { self.questions.ask(ticket, topic.clone(), until) } else { None };
        let Some(question) = question else {
            let missing = if self.is_alone { 0 } else { self.others() };
            effects.push(Effect::Counted { ticket, connections: Vec::new(), missing });
            return;
        };
        // Redis counts this node if it hears the topic when the question is passed on. What it hears when the answer comes is no
        // measure: its own members may have left meanwhile.
        let is_heard_here = topic == Topic::All || self.interest.is_asked_for(&topic);
        let what = What::Asked { question, topic: topic.clone() };
        let number = self.out.say(topic, &what, Waiting::Asked { question, is_to_all: false }, now);
        self.questions.asked(question, number, is_heard_here);
    }

    fn answer(&mut self, to: NodeId, question: u64, connections: &[u64], now: Moment) {
        let parts = connections.chunks(MAX_ANSWER).map(<[u64]>::to_vec);
        let mut parts: Vec<_> = parts.collect();
        let last = parts.pop().unwrap_or_default();
        let parts = parts.into_iter().map(|part| (part, false)).chain([(last, true)]);
        for (connections, is_last) in parts {
            let what = What::Answer { question, is_last, connections };
            self.out.say(Topic::Node(to), &what, Waiting::Nothing, now);
        }
    }

    // What Redis answers.

    /// What Redis answers to an op of [`poll`](Self::poll).
    pub fn reply(&mut self, id: OpId, reply: Reply, now: Moment, effects: &mut Vec<Effect>) {
        let Some((asked, waiting)) = self.out.answered(id, now) else { return };
        let has_failed = matches!(reply, Reply::Failed(_));
        if !has_failed {
            self.last_answer = now;
        }
        if let Some(time) = time_of(&reply) {
            self.clock.note(asked, now, time);
        }
        match waiting {
            Waiting::Beat { stamp } => self.beaten(id, stamp, reply, now, effects),
            Waiting::Base(_) if reply != Reply::Subscribed => self.cut_off(now, effects),
            Waiting::Base(Topic::All) => self.subscriptions.all = true,
            Waiting::Base(_) => self.subscriptions.own = true,
            Waiting::Subscribe(topic) => self.subscribed(id, topic, &reply, now),
            Waiting::Joined { topic, stamp } => self.announced(&topic, stamp, &reply, now),
            Waiting::Publish { topic, stamp, .. } => match reply {
                Reply::Published(receivers) => self.interest.received(&topic, stamp, receivers),
                _ => self.out.dropped += 1,
            },
            Waiting::Asked { question, is_to_all } => self.asked(question, is_to_all, &reply, now, effects),
            Waiting::Probe if has_failed => self.probe.failed(),
            Waiting::Probe => self.is_overheard = matches!(reply, Reply::Published(Some(2..))),
            Waiting::Enter(entering) => {
                let (users, mut turn) = self.turn(now, effects);
                users.entered(id, entering, reply, &mut turn);
            }
            Waiting::Exit(user) if has_failed => self.users.exit_failed(&user, now),
            Waiting::Draw { user, drawing, reports } => {
                let (users, mut turn) = self.turn(now, effects);
                users.drawn(id, &user, &drawing, reports, reply, &mut turn);
            }
            Waiting::Touch => {
                if let Reply::Touched(missing) = reply {
                    self.users.missing(&missing);
                }
            }
            Waiting::Find => {
                let (users, mut turn) = self.turn(now, effects);
                users.found(id, reply, &mut turn);
            }
            Waiting::Revoke(number) => {
                if has_failed {
                    self.log.refused(number);
                } else {
                    self.log.sent(number, true);
                }
                self.retry(has_failed, now);
            }
            Waiting::Bans => {
                let (log, mut context) = self.context(now, effects);
                let has_failed = log.loaded(reply, &mut context).is_err();
                self.retry(has_failed, now);
            }
            Waiting::Log => {
                let (log, mut context) = self.context(now, effects);
                let has_failed = log.entries(reply, &mut context).is_err();
                self.retry(has_failed, now);
            }
            Waiting::Exit(_) | Waiting::Nothing => {}
        }
    }

    fn beaten(&mut self, id: OpId, stamp: u64, reply: Reply, now: Moment, effects: &mut Vec<Effect>) {
        self.beat.is_asked = false;
        let Reply::Beat { mark, version, was_member, members, log, .. } = reply else {
            self.cut_off(now, effects);
            return;
        };
        self.beat.is_answered = true;
        self.beat.due = now.after_millis(self.settings.lease_ms / 4);
        let is_another = self.members.mark.replace(mark).is_some_and(|before| before != mark);
        if is_another && members.is_none() {
            // A version of the other database, which is of the same number by chance.
            self.members.version = 0;
            self.beat.due = now;
        }
        let gone = self.members.update(id, version, members);
        if is_another {
            self.log.another_database(self.members.is_first(self.settings.id), now);
        }
        self.log.head(log, &self.clock);
        if self.link == Link::Up && (is_another || !was_member) {
            self.subscriptions.is_announced = false;
            self.users.restore_all();
        }
        let (users, mut turn) = self.turn(now, effects);
        users.listed(&gone, &mut turn);
        self.is_alone = self.members.is_alone(self.settings.id, stamp);
        self.interest.set_alone(self.is_alone);
        if stamp != self.members.stamp {
            self.beat.due = now;
        }
    }

    fn subscribed(&mut self, id: OpId, topic: Topic, reply: &Reply, now: Moment) {
        self.subscriptions.asked.remove(&id);
        if *reply != Reply::Subscribed {
            self.interest.ask_again(&topic);
            self.retries.failed(now);
            return;
        }
        self.retries.succeeded();
        if self.interest.subscribed(&topic) {
            let stamp = self.interest.stamp(&topic);
            self.out.say(topic.clone(), &What::Joined, Waiting::Joined { topic, stamp }, now);
        }
    }

    fn announced(&mut self, topic: &Topic, stamp: u64, reply: &Reply, now: Moment) {
        match reply {
            Reply::Published(receivers) => self.interest.received(topic, stamp, *receivers),
            _ => {
                // Others do not know: it is said again.
                self.retries.failed(now);
                self.interest.ask_again(topic);
                self.subscriptions.is_announced &= *topic != Topic::All;
            }
        }
    }

    fn asked(&mut self, question: u64, is_to_all: bool, reply: &Reply, now: Moment, effects: &mut Vec<Effect>) {
        let Some((topic, number, is_heard_here)) = self.questions.topic(question) else { return };
        let topic = topic.clone();
        match reply {
            Reply::Published(Some(receivers)) if !self.is_among_others && !self.is_overheard => {
                let others = receivers.saturating_sub(u32::from(is_to_all || is_heard_here));
                self.questions.expect(question, others, effects);
            }
            // Redis cannot tell which nodes hear it: all answer then.
            Reply::Published(_) if !is_to_all && topic != Topic::All => {
                let what = What::Asked { question, topic };
                self.out.say_again(Topic::All, number, &what, Waiting::Asked { question, is_to_all: true }, now);
            }
            _ => self.questions.expect(question, self.others(), effects),
        }
    }

    fn retry(&mut self, has_failed: bool, now: Moment) {
        if has_failed {
            self.log_retries.failed(now);
        } else {
            self.log_retries.succeeded();
        }
    }

    // What nodes say.

    /// A message on a channel that this node subscribed to.
    pub fn heard(&mut self, topic: &Topic, bytes: &[u8], now: Moment, effects: &mut Vec<Effect>) {
        match wire::parse(topic, bytes) {
            _ if self.link == Link::Stopped => {}
            None => self.malformed += 1,
            Some(Heard::Outside(message)) => effects.push(Effect::Deliver(message)),
            Some(Heard::Node(said)) if said.from == self.settings.id => {
                if said.what == What::Probe {
                    self.probe.heard(said.number, now);
                }
            }
            Some(Heard::Node(said)) => self.said(topic, said, now, effects),
        }
    }

    /// A message on such a channel that is for nodes of the same name in another database of Redis.
    pub fn overheard(&mut self, now: Moment) {
        let is_joined = matches!(self.link, Link::Joining | Link::Up) && self.subscriptions.is_announced;
        if !core::mem::replace(&mut self.is_among_others, true) && is_joined {
            // They hear that there are others, too. Whoever has not said yet that it is there will.
            self.out.say(Topic::All, &What::Joined, Waiting::Nothing, now);
        }
    }

    fn said(&mut self, topic: &Topic, said: Said, now: Moment, effects: &mut Vec<Effect>) {
        let Said { from, number, what } = said;
        match what {
            What::Message(message) => {
                // By one channel it comes once. Over the shards of a Cluster it may come long after others of its node.
                if message.to.len() == 1 || self.windows.is_new(from, number, now) {
                    effects.push(Effect::Deliver(message));
                }
            }
            What::Asked { question, topic } => {
                if self.windows.is_new(from, number, now) {
                    effects.push(Effect::Asked { from, question, topic });
                }
            }
            What::Joined if *topic == Topic::All => {
                self.members.stamp += 1;
                self.is_alone = false;
                self.interest.set_alone(false);
                self.beat.due = now;
            }
            What::Joined => self.interest.joined(topic),
            What::Share(user) => {
                if matches!(self.link, Link::Joining | Link::Up) {
                    let (users, mut turn) = self.turn(now, effects);
                    users.share(&user, &mut turn);
                }
            }
            What::Look => self.log.look(),
            What::Answer { question, is_last, connections } => {
                self.questions.answered(from, question, is_last, &connections, effects);
            }
            What::Probe => {}
        }
    }

    // Time.

    /// What is due, and the ops that are to be carried out in this order. Call it after each of the others, after
    /// [`Interest::up`] and [`Interest::down`], and at [`next`](Self::next).
    pub fn poll(&mut self, now: Moment, ops: &mut Vec<(OpId, Op)>, effects: &mut Vec<Effect>) {
        if self.out.overdue(MOST_MS) <= now {
            self.cut_off(now, effects);
        }
        if self.link == Link::Waiting && now >= self.joins.at() {
            self.join(now);
        }
        if matches!(self.link, Link::Joining | Link::Up) {
            self.poll_link(now, effects);
        }
        if self.link == Link::Up {
            self.out.send_messages(|topic| self.interest.stamp(topic), false, now);
        }
        self.questions.poll(self.others(), now, effects);
        self.out.drain(ops);
    }

    fn poll_link(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.users.awaits_list(&self.members) {
            self.beat.due = now;
        }
        if self.beat.due <= now {
            self.send_beat(now);
        }
        self.announce(now);
        if !self.subscriptions.is_announced {
            return;
        }
        self.subscribe(now);
        let is_up = self.link == Link::Up;
        let (users, mut turn) = self.turn(now, effects);
        users.poll(is_up, &mut turn);
        self.poll_log(now);
        if !is_up && self.has_joined() {
            self.link = Link::Up;
            self.joins.succeeded();
            self.probe.start(now);
            effects.push(Effect::Reachable(true));
        }
        if self.link == Link::Up && self.probe.is_due(now) {
            let number = self.out.say(Topic::Node(self.settings.id), &What::Probe, Waiting::Probe, now);
            self.probe.sent(number, now);
        }
    }

    fn send_beat(&mut self, now: Moment) {
        if self.beat.is_asked {
            return;
        }
        self.beat.is_asked = true;
        let op = Op::Beat {
            node: self.settings.id,
            // A node that is gone is noticed by the next beat of another: both together are within the lease.
            lease_ms: self.settings.lease_ms * 2 / 3,
            version: self.members.version,
            // A new one each time: an empty database is told from the one before.
            mark: self.random.next().max(1),
        };
        self.out.ask(op, Waiting::Beat { stamp: self.members.stamp }, now);
    }

    /// Tells all nodes that this one is there, once it hears them.
    fn announce(&mut self, now: Moment) {
        let Subscriptions { all, own, is_announced, .. } = self.subscriptions;
        if is_announced || !all || !own || !self.beat.is_answered || now < self.retries.at() {
            return;
        }
        let waiting = Waiting::Joined { topic: Topic::All, stamp: 0 };
        self.out.say(Topic::All, &What::Joined, waiting, now);
        self.subscriptions.is_announced = true;
        self.log.look();
        if self.link == Link::Joining {
            self.subscriptions.first = self.interest.changes();
            self.users.restore_all();
        }
    }

    fn subscribe(&mut self, now: Moment) {
        if now < self.retries.at() {
            return;
        }
        let room = MAX_SUBSCRIPTIONS.saturating_sub(self.subscriptions.asked.len());
        let waiting = self.interest.changes();
        // Some of them may be gone meanwhile.
        self.subscriptions.first = self.subscriptions.first.min(waiting);
        for (topic, is_heard) in self.interest.take_changes(room) {
            if is_heard {
                let id = self.out.ask(Op::Subscribe { topic: topic.clone() }, Waiting::Subscribe(topic), now);
                self.subscriptions.asked.insert(id);
            } else {
                self.out.ask(Op::Unsubscribe { topic }, Waiting::Nothing, now);
            }
        }
        if self.subscriptions.first > 0 {
            let taken = waiting.saturating_sub(self.interest.changes());
            self.subscriptions.first = self.subscriptions.first.saturating_sub(taken);
            self.subscriptions.last_of_first = self.out.last();
        }
    }

    fn has_joined(&self) -> bool {
        let Subscriptions { asked, first, last_of_first, .. } = &self.subscriptions;
        let hears = *first == 0 && asked.first().is_none_or(|id| id > last_of_first);
        hears && self.log.is_loaded() && self.users.are_restored()
    }

    fn poll_log(&mut self, now: Moment) {
        if now < self.log_retries.at() {
            return;
        }
        if self.log.send(&mut self.out, now) {
            self.out.say(Topic::All, &What::Look, Waiting::Nothing, now);
        }
        self.log.read(&mut self.out, now);
    }

    /// When [`poll`](Self::poll) is due at the latest.
    pub fn next(&self) -> Moment {
        let next = self.out.overdue(MOST_MS).min(self.questions.next());
        match self.link {
            Link::Gone | Link::Stopped => next,
            Link::Waiting => next.min(self.joins.at()),
            Link::Joining | Link::Up => {
                let beat = if self.beat.is_asked { Moment::NEVER } else { self.beat.due };
                let is_up = self.link == Link::Up;
                let probe = if is_up { self.probe.next(self.subscriptions.is_announced) } else { Moment::NEVER };
                next.min(beat).min(probe).min(self.next_of_parts())
            }
        }
    }

    fn next_of_parts(&self) -> Moment {
        let Subscriptions { all, own, is_announced, asked, .. } = &self.subscriptions;
        if !is_announced {
            let is_ready = *all && *own && self.beat.is_answered;
            return if is_ready { self.retries.at() } else { Moment::NEVER };
        }
        let has_changes = asked.len() < MAX_SUBSCRIPTIONS && self.interest.changes() > 0;
        let subscribe = if has_changes { self.retries.at() } else { Moment::NEVER };
        let has_news = self.log.has_changes() || self.log.wants();
        let log = if has_news { self.log_retries.at() } else { Moment::NEVER };
        subscribe.min(log).min(self.users.next(self.link == Link::Up))
    }

    // What is known.

    /// Whether the cluster can be reached: what [`Effect::Reachable`] said last.
    pub fn is_reachable(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether messages do not arrive any more although Redis answers; ask after each [`poll`](Self::poll). True once: the driver
    /// makes its subscriber anew before it carries out what the next [`poll`](Self::poll) says, which subscribes to everything
    /// again.
    pub fn deaf(&mut self, now: Moment) -> bool {
        if self.link != Link::Up || !self.probe.is_lost(now) {
            return false;
        }
        self.hear_the_base(now);
        // What others said meanwhile was not heard: that somebody shares a user, and that there is a revocation.
        self.beat.due = now;
        self.users.restore_all();
        self.log.look();
        self.probe.start(now.after_millis(MOST_MS));
        true
    }

    /// The node goes: what is to be carried out before the connection is closed. No answer matters.
    pub fn stop(&mut self, now: Moment) -> Vec<Op> {
        let is_joined = matches!(self.link, Link::Joining | Link::Up);
        if self.link == Link::Up {
            self.out.send_messages(|topic| self.interest.stamp(topic), true, now);
        }
        self.link = Link::Stopped;
        self.interest.set_alone(false);
        if is_joined && self.log.send_all(&mut self.out, now) {
            self.out.say(Topic::All, &What::Look, Waiting::Nothing, now);
        }
        let mut ops = Vec::new();
        self.out.drain(&mut ops);
        let mut ops: Vec<_> = ops.into_iter().map(|(_, op)| op).collect();
        ops.extend(self.users.stop(self.settings.id, now));
        ops.push(Op::Leave { node: self.settings.id });
        ops
    }

    /// How old the oldest op is that Redis has not answered, or how long the last message of this node to itself took, whichever is
    /// more; while Redis is gone: for how long.
    pub fn lag(&self, now: Moment) -> Duration {
        if self.link != Link::Up {
            return now.since(self.last_answer);
        }
        self.out.oldest().map_or(Duration::ZERO, |asked| now.since(asked)).max(self.probe.took())
    }

    /// Messages for other nodes that were dropped, revocations that were, and what was heard and is no message.
    pub fn dropped(&self) -> u64 {
        self.out.dropped + self.log.lost + self.malformed
    }

    fn others(&self) -> u32 {
        self.members.others(self.settings.id) as u32
    }

    fn turn<'a>(&'a mut self, now: Moment, effects: &'a mut Vec<Effect>) -> (&'a mut Users, Turn<'a>) {
        (&mut self.users, Turn { out: &mut self.out, members: &self.members, effects, now })
    }

    fn context<'a>(&'a mut self, now: Moment, effects: &'a mut Vec<Effect>) -> (&'a mut Log, Context<'a>) {
        (&mut self.log, Context { node: self.settings.id, clock: &self.clock, effects, now })
    }
}

/// The clock of Redis in an answer. In a Redis Cluster each server has one of its own: the one that counts has the log.
fn time_of(reply: &Reply) -> Option<StoreTime> {
    match reply {
        Reply::Beat { now, .. } | Reply::Bans { now, .. } | Reply::Log { now, .. } => Some(*now),
        _ => None,
    }
}
