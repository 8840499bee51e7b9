use super::super::frame::FrameError;
use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_message_bytes: 1000, max_fragments: 4, text_only: false, deflate: false };

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xff);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    out
}

/// What a stream decodes to, handed over in pieces of `piece` bytes.
fn decode(stream: &[u8], piece: usize, limits: &Limits) -> Result<Vec<(Opcode, Vec<u8>)>, Violation> {
    let mut decoder = Decoder::default();
    let mut pool = BufferPool::default();
    let mut found = Vec::new();
    for chunk in stream.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        loop {
            match decoder.next(&mut chunk, &mut at, limits, &mut pool)? {
                Step::NeedMore => break,
                Step::Message { opcode, payload, .. } => {
                    let bytes = payload.bytes(&chunk).to_vec();
                    if opcode == Opcode::Text && core::str::from_utf8(&bytes).is_err() {
                        return Err(Violation::TextNotUtf8);
                    }
                    found.push((opcode, bytes));
                    payload.recycle(&mut pool);
                }
                Step::Control { opcode, payload } => found.push((opcode, payload.bytes(&chunk).to_vec())),
            }
        }
        assert_eq!(at, chunk.len());
    }
    Ok(found)
}

fn decode_everywhere(stream: &[u8], limits: &Limits) -> Result<Vec<(Opcode, Vec<u8>)>, Violation> {
    let whole = decode(stream, stream.len().max(1), limits);
    for piece in 1..stream.len() {
        assert_eq!(decode(stream, piece, limits), whole, "pieces of {piece}");
    }
    whole
}

#[test]
fn fragments_with_control_frames_between() {
    let mut stream = frame(0x01, b"Hel");
    stream.extend(frame(0x89, b"ping"));
    stream.extend(frame(0x00, b""));
    stream.extend(frame(0x80, b"lo"));
    stream.extend(frame(0x82, b"\xff"));
    let expected =
        vec![(Opcode::Ping, b"ping".to_vec()), (Opcode::Text, b"Hello".to_vec()), (Opcode::Binary, b"\xff".to_vec())];
    assert_eq!(decode_everywhere(&stream, &LIMITS), Ok(expected));
}

#[test]
fn refusals() {
    let join = |frames: &[Vec<u8>]| frames.concat();
    let cases: Vec<(Vec<u8>, Violation)> = vec![
        (frame(0x82, &[0; 1001]), Violation::TooBig { bytes: 1001, limit: 1000 }),
        (
            join(&[frame(0x02, &[0; 600]), frame(0x00, &[0; 100]), frame(0x00, &[0; 402])]),
            Violation::TooBig { bytes: 1102, limit: 1000 },
        ),
        (
            join(&[frame(0x02, b""), frame(0x00, b""), frame(0x00, b""), frame(0x00, b""), frame(0x00, b"")]),
            Violation::TooManyFragments { limit: 4 },
        ),
        (join(&[frame(0x01, b"a"), frame(0x81, b"b")]), FrameError::MessageInsideMessage(1).into()),
        (join(&[frame(0x81, b"a"), frame(0x80, b"b")]), FrameError::NothingToContinue.into()),
        (join(&[frame(0x01, b"\xc3"), frame(0x80, b"\x28")]), Violation::TextNotUtf8),
        (frame(0x81, b"\xed\xa0\x80"), Violation::TextNotUtf8),
        (join(&[frame(0x01, b"ok \xe2\x82"), frame(0x80, b"")]), Violation::TextNotUtf8),
    ];
    for (stream, violation) in cases {
        assert_eq!(decode_everywhere(&stream, &LIMITS), Err(violation), "{:x?}", &stream[..stream.len().min(20)]);
    }
}

#[test]
fn binary_is_refused_from_its_header_where_only_text_is_welcome() {
    let limits = Limits { text_only: true, ..LIMITS };
    assert_eq!(decode_everywhere(&frame(0x82, b"x"), &limits), Err(Violation::Binary));
    assert_eq!(decode(&frame(0x02, &[0; 500])[..8], 8, &limits), Err(Violation::Binary));
}

