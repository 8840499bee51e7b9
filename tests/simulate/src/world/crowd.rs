//! Users: they come, go, move, and send, some of them as fast as they can.

use std::collections::VecDeque;
use std::sync::Arc;

use wsguard_proto::bucket::Bucket;
use wsguard_proto::cluster::ops::{Kind, Message, Request, Topic, UserFull};
use wsguard_proto::limits::{Charge, Held, Passing, QueuePlace, RateKey, Seat};
use wsguard_proto::time::Moment;

use super::checks::Account;
use super::{Event, MOST, MS, NEVER, SECOND, Time, World};

/// How a user behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// A message now and then.
    Quiet,
    /// As much as the rate allows.
    Busy,
    /// As much as there is.
    Greedy,
}

pub(super) struct Waiting {
    place: QueuePlace,
    at: Time,
    came: Time,
    is_for_room: bool,
}

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) node: usize,
    pub(super) life: u64,
    seat: Seat,
    /// `None`: it has not entered yet.
    key: Option<Arc<RateKey>>,
    pub(super) granted: Time,
    pub(super) entered: Time,
    room: Option<u32>,
    waiting: VecDeque<Waiting>,
}

impl Connection {
    pub(super) fn is_in(&self) -> bool {
        self.key.is_some()
    }
}

pub(super) struct User {
    pub(super) name: Arc<str>,
    manner: Manner,
    /// Connections that it wants.
    wants: u32,
    pub(super) connections: Vec<Connection>,
    pub(super) account: Account,
    /// Calls to disconnect it that Redis has not noted yet: by which node, when.
    pub(super) revoking: Vec<(usize, Time)>,
    /// What was granted before this must be closed.
    pub(super) revoked_at: Time,
    /// When Redis noted it.
    pub(super) noted_at: Time,
    /// When a node asked for a place for it, or gave one back.
    pub(super) visited_at: Time,
}

impl World {
    pub(super) fn add_user(&mut self, number: usize) {
        let manner = match self.random.below(100) {
            0 | 1 => Manner::Greedy,
            2..10 => Manner::Busy,
            _ => Manner::Quiet,
        };
        let wants =
            if self.random.chance(0.1) || manner == Manner::Greedy { 1 + self.random.below(3) as u32 } else { 1 };
        let name: Arc<str> = format!("user-{number}").into();
        self.by_name.insert(Arc::clone(&name), number);
        self.users.push(User {
            name,
            manner,
            wants,
            connections: Vec::new(),
            account: Account::default(),
            revoking: Vec::new(),
            revoked_at: 0,
            noted_at: 0,
            visited_at: 0,
        });
        let first = self.random.below(10 * SECOND);
        self.after(SECOND + first, number, Event::Act);
    }

    /// A user does something, and something again later.
    pub(super) fn act(&mut self, user: usize) {
        if self.is_quiet {
            return;
        }
        let mean = match self.users[user].manner {
            Manner::Quiet => 4000,
            Manner::Busy => 600,
            Manner::Greedy => 60,
        };
        let wait = self.random.below(2 * mean * MS);
        self.after(wait, user, Event::Act);
        let (open, wants) = (self.users[user].connections.len() as u32, self.users[user].wants);
        // A quiet user stays a minute, a busy one moves more often than it would.
        let moves = if self.users[user].manner == Manner::Greedy { 0.01 } else { 0.03 };
        if open < wants {
            self.open(user);
        } else if self.random.chance(moves) {
            let index = self.random.below(u64::from(open)) as usize;
            let node = self.users[user].connections[index].node;
            if self.machines[node].paused_until > self.now {
                return;
            }
            self.close(user, index);
            if self.random.chance(0.5) {
                self.open(user);
            }
        } else {
            let index = self.random.below(u64::from(open)) as usize;
            self.say(user, index);
        }
    }

