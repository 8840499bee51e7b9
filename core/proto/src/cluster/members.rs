//! Which nodes there are: the list of Redis, which this node asks for with each beat.

use std::collections::BTreeSet;

use super::ops::{NodeId, OpId};

/// More nodes than these are not believed.
const MAX_NODES: usize = 16_384;

/// The members, as far as this node knows.
#[derive(Default)]
pub(super) struct Members {
    list: BTreeSet<NodeId>,
    /// The version of the list; 0: there is none.
    pub(super) version: u64,
    /// What the database is known by.
    pub(super) mark: Option<u64>,
    /// The last beat that was answered.
    listed: OpId,
    /// Changes with each node that says it is there.
    pub(super) stamp: u64,
}

impl Members {
    /// The list of an answer to the beat `beat`. The nodes that are no more.
    pub(super) fn update(&mut self, beat: OpId, version: u64, list: Option<Vec<NodeId>>) -> Vec<NodeId> {
        self.listed = beat;
        let Some(list) = list else { return Vec::new() };
        self.version = version;
        let list = list.into_iter().take(MAX_NODES).collect();
        let before = core::mem::replace(&mut self.list, list);
        before.difference(&self.list).copied().collect()
    }

    /// Whether a node is surely no more: it is not on a list that was asked for after the op `since`.
    pub(super) fn is_gone(&self, node: NodeId, since: OpId) -> bool {
        self.is_listed_after(since) && self.version != 0 && !self.list.contains(&node)
    }

    /// Whether the list was asked for after this op.
    pub(super) fn is_listed_after(&self, op: OpId) -> bool {
        self.listed > op
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.list.contains(&node)
    }

    /// How many others there are.
    pub(super) fn others(&self, own: NodeId) -> usize {
        self.list.len() - usize::from(self.list.contains(&own))
    }

    /// Whether a beat of this stamp showed that there is no other node.
    pub(super) fn is_alone(&self, own: NodeId, stamp: u64) -> bool {
        self.version != 0 && self.stamp == stamp && self.others(own) == 0
    }

    /// Whether this node is the one that does what one node has to do.
    pub(super) fn is_first(&self, own: NodeId) -> bool {
        self.list.first().is_none_or(|first| *first == own)
    }
}
