//! What must hold, and whether it does.

use std::collections::{BTreeMap, HashMap};

use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::{Message, NodeId, Request, Topic};

use super::crowd::room_name;
use super::{BURST, Event, LEASE, LEASE_MS, MS, NEVER, PER_SECOND, SECOND, Time, World};

/// What of a user passed, as one bucket that knows everything.
#[derive(Default)]
pub(super) struct Account {
    level: f64,
    at: Time,
    /// The most nodes that held the user at once, since the bucket was no fuller than the burst and one node held it.
    most: usize,
    /// Nodes that do, or did until then.
    pub(super) holders: Vec<(usize, Time)>,
    /// Something was wrong with a node that held it: what passed until then is not counted.
    ill_until: Time,
}

impl Account {
    pub(super) fn ill(&mut self, until: Time) {
        self.ill_until = self.ill_until.max(until);
    }
}

/// A message to a room: who must have it.
pub(super) struct Publication {
    room: u32,
    at: Time,
    from: usize,
    needs: Vec<(usize, u64)>,
    has: Vec<u64>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong, and how often.
    pub wrong: BTreeMap<String, u64>,
    /// Things that happened.
    pub events: u64,
    /// Messages that users sent.
    pub sent: u64,
    /// Those that passed and were checked against the bound.
    pub bounded: u64,
    /// How far over the burst somebody came with several nodes, in units.
    pub most_over: f64,
    /// Messages published to other nodes.
    pub published: u64,
    /// Deliveries to nodes that were looked for.
    pub looked_for: u64,
    /// Revocations, and connections that they closed on other nodes.
    pub revocations: u64,
    /// Connections that revocations closed on other nodes.
    pub revoked: u64,
    /// Nodes that lost the cluster for a time.
    pub outages: u64,
    /// Subscriptions made anew.
    pub deaf: u64,
    /// Everybody was disconnected for revocations that may have been missed.
    pub all_disconnected: u64,
    /// Enters refused.
    pub refused: u64,
    /// Connections closed for sending more than they may.
    pub overflows: u64,
    /// The same of users that kept to their rate.
    pub busy_overflows: u64,
    /// The same of users far below their rate.
    pub quiet_overflows: u64,
    /// And of those, on nodes that nothing was wrong with.
    pub quiet_overflows_while_well: u64,
    /// The longest that a message of a quiet user waited on a node that nothing was wrong with.
    pub quiet_wait: Time,
    /// Users on several nodes whose buckets were looked at.
    pub shared_checked: u64,
    /// Nodes that died, and were looked for afterwards.
    pub remains_checked: u64,
}

impl Verdict {
    pub(super) fn found(&mut self, what: &str) {
        *self.wrong.entry(what.to_owned()).or_default() += 1;
    }

    /// As lines.
    pub fn tell(&self) {
        let Self { events, sent, bounded, most_over, published, looked_for, revocations, revoked, .. } = self;
        println!(
            "{events} events; {sent} messages sent, {bounded} of those that passed held against the bound, {most_over:.1} over the burst at most"
        );
        println!(
            "{published} messages published to rooms, {looked_for} deliveries looked for; {revocations} revocations closed {revoked} connections elsewhere"
        );
        let Self { outages, deaf, all_disconnected, refused, overflows, busy_overflows, quiet_overflows, .. } = self;
        println!(
            "{outages} outages of nodes, {deaf} subscriptions made anew, {all_disconnected} logs that did not reach back; {refused} enters \
             refused; closed for their rate: {overflows} greedy, {busy_overflows} busy, {quiet_overflows} quiet ({} with nothing wrong); a \
             quiet one waited {} ms at most",
            self.quiet_overflows_while_well,
            self.quiet_wait / MS
        );
        println!("{} times users on several nodes looked at, {} dead nodes", self.shared_checked, self.remains_checked);
        for (what, times) in &self.wrong {
            println!("WRONG {times} times: {what}");
        }
    }
}

impl World {
    /// Whether nothing was wrong with a node, nor with Redis, for so long.
    pub(super) fn has_been_well(&self, node: usize, time: Time) -> bool {
        let since = self.machines[node].healthy_since.max(self.database.healthy_since);
        self.machines[node].is_well() && since < self.now.saturating_sub(time)
    }

    // The bound.

