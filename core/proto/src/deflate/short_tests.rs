//! Against a reader of RFC 1951 that is not zlib's, and zlib for what it is worth.

use std::fmt::Write as _;

use proptest::prelude::*;
use wsguard_test_support::deflate::inflate_message;

use super::*;

/// Compresses, and reads it back; the length, if it is shorter.
fn round_trip(short: &mut Short, bits: u32, level: u8, data: &[u8]) -> Option<usize> {
    let mut out = b"before".to_vec();
    if !short.compress(1 << bits, level, data, &mut out) {
        assert_eq!(out, b"before");
        return None;
    }
    assert!(out.starts_with(b"before") && out.len() - 6 < data.len());
    let told = inflate_message(&out[6..]).expect("a stream after RFC 1951");
    assert!(told.bytes == data, "another message");
    assert!(!told.is_final && told.behind == 0);
    assert!(told.farthest <= 1 << bits, "{} with {bits} bits", told.farthest);
    Some(out.len() - 6)
}

/// Words in some order, bytes of an alphabet, or runs.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let words = (1usize..200, prop::collection::vec(any::<u8>(), 0..2500)).prop_map(|(words, order)| {
        order.iter().flat_map(|word| format!("{:x},", usize::from(*word) * 40_503 % words * 977).into_bytes()).collect()
    });
    let alphabet = |letters: u8| prop::collection::vec((0..letters).prop_map(|letter| letter * 7), 0..4000);
    prop_oneof![
        3 => words,
        1 => alphabet(2),
        1 => alphabet(20),
        1 => prop::collection::vec(any::<u8>(), 0..600),
        1 => prop::collection::vec((any::<u8>(), 1usize..700), 0..12)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, len)| vec![byte; len]).collect()),
    ]
    .prop_map(|mut data: Vec<u8>| {
        data.truncate(LONGEST);
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// One for all messages, as a shard has it.
    #[test]
    fn what_is_compressed_is_the_same_message(
        messages in prop::collection::vec((9u32..=15, 1u8..=HIGHEST_LEVEL, data()), 1..8)
    ) {
        let mut short = Short::default();
        for (bits, level, data) in messages {
            let first = round_trip(&mut short, bits, level, &data);
            let again = round_trip(&mut short, bits, level, &data);
            prop_assert_eq!(first, again, "nothing of the message before is used");
            prop_assert_eq!(first, round_trip(&mut Short::default(), bits, level, &data));
        }
    }
}

#[test]
fn places_of_long_ago_are_not_taken_for_new_ones() {
    let text = b"again and again, and again and again, and again";
    let mut short = Short::default();
    let len = round_trip(&mut short, 15, 3, text);
    for end in [u32::MAX - LONGEST as u32 - 20, u32::MAX - LONGEST as u32, u32::MAX - 1] {
        short.end = end;
        for _ in 0..3 {
            assert_eq!(round_trip(&mut short, 15, 3, text), len);
        }
        assert!(short.base < 1000 || short.base < u32::MAX - LONGEST as u32 + 1);
    }
    assert!(short.base < 1000, "it has begun anew");
}

/// Every length and every kind of distance that can be said.
#[test]
fn every_length_and_distance() {
    let mut short = Short::default();
    let mut noise = 1_u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    for len in 4..=600 {
        let word: Vec<u8> = (0..len).map(|_| next()).collect();
        let all = [&word[..], &[next(), next()], &word].concat();
        let shorter = round_trip(&mut short, 15, 1, &all);
        assert!(shorter.is_some() || len < 150, "{len}");
    }
    for distance in (1..=14).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]) {
        let gap: Vec<u8> = (0..distance).map(|_| next() & 0x1f | 0x40).collect();
        let all = [&gap[..], &gap[..gap.len().min(200)]].concat();
        for bits in [9, 12, 15] {
            round_trip(&mut short, bits, 3, &all[..all.len().min(LONGEST)]);
        }
    }
}

/// Counts that rise as fast as they can want codes longer than there are.
#[test]
fn codes_that_would_be_too_long() {
    let mut data = Vec::new();
    let (mut count, mut next) = (1_usize, 1_usize);
    for letter in 0..19_u8 {
        data.extend(std::iter::repeat_n(letter.wrapping_mul(13), count));
        (count, next) = (next, count + next);
    }
    // In an order without repetitions worth saying.
    let mut seed = 7_u64;
    for at in (1..data.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        data.swap(at, (seed >> 33) as usize % (at + 1));
    }
    data.truncate(LONGEST);
    for level in 1..=HIGHEST_LEVEL {
        assert!(round_trip(&mut Short::default(), 15, level, &data).is_some());
    }
}

