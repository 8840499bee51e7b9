//! Redis, the network or a node fails. On every node honest clients must notice nothing but what a cluster says it loses.

use std::time::{Duration, Instant};

use serde_json::json;
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::honest::{Honest, Seen};
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::process::Signal;
use wsguard_test_support::setup::Setup;

use crate::ground::{
    BACK, Ground, LEASE, SLACK, broadcast, client, done, down, hears, hears_nothing, is_up, knock, let_in, member,
    metric, page, policy, room_settled, through, up, url,
};
use crate::limits::{SEATS, all_taken, seated};
use crate::redis::{Redis, free_port, until};
use crate::tap::{Manner, Tap};

/// What Redis must never make an honest client wait for an echo.
const CALM: Duration = Duration::from_millis(900);

/// Honest clients on every node, for as long as a fault lasts.
pub(crate) struct Calm(Vec<Honest>);

impl Calm {
    pub(crate) fn on(nodes: &[Host]) -> Outcome<Self> {
        Ok(Self(nodes.iter().map(|node| Honest::start(&node.target, 1)).collect::<Outcome<_>>()?))
    }

    /// They were served all the time.
    pub(crate) fn finish(self) -> Outcome<Seen> {
        let mut seen = Seen::default();
        for (node, honest) in self.0.into_iter().enumerate() {
            honest.keep_going()?;
            let one = honest.finish().map_err(|failure| failure.during(format_args!("on node {node}")))?;
            seen.echoes += one.echoes;
            seen.slowest = seen.slowest.max(one.slowest);
        }
        ensure!(seen.slowest < CALM, "an honest client waited {} ms for an echo", seen.slowest.as_millis());
        Ok(seen)
    }
}

/// A member of the lobby on each node.
fn lobby(nodes: &[Host]) -> Outcome<Vec<Client>> {
    nodes.iter().map(|node| member(node, "alice", "lobby")).collect()
}