    /// A node holds a user from now on.
    pub(super) fn holds(&mut self, user: usize, node: usize) {
        let now = self.now;
        let account = &mut self.users[user].account;
        account.holders.retain(|(holder, until)| *holder != node && *until > now);
        account.holders.push((node, NEVER));
        account.most = account.most.max(account.holders.len());
    }

    /// A node holds a user no more, if that was its last connection; Redis hears of it a little later.
    pub(super) fn held(&mut self, user: usize, node: usize) {
        let now = self.now;
        let user = &mut self.users[user];
        if user.connections.iter().any(|connection| connection.node == node && connection.is_in()) {
            return;
        }
        let slow = if self.machines[node].slow_by > 0 { 2 * SECOND } else { 100 * MS };
        for holder in user.account.holders.iter_mut().filter(|(holder, _)| *holder == node) {
            holder.1 = now + slow;
        }
    }

    /// A message passes.
    pub(super) fn pour(&mut self, user: usize, node: usize) {
        let now = self.now;
        let is_ill = {
            let account = &self.users[user].account;
            !self.has_been_well(node, 3 * SECOND)
                || account.holders.iter().any(|(holder, _)| !self.has_been_well(*holder, 3 * SECOND))
        };
        let account = &mut self.users[user].account;
        account.holders.retain(|(_, until)| *until > now);
        if is_ill {
            account.ill(now + 3 * SECOND);
        }
        if account.ill_until > now {
            (account.level, account.at) = (0.0, now);
            return;
        }
        let left = account.level - PER_SECOND * (1.0 + 5e-4) * (now - account.at) as f64 / SECOND as f64;
        if left.max(0.0) + 1.0 <= BURST && account.holders.len() <= 1 {
            account.most = 1;
        }
        (account.level, account.at) = (left.max(0.0) + 1.0, now);
        let over = account.level - BURST;
        self.verdict.bounded += 1;
        self.verdict.most_over = self.verdict.most_over.max(over);
        let allowed = if account.most > 1 { account.most as f64 * LEASE } else { 0.0 };
        if over > allowed + 0.01 {
            let most = account.most.min(4);
            if self.plan.is_loud {
                let account = &self.users[user].account;
                println!(
                    "{:.3} s: {} is {over:.2} over with {:?}",
                    now as f64 / 1e9,
                    self.users[user].name,
                    account.holders
                );
            }
            self.verdict.found(&format!("more passed than burst, rate and leases allow ({most} nodes)"));
        }
    }

    // Messages.

    /// Who must have a message that is sent now.
    pub(super) fn published_to(&mut self, room: u32, from: usize) -> u64 {
        let id = self.id();
        if !self.has_been_well(from, 3 * SECOND) || !self.random.chance(0.2) {
            return id;
        }
        let others = (0..self.machines.len()).filter(|node| *node != from);
        let needs: Vec<(usize, u64)> = others
            .filter(|node| {
                let machine = &self.machines[*node];
                machine.rooms.get(&room).is_some_and(|room| room.since < self.now.saturating_sub(2 * SECOND))
                    && self.has_been_well(*node, 3 * SECOND)
            })
            .map(|node| (node, self.machines[node].life))
            .collect();
        if !needs.is_empty() {
            self.publications.insert(id, Publication { room, at: self.now, from, needs, has: Vec::new() });
            self.after(4 * SECOND, 0, Event::Look { publication: id });
        }
        id
    }

    pub(super) fn delivered(&mut self, node: usize, message: &Message) {
        let number = |from: usize| message.payload.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        let (Some(id), Some(sender)) = (number(0).map(u64::from_be_bytes), number(8).map(u64::from_be_bytes)) else {
            return self.verdict.found("a message that nobody sent");
        };
        let room = message.payload.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        let machine = &mut self.machines[node];
        let last = machine.heard.entry((sender, room)).or_default();
        if id == *last {
            self.verdict.found("a message was delivered twice");
        } else if id < *last {
            self.verdict.found("a message was delivered out of order");
        }
        *last = (*last).max(id);
        let life = machine.life;
        if let Some(publication) = self.publications.get_mut(&id) {
            publication.has.push(life);
        }
    }

