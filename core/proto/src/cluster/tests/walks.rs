//! One thing after the other: what is promised where nothing is in the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::buckets::{BURST, LEASE, RATE};
use super::store::Store;
use super::world::{LEASE_MS, World};
use crate::bans::Subject;
use crate::cluster::ops::{Kind, LogId, Message, NodeId, Op, Request, Topic};

fn room(name: &str) -> Topic {
    Topic::Room(name.into())
}

fn joined(nodes: usize) -> World {
    let mut world = World::new(nodes, true);
    world.connect_all();
    world.run(200);
    assert!(world.peers.iter().all(|peer| peer.is_reachable));
    world
}

fn passes(world: &World, at: usize, user: &Arc<str>) -> u32 {
    (0..100).filter(|_| world.peers[at].buckets.pass(user, world.now)).count() as u32
}

#[test]
fn a_node_alone_reaches_nobody_until_another_joins() {
    let mut world = joined(1);
    world.run(3000);
    world.up(0, &room("a"));
    world.flow();
    for topic in [Topic::All, room("a"), room("b")] {
        assert!(!world.peers[0].interest.reaches_others(&topic));
    }
    world.add_peer();
    world.connect_all();
    world.flow();
    assert!(world.peers[0].interest.reaches_others(&Topic::All));
    assert!(world.peers[0].interest.reaches_others(&room("b")));
    // Whoever has the room alone says so to nobody, from its own `joined` or from a message that one received.
    world.publish(0, &[room("a")], 1);
    world.flow();
    assert!(!world.peers[0].interest.reaches_others(&room("a")));
    world.up(1, &room("a"));
    world.flow();
    assert!(world.peers[0].interest.reaches_others(&room("a")) && world.peers[1].interest.reaches_others(&room("a")));
    world.down(1, &room("a"));
    world.flow();
    world.publish(0, &[room("a")], 2);
    world.flow();
    assert!(!world.peers[0].interest.reaches_others(&room("a")));
    assert_eq!(world.peers[1].delivered, []);
}

/// Redis answered that one node hears it; before that answer came, another said that it does.
#[test]
fn an_answer_that_comes_late_does_not_hide_who_joined_meanwhile() {
    let mut world = joined(2);
    world.up(0, &room("a"));
    // Subscribed, and `joined` is carried out, but not answered.
    world.poll(0);
    while world.carry_out(0, 0) {}
    while world.answer(0) {}
    world.poll(0);
    while world.carry_out(0, 0) {}
    world.up(1, &room("a"));
    for _ in 0..3 {
        world.poll(1);
        while world.carry_out(1, 0) | world.answer(1) {}
    }
    while world.hear(0) {}
    while world.answer(0) {}
    world.flow();
    assert!(world.peers[0].interest.reaches_others(&room("a")));
    assert!(world.peers[1].interest.reaches_others(&room("a")));
}

#[test]
fn a_message_to_many_topics_arrives_once() {
    let mut world = joined(3);
    let rooms: Vec<_> = (0..20).map(|number| room(&number.to_string())).collect();
    for room in &rooms {
        world.up(1, room);
    }
    world.up(2, &rooms[3]);
    world.flow();
    for to in [&rooms[..1], &rooms[..5], &rooms[..]] {
        world.publish(0, to, 1);
        world.flow();
        let [first, second] = [1, 2].map(|at| core::mem::take(&mut world.peers[at].delivered));
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].to, to);
        assert_eq!(second.len(), usize::from(to.len() > 3));
    }
    assert_eq!(world.peers[0].delivered, []);
}

#[test]
fn messages_beyond_the_bound_are_dropped_and_counted() {
    let mut world = joined(2);
    world.up(1, &room("a"));
    world.flow();
    let payload: Arc<[u8]> = vec![0; 20 << 20].into();
    let message = Message { to: vec![room("a")], kind: Kind::Binary, plain: true, payload };
    (0..5).for_each(|_| world.request(0, Request::Publish(message.clone())));
    assert_eq!(world.peers[0].node.dropped(), 2);
    world.flow();
    assert_eq!(world.peers[1].delivered.len(), 3);
    world.request(0, Request::Publish(message.clone()));
    world.disconnect(0);
    world.request(0, Request::Publish(message));
    assert_eq!(world.peers[0].node.dropped(), 4);
}

