//! Sending by RFC 7692: one compressor for all connections of a shard, which begins anew with each message. So no message is
//! compressed by the bytes of another, which may be a secret of somebody else.

use zlib_rs::{DeflateConfig, DeflateFlush};

use super::short::Short;
use super::{Agreed, Deflate};
use crate::codec::{self, Opcode};
use crate::options::Compression;

/// Payload that is compressed in one go at levels 1 to 5, some 10 ms; for higher levels [`Budget`] has less.
/// So long a shard may be held by it.
pub const BUDGET_BYTES: usize = 1024 * 1024;

/// What a message takes of the budget at least: some 5 µs go by before the first of its bytes is looked at. A budget that counted
/// nothing but bytes would hold a shard for half a second while the application says a hundred thousand words, one by one.
const LEAST_COST: usize = 512;

/// The highest level whose work hardly depends on what a message says: 1 MiB of the worst takes it some 30 ms. The higher ones
/// look for repetitions far longer, and a peer that chooses what is sent (an echo, a chat) has them look all the time: level 9
/// takes more than a second for 1 MiB of two letters in a random order.
const STEADY_LEVEL: u8 = 5;

/// Sizes of windows that both sides may agree to.
pub const WINDOW_SIZES: usize = 7;
/// The smallest window: RFC 7692 allows 256 bytes, but no zlib keeps to it.
const LEAST_WINDOW_BITS: u8 = 9;
/// What the flush at the end of a message leaves, and is left away (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The first bits of a frame (RFC 6455 section 5.2); RSV1 says that a message is compressed (RFC 7692 section 6).
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// A compressor of one window size.
struct State {
    deflate: zlib_rs::Deflate,
    level: u8,
}

impl State {
    fn new(window_bits: u8, level: u8) -> Self {
        let (window_bits, level_of_zlib) = (-i32::from(window_bits), i32::from(level));
        let deflate = zlib_rs::Deflate::new_with_config(DeflateConfig {
            level: level_of_zlib,
            window_bits,
            ..DeflateConfig::default()
        });
        Self { deflate, level }
    }

    fn begin(&mut self, level: u8) {
        self.deflate.reset();
        if self.level != level && self.deflate.set_level(level.into()).is_ok() {
            self.level = level;
            self.deflate.reset();
        }
    }

    /// How many bytes of `room` hold the payload compressed; `None`: it does not fit.
    fn compress(&mut self, payload: &[u8], room: &mut [u8]) -> Option<usize> {
        self.deflate.compress(payload, room, DeflateFlush::SyncFlush).ok()?;
        let (taken, made) = (self.deflate.total_in() as usize, self.deflate.total_out() as usize);
        // Where the room is full there may be more to come.
        if taken < payload.len() || made >= room.len() {
            return None;
        }
        room.get(..made)?.strip_suffix(&TAIL).map(<[u8]>::len)
    }
}

/// Room for whatever becomes of a payload, and more: 9 bits for each byte, and a header for each block.
fn room_for(payload: usize) -> usize {
    payload + payload / 8 + 256
}

/// What may still be compressed in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Payload bytes, of which a message has 512 at least.
    pub bytes: usize,
    /// Bytes for which more work may be done than [`STEADY_LEVEL`] does: each is worth two of the level before.
    effort: usize,
}

impl Budget {
    /// That of one run.
    pub const FULL: Self = Self { bytes: BUDGET_BYTES, effort: BUDGET_BYTES };

    /// Whether a message of this length may still be compressed.
    #[must_use]
    pub fn has_room_for(&self, len: usize) -> bool {
        len.max(LEAST_COST) <= self.bytes
    }

    /// Takes a message that is to be compressed at `level`; returns the level that there is time for. `None`: there is none at all.
    fn take(&mut self, level: u8, len: usize) -> Option<u8> {
        let len = len.max(LEAST_COST);
        self.bytes = self.bytes.checked_sub(len)?;
        let steady = level.min(STEADY_LEVEL);
        let work = |level: u8| len.saturating_mul(1 << (level - STEADY_LEVEL));
        let harder = (STEADY_LEVEL + 1..=level).rev().find(|level| work(*level) <= self.effort);
        self.effort -= harder.map_or(0, work);
        Some(harder.unwrap_or(steady))
    }
}

