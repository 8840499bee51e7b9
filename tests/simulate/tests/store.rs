//! The scripts on a real Redis beside the model: random ops, the same answers and the same state after each.
//!
//! `make simulate` runs these, with `redis-server` installed; `REDIS_SERVER=valkey-server` takes another. The scripts read
//! their time from two keys in place of `TIME`, so that buckets leak for hours and clocks are set back.

#![allow(clippy::panic, clippy::unwrap_used)]

mod redis;

use std::sync::Arc;

use redis::{Client, Server};
use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::{Entry, Level, LogId, NodeId, Op, Ownership, Reply, StoreTime, Topic};
use wsguard_proto::cluster::store::{Command, Store, Value};
use wsguard_simulate::model::{Model, Pool};
use wsguard_simulate::random::Random;

const START: u64 = 1_800_000_000_000_000;

/// Redis and the model, side by side.
struct Both {
    redis: Client,
    store: Store,
    model: Model,
    random: Random,
    /// Who is banned.
    subjects: Vec<Subject>,
}

fn node(number: u64) -> NodeId {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NodeId(id)
}

const USERS: [&str; 4] = ["alice", "{b}ob:n:x l:", "zoë \u{1F600}\r\n$5", "*"];
const SCOPES: [&str; 3] = ["", "/admin", "/a:b c"];

impl Both {
    fn new(server: &Server, seed: u64) -> Self {
        let mut redis = server.connect();
        redis.call(&[b"FLUSHALL"]);
        let networks =
            ["10.0.0.1", "10.1.0.0/16", "2001:db8::/64", "2001:db8::1/128"].map(|net| Subject::network(net).unwrap());
        let users = ["10.0.0.1", "n:10.0.0.1/32", "ü \n"].map(|user| Subject::User(user.into()));
        Self {
            redis,
            store: Store::new("t.e-s_t".into(), false),
            model: Model::new(START),
            random: Random::new(seed),
            subjects: networks.into_iter().chain(users).collect(),
        }
    }

    /// On Redis at the time of the model.
    fn run(&mut self, op: &Op) -> (Reply, Vec<Value>) {
        let (seconds, micros) = (self.model.now / 1_000_000, self.model.now % 1_000_000);
        let clock = ["MSET", "s", &seconds.to_string(), "us", &micros.to_string()].map(|word| word.as_bytes().to_vec());
        let scripts = self.store.commands(op);
        let words: Vec<_> = core::iter::once(clock.into()).chain(scripts.iter().map(on_fake_time)).collect();
        let mut values = self.redis.pipeline(&words);
        values.remove(0);
        (self.store.reply(op, &values), values)
    }

    fn step(&mut self) {
        self.pass_time();
        let op = self.op();
        let (mut real, values) = self.run(&op);
        if let Op::Disconnect { .. } | Op::Ban { .. } | Op::Unban { .. } = op {
            let [Value::Array(answer)] = &values[..] else { panic!("{values:?}") };
            self.model.next_id = Some(id(&answer[1]));
        }
        let mut model = self.model.apply(&op);
        sort(&mut real);
        sort(&mut model);
        assert_eq!(real, model, "{op:?}");
        for user in USERS {
            self.compare(user, &op);
        }
        for key in match self.redis.call(&[b"KEYS", b"*"]) {
            Value::Array(keys) => keys,
            other => panic!("{other:?}"),
        } {
            let Value::Bytes(key) = key else { panic!() };
            let text = String::from_utf8(key).unwrap();
            let is_clock = text == "s" || text == "us";
            assert!(
                is_clock || text.starts_with("wsguard:{t.e-s_t}:") || text.starts_with("wsguard:t.e-s_t:u:"),
                "{text}"
            );
        }
    }

    /// Keys that the model has forgotten by its time, Redis is made to.
    fn pass_time(&mut self) {
        let before = self.model.now;
        self.model.now = match self.random.below(20) {
            0 => before + 1_000_000 * self.random.below(10_000),
            1 => before - self.random.below(500_000).min(before - START),
            2..10 => before,
            _ => before + self.random.below(2_000_000),
        };
        let now = self.model.now;
        let over: Vec<_> =
            self.model.users.iter().filter(|(_, user)| user.until <= now).map(|(name, _)| Arc::clone(name)).collect();
        for user in over {
            self.model.users.remove(&user);
            self.redis.call(&[b"DEL", key(&user).as_bytes()]);
        }
        if self.model.nodes.values().all(|until| *until <= now) {
            // The table of nodes is kept by the same time: a beat makes it anew, and counts the same either way.
            self.redis.call(&[b"DEL", b"wsguard:{t.e-s_t}:nodes"]);
            self.model.nodes.clear();
        }
    }

