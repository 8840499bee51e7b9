//! Against flate2's own deflate (`miniz_oxide`): what it compresses is inflated, and what it refuses is refused.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;
use crate::codec::CompressionFault;

/// How a sender puts a message together.
#[derive(Clone, Debug)]
struct Sender {
    /// None of 0: `miniz_oxide` loses bytes at the end of a long message there.
    level: u32,
    /// Lengths of the pieces, and how each is flushed.
    pieces: Vec<(usize, u8)>,
    is_final: bool,
    /// Behind a final block: the first byte of an empty one, as RFC 7692 section 7.2.3.4 has it.
    has_empty_block: bool,
}

fn sender() -> impl Strategy<Value = Sender> {
    let pieces = prop::collection::vec((0usize..3000, 0u8..4), 0..6);
    (1u32..=9, pieces, any::<bool>(), any::<bool>()).prop_map(|(level, pieces, is_final, has_empty_block)| Sender {
        level,
        pieces,
        is_final,
        has_empty_block,
    })
}

/// Compresses `data` as `sender` does.
fn deflated(data: &[u8], sender: &Sender) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(sender.level), false);
    let mut out = Vec::new();
    let mut rest = data;
    for (len, flush) in &sender.pieces {
        let (piece, behind) = rest.split_at(rest.len().min(*len));
        rest = behind;
        let flush = match flush {
            0 | 1 => FlushCompress::None,
            2 => FlushCompress::Sync,
            _ => FlushCompress::Full,
        };
        push(&mut compress, piece, flush, &mut out);
    }
    push(&mut compress, rest, if sender.is_final { FlushCompress::Finish } else { FlushCompress::Sync }, &mut out);
    if !sender.is_final {
        match out.strip_suffix(&[0, 0, 0xff, 0xff]) {
            Some(rest) => out.truncate(rest.len()),
            // Nothing was left to flush: an empty block follows, of which the lengths are left out.
            None => out.push(0),
        }
    } else if sender.has_empty_block {
        out.push(0);
    }
    out
}

fn push(compress: &mut Compress, mut piece: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
    loop {
        out.reserve(1024);
        let (used, room) = (compress.total_in(), out.capacity() - out.len());
        let before = out.len();
        compress.compress_vec(piece, out, flush).unwrap();
        piece = &piece[(compress.total_in() - used) as usize..];
        if piece.is_empty() && out.len() - before < room {
            return;
        }
    }
}

pub(super) fn in_one_frame(payload: &[u8]) -> Compressed<'_> {
    Compressed { payload, frames: 1 }
}

pub(super) fn inflate(compressed: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
    let mut room = Vec::new();
    Inflater::default().inflate(in_one_frame(compressed), limit, &mut room).map(<[u8]>::to_vec)
}

/// Bytes that compress well, badly, or not at all.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..5000),
        prop::collection::vec(prop::sample::select(b"abc ".to_vec()), 0..5000),
        (any::<u8>(), 0usize..100_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #[test]
    fn what_another_deflate_makes_is_inflated(data in data(), sender in sender(), next in data()) {
        let compressed = deflated(&data, &sender);
        let (mut inflater, mut room) = (Inflater::default(), Vec::new());
        prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), data.len(), &mut room), Ok(&data[..]));
        if let Some(less) = data.len().checked_sub(1) {
            prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), less, &mut room), Err(Broken::TooBig));
            prop_assert_eq!(inflater.inflated_bytes(), data.len() as u64, "one byte over the limit, and no more");
        }
        // Nothing is left of the message before, whatever became of it.
        let _ = inflater.inflate(in_one_frame(&compressed[..compressed.len() / 2]), data.len(), &mut room);
        let compressed = deflated(&next, &sender);
        prop_assert_eq!(inflater.inflate(in_one_frame(&compressed), 1 << 20, &mut room), Ok(&next[..]));
    }

    #[test]
    fn no_part_of_a_message_is_a_message(data in data(), sender in sender(), cut in any::<prop::sample::Index>()) {
        let compressed = deflated(&data, &sender);
        let cut = cut.index(compressed.len());
        // Where a sender has flushed, what came before is one: no more than the beginning is ever delivered.
        if let Ok(message) = inflate(&compressed[..cut], data.len()) {
            prop_assert!(data.starts_with(&message));
            if sender.pieces.iter().all(|(_, flush)| *flush < 2) && !sender.is_final && data.len() < 2000 {
                // The header of a stored block, alone, is how RFC 7692, 7.2.3.6 writes the empty message.
                let is_empty = data.is_empty() || compressed[..cut] == [0];
                prop_assert!(message.is_empty() && is_empty, "{} of {}", cut, compressed.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_message_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0usize..5000) {
        if let Ok(message) = inflate(&bytes, limit) {
            prop_assert!(message.len() <= limit);
        }
    }

    #[test]
    fn a_changed_message_is_refused_or_what_another_inflate_makes_of_it(
        data in data(), sender in sender(), at in any::<prop::sample::Index>(), change in 1u8..,
    ) {
        let mut compressed = deflated(&data, &sender);
        let at = at.index(compressed.len());
        compressed[at] ^= change;
        if let Ok(message) = inflate(&compressed, 1 << 20) {
            let mut other = Vec::with_capacity((1 << 20) + 64);
            let mut input = compressed.clone();
            input.extend_from_slice(&[0, 0, 0xff, 0xff]);
            flate2::Decompress::new(false).decompress_vec(&input, &mut other, flate2::FlushDecompress::Sync).unwrap();
            prop_assert_eq!(message, other);
        }
    }
}

/// RFC 7692 section 7.2.3.
#[test]
fn the_examples_of_the_rfc() {
    let hello = Ok(b"Hello".to_vec());
    assert_eq!(inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), hello);
    assert_eq!(
        inflate(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], 5),
        hello,
        "no compression"
    );
    assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], 5), hello, "a final block");
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflate(&two, 5), hello, "two blocks");
    assert_eq!(inflate(&[0x00], 0), Ok(Vec::new()), "an empty message");
}

