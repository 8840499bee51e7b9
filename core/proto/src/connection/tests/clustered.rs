//! A connection of a user that other nodes of a cluster hold, too.

use super::*;
use crate::cluster::ops::{Buckets, Level};
use crate::limits::{Limits, Seat};

const SHARED: &str = r#", "protocol": "raw", "max_message_bytes": 100,
    "rate_limit": {"per_second": 10, "burst": 8, "queue": 1, "bytes_per_second": null}"#;

/// A connection of alice, whose buckets are shared. At most 2 messages pass without an answer of the cluster.
fn shared(more: &str) -> (Rig, Arc<Limits>, Seat) {
    let (policy, limits) = (policy(more), Arc::new(Limits::default()));
    let now = Moment::from_millis(1000);
    let mut seat = limits.enter_server(&policy).unwrap();
    seat.enter_user("alice", &policy, now).unwrap();
    limits.share("alice", true, now);
    let key = seat.rate_key(policy.rate_limit.as_ref().unwrap(), &policy.scope, now);
    (Rig::with(&policy, key), limits, seat)
}

/// The cluster answers to all that was reported.
fn acknowledge(limits: &Limits, now: Moment) {
    let used = limits.take_unreported("alice", now);
    assert!(!used.is_empty());
    limits.settle("alice", &used, true, now);
}

#[test]
fn what_waits_for_the_cluster_passes_in_order_and_soon_after_its_answer() {
    let (mut rig, limits, _seat) = shared(SHARED);
    for number in 0..6 {
        rig.text(&number.to_string());
    }
    assert_eq!(rig.seen.messages, ["0", "1"]);
    assert_eq!(rig.conn.delayed_messages(), 4, "more than queue: they are within their rate");
    // It looks again and again, and never at once.
    for _ in 0..20 {
        let next = rig.conn.next_deadline(&rig.policy);
        assert!(next > rig.now && next <= rig.now.after_millis(5));
        rig.pass(5);
    }
    assert_eq!(rig.seen.messages.len(), 2);
    acknowledge(&limits, rig.now);
    rig.pass(5);
    assert_eq!(rig.seen.messages, ["0", "1", "2"], "a quarter of what is left, and one at least");
    // What comes now goes behind.
    rig.text("6");
    for next in 3..6 {
        assert_eq!(rig.seen.messages.len(), next);
        acknowledge(&limits, rig.now);
        rig.pass(5);
    }
    assert_eq!(rig.seen.messages, ["0", "1", "2", "3", "4", "5"]);
    // The cluster cannot be reached: each node is alone.
    limits.share("alice", false, rig.now);
    rig.pass(5);
    assert_eq!(rig.seen.messages.last().unwrap(), "6");
    assert_eq!((rig.conn.delayed_messages(), rig.close_code()), (0, None));
}

#[test]
fn more_than_may_wait_for_the_cluster_closes_the_connection_and_says_so() {
    let (mut rig, limits, _seat) = shared(SHARED);
    let text = "x".repeat(99);
    for _ in 0..6 {
        rig.text(&text);
    }
    assert!(rig.conn.is_open());
    rig.text(&text);
    assert_eq!((rig.close_code(), &*rig.seen.reports), (Some(1008), &[Code::RateLimited][..]));
    assert!(
        rig.seen.details[0].starts_with("495 payload bytes would wait for the cluster to answer"),
        "{}",
        rig.seen.details[0]
    );
    rig.pass(5000);
    assert_eq!(rig.seen.messages.len(), 2);
    drop(rig);
    // What waited is given back.
    limits.share("alice", false, Moment::from_millis(1000));
    let (mut rig, limits, _seat) = shared(SHARED);
    (0..3).for_each(|_| rig.text("x"));
    rig.input(&frame(0x88, &[]));
    acknowledge(&limits, rig.now);
    rig.pass(5);
    assert_eq!((rig.seen.messages.len(), &*rig.out), (3, &[0x88, 0][..]), "behind what waited");
}

