//! Connections that go on by other rules: whatever is reloaded in whatever order, each is judged by what counts for its path now.

use super::*;
use crate::auth::Outcome;
use crate::config::{Admitted, PolicySet};

const PATHS: [&str; 3] = ["/a", "/b", "/room/7"];
const TOKENS: [&str; 3] = ["one", "two", "three"];

/// One set of options.
#[derive(Clone, Debug)]
struct Config {
    /// Whose each token is.
    tokens: [Option<u8>; 3],
    /// The largest message at the top, and on the route of each path.
    most: usize,
    routes: [Option<usize>; 3],
    /// Whether `/a` alone is served beside the routes, or everything.
    paths: bool,
}

impl Config {
    fn set(&self) -> PolicySet {
        let entry = |(token, user): (&str, &Option<u8>)| {
            user.map(|user| format!(r#"{{"token": "{token}", "user": "user{user}"}}"#))
        };
        // One token is always there, as a list cannot be empty.
        let tokens: Vec<String> = TOKENS.into_iter().zip(&self.tokens).filter_map(entry).collect();
        let other = r#"{"token": "another", "user": "somebody"}"#.to_owned();
        let route = |(path, most): (&str, &Option<usize>)| {
            let path = path.replace('7', "{number}");
            most.map(|most| format!(r#""{path}": {{"max_message_bytes": {most}}}"#))
        };
        let routes: Vec<String> = PATHS.into_iter().zip(&self.routes).filter_map(route).collect();
        let json = format!(
            r#"{{"origins": ["https://a.example"], "auth": {{"tokens": [{}]}}, "protocol": "raw", "rate_limit": null,
                "max_message_bytes": {}, "routes": {{{}}} {}}}"#,
            [tokens, vec![other]].concat().join(","),
            self.most,
            routes.join(","),
            if self.paths { r#", "paths": ["/a"]"# } else { "" },
        );
        PolicySet::compile(Options::from_json(&json).unwrap(), &NoFiles).unwrap()
    }

    /// The largest message on a path; `None`: it is not served.
    fn most(&self, path: usize) -> Option<usize> {
        let is_open = !self.paths && self.routes.iter().all(Option::is_none);
        let in_paths = self.paths && path == 0;
        self.routes[path].or_else(|| (is_open || in_paths).then_some(self.most))
    }
}

fn config() -> impl Strategy<Value = Config> {
    let user = prop::option::weighted(0.8, 0u8..2);
    let route = || prop::option::of(1usize..60);
    let parts = ([user.clone(), user.clone(), user], 1usize..60, [route(), route(), route()], any::<bool>());
    parts.prop_map(|(tokens, most, routes, paths)| Config { tokens, most, routes, paths })
}

#[derive(Clone, Debug)]
enum Act {
    Open(usize, usize),
    Message(usize, usize),
    Reload(Config),
    Close(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..3, 0usize..3).prop_map(|(path, token)| Act::Open(path, token)),
        4 => (any::<usize>(), 0usize..70).prop_map(|(who, len)| Act::Message(who, len)),
        2 => config().prop_map(Act::Reload),
        1 => any::<usize>().prop_map(Act::Close),
    ]
}

/// A connection, and what the model knows of it.
struct There {
    rig: Rig,
    admitted: Admitted,
    user: String,
    path: usize,
    token: usize,
}

/// As the driver does it.
fn let_in(set: &PolicySet, path: usize, token: usize) -> Option<There> {
    let resolved = set.resolve(PATHS[path])?;
    let Outcome::Accepted(identity) = resolved.policy.authenticator.check(Some(TOKENS[token]), 0) else { return None };
    let rig = Rig::with(&resolved.policy, None);
    let admitted =
        Admitted { generation: 1, path: PATHS[path].into(), credential: identity.credential, is_reported: false };
    Some(There { rig, admitted, user: identity.user.unwrap(), path, token })
}

fn follow(there: &mut There, set: &PolicySet) {
    let (before, now) = (Arc::clone(&there.rig.policy), there.rig.now);
    match set.readmit(&there.admitted, &before, Some(&there.user), there.rig.conn.roles()) {
        Ok((resolved, roles)) => {
            let change = PolicyChange { before: &before, after: &resolved.policy, rate_key: None, roles };
            there.rig.conn.change_policy(change, now);
            there.rig.policy = resolved.policy;
        }
        Err(gone) => {
            let report = Report { code: Code::SessionRevoked, event: None, detail: gone.detail() };
            there.rig.turn(|conn, turn| conn.violate(&report, turn));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_is_judged_by_what_counts_now(first in config(), acts in prop::collection::vec(act(), 1..60)) {
        let (mut config, mut set) = (first.clone(), first.set());
        let mut all: Vec<There> = Vec::new();
        for act in acts {
            match act {
                Act::Open(path, token) => {
                    let there = let_in(&set, path, token);
                    let may = config.most(path).is_some() && config.tokens[token].is_some();
                    prop_assert_eq!(there.is_some(), may);
                    all.extend(there);
                }
                Act::Message(who, len) if !all.is_empty() => {
                    let index = who % all.len();
                    let there = &mut all[index];
                    let (before, most) = (there.rig.seen.messages.len(), config.most(there.path).unwrap());
                    there.rig.text(&"x".repeat(len));
                    let delivered = there.rig.seen.messages.len() - before;
                    prop_assert_eq!((delivered, there.rig.conn.is_open()), (usize::from(len <= most), len <= most));
                    if len > most { all.swap_remove(index); }
                }
                Act::Reload(next) => {
                    let generation = set.generation;
                    set = set.replaced_by(next.set()).unwrap();
                    prop_assert_eq!(set.generation, generation + 1);
                    for there in &mut all {
                        follow(there, &set);
                        let own = next.tokens[there.token].is_some_and(|user| there.user == format!("user{user}"));
                        let stays = own && next.most(there.path).is_some();
                        prop_assert_eq!(there.rig.conn.is_open(), stays);
                        let revoked = there.rig.seen.reports == [Code::SessionRevoked];
                        prop_assert_eq!((revoked, there.rig.close_code()), (!stays, (!stays).then_some(1008)));
                    }
                    all.retain(|there| there.rig.conn.is_open());
                    config = next;
                }
                Act::Close(who) if !all.is_empty() => drop(all.swap_remove(who % all.len())),
                _ => {}
            }
        }
    }
}

fn change(rig: &mut Rig, after: &Arc<Policy>) {
    let rate_key = after.rate_limit.as_ref().and(rig.conn.rate_key().cloned());
    let before = core::mem::replace(&mut rig.policy, Arc::clone(after));
    let roles = rig.conn.roles().clone();
    rig.conn.change_policy(PolicyChange { before: &before, after, rate_key, roles }, rig.now);
}

fn limited(rate: &str) -> Arc<Policy> {
    policy(&format!(r#", "protocol": "raw", "rate_limit": {rate}"#))
}

#[test]
fn who_kept_the_old_rules_is_not_closed_by_faster_ones() {
    let mut rig = Rig::with(&limited(r#"{"per_second": 1, "burst": 20, "queue": 10}"#), Some(Arc::default()));
    for _ in 0..28 {
        rig.text("x");
    }
    assert_eq!((rig.seen.messages.len(), rig.conn.delayed_messages()), (20, 8));
    change(&mut rig, &limited(r#"{"per_second": 100, "burst": 20, "queue": 10}"#));
    rig.text("y");
    assert_eq!(rig.seen.details, Vec::<String>::new(), "twenty seconds of the old rate would be far too long");
    rig.pass(101);
    assert_eq!((rig.seen.messages.len(), rig.conn.delayed_messages()), (29, 0));
}

#[test]
fn a_slower_rate_counts_at_once_and_forgives_nothing() {
    let mut rig = Rig::with(&limited(r#"{"per_second": 1000, "burst": 20, "queue": 0}"#), Some(Arc::default()));
    for _ in 0..20 {
        rig.text("x");
    }
    change(&mut rig, &limited(r#"{"per_second": 1, "burst": 20, "queue": 0}"#));
    rig.pass(500);
    rig.text("x");
    assert_eq!((rig.seen.messages.len(), &rig.seen.reports[..]), (20, &[Code::RateLimited][..]));
}

#[test]
fn what_waits_is_delivered_where_there_is_no_limit_any_more() {
    let mut rig = Rig::with(&limited(r#"{"per_second": 1, "burst": 1, "queue": 5}"#), Some(Arc::default()));
    for text in ["1", "2", "3"] {
        rig.text(text);
    }
    change(&mut rig, &limited("null"));
    rig.text("4");
    assert_eq!(rig.seen.messages, ["1", "2", "3", "4"]);
}

#[test]
fn another_bucket_is_no_fresh_burst() {
    let rules = r#"{"per_second": 1, "burst": 5, "queue": 0, "bytes_per_second": null}"#;
    for (next, passes) in [(rules, 0), (r#"{"per_second": 1, "burst": 8, "queue": 0, "bytes_per_second": null}"#, 3)] {
        let mut rig = Rig::with(&limited(rules), Some(Arc::default()));
        for _ in 0..5 {
            rig.text("x");
        }
        let before = core::mem::replace(&mut rig.policy, limited(next));
        let roles = Roles::default();
        let change = PolicyChange { before: &before, after: &rig.policy, rate_key: Some(Arc::default()), roles };
        rig.conn.change_policy(change, rig.now);
        for _ in 0..=passes {
            rig.text("x");
        }
        assert_eq!((rig.seen.messages.len(), &rig.seen.reports[..]), (5 + passes, &[Code::RateLimited][..]));
    }
}

#[test]
fn pings_come_by_the_new_interval() {
    let pings = |ms: u64| policy(&format!(r#", "protocol": "raw", "ping_interval_ms": {ms}, "idle_timeout_ms": 0"#));
    let mut rig = Rig::with(&pings(0), None);
    rig.pass(1000);
    change(&mut rig, &pings(100));
    rig.pass(350);
    assert_eq!(rig.out, [0x89, 0].repeat(3));
    change(&mut rig, &pings(0));
    rig.pass(5000);
    assert_eq!(rig.out, [0x89, 0].repeat(3));
}

/// Whoever has used up a burst that is smaller from now on has used up the smaller one, and his next message waits. It was so
/// only where the rate changed as well.
#[test]
fn a_smaller_burst_closes_nobody() {
    let of = |burst: u32, per_second: u32, most: usize| {
        policy(&format!(
            r#", "protocol": "raw", "ping_interval_ms": 0, "idle_timeout_ms": 0, "max_message_bytes": {most}, "rate_limit":
            {{"per_second": {per_second}, "burst": {burst}, "queue": 10, "bytes_per_second": 1000}}"#
        ))
    };
    // The burst of bytes is as long as the longest message.
    let before = of(100, 10, 20_000);
    for after in [of(10, 10, 20_000), of(10, 11, 20_000), of(100, 10, 1000)] {
        let mut rig = Rig::with(&before, Some(Arc::default()));
        (0..90).for_each(|_| rig.input(&frame(0x82, &[b'x'; 200])));
        change(&mut rig, &after);
        rig.input(&frame(0x82, b"next"));
        let is_byte_burst = after.max_message_bytes == 1000;
        assert!(rig.conn.is_open(), "{:?}", rig.seen.details);
        assert_eq!(rig.conn.delayed_messages(), 1, "no fresh burst");
        rig.pass(if is_byte_burst { 10 } else { 200 });
        assert_eq!(rig.seen.messages.last().map(String::as_str), Some("next"));
    }
}
