//! What a cluster costs Redis and the nodes, for docs/SCALING.md: two nodes on a real Redis, and its own counters.

use std::time::{Duration, Instant};

use serde_json::json;
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::fail;
use wsguard_test_support::frame::close;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::setup::Setup;
use wsguard_test_support::wire::Dial;

use crate::ground::{Ground, hears, room_settled, up, url};
use crate::redis::Redis;

/// Users, each with one connection.
const USERS: usize = 2000;
/// Messages of a measurement.
const MESSAGES: u64 = 20_000;

fn policy(redis: &Redis) -> Setup {
    let tokens = (0..USERS).map(|user| json!({"token": format!("user-{user}"), "user": format!("user-{user:016}")}));
    Setup::new(json!({
        "origins": [ORIGIN],
        "auth": {"tokens": tokens.collect::<Vec<_>>()},
        "events": {"echo": {}, "join": {}, "say": {}},
        "rate_limit": {"per_second": 100, "burst": 100_000, "queue": 20, "bytes_per_second": 1_000_000_000},
        "handshakes_per_ip": null,
        "max_connections_per_ip": 100_000,
        "cluster": {"url": url(redis)},
    }))
}

/// Redis' counters at one time.
#[derive(Clone, Debug, Default)]
struct Counters {
    at: Option<Instant>,
    memory: f64,
    cpu: f64,
    input: f64,
    output: f64,
    /// Commands that came, without those of scripts.
    calls: Vec<(String, f64)>,
}

impl Counters {
    fn of(redis: &Redis) -> Outcome<Self> {
        let text = redis.ask(&["INFO", "everything"])?.text();
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.parse::<f64>().ok()).ok_or_else(|| Failure(format!("INFO has no {name}")))
        };
        let calls = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        Ok(Self {
            at: Some(Instant::now()),
            memory: number("used_memory")?,
            cpu: number("used_cpu_user")? + number("used_cpu_sys")?,
            input: number("total_net_input_bytes")?,
            output: number("total_net_output_bytes")?,
            calls: calls.collect(),
        })
    }

    fn calls(&self, names: &[&str]) -> f64 {
        self.calls.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, calls)| calls).sum()
    }

    /// A line about what has happened since, for each of `count` things.
    fn since(&self, redis: &Redis, what: &str, count: f64) -> Outcome<Self> {
        let now = Self::of(redis)?;
        let seconds = match (self.at, now.at) {
            (Some(before), Some(after)) => after.duration_since(before).as_secs_f64(),
            _ => 0.0,
        };
        let of = |names: &[&str]| (now.calls(names) - self.calls(names)) / count;
        println!(
            "{what}: {:.2} scripts, {:.2} PUBLISH, {:.2} PEXPIRE; {:.0} B to Redis, {:.0} B from it, {:.1} us of its CPU, \
             {:.0} B of its memory, each of {count} ({seconds:.1} s)",
            of(&["evalsha", "eval"]),
            of(&["publish", "spublish"]),
            // Those of scripts are counted with them: what is left is Touch.
            of(&["pexpire"]),
            (now.input - self.input) / count,
            (now.output - self.output) / count,
            (now.cpu - self.cpu) * 1e6 / count,
            (now.memory - self.memory) / count,
        );
        Ok(now)
    }
}

fn user(host: &Host, number: usize) -> Outcome<Client> {
    Client::open(&host.target, Dial::default(), &Opening::with_token(&format!("user-{number}")))
}

