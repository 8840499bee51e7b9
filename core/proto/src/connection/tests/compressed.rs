//! permessage-deflate: a compressed message is judged as the same message would be that came as it is.

use super::*;
use crate::codec::FrameFault;
use crate::deflate::Agreed;

/// Compressed by another deflate than ours (flate2's), with its tail left out.
pub(super) fn deflated(payload: &[u8]) -> Vec<u8> {
    use flate2::{Compress, Compression, FlushCompress};
    let mut compress = Compress::new(Compression::new(6), false);
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 100 + 1000);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(compress.total_in(), payload.len() as u64);
    out.truncate(out.len() - 4);
    out
}

fn rig(more: &str) -> Rig {
    with_deflate(&policy(more), Some(Arc::default()))
}

pub(super) fn with_deflate(policy: &Arc<Policy>, rate_key: Option<Arc<RateKey>>) -> Rig {
    let mut rig = Rig::with(policy, None);
    let rate_key = policy.rate_limit.as_ref().and(rate_key);
    let deflate = Some(Agreed { server_window_bits: 15 });
    let opened = Opened { rate_key, expires_at: Moment::NEVER, deflate, ..Opened::default() };
    rig.conn = Connection::new(policy, opened, rig.now);
    rig
}

impl Rig {
    /// Why it was closed, and what was sent.
    fn verdict(&mut self) -> (Option<Code>, Option<u16>, Option<FrameFault>) {
        self.turn(Connection::handle_eof);
        let ending = self.conn.take_ending();
        (self.seen.reports.first().copied(), self.close_code(), ending.and_then(|ending| ending.fault))
    }
}

const BAD_RSV1: (Option<Code>, Option<u16>, Option<FrameFault>) =
    (Some(Code::BadFrame), Some(1002), Some(FrameFault::ReservedBits1));
const TOO_BIG: (Option<Code>, Option<u16>, Option<FrameFault>) =
    (Some(Code::MessageTooBig), Some(1009), Some(FrameFault::MessageTooBig));
const CORRUPT: (Option<Code>, Option<u16>, Option<FrameFault>) =
    (Some(Code::BadCompression), Some(1007), Some(FrameFault::BadCompression));