    fn open(&mut self, user: usize) {
        let node = self.random.below(self.machines.len() as u64) as usize;
        let id = self.id();
        let machine = &mut self.machines[node];
        if !machine.is_alive || machine.paused_until > self.now {
            return;
        }
        let now = machine.local(self.now);
        let Ok(mut seat) = machine.buckets.limits.enter_server(&self.policy) else {
            return self.verdict.found("a node has no place left: the simulation is wrong");
        };
        if seat.enter_user(&self.users[user].name, &self.policy, now).is_err() {
            return;
        }
        machine.tickets.insert(id, (user, id));
        let (life, name) = (machine.life, Arc::clone(&self.users[user].name));
        let room = self.random.chance(0.5).then(|| self.random.below(1 + self.users.len() as u64 / 50) as u32);
        self.users[user].connections.push(Connection {
            id,
            node,
            life,
            seat,
            key: None,
            granted: self.now,
            entered: NEVER,
            room,
            waiting: VecDeque::new(),
        });
        self.users[user].visited_at = self.now;
        self.request(node, Request::Enter { ticket: id, user: name, most: MOST });
        self.drive(node);
    }

    pub(super) fn entered(&mut self, node: usize, ticket: u64, outcome: Result<(), UserFull>) {
        let machine = &mut self.machines[node];
        let Some((user, id)) = machine.tickets.remove(&ticket) else {
            return self.verdict.found("a ticket was answered twice, or never asked");
        };
        let Some(index) = self.users[user].connections.iter().position(|connection| connection.id == id) else {
            // Its client is gone meanwhile.
            if outcome.is_ok() {
                let name = Arc::clone(&self.users[user].name);
                self.request(node, Request::Exit { user: name });
            }
            return;
        };
        if let Err(full) = outcome {
            if full.open < MOST {
                self.verdict.found("a user was refused a place with fewer than the most connections");
            }
            self.verdict.refused += 1;
            self.users[user].connections.swap_remove(index);
            return;
        }
        let now = machine.local(self.now);
        let connection = &mut self.users[user].connections[index];
        connection.seat.opened();
        connection.key = connection.seat.rate_key(&self.rules, &Arc::default(), now);
        connection.entered = self.now;
        if let Some(number) = connection.room {
            let topic = Topic::Room(room_name(number));
            let room = machine.rooms.entry(number).or_default();
            if room.members.is_empty() {
                room.since = self.now;
            }
            room.members.push(id);
            machine.interest.up(topic);
        }
        self.holds(user, node);
    }

    /// A connection ends. On a node that is dead nobody notices.
    pub(super) fn close(&mut self, user: usize, index: usize) {
        let connection = self.users[user].connections.swap_remove(index);
        let (node, was_in) = (connection.node, connection.is_in());
        let machine = &mut self.machines[node];
        if machine.life != connection.life {
            return;
        }
        if was_in {
            if let Some(number) = connection.room {
                machine.interest.down(&Topic::Room(room_name(number)));
                if let Some(room) = machine.rooms.get_mut(&number) {
                    room.members.retain(|member| *member != connection.id);
                    if room.members.is_empty() {
                        machine.rooms.remove(&number);
                    }
                }
            }
            self.held(user, node);
            self.users[user].visited_at = self.now;
            let name = Arc::clone(&self.users[user].name);
            drop(connection);
            self.request(node, Request::Exit { user: name });
        }
        self.drive(node);
    }

    fn say(&mut self, user: usize, index: usize) {
        let connection = &mut self.users[user].connections[index];
        let machine = &self.machines[connection.node];
        let Some(key) = &connection.key else { return };
        if machine.paused_until > self.now || machine.life != connection.life {
            return;
        }
        let now = machine.local(self.now);
        let not_before = connection.waiting.iter().map(|waiting| waiting.at).max();
        let not_before = not_before.map_or(Moment::START, |at| machine.local(at));
        let charge = Charge { cost: 1.0, bytes: 100, charged: Bucket::default(), not_before, held: 0 };
        let is_for_room = self.random.chance(0.3);
        let id = connection.id;
        self.verdict.sent += 1;
        match key.admit(&self.rules, &charge, now) {
            Ok((Passing::Now, _)) => self.passes(user, index, is_for_room, self.now),
            Ok((Passing::At(at, place), _)) => {
                let at = machine.world(at);
                connection.waiting.push_back(Waiting { place, at, came: self.now, is_for_room });
                self.at(at, user, Event::Retry { connection: id });
            }
            Err(_) => self.overflow(user, index),
        }
    }