/// Members that were just told to go are not counted, and hear what was said before they are.
#[test]
fn what_is_asked_next_does_not_overtake_a_message() {
    let mut world = joined(2);
    world.up(1, &room("a"));
    world.run(100);
    let message = Message { to: vec![room("a")], kind: Kind::Clear, plain: true, payload: Arc::default() };
    world.request(0, Request::Publish(message));
    world.request(0, Request::Count { ticket: 1, topic: room("a"), until: world.now.after_millis(1000) });
    world.poll(0);
    let mut said = Vec::new();
    while let Some((_, op)) = world.peers[0].next_op() {
        if let Op::Publish { topic: Topic::Room(_), bytes } = op {
            said.push(bytes[26]);
        }
        world.carry_out(0, 0);
    }
    assert_eq!(said, [5, 9], "the kinds of the messages: clear, asked");
}

/// Redis takes 100 KB a second. What is more is dropped, and nothing that is not a message waits for long.
#[test]
fn more_messages_than_the_link_carries_do_not_cut_a_node_off() {
    let mut world = joined(2);
    world.up(1, &room("a"));
    world.run(100);
    let message = |number: u32| {
        let payload = [&[0][..], &number.to_be_bytes(), &[0; 2000]].concat().into();
        Message { to: vec![room("a")], kind: Kind::Binary, plain: true, payload }
    };
    let user: Arc<str> = "u".into();
    let mut slowest = 0;
    for step in 0..600_u32 {
        (0..10).for_each(|more| world.request(0, Request::Publish(message(step * 10 + more))));
        if step % 100 == 49 {
            world.enter(0, &user, 100);
        }
        // One of 2 KB each 20 ms; what is not a message takes no time.
        world.poll(0);
        let mut is_message = false;
        while !is_message && let Some((_, op)) = world.peers[0].next_op() {
            is_message = matches!(op, Op::Publish { topic: Topic::Room(_), .. });
            world.carry_out(0, 0);
            world.answer(0);
        }
        world.poll(1);
        while world.carry_out(1, 0) | world.answer(1) | world.hear(1) | world.hear(0) {}
        world.pass_time(20);
        slowest = if world.peers[0].asked.is_empty() { 0 } else { slowest + 1 };
        assert!(slowest * 20 < 900, "a connection waits for its place");
    }
    assert_eq!((world.peers[0].outages, world.peers[1].outages), (0, 0));
    assert_eq!(world.peers[0].held[&user], 6);
    let heard: Vec<_> = world.peers[1].delivered.iter().map(|message| message.payload[1..5].to_vec()).collect();
    assert!(heard.len() > 500 && heard.is_sorted(), "{}", heard.len());
    assert!(world.peers[0].node.dropped() > 4000, "{}", world.peers[0].node.dropped());
}

#[test]
fn an_owner_shares_and_owns_again() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    world.enter(0, &user, 9);
    world.flow();
    assert!(!world.peers[0].buckets.is_shared("ada"));
    assert_eq!(passes(&world, 0, &user), BURST as u32);
    world.enter(1, &user, 9);
    world.run(100);
    assert!(world.peers.iter().all(|peer| peer.buckets.is_shared("ada")));
    assert_eq!(passes(&world, 0, &user) + passes(&world, 1, &user), 0, "what the owner passed counts");
    world.run(5000);
    let mut passed = 0;
    for _ in 0..50 {
        passed += passes(&world, 0, &user) + passes(&world, 1, &user);
        world.run(20);
    }
    assert!(f64::from(passed) <= BURST + RATE + 2.0 * LEASE, "{passed}");
    assert!(f64::from(passed) >= BURST + RATE - 2.0, "{passed}");
    world.exit(1, &user);
    world.flow();
    world.run(2000);
    passes(&world, 0, &user);
    world.run(100);
    assert!(!world.peers[0].buckets.is_shared("ada"), "the only one owns again");
}

