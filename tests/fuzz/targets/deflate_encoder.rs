//! What we compress, miniz_oxide inflates to the same message: at every level, for every window, however frames come. A used
//! compressor is as a new one, and what would not be shorter is left alone.
#![no_main]

use flate2::{Decompress, FlushDecompress};
use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::{pieces, setting};
use wsguard_proto::codec::{Opcode, data_frame};
use wsguard_proto::deflate::{Agreed, Budget, Deflater, payload};
use wsguard_proto::options::Compression;

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const RSV1: u8 = 0x40;

/// What a message says that is compressed so.
fn inflated(compressed: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 1024);
    let input = [compressed, &TAIL].concat();
    let mut inflate = Decompress::new(false);
    inflate.decompress_vec(&input, &mut out, FlushDecompress::Sync).expect("a stream after RFC 1951");
    assert_eq!(inflate.total_in(), input.len() as u64);
    out
}

/// Compresses a message, and reads it; what came of it, if it is shorter.
fn compressed(deflater: &mut Deflater, agreed: Agreed, level: u8, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let is_shorter = deflater.compress(agreed, level, message, &mut out);
    let made = out.strip_prefix(b"before").expect("what was there before");
    if !is_shorter {
        assert!(made.is_empty());
        return None;
    }
    assert!(made.len() < message.len());
    assert!(inflated(made, message.len()) == message, "another message");
    Some(made.to_vec())
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let (level, agreed) = (1 + set % 9, Agreed { server_window_bits: 9 + set / 9 % 7 });
    // With more than 16 KiB, some of the others.
    let data = rest.repeat(1 + usize::from(set / 63));
    let mut deflater = Deflater::default();
    let (mut frames, mut expected, mut at, mut starts) = (Vec::new(), Vec::new(), 0, vec![0]);
    let lens = pieces(rest.len().min(3), set.into());
    for part in 1..=lens.len() {
        let message = &data[at..data.len() * part / lens.len()];
        at += message.len();
        let made = compressed(&mut deflater, agreed, level, message);
        assert_eq!(made, compressed(&mut Deflater::default(), agreed, level, message), "a used compressor");
        data_frame(&mut frames, Opcode::Binary, message);
        starts.push(frames.len());
        expected.push((message, made));
    }
    // The same as frames: together, and one by one.
    let rules = Compression { threshold_bytes: 1, level };
    let (mut together, mut apart) = (Vec::new(), Vec::new());
    deflater.push_frames(agreed, &rules, &mut Budget::FULL.clone(), &frames, &mut together);
    for (range, (message, made)) in starts.windows(2).zip(&expected) {
        let start = apart.len();
        deflater.push_frames(agreed, &rules, &mut Budget::FULL.clone(), &frames[range[0]..range[1]], &mut apart);
        assert_eq!(apart[start] & RSV1 != 0, made.is_some());
        assert_eq!(payload(&apart[start..]), made.as_deref().unwrap_or(message));
    }
    assert_eq!(together, apart);
});