    fn overflow(&mut self, user: usize, index: usize) {
        let node = self.users[user].connections[index].node;
        match self.users[user].manner {
            Manner::Greedy => self.verdict.overflows += 1,
            Manner::Busy => self.verdict.busy_overflows += 1,
            Manner::Quiet => {
                self.verdict.quiet_overflows += 1;
                if self.has_been_well(node, 5 * SECOND) {
                    self.verdict.quiet_overflows_while_well += 1;
                }
            }
        }
        self.close(user, index);
    }

    pub(super) fn retry(&mut self, user: usize, id: u64) {
        loop {
            let Some(index) = self.users[user].connections.iter().position(|connection| connection.id == id) else {
                return;
            };
            let connection = &mut self.users[user].connections[index];
            let machine = &self.machines[connection.node];
            if machine.life != connection.life {
                return;
            }
            if machine.paused_until > self.now {
                let until = machine.paused_until;
                return self.at(until, user, Event::Retry { connection: id });
            }
            let Some(first) = connection.waiting.front_mut() else { return };
            if first.at > self.now {
                let at = first.at;
                return self.at(at, user, Event::Retry { connection: id });
            }
            match first.place.pass(Some(&self.rules), machine.local(self.now)) {
                Ok(()) => {
                    let Some(first) = connection.waiting.pop_front() else { return };
                    let (is_for_room, came) = (first.is_for_room, first.came);
                    drop(first);
                    self.passes(user, index, is_for_room, came);
                }
                Err(Held::Until(at)) => first.at = machine.world(at).max(self.now + 1),
                Err(Held::Over(_)) => return self.overflow(user, index),
            }
        }
    }

    fn passes(&mut self, user: usize, index: usize, is_for_room: bool, came: Time) {
        let connection = &self.users[user].connections[index];
        let (node, room, manner) = (connection.node, connection.room.filter(|_| is_for_room), self.users[user].manner);
        if manner == Manner::Quiet && self.has_been_well(node, 5 * SECOND) {
            self.verdict.quiet_wait = self.verdict.quiet_wait.max(self.now - came);
        }
        self.meter.pass(room.is_some());
        self.pour(user, node);
        let Some(number) = room else { return };
        let topic = Topic::Room(room_name(number));
        let id = self.published_to(number, node);
        // The members here have it at once.
        if self.machines[node].interest.reaches_others(&topic) {
            self.verdict.published += 1;
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend(self.machines[node].life.to_be_bytes());
            payload.extend(number.to_be_bytes());
            payload.resize(120, b'x');
            let message = Message { to: vec![topic], kind: Kind::Binary, plain: false, payload: payload.into() };
            self.request(node, Request::Publish(message));
            self.drive(node);
        }
    }

    pub(super) fn members(&self, node: usize, room: &str) -> Vec<u64> {
        let number = room.strip_prefix("room-").and_then(|number| number.parse().ok());
        let room = number.and_then(|number: u32| self.machines[node].rooms.get(&number));
        room.map_or_else(Vec::new, |room| room.members.clone())
    }

    /// `disconnect_user`, called on a node.
    pub(super) fn revoke(&mut self, user: usize, node: usize) {
        let name = Arc::clone(&self.users[user].name);
        while let Some(index) = self.users[user].connections.iter().position(|connection| connection.node == node) {
            self.close(user, index);
        }
        self.users[user].revoking.push((node, self.now));
        self.verdict.revocations += 1;
        self.request(node, Request::Disconnect { user: name });
        self.drive(node);
    }

    /// A node closes what was granted before.
    pub(super) fn revoked(&mut self, node: usize, name: &str, before: Moment) {
        let Some(&user) = self.by_name.get(name) else { return };
        let machine = &self.machines[node];
        let before = machine.world(before);
        // The clock of Redis is known as well as its answers are quick.
        if before > self.users[user].noted_at + SECOND {
            self.verdict.found("a revocation closes what was granted long after it");
        }
        let life = machine.life;
        let is_meant =
            |connection: &Connection| connection.node == node && connection.life == life && connection.granted < before;
        while let Some(index) = self.users[user].connections.iter().position(is_meant) {
            self.verdict.revoked += 1;
            self.close(user, index);
        }
    }
}

pub(super) fn room_name(number: u32) -> Arc<str> {
    format!("room-{number}").into()
}
