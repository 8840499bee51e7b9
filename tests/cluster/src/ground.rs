//! What a test works with: which hosts are the nodes, a policy, and clients on them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, ORIGIN, Opening, PATIENCE};
use wsguard_test_support::host::Host;
use wsguard_test_support::http::Response;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::setup::Setup;
use wsguard_test_support::wire::{Dial, Target};
use wsguard_test_support::{ensure, fail};

use crate::redis::{Redis, until};
use crate::tap::Tap;

/// How long what a dead node held may stay, in every policy here.
pub(crate) const LEASE: Duration = Duration::from_millis(3000);

/// What a machine may be late by that does much else.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);

/// After an outage the next attempt comes within the longest back-off, and then all is said again.
pub(crate) const BACK: Duration = Duration::from_secs(12);

/// The users; the token of each is its name.
const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "honest-token"];

/// The nodes of a test.
#[derive(Debug)]
pub(crate) struct Ground {
    /// What starts the first, the second, the third node; then from the beginning again.
    pub(crate) hosts: Vec<PathBuf>,
}

impl Ground {
    /// What starts the n-th node.
    pub(crate) fn run(&self, number: usize) -> &Path {
        &self.hosts[number % self.hosts.len()]
    }

    /// Starts as many nodes, each with a policy of its own making, and waits until each has Redis.
    pub(crate) fn nodes(&self, count: usize, setup: impl Fn(usize) -> Setup) -> Outcome<Vec<Host>> {
        let nodes = (0..count).map(|number| setup(number).start(self.run(number)));
        let mut nodes = nodes.collect::<Outcome<Vec<_>>>()?;
        nodes.iter_mut().try_for_each(up)?;
        Ok(nodes)
    }
}

/// A policy without limits of rate, on this Redis.
pub(crate) fn policy(url: &str) -> Setup {
    let tokens = USERS.map(|user| json!({"token": user, "user": user}));
    Setup::new(json!({
        "origins": [ORIGIN],
        "auth": {"tokens": tokens},
        "events": {"echo": {}, "join": {}, "leave": {}, "say": {}, "close": {}},
        "rate_limit": null,
        "handshakes_per_ip": null,
        "threads": 2,
        "cluster": {"url": url, "lease_ms": LEASE.as_millis() as u64},
    }))
}

/// How a node is told of a server.
pub(crate) fn url(redis: &Redis) -> String {
    format!("redis://127.0.0.1:{}", redis.port)
}

/// How a node is told of what stands in front of one.
pub(crate) fn through(tap: &Tap) -> String {
    format!("redis://127.0.0.1:{}", tap.port)
}

/// One metric, without labels.
pub(crate) fn metric(host: &mut Host, name: &str) -> Outcome<f64> {
    let metrics = host.command(&json!({"do": "metrics"}))?;
    let text = metrics["text"].as_str().unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| Failure(format!("no metric {name}")))
}

/// Whether a node has Redis.
pub(crate) fn is_up(host: &mut Host) -> Outcome<bool> {
    Ok(metric(host, "wsguard_cluster_up")? > 0.5)
}

/// Waits until a node has Redis.
pub(crate) fn up(host: &mut Host) -> Outcome {
    until("wsguard_cluster_up is 1", BACK, || is_up(host))
        .map(drop)
        .map_err(|failure| Failure(format!("{failure}; its log ends: {}", host.log_tail())))
}

/// Waits until a node knows that it has none.
pub(crate) fn down(host: &mut Host) -> Outcome<Duration> {
    until("wsguard_cluster_up is 0", BACK, || Ok(!is_up(host)?))
}

/// A connection of a user.
pub(crate) fn client(host: &Host, user: &str) -> Outcome<Client> {
    Client::open(&host.target, Dial::default(), &Opening::with_token(user))
        .map_err(|failure| failure.during(format_args!("{user} connects")))
}

