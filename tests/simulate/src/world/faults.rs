//! What goes wrong.

use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::Request;

use super::{Event, LEASE_MS, MS, NEVER, SECOND, World};

/// Something that goes wrong, or right again. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// One of those below, and then another.
    Any,
    /// A node's network is cut.
    Cut {
        node: usize,
        ms: u64,
    },
    /// A node stands still.
    Pause {
        node: usize,
        ms: u64,
    },
    /// A node is gone; another one starts in its place later.
    Kill {
        node: usize,
        ms: u64,
    },
    Start {
        node: usize,
    },
    /// Everything takes long.
    Slow {
        node: usize,
        ms: u64,
    },
    /// Messages are lost, while answers are not.
    Deafen {
        node: usize,
        ms: u64,
    },
    /// The connection breaks.
    Reset {
        node: usize,
    },
    IsWell {
        node: usize,
        life: u64,
    },
    /// Redis stands still.
    PauseDatabase {
        ms: u64,
    },
    /// Redis starts anew, with nothing.
    RestartDatabase {
        ms: u64,
    },
    /// Redis is emptied.
    Flush,
    DatabaseIsWell,
    /// An application disconnects a user.
    Revoke,
    /// An application bans somebody, or lifts a ban.
    Ban,
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        self.at(SECOND, 0, Event::Check);
        let end = (10 + self.plan.faults_s) * SECOND;
        if self.plan.faults_s > 0 {
            self.at(12 * SECOND, 0, Event::Fault(Fault::Any));
        }
        // Applications act all the time.
        for _ in 0..(self.plan.faults_s + 20) * 2 {
            let at = 12 * SECOND + self.random.below(end + 20 * SECOND - 12 * SECOND);
            self.at(at, 0, Event::Fault(Fault::Revoke));
            let at = 12 * SECOND + self.random.below(end + 20 * SECOND - 12 * SECOND);
            self.at(at, 0, Event::Fault(Fault::Ban));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        let now = self.now;
        if !matches!(fault, Fault::Any | Fault::Revoke | Fault::Ban) {
            self.note(None, &|| format!("{fault:?}"));
        }
        match fault {
            Fault::Any => self.any_fault(),
            Fault::Cut { node, ms } => {
                self.ill(node, ms + 6000);
                self.machines[node].cut_until = now + ms * MS;
            }
            Fault::Pause { node, ms } => {
                self.ill(node, ms + 6000);
                self.machines[node].paused_until = now + ms * MS;
            }
            Fault::Slow { node, ms } => {
                self.ill(node, ms + 6000);
                self.machines[node].slow_by = (50 + self.random.below(800)) * MS;
            }
            Fault::Deafen { node, ms } => {
                self.ill(node, ms + 6000);
                self.machines[node].deaf_until = now + ms * MS;
            }
            Fault::Reset { node } => {
                self.ill(node, 3000);
                self.disconnect(node);
            }
            Fault::Kill { node, ms } => self.kill(node, ms),
            Fault::Start { node } => {
                self.machines[node] = self.machine();
                let life = self.machines[node].life;
                self.after(MS, node, Event::Connect { life });
            }
            Fault::IsWell { node, life } => {
                let machine = &mut self.machines[node];
                if machine.life == life && machine.cut_until.max(machine.paused_until) <= now {
                    (machine.slow_by, machine.deaf_until) = (0, 0);
                    machine.healthy_since = now;
                }
            }
            Fault::PauseDatabase { ms } => {
                self.database.paused_until = now + ms * MS;
                self.database_is_ill(now + (ms + 6000) * MS);
            }
            Fault::RestartDatabase { ms } => {
                self.database.down_until = now + ms * MS;
                self.forget_everything();
                self.database.forget_all_subscriptions();
                for node in 0..self.machines.len() {
                    if self.machines[node].is_alive {
                        self.reset(node);
                    }
                }
                self.database_is_ill(now + (ms + 15_000) * MS);
            }
            Fault::Flush => {
                self.forget_everything();
                self.database_is_ill(now + 10_000 * MS);
            }
            Fault::DatabaseIsWell => {
                if self.database.paused_until.max(self.database.down_until) <= now {
                    self.database.healthy_since = now;
                }
            }
            Fault::Revoke => {
                let (user, node) = (self.random.below(self.users.len() as u64) as usize, self.some_node());
                if self.machines[node].is_alive && self.machines[node].paused_until <= now {
                    self.revoke(user, node);
                }
            }
            Fault::Ban => self.ban_somebody(),
        }
    }

    fn some_node(&mut self) -> usize {
        self.random.below(self.machines.len() as u64) as usize
    }

    fn any_fault(&mut self) {
        let (node, ms) = (self.some_node(), 200 + self.random.below(12_000));
        let fault = match self.random.below(50) {
            0..9 => Fault::Cut { node, ms },
            9..16 => Fault::Pause { node, ms },
            16..33 => Fault::Kill { node, ms: ms + 1000 },
            33..39 => Fault::Slow { node, ms },
            39..43 => Fault::Deafen { node, ms },
            43..47 => Fault::Reset { node },
            47 => Fault::PauseDatabase { ms: ms / 3 },
            48 => Fault::RestartDatabase { ms: ms / 6 },
            _ => Fault::Flush,
        };
        let machine = &self.machines[node];
        let is_well = machine.healthy_since != NEVER && self.database.healthy_since != NEVER;
        // A node also dies while it is cut off, stands still or is slow, and while Redis is not there.
        let may_be = machine.is_alive && (is_well || matches!(fault, Fault::Kill { .. }));
        if may_be {
            self.fault(fault);
        }
        // More nodes, more goes wrong: a node every two minutes.
        let wait = 240 * SECOND / self.machines.len() as u64;
        if self.now < (10 + self.plan.faults_s) * SECOND {
            let wait = self.random.below(wait.clamp(SECOND / 50, 8 * SECOND));
            self.after(wait, 0, Event::Fault(Fault::Any));
        }
    }

    /// Something is wrong with a node from now on.
    fn ill(&mut self, node: usize, ms: u64) {
        self.machines[node].healthy_since = NEVER;
        let life = self.machines[node].life;
        self.after(ms * MS, node, Event::Fault(Fault::IsWell { node, life }));
    }

    /// As `disconnect`, of a connection that Redis ends.
    fn reset(&mut self, node: usize) {
        if self.machines[node].paused_until <= self.now {
            self.disconnect(node);
        } else {
            // It notices when it runs again: nothing answers it.
            self.machines[node].last_taken = NEVER;
        }
    }

    fn kill(&mut self, node: usize, ms: u64) {
        let life = self.machines[node].life;
        let machine = &mut self.machines[node];
        (machine.is_alive, machine.healthy_since, machine.link) = (false, NEVER, None);
        // What it had is no more for its life, whatever is still under way.
        for user in 0..self.users.len() {
            while let Some(index) = self.users[user].connections.iter().position(|connection| connection.life == life) {
                self.users[user].connections.swap_remove(index);
                self.users[user].account.holders.retain(|(holder, _)| *holder != node);
                // Nobody knows what was in its buckets.
                self.users[user].account.ill(self.now + (LEASE_MS + 5000) * MS);
            }
            self.users[user].revoking.retain(|(by, _)| *by != node);
        }
        self.database.forget_subscriptions(node);
        for leases in 1..=2 {
            self.after((leases * LEASE_MS + 500) * MS, node, Event::Remains { node, life, leases });
        }
        self.after(ms * MS, node, Event::Fault(Fault::Start { node }));
    }

    /// What Redis was told is gone. A revocation that some node has not heard of by now is lost.
    fn forget_everything(&mut self) {
        self.database.model.flush();
        let recent = self.said.iter().filter(|(_, at)| at + 20 * SECOND > self.now);
        self.unsure.extend(recent.map(|(subject, _)| subject.clone()));
        for user in &mut self.users {
            if user.noted_at + 20 * SECOND > self.now {
                user.revoked_at = 0;
            }
        }
    }

    fn ban_somebody(&mut self) {
        let node = self.some_node();
        if !self.has_been_well(node, 3 * SECOND) {
            return;
        }
        // Two nodes that say different things of one subject at once are in no order.
        let mut known: Vec<Subject> = self.machines[node].bans.keys().cloned().collect();
        known.sort_unstable();
        if !known.is_empty() && self.random.chance(0.4) {
            let subject = self.random.pick(&known).clone();
            self.machines[node].bans.remove(&subject);
            self.said.push((subject.clone(), self.now));
            self.request(node, Request::Unban { subject });
        } else {
            let subject = Subject::User(format!("banned-{}", self.id()).into());
            let for_ms = 500_000 + self.random.below(500_000);
            let until = self.now + for_ms * MS;
            self.machines[node].bans.insert(subject.clone(), until);
            self.said.push((subject.clone(), self.now));
            self.request(node, Request::Ban { subject, for_ms: Some(for_ms), reason: "a reason".into() });
        }
        self.drive(node);
    }
}