#[test]
fn what_may_stand_at_the_end() {
    let is_final = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let with = |more: &[u8]| inflate(&[&is_final, more].concat(), 100);
    let trailing = Err(Broken::Corrupt(CompressionFault::Trailing));
    for good in [&[][..], &[0], &[0, 0, 0, 0xff, 0xff]] {
        assert_eq!(with(good), Ok(b"Hello".to_vec()), "{good:x?}");
    }
    let another: &[u8] = &is_final;
    for bad in [&[0, 0][..], &[1], &[0xff], &[0, 0, 0, 0xff, 0xff, 0], another] {
        assert_eq!(with(bad), trailing, "{bad:x?}");
    }
    // The empty block whose lengths are left out may be the final one.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07];
    assert_eq!(inflate(&[&[0x00, 0x05, 0x00, 0xfa, 0xff][..], b"Hello", &[1]].concat(), 100), Ok(b"Hello".to_vec()));
    let truncated = Err(Broken::Corrupt(CompressionFault::Truncated));
    assert!(matches!(inflate(&hello, 100), Err(Broken::Corrupt(_))));
    assert!(matches!(inflate(&[], 100), Err(Broken::Corrupt(_))), "nothing is no message");
    // A stored block that lacks four bytes would take what the sender has left out for them; one that lacks nine, all of ours.
    for missing in 1..=12u8 {
        let bytes = [0x00, missing, 0x00, !missing, 0xff];
        assert_eq!(inflate(&bytes, 100), truncated, "{missing}");
    }
}

#[test]
fn a_room_is_given_back_small() {
    let mut deflate = Deflate::default();
    let sender = Sender { level: 9, pieces: Vec::new(), is_final: false, has_empty_block: false };
    let bomb = deflated(&vec![0; 10_000_000], &sender);
    let mut room = deflate.take_room();
    assert_eq!(deflate.inflate(in_one_frame(&bomb), 10_000_000, &mut room).map(<[u8]>::len), Ok(10_000_000));
    deflate.put_room(room);
    assert!(deflate.room.capacity() <= KEPT_ROOM, "{}", deflate.room.capacity());
    // A bomb makes no more room than a message may have.
    let mut room = Vec::new();
    assert_eq!(deflate.inflate(in_one_frame(&bomb), 65_536, &mut room), Err(Broken::TooBig));
    assert_eq!(room.len(), 65_537);
    assert_eq!((deflate.messages_inflated, deflate.bytes_inflated), (1, 10_065_537));
}

#[test]
fn whoever_flushes_often_is_heard() {
    for (piece, count) in [(1, 1000), (10, 200), (100, 2000), (1000, 1000)] {
        let data: Vec<u8> = (0..piece * count).map(|at| b'a' + (at * at % 23) as u8).collect();
        for level in [0, 1, 9] {
            let pieces = vec![(piece, 2); count];
            let compressed = deflated(&data, &Sender { level, pieces, is_final: false, has_empty_block: false });
            assert_eq!(
                inflate(&compressed, data.len()).as_ref(),
                Ok(&data),
                "{piece} bytes {count} times, level {level}"
            );
        }
    }
}

proptest! {
    /// What a sender flushes only at its end is charged what it inflates to, to the byte, whatever room is there for it. It is
    /// zlib's: `miniz_oxide` loses bytes at the end of long noise.
    #[test]
    fn honest_messages_are_charged_what_they_inflate_to(
        data in prop_oneof![data(), prop::collection::vec(any::<u8>(), 50_000..150_000)],
        level in 1i32..=9, mem_level in 5i32..=9, is_final in any::<bool>(), room in 0usize..10_000,
    ) {
        let config = zlib_rs::DeflateConfig { level, mem_level, window_bits: -15, ..Default::default() };
        let (mut sender, mut compressed) = (zlib_rs::Deflate::new_with_config(config), vec![0; data.len() * 2 + 1000]);
        let flush = if is_final { zlib_rs::DeflateFlush::Finish } else { zlib_rs::DeflateFlush::SyncFlush };
        sender.compress(&data, &mut compressed, flush).unwrap();
        compressed.truncate(sender.total_out() as usize - if is_final { 0 } else { 4 });
        let mut inflater = Inflater::default();
        let len = inflater.inflate(in_one_frame(&compressed), data.len(), &mut vec![0; room]).map(<[u8]>::len);
        prop_assert_eq!(len, Ok(data.len()));
        prop_assert_eq!(inflater.surcharge_bytes(), 0);
    }
}