/// From each node a message reaches each member of the lobby; the longest that took.
pub(crate) fn crosses(nodes: &mut [Host], members: &mut [Client]) -> Outcome<Duration> {
    let mut slowest = Duration::ZERO;
    for node in nodes {
        let took = room_settled(node, "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
        slowest = slowest.max(took);
    }
    Ok(slowest)
}

/// Three nodes, and a member of the lobby on each of them that hears all.
pub(crate) fn talking(ground: &Ground, setup: impl Fn(usize) -> Setup) -> Outcome<(Vec<Host>, Vec<Client>)> {
    let mut nodes = ground.nodes(3, setup)?;
    let mut members = lobby(&nodes)?;
    crosses(&mut nodes, &mut members)?;
    Ok((nodes, members))
}

/// The first node bans carol, and the last one knows.
pub(crate) fn ban_carol(nodes: &mut [Host]) -> Outcome<()> {
    done(&mut nodes[0], &json!({"do": "ban", "user": "carol", "for_ms": 600_000}))?;
    until("carol is banned", BACK, || Ok(knock(&nodes[2].target, "carol")?.0.status == 403)).map(drop)
}

/// What Redis has of a node, but for its log, which has an end of its own.
fn traces(redis: &Redis, node: &str) -> Outcome<Vec<String>> {
    let contents = redis.contents()?.into_iter().filter(|(key, _)| !key.ends_with(":log"));
    let named = contents.filter(|(key, values)| key.contains(node) || values.iter().any(|value| value.contains(node)));
    Ok(named.map(|(key, _)| key).collect())
}

/// The node that is the only one.
fn name_of_the_first(redis: &Redis) -> Outcome<String> {
    let nodes = redis.ask(&["ZRANGE", "wsguard:{default}:nodes", "0", "-1"])?.texts();
    ensure!(nodes.len() == 1, "one node has started, Redis has {nodes:?}");
    Ok(nodes[0].clone())
}

/// `kill -9` of a node that holds seats: within `lease_ms` they are free and nothing in Redis names it.
pub(crate) fn node_killed(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(1, |_| seated(&url(&redis)))?;
    let name = name_of_the_first(&redis)?;
    nodes.extend(ground.nodes(2, |_| seated(&url(&redis)))?);
    let _held = (0..SEATS - 1).map(|_| client(&nodes[0], "alice")).collect::<Outcome<Vec<_>>>()?;
    let mut kept = client(&nodes[1], "alice")?;
    let _others = ["carol", "dave"].map(|user| client(&nodes[0], user));
    until("the seats are taken", SLACK, || all_taken(&nodes).map(|()| true))?;
    ensure!(!traces(&redis, &name)?.is_empty(), "Redis knows nothing of a node that lives");
    let dead = nodes.remove(0);
    dead.group.signal(Signal::SIGKILL)?;
    let died = Instant::now();
    let calm = Calm::on(&nodes)?;
    let again = (0..SEATS - 1).map(|number| {
        let left = (LEASE + SLACK).saturating_sub(died.elapsed());
        let_in(&nodes[number % 2], "alice", left).map(|(client, _)| client)
    });
    let _again = again.collect::<Outcome<Vec<_>>>()?;
    let seats_free = died.elapsed();
    until("Redis has nothing of the dead node", (LEASE + SLACK).saturating_sub(died.elapsed()), || {
        let traces = traces(&redis, &name)?;
        ensure!(traces.is_empty(), "it is in {traces:?}");
        Ok(true)
    })?;
    let clean = died.elapsed();
    all_taken(&nodes)?;
    hears_nothing(&mut kept)?;
    let seen = calm.finish()?;
    let (seats_free, clean) = (seats_free.as_millis(), clean.as_millis());
    Ok(format!("seats free after {seats_free} ms, nothing left after {clean} ms (lease {LEASE:?}); {seen}"))
}

/// A node that drains gives everything back at once; what it was sent before is delivered; the others go on.
pub(crate) fn node_drains(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(1, |_| seated(&url(&redis)))?;
    let name = name_of_the_first(&redis)?;
    nodes.extend(ground.nodes(2, |_| seated(&url(&redis)))?);
    let mut members = nodes.iter().map(|node| member(node, "bob", "lobby")).collect::<Outcome<Vec<_>>>()?;
    crosses(&mut nodes, &mut members)?;
    let _held = (0..SEATS).map(|_| client(&nodes[0], "alice")).collect::<Outcome<Vec<_>>>()?;
    all_taken(&nodes)?;
    for number in 0..100 {
        broadcast(&mut nodes[0], "lobby", "last words", &json!(number))?;
    }
    let mut leaving = nodes.remove(0);
    let calm = Calm::on(&nodes)?;
    leaving.group.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    for member in &mut members {
        for number in 0..100 {
            hears(member, "last words", &json!(number))?;
        }
    }
    let (code, _) = members[0].closed(PATIENCE)?;
    ensure!(code == 1012, "a member of the draining node was closed with {code}");
    let code = leaving.exit_code(PATIENCE)?;
    ensure!(code == 0, "exit code {code}: {}", leaving.log_tail());
    let ended = began.elapsed();
    until("nothing is left in Redis", SLACK, || Ok(traces(&redis, &name)?.is_empty()))?;
    let again = (0..SEATS).map(|number| let_in(&nodes[number % 2], "alice", SLACK).map(|(client, _)| client));
    let _again = again.collect::<Outcome<Vec<_>>>()?;
    crosses(&mut nodes, &mut members[1..])?;
    Ok(format!("ended after {} ms, nothing left behind; {}", ended.as_millis(), calm.finish()?))
}

/// Redis is killed and starts empty: nodes go on alone meanwhile, count what they drop, and then all is as before.
pub(crate) fn redis_restarts(ground: &Ground) -> Outcome<String> {
    let mut redis = Redis::start()?;
    let (mut nodes, mut members) = talking(ground, |_| seated(&url(&redis)))?;
    ban_carol(&mut nodes)?;
    let calm = Calm::on(&nodes)?;
    redis.kill();
    let noticed = nodes.iter_mut().map(down).collect::<Outcome<Vec<_>>>()?;
    let before = metric(&mut nodes[0], "wsguard_cluster_dropped_total")?;
    for number in 0..10 {
        broadcast(&mut nodes[0], "lobby", "alone", &json!(number))?;
    }
    for number in 0..10 {
        hears(&mut members[0], "alone", &json!(number))?;
    }
    let dropped = metric(&mut nodes[0], "wsguard_cluster_dropped_total")? - before;
    ensure!(dropped >= 10.0, "10 messages for other nodes were dropped, {dropped} are counted");
    // Handshakes go on, with the limits of one node.
    let mut during = client(&nodes[1], "bob")?;
    redis.run()?;
    let back = Instant::now();
    nodes.iter_mut().try_for_each(up)?;
    crosses(&mut nodes, &mut members)?;
    let took = back.elapsed();
    hears_nothing(&mut during)?;
    for (index, node) in nodes.iter().enumerate() {
        let (answer, _) = knock(&node.target, "carol")?;
        ensure!(answer.status == 403, "after the restart a banned user was answered {} by node {index}", answer.status);
    }
    // Three of alice's seats were restored; one is left.
    let (_fourth, _) = let_in(&nodes[0], "alice", SLACK)?;
    all_taken(&nodes)?;
    let seen = calm.finish()?;
    let noticed = noticed.iter().max().copied().unwrap_or_default();
    Ok(format!(
        "noticed within {} ms, as before {} ms after it was back; {seen}",
        noticed.as_millis(),
        took.as_millis()
    ))
}

/// Redis is stopped with its sockets open.
pub(crate) fn redis_paused(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let (mut nodes, mut members) = talking(ground, |_| seated(&url(&redis)))?;
    let calm = Calm::on(&nodes)?;
    redis.pause()?;
    let paused = Instant::now();
    // The first handshake may wait for an answer that does not come, but not for long.
    let mut during = nodes.iter().map(|node| client(node, "bob")).collect::<Outcome<Vec<_>>>()?;
    let slowest = paused.elapsed();
    let downs = nodes.iter_mut().try_for_each(|node| down(node).map(drop));
    let noticed = paused.elapsed();
    redis.go_on()?;
    downs?;
    ensure!(slowest < Duration::from_millis(1200) * 3 + SLACK, "handshakes waited {} ms", slowest.as_millis());
    let back = Instant::now();
    nodes.iter_mut().try_for_each(up)?;
    crosses(&mut nodes, &mut members)?;
    let took = back.elapsed();
    during.iter_mut().try_for_each(hears_nothing)?;
    let (_fourth, _) = let_in(&nodes[0], "alice", SLACK)?;
    all_taken(&nodes)?;
    let seen = calm.finish()?;
    let (slowest, noticed, took) = (slowest.as_millis(), noticed.as_millis(), took.as_millis());
    Ok(format!("3 handshakes in {slowest} ms, noticed in {noticed} ms, as before after {took} ms; {seen}"))
}

/// Redis has no memory left: it is as if it were away, until it has some.
pub(crate) fn redis_full(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let (mut nodes, mut members) = talking(ground, |_| seated(&url(&redis)))?;
    let calm = Calm::on(&nodes)?;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"])?;
    let noticed = nodes.iter_mut().map(down).collect::<Outcome<Vec<_>>>()?;
    let mut during = nodes.iter().map(|node| client(node, "bob")).collect::<Outcome<Vec<_>>>()?;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
    let back = Instant::now();
    nodes.iter_mut().try_for_each(up)?;
    crosses(&mut nodes, &mut members)?;
    let took = back.elapsed();
    during.iter_mut().try_for_each(hears_nothing)?;
    let (_fourth, _) = let_in(&nodes[0], "alice", SLACK)?;
    all_taken(&nodes)?;
    let noticed = noticed.into_iter().max().unwrap_or_default();
    Ok(format!("noticed in {} ms, as before after {} ms; {}", noticed.as_millis(), took.as_millis(), calm.finish()?))
}

/// One of three nodes loses its network, in one way or the other, for longer than a lease.
fn one_cut_off(ground: &Ground, manner: Manner) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let (mut nodes, mut members) =
        talking(ground, |number| seated(&if number == 2 { through(&tap) } else { url(&redis) }))?;
    let calm = Calm::on(&nodes)?;
    tap.set(manner);
    let cut = Instant::now();
    let noticed = down(&mut nodes[2])?;
    let (third, members_left) = members.split_last_mut().ok_or_else(|| Failure("no members".into()))?;
    broadcast(&mut nodes[2], "lobby", "alone", &json!(1))?;
    hears(third, "alone", &json!(1))?;
    // The others take its seat once its lease is over: three are free then.
    crosses(&mut nodes[..2], members_left)?;
    let (fourth, _) = let_in(&nodes[0], "alice", SLACK)?;
    let left = (LEASE + SLACK).saturating_sub(cut.elapsed());
    let (fifth, _) = let_in(&nodes[1], "alice", left)?;
    all_taken(&nodes[..2])?;
    let during = client(&nodes[2], "bob")?;
    tap.set(Manner::Pass);
    let back = Instant::now();
    up(&mut nodes[2])?;
    crosses(&mut nodes, &mut members)?;
    let took = back.elapsed();
    // Five are open now, one more than may be, and nobody is closed for that.
    until("the seats are taken", SLACK, || all_taken(&nodes).map(|()| true))?;
    fourth.leave()?;
    fifth.leave()?;
    let_in(&nodes[2], "alice", SLACK)?;
    during.leave()?;
    let seen = calm.finish()?;
    Ok(format!("noticed in {} ms, as before after {} ms; {seen}", noticed.as_millis(), took.as_millis()))
}

