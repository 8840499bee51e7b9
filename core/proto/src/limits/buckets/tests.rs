//! Nodes that share the buckets of one user over a model of what the cluster keeps, whose answers come late.

use std::collections::VecDeque;

use super::*;
use crate::bucket::{Bucket, Rate};
use crate::config::{RateKeyKind, RateRules};
use crate::rate::{Charge, Held, Overflow, Passing, QueuePlace};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const USER: &str = "alice";

fn rules(per_second: f64, burst: f64, queue: u32) -> RateRules {
    RateRules {
        messages: Rate::new(per_second, burst),
        bytes: Some(Rate::new(per_second * 100.0, burst * 100.0)),
        queue,
        max_delayed_bytes: 1 << 30,
        key: RateKeyKind::User,
    }
}

/// The buckets that all draw on, and who has heard what of them.
#[derive(Default)]
struct Model {
    levels: [f64; 2],
    at: Moment,
}

impl Model {
    fn pour(&mut self, used: &[Level], rules: &RateRules, now: Moment) -> Vec<Level> {
        let rates = [rules.messages.per_second(), rules.bytes.unwrap().per_second()];
        for (level, rate) in self.levels.iter_mut().zip(rates) {
            *level = (*level - now.since(self.at).as_secs_f64() * rate).max(0.0);
        }
        self.at = now;
        for used in used {
            self.levels[0] += used.units;
            self.levels[1] += used.bytes;
        }
        let [units, bytes] = self.levels;
        vec![Level { scope: "".into(), units, units_per_second: rates[0], bytes, bytes_per_second: rates[1] }]
    }
}

struct Node {
    limits: Arc<Limits>,
    key: Arc<RateKey>,
    waiting: VecDeque<(QueuePlace, f64, u64, Moment)>,
    report: Option<Report>,
}

struct Report {
    arrives: Moment,
    answered: Moment,
    used: Vec<Level>,
    answer: Option<Vec<Level>>,
}

impl Node {
    fn new(rules: &RateRules, is_shared: bool) -> Self {
        let limits = Arc::new(Limits::default());
        let key = lock(&limits.users).entry(&USER.into(), Moment::START).rate(&"".into(), Moment::START);
        key.meet(rules);
        limits.share(USER, is_shared, Moment::START);
        Self { limits, key, waiting: VecDeque::new(), report: None }
    }

    fn come(&mut self, rules: &RateRules, cost: f64, bytes: u64, now: Moment) -> Result<bool, Overflow> {
        self.come_in_parts(rules, cost, (0, bytes), now)
    }

    /// Some of its bytes come before it is whole.
    fn come_in_parts(
        &mut self,
        rules: &RateRules,
        cost: f64,
        (first, rest): (u64, u64),
        now: Moment,
    ) -> Result<bool, Overflow> {
        let not_before = if self.waiting.is_empty() { Moment::START } else { now.after_millis(1) };
        let (bytes, mut charged) = (first + rest, Bucket::default());
        if first > 0 {
            self.key.receive(rules, &mut charged, first, rest, now)?;
        }
        let charge = Charge { cost, bytes, charged, not_before, held: 0 };
        match self.key.admit(rules, &charge, now)?.0 {
            Passing::Now => Ok(true),
            Passing::At(at, place) => {
                assert!(at > now);
                self.waiting.push_back((place, cost, bytes, at));
                Ok(false)
            }
        }
    }

    /// What passes of what waits.
    fn poll(&mut self, rules: &RateRules, now: Moment, mut passed: impl FnMut(f64, u64)) {
        while let Some((place, cost, bytes, at)) = self.waiting.front_mut()
            && *at <= now
        {
            match place.pass(Some(rules), now) {
                Ok(()) => passed(*cost, *bytes),
                Err(Held::Until(next)) => {
                    assert!(next > now);
                    *at = next;
                    return;
                }
                Err(Held::Over(_)) => {}
            }
            self.waiting.pop_front();
        }
    }

    /// Reports, or takes in the answer to what it has reported.
    fn exchange(&mut self, model: &mut Model, rules: &RateRules, latency_ms: u64, is_lost: bool, now: Moment) {
        if let Some(Report { arrives, answered, used, answer }) = &mut self.report {
            if answer.is_none() && *arrives <= now {
                *answer = Some(model.pour(used, rules, now));
            }
            if *answered <= now
                && let Some(levels) = answer.take()
            {
                self.limits.settle(USER, &levels, true, now);
                self.report = None;
            }
            return;
        }
        if self.limits.take_dirty().is_empty() {
            return;
        }
        let used = self.limits.take_unreported(USER, now);
        if is_lost {
            return self.limits.lose(USER);
        }
        let arrives = now.after_millis(latency_ms);
        let answered = arrives.after_millis(latency_ms);
        self.report = Some(Report { arrives, answered, used, answer: None });
    }
}

