//! A node: the real one, a driver of its own that is as simple as it may be, and what goes wrong with them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::interest::Interest;
use wsguard_proto::cluster::node::{Node, Settings};
use wsguard_proto::cluster::ops::{Buckets, Effect, Level, NodeId, OpId, Request, Topic};
use wsguard_proto::limits::Limits;
use wsguard_proto::time::Moment;

use super::{Event, LEASE_MS, MS, NEVER, SECOND, Time, World};

/// The real buckets, and what was said of whom.
pub(super) struct Spied {
    pub(super) limits: Arc<Limits>,
    shared: Mutex<HashSet<Arc<str>>>,
}

impl Spied {
    pub(super) fn is_shared(&self, user: &str) -> bool {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).contains(user)
    }
}

impl Buckets for Spied {
    fn share(&self, user: &str, is_shared: bool, now: Moment) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if is_shared {
            shared.insert(user.into());
        } else {
            shared.remove(user);
        }
        self.limits.share(user, is_shared, now);
    }

    fn levels(&self, user: &str, now: Moment) -> Vec<Level> {
        self.limits.levels(user, now)
    }

    fn full(&self, user: &str) -> Vec<Level> {
        self.limits.full(user)
    }

    fn take_dirty(&self) -> Vec<Arc<str>> {
        self.limits.take_dirty()
    }

    fn take_unreported(&self, user: &str, now: Moment) -> Vec<Level> {
        self.limits.take_unreported(user, now)
    }

    fn take_least(&self, user: &str, now: Moment) -> Vec<Level> {
        self.limits.take_least(user, now)
    }

    fn settle(&self, user: &str, levels: &[Level], acknowledges: bool, now: Moment) {
        self.limits.settle(user, levels, acknowledges, now);
    }

    fn lose(&self, user: &str) {
        self.limits.lose(user);
    }

    fn raise(&self, user: &str, levels: &[Level], now: Moment) {
        self.limits.raise(user, levels, now);
    }
}

/// The members of a room on a node.
#[derive(Default)]
pub(super) struct Room {
    pub(super) members: Vec<u64>,
    pub(super) since: Time,
}

pub(super) struct Machine {
    /// Another number for each start.
    pub(super) life: u64,
    pub(super) id: NodeId,
    pub(super) is_alive: bool,
    pub(super) node: Node,
    pub(super) buckets: Arc<Spied>,
    pub(super) interest: Arc<Interest>,
    /// The connection to Redis.
    pub(super) link: Option<u64>,
    attempts: u32,
    asked: VecDeque<(Time, OpId)>,
    last_sent: Time,
    last_received: Time,
    /// Nothing that it sent comes to Redis before this, and nothing to it.
    pub(super) last_taken: Time,
    last_come: Time,
    poll_at: Time,
    /// Its own clock: it began at some time, and is fast or slow.
    born: Time,
    drift: f64,
    pub(super) cut_until: Time,
    pub(super) paused_until: Time,
    pub(super) deaf_until: Time,
    pub(super) slow_by: Time,
    /// Since then nothing was wrong with it.
    pub(super) healthy_since: Time,
    pub(super) tickets: HashMap<u64, (usize, u64)>,
    pub(super) rooms: HashMap<u32, Room>,
    /// The last message heard, by who sent it and in which room.
    pub(super) heard: HashMap<(u64, u32), u64>,
    pub(super) bans: HashMap<Subject, Time>,
    pub(super) counted: HashMap<u64, Option<(usize, u32)>>,
}

impl Machine {
    /// Not before what was sent to it earlier.
    pub(super) fn in_order(&mut self, at: Time) -> Time {
        self.last_received = self.last_received.max(at);
        self.last_received
    }

    pub(super) fn local(&self, at: Time) -> Moment {
        Moment::from_nanos(SECOND + (at.saturating_sub(self.born) as f64 * self.drift) as u64)
    }

    pub(super) fn world(&self, moment: Moment) -> Time {
        if moment == Moment::NEVER {
            return NEVER;
        }
        self.born + (moment.as_nanos().saturating_sub(SECOND) as f64 / self.drift) as u64 + 2
    }

