//! Redis and other nodes say anything: the node goes on, and its tables stay small.

use std::sync::Arc;

use proptest::prelude::*;

use super::buckets::Fake;
use crate::bans::Subject;
use crate::cluster::interest::Interest;
use crate::cluster::node::{Node, Settings};
use crate::cluster::ops::{
    Effect, Entry, Kind, Level, LogId, Message, NodeId, Op, OpId, Ownership, Reply, Request, StoreTime, Topic, UserFull,
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
        prop::collection::vec((names(), node_ids()), 0..3).prop_map(Reply::Found),
        (now, prop::collection::vec((names(), any::<Option<u64>>(), names()), 0..3), log_ids()).prop_map(
            |(now, bans, log)| {
                let bans = bans.into_iter();
                let ban =
                    |(user, until, reason): (_, Option<u64>, _)| (Subject::User(user), until.map(StoreTime), reason);
                Reply::Bans { now, bans: bans.map(ban).collect(), log }
            }
        ),
        (any::<u64>(), log_ids(), prop::collection::vec((log_ids(), entries()), 0..4))
            .prop_map(|(now, oldest, entries)| Reply::Log { now: StoreTime(now), oldest, entries }),
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
        Op::ReadLog { .. } => Reply::Log { now: StoreTime(0), oldest: LogId(0, 0), entries: Vec::new() },
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

fn alone(interest: &Arc<Interest>, now: Moment) -> Node {
    let settings = Settings { id: NodeId([1; 16]), name: "n".into(), lease_ms: 10_000, user_limits: true };
    Node::new(settings, Arc::new(Fake::default()), Arc::clone(interest), 1, now)
}

fn message(to: &[&str]) -> What {
    let to = to.iter().map(|room| Topic::Room((*room).into())).collect();
    What::Message(Message { to, kind: Kind::Text, plain: false, payload: b"x"[..].into() })
}

/// Whether a message that comes by room `a` is delivered.
fn is_delivered(node: &mut Node, number: u64, what: &What) -> bool {
    let (mut effects, is_listed) = (Vec::new(), matches!(what, What::Message(message) if message.to.len() > 1));
    let bytes = encode(NodeId([2; 16]), number, what, is_listed);
    node.heard(&Topic::Room("a".into()), &bytes, Moment::from_millis(5), &mut effects);
    matches!(effects[..], [Effect::Deliver(_)])
}

#[test]
fn a_made_up_number_silences_no_node() {
    let (one, two) = (message(&["a"]), message(&["a", "b"]));
    for forged in [&one, &two] {
        let mut node = alone(&Arc::default(), Moment::from_millis(5));
        assert!(is_delivered(&mut node, 10, &two) && !is_delivered(&mut node, 10, &two));
        assert!(is_delivered(&mut node, u64::MAX, forged));
        for number in 20..30 {
            assert!(is_delivered(&mut node, number, &one) && is_delivered(&mut node, number, &two), "{number}");
            assert!(!is_delivered(&mut node, number, &two), "{number} comes twice");
        }
    }
}

/// Shards of a Redis Cluster are not equally busy.
#[test]
fn a_message_for_one_room_arrives_however_late() {
    let mut node = alone(&Arc::default(), Moment::from_millis(5));
    for number in [100_000, 1, 90_000] {
        assert!(is_delivered(&mut node, number, &message(&["a"])), "{number}");
    }
}

#[test]
fn bans_without_a_place_hold_up_no_revocation_and_no_room() {
    let interest = Arc::new(Interest::default());
    let mut now = Moment::from_millis(5);
    let mut node = alone(&interest, now);
    let (mut ops, mut effects) = (Vec::new(), Vec::new());
    let is_ban = |op: &Op| matches!(op, Op::Ban { .. });
    let mut step = |node: &mut Node, now: Moment| {
        node.poll(now, &mut ops, &mut effects);
        let asked = core::mem::take(&mut ops);
        for (id, op) in &asked {
            let reply = if is_ban(op) { Reply::Failed("65536 bans are in force".into()) } else { fitting(op) };
            node.reply(*id, reply, now, &mut effects);
        }
        asked
    };
    node.connected(now);
    while !node.is_reachable() {
        step(&mut node, now);
    }
    let mut said = Vec::new();
    for number in 0..600 {
        let subject = Subject::User(format!("u{number}").into());
        node.request(Request::Ban { subject, for_ms: None, reason: "".into() }, now, &mut said);
    }
    assert!(step(&mut node, now).iter().any(|(_, op)| is_ban(op)));
    node.request(Request::Disconnect { user: "alice".into() }, now, &mut said);
    interest.up(Topic::Room("a".into()));
    let asked = step(&mut node, now);
    assert!(asked.iter().any(|(_, op)| matches!(op, Op::Subscribe { topic: Topic::Room(_) })), "{asked:?}");
    let mut is_revoked = false;
    for _ in 0..20 {
        now = now.after_millis(500);
        is_revoked |= step(&mut node, now).iter().any(|(_, op)| matches!(op, Op::Disconnect { .. }));
    }
    assert!(is_revoked, "the revocation waits behind bans that have no place");
}

#[test]
fn more_revocations_than_are_kept_are_one_of_everybody_and_take_no_room_of_bans() {
    let mut now = Moment::from_millis(5);
    let mut node = alone(&Arc::default(), now);
    let (mut ops, mut effects) = (Vec::new(), Vec::new());
    for number in 0..70_000 {
        node.request(Request::Disconnect { user: format!("u{number}").into() }, now, &mut effects);
    }
    let banned = Subject::User("mallory".into());
    node.request(Request::Ban { subject: banned.clone(), for_ms: None, reason: "".into() }, now, &mut effects);
    node.connected(now);
    let (mut revoked, mut banned_there) = (std::collections::HashSet::new(), false);
    for _ in 0..1000 {
        now = now.after_millis(1);
        node.poll(now, &mut ops, &mut effects);
        for (id, op) in ops.drain(..) {
            match &op {
                Op::Disconnect { user, .. } => drop(revoked.insert(Arc::clone(user))),
                Op::Ban { subject, .. } => banned_there |= *subject == banned,
                _ => {}
            }
            node.reply(id, fitting(&op), now, &mut effects);
        }
    }
    assert!(revoked.contains("") && revoked.contains("u65535") && revoked.len() == 65_537, "{}", revoked.len());
    assert!(banned_there && node.dropped() == 0);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Unban { .. })));
}

