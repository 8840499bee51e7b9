//! `max_connections_per_user` and `rate_limit` by user are the cluster's.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, Opening, PATIENCE};
use wsguard_test_support::frame;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::setup::Setup;
use wsguard_test_support::wire::{Dial, Target};
use wsguard_test_support::{ensure, fail};

use crate::ground::{
    Ground, SLACK, client, hears, hears_nothing, knock, let_in, member, policy, settled, through, url,
};
use crate::redis::{Redis, until};
use crate::tap::Tap;

/// A user's connections, on all nodes.
pub(crate) const SEATS: usize = 4;

pub(crate) fn seated(url: &str) -> Setup {
    policy(url).option("max_connections_per_user", SEATS)
}

/// One more is refused on every node, until one is given back on another.
pub(crate) fn all_taken(nodes: &[Host]) -> Outcome {
    for node in nodes {
        let (answer, _) = knock(&node.target, "alice")?;
        ensure!(answer.status == 429, "connection {} was answered {}", SEATS + 1, answer.status);
    }
    Ok(())
}

pub(crate) fn seats(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let nodes = ground.nodes(3, |_| seated(&url(&redis)))?;
    let taken = (0..SEATS).map(|number| client(&nodes[number % 3], "alice"));
    let mut taken = taken.collect::<Outcome<Vec<_>>>()?;
    let mut slowest = Duration::ZERO;
    for round in 0..6 {
        all_taken(&nodes)?;
        client(&nodes[0], "bob")?.leave()?;
        taken.remove(0).leave()?;
        let (again, took) = let_in(&nodes[round % 3], "alice", SLACK)?;
        slowest = slowest.max(took);
        taken.push(again);
    }
    all_taken(&nodes)?;
    Ok(format!("{SEATS} on 3 nodes, given back within {} ms", slowest.as_millis()))
}

/// Thirty ask at the same time, on three nodes.
pub(crate) fn seats_in_a_rush(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let nodes = ground.nodes(3, |_| seated(&url(&redis)))?;
    for round in 0..5 {
        let barrier = Barrier::new(30);
        let answers = std::thread::scope(|scope| {
            let asking = (0..30).map(|number| {
                let (target, barrier) = (&nodes[number % 3].target, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    knock(target, "alice")
                })
            });
            let asking = asking.collect::<Vec<_>>();
            asking.into_iter().map(|thread| thread.join().map_err(|_| Failure("a thread panicked".into()))?).collect()
        });
        let answers: Vec<_> = Outcome::<Vec<_>>::from(answers)?;
        let (inside, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(answer, _)| answer.status == 101);
        ensure!(inside.len() == SEATS, "round {round}: {} of 30 were let in", inside.len());
        ensure!(refused.iter().all(|(answer, _)| answer.status == 429), "round {round}: refused with another status");
        inside.into_iter().try_for_each(|(_, client)| client.leave())?;
        until("all seats are given back", SLACK, || {
            let noted = redis.ask(&["HKEYS", "wsguard:default:u:alice"])?.texts();
            Ok(!noted.iter().any(|field| field.starts_with("n:")))
        })?;
    }
    Ok(format!("{SEATS} of 30 were let in, 5 times"))
}

const PER_SECOND: f64 = 50.0;
const BURST: f64 = 40.0;
const QUEUE: usize = 40;

fn limited(url: &str) -> Setup {
    let rate = json!({"per_second": PER_SECOND, "burst": BURST, "queue": QUEUE, "bytes_per_second": 10_000_000});
    policy(url).option("rate_limit", rate)
}

/// What may pass on all nodes in so much time.
fn most(nodes: usize, within: Duration) -> f64 {
    BURST + PER_SECOND * within.as_secs_f64() + nodes as f64 * (BURST / 4.0).max(1.0)
}

/// A user that keeps a few messages under way, on so many nodes at once; how many came back, and within which time.
fn work(nodes: &[Host], within: Duration) -> Outcome<(u64, Duration)> {
    let mut clients = nodes.iter().map(|node| client(node, "alice")).collect::<Outcome<Vec<_>>>()?;
    let began = Instant::now();
    let results: Vec<Outcome<u64>> = std::thread::scope(|scope| {
        let threads = clients.iter_mut().map(|client| scope.spawn(move || echo(client, began + within)));
        let threads = threads.collect::<Vec<_>>();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| fail!("a thread panicked"))).collect()
    });
    let took = began.elapsed();
    let passed = results.into_iter().sum::<Outcome<u64>>()?;
    clients.into_iter().try_for_each(Client::leave)?;
    Ok((passed, took))
}

/// Echoes, at most a third of what may wait on all nodes under way.
fn echo(client: &mut Client, until: Instant) -> Outcome<u64> {
    let (mut sent, mut passed) = (0_u64, 0_u64);
    loop {
        while sent - passed < (QUEUE / 4) as u64 && Instant::now() < until {
            client.emit("echo", &json!(sent))?;
            sent += 1;
        }
        if sent == passed {
            return Ok(passed);
        }
        hears(client, "echo", &json!(passed))?;
        passed += 1;
    }
}

