//! One node of a cluster: what it asks Redis for, and what it makes of the answers.
//!
//! Requests, replies, messages and time go in; ops for Redis and effects for the server come out. No I/O, no clock, no panic.

use core::time::Duration;
use std::sync::Arc;

use super::interest::Interest;
pub use super::ops::OpId;
use super::ops::{Buckets, Effect, NodeId, Op, Reply, Request, Topic};
use crate::time::Moment;

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Random for each start of a server.
    pub id: NodeId,
    /// `name`: the cluster.
    pub name: Arc<str>,
    /// `lease_ms`: for how long what is noted of a node outlives it.
    pub lease_ms: u64,
    /// `user_limits`: whether the limits of users hold for all nodes together.
    pub user_limits: bool,
}

/// One node.
pub struct Node {
    settings: Settings,
}

impl Node {
    /// A node that is not connected yet.
    pub fn new(settings: Settings, buckets: Arc<dyn Buckets>, interest: Arc<Interest>, seed: u64, now: Moment) -> Self {
        let _ = (buckets, interest, seed, now);
        Self { settings }
    }

    /// There is a connection to Redis: [`poll`](Self::poll) says what is asked of it first. Nothing is subscribed on it yet.
    pub fn connected(&mut self, now: Moment) {
        let _ = now;
    }

    /// The connection is gone, and with it all that was not answered: the driver reports no reply of it any more.
    pub fn disconnected(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let _ = (now, effects);
    }

    /// What an application or a shard wants.
    pub fn request(&mut self, request: Request, now: Moment, effects: &mut Vec<Effect>) {
        let _ = (request, now, effects);
    }

    /// What Redis answers to an op of [`poll`](Self::poll).
    pub fn reply(&mut self, id: OpId, reply: Reply, now: Moment, effects: &mut Vec<Effect>) {
        let _ = (id, reply, now, effects);
    }

    /// A message on a channel that this node subscribed to.
    pub fn heard(&mut self, topic: &Topic, bytes: &[u8], now: Moment, effects: &mut Vec<Effect>) {
        let _ = (topic, bytes, now, effects);
    }

    /// What is due, and the ops that are to be carried out in this order. Call it after each of the others, after
    /// [`Interest::up`] and [`Interest::down`], and at [`next`](Self::next).
    pub fn poll(&mut self, now: Moment, ops: &mut Vec<(OpId, Op)>, effects: &mut Vec<Effect>) {
        let _ = (now, ops, effects);
    }

    /// When [`poll`](Self::poll) is due at the latest.
    pub fn next(&self) -> Moment {
        Moment::NEVER
    }

    /// Whether the cluster can be reached: what [`Effect::Reachable`] said last.
    pub fn is_reachable(&self) -> bool {
        false
    }

    /// Whether messages do not arrive any more although Redis answers. True once: the driver makes its subscriber anew, before it
    /// carries out what the next [`poll`](Self::poll) says, which subscribes to everything again.
    pub fn deaf(&mut self, now: Moment) -> bool {
        let _ = now;
        false
    }

    /// The node goes: what is to be carried out before the connection is closed. No answer matters.
    pub fn stop(&mut self, now: Moment) -> Vec<Op> {
        let _ = now;
        vec![Op::Leave { node: self.settings.id }]
    }

    /// How old the oldest op is that Redis has not answered; while nothing is asked: how long the last message of this node to
    /// itself took; while Redis is gone: for how long.
    pub fn lag(&self, now: Moment) -> Duration {
        let _ = now;
        Duration::ZERO
    }

    /// Messages for other nodes that were dropped.
    pub fn dropped(&self) -> u64 {
        0
    }

    /// Messages heard that were no messages.
    pub fn malformed(&self) -> u64 {
        0
    }
}
