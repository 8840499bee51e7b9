//! The frame decoder says the same however a stream is cut, and keeps no more than it received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::{pieces, setting, stream};
use wsguard_proto::codec::{BufferPool, Decoder, FrameError, Limits, Opcode, Skim, Step, Violation};
use wsguard_proto::verdict::Code;

#[derive(Debug, PartialEq)]
enum Seen {
    Message(Opcode, Vec<u8>),
    Control(Opcode, Vec<u8>),
    Refused(Code, Option<FrameError>),
}

/// What a stream is to the decoder, the payload bytes that came, and whether a close frame did after it gave up.
#[derive(Debug, PartialEq, Default)]
struct Outcome {
    seen: Vec<Seen>,
    received: u64,
    close_found: bool,
    mid_message: bool,
}

struct Run {
    decoder: Decoder,
    pool: BufferPool,
    limits: Limits,
    /// From this event on, only a close frame is looked for.
    discard_at: usize,
    skim: Option<Skim>,
    refused: bool,
    given: usize,
    outcome: Outcome,
}

impl Run {
    /// Takes a piece.
    fn take(&mut self, piece: &mut [u8]) {
        self.given += piece.len();
        let mut at = 0;
        loop {
            if let Some(skim) = &mut self.skim {
                self.outcome.close_found |= skim.finds_close(&piece[at..]);
                return;
            }
            if self.outcome.seen.len() >= self.discard_at {
                self.skim = Some(self.decoder.give_up(&mut self.pool));
                continue;
            }
            let before = at;
            let step = self.decoder.next(piece, &mut at, &self.limits, &mut self.pool);
            assert!(before <= at && at <= piece.len());
            self.outcome.received += self.decoder.take_received_bytes();
            let (opcode, payload, message) = match step {
                Ok(Step::NeedMore) => {
                    assert_eq!(at, piece.len(), "input is left over");
                    return;
                }
                Ok(Step::Message { opcode, payload, compressed }) => (opcode, payload, Some(compressed)),
                Ok(Step::Control { opcode, payload }) => (opcode, payload, None),
                Err(violation) => {
                    self.refuse(violation);
                    continue;
                }
            };
            let bytes = payload.bytes(piece).to_vec();
            payload.recycle(&mut self.pool);
            if let Some(compressed) = message {
                assert!(compressed.is_none() || self.limits.deflate);
                assert!(
                    bytes.len()
                        <= self.limits.max_message_bytes + compressed.map_or(0, |frames| more(&self.limits, frames))
                );
                assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
                assert!(opcode == Opcode::Text || !self.limits.text_only);
                // An in-place text is for the caller to check.
                if opcode == Opcode::Text && compressed.is_none() && std::str::from_utf8(&bytes).is_err() {
                    self.refuse(Violation::TextNotUtf8);
                    continue;
                }
                self.outcome.seen.push(Seen::Message(opcode, bytes));
            } else {
                assert!(opcode.is_control() && bytes.len() <= 125);
                self.outcome.seen.push(Seen::Control(opcode, bytes));
            }
            assert!(self.decoder.buffered_bytes() <= self.given);
        }
    }

    fn refuse(&mut self, violation: Violation) {
        self.outcome.seen.push(Seen::Refused(violation.code(), violation.frame()));
        self.skim = Some(self.decoder.give_up(&mut self.pool));
        // How much of the refused message had come depends on where the fault was found.
        self.refused = true;
    }
}

/// How much longer than it is a message may be that an honest sender compresses into `frames` frames.
fn more(limits: &Limits, frames: u32) -> usize {
    if limits.deflate { limits.max_message_bytes / 8 + 64 + 8 * frames as usize } else { 0 }
}

fn decode(bytes: &[u8], limits: Limits, discard_at: usize, pieces: &[usize]) -> Outcome {
    let mut run = Run {
        decoder: Decoder::default(),
        pool: BufferPool::default(),
        limits,
        discard_at,
        skim: None,
        refused: false,
        given: 0,
        outcome: Outcome::default(),
    };
    let mut bytes = bytes.to_vec();
    let mut rest = &mut bytes[..];
    for piece in pieces {
        let (piece, tail) = rest.split_at_mut(*piece);
        rest = tail;
        run.take(piece);
        if run.outcome.close_found {
            break;
        }
        let kept = run.decoder.buffered_bytes();
        let most = run.limits.max_message_bytes + more(&run.limits, run.limits.max_fragments);
        assert!(kept <= run.given && kept <= most + 125, "{kept} bytes are kept");
        assert!(run.decoder.is_mid_message() || kept == 0);
    }
    run.outcome.mid_message = run.decoder.is_mid_message();
    if run.refused {
        run.outcome.received = 0;
    }
    run.outcome
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let Some((seed, rest)) = setting(rest) else { return };
    let limits = Limits {
        max_message_bytes: [1, 125, 1000, 65_536][usize::from(set >> 2 & 3)],
        max_fragments: if set & 0x10 == 0 { 1024 } else { 3 },
        text_only: set & 0x20 != 0,
        deflate: set & 2 != 0,
    };
    let discard_at = if set & 0x40 == 0 { usize::MAX } else { usize::from(set >> 7) };
    let bytes = stream(set & 1 != 0, rest);
    let whole = decode(&bytes, limits, discard_at, &[bytes.len()]);
    for seed in [0, u64::from(seed) + 1, u64::from(seed) + 1000] {
        let cut = decode(&bytes, limits, discard_at, &pieces(bytes.len(), seed));
        assert_eq!(whole, cut, "cut with seed {seed}");
    }
});
