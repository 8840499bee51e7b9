//! Which topics have members on this node, and whether other nodes may have members of a topic.
//!
//! A node hears the topics that it has members of, and says `joined` in a topic once it hears it. So whoever hears nothing of
//! that kind, and whose message was received by one alone, is alone with the topic until somebody joins. When in doubt, others
//! are reached.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::ops::Topic;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    No,
    Asked,
    Yes,
}

#[derive(Debug)]
struct Entry {
    members: u32,
    subscription: Subscription,
    is_changed: bool,
    /// No other node has members of it.
    is_ours: bool,
    /// Changes with each `joined` that is heard.
    stamp: u64,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Topic, Entry>,
    /// What the node has not seen yet, each once.
    changed: VecDeque<Topic>,
    is_alone: bool,
    last_stamp: u64,
}

/// The interest of one node: application threads and shards tell it who is there, and ask it whether others have to hear.
#[derive(Debug, Default)]
pub struct Interest(RwLock<State>);

impl Interest {
    /// One more member of a topic on this node. Each call has one of [`down`](Self::down).
    pub fn up(&self, topic: Topic) {
        if !is_kept(&topic) {
            return;
        }
        let state = &mut *self.write();
        state.last_stamp += 1;
        let fresh = Entry {
            members: 0,
            subscription: Subscription::No,
            is_changed: false,
            is_ours: false,
            stamp: state.last_stamp,
        };
        let entry = state.topics.entry(topic.clone()).or_insert(fresh);
        entry.members = entry.members.saturating_add(1);
        if entry.subscription == Subscription::No {
            entry.change(topic, &mut state.changed);
        }
    }

    /// One member less.
    pub fn down(&self, topic: &Topic) {
        let state = &mut *self.write();
        let Some(entry) = state.topics.get_mut(topic) else { return };
        entry.members = entry.members.saturating_sub(1);
        if entry.members > 0 {
            return;
        }
        if entry.subscription == Subscription::No {
            // While Redis is gone, nobody takes what changed.
            state.topics.remove(topic);
            state.compact();
        } else {
            entry.change(topic.clone(), &mut state.changed);
        }
    }

    /// Whether a message to this topic has to be published: `false` only while no other node has members of it.
    pub fn reaches_others(&self, topic: &Topic) -> bool {
        let state = self.read();
        !state.is_alone && state.topics.get(topic).is_none_or(|entry| entry.members == 0 || !entry.is_ours)
    }

    /// What changed, at most so much of it: topics, and whether they are heard from now on.
    pub(super) fn take_changes(&self, most: usize) -> Vec<(Topic, bool)> {
        let state = &mut *self.write();
        let mut changes = Vec::new();
        while changes.len() < most
            && let Some(topic) = state.changed.pop_front()
        {
            let Some(entry) = state.topics.get_mut(&topic) else { continue };
            if !core::mem::take(&mut entry.is_changed) {
                continue;
            }
            if entry.members > 0 {
                if entry.subscription == Subscription::No {
                    entry.subscription = Subscription::Asked;
                    changes.push((topic, true));
                }
            } else if state.topics.remove(&topic).is_some_and(|entry| entry.subscription != Subscription::No) {
                changes.push((topic, false));
            }
        }
        changes
    }

    /// How many changes wait.
    pub(super) fn changes(&self) -> usize {
        self.read().changed.len()
    }

    /// This topic is heard from now on. Whether anybody is still there for it.
    pub(super) fn subscribed(&self, topic: &Topic) -> bool {
        let mut state = self.write();
        let Some(entry) = state.topics.get_mut(topic) else { return false };
        if entry.subscription == Subscription::Asked {
            entry.subscription = Subscription::Yes;
        }
        entry.subscription == Subscription::Yes
    }

    /// This topic is not heard, or others do not know that it is: the node asks again.
    pub(super) fn ask_again(&self, topic: &Topic) {
        let state = &mut *self.write();
        let Some(entry) = state.topics.get_mut(topic) else { return };
        (entry.subscription, entry.is_ours) = (Subscription::No, false);
        entry.change(topic.clone(), &mut state.changed);
    }

    /// No topic is heard any more: the node asks for all again.
    pub(super) fn ask_for_all(&self) {
        let state = &mut *self.write();
        state.is_alone = false;
        state.changed.clear();
        state.topics.retain(|_, entry| entry.members > 0);
        for (topic, entry) in &mut state.topics {
            (entry.subscription, entry.is_ours, entry.is_changed) = (Subscription::No, false, false);
            entry.change(topic.clone(), &mut state.changed);
        }
        // In order: what a test on fake time does is the same each time.
        state.changed.make_contiguous().sort_unstable();
    }

    /// Another node has members of this topic.
    pub(super) fn joined(&self, topic: &Topic) {
        let state = &mut *self.write();
        if let Some(entry) = state.topics.get_mut(topic) {
            state.last_stamp += 1;
            (entry.stamp, entry.is_ours) = (state.last_stamp, false);
        }
    }

    /// What [`received`](Self::received) wants to know of a message that is published now.
    pub(super) fn stamp(&self, topic: &Topic) -> u64 {
        self.read().topics.get(topic).map_or(0, |entry| entry.stamp)
    }

    /// A message in this topic, published when it had this stamp, was received by so many nodes; `None`: Redis cannot tell.
    pub(super) fn received(&self, topic: &Topic, stamp: u64, receivers: Option<u32>) {
        if self.read().topics.get(topic).is_none_or(|entry| entry.is_ours == (receivers == Some(1))) {
            return;
        }
        if let Some(entry) = self.write().topics.get_mut(topic) {
            let is_known = entry.subscription == Subscription::Yes && entry.stamp == stamp;
            entry.is_ours = receivers == Some(1) && is_known;
        }
    }

    /// Whether this node hears the topic when Redis has done what it was asked so far.
    pub(super) fn is_asked_for(&self, topic: &Topic) -> bool {
        self.read().topics.get(topic).is_some_and(|entry| entry.subscription != Subscription::No)
    }

    /// Whether there is no other node.
    pub(super) fn set_alone(&self, is_alone: bool) {
        if self.read().is_alone != is_alone {
            self.write().is_alone = is_alone;
        }
    }

    // Also after a panic elsewhere: the state is valid between statements.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets what changed of topics that are no more.
    fn compact(&mut self) {
        if self.changed.len() > 2 * self.topics.len() + 1024 {
            let mut changed = HashSet::new();
            let Self { topics, changed: queue, .. } = self;
            queue.retain(|topic| {
                topics.get(topic).is_some_and(|entry| entry.is_changed) && changed.insert(topic.clone())
            });
        }
    }
}

impl Entry {
    fn change(&mut self, topic: Topic, changed: &mut VecDeque<Topic>) {
        if !self.is_changed {
            self.is_changed = true;
            changed.push_back(topic);
        }
    }
}

/// Every node hears [`Topic::All`] and its own topic anyway.
fn is_kept(topic: &Topic) -> bool {
    matches!(topic, Topic::Room(_) | Topic::User(_))
}
