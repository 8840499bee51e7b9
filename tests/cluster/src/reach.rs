//! Messages reach members on every node, each once, in order of their sender.

use std::collections::HashMap;

use serde_json::{Value, json};
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::ensure;
use wsguard_test_support::host::Host;
use wsguard_test_support::outcome::Outcome;

use crate::application;
use crate::ground::{
    Ground, broadcast, client, done, hears, hears_nothing, member, policy, room_settled, settled, through, up, url,
};
use crate::redis::Redis;
use crate::tap::Tap;

/// What each sender says.
const SAID: u64 = 200;

/// Two members on each node, all of which talk at once; and one that is in another room.
pub(crate) fn rooms(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(3, |_| policy(&url(&redis)))?;
    let mut others = nodes.iter().map(|node| member(node, "dave", "other")).collect::<Outcome<Vec<_>>>()?;
    let mut members = Vec::new();
    for node in &nodes {
        members.push(member(node, "alice", "lobby")?);
        members.push(member(node, "bob", "lobby")?);
    }
    for node in &mut nodes {
        room_settled(node, "lobby", &mut members.iter_mut().collect::<Vec<_>>())?;
    }
    for number in 0..SAID {
        for (sender, client) in members.iter_mut().enumerate() {
            client.emit("say", &json!({"room": "lobby", "text": format!("{sender} {number}")}))?;
        }
    }
    let senders = members.len();
    for (index, client) in members.iter_mut().enumerate() {
        all_said(client, senders).map_err(|failure| failure.during(format_args!("member {index}")))?;
        hears_nothing(client)?;
    }
    others.iter_mut().try_for_each(hears_nothing)?;
    Ok(format!("{} messages to {senders} members on 3 nodes", SAID * senders as u64))
}

/// From each sender every number, one after another.
fn all_said(client: &mut Client, senders: usize) -> Outcome {
    let mut next = HashMap::<String, u64>::new();
    for _ in 0..SAID * senders as u64 {
        let event = client.event(PATIENCE)?;
        let text = event["data"]["text"].as_str().unwrap_or_default();
        let Some((sender, number)) = text.split_once(' ') else { return Err(format!("came {event}").into()) };
        let next = next.entry(sender.to_owned()).or_default();
        ensure!(number == next.to_string(), "sender {sender}: awaited {next}, came {number}");
        *next += 1;
    }
    Ok(())
}

/// A user with connections on every node; another user hears nothing.
pub(crate) fn users(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let mut nodes = ground.nodes(3, |_| policy(&url(&redis)))?;
    let mut alices = Vec::new();
    for node in nodes.iter().chain(&nodes[..1]) {
        alices.push(client(node, "alice")?);
    }
    let mut bobs = nodes.iter().map(|node| client(node, "bob")).collect::<Outcome<Vec<_>>>()?;
    let to_alice = |node: &mut Host, event: &str, data: Value| {
        done(node, &json!({"do": "to_user", "user": "alice", "event": event, "data": data}))
    };
    for (sender, node) in nodes.iter_mut().enumerate() {
        let mut all = alices.iter_mut().collect::<Vec<_>>();
        settled(&mut all, |event, number| to_alice(node, event, json!(number)))?;
        for number in 0..100 {
            to_alice(node, "news", json!([sender, number]))?;
        }
        for alice in &mut alices {
            for number in 0..100 {
                hears(alice, "news", &json!([sender, number]))?;
            }
        }
    }
    alices.iter_mut().chain(&mut bobs).try_for_each(hears_nothing)?;
    Ok("300 messages to 4 connections on 3 nodes".into())
}

/// `everyone` from a node reaches every connection; `except` leaves out the connection that it names, and no other.
pub(crate) fn everyone(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let nodes = ground.nodes(2, |_| policy(&url(&redis)))?;
    let mut sender = application::start(policy(&url(&redis)))?;
    up(&mut sender)?;
    let mut talker = member(&sender, "alice", "lobby")?;
    let mut clients = vec![member(&sender, "bob", "lobby")?];
    for node in &nodes {
        clients.push(member(node, "alice", "lobby")?);
        clients.push(member(node, "bob", "lobby")?);
    }
    let mut strangers = nodes.iter().map(|node| client(node, "carol")).collect::<Outcome<Vec<_>>>()?;
    let mut all = clients.iter_mut().chain(&mut strangers).chain([&mut talker]).collect::<Vec<_>>();
    settled(&mut all, |event, number| done(&mut sender, &json!({"do": "everyone", "event": event, "data": number})))?;
    for number in 0..100 {
        done(&mut sender, &json!({"do": "everyone", "event": "news", "data": number}))?;
    }
    for client in all {
        for number in 0..100 {
            hears(client, "news", &json!(number))?;
        }
    }
    // Until the room is known to have members elsewhere, and afterwards.
    for number in 0..100 {
        talker.emit("say", &json!({"room": "lobby", "text": number}))?;
    }
    for client in &mut clients {
        for number in 0..100 {
            hears(client, "said", &json!({"room": "lobby", "text": number}))?;
        }
        hears_nothing(client)?;
    }
    hears_nothing(&mut talker)?;
    strangers.iter_mut().try_for_each(hears_nothing)?;
    Ok("100 to everyone, 100 to all but one".into())
}

/// Members on the sender's own node are served without Redis: a room that nobody else has costs no command, and members
/// of a shared one hear while Redis is silent.
pub(crate) fn own_members(ground: &Ground) -> Outcome<String> {
    let redis = Redis::start()?;
    let tap = Tap::before(redis.port)?;
    let mut nodes = ground.nodes(2, |number| policy(&if number == 0 { through(&tap) } else { url(&redis) }))?;
    let mut alone = member(&nodes[0], "alice", "alone")?;
    room_settled(&mut nodes[0], "alone", &mut [&mut alone])?;
    let before = tap.asked();
    let text = "x".repeat(500);
    for number in 0..1000 {
        alone.emit("say", &json!({"room": "alone", "text": text, "n": number}))?;
        hears(&mut alone, "said", &json!({"room": "alone", "text": text, "n": number}))?;
    }
    let asked = tap.asked() - before;
    // Its heartbeat and its probe go on; a thousand messages would be half a million bytes.
    ensure!(asked < 20_000, "a room of one node cost {asked} bytes towards Redis for 1000 messages");
    let (mut near, mut far) = (member(&nodes[0], "bob", "both")?, member(&nodes[1], "bob", "both")?);
    room_settled(&mut nodes[0], "both", &mut [&mut near, &mut far])?;
    redis.pause()?;
    broadcast(&mut nodes[0], "both", "while silent", &json!(1))?;
    let heard = hears(&mut near, "while silent", &json!(1));
    redis.go_on()?;
    heard?;
    Ok(format!("1000 messages in a room of one node: {asked} bytes towards Redis"))
}