    fn levels(&mut self) -> Vec<Level> {
        let mut scopes: Vec<&str> = SCOPES.to_vec();
        scopes.truncate(self.random.below(4) as usize);
        let mut level = |scope: &str| Level {
            scope: scope.into(),
            units: if self.random.chance(0.2) { 0.0 } else { self.random.unit() * 50.0 },
            units_per_second: *self.random.pick(&[0.001, 1.0, 20.0, 1e6]),
            bytes: if self.random.chance(0.3) { 0.0 } else { self.random.unit() * 1e6 },
            bytes_per_second: *self.random.pick(&[0.0, 1000.0, 3e7]),
        };
        scopes.into_iter().map(&mut level).collect()
    }

    fn op(&mut self) -> Op {
        let (who, from) = (node(self.random.below(4)), node(self.random.below(4)));
        let user: Arc<str> = (*self.random.pick(&USERS)).into();
        let keep_ms = 1000 + self.random.below(600_000);
        let levels = if self.random.chance(0.7) { self.levels() } else { vec![] };
        let subject = self.random.pick(&self.subjects.clone()).clone();
        match self.random.below(24) {
            0..5 => Op::Enter {
                node: who,
                user,
                most: 3 + self.random.below(4) as u32,
                gone: (0..self.random.below(3)).map(|_| node(self.random.below(5))).collect(),
                full: levels,
                keep_ms,
            },
            5..9 => Op::Exit { node: who, user, levels, keep_ms },
            9 | 10 => Op::Restore { node: who, user, connections: self.random.below(4) as u32, levels, keep_ms },
            11..13 => Op::Share { node: who, user, levels },
            13..16 => Op::Report {
                node: who,
                user,
                used: levels,
                least: if self.random.chance(0.5) { self.levels() } else { vec![] },
            },
            16 => Op::TakeOver { node: who, user, from, is_gone: self.random.chance(0.5), full: levels },
            17 if self.random.chance(0.5) => Op::Find { users: USERS.map(Arc::from).into(), nodes: vec![who, from] },
            17 => Op::Touch { users: USERS.map(Arc::from).into(), keep_ms },
            18 => Op::Beat {
                node: who,
                lease_ms: keep_ms,
                version: self.random.below(8),
                mark: u64::MAX - self.random.below(1 << 40),
            },
            19 => match self.random.below(3) {
                0 => Op::Leave { node: who },
                _ => Op::LoadBans,
            },
            20 => Op::Disconnect { user, node: who },
            21 => Op::Ban {
                subject,
                for_ms: self.random.chance(0.7).then_some(keep_ms),
                reason: " why; ünd\n".into(),
                node: who,
            },
            22 => Op::Unban { subject, node: who },
            _ => {
                let newest = self.model.apply(&Op::LoadBans);
                let Reply::Bans { log, .. } = newest else { panic!() };
                Op::ReadLog { after: LogId(log.0.saturating_sub(self.random.below(200)), self.random.below(2)) }
            }
        }
    }