    pub(super) fn is_well(&self) -> bool {
        self.is_alive && self.healthy_since != NEVER && self.node.is_reachable()
    }
}

impl World {
    pub(super) fn machine(&mut self) -> Machine {
        let (life, seed) = (self.id(), self.random.number());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&life.to_be_bytes());
        id[8..].copy_from_slice(&seed.to_be_bytes());
        let buckets = Arc::new(Spied { limits: Arc::new(Limits::default()), shared: Mutex::default() });
        let interest = Arc::new(Interest::default());
        let settings = Settings { id: NodeId(id), name: "simulated".into(), lease_ms: LEASE_MS, user_limits: true };
        let now = Moment::from_nanos(SECOND);
        Machine {
            life,
            id: NodeId(id),
            is_alive: true,
            node: Node::new(settings, Arc::clone(&buckets) as Arc<dyn Buckets>, Arc::clone(&interest), seed, now),
            buckets,
            interest,
            link: None,
            attempts: 0,
            asked: VecDeque::new(),
            last_sent: 0,
            last_received: 0,
            last_taken: 0,
            last_come: 0,
            poll_at: NEVER,
            born: self.now,
            // 200 parts in a million, as cheap clocks are.
            drift: 1.0 + (self.random.unit() - 0.5) * 4e-4,
            cut_until: 0,
            paused_until: 0,
            deaf_until: 0,
            slow_by: 0,
            healthy_since: self.now,
            tickets: HashMap::new(),
            rooms: HashMap::new(),
            heard: HashMap::new(),
            bans: HashMap::new(),
            counted: HashMap::new(),
        }
    }

    pub(super) fn happen_to_machine(&mut self, node: usize, event: Event) {
        let machine = &mut self.machines[node];
        if !machine.is_alive {
            return;
        }
        if machine.paused_until > self.now {
            let until = machine.paused_until;
            self.at(until, node, event);
            return;
        }
        let link = match &event {
            Event::Answered { link, .. } | Event::Heard { link, .. } => Some(*link),
            _ => None,
        };
        if link.is_some() {
            if machine.link != link {
                return;
            }
            if machine.cut_until > self.now {
                machine.last_come = machine.last_come.max(machine.cut_until + MS);
            }
            if machine.last_come > self.now {
                let at = machine.last_come;
                self.at(at, node, event);
                return;
            }
        }
        let now = machine.local(self.now);
        let mut effects = Vec::new();
        match event {
            Event::Poll { .. } => machine.poll_at = NEVER,
            Event::Connect { .. } => return self.connect(node),
            Event::Answered { id, reply, .. } => {
                if machine.asked.pop_front().is_none_or(|(_, first)| first != id) {
                    self.verdict.found("an answer out of order: the simulation is wrong");
                }
                machine.node.reply(id, *reply, now, &mut effects);
            }
            Event::Heard { topic, bytes, .. } => {
                if machine.deaf_until > self.now {
                    return;
                }
                machine.node.heard(&topic, &bytes, now, &mut effects);
            }
            _ => {}
        }
        self.carry_out(node, effects);
        self.drive(node);
    }

    fn connect(&mut self, node: usize) {
        let is_there = self.database.down_until.max(self.database.paused_until) <= self.now;
        let link = self.id();
        let machine = &mut self.machines[node];
        if machine.link.is_some() {
            return;
        }
        if machine.cut_until > self.now || !is_there {
            machine.attempts += 1;
            return self.connect_later(node);
        }
        machine.attempts = 0;
        machine.link = Some(link);
        (machine.last_taken, machine.last_come) = (0, 0);
        let now = machine.local(self.now);
        machine.node.connected(now);
        self.database.forget_subscriptions(node);
        self.drive(node);
    }

    fn connect_later(&mut self, node: usize) {
        let most = ((100 * MS) << self.machines[node].attempts.min(6)).min(5 * SECOND);
        let wait = most / 2 + self.random.below(most / 2);
        self.after(wait, node, Event::Connect { life: self.machines[node].life });
    }

    /// The connection to Redis ends.
    pub(super) fn disconnect(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.link.take().is_none() {
            return;
        }
        self.note(None, &|| format!("node {node}: disconnected"));
        let machine = &mut self.machines[node];
        machine.asked.clear();
        let (now, is_cut) = (machine.local(self.now), machine.cut_until > self.now);
        let mut effects = Vec::new();
        machine.node.disconnected(now, &mut effects);
        if !is_cut {
            self.database.forget_subscriptions(node);
        }
        self.carry_out(node, effects);
        self.connect_later(node);
    }

    /// Whatever is due is done.
    pub(super) fn drive(&mut self, node: usize) {
        let mut ops = Vec::new();
        for _ in 0..64 {
            let machine = &mut self.machines[node];
            if !machine.is_alive || machine.paused_until > self.now {
                return;
            }
            let now = machine.local(self.now);
            let mut effects = Vec::new();
            machine.node.poll(now, &mut ops, &mut effects);
            let is_deaf = machine.node.deaf(now);
            if ops.is_empty() && effects.is_empty() && !is_deaf {
                break;
            }
            self.send(node, &mut ops);
            if is_deaf {
                self.verdict.deaf += 1;
                self.machines[node].deaf_until = 0;
                self.database.forget_subscriptions(node);
            }
            self.carry_out(node, effects);
        }
        let machine = &self.machines[node];
        if machine.asked.front().is_some_and(|(sent, _)| *sent + SECOND + 5 * MS <= self.now) {
            self.disconnect(node);
        }
        let machine = &self.machines[node];
        let oldest = machine.asked.front().map_or(NEVER, |(sent, _)| sent + SECOND + 5 * MS);
        let at = machine.world(machine.node.next()).min(oldest).max(self.now + MS / 20);
        if at < machine.poll_at && at != NEVER {
            let life = machine.life;
            self.machines[node].poll_at = at;
            self.at(at, node, Event::Poll { life });
        }
    }

    fn send(&mut self, node: usize, ops: &mut Vec<(OpId, wsguard_proto::cluster::ops::Op)>) {
        for (id, op) in ops.drain(..) {
            let wait = self.latency(node);
            let machine = &mut self.machines[node];
            let Some(link) = machine.link else { continue };
            machine.asked.push_back((self.now, id));
            machine.last_sent = machine.last_sent.max(self.now + wait);
            let (at, life) = (machine.last_sent, machine.life);
            self.at(at, node, Event::Asked { life, link, id, op: Box::new(op) });
        }
    }

    pub(super) fn request(&mut self, node: usize, request: Request) {
        if let Request::Enter { user, .. } | Request::Exit { user } | Request::Disconnect { user } = &request {
            self.note(Some(user), &|| format!("node {node}: {request:?}"));
        }
        let machine = &mut self.machines[node];
        let now = machine.local(self.now);
        let mut effects = Vec::new();
        machine.node.request(request, now, &mut effects);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Entered { ticket, outcome } => self.entered(node, ticket, outcome),
                Effect::Deliver(message) => self.delivered(node, &message),
                Effect::Disconnect { user, before } => self.revoked(node, &user, before),
                Effect::DisconnectAll { .. } => self.verdict.all_disconnected += 1,
                Effect::Ban { subject, until, .. } => {
                    let until = self.machines[node].world(until);
                    self.machines[node].bans.insert(subject, until);
                }
                Effect::Unban { subject } => {
                    self.machines[node].bans.remove(&subject);
                }
                Effect::Asked { from, question, topic } => {
                    let connections = match &topic {
                        Topic::Room(room) => self.members(node, room),
                        _ => Vec::new(),
                    };
                    self.request(node, Request::Answer { to: from, question, connections });
                }
                Effect::Counted { ticket, connections, missing } => {
                    self.machines[node].counted.insert(ticket, Some((connections.len(), missing)));
                }
                Effect::Reachable(is_reachable) => self.reachable(node, is_reachable),
            }
        }
    }

    fn reachable(&mut self, node: usize, is_reachable: bool) {
        self.note(None, &|| format!("node {node}: reachable {is_reachable}"));
        self.verdict.outages += u64::from(!is_reachable);
        let now = self.now;
        let machine = &mut self.machines[node];
        if machine.healthy_since != NEVER {
            machine.healthy_since = if is_reachable { now } else { now.max(machine.healthy_since) };
        }
    }
}
