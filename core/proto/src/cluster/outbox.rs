//! What a node asks of Redis, and what it still waits for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ops::{Message, NodeId, Op, OpId, Topic};
use super::pacing::Pacing;
use super::wire::{self, What};
use crate::time::Moment;

/// Messages to members that wait or are on their way at once, in bytes.
const MAX_PUBLISH_BYTES: usize = 64 << 20;
/// A message that waited for so long is dropped: Redis does not keep up.
const MAX_WAIT_MS: u64 = 2000;

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
    Find,
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
    /// Messages to members that are not sent yet, and since when.
    messages: VecDeque<(Message, Moment)>,
    messages_bytes: usize,
    pacing: Pacing,
    /// Messages to members that were dropped.
    pub(super) dropped: u64,
}

impl Outbox {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            last: 0,
            number: 0,
            ops: Vec::new(),
            waiting: BTreeMap::new(),
            messages: VecDeque::new(),
            messages_bytes: 0,
            pacing: Pacing::new(MAX_PUBLISH_BYTES),
            dropped: 0,
        }
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
    pub(super) fn answered(&mut self, id: OpId, now: Moment) -> Option<(Moment, Waiting)> {
        let (asked, waiting) = self.waiting.remove(&id)?;
        if let Waiting::Publish { bytes, .. } = waiting {
            self.pacing.answered(bytes, asked, now);
        }
        Some((asked, waiting))
    }

    /// When the answer to the oldest op is overdue that may take so long.
    pub(super) fn overdue(&self, patience_ms: u64) -> Moment {
        let patience_ms = patience_ms + self.pacing.grace_ms();
        self.oldest().map_or(Moment::NEVER, |asked| asked.after_millis(patience_ms))
    }

    /// Since when the oldest op waits.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(_, (asked, _))| *asked)
    }

    pub(super) fn drain(&mut self, ops: &mut Vec<(OpId, Op)>) {
        ops.append(&mut self.ops);
    }

    /// Nobody answers any more; what was not handed out never is.
    pub(super) fn lose_all(&mut self, now: Moment) -> impl Iterator<Item = Waiting> + use<> {
        self.ops.clear();
        self.pacing.lost(now);
        self.dropped += self.messages.len() as u64;
        (self.messages_bytes, self.messages) = Default::default();
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

    /// Has a message sent to the members on other nodes in its turn, or drops it: too much waits, or it is too long.
    pub(super) fn publish(&mut self, message: Message, now: Moment) {
        let size = size(&message);
        let bytes = self.messages_bytes.saturating_add(self.pacing.on_its_way()).saturating_add(size);
        let is_too_many = message.to.len() > usize::from(u16::MAX);
        if is_too_many || size_of_one(&message) > wire::MAX_BYTES || bytes > MAX_PUBLISH_BYTES {
            self.dropped += 1;
            return;
        }
        self.messages_bytes += size;
        self.messages.push_back((message, now));
    }

    /// Sends messages as far as the pace allows; `is_last`: all that there are.
    pub(super) fn send_messages(&mut self, stamp: impl Fn(&Topic) -> u64, is_last: bool, now: Moment) {
        while let Some((message, since)) = self.messages.front() {
            let (size, is_late) = (size(message), since.after_millis(MAX_WAIT_MS) <= now);
            if !is_late && !is_last && !self.pacing.has_room(size) {
                return;
            }
            self.messages_bytes = self.messages_bytes.saturating_sub(size);
            let Some((message, _)) = self.messages.pop_front() else { return };
            if is_late {
                self.dropped += 1;
            } else {
                self.send_message(message, &stamp, now);
            }
        }
    }

    fn send_message(&mut self, message: Message, stamp: impl Fn(&Topic) -> u64, now: Moment) {
        let to = channels(&message);
        self.number += 1;
        let is_listed = to != message.to || to.len() > 1;
        let bytes: Arc<[u8]> = wire::encode(self.node, self.number, &What::Message(message), is_listed).into();
        for topic in to {
            self.pacing.sent(bytes.len());
            let waiting = Waiting::Publish { topic: topic.clone(), stamp: stamp(&topic), bytes: bytes.len() };
            self.ask(Op::Publish { topic, bytes: Arc::clone(&bytes) }, waiting, now);
        }
    }
}

/// Where a message is published.
fn channels(message: &Message) -> Vec<Topic> {
    if message.to.len() > MAX_CHANNELS || message.to.contains(&Topic::All) {
        vec![Topic::All]
    } else {
        message.to.clone()
    }
}

/// What a message takes on one channel at most: its payload, the topics, and what is before them.
fn size_of_one(message: &Message) -> usize {
    let name = |topic: &Topic| match topic {
        Topic::Room(name) | Topic::User(name) => name.len(),
        Topic::All | Topic::Node(_) => 0,
    };
    64 + message.payload.len() + message.to.iter().map(|topic| name(topic) + 3).sum::<usize>()
}

fn size(message: &Message) -> usize {
    size_of_one(message).saturating_mul(channels(message).len())
}