/// Three nodes that hold ada.
fn three_share(user: &Arc<str>) -> World {
    let mut world = joined(3);
    (0..3).for_each(|at| world.enter(at, user, 9));
    world.run(200);
    assert!(world.peers.iter().all(|peer| peer.buckets.is_shared(user)));
    world
}

#[test]
fn what_came_from_another_key_is_not_added_up() {
    let user: Arc<str> = "ada".into();
    // Answers come; nobody knows whether one was carried out; a node is cut off before it has said it.
    for outcome in 0..4 {
        let mut world = three_share(&user);
        for peer in &world.peers {
            peer.buckets.fill_to(&user, 6.0, world.now);
        }
        world.pass_time(20);
        (0..3).for_each(|at| world.poll(at));
        match outcome {
            3 => world.break_off(0, 0),
            outcome => while world.carry_out(0, outcome) {},
        }
        world.connect_all();
        world.run(100);
        let (level, left) = (world.store.users[&user].level_at(world.store.now), 6.0 - RATE * 0.13);
        assert!(level > left - 0.5 && level <= 6.0, "{outcome}: {level}, and {left} is left of what each has said");
        for peer in &world.peers {
            let level = peer.buckets.level(&user, world.now);
            assert!(level > left - 0.5 && level <= 6.0, "{outcome}: {level} at {:?}", peer.id);
        }
    }
}

#[test]
fn a_node_that_goes_says_first_what_came_from_another_key() {
    let user: Arc<str> = "ada".into();
    for is_stopped in [false, true] {
        let mut world = three_share(&user);
        world.peers[0].buckets.fill_to(&user, 6.0, world.now);
        if is_stopped {
            let (id, now) = (world.peers[0].id, world.now);
            for op in world.peers[0].node.stop(now) {
                world.store.carry_out(id, &op);
            }
        } else {
            world.exit(0, &user);
            world.flow();
        }
        let level = world.store.users[&user].level_at(world.store.now);
        assert!(level > 5.5, "{is_stopped}: {level}");
    }
}

#[test]
fn levels_outlive_the_last_connection() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    world.enter(0, &user, 9);
    world.flow();
    assert_eq!(passes(&world, 0, &user), BURST as u32);
    world.exit(0, &user);
    world.enter(1, &user, 9);
    world.flow();
    assert_eq!(passes(&world, 1, &user), 0, "to reconnect elsewhere is no fresh burst");
}

#[test]
fn an_owner_that_does_not_answer_is_taken_over_from() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    world.enter(0, &user, 9);
    world.flow();
    world.enter(1, &user, 9);
    let mut passed = passes(&world, 0, &user);
    // The first is paused: nothing of it moves, its connection stays.
    for _ in 0..1500 {
        world.pass_time(1);
        world.poll(1);
        while world.carry_out(1, 0) | world.answer(1) | world.hear(1) {
            world.poll(1);
        }
        passed += passes(&world, 1, &user);
    }
    assert!(world.peers[1].asked.is_empty());
    assert!(f64::from(passed) <= BURST + LEASE + RATE * 0.6, "{passed}");
    world.run(3000);
    passed = passes(&world, 1, &user);
    assert!(passed > 0, "the lease is free again");
    world.run(500);
    assert!(world.peers.iter().all(|peer| peer.is_reachable && peer.buckets.is_shared("ada")));
}

#[test]
fn the_limit_of_connections_is_for_all_and_the_dead_do_not_count() {
    let mut world = joined(3);
    let user: Arc<str> = "ada".into();
    for at in [0, 1, 1] {
        world.enter(at, &user, 3);
    }
    world.flow();
    world.enter(2, &user, 3);
    world.flow();
    assert_eq!((world.refused, world.peers[1].held[&user]), (1, 2));
    // The second one dies; within the lease its connections are gone.
    let id = world.peers[1].id;
    world.peers.remove(1);
    world.store.subscriptions.remove(&id);
    world.run(LEASE_MS);
    for at in [1, 1] {
        world.enter(at, &user, 3);
    }
    world.flow();
    assert_eq!((world.refused, world.peers[1].held[&user]), (1, 2));
    let counts = &world.store.users[&user].counts;
    assert!(!counts.contains_key(&id), "{counts:?}");
}

