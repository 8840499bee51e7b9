//! Nodes of one process over a real Redis: what one says the others hear, and what an outage costs.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use wsguard_proto::bans::Subject;
use wsguard_proto::cluster::ops::{Buckets, Effect, Kind, Level, Message, Request, Topic, UserFull};
use wsguard_proto::cluster::resp::{Decoder, Received};
use wsguard_proto::cluster::store::Value;
use wsguard_proto::cluster::url::ClusterUrl;
use wsguard_proto::config::{ClusterPolicy, OnOutage};
use wsguard_proto::time::Moment;

use super::super::{Cluster, Entered};
use super::redis::{PATIENCE, Redis};
use crate::driver::clock::Clock;
use crate::error::Error;

/// Buckets that nobody draws on: what is decided of them has tests of its own.
struct Unused;

impl Buckets for Unused {
    fn share(&self, _user: &str, _is_shared: bool, _now: Moment) {}
    fn levels(&self, _user: &str, _now: Moment) -> Vec<Level> {
        Vec::new()
    }
    fn full(&self, _user: &str) -> Vec<Level> {
        Vec::new()
    }
    fn take_dirty(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn take_unreported(&self, _user: &str, _now: Moment) -> Vec<Level> {
        Vec::new()
    }
    fn take_least(&self, _user: &str, _now: Moment) -> Vec<Level> {
        Vec::new()
    }
    fn settle(&self, _user: &str, _levels: &[Level], _acknowledges: bool, _now: Moment) {}
    fn lose(&self, _user: &str) {}
    fn raise(&self, _user: &str, _levels: &[Level], _now: Moment) {}
}

struct Member {
    cluster: Arc<Cluster>,
    effects: Receiver<Effect>,
}

fn policy(url: &str, name: &str) -> ClusterPolicy {
    ClusterPolicy {
        url: ClusterUrl::parse(url).unwrap(),
        name: name.into(),
        on_outage: OnOutage::Local,
        lease_ms: 4000,
        user_limits: true,
    }
}

fn start(url: &str) -> Result<Member, Error> {
    let (sender, effects) = channel();
    let sender = Mutex::new(sender);
    let tell = Box::new(move |effect| drop(sender.lock().unwrap().send(effect)));
    let cluster = Cluster::start(&policy(url, "prod"), Arc::new(Unused), Clock::start(), tell)?;
    Ok(Member { cluster, effects })
}

fn run<T>(act: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(act)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

impl Member {
    fn enter(&self, user: &str, most: u32) -> Result<Entered, UserFull> {
        run(self.cluster.enter(user.into(), most))
    }

    /// The next effect that is one of these.
    fn next(&self, is_it: impl Fn(&Effect) -> bool) -> Effect {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let effect =
                self.effects.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("an effect");
            if is_it(&effect) {
                return effect;
            }
        }
    }

    fn is_told(&self, is_reachable: bool) {
        self.next(|effect| *effect == Effect::Reachable(is_reachable));
    }

    fn publish(&self, topic: &Topic, text: &str) {
        let message =
            Message { to: vec![topic.clone()], kind: Kind::Text, plain: false, payload: text.as_bytes().into() };
        self.cluster.request(Request::Publish(message));
    }

    fn hears(&self) -> String {
        match self.next(|effect| matches!(effect, Effect::Deliver(_))) {
            Effect::Deliver(message) => String::from_utf8(message.payload.to_vec()).unwrap(),
            _ => unreachable!(),
        }
    }
}

fn room() -> Topic {
    Topic::Room("a".into())
}

#[test]
fn two_nodes_are_one_server() {
    let redis = Redis::start(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let (one, two) = (start(&url).unwrap(), start(&url).unwrap());
    assert!(one.cluster.is_reachable() && two.cluster.facts().up);
    let entered = one.enter("u", 1).unwrap();
    assert_eq!(two.enter("u", 1).unwrap_err(), UserFull { open: 1 });
    drop(entered);
    until("the place is given back", || two.enter("u", 1).is_ok());
    two.cluster.up(room());
    until("others hear the room", || one.cluster.reaches_others(&room()));
    redis.ask_until(
        &["PUBSUB", "NUMSUB", "wsguard:prod:room:a"],
        |answer| matches!(answer, Value::Array(counts) if counts[1] == Value::Int(1)),
    );
    for number in 0..1000 {
        one.publish(&room(), &number.to_string());
    }
    for number in 0..1000 {
        assert_eq!(two.hears(), number.to_string());
    }
    redis.ask(&["PUBLISH", "wsguard:prod:room:a", r#"{"event": "news", "data": [1]}"#]);
    assert!(two.hears().contains("news"));
    let user: Arc<str> = "u".into();
    two.cluster.request(Request::Disconnect { user: Arc::clone(&user) });
    one.next(|effect| matches!(effect, Effect::Disconnect { user, .. } if &**user == "u"));
    let subject = Subject::User(user);
    two.cluster.request(Request::Ban { subject: subject.clone(), for_ms: None, reason: "spam".into() });
    one.next(|effect| matches!(effect, Effect::Ban { subject: banned, .. } if *banned == subject));
    let three = start(&url).unwrap();
    assert!(
        three.effects.try_iter().any(|effect| matches!(effect, Effect::Ban { .. })),
        "bans are known after the start"
    );
    let held = two.enter("w", 1).unwrap();
    two.cluster.down(&room());
    redis.ask_until(
        &["PUBSUB", "NUMSUB", "wsguard:prod:room:a"],
        |answer| matches!(answer, Value::Array(counts) if counts[1] == Value::Int(0)),
    );
    for node in [&one, &two, &three] {
        node.cluster.stop();
    }
    assert_eq!(redis.ask(&["ZCARD", "wsguard:{prod}:nodes"]), Value::Int(0), "nobody is left");
    drop(held);
}

#[test]
fn a_redis_that_dies_and_comes_back_costs_nothing_but_messages() {
    let mut redis = Redis::start(&[]);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let (one, two) = (start(&url).unwrap(), start(&url).unwrap());
    let _held = one.enter("u", 1).unwrap();
    two.cluster.up(room());
    redis.kill();
    one.is_told(true);
    one.is_told(false);
    assert!(!one.cluster.is_reachable());
    let began = Instant::now();
    let _local = one.enter("v", 1).unwrap();
    assert!(began.elapsed() < Duration::from_millis(900), "nobody waits in an outage");
    one.publish(&room(), "lost");
    until("what is lost is counted", || one.cluster.facts().dropped == 1);
    redis.restart();
    one.is_told(true);
    two.is_told(true);
    two.is_told(false);
    two.is_told(true);
    // Redis came back empty: it was told anew.
    until("the user is counted", || two.enter("u", 1).is_err() && two.enter("v", 1).is_err());
    until("others hear the room", || one.cluster.reaches_others(&room()));
    one.publish(&room(), "after");
    assert_eq!(two.hears(), "after");
}

#[test]
fn a_redis_that_stops_to_answer_is_an_outage() {
    let redis = Redis::start(&[]);
    let node = start(&format!("redis://127.0.0.1:{}", redis.port)).unwrap();
    node.is_told(true);
    redis.signal(Signal::SIGSTOP);
    let began = Instant::now();
    node.is_told(false);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    redis.signal(Signal::SIGCONT);
    node.is_told(true);
    // Only who hears is cut off: the node listens again.
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    node.is_told(false);
    node.is_told(true);
}

#[test]
fn a_start_is_refused_where_nothing_would_mend_it() {
    let redis = Redis::start(&["--requirepass", "Hunter2"]);
    for login in ["", ":Hunter3@", "Hunter4:Hunter2@"] {
        let error = start(&format!("redis://{login}127.0.0.1:{}", redis.port)).map(drop).unwrap_err();
        assert_eq!(error.option(), Some("cluster.url"));
        let text = format!("{error} {error:?}");
        assert!(!text.contains("Hunter") && text.contains(&format!("redis://127.0.0.1:{}", redis.port)), "{text}");
    }
    let mut redis = Redis::start(&[]);
    redis.kill();
    let node = start(&format!("redis://127.0.0.1:{}", redis.port)).unwrap();
    assert!(!node.cluster.is_reachable());
    let _alone = node.enter("u", 1).unwrap();
    redis.restart();
    node.is_told(true);
}

/// Between a node and Redis: passes on everything but, while it is mute, the messages of channels.
struct Proxy {
    port: u16,
    is_mute: Arc<AtomicBool>,
}

impl Proxy {
    fn start(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_mute = Arc::new(AtomicBool::new(false));
        let mute = Arc::clone(&is_mute);
        std::thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", redis)).unwrap();
                let (mut from_node, mut to_server) = (node.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_node, &mut to_server);
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                let mute = Arc::clone(&mute);
                std::thread::spawn(move || pass_on(&server, &node, &mute));
            }
        });
        Self { port, is_mute }
    }
}

/// Value by value, as Redis sends them.
fn pass_on(server: &TcpStream, mut node: &TcpStream, is_mute: &AtomicBool) {
    let (mut decoder, mut frame) = (Decoder::default(), Vec::new());
    for byte in BufReader::new(server).bytes().map_while(Result::ok) {
        frame.push(byte);
        decoder.push(&[byte]);
        let Some(received) = decoder.take().unwrap() else { continue };
        let is_message = matches!(&received, Received::Push(push) if push[0] == Value::Bytes(b"message".into()));
        if !(is_message && is_mute.load(Ordering::Relaxed)) && node.write_all(&frame).is_err() {
            break;
        }
        frame.clear();
    }
    let _ = node.shutdown(Shutdown::Both);
}

#[test]
fn a_node_that_hears_nothing_although_redis_answers_connects_anew() {
    let redis = Redis::start(&[]);
    let proxy = Proxy::start(redis.port);
    let node = start(&format!("redis://127.0.0.1:{}", proxy.port)).unwrap();
    node.is_told(true);
    node.cluster.up(room());
    proxy.is_mute.store(true, Ordering::Relaxed);
    let began = Instant::now();
    node.is_told(false);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    proxy.is_mute.store(false, Ordering::Relaxed);
    node.is_told(true);
    redis.ask_until(
        &["PUBSUB", "NUMSUB", "wsguard:prod:room:a"],
        |answer| matches!(answer, Value::Array(counts) if counts[1] == Value::Int(1)),
    );
    redis.ask(&["PUBLISH", "wsguard:prod:room:a", r#"{"event": "news", "data": [1]}"#]);
    assert!(node.hears().contains("news"));
}

/// Channels belong to no database: messages of nodes tell theirs. What comes from outside is for both.
#[test]
fn messages_of_nodes_stay_in_their_database() {
    let redis = Redis::start(&[]);
    let nodes = [0, 1, 1].map(|database| {
        let node = start(&format!("redis://127.0.0.1:{}/{database}", redis.port)).unwrap();
        node.is_told(true);
        node.cluster.up(room());
        node
    });
    redis.ask_until(
        &["PUBSUB", "NUMSUB", "wsguard:prod:room:a"],
        |answer| matches!(answer, Value::Array(counts) if counts[1] == Value::Int(3)),
    );
    let [zero, one, another] = nodes;
    // Those of one database have to know of each other before they say anything.
    until("the nodes of database 1 know of each other", || {
        one.publish(&room(), "from one");
        another.effects.try_iter().any(|effect| matches!(effect, Effect::Deliver(_)))
    });
    zero.publish(&room(), "from zero");
    redis.ask(&["PUBLISH", "wsguard:prod:room:a", r#"{"event": "outside", "data": 1}"#]);
    assert!(zero.hears().contains("outside"));
    assert!(one.hears().contains("outside"));
}
