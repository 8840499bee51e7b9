//! `disconnect_user`, `ban` and `unban` hold on every node, also on those that did not hear of it at the time.

use serde_json::json;
use wsguard_test_support::client::Client;
use wsguard_test_support::ensure;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;

use crate::ground::{
    BACK, Ground, client, done, down, hears_nothing, is_closed, knock, let_in, policy, through, up, url,
};
use crate::redis::{Redis, until};
use crate::tap::{Manner, Tap};

pub(crate) const REVOKED: (u16, &str) = (1008, "session revoked");
const BANNED: (u16, &str) = (1008, "banned");

fn revoked(client: &mut Client) -> Outcome {
    is_closed(client, REVOKED.0, REVOKED.1)
}

fn disconnect_alice(host: &mut Host) -> Outcome {
    done(host, &json!({"do": "disconnect_user", "user": "alice"}))
}

/// From each node in turn: all of the user's connections end, nobody else's, and the user may come back.
pub(crate) fn disconnect(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(3, |_| policy(&url(&redis)))?;
    let mut bobs = nodes.iter().map(|node| client(node, "bob")).collect::<Outcome<Vec<_>>>()?;
    for caller in 0..nodes.len() {
        let mut alices = nodes.iter().map(|node| client(node, "alice")).collect::<Outcome<Vec<_>>>()?;
        disconnect_alice(&mut nodes[caller])?;
        alices.iter_mut().try_for_each(revoked)?;
    }
    for node in &nodes {
        let mut alice = client(node, "alice")?;
        hears_nothing(&mut alice)?;
    }
    bobs.iter_mut().try_for_each(hears_nothing)?;
    Ok("3 calls, 9 connections closed".into())
}

/// A node that has no Redis when it is called closes what was open then as soon as it is back, and nothing younger.
pub(crate) fn cut_off(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let mut nodes = ground.nodes(2, |number| policy(&if number == 1 { through(&tap) } else { url(&redis) }))?;
    let (mut near, mut far) = (client(&nodes[0], "alice")?, client(&nodes[1], "alice")?);
    let mut bob = client(&nodes[1], "bob")?;
    tap.set(Manner::Cut);
    down(&mut nodes[1])?;
    disconnect_alice(&mut nodes[0])?;
    revoked(&mut near)?;
    hears_nothing(&mut far)?;
    // Clocks are told apart by a round trip to Redis; what is younger than that by far stays.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut younger = client(&nodes[1], "alice")?;
    let back = std::time::Instant::now();
    tap.set(Manner::Pass);
    revoked(&mut far)?;
    let took = back.elapsed();
    up(&mut nodes[1])?;
    hears_nothing(&mut younger)?;
    hears_nothing(&mut bob)?;
    Ok(format!("closed {} ms after the network was back", took.as_millis()))
}

/// Of a user and of an address: open connections end everywhere, a node that starts later knows of it, and `unban` lifts it.
pub(crate) fn bans(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(2, |_| policy(&url(&redis)))?;
    let mut alices = nodes.iter().map(|node| client(node, "alice")).collect::<Outcome<Vec<_>>>()?;
    done(&mut nodes[0], &json!({"do": "ban", "user": "alice", "for_ms": 600_000}))?;
    alices.iter_mut().try_for_each(|alice| is_closed(alice, BANNED.0, BANNED.1))?;
    nodes.extend(ground.nodes(1, |_| policy(&url(&redis)))?);
    for node in &nodes {
        let (answer, _) = knock(&node.target, "alice")?;
        ensure!(answer.status == 403, "a banned user was answered {}", answer.status);
        client(node, "bob")?;
    }
    done(&mut nodes[2], &json!({"do": "unban", "user": "alice"}))?;
    nodes.iter().try_for_each(|node| let_in(node, "alice", BACK).map(drop))?;
    // One that ends by itself.
    done(&mut nodes[1], &json!({"do": "ban", "ip": "127.0.0.1", "for_ms": 2000}))?;
    for node in &nodes {
        until("the address is banned", BACK, || Ok(knock(&node.target, "bob")?.0.status == 403))?;
    }
    nodes.iter().try_for_each(|node| let_in(node, "bob", BACK).map(drop))?;
    Ok("2 bans, on 3 nodes".into())
}