#[test]
fn compressed_and_plain_messages_are_the_same_to_the_application() {
    let mut rig = rig(r#", "events": {"say": {"schema": {"type": "string"}}}"#);
    let text = r#"{"event": "say", "data": "hello"}"#;
    rig.input(&frame(0xc1, &deflated(text.as_bytes())));
    rig.text(text);
    // In fragments, with a ping between them: RSV1 stands on the first one only.
    let whole = deflated(text.as_bytes());
    rig.input(&frame(0x41, &whole[..1]));
    rig.input(&frame(0x89, b"?"));
    rig.input(&frame(0x00, b""));
    rig.input(&frame(0x80, &whole[1..]));
    assert_eq!(rig.seen.messages, [r#"say "hello""#; 3]);
    assert_eq!((rig.close_code(), rig.deflate.messages_inflated), (None, 2));
}

#[test]
fn rsv1_stands_on_the_first_frame_of_a_message_and_nowhere_else() {
    let hello = deflated(b"hello");
    // Without the extension.
    let mut without = Rig::new(RAW);
    without.input(&frame(0xc1, &hello));
    assert_eq!(without.verdict(), BAD_RSV1);
    for first in [0xc8, 0xc9, 0xca] {
        let mut control = rig(RAW);
        control.input(&frame(first, b""));
        assert_eq!(control.verdict(), BAD_RSV1, "{first:x}");
    }
    for (begin, next) in [(0x41, 0xc0), (0x01, 0xc0), (0x42, 0x40)] {
        let mut continuation = rig(RAW);
        continuation.input(&frame(begin, b""));
        continuation.input(&frame(next, &hello)[..1]);
        assert_eq!(continuation.verdict(), BAD_RSV1, "{begin:x} {next:x}: from its first byte");
    }
    for first in [0xe1, 0xd1, 0xf1, 0xa1] {
        let mut others = rig(RAW);
        others.input(&[first]);
        assert_eq!(others.verdict().2, Some(FrameFault::ReservedBits23), "{first:x}");
    }
}

#[test]
fn size_counts_inflated_bytes() {
    let more = r#", "protocol": "raw", "rate_limit": null, "max_message_bytes": 100000"#;
    let mut fits = rig(more);
    fits.input(&frame(0xc2, &deflated(&vec![0; 100_000])));
    assert_eq!((fits.seen.messages.len(), fits.close_code()), (1, None));
    let mut over = rig(more);
    over.input(&frame(0xc2, &deflated(&vec![0; 100_001])));
    assert_eq!(over.verdict(), TOO_BIG);
    // A bomb costs what an honest message of the largest size does.
    let mut bomb = rig(more);
    bomb.input(&frame(0xc2, &deflated(&vec![0; 50_000_000])));
    assert_eq!((bomb.verdict(), bomb.deflate.bytes_inflated), (TOO_BIG, 100_001));
    assert!(
        bomb.seen.details[0].contains("inflates to more than max_message_bytes (100000)"),
        "{:?}",
        bomb.seen.details
    );
}

#[test]
fn what_no_honest_sender_makes_so_long_is_refused_from_its_header() {
    let more = r#", "protocol": "raw", "max_message_bytes": 1000"#;
    let header = |first: u8, len: u16| [&[first, 0xfe][..], &len.to_be_bytes()].concat();
    let mut over = rig(more);
    over.input(&header(0xc2, 2000));
    assert_eq!((over.verdict(), over.deflate.bytes_inflated), (TOO_BIG, 0));
    assert!(over.seen.details[0].contains("a compressed message of 2000 bytes"), "{:?}", over.seen.details);
    let mut plain = rig(more);
    plain.input(&header(0x82, 1001));
    assert_eq!(plain.verdict(), TOO_BIG);
    let mut added_up = rig(more);
    added_up.input(&frame(0x42, &[0; 900]));
    added_up.input(&header(0x80, 900));
    assert_eq!(added_up.verdict(), TOO_BIG);
    // What does not compress becomes longer, and passes all the same: in codes of nine bits, with a flush in each frame.
    let mut honest =
        rig(r#", "protocol": "raw", "rate_limit": null, "max_message_bytes": 1000, "max_fragments": 1000"#);
    let stored = |bytes: &[u8]| [&[0, bytes.len() as u8, 0, !bytes.len() as u8, 0xff][..], bytes].concat();
    for at in 0..999 {
        let mut fragment = stored(&[at as u8]);
        fragment.extend_from_slice(if at == 998 { &[0, 1, 0, 0xfe, 0xff, 7, 0] } else { &[] });
        honest.input(&frame(if at == 0 { 0x42 } else { u8::from(at == 998) << 7 }, &fragment));
    }
    assert_eq!((honest.seen.messages.len(), honest.verdict().0), (1, None));
}

#[test]
fn data_that_is_no_deflate_stream_closes_the_connection_in_every_mode() {
    let hello = deflated(b"hello, hello, hello");
    let cases: [&[u8]; 4] =
        [&[], &[0xff, 0xff], &hello[..hello.len() - 3], &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x41]];
    for mode in [RAW, r#", "protocol": "raw", "on_violation": "report""#] {
        for payload in cases {
            let mut rig = rig(mode);
            rig.input(&frame(0xc1, payload));
            assert_eq!(rig.verdict(), CORRUPT, "{payload:x?}");
            rig.input(&frame(0xc1, &hello));
            assert!(rig.seen.messages.is_empty());
        }
    }
    let mut text = rig(RAW);
    text.input(&frame(0xc1, &deflated(b"\xff")));
    assert_eq!(text.verdict().0, Some(Code::BadUtf8), "text is looked at when it is inflated");
}

#[test]
fn inflated_bytes_are_charged() {
    let more =
        r#", "protocol": "raw", "max_message_bytes": 1000, "rate_limit": {"bytes_per_second": 1000, "queue": 100}"#;
    let mut rig = rig(more);
    for _ in 0..5 {
        rig.input(&frame(0xc2, &deflated(&[b'a'; 1000])));
    }
    assert_eq!((rig.seen.messages.len(), rig.conn.delayed_messages()), (1, 4));
    rig.input(&frame(0xc2, &deflated(&[b'a'; 1000])));
    assert_eq!(rig.close_code(), Some(1008));
}

#[test]
fn whose_rate_is_used_up_is_not_inflated_for() {
    let more =
        r#", "protocol": "raw", "max_message_bytes": 1000, "rate_limit": {"bytes_per_second": 1000, "queue": 0}"#;
    let (policy, key) = (policy(more), Arc::default());
    let mut one = with_deflate(&policy, Some(Arc::clone(&key)));
    one.input(&frame(0x82, &[0; 1000]));
    assert_eq!(one.seen.messages.len(), 1);
    one.input(&frame(0xc2, &deflated(&[b'a'; 1000])));
    assert_eq!((one.verdict().0, one.deflate.bytes_inflated), (Some(Code::RateLimited), 0));
    // A bomb was paid for by whoever comes again.
    let key = Arc::default();
    let mut bomb = with_deflate(&policy, Some(Arc::clone(&key)));
    bomb.input(&frame(0xc2, &deflated(&vec![0; 100_000])));
    assert_eq!(bomb.verdict(), TOO_BIG);
    let mut again = with_deflate(&policy, Some(key));
    again.input(&frame(0xc2, &deflated(&vec![0; 100_000])));
    assert_eq!((again.verdict().0, again.deflate.bytes_inflated), (Some(Code::RateLimited), 0));
}

/// A bucket that is full but for some bytes has room for what came, and not for what comes of it.
#[test]
fn no_more_is_inflated_than_the_rate_has_room_for() {
    let more = r#", "protocol": "raw", "max_message_bytes": 1000, "ping_interval_ms": 0, "idle_timeout_ms": 0,
        "rate_limit": {"bytes_per_second": 1000, "queue": 0}"#;
    let (policy, key) = (policy(more), Arc::default());
    let messages = [deflated(&[b'a'; 1000]), deflated(&vec![0; 100_000]), deflated(&[0xff; 900])];
    let (mut inflated, mut delivered, mut passed) = (0, 0, 0);
    for (at, message) in messages.iter().cycle().take(300).enumerate() {
        let mut rig = with_deflate(&policy, Some(Arc::clone(&key)));
        rig.pass(passed);
        rig.input(&frame(if at % 3 == 2 { 0xc1 } else { 0xc2 }, message));
        inflated += rig.deflate.bytes_inflated;
        delivered += rig.seen.messages.len();
        let verdict = rig.verdict().0;
        assert!(at == 0 || verdict == Some(Code::RateLimited), "{at}: {verdict:?}");
        passed += 100;
    }
    assert_eq!(delivered, 1);
    assert!(inflated <= 1000 + passed + 3 * 300, "{inflated} bytes in {passed} ms");
}

/// A message is charged once, and what blocks cost, whatever becomes of it.
#[test]
fn blocks_and_what_is_refused_are_charged() {
    let more = r#", "protocol": "raw", "max_message_bytes": 70000, "ping_interval_ms": 0, "idle_timeout_ms": 0,
        "rate_limit": {"per_second": 1000, "burst": 1000, "queue": 1000, "bytes_per_second": 1000000}"#;
    let policy = policy(more);
    let charged = |message: &[u8], kind: u8| {
        let key = Arc::default();
        let mut rig = with_deflate(&policy, Some(Arc::clone(&key)));
        rig.input(&frame(kind, message));
        let nanos = key.empty_at().1.since_nanos(rig.now);
        assert_eq!(rig.deflate.surcharge, None, "nothing is left for the next message");
        (nanos.div_ceil(1000), rig.verdict().0)
    };
    assert_eq!(charged(&deflated(&vec![b'a'; 60_000]), 0xc2), (60_000, None));
    assert_eq!(charged(&deflated(&vec![0xff; 60_000]), 0xc1), (60_000, Some(Code::BadUtf8)));
    // 200 blocks without codes, and 7 bytes in each: more than 48 with what ends them.
    let mut flushed = Vec::new();
    for _ in 0..200 {
        flushed.extend_from_slice(&[0, 7, 0, 0xf8, 0xff]);
        flushed.extend_from_slice(b"flushed");
    }
    flushed.push(0);
    let (bytes, verdict) = charged(&flushed, 0xc2);
    assert_eq!(verdict, None);
    assert_eq!(bytes, 1400 + (201 - 48) * 32);
    // What overflows was inflated all the same.
    let key = Arc::default();
    let short = &policy_of_one_second();
    let mut rig = with_deflate(short, Some(Arc::clone(&key)));
    for _ in 0..3 {
        rig.input(&frame(0xc2, &deflated(&vec![b'a'; 60_000])));
    }
    assert_eq!(rig.verdict().0, Some(Code::RateLimited));
    assert!(key.empty_at().1.since_nanos(rig.now) >= 1_990_000_000, "as deep as it may be");
}

/// A burst of 70 000 bytes, and what waits a second at most.
fn policy_of_one_second() -> Arc<Policy> {
    policy(
        r#", "protocol": "raw", "max_message_bytes": 70000, "ping_interval_ms": 0, "idle_timeout_ms": 0,
        "rate_limit": {"per_second": 1, "burst": 1000, "queue": 1, "bytes_per_second": 70000}"#,
    )
}

#[test]
fn a_turn_inflates_so_much_and_then_others_have_theirs() {
    let mut rig = rig(r#", "protocol": "raw", "rate_limit": null"#);
    let one = frame(0xc2, &deflated(&vec![0; 65_536]));
    let mut input = one.repeat(100);
    let mut turns = 0;
    while !input.is_empty() {
        let used = rig.turn(|conn, turn| conn.handle_input(&mut input, turn));
        input.drain(..used);
        turns += 1;
    }
    assert_eq!((rig.seen.messages.len(), turns), (100, 7), "a megabyte each");
}

#[test]
fn an_idle_connection_holds_one_byte_of_it() {
    assert!(size_of::<Connection>() <= 168, "{}", size_of::<Connection>());
    let mut rig = rig(RAW);
    rig.input(&frame(0xc1, &deflated(b"hello")));
    assert!(rig.conn.delayed.is_none() && rig.conn.extras.is_none() && rig.conn.decoder.buffered_bytes() == 0);
}

/// A message of a random conversation: how many words, how many milliseconds later, and in how many pieces it comes. Fewer than
/// three words are longer when they are compressed, and are charged as they came.
fn conversation() -> impl Strategy<Value = Vec<(usize, u64, usize)>> {
    prop::collection::vec((3usize..300, prop_oneof![Just(0u64), 0u64..400], 1usize..4), 1..20)
}

proptest! {
    /// The same conversation, plain and compressed: the same is delivered, at the same times, with the same verdicts, and the same
    /// is left in the buckets.
    #[test]
    fn compressed_is_judged_as_plain(
        messages in conversation(), is_json in any::<bool>(), reports_only in any::<bool>(), queue in 0u32..4,
    ) {
        let protocol = if is_json { r#""json", "events": {"a": {"schema": {"maxLength": 600}}}"# } else { r#""raw""# };
        let mode = if reports_only { "report" } else { "enforce" };
        let policy = policy(&format!(
            r#", "protocol": {protocol}, "on_violation": "{mode}", "max_message_bytes": 1000, "ping_interval_ms": 0,
            "idle_timeout_ms": 0, "rate_limit": {{"per_second": 10, "burst": 3, "queue": {queue}, "bytes_per_second": 2000}}"#
        ));
        let keys: [Arc<RateKey>; 2] = Default::default();
        let mut rigs = [with_deflate(&policy, Some(Arc::clone(&keys[0]))), with_deflate(&policy, Some(Arc::clone(&keys[1])))];
        for (words, pause, pieces) in messages {
            let text = if is_json {
                format!(r#"{{"event": "{}", "data": "{}"}}"#, if words % 7 == 6 { "b" } else { "a" }, "abcd".repeat(words))
            } else {
                "abcd".repeat(words)
            };
            let compressed = deflated(text.as_bytes());
            for (rig, (rsv1, payload)) in rigs.iter_mut().zip([(0, text.as_bytes()), (0x40, &compressed[..])]) {
                rig.pass(pause);
                let bytes = frame(0x81 | rsv1, payload);
                for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
                    rig.input(piece);
                }
            }
            let [plain, squeezed] = &rigs;
            prop_assert_eq!(&plain.seen.messages, &squeezed.seen.messages);
            if text.len() > 1000 {
                // Plain, its header says so. Compressed, its rate is asked first: who has used it up is not inflated for.
                prop_assert!(!plain.conn.is_open() && !squeezed.conn.is_open());
                return Ok(());
            }
            // What overflows and is only reported was charged as it came, and the rest of it was not: compressed, less of it came.
            let reports = |rig: &Rig| {
                rig.seen.reports.iter().filter(|code| !reports_only || **code != Code::RateLimited).copied().collect::<Vec<_>>()
            };
            prop_assert_eq!(reports(plain), reports(squeezed));
            prop_assert_eq!(plain.close_code(), squeezed.close_code());
            prop_assert_eq!(plain.conn.delayed_messages(), squeezed.conn.delayed_messages());
            if !plain.conn.is_open() {
                return Ok(());
            }
            if !reports_only {
                let ((_, plain), (_, squeezed)) = (keys[0].empty_at(), keys[1].empty_at());
                let apart = plain.since_nanos(squeezed).max(squeezed.since_nanos(plain));
                prop_assert!(apart <= 1_000_000, "{} ns", apart);
            }
        }
    }
}
