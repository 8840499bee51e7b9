//! The inflater against zlib-rs: for whatever bytes, the same message or the same fault, and the same work.

use proptest::prelude::*;
use zlib_rs::{Deflate as Zlib, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status, Strategy as Way};

use super::blocks_tests::{Bits, lens};
use super::tests::in_one_frame;
use super::*;
use crate::codec::CompressionFault;

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A final empty block: a stream that takes it as one was between two blocks.
const FINAL_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// What zlib-rs makes of a message, in one go.
fn expected(payload: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
    let (mut zlib, mut out) = (Inflate::new(false, 15), vec![0; limit + 1]);
    let status = zlib.decompress(payload, &mut out, InflateFlush::NoFlush);
    let (used, len) = (zlib.total_in() as usize, zlib.total_out() as usize);
    out.truncate(len);
    let truncated = Err(Broken::Corrupt(CompressionFault::Truncated));
    match status {
        _ if len > limit => return Err(Broken::TooBig),
        // It says so too where there was nothing more to do.
        Err(zlib_rs::InflateError::DataError) => return Err(Broken::Corrupt(CompressionFault::Invalid)),
        Ok(Status::StreamEnd) => {
            return match &payload[used..] {
                [] | [0] | [0, 0, 0, 0xff, 0xff] => Ok(out),
                _ => Err(Broken::Corrupt(CompressionFault::Trailing)),
            };
        }
        _ => {}
    }
    let mut more = [0; 600];
    for piece in [&TAIL[..], &FINAL_BLOCK] {
        let before = zlib.total_in();
        let status = zlib.decompress(piece, &mut more, InflateFlush::NoFlush);
        match status {
            Ok(status) if (zlib.total_in() - before) as usize == piece.len() && zlib.total_out() as usize == len => {
                if status == Status::StreamEnd {
                    return Ok(out);
                }
            }
            _ => return truncated,
        }
    }
    truncated
}

fn check(payload: &[u8], limit: usize, room: usize) {
    let (mut inflater, mut room) = (Inflater::default(), vec![7; room]);
    for _ in 0..2 {
        let ours = inflater.inflate(in_one_frame(payload), limit, &mut room).map(<[u8]>::to_vec);
        assert_eq!(ours, expected(payload, limit), "{payload:02x?}");
        match ours {
            Ok(message) => assert_eq!(inflater.inflated_bytes(), message.len() as u64),
            Err(Broken::TooBig) => assert_eq!(inflater.inflated_bytes(), limit as u64 + 1),
            Err(_) => assert!(inflater.inflated_bytes() <= limit as u64),
        }
    }
}

/// Text, noise, runs, two letters.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let words = (1u32..300, prop::collection::vec(any::<u16>(), 0..2000)).prop_map(|(words, order)| {
        order.iter().flat_map(|at| format!("{:x} ", u32::from(*at) % words * 977).into_bytes()).collect()
    });
    prop_oneof![
        3 => words,
        1 => prop::collection::vec(any::<u8>(), 0..5000),
        1 => prop::collection::vec(prop::sample::select(b"ab".to_vec()), 0..5000),
        1 => prop::collection::vec((any::<u8>(), 1usize..2000), 0..12)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, len)| vec![byte; len]).collect()),
    ]
}

/// A message in one or two pieces, of any sender that zlib can be.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let way = prop::sample::select(vec![Way::Default, Way::Fixed, Way::HuffmanOnly, Way::Rle]);
    (data(), any::<prop::sample::Index>(), any::<bool>(), any::<bool>(), 0i32..=9, 1i32..=9, way).prop_map(
        |(data, cut, is_flushed, is_final, level, mem_level, strategy)| {
            let config = DeflateConfig { level, mem_level, window_bits: -15, strategy, ..DeflateConfig::default() };
            let (mut zlib, mut out) = (Zlib::new_with_config(config), vec![0; data.len() * 2 + 1000]);
            let (first, second) = data.split_at(cut.index(data.len() + 1));
            let flush = if is_flushed { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
            zlib.compress(first, &mut out, flush).unwrap();
            let at = zlib.total_out() as usize;
            let last = if is_final { DeflateFlush::Finish } else { DeflateFlush::SyncFlush };
            zlib.compress(second, &mut out[at..], last).unwrap();
            out.truncate(zlib.total_out() as usize - if is_final { 0 } else { TAIL.len() });
            out
        },
    )
}

/// Bits that begin as a block with its own codes does: most are wrong somewhere, and not at the same place.
fn codes() -> impl Strategy<Value = Vec<u8>> {
    let own = (prop::collection::vec(0u8..16, 257..=286), prop::collection::vec(0u8..16, 1..=30)).prop_map(
        |(literals, distances)| {
            let mut bits = Bits::default();
            bits.empty_block_with(&literals, &distances);
            bits.put(0, 3);
            bits.bytes
        },
    );
    let noise = prop::collection::vec(any::<u8>(), 1..200).prop_map(|mut bytes| {
        bytes[0] = bytes[0] & 0xf8 | 4;
        bytes
    });
    prop_oneof![own, noise]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn messages_are_what_zlib_makes_of_them(message in message(), room in 0usize..10_000) {
        check(&message, 1 << 20, room);
    }

    #[test]
    fn limits_are_kept_to_the_byte(message in message(), limit in 0usize..6000) {
        check(&message, limit, 0);
    }

    #[test]
    fn changed_messages_have_the_same_fault(
        message in message(), changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4), is_early in any::<bool>(),
    ) {
        let mut message = message;
        let most = if is_early { message.len().min(80) } else { message.len() };
        for (at, bit) in &changes {
            message[at.index(most)] ^= 1 << bit;
        }
        check(&message, 1 << 20, 0);
    }

    #[test]
    fn parts_of_messages_have_the_same_fault(
        message in message(), cut in any::<prop::sample::Index>(), behind in prop::collection::vec(prop::sample::select(vec![0, 1, 255]), 0..6),
    ) {
        let mut message = message;
        message.truncate(cut.index(message.len() + 1));
        message.extend(behind);
        check(&message, 1 << 20, 0);
    }

    #[test]
    fn codes_are_refused_alike(codes in codes()) {
        check(&codes, 1 << 16, 0);
    }
}

/// Complete codes of many shapes, and the same with one length changed.
#[test]
fn codes_of_every_shape() {
    let shapes: [&[(u8, usize)]; 6] = [
        &[(8, 226), (9, 60)],
        &[(1, 1), (2, 1), (10, 228), (11, 56)],
        &[(1, 1), (2, 1), (3, 1), (11, 229), (12, 54)],
        &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (15, 256)],
        &[(0, 256), (1, 1)],
        &[(0, 255), (1, 2)],
    ];
    let distances: [&[(u8, usize)]; 6] =
        [&[(4, 2), (5, 28)], &[(0, 1)], &[(1, 1)], &[(1, 2)], &[(0, 3), (2, 1)], &[(15, 2), (1, 1)]];
    for shape in shapes {
        for far in distances {
            let (mut literals, far) = (lens(shape), lens(far));
            if let Some(end) = literals.iter().position(|len| *len > 0).filter(|_| literals.get(256) == Some(&0)) {
                literals.swap(end, 256);
            }
            for changed in [None, Some(0_usize), Some(100), Some(256)] {
                let mut literals = literals.clone();
                if let Some(at) = changed {
                    let len: &mut u8 = &mut literals[at];
                    *len = len.wrapping_add(1) & 15;
                }
                let mut bits = Bits::default();
                bits.empty_block_with(&literals, &far);
                bits.put(0, 3);
                check(&bits.bytes, 1000, 0);
            }
        }
    }
}