/// The answer to a user's handshake, and the connection if it was accepted.
pub(crate) fn knock(target: &Target, user: &str) -> Outcome<(Response, Client)> {
    let mut client = Client::over(target.connect(Dial::default())?);
    let answer = client.upgrade(&Opening::with_token(user))?;
    Ok((answer, client))
}

/// A connection of a user that is a member of a room.
pub(crate) fn member(host: &Host, user: &str, room: &str) -> Outcome<Client> {
    let mut client = client(host, user)?;
    client.emit("join", &json!({"room": room}))?;
    let joined = client.event(PATIENCE)?;
    ensure!(joined["event"] == "joined", "join was answered {joined}");
    Ok(client)
}

/// A node sends an event to a room.
pub(crate) fn broadcast(host: &mut Host, room: &str, event: &str, data: &Value) -> Outcome {
    done(host, &json!({"do": "broadcast", "room": room, "event": event, "data": data}))
}

/// A command that must be carried out.
pub(crate) fn done(host: &mut Host, command: &Value) -> Outcome {
    let answer = host.command(command)?;
    ensure!(answer["ok"] == true, "{command} was answered {answer}");
    Ok(())
}

/// Waits until what `send` sends is heard by every one of `clients`; afterwards nothing of it is under way.
pub(crate) fn settled(clients: &mut [&mut Client], mut send: impl FnMut(&str, u64) -> Outcome) -> Outcome<Duration> {
    let began = Instant::now();
    let mut heard = vec![false; clients.len()];
    let mut number = 0;
    while heard.contains(&false) {
        ensure!(began.elapsed() < BACK, "not every member hears within {} ms: {heard:?}", BACK.as_millis());
        number += 1;
        send("probe", number)?;
        for (client, heard) in clients.iter_mut().zip(&mut heard) {
            if !*heard && let Ok(event) = client.event(Duration::from_millis(30)) {
                ensure!(event["event"] == "probe", "a probe was awaited, came {event}");
                *heard = true;
            }
        }
    }
    let took = began.elapsed();
    send("settled", number)?;
    for client in clients {
        while client.event(PATIENCE)?["event"] != "settled" {}
    }
    Ok(took)
}

/// Waits until a room's members hear what this node sends.
pub(crate) fn room_settled(sender: &mut Host, room: &str, members: &mut [&mut Client]) -> Outcome<Duration> {
    settled(members, |event, number| broadcast(sender, room, event, &json!(number)))
}

/// The next event must be this one.
pub(crate) fn hears(client: &mut Client, event: &str, data: &Value) -> Outcome {
    let came = client.event(PATIENCE)?;
    ensure!(came["event"] == event && came["data"] == *data, "awaited {event} {data}, came {came}");
    Ok(())
}

/// Nothing has come but the echo of what is sent now.
pub(crate) fn hears_nothing(client: &mut Client) -> Outcome {
    client.emit("echo", &json!("nothing else"))?;
    hears(client, "echo", &json!("nothing else"))
}

/// The connection is closed with this code and reason.
pub(crate) fn is_closed(client: &mut Client, code: u16, reason: &str) -> Outcome {
    let closed = client.closed(PATIENCE)?;
    ensure!(closed == (code, reason.to_owned()), "closed with {closed:?} instead of {code} {reason}");
    Ok(())
}

/// Waits until a user is let in again.
pub(crate) fn let_in(host: &Host, user: &str, within: Duration) -> Outcome<(Client, Duration)> {
    let mut open = None;
    let took = until("the user is let in", within, || {
        let (answer, client) = knock(&host.target, user)?;
        if answer.status == 101 {
            open = Some(client);
        }
        Ok(answer.status == 101)
    })?;
    match open {
        Some(client) => Ok((client, took)),
        None => fail!("not let in"),
    }
}

/// What a page of HTTP answers, and its body.
pub(crate) fn page(address: &str, path: &str) -> Outcome<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut wire = Target::plain(address).connect(Dial::default())?;
    write!(wire, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    wire.read_to_string(&mut text)?;
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status.map(|status| (status, body)).ok_or_else(|| Failure(format!("not an answer: {text}")))
}
