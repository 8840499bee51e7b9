//! Any sequence of calls, network and failures: what holds at each step, and what holds when all has come to rest.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::buckets::{BURST, LEASE, RATE};
use super::store::Store;
use super::world::World;
use crate::bans::Subject;
use crate::cluster::ops::{Request, Topic};
use crate::time::Moment;

const NODES: usize = 3;
const MOST: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Time(u64),
    Poll(usize),
    CarryOut(usize, usize),
    Fail(usize, u8),
    Answer(usize, usize),
    Hear(usize, usize),
    Flow,
    Enter(usize, usize),
    Exit(usize, usize),
    Pass(usize, usize),
    Burst(usize, usize),
    Up(usize, usize),
    Down(usize, usize),
    Publish(usize, usize),
    PublishAll(usize),
    Revoke(usize, usize),
    Ban(usize, usize),
    Unban(usize, usize),
    Count(usize, usize),
    Break(usize, usize),
    Connect(usize),
    Deafen(usize),
    Flush,
    Save,
    SetBack,
}

fn calm() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let name = 0usize..2;
    let many = 1usize..6;
    prop_oneof![
        4 => (1u64..60).prop_map(Step::Time),
        6 => node.clone().prop_map(Step::Poll),
        6 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::CarryOut(node, many)),
        6 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::Answer(node, many)),
        6 => (node.clone(), many).prop_map(|(node, many)| Step::Hear(node, many)),
        1 => Just(Step::Flow),
        3 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Enter(node, name)),
        2 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Exit(node, name)),
        8 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Pass(node, name)),
        2 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Up(node, name)),
        1 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Down(node, name)),
        4 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Publish(node, name)),
        1 => node.clone().prop_map(Step::PublishAll),
        1 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Revoke(node, name)),
        1 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Ban(node, name)),
        1 => (node.clone(), name.clone()).prop_map(|(node, name)| Step::Unban(node, name)),
        1 => (node, name).prop_map(|(node, name)| Step::Count(node, name)),
    ]
}

/// One user who sends as much as may pass, and nothing else.
fn greedy() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let many = 1usize..4;
    prop_oneof![
        2 => (1u64..40).prop_map(Step::Time),
        1 => (100u64..400).prop_map(Step::Time),
        6 => node.clone().prop_map(Step::Poll),
        4 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::CarryOut(node, many)),
        4 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::Answer(node, many)),
        4 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::Hear(node, many)),
        1 => node.clone().prop_map(|node| Step::Enter(node, 0)),
        1 => node.clone().prop_map(|node| Step::Exit(node, 0)),
        6 => (node, many).prop_map(|(node, many)| Step::Burst(node, many * 3)),
    ]
}

/// Members of one room that come and go, and messages to it.
fn sociable() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let many = 1usize..4;
    prop_oneof![
        1 => (1u64..20).prop_map(Step::Time),
        6 => node.clone().prop_map(Step::Poll),
        4 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::CarryOut(node, many)),
        4 => (node.clone(), many.clone()).prop_map(|(node, many)| Step::Answer(node, many)),
        4 => (node.clone(), many).prop_map(|(node, many)| Step::Hear(node, many)),
        2 => node.clone().prop_map(|node| Step::Up(node, 0)),
        2 => node.clone().prop_map(|node| Step::Down(node, 0)),
        2 => node.prop_map(|node| Step::Publish(node, 0)),
    ]
}

fn rough() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        30 => calm(),
        1 => (100u64..3000).prop_map(Step::Time),
        2 => (node.clone(), 1u8..3).prop_map(|(node, outcome)| Step::Fail(node, outcome)),
        1 => (node.clone(), 0usize..5).prop_map(|(node, many)| Step::Break(node, many)),
        3 => node.clone().prop_map(Step::Connect),
        1 => node.prop_map(Step::Deafen),
    ]
}

fn wild() -> impl Strategy<Value = Step> {
    prop_oneof![60 => rough(), 1 => Just(Step::Flush), 2 => Just(Step::Save), 2 => Just(Step::SetBack)]
}

struct Run {
    world: World,
    users: Vec<Arc<str>>,
    rooms: Vec<Topic>,
    numbers: u32,
    /// Who published what to which room, while others had been there for long.
    due: Vec<(usize, u32, Vec<usize>)>,
    passed: HashMap<usize, Vec<Moment>>,
    revoked: Vec<(usize, usize, Moment)>,
    counts: u64,
    saved: Option<Store>,
}

/// At most so many times, as long as there is something.
fn while_true(most: usize, mut step: impl FnMut() -> bool) {
    (0..most).all(|_| step());
}