#[test]
fn one_whose_user_is_too_fast_on_all_nodes_together_is_closed() {
    let (mut rig, limits, _seat) = shared(SHARED);
    (0..3).for_each(|_| rig.text("x"));
    let mut used = limits.take_unreported("alice", rig.now);
    used[0].units = 1000.0;
    limits.settle("alice", &used, true, rig.now);
    rig.pass(5);
    assert_eq!(rig.seen.reports, [Code::RateLimited]);
    // A message costs more than the bucket holds: it passes when the bucket is empty.
    let events = r#", "events": {"big": {"cost": 9}}, "rate_limit": {"per_second": 10, "burst": 8, "queue": 9}"#;
    let (mut rig, limits, _seat) = shared(events);
    rig.text(r#"{"event": "big"}"#);
    rig.pass(100);
    assert_eq!(rig.seen.messages, ["big null"]);
    acknowledge(&limits, rig.now);
    assert!((limits.levels("alice", rig.now)[0].units - 9.0).abs() < 1e-3);
}

#[test]
fn a_reload_and_a_drain_let_what_waits_go_on() {
    let (mut rig, _limits, seat) = shared(SHARED);
    (0..4).for_each(|_| rig.text("x"));
    let before = Arc::clone(&rig.policy);
    rig.policy = policy(&SHARED.replace("\"burst\": 8", "\"burst\": 7"));
    let rate_key = seat.rate_key(rig.policy.rate_limit.as_ref().unwrap(), &rig.policy.scope, rig.now);
    let after = Arc::clone(&rig.policy);
    rig.conn.change_policy(PolicyChange { before: &before, after: &after, rate_key, roles: Roles::default() }, rig.now);
    rig.text("last");
    rig.pass(95);
    assert_eq!(rig.seen.messages.len(), 2);
    rig.pass(10);
    assert_eq!(rig.seen.messages.len(), 4, "no longer than a message may wait by the new rules");
    rig.turn(Connection::release_all_delayed);
    assert_eq!((rig.seen.messages.last().unwrap().as_str(), rig.close_code()), ("last", None));
}

/// A route has a `rate_limit` of its own, or has not.
fn of_scope(scope: &str, per_second: u32) -> Arc<Policy> {
    let rate = format!(r#"{{"per_second": {per_second}, "burst": {}, "queue": 20}}"#, per_second * 2);
    let options = format!(
        r#"{{"origins": ["https://a.example"], "auth": "none", "protocol": "raw", "ping_interval_ms": 0,
        "idle_timeout_ms": 0, "rate_limit": {rate}}}"#
    );
    let mut policy = Policy::new(Options::from_json(&options).unwrap(), &NoFiles).unwrap();
    policy.scope = scope.into();
    Arc::new(policy)
}

fn reload(rig: &mut Rig, seat: &Seat, to: &Arc<Policy>) {
    let rate_key = seat.rate_key(to.rate_limit.as_ref().unwrap(), &to.scope, rig.now);
    let before = core::mem::replace(&mut rig.policy, Arc::clone(to));
    rig.conn.change_policy(PolicyChange { before: &before, after: to, rate_key, roles: Roles::default() }, rig.now);
}

#[test]
fn nodes_that_all_reload_say_a_level_and_nothing_that_passed() {
    let (before, after) = (of_scope("/r", 20), of_scope("", 40));
    let now = Moment::from_millis(1000);
    let told = |scope: &str, units: f64, units_per_second| Level {
        scope: scope.into(),
        units,
        units_per_second,
        bytes: 20.0,
        bytes_per_second: 262_144.0,
    };
    let mut nodes: Vec<_> = (0..4)
        .map(|_| {
            let limits = Arc::new(Limits::default());
            let mut seat = limits.enter_server(&before).unwrap();
            seat.enter_user("alice", &before, now).unwrap();
            limits.share("alice", true, now);
            let key = seat.rate_key(before.rate_limit.as_ref().unwrap(), &before.scope, now);
            let mut rig = Rig::with(&before, key);
            (0..5).for_each(|_| rig.text("x"));
            drop(limits.take_unreported("alice", now));
            limits.settle("alice", &[told("/r", 20.0, 20.0)], true, now);
            (limits, seat, rig)
        })
        .collect();
    for (limits, seat, rig) in &mut nodes {
        reload(rig, seat, &after);
        assert_eq!(limits.take_dirty(), ["alice".into()]);
        assert!(limits.take_unreported("alice", now).is_empty(), "nothing has passed");
        let [least] = &limits.take_least("alice", now)[..] else { panic!("one scope has a level") };
        assert!(
            (&*least.scope, (least.units - 20.0).abs() < 1e-3, (least.bytes - 20.0).abs() < 1.0) == ("", true, true)
        );
        // It is lost, said again, and a rate changes meanwhile.
        limits.lose("alice");
        reload(rig, seat, &of_scope("", 80));
        rig.text("x");
        let (used, least) = (limits.take_unreported("alice", now), limits.take_least("alice", now));
        assert!((used[0].units - 1.0).abs() < 1e-3 && (least[0].units - 20.0).abs() < 1e-3, "{used:?} {least:?}");
        // Another answer says less than what it has not heard.
        limits.lose("alice");
        limits.settle("alice", &[told("", 3.0, 80.0)], true, now);
        assert!(
            (limits.levels("alice", now).iter().find(|level| level.scope.is_empty()).unwrap().units - 21.0).abs()
                < 1e-3
        );
        drop((limits.take_unreported("alice", now), limits.take_least("alice", now)));
    }
    for (limits, _, rig) in &mut nodes {
        // By the greatest of what all said, and what passed.
        limits.settle("alice", &[told("", 24.0, 80.0)], true, now);
        (0..10).for_each(|_| rig.text("x"));
        assert_eq!((rig.seen.messages.len(), rig.close_code()), (16, None), "{:?}", rig.seen.details);
    }
}
