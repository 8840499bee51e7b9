//! How far compressed messages are inflated, on fake time: whoever comes again and again, whatever becomes of his messages, has no
//! more inflated for him than his rate has room for.

use super::compressed::{deflated, with_deflate};
use super::*;
use crate::cluster::ops::Buckets;
use crate::limits::{Limits, Seat};

const SLOW: &str = r#", "max_message_bytes": 1000, "ping_interval_ms": 0, "idle_timeout_ms": 0,
    "rate_limit": {"per_second": 100, "burst": 100, "queue": 100, "bytes_per_second": 1000}"#;

/// The bucket of a user who is on several nodes, and what it lives by.
fn on_several_nodes(policy: &Arc<Policy>) -> (Arc<Limits>, Seat, Option<Arc<RateKey>>) {
    let (limits, start) = (Arc::new(Limits::default()), Moment::from_millis(1000));
    let mut seat = limits.enter_server(policy).unwrap();
    seat.enter_user("alice", policy, start).unwrap();
    limits.share("alice", true, start);
    let key = seat.rate_key(policy.rate_limit.as_ref().unwrap(), &policy.scope, start);
    (limits, seat, key)
}

/// A user who is on several nodes: what waits for its rate, or for the cluster, is poured when it passes. Its sender leaves before
/// that, or it is found invalid.
#[test]
fn what_never_passes_was_inflated_all_the_same() {
    let invalid = format!(r#"{{"event": "say", "data": ["{}"]}}"#, "a".repeat(900));
    for (protocol, first, payload) in [
        (r#""raw""#, 0xc2, "a".repeat(1000)),
        (r#""json", "events": {"say": {"schema": {"type": "string"}}}"#, 0xc1, invalid.clone()),
        (r#""json", "events": {"say": {"schema": {"type": "string"}, "on_mismatch": "reply"}}"#, 0xc1, invalid),
    ] {
        let policy = policy(&format!(r#", "protocol": {protocol} {SLOW}"#));
        let (_limits, _seat, key) = on_several_nodes(&policy);
        let (mut inflated, mut passed, bytes) = (0, 0, frame(first, &deflated(payload.as_bytes())).repeat(3));
        for _ in 0..100 {
            let mut rig = with_deflate(&policy, key.clone());
            rig.pass(passed);
            rig.turn(|conn, turn| conn.handle_input(&mut bytes.clone(), turn));
            inflated += rig.deflate.bytes_inflated;
            passed += 10;
        }
        // A burst, a second's worth that may wait, what has leaked, and a byte for each try.
        assert!(inflated > 1000, "{protocol}");
        assert!(inflated <= 1000 + 1000 + passed + 100, "{protocol}: {inflated} bytes in {passed} ms");
    }
}

/// Routes share the buckets of a user, and one of them may let in longer messages than the one by which he came first; a reload may
/// do the same. What waits for the cluster there and never passes is charged by what its own route has room for.
#[test]
fn what_never_passes_is_charged_by_the_rules_that_it_came_by() {
    let of = |most: usize| {
        policy(&format!(
            r#", "protocol": "raw", "max_message_bytes": {most}, "ping_interval_ms": 0, "idle_timeout_ms": 0,
            "rate_limit": {{"per_second": 100, "burst": 100, "queue": 100, "bytes_per_second": 1000}}"#
        ))
    };
    let (short, long) = (of(1000), of(60_000));
    let (_limits, _seat, key) = on_several_nodes(&short);
    // It is more than half of what may pass before the cluster has heard of it.
    with_deflate(&long, key.clone()).input(&frame(0x82, &[b'a'; 10_000]));
    let (mut inflated, mut passed, bytes) = (0, 0, frame(0xc2, &deflated("a".repeat(50_000).as_bytes())));
    for _ in 0..50 {
        let mut rig = with_deflate(&long, key.clone());
        rig.pass(passed);
        rig.turn(|conn, turn| conn.handle_input(&mut bytes.clone(), turn));
        inflated += rig.deflate.bytes_inflated;
        passed += 10;
    }
    assert!(inflated >= 50_000);
    assert!(inflated <= 60_000 + 1000 + passed + 100, "{inflated} bytes in {passed} ms");
}

/// Messages come bit by bit within their rate, on many connections, until each lacks its last byte, and end together. What was charged
/// of them has leaked by then.
#[test]
fn what_came_long_ago_pays_for_nothing_inflated_now() {
    let policy = policy(&format!(r#", "protocol": "raw" {SLOW}"#));
    let key: Arc<RateKey> = Arc::default();
    let digits = (0..1000u32).map(|at| b"0123456789abcdef"[(at.wrapping_mul(0x9e37_79b9) >> 28) as usize]);
    let digits: Vec<u8> = digits.collect();
    let mut payload = deflated(&digits);
    if let Some(last) = payload.last_mut() {
        *last ^= 0x55;
    }
    let bytes = frame(0xc2, &payload);
    let (all_but_one, last) = bytes.split_at(bytes.len() - 1);
    let mut rigs: Vec<Rig> = (0..20).map(|_| with_deflate(&policy, Some(Arc::clone(&key)))).collect();
    for at in 0..rigs.len() {
        rigs[at].input(all_but_one);
        for rig in &mut rigs {
            rig.pass(1000);
        }
    }
    for rig in &mut rigs {
        rig.input(last);
    }
    assert!(rigs.iter().all(|rig| !rig.conn.is_open() && rig.seen.messages.is_empty()));
    let inflated: u64 = rigs.iter().map(|rig| rig.deflate.bytes_inflated).sum();
    assert!(inflated >= 1000);
    assert!(inflated <= 1000 + 1000 + 20, "{inflated} bytes at one moment, {} of each compressed", payload.len());
}

/// What happens to the connections of one user.
#[derive(Clone, Debug)]
enum Act {
    /// A message on one of them: how long, and in how many frames.
    Say {
        who: usize,
        len: usize,
        frames: usize,
    },
    Pause(u64),
    Reload(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let say = (0usize..3, 16usize..2500, 1usize..5).prop_map(|(who, len, frames)| Act::Say { who, len, frames });
    let pause = prop_oneof![0u64..50, 0u64..3000, Just(100_000u64)].prop_map(Act::Pause);
    prop::collection::vec(prop_oneof![6 => say, 4 => pause, 1 => (0usize..3).prop_map(Act::Reload)], 1..40)
}

/// Rates from tiny to huge.
fn rates() -> impl Strategy<Value = String> {
    let rates = prop::sample::select(vec![1.0, 7.3, 300.0, 999.999, 1000.0, 5000.0, 1e6, 1e9, 1e12]);
    let per_second = prop::sample::select(vec![0.1, 1.0, 3.7, 20.0, 1000.0]);
    (rates, per_second, 1u32..40, 0u32..60).prop_map(|(bytes, rate, burst, queue)| {
        format!(r#"{{"per_second": {rate}, "burst": {burst}, "queue": {queue}, "bytes_per_second": {bytes}}}"#)
    })
}

/// The connections of one user in one of two worlds: his messages are plain, or compressed.
struct World {
    rigs: Vec<Rig>,
    compresses: bool,
}

impl World {
    fn new(policy: &Arc<Policy>, compresses: bool) -> Self {
        let key: Arc<RateKey> = Arc::default();
        Self { rigs: (0..3).map(|_| with_deflate(policy, Some(Arc::clone(&key)))).collect(), compresses }
    }

    fn reload(&mut self, after: &Arc<Policy>) {
        for rig in &mut self.rigs {
            let before = core::mem::replace(&mut rig.policy, Arc::clone(after));
            let (rate_key, roles) = (rig.conn.rate_key().cloned(), rig.conn.roles().clone());
            rig.conn.change_policy(PolicyChange { before: &before, after, rate_key, roles }, rig.now);
        }
    }

    fn say(&mut self, who: usize, text: &[u8], frames: usize) {
        let (rsv1, payload) = if self.compresses { (0x40, deflated(text)) } else { (0, text.to_vec()) };
        let size = payload.len().div_ceil(frames);
        let last = payload.chunks(size).count() - 1;
        for (at, part) in payload.chunks(size).enumerate() {
            let first = if at == 0 { 0x02 | rsv1 } else { 0 } | if at == last { 0x80 } else { 0 };
            self.rigs[who].input(&frame(first, part));
            self.rigs[who].input(&frame(0x89, b"?"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the rates, and however they change: what is let in plain is let in compressed, at the same times, and nothing else.
    #[test]
    fn what_is_let_in_plain_is_let_in_compressed(
        rates in prop::collection::vec(rates(), 3), most in prop::sample::select(vec![100, 1000, 2500]), acts in acts(),
    ) {
        // The largest message stands above or below a second's worth.
        let policies = [0, 1, 2].map(|at| policy(&format!(
            r#", "protocol": "raw", "max_message_bytes": {most}, "ping_interval_ms": 0, "idle_timeout_ms": 0,
            "control_rate_limit": null, "message_timeout_ms": 3600000, "rate_limit": {}"#, rates[at]
        )));
        let mut worlds = [false, true].map(|compresses| World::new(&policies[0], compresses));
        for (number, act) in acts.iter().enumerate() {
            for world in &mut worlds {
                match act {
                    Act::Say { who, len, frames } => {
                        let text = format!("{number:03}{}", "a".repeat(*len)).into_bytes();
                        world.say(*who, &text, *frames);
                    }
                    Act::Pause(millis) => world.rigs.iter_mut().for_each(|rig| rig.pass(*millis)),
                    Act::Reload(next) => world.reload(&policies[*next]),
                }
            }
            let [plain, squeezed] = &worlds;
            let mut has_closed = false;
            for (plain, squeezed) in plain.rigs.iter().zip(&squeezed.rigs) {
                prop_assert_eq!(&plain.seen.messages, &squeezed.seen.messages, "{}", number);
                prop_assert_eq!(plain.conn.is_open(), squeezed.conn.is_open(), "{}: {:?} {:?}", number, plain.seen.details, squeezed.seen.details);
                prop_assert_eq!(plain.conn.delayed_messages(), squeezed.conn.delayed_messages(), "{}", number);
                let limit = plain.policy.max_message_bytes as u64;
                prop_assert!(squeezed.deflate.bytes_inflated <= 40 * (limit + 1).max(2500));
                has_closed |= !plain.conn.is_open();
            }
            if has_closed {
                return Ok(());
            }
        }
    }
}
