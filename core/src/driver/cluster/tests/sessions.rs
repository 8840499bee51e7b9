//! Sessions: ops as commands and replies, connections that break or stop, servers that refuse.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_rustls::TlsConnector;
use wsguard_proto::cluster::ops::{NodeId, Op, OpId, Ownership, Reply, Topic};
use wsguard_proto::cluster::store::Value;
use wsguard_proto::cluster::url::ClusterUrl;
use wsguard_test_support::certs::Certs;

use super::super::connect::Target;
use super::super::refusal::Refusal;
use super::super::session::{Outcome, Session};
use super::super::slots::slot;
use super::super::tls;
use super::redis::{PATIENCE, Redis, cluster};

const ME: NodeId = NodeId(*b"0123456789abcdef");

fn target(url: &str, tls: Option<TlsConnector>) -> Target {
    Target { url: ClusterUrl::parse(url).unwrap(), name: "test".into(), closes: false, tls }
}

fn run<T>(act: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap().block_on(act)
}

async fn session(url: &str) -> Session {
    let target = Arc::new(target(url, None));
    let connected = target.connect(&[], 0).await.unwrap();
    Session::new(target, connected)
}

fn refusal(url: &str) -> Refusal {
    run(async { target(url, None).connect(&[], 0).await.err().unwrap() })
}

fn room(name: &str) -> Topic {
    Topic::Room(name.into())
}

fn beat() -> Op {
    Op::Beat { node: ME, lease_ms: 1000, version: 0, mark: 7 }
}

fn enter(user: &str) -> Op {
    Op::Enter { node: ME, user: user.into(), most: 9, gone: vec![], full: vec![], keep_ms: 10_000 }
}

fn publish(topic: &Topic, bytes: &[u8]) -> Op {
    Op::Publish { topic: topic.clone(), bytes: bytes.into() }
}

/// Goes on until there are as many outcomes; a map of slots that is stale is read again.
async fn outcomes(session: &mut Session, count: usize) -> Result<Vec<Outcome>, String> {
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while all.len() < count {
        assert!(Instant::now() < deadline, "{all:?}");
        if session.has_to_renew() {
            session.renew().await.map_err(|why| why.to_string())?;
        }
        session.tend(Instant::now())?;
        session.flush();
        let next = core::future::poll_fn(|cx| session.poll_outcome(cx, Instant::now()));
        if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(5), next).await {
            all.push(outcome?);
        }
    }
    Ok(all)
}

async fn carry(session: &mut Session, ops: Vec<Op>) -> Vec<Reply> {
    let count = ops.len();
    for (id, op) in (0..).zip(ops) {
        session.carry(OpId(id), op, Instant::now());
    }
    session.flush();
    let mut replies: Vec<(u64, Reply)> = Vec::new();
    while replies.len() < count {
        for outcome in outcomes(session, 1).await.unwrap() {
            if let Outcome::Reply(id, reply) = outcome {
                replies.push((id.0, reply));
            }
        }
    }
    replies.sort_by_key(|(id, _)| *id);
    replies.into_iter().map(|(_, reply)| reply).collect()
}

fn is_alone(reply: &Reply) -> bool {
    matches!(reply, Reply::Entered { outcome: Ok(()), ownership: Ownership::Alone, .. })
}