/// An honest user at its rate on three nodes: no more passes than promised, and nobody starves.
pub(crate) fn shared_rate(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let nodes = ground.nodes(3, |_| limited(&url(&redis)))?;
    let asked = Duration::from_secs(6);
    let (passed, took) = work(&nodes, asked)?;
    let (most, least) = (most(3, took), BURST / 2.0 + 0.8 * PER_SECOND * asked.as_secs_f64());
    ensure!(passed as f64 <= most, "{passed} passed in {} ms, at most {most} may", took.as_millis());
    ensure!(passed as f64 >= least, "only {passed} passed in {} ms, at least {least} must", took.as_millis());
    Ok(format!("{passed} passed in {} ms; {least:.0} to {most:.0} may", took.as_millis()))
}

/// Whoever sends too much on three nodes, is closed and comes back at once, gets through no more than that either.
pub(crate) fn flooded(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(3, |_| limited(&url(&redis)))?;
    let mut watcher = member(&nodes[0], "bob", "watched")?;
    settled(&mut [&mut watcher], |event, number| {
        crate::ground::broadcast(&mut nodes[2], "watched", event, &json!(number))
    })?;
    let began = Instant::now();
    let ends = began + Duration::from_secs(5);
    let targets = nodes.iter().map(|node| &node.target).collect::<Vec<_>>();
    let (seen, rounds) = std::thread::scope(|scope| {
        let floods = targets.iter().map(|target| scope.spawn(|| flood(target, ends))).collect::<Vec<_>>();
        let mut seen = 0_u64;
        // What is delayed comes later, at the rate.
        while Instant::now() < ends + Duration::from_secs(2) {
            if watcher.event(Duration::from_millis(100)).is_ok() {
                seen += 1;
            }
        }
        let rounds = floods.into_iter().map(|flood| flood.join().unwrap_or_default()).collect::<Vec<_>>();
        (seen, rounds)
    });
    let most = most(3, began.elapsed());
    ensure!(seen as f64 <= most, "{seen} of a flood passed in {} ms, at most {most} may", began.elapsed().as_millis());
    ensure!(seen as f64 > BURST, "only {seen} of a flood passed");
    ensure!(rounds.iter().sum::<u64>() > 0, "no node closed a flood");
    Ok(format!("{seen} of a flood passed on 3 nodes, at most {most:.0} may; floods closed: {rounds:?}"))
}

/// On each node as much as one server lets through, and so on three nodes three times as much; how often it was closed.
fn flood(target: &Target, ends: Instant) -> u64 {
    const TICK: Duration = Duration::from_millis(100);
    let one = frame::encode(frame::TEXT, br#"{"event":"say","data":{"room":"watched","text":"flood"}}"#);
    let portion = one.repeat((PER_SECOND * TICK.as_secs_f64()).round() as usize);
    let (mut closed, mut client) = (0, None);
    let mut due = Instant::now();
    while due < ends {
        client = client.or_else(|| Client::open(target, Dial::default(), &Opening::with_token("alice")).ok());
        due += TICK;
        if client.as_mut().is_some_and(|client| client.send(&portion).is_err() || is_over(client, due)) {
            (client, closed) = (None, closed + 1);
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    closed
}

/// Whether the server closes the connection before that time.
fn is_over(client: &mut Client, until: Instant) -> bool {
    match client.frame(until.saturating_duration_since(Instant::now())) {
        Ok(frame) => frame.opcode == frame::CLOSE,
        Err(Failure(why)) => !why.starts_with("nothing came"),
    }
}

/// Whoever has used its burst on one node finds it used on the next one, also when the first connection is gone.
pub(crate) fn moves_along(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let slow = json!({"per_second": 1, "burst": 20, "queue": 100, "bytes_per_second": 10_000_000});
    let nodes = ground.nodes(3, |_| policy(&url(&redis)).option("rate_limit", slow.clone()))?;
    let began = Instant::now();
    let mut passed = 0_u64;
    for node in &nodes {
        let mut client = client(node, "alice")?;
        for number in 0..20 {
            client.emit("echo", &json!(number))?;
        }
        // What passes passes soon; the rest waits for a second each.
        while client.event(Duration::from_millis(700)).is_ok() {
            passed += 1;
        }
        // It does not close the connection in a way that waits for what is delayed.
        drop(client);
    }
    let most = 20.0 + began.elapsed().as_secs_f64() + 3.0 * 5.0;
    ensure!(passed as f64 <= most, "{passed} passed by moving from node to node, at most {most} may");
    ensure!(passed >= 20, "only {passed} passed");
    Ok(format!("{passed} of 60 passed in {} ms on 3 nodes, one after another", began.elapsed().as_millis()))
}

/// A user on one node costs no command per message, and is never late because of Redis.
pub(crate) fn alone(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let fast = json!({"per_second": 100_000, "burst": 100_000, "queue": 20, "bytes_per_second": 100_000_000});
    let nodes = ground.nodes(2, |number| {
        policy(&if number == 0 { through(&tap) } else { url(&redis) }).option("rate_limit", fast.clone())
    })?;
    let mut client = client(&nodes[0], "alice")?;
    hears_nothing(&mut client)?;
    let before = tap.asked();
    let text: Value = "x".repeat(500).into();
    for number in 0..2000 {
        client.emit("echo", &json!([number, text]))?;
        client.event(PATIENCE)?;
    }
    let asked = tap.asked() - before;
    ensure!(asked < 20_000, "2000 messages of a user on one node cost {asked} bytes towards Redis");
    Ok(format!("2000 messages: {asked} bytes towards Redis"))
}
