//! Nodes on Sentinels and on a Redis Cluster.

use std::time::{Duration, Instant};

use serde_json::json;
use wsguard_test_support::client::Client;
use wsguard_test_support::ensure;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;

use super::{Sharded, Watched};
use crate::faults::{Calm, ban_carol, crosses, talking};
use crate::ground::{BACK, Ground, client, knock, let_in, room_settled, up};
use crate::limits::{SEATS, all_taken, seated};
use crate::redis::until;

/// Three nodes, alice on each of them, carol banned, and honest clients.
fn begin(ground: &Ground, url: &str) -> Outcome<(Vec<Host>, Vec<Client>, Calm)> {
    let (mut nodes, members) = talking(ground, |_| seated(url))?;
    ban_carol(&mut nodes)?;
    let calm = Calm::on(&nodes)?;
    Ok((nodes, members, calm))
}

/// All of it holds: messages cross, the seats are the cluster's, the ban is known.
fn holds(nodes: &mut [Host], members: &mut [Client]) -> Outcome<Duration> {
    let began = Instant::now();
    nodes.iter_mut().try_for_each(up)?;
    crosses(nodes, members)?;
    let took = began.elapsed();
    let fourth = let_in(&nodes[0], "alice", BACK)?.0;
    until("the seats are taken", BACK, || all_taken(nodes).map(|()| true))?;
    fourth.leave()?;
    for node in nodes.iter() {
        until("carol is banned", BACK, || Ok(knock(&node.target, "carol")?.0.status == 403))?;
    }
    Ok(took)
}

/// The master is killed, the replica takes over.
pub(crate) fn sentinel(ground: &Ground) -> Outcome<String> {
    let mut watched = Watched::start()?;
    let (mut nodes, mut members, calm) = begin(ground, &watched.url())?;
    holds(&mut nodes, &mut members)?;
    let elected = watched.fail_over()?;
    let took = holds(&mut nodes, &mut members)?;
    let noted = watched.ask(&["ZRANGE", "wsguard:{default}:nodes", "0", "-1"])?.texts();
    ensure!(noted.len() == 3, "the new master knows {noted:?}");
    let (elected, took) = (elected.as_millis(), took.as_millis());
    Ok(format!("a new master after {elected} ms, as before {took} ms later; {}", calm.finish()?))
}

/// Users and rooms of every shard.
pub(crate) fn sharded(ground: &Ground) -> Outcome<String> {
    let sharded = Sharded::start()?;
    let (mut nodes, mut members, calm) = begin(ground, &sharded.url())?;
    holds(&mut nodes, &mut members)?;
    // Enough rooms that each shard has some.
    for room in 0..12 {
        let room = format!("room {room}");
        let joined = nodes.iter().map(|node| crate::ground::member(node, "bob", &room));
        let mut joined = joined.collect::<Outcome<Vec<_>>>()?;
        for node in &mut nodes {
            room_settled(node, &room, &mut joined.iter_mut().collect::<Vec<_>>())?;
        }
        joined.into_iter().try_for_each(Client::leave)?;
    }
    let masters = ["alice", "bob", "dave", "erin"].map(|user| sharded.master_of(&format!("wsguard:default:u:{user}")));
    let masters = masters.into_iter().collect::<Outcome<Vec<_>>>()?;
    for user in ["bob", "dave", "erin"] {
        let taken = (0..SEATS).map(|number| let_in(&nodes[number % 3], user, BACK).map(|(client, _)| client));
        let taken = taken.collect::<Outcome<Vec<_>>>()?;
        for node in &nodes {
            let (answer, _) = knock(&node.target, user)?;
            ensure!(answer.status == 429, "{user}'s connection {} was answered {}", SEATS + 1, answer.status);
        }
        taken.into_iter().try_for_each(Client::leave)?;
    }
    Ok(format!("users on the shards {masters:?}, 12 rooms; {}", calm.finish()?))
}

/// By `redis-cli` to one server of the Cluster, whatever shard a channel would belong to; then the master of alice's slot
/// is killed.
pub(crate) fn master_killed(ground: &Ground) -> Outcome<String> {
    let mut sharded = Sharded::start()?;
    let (mut nodes, mut members, calm) = begin(ground, &sharded.url())?;
    holds(&mut nodes, &mut members)?;
    let outside = |server: &crate::redis::Redis, event: &str, number: u64| {
        let text = json!({"event": event, "data": number}).to_string();
        server.cli(&["PUBLISH", "wsguard:default:room:lobby", &text]).map(drop)
    };
    for server in &sharded.servers {
        let mut all = members.iter_mut().collect::<Vec<_>>();
        crate::ground::settled(&mut all, |event, number| outside(server, event, number))?;
    }
    let promoted = sharded.kill_master_of("wsguard:default:u:alice")?;
    let took = holds(&mut nodes, &mut members)?;
    drop(client(&nodes[0], "bob")?);
    let (promoted, took) = (promoted.as_millis(), took.as_millis());
    Ok(format!("a replica serves after {promoted} ms, as before {took} ms later; {}", calm.finish()?))
}
