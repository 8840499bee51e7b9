//! How many members other nodes have: a question to all that hear the topic, and their answers until a time.

use std::collections::{BTreeMap, HashMap};

use super::ops::{Effect, NodeId, Topic};
use crate::time::Moment;

/// Questions that are open at once.
const MAX_QUESTIONS: usize = 1024;
/// Connections that the answers to all open questions name.
const MAX_CONNECTIONS: usize = 1 << 22;
/// Nodes that answer one question.
const MAX_NODES: usize = 16_384;

struct Question {
    ticket: u64,
    topic: Topic,
    /// The number of the message that asked.
    number: u64,
    /// The node that asks hears its question, too.
    is_heard_here: bool,
    until: Moment,
    /// How many answers there will be, once Redis said who heard the question.
    expected: Option<u32>,
    /// Nodes, and whether all of their answer is there.
    answered: HashMap<NodeId, bool>,
    connections: Vec<(NodeId, u64)>,
}

/// The open questions of one node.
#[derive(Default)]
pub(super) struct Questions {
    last: u64,
    open: BTreeMap<u64, Question>,
    connections: usize,
}

impl Questions {
    pub(super) fn ask(&mut self, ticket: u64, topic: Topic, until: Moment) -> Option<u64> {
        if self.open.len() >= MAX_QUESTIONS {
            return None;
        }
        self.last += 1;
        let question = Question {
            ticket,
            topic,
            number: 0,
            is_heard_here: false,
            until,
            expected: None,
            answered: HashMap::new(),
            connections: Vec::new(),
        };
        self.open.insert(self.last, question);
        Some(self.last)
    }

    pub(super) fn asked(&mut self, question: u64, number: u64, is_heard_here: bool) {
        if let Some(open) = self.open.get_mut(&question) {
            (open.number, open.is_heard_here) = (number, is_heard_here);
        }
    }

    /// What was asked, in which message, and whether this node hears it.
    pub(super) fn topic(&self, question: u64) -> Option<(&Topic, u64, bool)> {
        self.open.get(&question).map(|open| (&open.topic, open.number, open.is_heard_here))
    }

    /// So many nodes will answer.
    pub(super) fn expect(&mut self, question: u64, nodes: u32, effects: &mut Vec<Effect>) {
        if let Some(open) = self.open.get_mut(&question) {
            open.expected = Some(nodes);
            self.finish(question, effects);
        }
    }

    /// An answer, or a part of it.
    pub(super) fn answered(
        &mut self,
        from: NodeId,
        question: u64,
        is_last: bool,
        connections: &[u64],
        effects: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open.get_mut(&question) else { return };
        let is_full = open.answered.len() >= MAX_NODES && !open.answered.contains_key(&from);
        if is_full || self.connections.saturating_add(connections.len()) > MAX_CONNECTIONS {
            return;
        }
        let is_whole = open.answered.entry(from).or_default();
        if *is_whole {
            return;
        }
        *is_whole = is_last;
        self.connections += connections.len();
        open.connections.extend(connections.iter().map(|id| (from, *id)));
        self.finish(question, effects);
    }

    fn finish(&mut self, question: u64, effects: &mut Vec<Effect>) {
        let is_done = |open: &mut Question| open.expected.is_some_and(|expected| open.whole() >= expected);
        if self.open.get_mut(&question).is_some_and(is_done) {
            self.close(question, effects);
        }
    }

    fn close(&mut self, question: u64, effects: &mut Vec<Effect>) {
        let Some(open) = self.open.remove(&question) else { return };
        self.connections -= open.connections.len();
        let missing = open.expected.unwrap_or(0).saturating_sub(open.whole());
        let in_part = open.answered.len() as u32 - open.whole();
        let missing = missing.max(in_part);
        effects.push(Effect::Counted { ticket: open.ticket, connections: open.connections, missing });
    }

    /// Nobody is reached any more: what came is the answer. `others`: the nodes that there were.
    pub(super) fn cut_off(&mut self, others: u32, effects: &mut Vec<Effect>) {
        for open in self.open.values_mut() {
            open.expected.get_or_insert(others);
        }
        while let Some(question) = self.open.first_key_value().map(|(question, _)| *question) {
            self.close(question, effects);
        }
    }

    /// Answers what is due. `others`: the nodes that there are.
    pub(super) fn poll(&mut self, others: u32, now: Moment, effects: &mut Vec<Effect>) {
        let due: Vec<_> =
            self.open.iter().filter(|(_, open)| open.until <= now).map(|(question, _)| *question).collect();
        for question in due {
            if let Some(open) = self.open.get_mut(&question) {
                open.expected.get_or_insert(others);
            }
            self.close(question, effects);
        }
    }

    pub(super) fn next(&self) -> Moment {
        self.open.values().map(|open| open.until).min().unwrap_or(Moment::NEVER)
    }
}

impl Question {
    fn whole(&self) -> u32 {
        self.answered.values().filter(|is_whole| **is_whole).count() as u32
    }
}