    /// What is noted of a user, field by field, and for how long.
    fn compare(&mut self, user: &str, op: &Op) {
        let Value::Array(fields) = self.redis.call(&[b"HGETALL", key(user).as_bytes()]) else { panic!() };
        let mut real: Vec<(String, String)> = fields.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        // Redis forgets by the real time, which passes as well.
        let is_short = |until: u64| until < self.model.now + 10_000_000;
        if real.is_empty() && self.model.users.get(user).is_some_and(|noted| is_short(noted.until)) {
            self.model.users.remove(user);
        }
        let Some(noted) = self.model.users.get(user) else {
            assert_eq!(real, [], "{op:?}");
            return;
        };
        let mut model: Vec<(String, String)> =
            noted.counts.iter().map(|(node, count)| (format!("n:{node}"), count.to_string())).collect();
        model.extend(noted.owner.map(|owner| ("o".into(), owner.to_string())));
        model.extend(noted.levels.iter().map(|pool| (format!("l:{}", pool.scope), pooled(pool))));
        model.extend(noted.waiting.iter().map(|pool| (format!("w:{}", pool.scope), pooled(pool))));
        for (name, value) in real.iter_mut().filter(|(name, _)| name.starts_with("l:") || name.starts_with("w:")) {
            let numbers: Vec<f64> = value.split(' ').map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers.len(), 5, "{name}");
            *value = format!("{numbers:?}");
        }
        real.sort_unstable();
        model.sort_unstable();
        assert_eq!(real, model, "{op:?}");
        assert!(noted.owner.is_none_or(|owner| noted.counts.iter().any(|(node, _)| *node == owner)), "{noted:?}");
        assert!(noted.owner.is_some() || noted.waiting.is_empty(), "{noted:?}");
        let Value::Int(left) = self.redis.call(&[b"PTTL", key(user).as_bytes()]) else { panic!() };
        let is_short = is_short(noted.until);
        assert!(left > 0 || (left != -1 && is_short), "{user} is kept for ever after {op:?}");
        let touched = match op {
            Op::Touch { .. } | Op::Enter { .. } => true,
            Op::Restore { connections, .. } => *connections > 0 || noted.counts.is_empty(),
            Op::Exit { .. } => noted.counts.is_empty(),
            _ => false,
        };
        let told = match op {
            Op::Enter { user, .. } | Op::Exit { user, .. } | Op::Restore { user, .. } => Some(&**user),
            _ => None,
        };
        if touched && told.is_none_or(|told| told == user) {
            let wanted = i64::try_from((noted.until - self.model.now) / 1000).unwrap();
            assert!(left <= wanted && left > wanted - 30_000, "{left} of {wanted} ms after {op:?}");
        }
        if is_short {
            self.model.users.remove(user);
            self.redis.call(&[b"DEL", key(user).as_bytes()]);
        }
    }
}

fn key(user: &str) -> String {
    format!("wsguard:t.e-s_t:u:{user}")
}

fn pooled(pool: &Pool) -> String {
    let [units, rate, bytes, byte_rate] = pool.amounts;
    format!("{:?}", [units, rate, bytes, byte_rate, pool.at as f64])
}

fn text(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn id(value: &Value) -> LogId {
    let text = text(value);
    let (ms, sequence) = text.split_once('-').unwrap();
    LogId(ms.parse().unwrap(), sequence.parse().unwrap())
}

/// The words of a command whose script reads its clock from two keys.
fn on_fake_time(command: &Command) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = command.words().map(std::borrow::Cow::into_owned).collect();
    if let Some(script) = command.script {
        words[0] = b"EVAL".into();
        words[1] = script.text.replace("redis.call('TIME')", "redis.call('MGET', 's', 'us')").into_bytes();
    }
    words
}

/// Lists whose order says nothing.
fn sort(reply: &mut Reply) {
    match reply {
        Reply::Entered { others, levels, .. } => {
            others.sort_unstable();
            levels.sort_by(|a, b| a.scope.cmp(&b.scope));
        }
        Reply::Levels { levels, .. } => levels.sort_by(|a, b| a.scope.cmp(&b.scope)),
        Reply::Bans { bans, .. } => bans.sort_by_key(|ban| format!("{ban:?}")),
        Reply::Beat { members: Some(members), .. } => members.sort_unstable(),
        _ => {}
    }
}

#[test]
#[ignore = "needs redis-server: make simulate"]
fn scripts_and_model_mean_the_same() {
    let server = Server::start();
    for seed in 0..60 {
        let mut both = Both::new(&server, seed);
        for _ in 0..500 {
            both.step();
        }
    }
}