    pub(super) fn look_for(&mut self, id: u64) {
        let Some(publication) = self.publications.remove(&id) else { return };
        let time = self.now - publication.at + 3 * SECOND;
        if !self.has_been_well(publication.from, time) {
            return;
        }
        for (node, life) in publication.needs {
            let machine = &self.machines[node];
            let room = machine.rooms.get(&publication.room);
            let was_there = room.is_some_and(|room| room.since < publication.at.saturating_sub(2 * SECOND));
            if machine.life != life || !was_there || !self.has_been_well(node, time) {
                continue;
            }
            self.verdict.looked_for += 1;
            if !publication.has.contains(&life) {
                if self.plan.is_loud {
                    let at = publication.at as f64 / 1e9;
                    println!("{at:.3} s: room-{} from {} did not reach {node}", publication.room, publication.from);
                }
                self.verdict.found("a message did not arrive");
            }
        }
    }

    // Revocations.

    /// Redis has a revocation in its log.
    pub(super) fn revocation_is_noted(&mut self, node: usize, name: &str) {
        let Some(&index) = self.by_name.get(name) else { return };
        let user = &mut self.users[index];
        user.noted_at = self.now;
        let asked = user.revoking.iter().filter(|(by, _)| *by == node).map(|(_, at)| *at).max();
        user.revoked_at = user.revoked_at.max(asked.unwrap_or(0));
        user.revoking.retain(|(by, _)| *by != node);
    }

    // Nodes that are no more.

    pub(super) fn look_for_remains(&mut self, node: usize, life: u64, leases: u64) {
        // While Redis was not there nobody could clean up.
        let died = self.now - (leases * LEASE_MS + 500) * MS;
        if self.database.healthy_since > died {
            return;
        }
        self.verdict.remains_checked += 1;
        let is_of = |id: NodeId| id.0[..8] == life.to_be_bytes();
        let now = self.database.model.now.max(1_800_000_000_000_000 + self.now / 1000);
        if self.database.model.nodes.iter().any(|(id, until)| is_of(*id) && *until > now) {
            self.verdict.found("a dead node is still a member");
        }
        let well: Vec<NodeId> = (0..self.machines.len())
            .filter(|node| self.has_been_well(*node, (LEASE_MS + 500) * MS))
            .map(|node| self.machines[node].id)
            .collect();
        let users = self.database.model.users.iter().filter(|(_, user)| user.until > now);
        // Who holds such a user, too, and was not there itself could not clean up. Whoever came by, or left, before it knew of the
        // death has made it last for another lease.
        let was_visited = |name: &str| {
            let visited = self.by_name.get(name).map_or(0, |user| self.users[*user].visited_at);
            visited > died + (leases - 1) * LEASE_MS * MS
        };
        let held: Vec<_> = users
            .filter(|(name, user)| user.counts.iter().any(|(id, _)| is_of(*id)) && !was_visited(name))
            .filter(|(_, user)| user.counts.iter().all(|(id, _)| is_of(*id) || well.contains(id)))
            .map(|(name, _)| std::sync::Arc::clone(name))
            .collect();
        if !held.is_empty() {
            if self.plan.is_loud {
                println!("{:.3} s: {held:?} of node {node} are still noted", self.now as f64 / 1e9);
                self.tell_history(&held[0]);
            }
            self.verdict.found("a dead node still holds users");
        }
    }

    // Everything.