pub(crate) fn network_cut(ground: &Ground) -> Outcome<String> {
    one_cut_off(ground, Manner::Cut)
}

pub(crate) fn network_silent(ground: &Ground) -> Outcome<String> {
    one_cut_off(ground, Manner::Hold)
}

/// Every answer of Redis comes 300 ms late: nothing is lost, handshakes take that long, echoes do not.
pub(crate) fn network_slow(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let (mut nodes, mut members) = talking(ground, |_| seated(&through(&tap)))?;
    let calm = Calm::on(&nodes)?;
    tap.set(Manner::Delay(Duration::from_millis(150)));
    for number in 0..50 {
        for (sender, node) in nodes.iter_mut().enumerate() {
            broadcast(node, "lobby", "slow", &json!([sender, number]))?;
        }
    }
    for (index, member) in members.iter_mut().enumerate() {
        let mut next = [0_u64; 3];
        for _ in 0..150 {
            let event = member.event(PATIENCE)?;
            let (sender, number) = (event["data"][0].as_u64().unwrap_or(9) as usize, &event["data"][1]);
            ensure!(event["event"] == "slow" && sender < 3, "member {index} heard {event}");
            ensure!(*number == next[sender], "member {index} awaited {} of {sender}, came {event}", next[sender]);
            next[sender] += 1;
        }
    }
    let began = Instant::now();
    let (_fourth, _) = let_in(&nodes[1], "alice", Duration::from_millis(1000) + SLACK)?;
    let handshake = began.elapsed();
    all_taken(&nodes)?;
    for node in &mut nodes {
        ensure!(is_up(node)?, "a slow Redis is taken for none");
    }
    Ok(format!("150 messages, each once; a handshake in {} ms; {}", handshake.as_millis(), calm.finish()?))
}

