//! Redis and other nodes say anything: the node goes on, and its tables stay small.

use std::sync::Arc;

use proptest::prelude::*;

use super::buckets::Fake;
use crate::bans::Subject;
use crate::cluster::interest::Interest;
use crate::cluster::node::{Node, OpId, Settings};
use crate::cluster::ops::{
    Effect, Entry, Level, LogId, NodeId, Op, Ownership, Reply, Request, StoreTime, Topic, UserFull,
};
use crate::cluster::wire::{What, encode};
use crate::time::Moment;

fn node_ids() -> impl Strategy<Value = NodeId> {
    (0u8..4).prop_map(|number| NodeId([number; 16]))
}

fn names() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[ab]", ".{0,3}", "x{300}"].prop_map(Into::into)
}

fn ownerships() -> impl Strategy<Value = Ownership> {
    prop_oneof![Just(Ownership::Alone), Just(Ownership::Shared), node_ids().prop_map(Ownership::Awaits)]
}

fn levels() -> impl Strategy<Value = Vec<Level>> {
    let amount = prop_oneof![any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), 0.0f64..10.0];
    let level = (amount.clone(), amount.clone(), amount.clone(), amount);
    let level = level.prop_map(|(units, units_per_second, bytes, bytes_per_second)| Level {
        scope: "".into(),
        units,
        units_per_second,
        bytes,
        bytes_per_second,
    });
    prop::collection::vec(level, 0..3)
}

fn entries() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (names(), node_ids()).prop_map(|(user, node)| Entry::Disconnect { user, node }),
        (names(), any::<Option<u64>>(), names(), node_ids()).prop_map(|(user, until, reason, node)| Entry::Ban {
            subject: Subject::User(user),
            until: until.map(StoreTime),
            reason,
            node,
        }),
        (names(), node_ids()).prop_map(|(user, node)| Entry::Unban { subject: Subject::User(user), node }),
        Just(Entry::Unknown),
    ]
}

fn log_ids() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, number)| LogId(ms, number))
}

