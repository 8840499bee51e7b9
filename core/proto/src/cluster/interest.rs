//! Which topics have members on this node, and whether other nodes may have members of a topic.

use super::ops::Topic;

/// The interest of one node: application threads and shards tell it who is there, and ask it whether others have to hear.
#[derive(Debug, Default)]
pub struct Interest {}

impl Interest {
    /// One more member of a topic on this node. Each call has one of [`down`](Self::down).
    pub fn up(&self, _topic: Topic) {}

    /// One member less.
    pub fn down(&self, _topic: &Topic) {}

    /// Whether a message to this topic has to be published: `false` only while no other node has members of it.
    pub fn reaches_others(&self, _topic: &Topic) -> bool {
        true
    }
}