/// FLUSHALL: what nodes have of their own is in Redis again, and bans that any node knows hold on.
pub(crate) fn flushed(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let (mut nodes, mut members) = talking(ground, |_| seated(&url(&redis)))?;
    ban_carol(&mut nodes)?;
    let calm = Calm::on(&nodes)?;
    redis.ask(&["FLUSHALL"])?;
    let flushed = Instant::now();
    until("the nodes are noted again", LEASE + SLACK, || {
        Ok(redis.ask(&["ZRANGE", "wsguard:{default}:nodes", "0", "-1"])?.texts().len() == 3)
    })?;
    until("alice's three connections are noted again", LEASE + SLACK, || {
        let contents = redis.contents()?;
        let alice = contents.iter().find(|(key, _)| key == "wsguard:default:u:alice");
        Ok(alice.is_some_and(|(_, values)| values.iter().filter(|value| value.starts_with("n:")).count() == 3))
    })?;
    let took = flushed.elapsed();
    let (_fourth, _) = let_in(&nodes[0], "alice", SLACK)?;
    all_taken(&nodes)?;
    crosses(&mut nodes, &mut members)?;
    let later = ground.nodes(1, |_| seated(&url(&redis)))?;
    for node in nodes.iter().chain(&later) {
        until("carol is banned again", BACK, || Ok(knock(&node.target, "carol")?.0.status == 403))?;
    }
    Ok(format!("noted again after {} ms; {}", took.as_millis(), calm.finish()?))
}