#[test]
fn ops_are_carried_out_and_messages_heard() {
    let redis = Redis::start(&[]);
    run(async {
        let mut session = session(&format!("redis://127.0.0.1:{}/3", redis.port)).await;
        let replies = carry(&mut session, vec![beat(), enter("u"), Op::Subscribe { topic: room("a") }]).await;
        assert!(matches!(replies[0], Reply::Beat { mark: 7, .. }), "{replies:?}");
        assert!(is_alone(&replies[1]) && replies[2] == Reply::Subscribed, "{replies:?}");
        session.carry(OpId(1), publish(&room("a"), b"one"), Instant::now());
        session.carry(OpId(2), publish(&room("b"), b"two"), Instant::now());
        session.flush();
        let mut published = Vec::new();
        let mut heard = Vec::new();
        for outcome in outcomes(&mut session, 3).await.unwrap() {
            match outcome {
                Outcome::Reply(OpId(id), reply) => published.push((id, reply)),
                Outcome::Heard(topic, bytes) => heard.push((topic, bytes)),
                Outcome::Overheard => panic!("nobody is in another database"),
            }
        }
        assert_eq!(published, [(1, Reply::Published(Some(1))), (2, Reply::Published(Some(0)))]);
        assert_eq!(heard, [(room("a"), b"one".to_vec())]);
        redis.ask(&["PUBLISH", "wsguard:other:room:a", "elsewhere"]);
        // Of a node in database 0.
        redis.ask(&["PUBLISH", "wsguard:test:room:a", "\x01\x01"]);
        redis.ask(&["PUBLISH", "wsguard:test:room:a", "outside"]);
        let heard = outcomes(&mut session, 2).await.unwrap();
        assert!(matches!(&heard[0], Outcome::Overheard));
        assert!(matches!(&heard[1], Outcome::Heard(topic, bytes) if *topic == room("a") && bytes == b"outside"));
        // Scripts that Redis has lost are sent again, and each op is carried out once.
        redis.ask(&["SCRIPT", "FLUSH"]);
        let replies = carry(&mut session, vec![enter("v"), enter("v"), enter("w"), beat()]).await;
        assert!(replies[..3].iter().all(is_alone), "{replies:?}");
        assert!(matches!(replies[3], Reply::Beat { was_member: true, .. }), "{replies:?}");
        let users = ["u", "v", "w"].map(Arc::from).to_vec();
        let missing = carry(
            &mut session,
            vec![Op::Touch { users: users.clone(), keep_ms: 5000 }, Op::Touch { users: vec![], keep_ms: 1 }],
        )
        .await;
        assert_eq!(missing, [Reply::Touched(vec![]), Reply::Touched(vec![])]);
        let replies =
            carry(&mut session, vec![Op::Unsubscribe { topic: room("a") }, publish(&room("a"), b"three")]).await;
        assert_eq!(replies, [Reply::Done, Reply::Published(Some(0))]);
    });
}

#[test]
fn many_ops_keep_their_order_and_none_is_lost() {
    let redis = Redis::start(&[]);
    run(async {
        let mut session = session(&format!("redis://127.0.0.1:{}", redis.port)).await;
        assert_eq!(carry(&mut session, vec![Op::Subscribe { topic: Topic::All }]).await, [Reply::Subscribed]);
        for number in 0..5000_u64 {
            session.carry(OpId(number), publish(&Topic::All, &number.to_be_bytes()), Instant::now());
        }
        assert!(session.has_room());
        for number in 5000..9000_u64 {
            session.carry(OpId(number), publish(&Topic::All, &number.to_be_bytes()), Instant::now());
        }
        assert!(!session.has_room(), "nothing more is to be sent until some of it is answered");
        session.flush();
        let (mut replies, mut heard) = (0, 0);
        for outcome in outcomes(&mut session, 18_000).await.unwrap() {
            match outcome {
                Outcome::Reply(OpId(id), _) => {
                    assert_eq!(id, replies);
                    replies += 1;
                }
                Outcome::Heard(_, bytes) => {
                    assert_eq!(bytes, u64::to_be_bytes(heard));
                    heard += 1;
                }
                Outcome::Overheard => panic!("nobody is in another database"),
            }
        }
        assert!(session.has_room() && session.is_idle());
    });
}

#[test]
fn a_server_that_stops_to_answer_is_noticed_and_one_that_is_quiet_is_asked() {
    let redis = Redis::start(&[]);
    run(async {
        let mut session = session(&format!("redis://127.0.0.1:{}", redis.port)).await;
        let quiet = outcomes(&mut session, 1);
        assert!(tokio::time::timeout(Duration::from_millis(2500), quiet).await.is_err(), "it answers: nothing happens");
        redis.signal(Signal::SIGSTOP);
        let began = Instant::now();
        let why = outcomes(&mut session, 1).await.unwrap_err();
        redis.signal(Signal::SIGCONT);
        assert!(why.contains("no answer within 1000 ms"), "{why}");
        assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    });
}