#[test]
fn a_dead_node_that_nobody_shares_with_is_noticed_when_somebody_is_refused() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    (0..2).for_each(|_| world.enter(0, &user, 2));
    world.flow();
    let id = world.peers[0].id;
    world.peers.remove(0);
    world.store.subscriptions.remove(&id);
    // Before its lease is over it counts.
    world.enter(0, &user, 2);
    world.flow();
    assert_eq!(world.refused, 1);
    world.run(LEASE_MS);
    world.enter(0, &user, 2);
    world.flow();
    assert_eq!((world.refused, world.peers[0].held.get(&user)), (1, Some(&1)));
}

/// It died between its enter and its word to the owner, who then kept alive what it did not know of.
#[test]
fn a_node_that_dies_as_it_enters_leaves_nothing_to_an_owner_that_never_heard_of_it() {
    let mut world = joined(2);
    let users: Vec<Arc<str>> = (0..600).map(|number| format!("user {number}").into()).collect();
    for user in &users {
        world.enter(0, user, 2);
    }
    world.flow();
    for user in &users {
        world.enter(1, user, 2);
    }
    world.poll(1);
    while world.carry_out(1, 0) {}
    world.disconnect(1);
    let dead = world.peers.pop().unwrap().id;
    let is_noted = |world: &World| users.iter().any(|user| world.store.users[user].counts.contains_key(&dead));
    assert!(is_noted(&world));
    world.run(LEASE_MS);
    assert!(!is_noted(&world), "the owner does not know of the dead");
    for user in &users {
        world.enter(0, user, 2);
    }
    world.flow();
    assert_eq!(world.refused, 0);
}

#[test]
fn a_flushed_database_is_told_everything_again() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    let subject = Subject::User("eve".into());
    (0..2).for_each(|at| world.enter(at, &user, 9));
    world.request(0, Request::Ban { subject: subject.clone(), for_ms: None, reason: "spam".into() });
    world.run(100);
    assert!(world.peers[1].banned.contains(&subject));
    world.store.flush();
    world.run(LEASE_MS);
    assert_eq!(world.store.users[&user].counts.len(), 2);
    assert!(world.store.bans.contains_key(&subject));
    world.add_peer();
    world.connect_all();
    world.run(100);
    assert!(world.peers[2].banned.contains(&subject), "nodes that start later are told");
    world.request(2, Request::Unban { subject: subject.clone() });
    world.run(100);
    assert!(!world.peers[1].banned.contains(&subject));
    world.request(1, Request::Disconnect { user });
    world.run(100);
    assert_eq!(world.peers.iter().map(|peer| peer.disconnects.len()).collect::<Vec<_>>(), [1, 0, 1]);
}

#[test]
fn nobody_who_was_cut_off_misses_a_revocation() {
    let mut world = joined(3);
    let user: Arc<str> = "ada".into();
    world.disconnect(2);
    for _ in 0..600 {
        world.pass_time(1);
        world.request(0, Request::Disconnect { user: Arc::clone(&user) });
        world.flow();
    }
    let revoked = world.now;
    // One that is cut off itself says it when it is back.
    world.disconnect(1);
    world.request(1, Request::Disconnect { user: "bob".into() });
    world.request(1, Request::Ban { subject: Subject::User("eve".into()), for_ms: Some(9000), reason: "x".into() });
    world.run(2000);
    world.connect_all();
    world.run(100);
    let disconnects = &world.peers[2].disconnects;
    assert_eq!(disconnects.len(), 601);
    assert!(disconnects.iter().any(|(_, before, _)| *before >= revoked));
    assert!(disconnects.iter().all(|(name, before, now)| before < now || **name == *"bob"));
    assert_eq!(world.peers[0].disconnects.len(), 1);
    assert!(world.peers[2].banned.contains(&Subject::User("eve".into())));
}