fn replies() -> impl Strategy<Value = Reply> {
    let now = any::<u64>().prop_map(StoreTime);
    let beat = (now.clone(), 0u64..3, any::<u64>(), any::<bool>(), log_ids());
    let members = prop::option::of(prop::collection::vec(node_ids(), 0..4));
    let others = prop::collection::vec((node_ids(), any::<u32>()), 0..4);
    let outcome = prop::option::of(any::<u32>());
    prop_oneof![
        (beat, members).prop_map(|((now, mark, version, was_member, log), members)| Reply::Beat {
            now,
            mark,
            version,
            was_member,
            members,
            log,
        }),
        (now.clone(), outcome, others, ownerships(), levels()).prop_map(|(now, full, others, ownership, levels)| {
            let outcome = full.map_or(Ok(()), |open| Err(UserFull { open }));
            Reply::Entered { now, outcome, others, ownership, levels }
        }),
        (now.clone(), ownerships(), levels(), any::<bool>())
            .prop_map(|(now, ownership, levels, is_known)| Reply::Levels { now, ownership, levels, is_known }),
        prop::collection::vec(names(), 0..3).prop_map(Reply::Touched),
        (now, prop::collection::vec((names(), any::<Option<u64>>(), names()), 0..3), log_ids()).prop_map(
            |(now, bans, log)| {
                let bans = bans.into_iter();
                let ban =
                    |(user, until, reason): (_, Option<u64>, _)| (Subject::User(user), until.map(StoreTime), reason);
                Reply::Bans { now, bans: bans.map(ban).collect(), log }
            }
        ),
        (log_ids(), prop::collection::vec((log_ids(), entries()), 0..4))
            .prop_map(|(oldest, entries)| Reply::Log { oldest, entries }),
        any::<Option<u32>>().prop_map(Reply::Published),
        Just(Reply::Subscribed),
        Just(Reply::Done),
        Just(Reply::Failed("no".into())),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Reply(usize, Reply),
    /// The reply that belongs there, as far as it joins.
    Join(u8),
    Unasked(u64, Reply),
    Heard(Topic, Vec<u8>),
    Said(NodeId, u64, u8, Arc<str>),
    Enter(Arc<str>),
    Exit(Arc<str>),
    Time(u64),
    Poll,
    Connected,
    Disconnected,
}

fn steps() -> impl Strategy<Value = Step> {
    let topics = prop_oneof![Just(Topic::All), names().prop_map(Topic::Room), node_ids().prop_map(Topic::Node)];
    prop_oneof![
        6 => (any::<usize>(), replies()).prop_map(|(at, reply)| Step::Reply(at, reply)),
        6 => any::<u8>().prop_map(Step::Join),
        1 => (any::<u64>(), replies()).prop_map(|(id, reply)| Step::Unasked(id, reply)),
        1 => (topics, any::<Vec<u8>>()).prop_map(|(topic, bytes)| Step::Heard(topic, bytes)),
        3 => (node_ids(), any::<u64>(), any::<u8>(), names()).prop_map(|(from, number, kind, name)| Step::Said(from, number, kind, name)),
        3 => names().prop_map(Step::Enter),
        2 => names().prop_map(Step::Exit),
        3 => prop_oneof![0u64..50, any::<u64>()].prop_map(Step::Time),
        6 => Just(Step::Poll),
        3 => Just(Step::Connected),
        1 => Just(Step::Disconnected),
    ]
}

fn said(kind: u8, name: Arc<str>) -> (Topic, What) {
    let own = Topic::Node(NodeId([1; 16]));
    match kind % 7 {
        0 => (Topic::All, What::Joined),
        1 => (Topic::Room("a".into()), What::Joined),
        2 => (own, What::Share(name)),
        3 => (Topic::All, What::Look),
        4 => (Topic::All, What::Asked { question: 1, topic: Topic::All }),
        5 => (own, What::Answer { question: 1, is_last: kind > 100, connections: vec![1, 1] }),
        _ => (own, What::Probe),
    }
}

/// What lets a node join, more or less.
fn fitting(op: &Op) -> Reply {
    match op {
        Op::Beat { mark, node, .. } => Reply::Beat {
            now: StoreTime(1_000_000),
            mark: *mark,
            version: 1,
            was_member: true,
            members: Some(vec![*node, NodeId([2; 16])]),
            log: LogId(0, 0),
        },
        Op::Subscribe { .. } => Reply::Subscribed,
        Op::LoadBans => Reply::Bans { now: StoreTime(1_000_000), bans: Vec::new(), log: LogId(0, 0) },
        Op::ReadLog { .. } => Reply::Log { oldest: LogId(0, 0), entries: Vec::new() },
        Op::Publish { .. } => Reply::Published(Some(2)),
        _ => Reply::Done,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_said_stops_a_node(all in prop::collection::vec(steps(), 1..200)) {
        let settings = Settings { id: NodeId([1; 16]), name: "n".into(), lease_ms: 1000, user_limits: true };
        let interest = Arc::new(Interest::default());
        interest.up(Topic::Room("a".into()));
        let mut now = Moment::from_millis(5);
        let mut node = Node::new(settings, Arc::new(Fake::default()), interest, 1, now);
        let (mut ops, mut effects) = (Vec::<(OpId, Op)>::new(), Vec::new());
        let (mut tickets, mut answered, mut up) = (0, 0, false);
        for step in all {
            match step {
                Step::Reply(at, reply) if !ops.is_empty() => {
                    let (id, _) = ops.remove(at % ops.len());
                    node.reply(id, reply, now, &mut effects);
                }
                Step::Join(many) => for (id, op) in ops.drain(..usize::from(many).min(ops.len())).collect::<Vec<_>>() {
                    node.reply(id, fitting(&op), now, &mut effects);
                },
                Step::Reply(..) => {}
                Step::Unasked(id, reply) => node.reply(OpId(id), reply, now, &mut effects),
                Step::Heard(topic, bytes) => node.heard(&topic, &bytes, now, &mut effects),
                Step::Said(from, number, kind, name) => {
                    let (topic, what) = said(kind, name);
                    node.heard(&topic, &encode(from, number, &what, false), now, &mut effects);
                }
                Step::Enter(user) => {
                    tickets += 1;
                    node.request(Request::Enter { ticket: tickets, user, most: 2 }, now, &mut effects);
                }
                Step::Exit(user) => node.request(Request::Exit { user }, now, &mut effects),
                Step::Time(ms) => now = now.after_millis(ms.min(10_000)),
                Step::Poll => {
                    node.poll(now, &mut ops, &mut effects);
                    node.deaf(now);
                }
                Step::Connected => node.connected(now),
                Step::Disconnected => {
                    node.disconnected(now, &mut effects);
                    ops.clear();
                }
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Entered { .. } => answered += 1,
                    Effect::Reachable(is_up) => {
                        prop_assert_ne!(up, is_up);
                        up = is_up;
                    }
                    _ => {}
                }
            }
            prop_assert!(answered <= tickets);
            prop_assert!(ops.len() < 20_000);
            node.next();
        }
        node.disconnected(now, &mut effects);
        answered += effects.iter().filter(|effect| matches!(effect, Effect::Entered { .. })).count() as u64;
        prop_assert_eq!(answered, tickets);
        node.stop(now);
    }
}