#[test]
fn a_connection_that_breaks_ends_the_session() {
    let mut redis = Redis::start(&[]);
    run(async {
        let url = format!("redis://127.0.0.1:{}", redis.port);
        let mut first = session(&url).await;
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert!(outcomes(&mut first, 1).await.unwrap_err().contains("closed"));
        let mut second = session(&url).await;
        carry(&mut second, vec![Op::Subscribe { topic: Topic::All }]).await;
        redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        assert!(outcomes(&mut second, 1).await.is_err());
        let mut third = session(&url).await;
        redis.kill();
        assert!(outcomes(&mut third, 1).await.is_err());
        assert!(
            matches!(target(&url, None).connect(&[], 0).await.err(), Some(Refusal::Away(why)) if why.contains("refused"))
        );
        redis.restart();
        assert!(is_alone(&carry(&mut session(&url).await, vec![enter("u")]).await[0]));
    });
}

#[test]
fn whoever_may_not_come_in_is_told_why_without_the_password() {
    let redis = Redis::start(&[
        "--requirepass",
        "Hunter2",
        "--user",
        "app",
        "on",
        ">Hunter3",
        "~wsguard:*",
        "&wsguard:*",
        "+@all",
    ]);
    let port = redis.port;
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:Hunter2x@127.0.0.1:{port}"),
        format!("redis://Hunter2:Hunter2@127.0.0.1:{port}"),
        format!("redis://app:Hunter2@127.0.0.1:{port}"),
        format!("redis+cluster://:Hunter2@127.0.0.1:{port}"),
        format!("redis+sentinel://:Hunter2@127.0.0.1:{port}/mymaster"),
        format!("redis://:Hunter2@127.0.0.1:{port}/99999"),
    ] {
        let why = refusal(&url);
        assert!(matches!(&why, Refusal::Wrong(text) if !text.contains("Hunter")), "{url}: {why:?}");
    }
    run(async {
        let mut app = session(&format!("redis://app:Hunter3@127.0.0.1:{port}")).await;
        let topic = room("a");
        let ops = vec![beat(), enter("u"), Op::LoadBans, Op::Subscribe { topic: topic.clone() }, publish(&topic, b"x")];
        let replies = carry(&mut app, ops).await;
        assert!(!replies.iter().any(|reply| matches!(reply, Reply::Failed(_))), "{replies:?}");
        let mut default = session(&format!("redis://:Hunter2@127.0.0.1:{port}/1")).await;
        assert!(is_alone(&carry(&mut default, vec![enter("u")]).await[0]));
    });
    redis_without_scripts(&redis);
}

/// A user of Redis that lacks what nodes need.
fn redis_without_scripts(redis: &Redis) {
    let target = target(&format!("redis://app:Hunter3@127.0.0.1:{}", redis.port), None);
    let admin = super::super::link::Link::open(&target.url.hosts[0], None);
    run(async {
        let mut admin = admin.await.unwrap();
        admin.ask(&[b"AUTH", b"Hunter2"]).await.unwrap();
        admin.ask(&[b"ACL", b"SETUSER", b"app", b"-script"]).await.unwrap();
        let why = target.connect(&[], 0).await.err().unwrap();
        assert!(matches!(&why, Refusal::Wrong(text) if text.contains("wsguard:*")), "{why:?}");
    });
}

/// A server that answers this to whatever comes.
fn server_that_says(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        while socket.read(&mut bytes).is_ok_and(|len| len > 0) && socket.write_all(answer).is_ok() {}
    });
    port
}

