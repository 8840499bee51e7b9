//! Compressed messages that are more, or less, than they look.

use std::sync::OnceLock;

use wsguard_test_support::client::PATIENCE;
use wsguard_test_support::deflate::{End, compress};
use wsguard_test_support::frame;
use wsguard_test_support::outcome::Outcome;

use super::{Act, Attacker, ends};

pub(super) const ACTS: &[Act] = &[
    Act { name: "bomb", run: bomb },
    // Blocks without a byte in them, each with a code for its end.
    Act { name: "bomb-of-blocks", run: |attacker| explodes(attacker, &b"\x02\x08\x20\x80\x00".repeat(8000), 1007) },
    Act { name: "corrupt-compression", run: corrupt },
];

/// What the policy allows is 64 KiB.
const INFLATED_BYTES: usize = 20_000_000;

fn bomb(attacker: &mut Attacker<'_>) -> Outcome {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    let bomb = BOMB.get_or_init(|| compress(&vec![b' '; INFLATED_BYTES], 9, End::Flushed).unwrap_or_default());
    explodes(attacker, bomb, 1009)
}

fn corrupt(attacker: &mut Attacker<'_>) -> Outcome {
    let sent = compress(br#"{"event": "echo", "data": "cut off in the middle"}"#, 6, End::Flushed)?;
    let cut = attacker.dice.within(1..sent.len() as u64 - 1) as usize;
    explodes(attacker, &sent[..cut], 1007)
}

/// Sends a message of these bytes, compressed already, and wants to be closed with this code.
fn explodes(attacker: &mut Attacker<'_>, compressed: &[u8], code: u16) -> Outcome {
    const RSV1: u8 = 0x40;
    let (dial, opening) = (attacker.dial(), attacker.opening().compressed());
    let Some(mut client) = attacker.open_with(dial, &opening)? else { return Ok(()) };
    match client.send(&frame::encode(RSV1 | frame::TEXT, compressed)) {
        Ok(()) => ends(&mut client, &[code], PATIENCE),
        Err(_) => Ok(()),
    }
}
