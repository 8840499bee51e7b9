//! Too much of what is allowed: messages, bytes, pings, connections; and peers that never read or never stay.

use serde_json::json;
use wsguard_test_support::client::{Client, PATIENCE};
use wsguard_test_support::outcome::{Failure, Outcome};
use wsguard_test_support::wire::Dial;
use wsguard_test_support::{ensure, frame};

use super::{Act, Attacker, abandon, ends};
use crate::policy::PER_ADDRESS;

pub(super) const ACTS: &[Act] = &[
    Act { name: "ping-flood", run: ping_flood },
    Act { name: "message-flood", run: message_flood },
    Act { name: "byte-flood", run: byte_flood },
    Act { name: "never-reading", run: never_reading },
    Act { name: "close-with-delayed", run: close_with_delayed },
    Act { name: "leave-with-delayed", run: leave_with_delayed },
    Act { name: "reconnect-loop", run: reconnect_loop },
    Act { name: "crowd", run: crowd },
];

fn echoes(count: usize, bytes: usize) -> Vec<u8> {
    let message = json!({"event": "echo", "data": "x".repeat(bytes)}).to_string();
    frame::encode(frame::TEXT, message.as_bytes()).repeat(count)
}

fn ping_flood(attacker: &mut Attacker<'_>) -> Outcome {
    attacker.closed_for(&frame::encode(frame::PING, b"are you there").repeat(200), &[1008])
}

fn message_flood(attacker: &mut Attacker<'_>) -> Outcome {
    attacker.closed_for(&echoes(600, 10), &[1008])
}

fn byte_flood(attacker: &mut Attacker<'_>) -> Outcome {
    attacker.closed_for(&echoes(100, 60_000), &[1008])
}

/// Is in a room where others say more than the kernel and the outbox hold, and reads nothing; it goes when it is closed,
/// or before.
fn never_reading(attacker: &mut Attacker<'_>) -> Outcome {
    let dial = Dial { receive_buffer: Some(2048), ..attacker.dial() };
    let Some(mut client) = attacker.open_from(dial)? else { return Ok(()) };
    let room = format!("deaf-{}", attacker.dice.within(0..1_000_000));
    let _ = client.emit("join", &json!({"room": room}));
    let message = json!({"event": "say", "data": {"room": room, "text": "x".repeat(50_000)}}).to_string();
    let speech = frame::encode(frame::TEXT, message.as_bytes()).repeat(19);
    let mut talkers = Vec::new();
    for _ in 0..3 {
        let Some(mut talker) = attacker.open()? else { continue };
        let _ = talker.send(&speech);
        talkers.push(talker);
    }
    attacker.dice.pause(500..2500);
    abandon(client.wire, attacker.dice.within(0..2) == 0);
    Ok(())
}

/// Some of the messages wait for their rate when the close frame comes.
fn close_with_delayed(attacker: &mut Attacker<'_>) -> Outcome {
    let mut bytes = echoes(180, 10);
    bytes.extend(frame::close(1000));
    attacker.closed_for(&bytes, &[1000])
}

fn leave_with_delayed(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.open()? else { return Ok(()) };
    let _ = client.send(&echoes(180, 10));
    attacker.dice.pause(0..50);
    abandon(client.wire, attacker.dice.within(0..2) == 0);
    Ok(())
}

/// Comes, takes a piece of the bucket, and comes again.
fn reconnect_loop(attacker: &mut Attacker<'_>) -> Outcome {
    for _ in 0..15 {
        let Some(mut client) = attacker.open()? else { continue };
        let _ = client.send(&echoes(10, 10));
        match attacker.dice.within(0..3) {
            0 => {
                let _ = client.send(&frame::close(1000));
                ends(&mut client, &[1000], PATIENCE)?;
            }
            way => abandon(client.wire, way == 1),
        }
    }
    Ok(())
}

/// More connections from one address than it may have, and an address that nobody else uses.
fn crowd(attacker: &mut Attacker<'_>) -> Outcome {
    let dial = Dial::from_host(200 + attacker.number as u8);
    let mut crowd = Vec::new();
    for _ in 0..PER_ADDRESS + 20 {
        crowd.extend(attacker.open_from(dial)?);
        if attacker.stops() {
            break;
        }
    }
    // Those whose user was disconnected meanwhile have made room for others.
    let held = crowd.iter_mut().map(still_open).collect::<Outcome<Vec<_>>>()?.into_iter().filter(|open| *open).count();
    ensure!(held <= PER_ADDRESS, "{held} connections of one address, {PER_ADDRESS} may be");
    for client in &mut crowd {
        let _ = client.send(&echoes(1, 100));
    }
    attacker.dice.pause(50..1000);
    for mut client in crowd {
        match attacker.dice.within(0..3) {
            0 => drop(client.send(&frame::close(1000))),
            way => abandon(client.wire, way == 1),
        }
    }
    Ok(())
}

/// Whether nothing has come yet: a close frame or an end would have.
fn still_open(client: &mut Client) -> Outcome<bool> {
    match client.frame(std::time::Duration::from_millis(1)) {
        Ok(frame) => Ok(frame.opcode != frame::CLOSE),
        Err(Failure(what)) if what.starts_with("the server sent") => Err(Failure(what)),
        Err(failure) => Ok(super::is_silence(&failure)),
    }
}