#[test]
fn a_ban_that_was_lifted_meanwhile_is_lifted_here() {
    let mut world = joined(2);
    let [eve, bob] = ["eve", "bob"].map(|name| Subject::User(name.into()));
    for subject in [&eve, &bob] {
        world.request(0, Request::Ban { subject: subject.clone(), for_ms: Some(60_000), reason: "x".into() });
    }
    world.run(100);
    world.disconnect(1);
    world.request(0, Request::Unban { subject: eve.clone() });
    world.run(100);
    world.connect_all();
    world.run(100);
    assert_eq!(world.peers[1].banned.iter().collect::<Vec<_>>(), [&bob]);
    // Of two that say something else at once, the log knows the last; both come to the same.
    world.request(0, Request::Unban { subject: bob.clone() });
    world.request(1, Request::Ban { subject: bob.clone(), for_ms: None, reason: "y".into() });
    world.peers[0].banned.remove(&bob);
    world.peers[1].banned.insert(bob.clone());
    world.run(100);
    let is_banned = world.store.bans.contains_key(&bob);
    assert!(world.peers.iter().all(|peer| peer.banned.contains(&bob) == is_banned));
}

#[test]
fn members_everywhere_are_counted() {
    for counts_receivers in [true, false] {
        let mut world = World::new(4, counts_receivers);
        world.connect_all();
        world.run(200);
        for at in 0..3 {
            world.up(at, &room("a"));
            let connections = (0..u64::from(at as u8) * 70_000).collect();
            world.members.insert((at, room("a")), connections);
        }
        world.flow();
        let until = world.now.after_millis(500);
        world.request(0, Request::Count { ticket: 1, topic: room("a"), until });
        world.flow();
        assert_eq!(world.peers[0].counted, [(1, 210_000, 0)]);
        // Whoever does not answer is missing, and nobody waits for longer than was said.
        world.request(3, Request::Count { ticket: 2, topic: room("a"), until });
        for _ in 0..20 {
            world.poll(3);
            while world.carry_out(3, 0) | world.answer(3) {}
        }
        world.pass_time(500);
        world.poll(3);
        assert_eq!(world.peers[3].counted, [(2, 0, 3)]);
        world.disconnect(1);
        world.request(1, Request::Count { ticket: 3, topic: Topic::All, until });
        assert_eq!(world.peers[1].counted, [(3, 0, 3)]);
    }
}

/// Redis counts the node that asks as well, if it hears the topic at that time.
#[test]
fn a_question_right_behind_a_member_that_goes_or_comes_misses_nobody() {
    let mut world = joined(2);
    for (before, after) in [("du", "qf"), ("u", "qdf"), ("", "uqf"), ("du", "uqdf"), ("u", "duqf"), ("", "quf")] {
        let steps = |world: &mut World, steps: &str| {
            for step in steps.chars() {
                match step {
                    'u' => world.up(0, &room("a")),
                    'd' => world.down(0, &room("a")),
                    'q' => {
                        let until = world.now.after_millis(500);
                        world.request(0, Request::Count { ticket: 1, topic: room("a"), until });
                    }
                    _ => world.flow(),
                }
            }
        };
        for is_polled in [false, true] {
            world.up(1, &room("a"));
            world.members.insert((1, room("a")), vec![7]);
            steps(&mut world, before);
            world.flow();
            for step in after.split_inclusive(|_| is_polled) {
                world.poll(0);
                steps(&mut world, step);
            }
            let counted = core::mem::take(&mut world.peers[0].counted);
            assert_eq!(counted, [(1, 1, 0)], "{before} {after} {is_polled}");
            while world.has(0, &room("a")) {
                world.down(0, &room("a"));
            }
            world.down(1, &room("a"));
            world.flow();
        }
    }
}