/// `on_outage: closed`: new handshakes are 503, open connections go on, readyz says so.
pub(crate) fn closed(ground: &Ground) -> Outcome<String> {
    let mut redis = Redis::start()?;
    let admins = (0..3).map(|_| Ok(format!("127.0.0.1:{}", free_port()?))).collect::<Outcome<Vec<_>>>()?;
    let cluster = json!({"url": url(&redis), "on_outage": "closed"});
    let mut nodes = ground
        .nodes(3, |number| policy("").option("cluster", cluster.clone()).option("admin_listen", &*admins[number]))?;
    let ready = |admin: &str| page(admin, "/readyz").map(|(status, _)| status);
    for admin in &admins {
        until("readyz is 200", BACK, || Ok(ready(admin)? == 200))?;
    }
    let calm = Calm::on(&nodes)?;
    redis.kill();
    nodes.iter_mut().try_for_each(|node| down(node).map(drop))?;
    for (node, admin) in nodes.iter_mut().zip(&admins) {
        let mut client = Client::over(node.target.connect(wsguard_test_support::wire::Dial::default())?);
        let answer = client.upgrade(&wsguard_test_support::client::Opening::with_token("alice"))?;
        ensure!(answer.status == 503, "without Redis a handshake was answered {}", answer.status);
        ensure!(ready(admin)? == 503, "readyz is {} without Redis", ready(admin)?);
        let health = page(&node.target.address, "/healthz")?;
        ensure!(health.0 == 200, "healthz is {health:?} without Redis");
        let refused = node.stat("verdicts.cluster_unavailable")?;
        ensure!(refused == 1, "cluster_unavailable is counted {refused} times");
    }
    redis.run()?;
    let back = Instant::now();
    for (node, admin) in nodes.iter().zip(&admins) {
        let_in(node, "alice", BACK)?;
        until("readyz is 200", BACK, || Ok(ready(admin)? == 200))?;
    }
    Ok(format!("503 on 3 nodes, 101 {} ms after Redis was back; {}", back.elapsed().as_millis(), calm.finish()?))
}

/// What is noticed within 5 s, and made anew at the next attempt.
const PROBED: Duration = Duration::from_millis(5000);

/// Until a message from the first node reaches the member on the last one.
fn heard_again(nodes: &mut [Host], member: &mut Client) -> Outcome<Duration> {
    let began = Instant::now();
    room_settled(&mut nodes[0], "lobby", &mut [member])?;
    let took = began.elapsed();
    ensure!(took < PROBED + SLACK, "a deaf subscription was noticed only after {} ms", took.as_millis());
    Ok(took)
}

/// A subscription that delivers nothing any more, on a connection that answers everything else.
pub(crate) fn deaf(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let (mut nodes, mut members) =
        talking(ground, |number| policy(&if number == 2 { through(&tap) } else { url(&redis) }))?;
    let calm = Calm::on(&nodes)?;
    let before = tap.accepted();
    tap.deafen();
    // It is deaf indeed.
    broadcast(&mut nodes[0], "lobby", "probe", &json!(0))?;
    for member in &mut members[..2] {
        hears(member, "probe", &json!(0))?;
    }
    let took = heard_again(&mut nodes, &mut members[2])?;
    let made = tap.accepted() - before;
    ensure!(made > 0, "it was not deaf");
    Ok(format!("heard again after {} ms, by {made} new connections; {}", took.as_millis(), calm.finish()?))
}

/// `CLIENT KILL TYPE pubsub`, five times.
pub(crate) fn subscriptions_killed(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let (mut nodes, mut members) = talking(ground, |_| policy(&url(&redis)))?;
    let calm = Calm::on(&nodes)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let killed = redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
        ensure!(killed.texts().first().is_some_and(|count| count != "0"), "nobody had subscribed");
        let took = crosses(&mut nodes, &mut members)?;
        ensure!(took < PROBED + SLACK, "subscriptions were made anew only after {} ms", took.as_millis());
        slowest = slowest.max(took);
    }
    Ok(format!("made anew within {} ms; {}", slowest.as_millis(), calm.finish()?))
}