/// What became of frames that were to be compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressed {
    /// Messages that go out compressed.
    pub messages: u32,
    /// Messages over the threshold that go plain because the budget is used up.
    pub skipped: u32,
    /// How much shorter the frames are together.
    pub saved_bytes: usize,
}

/// The compressors of one shard, each made when the first message needs it.
#[derive(Default)]
pub struct Deflater {
    states: [Option<Box<State>>; WINDOW_SIZES],
    short: Option<Box<Short>>,
}

impl core::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// Appends the payload of a message as RFC 7692 section 7.2.1 has it. `false`: it would not be shorter, and `out` is as
    /// before.
    pub fn compress(&mut self, agreed: Agreed, level: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        if agreed.window_index() < WINDOW_SIZES && Short::takes(level, payload.len()) {
            let window = 1 << agreed.server_window_bits;
            return self.short.get_or_insert_default().compress(window, level, payload, out);
        }
        let start = out.len();
        out.resize(start + room_for(payload.len()), 0);
        let done = self.state(agreed, level).and_then(|state| state.compress(payload, &mut out[start..]));
        if done.is_none() {
            // zlib-rs 0.6.8 does not let go of what it could not write when it is reset, and panics some messages later.
            self.forget(agreed);
        }
        let len = done.filter(|len| *len < payload.len());
        out.truncate(start + len.unwrap_or(0));
        len.is_some()
    }

    fn forget(&mut self, agreed: Agreed) {
        if let Some(state) = self.states.get_mut(agreed.window_index()) {
            *state = None;
        }
    }

    fn state(&mut self, agreed: Agreed, level: u8) -> Option<&mut State> {
        let state = self.states.get_mut(agreed.window_index())?;
        let state = state.get_or_insert_with(|| Box::new(State::new(agreed.server_window_bits, level)));
        state.begin(level);
        Some(state)
    }

    /// Appends whole unmasked frames of ours: whole messages of at least `threshold_bytes` compressed, where that makes them
    /// shorter and the budget allows it; everything else as it is.
    pub fn push_frames(
        &mut self,
        agreed: Agreed,
        rules: &Compression,
        budget: &mut Budget,
        mut frames: &[u8],
        out: &mut Vec<u8>,
    ) -> Pressed {
        let (start, all) = (out.len(), frames.len());
        let mut pressed = Pressed::default();
        while let Some((frame, payload)) = first_frame(frames) {
            if is_message(frame[0]) && payload.len() >= rules.threshold_bytes.max(1) {
                match budget.take(rules.level, payload.len()) {
                    None => pressed.skipped += 1,
                    Some(level) if self.push_message(agreed, level, frame[0], payload, out) => {
                        pressed.messages += 1;
                        frames = &frames[frame.len()..];
                        continue;
                    }
                    Some(_) => {}
                }
            }
            out.extend_from_slice(frame);
            frames = &frames[frame.len()..];
        }
        // There is nothing behind whole frames.
        out.extend_from_slice(frames);
        pressed.saved_bytes = all - (out.len() - start);
        pressed
    }

    /// Appends a message compressed; `false`: it would not be shorter, and `out` is as before.
    fn push_message(&mut self, agreed: Agreed, level: u8, first: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if !self.compress(agreed, level, payload, out) {
            return false;
        }
        // Its length is known only now.
        let len = out.len() - start;
        codec::header(out, first | RSV1, len);
        out[start..].rotate_right(codec::frame_overhead(len));
        true
    }
}

impl Agreed {
    /// Which of the [`WINDOW_SIZES`] its window has.
    #[must_use]
    pub fn window_index(self) -> usize {
        usize::from(self.server_window_bits.wrapping_sub(LEAST_WINDOW_BITS))
    }
}