#[test]
fn nodes_of_another_database_are_not_missing() {
    let mut world = joined(3);
    let topics = [room("a"), Topic::Room("b".into()), Topic::User("u".into())];
    for (at, topic) in [(0, 0), (1, 0), (1, 1)] {
        world.up(at, &topics[topic]);
        world.members.insert((at, topics[topic].clone()), vec![9]);
    }
    world.flow();
    // They hear the same channels, and answer nothing.
    let theirs = topics.iter().cloned().chain([Topic::All]).collect();
    world.store.subscriptions.insert(NodeId([99; 16]), theirs);
    world.peers[0].node.overheard(world.now);
    world.poll(0);
    let says = |world: &World| {
        world.peers[0].next_op().is_some_and(|(_, op)| matches!(op, Op::Publish { topic: Topic::All, .. }))
    };
    assert!(says(&world), "those who were there before hear that there are others, too");
    world.flow();
    world.peers[0].node.overheard(world.now);
    world.poll(0);
    assert!(!says(&world), "once");
    let until = world.now.after_millis(500);
    for (ticket, topic) in topics.iter().cloned().chain([Topic::All]).enumerate() {
        world.request(0, Request::Count { ticket: ticket as u64, topic, until });
    }
    world.flow();
    world.peers[0].counted.sort_unstable();
    assert_eq!(world.peers[0].counted, [(0, 1, 0), (1, 1, 0), (2, 0, 0), (3, 0, 0)]);
}

#[test]
fn whoever_listens_to_all_channels_is_no_missing_node() {
    let mut world = joined(3);
    world.up(0, &room("a"));
    world.up(1, &room("a"));
    world.members.insert((1, room("a")), vec![9]);
    for (listeners, ticket) in [(2, 1), (0, 2), (1, 3)] {
        world.store.listeners = listeners;
        // A probe is what tells.
        world.run(1600);
        for topic in [room("a"), Topic::All] {
            let until = world.now.after_millis(500);
            world.request(0, Request::Count { ticket, topic, until });
            world.flow();
        }
        let counted = core::mem::take(&mut world.peers[0].counted);
        assert_eq!(counted, [(ticket, 1, 0), (ticket, 0, 0)], "{listeners}");
    }
}

#[test]
fn a_ban_that_redis_lost_when_it_was_set_back_is_said_again() {
    let mut world = joined(3);
    let [old, kept, lost] = ["old", "kept", "lost"].map(|name| Subject::User(name.into()));
    let ban = |subject: &Subject| Request::Ban { subject: subject.clone(), for_ms: Some(60_000), reason: "x".into() };
    for subject in [&old, &kept] {
        world.request(0, ban(subject));
        world.peers[0].banned.insert(subject.clone());
    }
    world.run(LEASE_MS);
    // This node is away while a ban is lifted, before the log is set back: that it knows the ban is no reason to say it again.
    world.disconnect(2);
    world.request(1, Request::Unban { subject: old.clone() });
    world.peers[1].banned.remove(&old);
    world.run(100);
    let saved = world.store.save();
    world.request(0, ban(&lost));
    world.peers[0].banned.insert(lost.clone());
    world.run(LEASE_MS);
    (0..2).for_each(|at| world.disconnect(at));
    world.store.set_back(saved);
    world.connect_all();
    world.run(LEASE_MS);
    assert!(!world.store.bans.contains_key(&old) && world.store.bans.contains_key(&lost));
    let all = BTreeSet::from([kept.clone(), lost.clone()]);
    assert!(world.peers.iter().all(|peer| peer.banned == all));
    // Once that is over, what is lifted elsewhere is lifted here, as before.
    world.disconnect(2);
    world.request(1, Request::Unban { subject: lost.clone() });
    world.peers[1].banned.remove(&lost);
    world.run(100);
    world.connect_all();
    world.run(LEASE_MS);
    assert!(world.peers.iter().all(|peer| peer.banned == BTreeSet::from([kept.clone()])));
}

/// Two nodes held a user when the store was saved, and the first does no more.
fn left_since_it_was_saved() -> (World, Arc<str>, Store) {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    world.enter(0, &user, 2);
    world.enter(1, &user, 2);
    world.flow();
    let saved = world.store.save();
    world.exit(0, &user);
    world.run(LEASE_MS / 2);
    (world, user, saved)
}