impl Run {
    fn new(counts_receivers: bool) -> Self {
        let mut world = World::new(NODES, counts_receivers);
        world.connect_all();
        world.run(100);
        Self {
            world,
            users: ["ada", "bob"].map(Into::into).to_vec(),
            rooms: ["x", "y"].map(|name| Topic::Room(name.into())).to_vec(),
            numbers: 0,
            due: Vec::new(),
            passed: HashMap::new(),
            revoked: Vec::new(),
            counts: 0,
            saved: None,
        }
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Time(ms) => world.pass_time(ms),
            Step::Poll(at) => world.poll(at),
            Step::CarryOut(at, many) => while_true(many, || world.carry_out(at, 0)),
            Step::Fail(at, outcome) => while_true(1, || world.carry_out(at, outcome)),
            Step::Answer(at, many) => while_true(many, || world.answer(at)),
            Step::Hear(at, many) => while_true(many, || world.hear(at)),
            Step::Flow => world.flow(),
            Step::Enter(at, user) => world.enter(at, &self.users[user].clone(), MOST),
            Step::Exit(at, user) => world.exit(at, &self.users[user].clone()),
            Step::Pass(at, user) => self.pass(at, user),
            Step::Burst(at, many) => (0..many).for_each(|_| self.pass(at, 0)),
            Step::Up(at, room) => world.up(at, &self.rooms[room]),
            Step::Down(at, room) => world.down(at, &self.rooms[room]),
            Step::Publish(at, room) => {
                self.numbers += 1;
                world.publish(at, &[self.rooms[room].clone()], self.numbers);
            }
            Step::PublishAll(at) => {
                self.numbers += 1;
                world.publish(at, &[self.rooms.clone(), vec![Topic::User("u".into())]].concat(), self.numbers);
            }
            Step::Revoke(at, user) => {
                world.request(at, Request::Disconnect { user: self.users[user].clone() });
                self.revoked.push((at, user, world.now));
            }
            Step::Ban(at, user) => {
                let subject = Subject::User(self.users[user].clone());
                world.peers[at].banned.insert(subject.clone());
                world.request(at, Request::Ban { subject, for_ms: None, reason: "x".into() });
            }
            Step::Unban(at, user) => {
                let subject = Subject::User(self.users[user].clone());
                world.peers[at].banned.remove(&subject);
                world.request(at, Request::Unban { subject });
            }
            Step::Count(at, room) => {
                self.counts += 1;
                let until = world.now.after_millis(50);
                let (ticket, topic) = (self.counts, self.rooms[room].clone());
                world.request(at, Request::Count { ticket, topic, until });
            }
            Step::Break(at, carried_out) => world.break_off(at, carried_out),
            Step::Connect(at) => world.connect(at),
            Step::Deafen(at) => world.deafen(at),
            Step::Flush => world.store.flush(),
            Step::Save => self.saved = Some(world.store.save()),
            Step::SetBack => {
                if let Some(saved) = self.saved.clone() {
                    (0..NODES).for_each(|at| world.disconnect(at));
                    world.store.set_back(saved);
                }
            }
        }
    }

    fn pass(&mut self, at: usize, user: usize) {
        let (peer, name, now) = (&self.world.peers[at], &self.users[user], self.world.now);
        if peer.held.get(name).is_some_and(|held| *held > 0) && peer.buckets.pass(name, now) {
            self.passed.entry(user).or_default().push(now);
        }
    }

    /// An answer that takes a second would be an outage.
    fn keep_up(&mut self) {
        if self.world.peers.iter().any(|peer| peer.node.lag(self.world.now).as_millis() > 550) {
            self.world.flow();
        }
    }

    /// Between two steps: all that is on its way arrives, and a message is published to all that are there.
    fn publish_to_all(&mut self, at: usize, room: usize) {
        self.world.flow();
        let topic = self.rooms[room].clone();
        let there = (0..NODES).filter(|other| *other != at && self.world.has(*other, &topic)).collect();
        self.numbers += 1;
        self.world.publish(at, &[topic], self.numbers);
        self.world.flow();
        self.due.push((at, self.numbers, there));
    }

    fn messages(&self, at: usize, from: usize) -> Vec<u32> {
        let parse = |payload: &[u8]| {
            let [sender, number @ ..] = payload else { return None };
            let number = u32::from_be_bytes(number.try_into().ok()?);
            (usize::from(*sender) == from).then_some(number)
        };
        self.world.peers[at].delivered.iter().filter_map(|message| parse(&message.payload)).collect()
    }

    /// Everybody comes back, and nothing goes wrong any more.
    fn rest(&mut self) {
        self.world.connect_all();
        self.world.run(12_000);
    }

    fn check_rest(&self) {
        let world = &self.world;
        for peer in &world.peers {
            assert!(peer.is_reachable && peer.asked.is_empty(), "{:?}", peer.asked);
        }
        for name in &self.users {
            let held = |at: usize| world.peers[at].held.get(name).copied().unwrap_or(0);
            let noted = |at: usize| {
                let user = world.store.users.get(name).filter(|user| !user.counts.is_empty());
                user.and_then(|user| user.counts.get(&world.peers[at].id).copied()).unwrap_or(0)
            };
            for at in 0..NODES {
                assert_eq!(held(at), noted(at), "{name} at {at}: what is held, and what is noted");
            }
            let holders = (0..NODES).filter(|at| held(*at) > 0).count();
            for at in (0..NODES).filter(|at| held(*at) > 0 && holders > 1) {
                assert!(world.peers[at].buckets.is_shared(name), "{name} is shared at {at}");
            }
        }
        for topic in &self.rooms {
            for at in 0..NODES {
                let has = (0..NODES).any(|other| other != at && world.has(other, topic));
                assert!(!has || world.peers[at].interest.reaches_others(topic), "{topic:?} at {at}");
            }
        }
        let counted: usize = world.peers.iter().map(|peer| peer.counted.len()).sum();
        assert_eq!(counted as u64, self.counts);
    }

    fn check_bans(&self) {
        for name in &self.users {
            let subject = Subject::User(name.clone());
            let there = self.world.store.bans.contains_key(&subject);
            for (at, peer) in self.world.peers.iter().enumerate() {
                assert_eq!(peer.banned.contains(&subject), there, "{name} at {at}");
            }
        }
    }

    fn check_revocations(&self, is_calm: bool) {
        for (at, peer) in self.world.peers.iter().enumerate() {
            for (user, name) in self.users.iter().enumerate() {
                let calls: Vec<_> = self.revoked.iter().filter(|(by, whom, _)| *by != at && *whom == user).collect();
                let came: Vec<_> = peer.disconnects.iter().filter(|(whom, ..)| whom == name).collect();
                assert!(came.iter().all(|(_, before, now)| before <= now));
                // Several calls that wait for one another are one.
                for (_, _, called) in &calls {
                    assert!(came.iter().any(|(_, before, _)| before >= called), "{name} at {at}");
                }
                assert!(!is_calm || came.len() <= calls.len(), "{name} at {at}: {} of {}", came.len(), calls.len());
            }
        }
    }

    fn check_bound(&self) {
        for (user, passed) in &self.passed {
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let most = BURST + RATE * end.since(*start).as_secs_f64() + LEASE * NODES as f64;
                    let count = (last - first + 1) as f64;
                    assert!(count <= most + 0.01, "user {user}: {count} of {most} from {start:?} to {end:?}");
                }
            }
        }
    }

    fn check_order(&self) {
        for at in 0..NODES {
            for from in 0..NODES {
                let numbers = self.messages(at, from);
                assert!(numbers.is_sorted_by(|a, b| a < b), "once and in order: {numbers:?}");
                assert!(from != at || numbers.is_empty(), "nobody hears itself");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A slow network that loses nothing.
    #[test]
    fn slow_but_sound(steps in prop::collection::vec(calm(), 1..250), counts: bool, publishes in prop::collection::vec((0..NODES, 0usize..2, 0usize..250), 0..6)) {
        let mut run = Run::new(counts);
        for (index, step) in steps.iter().enumerate() {
            run.step(step);
            run.keep_up();
            for (at, room, when) in &publishes {
                if *when == index {
                    run.publish_to_all(*at, *room);
                }
            }
        }
        run.check_bound();
        run.rest();
        run.check_rest();
        run.check_bans();
        run.check_order();
        run.check_revocations(true);
        run.check_bound();
        prop_assert!(run.world.peers.iter().all(|peer| peer.outages == 0));
        for (at, number, there) in &run.due {
            for other in there {
                prop_assert!(run.messages(*other, *at).contains(number), "{number} of {at} at {other}");
            }
        }
    }

    #[test]
    fn no_more_passes_than_may(steps in prop::collection::vec(greedy(), 1..200)) {
        let mut run = Run::new(true);
        for step in &steps {
            run.step(step);
            run.keep_up();
        }
        run.check_bound();
        prop_assert!(run.world.peers.iter().all(|peer| peer.outages == 0));
    }

    #[test]
    fn whoever_has_joined_is_reached(steps in prop::collection::vec(sociable(), 1..60), counts: bool) {
        let mut run = Run::new(counts);
        for step in &steps {
            run.step(step);
        }
        run.world.flow();
        run.check_rest();
        let topic = run.rooms[0].clone();
        for at in 0..NODES {
            run.publish_to_all(at, 0);
        }
        for (at, number, there) in &run.due {
            for other in there {
                prop_assert!(run.messages(*other, *at).contains(number), "{number} of {at} at {other}");
            }
        }
        // Whoever is alone with it knows by now.
        let has: Vec<_> = (0..NODES).filter(|at| run.world.has(*at, &topic)).collect();
        if let ([at], true) = (&has[..], counts) {
            prop_assert!(!run.world.peers[*at].interest.reaches_others(&topic));
        }
    }

    /// Connections break, ops fail that were carried out or not, subscriptions go, time jumps.
    #[test]
    fn whatever_breaks(steps in prop::collection::vec(rough(), 1..250), counts: bool) {
        let mut run = Run::new(counts);
        for step in &steps {
            run.step(step);
        }
        run.rest();
        run.check_rest();
        run.check_bans();
        run.check_order();
        run.check_revocations(false);
    }

    /// The same, and the database is flushed, or set back to what it was.
    #[test]
    fn whatever_is_lost(steps in prop::collection::vec(wild(), 1..250), counts: bool) {
        let mut run = Run::new(counts);
        for step in &steps {
            run.step(step);
        }
        run.rest();
        run.check_rest();
        run.check_order();
    }
}