/// Everybody connects, many at a time.
fn at_once(host: &Host) -> Outcome<Vec<Client>> {
    const AT_A_TIME: usize = 16;
    let portions: Vec<Outcome<Vec<Client>>> = std::thread::scope(|scope| {
        let connect = |first: usize| (first..USERS).step_by(AT_A_TIME).map(|number| user(host, number)).collect();
        let threads = (0..AT_A_TIME).map(|first| scope.spawn(move || connect(first))).collect::<Vec<_>>();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.map(|portion| portion.unwrap_or_else(|_| fail!("a thread panicked"))).collect()
    });
    Ok(portions.into_iter().collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Prints them.
pub(crate) fn print(ground: &Ground) -> Outcome {
    let redis = Redis::start()?;
    let mut nodes = (0..2).map(|number| policy(&redis).start(ground.run(number))).collect::<Outcome<Vec<_>>>()?;
    nodes.iter_mut().try_for_each(up)?;
    let idle = Duration::from_secs(10);

    let before = Counters::of(&redis)?;
    std::thread::sleep(idle);
    before.since(&redis, "two nodes without connections, a second", idle.as_secs_f64())?;

    let before = Counters::of(&redis)?;
    let mut clients = at_once(&nodes[0])?;
    before.since(&redis, "a handshake of a user on no other node", USERS as f64)?;

    let before = Counters::of(&redis)?;
    std::thread::sleep(idle * 2);
    before.since(&redis, "a thousand idle users, a second", idle.as_secs_f64() * 2.0 * USERS as f64 / 1000.0)?;

    let mut client = user(&nodes[0], 0)?;
    let before = Counters::of(&redis)?;
    for number in 0..MESSAGES {
        client.emit("echo", &json!(number))?;
        client.event(PATIENCE)?;
    }
    before.since(&redis, "a message of a user on one node", MESSAGES as f64)?;

    crossing(&redis, &mut nodes)?;

    let mut both = [user(&nodes[0], 3)?, user(&nodes[1], 3)?];
    let before = Counters::of(&redis)?;
    let began = Instant::now();
    for number in 0..500 {
        for client in &mut both {
            client.emit("echo", &json!(number))?;
            hears(client, "echo", &json!(number))?;
        }
        std::thread::sleep(
            (began + Duration::from_millis(10) * (number + 1)).saturating_duration_since(Instant::now()),
        );
    }
    before.since(&redis, "a user on two nodes with 200 messages a second, a second", began.elapsed().as_secs_f64())?;

    let before = Counters::of(&redis)?;
    for client in &mut clients {
        client.send(&close(1000))?;
    }
    for client in &mut clients {
        client.closed(PATIENCE)?;
    }
    before.since(&redis, "the end of a connection", USERS as f64)?;
    Ok(())
}

/// Messages that a node sends to a room with one member on the other.
fn crossing(redis: &Redis, nodes: &mut [Host]) -> Outcome {
    let mut near = user(&nodes[0], 1)?;
    let mut far = user(&nodes[1], 2)?;
    for client in [&mut near, &mut far] {
        client.emit("join", &json!({"room": "figures"}))?;
        client.event(PATIENCE)?;
    }
    room_settled(&mut nodes[0], "figures", &mut [&mut near, &mut far])?;
    let (before, group) = (Counters::of(redis)?, nodes[1].group);
    let (began, cpu) = (Instant::now(), group.cpu());
    let reader = std::thread::spawn(move || -> Outcome<Client> {
        for _ in 0..MESSAGES {
            near.event(PATIENCE)?;
        }
        Ok(near)
    });
    let sender = user(&nodes[0], 1)?;
    let talker = std::thread::spawn(move || -> Outcome {
        let mut sender = sender;
        for number in 0..MESSAGES {
            sender.emit("say", &json!({"room": "figures", "text": format!("message {number:050}")}))?;
        }
        Ok(())
    });
    for _ in 0..MESSAGES {
        far.event(PATIENCE)?;
    }
    let (took, used) = (began.elapsed(), group.cpu().saturating_sub(cpu));
    let _near = reader.join().map_err(|_| Failure("the reader panicked".into()))??;
    talker.join().map_err(|_| Failure("the sender panicked".into()))??;
    before.since(redis, "a message to a room on two nodes", MESSAGES as f64)?;
    println!(
        "delivery to the other node: {:.0} messages a second, {:.1} us of its CPU each",
        MESSAGES as f64 / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / MESSAGES as f64
    );
    Ok(())
}