/// A replica takes over that has not got the last moments, or a disk is read again.
#[test]
fn whoever_left_before_redis_was_set_back_is_not_counted_for_ever() {
    let (mut world, user, saved) = left_since_it_was_saved();
    assert_eq!(world.store.users[&user].counts.len(), 1);
    (0..2).for_each(|at| world.disconnect(at));
    world.store.set_back(saved);
    world.connect(1);
    world.run(LEASE_MS);
    world.connect(0);
    world.run(1000);
    world.enter(0, &user, 2);
    world.flow();
    assert_eq!((world.refused, world.peers[0].held[&user]), (0, 1));
    // Nothing is remembered for longer than it can be of use.
    world.exit(0, &user);
    world.run(3 * LEASE_MS);
    world.disconnect(0);
    world.connect(0);
    let mut ops = Vec::new();
    world.peers[0].node.poll(world.now, &mut ops, &mut Vec::new());
    world.run(1000);
    assert!(!ops.iter().any(|(_, op)| matches!(op, Op::Restore { .. })));
}

/// Replicas may take over one after another, each as late as the first.
#[test]
fn whoever_left_is_not_counted_however_often_redis_is_set_back() {
    let (mut world, user, saved) = left_since_it_was_saved();
    for _ in 0..3 {
        (0..2).for_each(|at| world.disconnect(at));
        world.store.set_back(saved.clone());
        world.connect_all();
        world.run(100);
        assert_eq!(world.store.users[&user].counts.len(), 1);
    }
}

/// The users that the first node states again after an outage.
fn stated_again(world: &mut World) -> BTreeSet<Arc<str>> {
    let mut stated = BTreeSet::new();
    world.disconnect(0);
    world.connect(0);
    for _ in 0..1000 {
        world.poll(0);
        if let Some((_, Op::Restore { user, .. })) = world.peers[0].next_op() {
            stated.insert(Arc::clone(user));
        }
        world.carry_out(0, 0);
        world.answer(0);
        world.hear(0);
        world.pass_time(1);
    }
    stated
}

/// Whoever is refused again and again would push out those who have left.
#[test]
fn who_was_only_refused_is_not_remembered() {
    let mut world = joined(2);
    let (user, other): (Arc<str>, Arc<str>) = ("ada".into(), "bob".into());
    world.enter(1, &user, 1);
    world.enter(0, &other, 1);
    world.flow();
    world.enter(0, &user, 1);
    world.exit(0, &other);
    world.flow();
    assert_eq!((world.refused, stated_again(&mut world)), (1, BTreeSet::from([other])));
}

#[test]
fn who_left_is_remembered_although_the_next_is_refused() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    (0..2).for_each(|at| world.enter(at, &user, 2));
    world.flow();
    let saved = world.store.save();
    world.enter(0, &user, 1);
    world.exit(0, &user);
    world.flow();
    assert_eq!(world.refused, 1);
    (0..2).for_each(|at| world.disconnect(at));
    world.store.set_back(saved);
    world.connect_all();
    world.run(100);
    assert_eq!(world.store.users[&user].counts.len(), 1);
}

/// It was let in when a second was over, and Redis refused it then: it is open all the same.
#[test]
fn whoever_is_open_and_was_refused_counts() {
    let mut world = joined(2);
    let user: Arc<str> = "ada".into();
    world.enter(1, &user, 1);
    world.flow();
    world.enter(0, &user, 1);
    world.flow();
    assert_eq!(world.refused, 1);
    world.request(0, Request::Stay { user: Arc::clone(&user) });
    world.flow();
    let count = |world: &World| world.store.users[&user].counts.values().sum::<u32>();
    assert_eq!(count(&world), 2);
    world.exit(1, &user);
    world.flow();
    world.enter(1, &user, 1);
    world.flow();
    assert_eq!((world.refused, count(&world)), (2, 1));
    world.request(0, Request::Exit { user: Arc::clone(&user) });
    world.enter(1, &user, 1);
    world.flow();
    assert_eq!((world.refused, count(&world)), (2, 1));
}

