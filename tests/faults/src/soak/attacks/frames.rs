//! Frames that break the protocol or a limit, and connections that break off in the middle of one.

use serde_json::json;
use wsguard_test_support::client::PATIENCE;
use wsguard_test_support::frame;
use wsguard_test_support::outcome::Outcome;

use super::{Act, Attacker, abandon, ends, gone};

pub(super) const ACTS: &[Act] = &[
    Act { name: "unmasked", run: |attacker| attacker.closed_for(b"\x81\x05hello", &[1002]) },
    Act { name: "reserved-opcode", run: reserved_opcode },
    Act { name: "reserved-bits", run: reserved_bits },
    Act { name: "oversize", run: |attacker| attacker.closed_for(&claim(70_000), &[1009]) },
    Act { name: "top-bit-length", run: |attacker| attacker.closed_for(&claim(1 << 63 | 5), &[1002]) },
    Act { name: "not-shortest-length", run: |attacker| attacker.closed_for(&claim(5), &[1002]) },
    Act { name: "large-control", run: |attacker| attacker.closed_for(b"\x89\xfe\x00\x80\0\0\0\0", &[1002]) },
    Act { name: "stray-continuation", run: |attacker| attacker.closed_for(b"\x80\x80\0\0\0\0", &[1002]) },
    Act { name: "bad-utf8", run: |attacker| attacker.closed_for(&frame::encode(frame::TEXT, b"{\"\xff"), &[1007]) },
    Act { name: "bad-close", run: bad_close },
    Act { name: "claim-never-comes", run: claim_never_comes },
    Act { name: "claim-and-leave", run: claim_and_leave },
    Act { name: "fragment-flood", run: fragment_flood },
    Act { name: "garbage-frames", run: garbage_frames },
    Act { name: "reset-in-mid-frame", run: reset_in_mid_frame },
    Act { name: "half-close", run: half_close },
];

/// The header of a text frame with a length of 64 bits.
fn claim(length: u64) -> Vec<u8> {
    [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat()
}

fn reserved_opcode(attacker: &mut Attacker<'_>) -> Outcome {
    let opcode = *attacker.dice.pick(&[3, 4, 7, 11, 15]);
    attacker.closed_for(&frame::encode(opcode, b"hello"), &[1002])
}

fn reserved_bits(attacker: &mut Attacker<'_>) -> Outcome {
    let mut bytes = frame::encode(frame::TEXT, b"{}");
    bytes[0] |= *attacker.dice.pick(&[0x40, 0x20, 0x10, 0x70]);
    attacker.closed_for(&bytes, &[1002])
}

fn bad_close(attacker: &mut Attacker<'_>) -> Outcome {
    let payloads: [&[u8]; 5] = [b"\x03", b"\x03\xed", b"\x00\x00", b"\x13\x88", b"\x03\xe8\xff"];
    let payload = *attacker.dice.pick(&payloads);
    let codes: &[u16] = match payload {
        // 5000 and a reason that is not UTF-8.
        b"\x03\xe8\xff" => &[1007],
        _ => &[1002],
    };
    attacker.closed_for(&frame::encode(frame::CLOSE, payload), codes)
}

/// A few bytes of many: over at `message_timeout_ms`.
fn claim_never_comes(attacker: &mut Attacker<'_>) -> Outcome {
    attacker.closed_for(&frame::encode(frame::TEXT, &vec![b' '; 60_000])[..100], &[1008])
}

/// Takes a large part of the byte bucket, brings nothing, and is gone; again and again.
fn claim_and_leave(attacker: &mut Attacker<'_>) -> Outcome {
    for _ in 0..10 {
        let Some(mut client) = attacker.open()? else { continue };
        let _ = client.send(&frame::encode(frame::TEXT, &vec![b' '; 65_000])[..8]);
        abandon(client.wire, attacker.dice.within(0..2) == 0);
    }
    Ok(())
}

fn fragment_flood(attacker: &mut Attacker<'_>) -> Outcome {
    let mut bytes = b"\x01\x80\0\0\0\0".to_vec();
    bytes.extend(b"\x00\x80\0\0\0\0".repeat(200));
    attacker.closed_for(&bytes, &[1008])
}

/// Whether it is noise from the first bit or later, it may look like the start of something long.
fn garbage_frames(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.open()? else { return Ok(()) };
    let count = attacker.dice.within(1..4000);
    let _ = client.send(&attacker.dice.bytes(count));
    ends(&mut client, &[], PATIENCE)
}

fn reset_in_mid_frame(attacker: &mut Attacker<'_>) -> Outcome {
    for _ in 0..5 {
        let Some(mut client) = attacker.open()? else { continue };
        let cut = attacker.dice.within(1..30_000) as usize;
        let _ = client.send(&frame::encode(frame::TEXT, &vec![b'x'; 30_000])[..cut]);
        abandon(client.wire, true);
    }
    Ok(())
}

/// It will send no more, and reads on: the server has nobody to serve.
fn half_close(attacker: &mut Attacker<'_>) -> Outcome {
    let Some(mut client) = attacker.open()? else { return Ok(()) };
    let _ = client.emit("echo", &json!("last words"));
    if attacker.dice.within(0..2) == 0 {
        let _ = client.send(&claim(60_000)[..6]);
    }
    client.wire.shut_write();
    gone(&mut client)
}