#[test]
fn what_is_too_old_or_no_redis_is_refused() {
    for (answer, expected) in [
        (&b"%3\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+proto\r\n:3\r\n"[..], "6.0"),
        (b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `Hunter2`, \r\n", "6.2"),
        (b"+OK\r\n", "no Redis"),
    ] {
        let why = refusal(&format!("redis://:Hunter2@127.0.0.1:{}", server_that_says(answer)));
        assert!(matches!(&why, Refusal::Wrong(text) if text.contains(expected) && !text.contains("Hunter")), "{why:?}");
    }
    let why = refusal(&format!("redis://127.0.0.1:{}", server_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert!(matches!(&why, Refusal::Away(text) if text.contains("RESP3")), "{why:?}");
    let why = refusal(&format!("redis://127.0.0.1:{}", server_that_says(b"-LOADING Redis is loading\r\n")));
    assert_eq!(why, Refusal::away("Redis loads its data"));
    let why = refusal("redis://wsguard-no-such-host.invalid");
    assert!(matches!(&why, Refusal::Away(_)), "{why:?}");
}

#[test]
fn tls_takes_authorities_that_it_was_given_and_no_others() {
    let directory = std::env::temp_dir().join(format!("wsguard-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let certs = Certs::create(&directory).unwrap();
    let files = ["server.pem", "server.key", "ca.pem"].map(|file| certs.path(file));
    let options = [
        "--tls-port",
        "PORT",
        "--tls-cert-file",
        &files[0],
        "--tls-key-file",
        &files[1],
        "--tls-ca-cert-file",
        &files[2],
    ];
    let redis = Redis::start(&[&options[..], &["--tls-auth-clients", "no"]].concat());
    let url = format!("rediss://127.0.0.1:{}", redis.port);
    let connector = |file| tls::trusting(vec![certs.certificate(file).unwrap()]).unwrap();
    run(async {
        let trusted = Arc::new(target(&url, Some(connector("ca"))));
        let connected = trusted.connect(&[], 0).await.unwrap();
        let mut session = Session::new(trusted, connected);
        let large = vec![7; 300_000];
        let replies =
            carry(&mut session, vec![Op::Subscribe { topic: Topic::All }, publish(&Topic::All, &large)]).await;
        assert_eq!(replies, [Reply::Subscribed, Reply::Published(Some(1))]);
        let why = target(&url, Some(connector("other"))).connect(&[], 0).await.err().unwrap();
        assert!(matches!(&why, Refusal::Away(text) if text.contains("SSL_CERT_FILE")), "{why:?}");
        let plain = target(&url.replace("rediss", "redis"), None).connect(&[], 0).await.err().unwrap();
        assert!(matches!(plain, Refusal::Away(_)), "{plain:?}");
    });
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_cluster_has_its_ops_where_their_slots_are_also_when_these_move() {
    let nodes = cluster();
    run(async {
        let mut session =
            session(&format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", nodes[2].port, nodes[0].port)).await;
        let rooms: Vec<Topic> = (0..20).map(|number| room(&number.to_string())).collect();
        let mut ops = vec![beat(), Op::LoadBans];
        ops.extend((0..50).map(|number| enter(&number.to_string())));
        ops.extend(rooms.iter().map(|topic| Op::Subscribe { topic: topic.clone() }));
        let replies = carry(&mut session, ops).await;
        assert!(replies[2..52].iter().all(is_alone), "{replies:?}");
        assert!(replies[52..].iter().all(|reply| *reply == Reply::Subscribed), "{replies:?}");
        hears_all(&mut session, &rooms, &nodes).await;
        // Slots of the first master that are in use go to the second.
        let users =
            (0..50).flat_map(|number| [format!("wsguard:test:u:{number}"), format!("wsguard:test:u:moved-{number}")]);
        let keys = users.chain(rooms.iter().map(|topic| topic.channel("test")));
        let used: BTreeSet<u16> = keys.map(|key| slot(key.as_bytes())).filter(|slot| *slot <= 5460).collect();
        assert!(used.len() > 20, "{used:?}");
        move_slots(&nodes, used, 0, 1);
        let replies = carry(&mut session, (0..50).map(|number| enter(&format!("moved-{number}"))).collect()).await;
        assert!(replies.iter().all(is_alone), "{replies:?}");
        hears_all(&mut session, &rooms, &nodes).await;
        let users: Vec<Arc<str>> = (0..50).map(|number| number.to_string().into()).collect();
        let replies = carry(&mut session, vec![Op::Touch { users, keep_ms: 60_000 }]).await;
        assert!(matches!(&replies[0], Reply::Touched(_)), "{replies:?}");
    });
}

/// A server that has no slot yet gets two: one that has no key, and that of the nodes, whose keys are on both servers for a time.
#[test]
fn ops_find_their_keys_while_a_slot_moves_to_a_server_that_had_none() {
    let nodes = cluster();
    let new = Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    new.ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port.to_string()]);
    let knows_all = |value: &Value| {
        matches!(value, Value::Bytes(text) if String::from_utf8_lossy(text).contains("cluster_known_nodes:4")
            && String::from_utf8_lossy(text).contains("cluster_state:ok"))
    };
    nodes.iter().chain([&new]).for_each(|node| node.ask_until(&["CLUSTER", "INFO"], knows_all));
    let id = |redis: &Redis| match redis.ask(&["CLUSTER", "MYID"]) {
        Value::Bytes(id) => String::from_utf8(id).unwrap(),
        other => panic!("{other:?}"),
    };
    let owner = |slot: u16| &nodes[usize::from(slot / 5461).min(2)];
    let begin = |slot: u16| {
        let text = slot.to_string();
        new.ask(&["CLUSTER", "SETSLOT", &text, "IMPORTING", &id(owner(slot))]);
        owner(slot).ask(&["CLUSTER", "SETSLOT", &text, "MIGRATING", &id(&new)]);
    };
    let shared = slot(b"wsguard:{test}:nodes");
    let port = new.port.to_string();
    let migrate = |key: &str| {
        let moved = owner(shared).ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        assert_eq!(moved, Value::Bytes(b"OK".into()));
    };
    let (go, told) = std::sync::mpsc::channel();
    let (new, id, owner, migrate) = (&new, &id, &owner, &migrate);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            told.recv().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            migrate("wsguard:{test}:state");
            for node in [new, owner(shared)] {
                node.ask(&["CLUSTER", "SETSLOT", &shared.to_string(), "NODE", &id(new)]);
            }
        });
        run(async {
            let mut session = session(&format!("redis+cluster://127.0.0.1:{}", nodes[0].port)).await;
            let replies = carry(&mut session, vec![beat()]).await;
            assert!(matches!(replies[0], Reply::Beat { was_member: false, .. }), "{replies:?}");
            let user = slot(b"wsguard:test:u:asked");
            begin(user);
            let replies = carry(&mut session, vec![enter("asked")]).await;
            assert!(is_alone(&replies[0]), "{replies:?}");
            assert_eq!(new.ask(&["CLUSTER", "COUNTKEYSINSLOT", &user.to_string()]), Value::Int(1));
            begin(shared);
            migrate("wsguard:{test}:nodes");
            go.send(()).unwrap();
            let replies = carry(&mut session, vec![beat()]).await;
            assert!(matches!(replies[0], Reply::Beat { was_member: true, .. }), "{replies:?}");
        });
    });
}

/// Waits until the servers pass on what is published, which they do not promise while they have just met, or slots move.
async fn settled(session: &mut Session, rooms: &[Topic], nodes: &[Redis; 3]) {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = BTreeSet::new();
    while heard.len() < 2 * rooms.len() {
        assert!(Instant::now() < deadline, "{heard:?}");
        for (number, topic) in rooms.iter().enumerate() {
            nodes[number % 3].ask(&["PUBLISH", &topic.channel("test"), "settling outside"]);
            session.carry(OpId(1000), publish(topic, b"settling inside"), Instant::now());
        }
        session.flush();
        let mut replies = 0;
        while replies < rooms.len() {
            match outcomes(session, 1).await.unwrap().remove(0) {
                Outcome::Reply(..) => replies += 1,
                Outcome::Heard(topic, bytes) => _ = heard.insert((topic, bytes)),
                Outcome::Overheard => panic!("nobody is in another database"),
            }
        }
    }
}

/// Each room's messages of nodes, and those from outside that any server was given, arrive.
async fn hears_all(session: &mut Session, rooms: &[Topic], nodes: &[Redis; 3]) {
    settled(session, rooms, nodes).await;
    for (number, topic) in rooms.iter().enumerate() {
        nodes[number % 3].ask(&["PUBLISH", &topic.channel("test"), "outside"]);
        session.carry(OpId(1000), publish(topic, b"inside"), Instant::now());
    }
    session.flush();
    let (mut inside, mut outside, mut replies) = (0, 0, 0);
    while inside + outside + replies < 3 * rooms.len() {
        match outcomes(session, 1).await.unwrap().remove(0) {
            Outcome::Reply(_, reply) => {
                assert_eq!(reply, Reply::Published(None));
                replies += 1;
            }
            Outcome::Heard(_, bytes) if bytes.starts_with(b"settling") => {}
            Outcome::Heard(_, bytes) if bytes == b"inside" => inside += 1,
            Outcome::Heard(..) => outside += 1,
            Outcome::Overheard => panic!("nobody is in another database"),
        }
    }
    assert_eq!((inside, outside), (rooms.len(), rooms.len()));
}

/// Gives slots to another master, with their keys as little as that can be: they are deleted.
fn move_slots(nodes: &[Redis; 3], slots: BTreeSet<u16>, from: usize, to: usize) {
    let Value::Bytes(id) = nodes[to].ask(&["CLUSTER", "MYID"]) else { panic!("no id") };
    let id = String::from_utf8(id).unwrap();
    nodes[from].ask(&["FLUSHALL"]);
    for slot in slots {
        // The new owner first: whoever is sent there is served.
        for index in [to, from, 2] {
            nodes[index].ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
        }
    }
}

#[test]
fn sentinel_says_where_the_master_is_also_after_a_fail_over() {
    let first = Redis::start(&[]);
    let second = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", first.port)]);
    let mut first = first;
    second.ask_until(
        &["ROLE"],
        |role| matches!(role, Value::Array(fields) if fields.get(3) == Some(&Value::Bytes(b"connected".into()))),
    );
    let sentinel = Redis::sentinel(&first);
    sentinel.ask_until(
        &["SENTINEL", "REPLICAS", "mymaster"],
        |replicas| matches!(replicas, Value::Array(replicas) if replicas.len() == 1),
    );
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/mymaster", sentinel.port);
    run(async {
        let mut before = session(&url).await;
        assert!(is_alone(&carry(&mut before, vec![enter("u")]).await[0]));
        first.kill();
        assert!(outcomes(&mut before, 1).await.is_err());
        let deadline = Instant::now() + PATIENCE;
        let mut after = loop {
            let target = Arc::new(target(&url, None));
            match target.connect(&[], 0).await {
                Ok(connected) => break Session::new(target, connected),
                Err(why) => assert!(matches!(why, Refusal::Away(_)) && Instant::now() < deadline, "{why:?}"),
            }
        };
        assert!(matches!(&carry(&mut after, vec![enter("u")]).await[0], Reply::Entered { outcome: Ok(()), .. }));
        second.ask_until(
            &["ROLE"],
            |role| matches!(role, Value::Array(fields) if fields[0] == Value::Bytes(b"master".into())),
        );
        // A master that becomes a replica is no longer worked with.
        second.ask(&["REPLICAOF", "127.0.0.1", "1"]);
        after.carry(OpId(1), enter("w"), Instant::now());
        assert!(outcomes(&mut after, 1).await.unwrap_err().contains("replica"));
    });
    let why = refusal(&format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port));
    assert!(matches!(&why, Refusal::Wrong(text) if text.contains("no server by the name")), "{why:?}");
}

#[test]
fn whoever_may_not_send_every_command_is_refused_and_told_which() {
    // Nobody needs this one while scripts are known: it is no reason to refuse a server.
    let redis = Redis::start(&["--rename-command", "EVAL", "eval-of-the-operator"]);
    drop(run(session(&format!("redis://127.0.0.1:{}", redis.port))));
    let url = format!("redis://w:pw@127.0.0.1:{}", redis.port);
    for denied in ["time", "hset", "xadd", "zrangebyscore", "publish", "unsubscribe"] {
        let rule = format!("-{denied}");
        redis.ask(&["ACL", "SETUSER", "w", "reset", "on", ">pw", "~wsguard:*", "&wsguard:*", "+@all", &rule]);
        let why = refusal(&url);
        assert!(matches!(&why, Refusal::Wrong(why) if why.ends_with(&format!("denied: {denied}"))), "{why}");
    }
    redis.ask(&["ACL", "SETUSER", "w", "reset", "on", ">pw", "~wsguard:*", "&wsguard:other:*", "+@all"]);
    assert!(refusal(&url).to_string().ends_with("denied: publish, subscribe"), "unsubscribe is about no channel");
}
