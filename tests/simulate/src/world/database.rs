//! Redis: the model, who hears what, and what goes wrong with it.

use std::collections::HashMap;
use std::sync::Arc;

use wsguard_proto::cluster::ops::{Op, OpId, Reply, Topic};

use super::{Event, MS, NEVER, Time, World};
use crate::model::Model;

const START_MICROS: u64 = 1_800_000_000_000_000;

pub(super) struct Database {
    pub(super) model: Model,
    /// It does not run until then.
    pub(super) down_until: Time,
    /// It does nothing until then.
    pub(super) paused_until: Time,
    /// Since then nothing was wrong with it.
    pub(super) healthy_since: Time,
    hears: HashMap<Topic, Vec<(usize, u64)>>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            model: Model::new(START_MICROS),
            down_until: 0,
            paused_until: 0,
            healthy_since: 0,
            hears: HashMap::new(),
        }
    }
}

impl Database {
    pub(super) fn forget_subscriptions(&mut self, node: usize) {
        self.hears.retain(|_, hearers| {
            hearers.retain(|(hearer, _)| *hearer != node);
            !hearers.is_empty()
        });
    }

    pub(super) fn forget_all_subscriptions(&mut self) {
        self.hears.clear();
    }
}

impl World {
    /// An op comes to Redis.
    pub(super) fn asked(&mut self, node: usize, life: u64, link: u64, id: OpId, op: Box<Op>) {
        let machine = &mut self.machines[node];
        if machine.life != life || machine.link != Some(link) {
            return;
        }
        // What is cut off or not taken is sent again by TCP, if there is still a connection then.
        let held = machine.cut_until.max(self.database.paused_until).max(self.database.down_until);
        if held > self.now {
            machine.last_taken = machine.last_taken.max(held + MS);
        }
        if machine.last_taken > self.now {
            let at = machine.last_taken;
            self.at(at, node, Event::Asked { life, link, id, op });
            return;
        }
        self.meter.asked(&op, &self.store);
        self.database.model.now = START_MICROS + self.now / 1000;
        let reply = match &*op {
            Op::Publish { topic, bytes } => self.published(topic, bytes),
            Op::Subscribe { topic } => {
                let hearers = self.database.hears.entry(topic.clone()).or_default();
                if !hearers.contains(&(node, link)) {
                    hearers.push((node, link));
                }
                Reply::Subscribed
            }
            Op::Unsubscribe { topic } => {
                if let Some(hearers) = self.database.hears.get_mut(topic) {
                    hearers.retain(|(hearer, _)| *hearer != node);
                }
                Reply::Done
            }
            op => self.database.model.apply(op),
        };
        let about = match &*op {
            Op::Enter { user, .. }
            | Op::Exit { user, .. }
            | Op::Restore { user, .. }
            | Op::Share { user, .. }
            | Op::Report { user, .. }
            | Op::TakeOver { user, .. }
            | Op::Disconnect { user, .. } => Some(user),
            _ => None,
        };
        if let Some(user) = about {
            self.note(Some(user), &|| format!("node {node}: {op:?} -> {reply:?}"));
        }
        if let Op::Disconnect { user, .. } = &*op {
            self.revocation_is_noted(node, user);
        }
        let wait = self.latency(node);
        let at = self.machines[node].in_order(self.now + wait);
        self.at(at, node, Event::Answered { life, link, id, reply: Box::new(reply) });
    }

    fn published(&mut self, topic: &Topic, bytes: &Arc<[u8]>) -> Reply {
        let hearers = self.database.hears.get(topic).cloned().unwrap_or_default();
        for (node, link) in &hearers {
            self.meter.heard(bytes.len() + 60);
            let wait = self.latency(*node);
            let machine = &mut self.machines[*node];
            // On the same connection as answers: in the same order.
            let (at, life) = (machine.in_order(self.now + wait), machine.life);
            let event = Event::Heard { life, link: *link, topic: topic.clone(), bytes: Arc::clone(bytes) };
            self.at(at, *node, event);
        }
        Reply::Published(u32::try_from(hearers.len()).ok())
    }

    pub(super) fn latency(&mut self, node: usize) -> Time {
        let slow = self.machines[node].slow_by;
        let usual = 150_000 + self.random.below(400_000);
        // Now and then one takes long, with nothing being wrong.
        let rare = if self.random.chance(0.001) { self.random.below(20 * MS) } else { 0 };
        usual + rare + if slow > 0 { self.random.below(slow) } else { 0 }
    }

    /// Something is wrong with all of it from now on, until `until`.
    pub(super) fn database_is_ill(&mut self, until: Time) {
        self.database.healthy_since = NEVER;
        self.at(until, 0, Event::Fault(super::faults::Fault::DatabaseIsWell));
    }
}