/// How a shard sends.
impl Deflate {
    /// A run begins, in which [`BUDGET_BYTES`] may be compressed.
    pub fn refill(&mut self) {
        self.budget = Budget::FULL;
    }

    /// As [`Deflater::push_frames`], within the budget.
    pub fn push_frames(&mut self, agreed: Agreed, rules: &Compression, frames: &[u8], out: &mut Vec<u8>) -> Pressed {
        let deflater = self.deflater.get_or_insert_default();
        deflater.push_frames(agreed, rules, &mut self.budget, frames, out)
    }
}

/// The payload of a frame of ours.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    first_frame(frame).map_or(&[], |(_, payload)| payload)
}

/// How long the payload of a frame of ours is.
#[must_use]
pub fn payload_bytes(frame: &[u8]) -> usize {
    payload(frame).len()
}

/// Whether a frame that begins so is a whole data message that nobody has compressed.
fn is_message(first: u8) -> bool {
    first == FIN | Opcode::Text as u8 || first == FIN | Opcode::Binary as u8
}

/// The first of some unmasked frames, and its payload.
fn first_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, len): (usize, usize) = match *frames.get(1)? {
        126 => (4, u16::from_be_bytes(*frames.get(2..)?.first_chunk()?).into()),
        127 => (10, u64::from_be_bytes(*frames.get(2..)?.first_chunk()?) as usize),
        len => (2, len.into()),
    };
    let frame = frames.get(..header.checked_add(len)?)?;
    Some((frame, &frame[header..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wsguard_test_support::deflate::inflate_message;

    use super::*;

    const RULES: Compression = Compression { threshold_bytes: 16, level: 3 };

    fn window(server_window_bits: u8) -> Agreed {
        Agreed { server_window_bits }
    }

    /// Bytes that repeat more or less: `words` different ones in some order.
    fn text(len: usize, words: u64, mut seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(format!("{:x},", (seed >> 33) % words).as_bytes());
        }
        out.truncate(len);
        out
    }

    fn round_trip(deflater: &mut Deflater, bits: u8, level: u8, payload: &[u8]) -> bool {
        let mut out = b"before".to_vec();
        let is_shorter = deflater.compress(window(bits), level, payload, &mut out);
        assert_eq!(&out[..6], b"before");
        if !is_shorter {
            assert_eq!(out.len(), 6, "as it was");
            return false;
        }
        assert!(out.len() - 6 < payload.len());
        let told = inflate_message(&out[6..]).expect("a stream after RFC 1951");
        assert!(told.bytes == payload, "another message");
        assert!(!told.is_final, "BFINAL");
        assert!(told.farthest <= 1 << bits, "{} with {bits} bits", told.farthest);
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// One deflater for all, as a shard has it: whatever came before, a message is what it was.
        #[test]
        fn what_is_compressed_is_the_same_message(
            messages in prop::collection::vec((9u8..=15, 1u8..=9, 0usize..6000, 1u64..5000, any::<u64>()), 1..12)
        ) {
            let mut deflater = Deflater::default();
            for (bits, level, len, words, seed) in messages {
                round_trip(&mut deflater, bits, level, &text(len, words, seed));
            }
        }

        /// Whole messages of at least the threshold are compressed, all else is as it was, and nothing changes places.
        #[test]
        fn frames_keep_their_order_and_what_they_say(
            frames in prop::collection::vec((0usize..6, 0usize..400, any::<u64>()), 0..20),
            budget in 0usize..10_000,
        ) {
            let firsts = [0x81, 0x82, 0x01, 0x80, 0x89, 0x88];
            let (mut plain, mut left) = (Vec::new(), Budget { bytes: budget, ..Budget::FULL });
            for (kind, len, seed) in &frames {
                let len = if *kind > 3 { len % 126 } else { *len };
                codec::fragment_frame(&mut plain, firsts[*kind], &text(len, 7, *seed));
            }
            let mut out = b"before".to_vec();
            let pressed = Deflater::default().push_frames(window(15), &RULES, &mut left, &plain, &mut out);
            prop_assert_eq!(out.len() - 6 + pressed.saved_bytes, plain.len());
            let (mut rest, mut before, mut tried, mut compressed, mut skipped) = (&out[6..], &plain[..], 0, 0, 0);
            while let Some((frame, payload)) = first_frame(before) {
                let (said, body) = first_frame(rest).unwrap();
                let may_be = is_message(frame[0]) && payload.len() >= RULES.threshold_bytes;
                if said[0] == frame[0] | RSV1 {
                    prop_assert!(may_be);
                    prop_assert!(inflate_message(body).unwrap().bytes == payload);
                    compressed += 1;
                } else {
                    prop_assert_eq!(said, frame);
                }
                match may_be {
                    true if payload.len().max(LEAST_COST) <= budget - tried => tried += payload.len().max(LEAST_COST),
                    true => skipped += 1,
                    false => {}
                }
                (rest, before) = (&rest[said.len()..], &before[frame.len()..]);
            }
            prop_assert!(rest.is_empty() && before.is_empty());
            prop_assert_eq!((pressed.messages, pressed.skipped, left.bytes), (compressed, skipped, budget - tried));
        }
    }

    /// Of every size of window, on either side of each length of a header, at every level.
    #[test]
    fn every_window_and_level() {
        let mut deflater = Deflater::default();
        for bits in 9..=15 {
            for level in 1..=9 {
                for len in [60, 125, 126, 127, 700, 4000, 40_000, 70_000] {
                    let payload = text(len, 40, len as u64);
                    assert!(round_trip(&mut deflater, bits, level, &payload), "{bits} {level} {len}");
                    // A repetition farther back than a small window, and one as far as a large one goes.
                    let twice = [&payload[..], &payload[..]].concat();
                    assert!(round_trip(&mut deflater, bits, level, &twice), "{bits} {level} {len} twice");
                }
            }
        }
    }

    #[test]
    fn what_would_not_be_shorter_goes_plain() {
        let mut deflater = Deflater::default();
        let mut seed = 1u64;
        let noise: Vec<u8> = core::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .take(200_000)
        .collect();
        for len in [0, 1, 2, 3, 100, 5000, 200_000] {
            assert!(!round_trip(&mut deflater, 15, 6, &noise[..len]), "{len}");
        }
        let rules = Compression { threshold_bytes: 0, level: 9 };
        for payload in [&noise[..300], b"", b"x"] {
            let (mut frame, mut out) = (Vec::new(), Vec::new());
            codec::data_frame(&mut frame, Opcode::Binary, payload);
            let pressed = deflater.push_frames(window(15), &rules, &mut Budget::FULL.clone(), &frame, &mut out);
            assert_eq!(pressed, Pressed::default());
            assert_eq!(out, frame);
        }
    }

    /// What zlib-rs could not write before a reset stays in its way: so there is always room enough.
    #[test]
    fn noise_is_given_up_again_and_again_at_every_level() {
        let noise: Vec<u8> = (0..40_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        for level in 1..=9 {
            let (mut deflater, mut made) = (Deflater::default(), [false; 3]);
            for round in 0..40 {
                let len = [300, 2000, 70_000, 160_000][round % 4];
                round_trip(&mut deflater, [9, 12, 15][round % 3], level, &noise[round..len]);
                made[round % 3] |= !Short::takes(level, len - round);
                assert_eq!(
                    deflater.states.iter().flatten().count(),
                    made.iter().filter(|made| **made).count(),
                    "every state was good for the next"
                );
            }
            assert!(round_trip(&mut deflater, 15, level, &text(3000, 9, 1)));
        }
    }

    #[test]
    fn the_same_message_gives_the_same_bytes_whatever_came_before() {
        let (secret, payload) = (text(3000, 9, 1), text(2500, 9, 1));
        for level in 1..=9 {
            let mut fresh = Vec::new();
            assert!(Deflater::default().compress(window(12), level, &payload, &mut fresh));
            let mut deflater = Deflater::default();
            for other in 1..=9 {
                let mut out = Vec::new();
                assert!(deflater.compress(window(12), other, &secret, &mut Vec::new()));
                assert!(deflater.compress(window(12), level, &payload, &mut out));
                assert!(out == fresh, "level {level} behind level {other}");
            }
            // Also behind one that was given up half way.
            let noise: Vec<u8> = (0..30_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
            deflater.compress(window(12), level, &noise, &mut Vec::new());
            let mut out = Vec::new();
            assert!(deflater.compress(window(12), level, &payload, &mut out));
            assert!(out == fresh, "level {level} behind noise");
        }
    }

    /// Whatever a peer has us say: of a level that could take a second for it, no more than a shard has time for.
    #[test]
    fn a_run_works_hard_on_a_part_of_what_it_compresses() {
        // The worst for level 9: two letters in a random order.
        let mut seed = 1u64;
        let letters: Vec<u8> = core::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'a' + (seed >> 63) as u8
        })
        .take(BUDGET_BYTES)
        .collect();
        let mut deflater = Deflater::default();
        // The level that is asked for, the length of a message, and the levels of such messages in one run.
        let cases: [(u8, usize, &[u8]); 7] = [
            (9, 40_000, &[9, 8, 6, 5, 5]),
            (9, 64 << 10, &[9, 5]),
            (9, 200_000, &[7, 5]),
            (8, 128 << 10, &[8, 5]),
            (6, 1 << 20, &[5]),
            (5, 500_000, &[5, 5]),
            (1, 1 << 20, &[1]),
        ];
        for (level, len, levels) in cases {
            let (mut budget, rules) = (Budget::FULL, Compression { threshold_bytes: 0, level });
            let payload = &letters[..len];
            for used in levels {
                let (mut frame, mut out, mut expected) = (Vec::new(), Vec::new(), Vec::new());
                codec::data_frame(&mut frame, Opcode::Text, payload);
                let pressed = deflater.push_frames(window(15), &rules, &mut budget, &frame, &mut out);
                assert_eq!(pressed.messages, 1, "it is compressed all the same");
                assert!(deflater.compress(window(15), *used, payload, &mut expected));
                assert!(out.ends_with(&expected) && out.len() <= expected.len() + 10, "{level} {len}: {used}");
            }
        }
    }

    /// Each begins anew, with tables to build: so a hundred thousand of them take as long as their number says, not their bytes.
    #[test]
    fn a_run_compresses_so_many_short_messages() {
        let rules = Compression { threshold_bytes: 0, level: 3 };
        let (mut budget, mut frames, mut out) = (Budget::FULL, Vec::new(), Vec::new());
        for _ in 0..10_000 {
            codec::data_frame(&mut frames, Opcode::Text, b"aaaaaaaaaaaaaaaaaaaa");
        }
        assert!(budget.has_room_for(0));
        let pressed = Deflater::default().push_frames(window(15), &rules, &mut budget, &frames, &mut out);
        assert_eq!((pressed.messages, pressed.skipped), (2048, 10_000 - 2048));
        assert!(!budget.has_room_for(0));
    }

    #[test]
    fn a_window_that_nobody_agrees_to_compresses_nothing() {
        for bits in [0, 8, 16, 255] {
            assert!(!Deflater::default().compress(window(bits), 3, &[7; 500], &mut Vec::new()));
        }
    }

    #[test]
    fn the_oracle_knows_what_is_none() {
        assert_eq!(inflate_message(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).unwrap().bytes, b"Hello");
        assert!(inflate_message(&[0x07]).is_err(), "a block of type 3");
        assert!(inflate_message(&[0xf2, 0x48, 0xcd]).is_err(), "cut off");
        assert!(inflate_message(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]).unwrap().is_final);
    }
}