#[test]
fn a_revocation_of_everybody_closes_all_that_was_there() {
    let mut node = alone(&Arc::default(), Moment::START);
    let (mut ops, mut effects, mut now) = (Vec::new(), Vec::new(), Moment::from_millis(500));
    node.connected(now);
    for _ in 0..20 {
        now = now.after_millis(1);
        node.poll(now, &mut ops, &mut effects);
        for (id, op) in ops.drain(..) {
            let entry = |number| (LogId(1_000, number), Entry::Disconnect { user: "".into(), node: NodeId([2; 16]) });
            let reply = match op {
                Op::ReadLog { after } if after < LogId(1_000, 1) => {
                    Reply::Log { now: StoreTime(1), oldest: LogId::default(), entries: vec![entry(1)] }
                }
                _ => fitting(&op),
            };
            node.reply(id, reply, now, &mut effects);
        }
    }
    let all = effects.iter().filter(|effect| matches!(effect, Effect::DisconnectAll { .. }));
    assert_eq!(all.count(), 1, "{effects:?}");
}

#[test]
fn an_owner_whose_buckets_were_taken_is_told() {
    let (mut node, owner) = (alone(&Arc::default(), Moment::from_millis(5)), NodeId([2; 16]));
    let (mut ops, mut effects, mut now) = (Vec::new(), Vec::new(), Moment::from_millis(5));
    let mut taken = 0;
    node.connected(now);
    for round in 0..2000 {
        if round == 50 {
            assert!(node.is_reachable());
            node.request(Request::Enter { ticket: 1, user: "u".into(), most: 9 }, now, &mut effects);
        }
        now = now.after_millis(1);
        node.poll(now, &mut ops, &mut effects);
        let take_over = ops.iter().position(|(_, op)| matches!(op, Op::TakeOver { .. }));
        if let Some(at) = take_over {
            let is_told =
                |(_, op): &(OpId, Op)| matches!(op, Op::Publish { topic, .. } if *topic == Topic::Node(owner));
            assert!(ops[at..].iter().any(is_told), "{ops:?}");
            taken += 1;
        }
        for (id, op) in ops.drain(..) {
            let (time, ownership, levels) = (StoreTime(1_000_000), Ownership::Awaits(owner), Vec::new());
            let reply = match &op {
                Op::Enter { .. } | Op::Restore { .. } => {
                    let others = vec![(owner, 1)];
                    Reply::Entered { now: time, outcome: Ok(()), others, ownership, levels }
                }
                Op::Report { .. } | Op::Share { .. } | Op::TakeOver { .. } => {
                    Reply::Levels { now: time, ownership, levels, is_known: true }
                }
                _ => fitting(&op),
            };
            node.reply(id, reply, now, &mut effects);
        }
    }
    assert!(taken > 0);
}
