//! What reaches the application or its contract: invalid envelopes and data, handlers that throw, block and close, rooms
//! that are joined and left by the dozen.

use serde_json::json;
use wsguard_test_support::frame;
use wsguard_test_support::outcome::Outcome;

use super::{Act, Attacker, abandon, ends};
use wsguard_test_support::client::PATIENCE;

pub(super) const ACTS: &[Act] = &[
    Act { name: "bad-envelope", run: bad_envelope },
    Act { name: "unknown-event", run: |attacker| text(attacker, r#"{"event":"sudo","data":1}"#, 1008) },
    Act { name: "bad-schema", run: |attacker| text(attacker, r#"{"event":"join","data":{"room":7}}"#, 1008) },
    Act { name: "binary", run: |attacker| attacker.closed_for(&frame::encode(frame::BINARY, b"{}"), &[1003]) },
    Act { name: "throw", run: |attacker| text(attacker, r#"{"event":"throw","data":null}"#, 1011) },
    Act { name: "close-by-application", run: close },
    Act { name: "block", run: block },
    Act { name: "rooms", run: rooms },
];

fn text(attacker: &mut Attacker<'_>, text: &str, code: u16) -> Outcome {
    attacker.closed_for(&frame::encode(frame::TEXT, text.as_bytes()), &[code])
}

fn bad_envelope(attacker: &mut Attacker<'_>) -> Outcome {
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let envelopes = [
        "",
        "hello",
        "[]",
        "{}",
        "null",
        r#"{"event":7}"#,
        r#"{"event":"echo","data":1}x"#,
        r#"{"event":"echo","extra":1}"#,
        r#"{"event":"echo","event":"echo"}"#,
        r#"{"event":"echo","data":NaN}"#,
        r#"{"event":"echo","data":9007199254740993}"#,
        r#"{"event":"echo","data":{"__proto__":1}}"#,
        r#"{"event":"echo","data":"\ud800"}"#,
        &format!(r#"{{"event":"echo","data":{deep}}}"#),
    ];
    let envelope = *attacker.dice.pick(&envelopes);
    text(attacker, envelope, 1008)
}

fn close(attacker: &mut Attacker<'_>) -> Outcome {
    let code = attacker.dice.within(4000..4999) as u16;
    let message = json!({"event": "close", "data": {"code": code, "reason": "go"}}).to_string();
    text(attacker, &message, code)
}

/// Holds the application's thread for a moment, and sometimes does not wait for the end of it.
fn block(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.open()? else { return Ok(()) };
    let _ = client.emit("block", &json!({"ms": attacker.dice.within(10..150)}));
    if attacker.dice.within(0..2) == 0 {
        abandon(client.wire, true);
        return Ok(());
    }
    let _ = client.send(&frame::close(1000));
    ends(&mut client, &[1000], PATIENCE)
}

/// Joins rooms that nobody else has, speaks into rooms it is not in, and is gone without leaving them.
fn rooms(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.open()? else { return Ok(()) };
    for _ in 0..20 {
        let room = format!("void-{}", attacker.dice.within(0..1_000_000));
        let _ = client.emit("join", &json!({"room": room}));
        let _ = client.emit("say", &json!({"room": format!("{room}-other"), "text": "anybody?"}));
    }
    attacker.dice.pause(0..300);
    abandon(client.wire, attacker.dice.within(0..2) == 0);
    Ok(())
}