/// As the driver runs them: by SHA-1, at the real time.
#[test]
#[ignore = "needs redis-server: make simulate"]
fn scripts_run_by_their_sha1() {
    let server = Server::start();
    let mut redis = server.connect();
    redis.load_all();
    let store = Store::new("n".into(), false);
    let mut ask = |op: Op| store.reply(&op, &redis.run(&store.commands(&op)));
    let alice: Arc<str> = "alice".into();
    let Reply::Beat { now, mark: 5, version: 1, was_member: false, members: Some(members), log: LogId(0, 0) } =
        ask(Op::Beat { node: node(1), lease_ms: 10_000, version: 0, mark: 5 })
    else {
        panic!()
    };
    assert_eq!(members, [node(1)]);
    assert!(now > StoreTime(START / 2));
    let enter =
        |most| Op::Enter { node: node(1), user: Arc::clone(&alice), most, gone: vec![], full: vec![], keep_ms: 10_000 };
    let Reply::Entered { outcome: Ok(()), ownership: Ownership::Alone, .. } = ask(enter(1)) else { panic!() };
    let Reply::Entered { outcome: Err(full), .. } = ask(enter(1)) else { panic!() };
    assert_eq!(full.open, 1);
    let subject = Subject::network("10.0.0.0/8").unwrap();
    assert_eq!(
        ask(Op::Ban { subject: subject.clone(), for_ms: Some(u64::MAX), reason: "x".into(), node: node(1) }),
        Reply::Done
    );
    let Reply::Bans { bans, log, .. } = ask(Op::LoadBans) else { panic!() };
    assert_eq!(bans, [(subject.clone(), None, "x".into())]);
    let Reply::Log { oldest: LogId(0, 0), entries, .. } = ask(Op::ReadLog { after: LogId(0, 0) }) else { panic!() };
    assert_eq!(entries, [(log, Entry::Ban { subject, until: None, reason: "x".into(), node: node(1) })]);
    let bytes = b"\x00\r\n".as_slice().into();
    assert_eq!(ask(Op::Publish { topic: Topic::All, bytes }), Reply::Published(Some(0)));
    assert_eq!(ask(Op::Touch { users: vec!["bob".into(), alice], keep_ms: 10 }), Reply::Touched(vec!["bob".into()]));
    assert_eq!(ask(Op::Leave { node: node(1) }), Reply::Done);
}

/// What is missed is told, and nothing is said to be missed that is not.
#[test]
#[ignore = "needs redis-server: make simulate"]
fn a_trimmed_log_says_so() {
    let server = Server::start();
    let mut redis = server.connect();
    redis.load_all();
    let store = Store::new("n".into(), false);
    let append = store.commands(&Op::Disconnect { user: "x".into(), node: node(1) }).remove(0);
    let appends = vec![append; 1000];
    for _ in 0..65 {
        redis.run(&appends);
    }
    let first = Op::ReadLog { after: LogId(0, 0) };
    let mut read = |op: &Op| match store.reply(op, &redis.run(&store.commands(op))) {
        Reply::Log { oldest, entries, .. } => (oldest, entries),
        other => panic!("{other:?}"),
    };
    let (oldest, entries) = read(&first);
    assert_eq!((oldest, entries.len()), (LogId(0, 0), 256));
    let known = entries[255].0;
    for _ in 0..2 {
        redis.run(&appends);
    }
    let mut read = |op: &Op| match store.reply(op, &redis.run(&store.commands(op))) {
        Reply::Log { oldest, entries, .. } => (oldest, entries),
        other => panic!("{other:?}"),
    };
    let (oldest, entries) = read(&Op::ReadLog { after: known });
    assert!(oldest > known && entries[0].0 == oldest, "{oldest:?} {known:?}");
    let Value::Int(length) = redis.call(&[b"XLEN", b"wsguard:{n}:log"]) else { panic!() };
    assert!((65_536..65_700).contains(&length), "{length}");
}

/// The table is bounded, all of it is loaded, and a ban that is over makes room.
#[test]
#[ignore = "needs redis-server: make simulate"]
fn bans_are_bounded() {
    let server = Server::start();
    let mut redis = server.connect();
    redis.load_all();
    let store = Store::new("n".into(), false);
    let ban = |number: u32, for_ms| {
        let subject = Subject::User(format!("user-{number}").into());
        let op = Op::Ban { subject, for_ms, reason: "a reason".into(), node: node(1) };
        (store.commands(&op).remove(0), op)
    };
    for block in 0..64 {
        let commands: Vec<_> = (0..1024).map(|at| ban(block * 1024 + at, Some(3_600_000)).0).collect();
        assert!(!redis.run(&commands).iter().any(|value| matches!(value, Value::Error(_))));
    }
    let (command, op) = ban(70_000, None);
    let Reply::Failed(why) = store.reply(&op, &redis.run(&[command])) else { panic!("one too many") };
    assert!(why.contains("65536 bans"), "{why}");
    let (command, op) = ban(1, None);
    assert_eq!(store.reply(&op, &redis.run(&[command])), Reply::Done, "it is in it");
    let Reply::Bans { bans, .. } = store.reply(&Op::LoadBans, &redis.run(&store.commands(&Op::LoadBans))) else {
        panic!()
    };
    assert_eq!(bans.len(), 65_536);
    // As if time had passed: the first that is over makes room.
    redis.call(&[b"ZADD", b"wsguard:{n}:bans:until", b"1", b"u:user-7"]);
    let (command, op) = ban(70_000, None);
    assert_eq!(store.reply(&op, &redis.run(&[command])), Reply::Done);
}