/// JSON as an application has it: not longer than zlib makes it at the same level, by more than a fiftieth.
#[test]
fn as_short_as_zlib_makes_it() {
    let mut seed = 7_u32;
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % below
    };
    let words = ["order", "invoice", "shipped", "the", "of", "customer", "pending", "a", "review", "again", "total"];
    let mut text = String::from("[");
    while text.len() < LONGEST {
        let (id, price, open) = (next(60_000), next(60_000), next(2) == 0);
        let said: Vec<_> = (0..4 + next(6)).map(|_| words[next(11) as usize]).collect();
        let price = format!("{}.{:02}", price / 100, price % 100);
        write!(text, r#"{{"id":{id},"open":{open},"price":{price},"text":"{}"}},"#, said.join(" ")).unwrap();
    }
    for len in [200, 1024, 2048, 4096, LONGEST] {
        for level in 1..=HIGHEST_LEVEL {
            let data = &text.as_bytes()[..len];
            let ours = round_trip(&mut Short::default(), 15, level, data).expect("it is shorter");
            let mut zlib = zlib_rs::Deflate::new(level.into(), false, 15);
            let mut room = vec![0; 2 * len];
            zlib.compress(data, &mut room, zlib_rs::DeflateFlush::SyncFlush).unwrap();
            let theirs = zlib.total_out() as usize - 4;
            assert!(ours <= theirs + theirs / 50 + 2, "{len} bytes at level {level}: {ours}, and zlib {theirs}");
        }
    }
}

/// What a peer may send, so that repetitions are looked for in vain, or compared at length: no byte costs more than a few times
/// what one of JSON does. Counted, not timed.
#[test]
fn no_message_is_much_more_work_than_another() {
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let json: Vec<u8> =
        (0..600).flat_map(|at| format!(r#"{{"id":{},"n":{at}}},"#, at * 7919 % 1000).into_bytes()).collect();
    let filled = |mut byte: Box<dyn FnMut(usize) -> u8>| (0..LONGEST).map(&mut byte).collect::<Vec<u8>>();
    // Four bytes that share a hash, each time with other bytes behind them.
    let hash = |bytes: [u8; 4]| u32::from_le_bytes(bytes).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
    let alike: Vec<[u8; 4]> =
        (0..4_000_000_u32).map(u32::to_le_bytes).filter(|bytes| hash(*bytes) == 77).take(900).collect();
    let words: Vec<Vec<u8>> = (0..40).map(|_| (0..30).map(|_| next() as u8).collect()).collect();
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("zeros", vec![0; LONGEST]),
        ("a period of three", filled(Box::new(|at| b"abc"[at % 3]))),
        ("two letters", filled(Box::new(move |_| b"ab"[next() & 1]))),
        ("the same hash", (0..LONGEST / 4).flat_map(|at| alike[at * at * 31 % alike.len()]).collect()),
        ("runs cut short", filled(Box::new(|at| if at % 31 == 30 { (at / 31) as u8 } else { b'a' }))),
        ("long words", (0..LONGEST / 31).flat_map(|at| [&words[at * at % 40][..], &[at as u8]].concat()).collect()),
        (
            "beginnings alike",
            (0..LONGEST / 12)
                .flat_map(|at| [&b"beginning"[..], &(at as u32 * 40_503).to_le_bytes()[..3]].concat())
                .collect(),
        ),
    ];
    let looked = |level: u8, data: &[u8]| {
        let mut short = Short::default();
        round_trip(&mut short, 15, level, data);
        short.looked as f64 / data.len() as f64
    };
    for level in 1..=HIGHEST_LEVEL {
        let honest = looked(level, &json[..json.len().min(LONGEST)]);
        for (name, data) in &kinds {
            let worst = looked(level, data);
            println!("level {level}, {name}: {worst:.2} a byte, {:.1} times JSON", worst / honest);
            assert!(worst <= 2.0 * TRIES[usize::from(level) - 1] as f64, "level {level}, {name}: {worst} a byte");
        }
    }
}