/// No window of time has more than `burst + rate * t`, and what is `over`.
fn check(passed: &[(Moment, f64)], rate: &Rate, over: f64) -> Result<(), TestCaseError> {
    let mut level = 0f64;
    let mut last = Moment::START;
    for (at, amount) in passed {
        level = (level - at.since(last).as_secs_f64() * rate.per_second()).max(0.0) + amount;
        last = *at;
        prop_assert!(level <= rate.burst() + over + 1e-3, "{level} of {rate} and {over} at {at:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes where, and however late the answers are: all nodes together let no more through than burst and rate allow, and
    /// one lease each. And all that was admitted passes in the end, or overflows.
    #[test]
    fn nodes_that_share_let_one_lease_more_through_than_one_alone(
        per_second in 5.0f64..200.0, burst in 4u32..60, queue in 0u32..50, nodes in 2usize..4,
        steps in prop::collection::vec((0usize..3, 0u64..8, 0u8..30, 0u64..120, 0u8..10), 1..400),
    ) {
        let rules = rules(per_second, f64::from(burst), queue);
        let (mut model, mut now) = (Model::default(), Moment::from_millis(1));
        let mut all: Vec<_> = (0..nodes).map(|_| Node::new(&rules, true)).collect();
        let (mut units, mut bytes) = (Vec::new(), Vec::new());
        let mut note = |now: Moment, cost: f64, len: u64| {
            units.push((now, cost));
            bytes.push((now, len as f64));
        };
        for (node, costs, count, latency, lost) in steps {
            for node in &mut all {
                node.poll(&rules, now, |cost, len| note(now, cost, len));
                node.exchange(&mut model, &rules, latency, lost == 0, now);
            }
            let cost = costs as f64 / 4.0;
            for _ in 0..count {
                let first = costs * 30 * u64::from(lost % 4) / 4;
                if all[node % nodes].come_in_parts(&rules, cost, (first, costs * 30 - first), now) == Ok(true) {
                    note(now, cost, costs * 30);
                }
            }
            now = now.after_millis(latency % 11 + 1);
        }
        for _ in 0..20_000 {
            if all.iter().all(|node| node.waiting.is_empty()) { break; }
            for node in &mut all {
                node.poll(&rules, now, |cost, len| note(now, cost, len));
                node.exchange(&mut model, &rules, 3, false, now);
            }
            now = now.after_millis(5);
        }
        prop_assert!(all.iter().all(|node| node.waiting.is_empty()), "something waits for good");
        prop_assert!(all.iter().all(|node| node.key.waiting() == 0));
        check(&units, &rules.messages, nodes as f64 * rules.messages.lease())?;
        let rate = rules.bytes.unwrap();
        check(&bytes, &rate, nodes as f64 * rate.lease().max(rate.lease() / 2.0 + 210.0))?;
    }

    /// A user within its rate on all nodes together is never refused, and waits for no more than an answer or two.
    #[test]
    fn whoever_keeps_its_rate_loses_nothing(
        nodes in 2usize..4, latency in 0u64..40, places in prop::collection::vec(0usize..3, 200..400),
    ) {
        let rules = rules(50.0, 20.0, 10);
        let (mut model, mut now, mut passed) = (Model::default(), Moment::from_millis(1), 0);
        let mut all: Vec<_> = (0..nodes).map(|_| Node::new(&rules, true)).collect();
        for place in &places {
            passed += usize::from(all[place % nodes].come(&rules, 1.0, 10, now).unwrap());
            for _ in 0..5 {
                for node in &mut all {
                    node.poll(&rules, now, |_, _| passed += 1);
                    node.exchange(&mut model, &rules, latency, false, now);
                }
                now = now.after_millis(5);
            }
        }
        let waiting: usize = all.iter().map(|node| node.waiting.len()).sum();
        prop_assert_eq!(passed + waiting, places.len());
        prop_assert!(waiting <= 8, "{}", waiting);
    }
}

/// How many of `count` messages pass at once.
fn passing(node: &mut Node, rules: &RateRules, count: usize, now: Moment) -> usize {
    (0..count).filter(|_| node.come(rules, 1.0, 0, now) == Ok(true)).count()
}

#[test]
fn what_is_not_acknowledged_waits_and_passes_when_it_is() {
    let (rules, now) = (rules(10.0, 40.0, 5), Moment::from_millis(1));
    let mut node = Node::new(&rules, true);
    assert_eq!(passing(&mut node, &rules, 40, now), 10);
    assert_eq!((node.waiting.len(), node.key.waiting()), (30, 0), "they are within their rate");
    assert_eq!(node.limits.take_dirty(), [USER.into()]);
    assert!(node.limits.take_dirty().is_empty(), "until it is asked");
    let used = node.limits.take_unreported(USER, now);
    let is_ten = |number: f64| (number - 10.0).abs() < 1e-3;
    assert!(is_ten(used[0].units) && is_ten(used[0].units_per_second), "{used:?}");
    let mut passed = 0;
    let at = now.after_millis(5);
    node.poll(&rules, at, |_, _| passed += 1);
    assert_eq!(passed, 0, "reported is not acknowledged");
    // The owner's levels are awaited.
    node.limits.settle(USER, &used, false, at);
    node.poll(&rules, at.after_millis(5), |_, _| passed += 1);
    assert_eq!(passed, 0);
    node.limits.settle(USER, &used, true, at.after_millis(5));
    node.poll(&rules, at.after_millis(10), |_, _| passed += 1);
    assert_eq!(passed, 7, "a quarter of the 30 that are left");
    node.limits.take_unreported(USER, at);
    node.limits.lose(USER);
    assert_eq!(node.limits.take_dirty(), [USER.into()]);
    assert!((node.limits.take_unreported(USER, at)[0].units - 7.0).abs() < 1e-3);
    // An outage: whatever waits for an answer passes.
    node.limits.share(USER, false, at);
    node.poll(&rules, at.after_millis(15), |_, _| passed += 1);
    assert_eq!((passed, node.waiting.len()), (30, 0));
    assert_eq!(passing(&mut node, &rules, 10, at.after_millis(15)), 0, "the whole limit holds here alone");
    assert_eq!(node.waiting.len(), 5, "the queue");
}

#[test]
fn a_lease_is_a_quarter_of_the_room_that_is_left() {
    let (rules, now) = (rules(10.0, 40.0, 50), Moment::from_millis(1));
    for (told, most) in [(0.0, 10), (20.0, 5), (34.0, 1), (39.0, 1), (41.0, 0)] {
        let mut node = Node::new(&rules, true);
        let told = Model { levels: [told, 0.0], at: now }.pour(&[], &rules, now);
        node.limits.settle(USER, &told, true, now);
        assert_eq!(passing(&mut node, &rules, 20, now), most, "{told:?}");
    }
}

#[test]
fn who_waits_for_each_answer_is_refused_on_no_node() {
    let rules = rules(20.0, 100.0, 20);
    let (mut model, mut nodes) = (Model::default(), [(); 3].map(|()| Node::new(&rules, true)));
    let mut passed = 0;
    for millis in 1..5000 {
        let now = Moment::from_millis(millis);
        for node in &mut nodes {
            node.poll(&rules, now, |_, _| passed += 1);
            for _ in 0..2 {
                if node.waiting.is_empty() {
                    let came = node.come(&rules, 1.0, 0, now).expect("three messages wait at most, and 20 may");
                    passed += i32::from(came);
                }
            }
            if millis % 10 == 0 {
                let answer = model.pour(&node.limits.take_unreported(USER, now), &rules, now);
                node.limits.settle(USER, &answer, true, now);
            }
        }
    }
    assert!((198..=218).contains(&passed), "{passed}: the burst, and 20 a second");
}

#[test]
fn what_waits_for_an_answer_is_bounded_in_bytes_and_number() {
    let (mut rules, now) = (rules(1000.0, 20_000.0, 5), Moment::from_millis(1));
    rules.max_delayed_bytes = 100;
    let node = Node::new(&rules, true);
    let charge = |held| Charge { cost: 5000.0, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held };
    assert!(matches!(node.key.admit(&rules, &charge(1000), now), Ok((Passing::Now, _))));
    let _place = node.key.admit(&rules, &charge(100), now).unwrap();
    let over = node.key.admit(&rules, &charge(101), now).unwrap_err();
    assert_eq!(over, Overflow::Unacknowledged { bytes: 101 });
    assert!(over.describe(&rules).contains("cluster") && over.describe(&rules).contains("(100)"));
    let free = Charge { cost: 0.0, not_before: now.after_millis(1), ..charge(0) };
    let mut places: Vec<_> = (0..4095).map(|_| node.key.admit(&rules, &free, now).unwrap()).collect();
    assert!(matches!(node.key.admit(&rules, &free, now), Err(Overflow::Unacknowledged { .. })));
    places.pop();
    assert!(node.key.admit(&rules, &free, now).is_ok(), "places come back");
}

/// Messages wait on a node, and others have filled the bucket tenfold.
fn one_that_others_leave_no_room(rules: &RateRules, now: Moment) -> Node {
    let mut node = Node::new(rules, true);
    assert_eq!(passing(&mut node, rules, 3, now), 1);
    let mut used = node.limits.take_unreported(USER, now);
    used[0].units = 40.0;
    node.limits.settle(USER, &used, true, now);
    node
}

#[test]
fn others_that_use_up_the_rate_make_what_waits_overflow() {
    let (rules, now) = (rules(10.0, 4.0, 2), Moment::from_millis(1));
    let mut node = one_that_others_leave_no_room(&rules, now);
    let (place, ..) = &mut node.waiting[0];
    let Err(Held::Over(over)) = place.pass(Some(&rules), now.after_millis(5)) else { panic!("it may wait for 1.2 s") };
    assert!(matches!(over, Overflow::Messages { .. }), "{over:?}");
    // A reload closes nobody for that.
    place.passes_by(now.after_millis(10));
    assert_eq!(place.pass(Some(&rules), now.after_millis(10)), Ok(()));
}

#[test]
fn a_reload_closes_nobody_whose_turn_is_far_off() {
    let (rules, now) = (rules(10.0, 4.0, 2), Moment::from_millis(1));
    let mut node = one_that_others_leave_no_room(&rules, now);
    let (place, ..) = &mut node.waiting[0];
    let latest = now.after_millis(10);
    place.passes_by(latest);
    // It is tried before that: others had told its connection of an earlier room.
    assert_eq!(place.pass(Some(&rules), now.after_millis(5)), Err(Held::Until(latest)));
    assert_eq!(place.pass(Some(&rules), latest), Ok(()));
}

/// Two messages of a user wait on a node whose bucket is full: one unit leaks in 100 ms.
fn two_that_wait(rules: &RateRules, now: Moment) -> (Node, [QueuePlace; 2]) {
    let node = Node::new(rules, true);
    let told = Level { scope: "".into(), units: 4.0, units_per_second: 10.0, bytes: 0.0, bytes_per_second: 0.0 };
    node.limits.settle(USER, &[told], true, now);
    let charge = Charge { cost: 1.0, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held: 0 };
    let places = [0, 1].map(|_| match node.key.admit(rules, &charge, now) {
        Ok((Passing::At(_, place), _)) => place,
        other => panic!("the bucket is full: {other:?}"),
    });
    (node, places)
}

#[test]
fn who_came_first_passes_first_on_a_node() {
    let (rules, now) = (rules(10.0, 4.0, 5), Moment::from_millis(1));
    let (node, [mut first, mut second]) = two_that_wait(&rules, now);
    // There is room for one, and the later one happens to ask first.
    let at = now.after_millis(101);
    let Err(Held::Until(next)) = second.pass(Some(&rules), at) else { panic!("another one was there before") };
    assert!(next > at && next <= now.after_millis(201), "{next:?}");
    assert_eq!(first.pass(Some(&rules), at), Ok(()));
    node.limits.settle(USER, &node.limits.take_unreported(USER, at), true, at);
    assert_eq!(second.pass(Some(&rules), now.after_millis(501)), Ok(()));
    // Nothing is left of their turns.
    let (_, [mut first, mut second]) = two_that_wait(&rules, now);
    assert_eq!(first.pass(Some(&rules), at), Ok(()));
    assert!(second.pass(Some(&rules), at).is_err(), "there is room for one");
}

#[test]
fn a_connection_that_stands_still_keeps_back_a_lease() {
    let (rules, now) = (rules(10.0, 4.0, 5), Moment::from_millis(1));
    let (node, [_stands_still, mut second]) = two_that_wait(&rules, now);
    let Err(Held::Until(next)) = second.pass(Some(&rules), now.after_millis(101)) else { panic!("its turn is later") };
    assert_eq!(second.pass(Some(&rules), next), Ok(()));
    // Who comes after that goes on by the rate, a lease deeper in the bucket than it would.
    let charge = Charge { cost: 1.0, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held: 0 };
    let mut at = next;
    for _ in 0..10 {
        let Ok((Passing::At(_, mut third), _)) = node.key.admit(&rules, &charge, at) else { panic!("it is full") };
        let told = node.limits.levels(USER, at);
        drop(node.limits.take_unreported(USER, at));
        node.limits.settle(USER, &told, true, at);
        at = at.after_millis(101);
        assert_eq!(third.pass(Some(&rules), at), Ok(()));
    }
}

#[test]
fn who_was_there_before_is_not_waited_for_beyond_the_time_of_a_message() {
    let (mut rules, now) = (rules(10.0, 4.0, 5), Moment::from_millis(1));
    rules.queue = 0;
    let node = Node::new(&rules, true);
    let charge = Charge { cost: 1.0, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held: 0 };
    assert!(matches!(node.key.admit(&rules, &charge, now), Ok((Passing::Now, _))));
    // They wait for the lease.
    let [_first, mut second] = [0, 1].map(|_| match node.key.admit(&rules, &charge, now) {
        Ok((Passing::At(_, place), _)) => place,
        other => panic!("Redis has not answered: {other:?}"),
    });
    let told = Level { scope: "".into(), units: 12.95, units_per_second: 10.0, bytes: 0.0, bytes_per_second: 0.0 };
    let at = now.after_millis(1);
    drop(node.limits.take_unreported(USER, at));
    node.limits.settle(USER, &[told], true, at);
    // A second later there is room for one: it would be over if it waited for the other.
    assert_eq!(second.pass(Some(&rules), now.after_millis(1000)), Ok(()));
}

#[test]
fn one_that_comes_with_a_level_has_no_fresh_burst() {
    let (rules, now) = (rules(10.0, 40.0, 5), Moment::from_millis(1));
    let mut node = Node::new(&rules, false);
    assert!((node.limits.full(USER)[0].units - 40.0).abs() < 1e-3);
    assert!(node.limits.levels(USER, now).is_empty());
    let told = |units: f64| Level {
        scope: "".into(),
        units,
        units_per_second: 10.0,
        bytes: f64::NAN,
        bytes_per_second: f64::INFINITY,
    };
    node.limits.raise(USER, &[told(35.0), told(20.0), told(f64::INFINITY), told(-1.0)], now);
    assert!((node.limits.levels(USER, now)[0].units - 35.0).abs() < 1e-3);
    assert_eq!(passing(&mut node, &rules, 10, now), 5);
    // Nobody else draws on it: nothing is to be told.
    assert!(node.limits.take_dirty().is_empty() && node.limits.take_unreported(USER, now).is_empty());
    // A scope that has no key yet.
    let other = Level { scope: "/other".into(), ..told(30.0) };
    node.limits.raise(USER, &[other], now);
    let key = lock(&node.limits.users).entry(&USER.into(), now).rate(&"/other".into(), now);
    key.meet(&rules);
    assert!((key.level(now).units.0 - 30.0).abs() < 1e-3);
}

#[test]
fn a_bucket_made_later_is_shared_too() {
    let (rules, now) = (rules(10.0, 40.0, 5), Moment::from_millis(1));
    let limits = Arc::new(Limits::default());
    limits.share(USER, true, now);
    let key = lock(&limits.users).entry(&USER.into(), now).rate(&"/later".into(), now);
    let charge = Charge { cost: 10.0, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held: 0 };
    assert!(matches!(key.admit(&rules, &charge, now), Ok((Passing::Now, _))));
    assert!(matches!(key.admit(&rules, &charge, now), Ok((Passing::At(..), _))));
    assert_eq!(limits.take_dirty(), [USER.into()]);
}

#[test]
fn an_invalid_message_costs_one_also_where_it_waited() {
    let (rules, now) = (rules(10.0, 40.0, 5), Moment::from_millis(1));
    let node = Node::new(&rules, true);
    let charge = |cost| Charge { cost, bytes: 0, charged: Bucket::default(), not_before: Moment::START, held: 0 };
    let (_, receipt) = node.key.admit(&rules, &charge(10.0), now).unwrap();
    node.key.charge_as_invalid(&rules, &receipt, now).unwrap();
    assert!((node.key.level(now).units.0 - 1.0).abs() < 1e-3, "given back");
    let (_, _) = node.key.admit(&rules, &charge(9.0), now).unwrap();
    let (passing, receipt) = node.key.admit(&rules, &charge(5.0), now).unwrap();
    node.key.charge_as_invalid(&rules, &receipt, now).unwrap();
    drop(passing);
    assert!((node.key.level(now).units.0 - 11.0).abs() < 1e-3);
    assert!((node.limits.take_unreported(USER, now)[0].units - 11.0).abs() < 1e-3);
}
