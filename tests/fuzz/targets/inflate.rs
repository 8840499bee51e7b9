//! Our inflater against miniz_oxide's: the same messages, none longer than the limit, and nothing left for the next one.
#![no_main]

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use libfuzzer_sys::fuzz_target;
use wsguard_fuzz::setting;
use wsguard_proto::codec::CompressionFault;
use wsguard_proto::deflate::{Broken, Compressed, Inflater};

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Longer than what 4 KiB can be inflated to.
const MOST: usize = 8 << 20;

/// What miniz_oxide makes of it.
fn theirs(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(MOST);
    let input = [payload, &TAIL].concat();
    Decompress::new(false).decompress_vec(&input, &mut out, FlushDecompress::Sync).ok()?;
    Some(out)
}

fn ours(inflater: &mut Inflater, payload: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
    let mut room = Vec::new();
    let inflated = inflater.inflate(Compressed { payload, frames: 1 }, limit, &mut room).map(<[u8]>::to_vec);
    assert!(room.len() <= (limit + 1).max(4096));
    inflated
}

/// Compressed in pieces, each flushed as its first byte says.
fn deflated(level: u8, is_final: bool, data: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(u32::from(level % 10)), false);
    let mut out = Vec::with_capacity(data.len() * 2 + 65_536);
    for piece in data.chunks(200) {
        let flush = match piece[0] % 4 {
            0 => FlushCompress::Sync,
            1 => FlushCompress::Full,
            _ => FlushCompress::None,
        };
        compress.compress_vec(piece, &mut out, flush).unwrap();
    }
    let last = if is_final { FlushCompress::Finish } else { FlushCompress::Sync };
    compress.compress_vec(&[], &mut out, last).unwrap();
    assert_eq!(compress.total_in(), data.len() as u64);
    if !is_final {
        match out.strip_suffix(&TAIL) {
            Some(rest) => out.truncate(rest.len()),
            None => out.push(0),
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((set, rest)) = setting(input) else { return };
    let limit = [0, 100, 5000, MOST][usize::from(set & 3)];
    let mut inflater = Inflater::default();
    let first = ours(&mut inflater, rest, limit);
    assert_eq!(first, ours(&mut inflater, rest, limit), "a used inflater");
    match &first {
        Ok(message) => {
            assert!(message.len() <= limit);
            assert_eq!(Some(message), theirs(rest).as_ref());
        }
        Err(Broken::TooBig) => assert_eq!(inflater.inflated_bytes(), limit as u64 + 1),
        Err(Broken::Corrupt(_)) => {}
    }
    let compressed = deflated(set >> 3, set & 4 != 0, rest);
    assert_eq!(ours(&mut inflater, &compressed, rest.len()).as_deref(), Ok(rest));
    if !rest.is_empty() {
        assert_eq!(ours(&mut inflater, &compressed, rest.len() - 1), Err(Broken::TooBig));
    }
    if set & 4 != 0 {
        let trailing = Err(Broken::Corrupt(CompressionFault::Trailing));
        assert_eq!(ours(&mut inflater, &[&compressed[..], &[0, 1]].concat(), rest.len()), trailing);
    }
});