    /// Nobody's buckets are two nodes' own.
    pub(super) fn check(&mut self) {
        self.after(500 * MS, 0, Event::Check);
        for index in 0..self.users.len() {
            let user = &self.users[index];
            if user.connections.len() < 2 {
                continue;
            }
            let mut nodes: Vec<usize> = user.connections.iter().map(|connection| connection.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let is_old =
                |connection: &super::crowd::Connection| connection.entered < self.now.saturating_sub(3 * SECOND);
            if nodes.len() < 2
                || !user.connections.iter().all(is_old)
                || !nodes.iter().all(|node| self.has_been_well(*node, 4 * SECOND))
            {
                continue;
            }
            self.verdict.shared_checked += 1;
            let own = nodes.iter().filter(|node| !self.machines[**node].buckets.is_shared(&user.name)).count();
            if own > 1 {
                self.verdict.found("the buckets of a user are several nodes' own");
            } else if own == 1 {
                if self.plan.is_loud {
                    println!(
                        "{:.3} s: {} on {nodes:?}: {:?}",
                        self.now as f64 / 1e9,
                        user.name,
                        self.database.model.users.get(&user.name)
                    );
                }
                self.verdict.found("the buckets of a user on several nodes are one node's own");
            }
        }
    }

    /// After all has settled, and nobody came or went for some seconds.
    pub(super) fn check_the_end(&mut self) {
        for node in 0..self.machines.len() {
            if !self.machines[node].node.is_reachable() {
                self.verdict.found("a node does not reach Redis at the end");
            }
        }
        self.check_counts();
        self.check_revocations();
        self.check_bans();
        self.count_rooms();
    }

    fn check_counts(&mut self) {
        let now = 1_800_000_000_000_000 + self.now / 1000;
        let mut wrong = 0;
        for user in &self.users {
            let mut open: HashMap<NodeId, u32> = HashMap::new();
            for connection in user.connections.iter().filter(|connection| connection.is_in()) {
                *open.entry(self.machines[connection.node].id).or_default() += 1;
            }
            let noted = self.database.model.users.get(&user.name).filter(|noted| noted.until > now);
            let noted: HashMap<NodeId, u32> =
                noted.map_or_else(HashMap::new, |noted| noted.counts.iter().copied().collect());
            if open != noted {
                wrong += 1;
                if self.plan.is_loud {
                    println!("{}: open {open:?}, noted {noted:?}", user.name);
                    self.tell_history(&user.name);
                }
            }
            if user.connections.iter().any(|connection| !connection.is_in()) {
                self.verdict.found("an enter was never answered");
            }
        }
        for _ in 0..wrong {
            self.verdict.found("Redis counts other connections of a user than there are");
        }
    }

    fn check_revocations(&mut self) {
        let is_left = |user: &super::crowd::User| {
            user.connections.iter().filter(|connection| connection.granted < user.revoked_at).count()
        };
        for _ in 0..self.users.iter().map(is_left).sum::<usize>() {
            self.verdict.found("a revocation did not arrive");
        }
    }

    fn check_bans(&mut self) {
        let in_force = |machine: &super::machine::Machine| -> BTreeMap<Subject, Time> {
            let bans = machine.bans.iter().filter(|(who, until)| **until > self.now && !self.unsure.contains(*who));
            bans.map(|(who, until)| (who.clone(), *until)).collect()
        };
        let known: Vec<_> = self.machines.iter().map(in_force).collect();
        let mut wrong = 0;
        for bans in &known {
            let is_same = bans.len() == known[0].len()
                && bans
                    .iter()
                    .all(|(who, until)| known[0].get(who).is_some_and(|other| until.abs_diff(*other) < SECOND));
            wrong += u32::from(!is_same);
            if !is_same && self.plan.is_loud {
                let differ = |who: &&Subject| bans.contains_key(*who) != known[0].contains_key(*who);
                let differ: Vec<_> = bans.keys().chain(known[0].keys()).filter(differ).collect();
                println!("bans that not both know: {differ:?}, said {:?}", self.said);
            }
        }
        for _ in 0..wrong {
            self.verdict.found("a node knows other bans than the first");
        }
    }

    /// All members of some rooms, as a node counts them.
    fn count_rooms(&mut self) {
        let mut asked = Vec::new();
        for _ in 0..20 {
            let node = self.random.below(self.machines.len() as u64) as usize;
            let room = self.random.below(1 + self.users.len() as u64 / 50) as u32;
            let ticket = self.id();
            let until = self.machines[node].local(self.now + 2 * SECOND);
            self.machines[node].counted.insert(ticket, None);
            self.request(node, Request::Count { ticket, topic: Topic::Room(room_name(room)), until });
            self.drive(node);
            asked.push((node, room, ticket, self.holders_of(room)));
        }
        self.run_until(self.now + 3 * SECOND);
        for (node, room, ticket, before) in asked {
            let members: usize = before.iter().filter(|(other, _)| *other != node).map(|(_, members)| members).sum();
            match self.machines[node].counted.get(&ticket) {
                Some(Some((counted, 0))) if *counted == members => {}
                Some(Some((counted, missing))) => {
                    if self.plan.is_loud {
                        let (here, of) = (self.machines[node].rooms.contains_key(&room), self.holders_of(room));
                        println!(
                            "room-{room}: {counted} counted by {node} (a member: {here}), {missing} missing, {members} there on {of:?}"
                        );
                    }
                    self.verdict.found("the members of a room are counted wrong");
                }
                _ => self.verdict.found("a count was never answered"),
            }
        }
    }

    fn holders_of(&self, room: u32) -> Vec<(usize, usize)> {
        let all = self.machines.iter().enumerate();
        all.filter_map(|(node, machine)| Some((node, machine.rooms.get(&room)?.members.len()))).collect()
    }
}
