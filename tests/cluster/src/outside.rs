//! Messages that a plain Redis client publishes: good ones reach members on every node, others nobody.

use serde_json::json;
use wsguard_test_support::client::Client;
use wsguard_test_support::ensure;
use wsguard_test_support::outcome::Outcome;

use crate::ground::{Ground, client, hears, hears_nothing, member, metric, policy, settled, url};
use crate::redis::Redis;

fn say(redis: &Redis, channel: &str, event: &str, number: u64) -> Outcome {
    let text = json!({"event": event, "data": number}).to_string();
    redis.cli(&["PUBLISH", &format!("wsguard:default:{channel}"), &text]).map(drop)
}

/// By `redis-cli`, to a room, a user and everybody.
pub(crate) fn publish_to_all(redis: &Redis, ground: &Ground) -> Outcome {
    let nodes = ground.nodes(3, |_| policy(&url(redis)))?;
    let mut members = nodes.iter().map(|node| member(node, "alice", "lobby")).collect::<Outcome<Vec<_>>>()?;
    let mut bobs = nodes.iter().map(|node| client(node, "bob")).collect::<Outcome<Vec<_>>>()?;
    let mut all = members.iter_mut().collect::<Vec<_>>();
    settled(&mut all, |event, number| say(redis, "room:lobby", event, number))?;
    let mut all = bobs.iter_mut().collect::<Vec<_>>();
    settled(&mut all, |event, number| say(redis, "user:bob", event, number))?;
    for number in 0..10 {
        say(redis, "room:lobby", "to the room", number)?;
        say(redis, "user:bob", "to bob", number)?;
    }
    for number in 0..10 {
        members.iter_mut().try_for_each(|member| hears(member, "to the room", &json!(number)))?;
        bobs.iter_mut().try_for_each(|bob| hears(bob, "to bob", &json!(number)))?;
    }
    let mut all = members.iter_mut().chain(&mut bobs).collect::<Vec<_>>();
    settled(&mut all, |event, number| say(redis, "all", event, number))?;
    say(redis, "room:elsewhere", "to another room", 1)?;
    say(redis, "user:carol", "to another user", 1)?;
    members.iter_mut().chain(&mut bobs).try_for_each(hears_nothing)
}

pub(crate) fn publish(ground: &Ground) -> Outcome<String> {
    publish_to_all(&Redis::start()?, ground)?;
    Ok("by redis-cli to a room, a user and all, heard on 3 nodes, each once".into())
}

/// What is no message at all, or none that a member could be given.
pub(crate) fn malformed(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(2, |_| policy(&url(&redis)))?;
    let mut members = nodes.iter().map(|node| member(node, "alice", "lobby")).collect::<Outcome<Vec<_>>>()?;
    let mut all = members.iter_mut().collect::<Vec<_>>();
    settled(&mut all, |event, number| say(&redis, "room:lobby", event, number))?;
    let payloads: [&[u8]; 22] = [
        b"",
        b" ",
        b"hello",
        b"7",
        b"null",
        b"[]",
        b"{}",
        br#"{"event":7}"#,
        br#"{"event":null,"data":1}"#,
        br#"{"data":1}"#,
        br#"{"event":"x","data":1"#,
        br#"{"event":"x","data":1}}"#,
        br#"{"event":"x","data":01}"#,
        br#"{"event":"x","data":NaN}"#,
        br#"{"event":"x","event":"y","data":1}"#,
        br#"{"event":"x","data":"\ud800"}"#,
        b"{\"event\":\"x\",\"data\":\"\xff\"}",
        b"\x01",
        b"\x01\x01",
        b"\x01\x01aaaaaaaaaaaaaaaa\x00\x00\x00\x00\x00\x00\x00\x01\xff",
        &[1; 64],
        &[0xff; 5000],
    ];
    let mut redis_connection = redis.connection()?;
    for channel in ["wsguard:default:room:lobby", "wsguard:default:user:alice", "wsguard:default:all"] {
        for payload in payloads {
            redis_connection.ask_bytes(&[b"PUBLISH", channel.as_bytes(), payload])?;
        }
    }
    // To the nodes themselves as well; they are known by the list of the members.
    for node in redis.ask(&["ZRANGE", "wsguard:{default}:nodes", "0", "-1"])?.texts() {
        for payload in payloads {
            redis_connection.ask_bytes(&[b"PUBLISH", format!("wsguard:default:node:{node}").as_bytes(), payload])?;
        }
    }
    say(&redis, "room:lobby", "good", 1)?;
    for member in &mut members {
        hears(member, "good", &json!(1)).map_err(|failure| failure.during("behind what is malformed"))?;
        hears_nothing(member)?;
    }
    let dropped = nodes.iter_mut().map(|node| metric(node, "wsguard_cluster_dropped_total"));
    let dropped = dropped.collect::<Outcome<Vec<_>>>()?;
    ensure!(dropped.iter().all(|dropped| *dropped > 0.0), "what is malformed is not counted: {dropped:?}");
    let alive: Outcome<Vec<Client>> = nodes.iter().map(|node| client(node, "bob")).collect();
    alive?;
    Ok(format!("{} payloads to 4 kinds of channels, none delivered", payloads.len()))
}