#[test]
fn a_deaf_node_hears_again_within_five_seconds() {
    let mut world = joined(2);
    world.up(1, &room("a"));
    world.run(1000);
    world.deafen(1);
    world.publish(0, &[room("a")], 1);
    world.request(0, Request::Disconnect { user: "ada".into() });
    world.run(5000);
    assert_eq!((world.peers[1].delivered.len(), world.peers[1].disconnects.len()), (0, 1));
    assert_eq!(world.peers[1].outages, 0);
    assert!(world.peers[0].interest.reaches_others(&room("a")));
    world.publish(0, &[room("a")], 2);
    world.flow();
    assert_eq!(world.peers[1].delivered.len(), 1);
}

#[test]
fn redis_that_does_not_answer_is_an_outage() {
    let mut world = joined(1);
    let user: Arc<str> = "ada".into();
    world.enter(0, &user, 1);
    world.pass_time(999);
    world.poll(0);
    assert!(world.peers[0].is_reachable && world.peers[0].held.is_empty());
    world.pass_time(1);
    world.poll(0);
    assert!(!world.peers[0].is_reachable);
    assert_eq!(world.peers[0].held[&user], 1, "nobody waits for longer than a second");
    world.enter(0, &user, 1);
    assert_eq!(world.peers[0].held[&user], 2);
    assert!(world.peers[0].node.lag(world.now).as_millis() >= 1000);
    world.run(1000);
    assert!(world.peers[0].is_reachable);
    assert_eq!(world.store.users[&user].counts[&world.peers[0].id], 2);
}

#[test]
fn a_node_that_stops_leaves_nothing() {
    let mut world = joined(2);
    let users: Vec<Arc<str>> = ["ada", "bob"].map(Into::into).to_vec();
    world.enter(0, &users[0], 9);
    world.enter(1, &users[0], 9);
    world.enter(0, &users[1], 9);
    world.flow();
    passes(&world, 0, &users[0]);
    let id = world.peers[0].id;
    for op in world.peers[0].node.stop(world.now) {
        world.store.carry_out(id, &op);
    }
    world.store.subscriptions.remove(&id);
    world.peers.remove(0);
    assert!(world.store.users.values().all(|user| !user.counts.contains_key(&id)));
    world.run(LEASE_MS);
    assert!(!world.peers[0].interest.reaches_others(&Topic::All));
}

#[test]
fn what_was_revoked_just_before_a_node_stops_is_revoked() {
    let mut world = joined(2);
    for number in 0..2000 {
        world.request(0, Request::Disconnect { user: format!("u{number}").into() });
    }
    world.poll(0);
    let id = world.peers[0].id;
    while world.carry_out(0, 0) {}
    let mut says_so = false;
    for op in world.peers[0].node.stop(world.now) {
        says_so |= matches!(op, Op::Publish { topic: Topic::All, .. });
        world.store.carry_out(id, &op);
    }
    assert!(says_so);
    world.peers.remove(0);
    world.run(LEASE_MS);
    assert_eq!(world.peers[0].disconnects.len(), 2000);
}

#[test]
fn an_outage_leaves_nothing_of_those_who_came_and_went() {
    let mut world = joined(1);
    world.disconnect(0);
    let size = |world: &World| format!("{:?}", world.peers[0].interest).len();
    let before = size(&world);
    for number in 0..20_000 {
        let user: Arc<str> = format!("u{number}").into();
        world.enter(0, &user, 9);
        world.exit(0, &user);
        world.up(0, &room(&user));
        world.down(0, &room(&user));
    }
    assert!(size(&world) < before + 100_000);
    world.connect(0);
    let mut ops = Vec::new();
    for _ in 0..100 {
        world.peers[0].node.poll(world.now, &mut ops, &mut Vec::new());
    }
    assert!(!ops.iter().any(|(_, op)| matches!(op, Op::Restore { .. })));
    let is_head = |op: &Op| matches!(op, Op::ReadLog { after } if *after == LogId(0, 0));
    assert!(!ops.iter().any(|(_, op)| is_head(op)));
}