#[test]
fn a_claim_alone_keeps_nothing() {
    let mut decoder = Decoder::default();
    let mut pool = BufferPool::default();
    // What a large message needed is not what the next begins with.
    pool.put(Vec::with_capacity(100_000));
    let limits = Limits { max_message_bytes: 1 << 30, ..LIMITS };
    let mut bytes = vec![0x82, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 9, 9, 9, 9, 1, 2, 3];
    let step = decoder.next(&mut bytes, &mut 0, &limits, &mut pool);
    assert_eq!(step, Ok(Step::NeedMore));
    assert_eq!(decoder.buffered_bytes(), 3);
    assert_eq!((decoder.take_received_bytes(), decoder.outstanding_bytes()), (3, 0x3fff_fffc));
    assert_eq!(decoder.take_received_bytes(), 0);
    assert!(decoder.partial.as_ref().unwrap().message.as_ref().unwrap().buffer.capacity() <= 256);
}

#[test]
fn bad_utf8_is_found_in_the_frame_that_brings_it() {
    let mut decoder = Decoder::default();
    let mut pool = BufferPool::default();
    let mut bytes = frame(0x01, b"fine \xff");
    let step = decoder.next(&mut bytes, &mut 0, &LIMITS, &mut pool);
    assert_eq!(step, Err(Violation::TextNotUtf8));
}

#[test]
fn what_follows_a_refused_frame_is_skipped_up_to_the_close_frame() {
    let text_only = Limits { text_only: true, ..LIMITS };
    let refused: [(Vec<u8>, &Limits); 6] = [
        (frame(0x82, &[0; 5000]), &LIMITS),
        (frame(0x82, b"binary"), &text_only),
        ([frame(0x01, b"begun"), frame(0x81, b"inside")].concat(), &LIMITS),
        ([frame(0x01, b"\xff"), frame(0x80, b"end")].concat(), &LIMITS),
        (frame(0xc1, b"reserved"), &LIMITS),
        ([frame(0x02, b""), frame(0x00, b"").repeat(4)].concat(), &LIMITS),
    ];
    for (refused, limits) in refused {
        let close = frame(0x88, b"\x03\xe8");
        let stream = [refused, frame(0x00, &[0xff; 300]), close].concat();
        for piece in 1..stream.len().min(40) {
            let (mut decoder, mut pool) = (Decoder::default(), BufferPool::default());
            let mut skim: Option<Skim> = None;
            let mut found = false;
            for chunk in stream.chunks(piece) {
                let (mut chunk, mut at) = (chunk.to_vec(), 0);
                while skim.is_none() {
                    match decoder.next(&mut chunk, &mut at, limits, &mut pool) {
                        Ok(Step::NeedMore) => break,
                        Ok(_) => {}
                        Err(_) => skim = Some(decoder.give_up(&mut pool)),
                    }
                }
                found |= skim.as_mut().is_some_and(|skim| skim.finds_close(&chunk[at..]));
            }
            assert!(found, "pieces of {piece} of {:x?}", &stream[..20]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_alike_however_they_are_split(
        stream in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..64,
    ) {
        prop_assert_eq!(decode(&stream, piece, &LIMITS), decode(&stream, stream.len().max(1), &LIMITS));
    }

    #[test]
    fn valid_messages_come_back(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300), 1usize..4), 0..8),
        piece in 1usize..400,
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (binary, payload, fragments) in messages {
            let payload = if binary { payload } else { String::from_utf8_lossy(&payload).into_owned().into_bytes() };
            if payload.len() > 1000 { continue; }
            let opcode = if binary { Opcode::Binary } else { Opcode::Text };
            let size = payload.len().div_ceil(fragments).max(1);
            let parts: Vec<&[u8]> = if payload.is_empty() { vec![&[][..]] } else { payload.chunks(size).collect() };
            for (i, part) in parts.iter().enumerate() {
                let first = if i == 0 { opcode as u8 } else { 0 } | if i + 1 == parts.len() { 0x80 } else { 0 };
                stream.extend(frame(first, part));
            }
            expected.push((opcode, payload));
        }
        prop_assert_eq!(decode(&stream, piece, &LIMITS), Ok(expected));
    }
}
