//! What a node asks of Redis, and what it still waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ops::{Message, NodeId, Op, OpId, Topic};
use super::wire::{self, What};
use crate::time::Moment;

/// Messages to members that are on their way at once, in bytes.
const MAX_PUBLISH_BYTES: usize = 64 << 20;

/// To more topics than these a message goes once, by [`Topic::All`], which every node hears.
const MAX_CHANNELS: usize = 8;

/// A connection that asks for a place.
#[derive(Clone, Debug)]
pub(super) struct Entering {
    pub(super) ticket: u64,
    pub(super) user: Arc<str>,
    pub(super) most: u32,
    /// It was refused before, and asks again without nodes that are gone.
    pub(super) is_second: bool,
}

/// An op that draws on the buckets of a user: one at a time for each.
#[derive(Clone, Debug)]
pub(super) enum Drawing {
    Share,
    Report,
    TakeOver(NodeId),
    /// The same of a node that is surely no more.
    Drop(NodeId),
    Restore,
}

/// What an answer is for.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    Beat {
        stamp: u64,
    },
    /// The node hears a topic that every node hears.
    Base(Topic),
    Subscribe(Topic),
    /// `joined` in a topic.
    Joined {
        topic: Topic,
        stamp: u64,
    },
    Publish {
        topic: Topic,
        stamp: u64,
        bytes: usize,
    },
    Asked {
        question: u64,
        is_to_all: bool,
    },
    Probe,
    Enter(Entering),
    Exit(Arc<str>),
    /// `reports`: what was passed is on its way with it.
    Draw {
        user: Arc<str>,
        drawing: Drawing,
        reports: bool,
    },
    Touch,
    /// A revocation, a ban or its end, by its number.
    Revoke(u64),
    Bans,
    Log,
    Nothing,
}

/// Ops in their order, and those that are not answered.
pub(super) struct Outbox {
    pub(super) node: NodeId,
    last: u64,
    number: u64,
    ops: Vec<(OpId, Op)>,
    waiting: BTreeMap<OpId, (Moment, Waiting)>,
    publish_bytes: usize,
    /// Messages to members that were dropped.
    pub(super) dropped: u64,
}

impl Outbox {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, last: 0, number: 0, ops: Vec::new(), waiting: BTreeMap::new(), publish_bytes: 0, dropped: 0 }
    }

    pub(super) fn ask(&mut self, op: Op, waiting: Waiting, now: Moment) -> OpId {
        self.last += 1;
        let id = OpId(self.last);
        self.ops.push((id, op));
        self.waiting.insert(id, (now, waiting));
        id
    }

    /// The op that was asked last.
    pub(super) fn last(&self) -> OpId {
        OpId(self.last)
    }

    /// What this answers, and when it was asked. `None`: nobody waits for it.
    pub(super) fn answered(&mut self, id: OpId) -> Option<(Moment, Waiting)> {
        let (asked, waiting) = self.waiting.remove(&id)?;
        if let Waiting::Publish { bytes, .. } = waiting {
            self.publish_bytes = self.publish_bytes.saturating_sub(bytes);
        }
        Some((asked, waiting))
    }

    /// Since when the oldest op waits.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(_, (asked, _))| *asked)
    }

    pub(super) fn drain(&mut self, ops: &mut Vec<(OpId, Op)>) {
        ops.append(&mut self.ops);
    }

    /// Nobody answers any more; what was not handed out never is.
    pub(super) fn lose_all(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        self.ops.clear();
        self.publish_bytes = 0;
        core::mem::take(&mut self.waiting).into_values().map(|(_, waiting)| waiting)
    }

    /// Says something to the nodes that hear a topic. The number that it has.
    pub(super) fn say(&mut self, topic: Topic, what: &What, waiting: Waiting, now: Moment) -> u64 {
        self.number += 1;
        self.say_again(topic, self.number, what, waiting, now);
        self.number
    }

    /// The same under a number that was said before: whoever hears both takes one.
    pub(super) fn say_again(&mut self, topic: Topic, number: u64, what: &What, waiting: Waiting, now: Moment) {
        let bytes = wire::encode(self.node, number, what, false).into();
        self.ask(Op::Publish { topic, bytes }, waiting, now);
    }

    /// Sends a message to the members on other nodes, or drops it: too much is on its way, or it is too long.
    pub(super) fn publish(&mut self, message: Message, stamp: impl Fn(&Topic) -> u64, now: Moment) {
        let mut to = message.to.clone();
        if to.len() > MAX_CHANNELS || to.contains(&Topic::All) {
            to = vec![Topic::All];
        }
        self.number += 1;
        let is_listed = to != message.to;
        let is_listed = is_listed || to.len() > 1;
        let is_too_many = message.to.len() > usize::from(u16::MAX);
        let bytes: Arc<[u8]> = if is_too_many {
            Arc::default()
        } else {
            wire::encode(self.node, self.number, &What::Message(message), is_listed).into()
        };
        let on_its_way = self.publish_bytes.saturating_add(bytes.len().saturating_mul(to.len()));
        if is_too_many || bytes.len() > wire::MAX_BYTES || on_its_way > MAX_PUBLISH_BYTES {
            self.dropped += 1;
            return;
        }
        self.publish_bytes = on_its_way;
        for topic in to {
            let waiting = Waiting::Publish { topic: topic.clone(), stamp: stamp(&topic), bytes: bytes.len() };
            self.ask(Op::Publish { topic, bytes: Arc::clone(&bytes) }, waiting, now);
        }
    }
}
